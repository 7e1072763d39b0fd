"""What is told while something is awaited."""

import pytest

from kgpuctl.render.progress import awaited, changes
from kgpuctl.report import Claim, Report, Result, Status, Subject


def report(*results: tuple[str, str, Status], waived: bool = False) -> Report:
    found = tuple(
        Result(name, f"title of {name}", status, subject, f"{name} says so", waived=waived)
        for name, subject, status in results
    )
    return Report("verify", Claim("", "", ""), Subject((), {}), found)


FAILED, PASSED, UNKNOWN, WARNED = Status.FAILED, Status.PASSED, Status.UNKNOWN, Status.WARNED


def test_what_failed_first_is_awaited_and_the_rest_counted() -> None:
    seen = report(("a", "", PASSED), ("b", "gpu-1", FAILED), ("c", "", FAILED), ("d", "", UNKNOWN))

    assert awaited(seen, "0:07") == "waiting 0:07  b gpu-1: b says so (and 1 more)"


def test_what_is_not_known_is_awaited_where_nothing_failed() -> None:
    assert awaited(report(("d", "", UNKNOWN)), "0:07") == "waiting 0:07  d: d says so"
    assert awaited(report(("d", "", FAILED), waived=True), "0:07") == "waiting 0:07"


@pytest.mark.parametrize("columns", [12, 30, 40, 80])
def test_the_line_never_reaches_the_edge(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    seen = report(*((f"check-{number}" * 6, "gpu-1", FAILED) for number in range(3)))

    line = awaited(seen, "12:07")

    assert len(line) == columns - 1
    assert line.endswith("… (and 2 more)" if columns >= 40 else "…")


def test_only_what_has_changed_is_told() -> None:
    before = report(("a", "n1", FAILED), ("a", "n2", FAILED), ("b", "", FAILED), ("c", "", PASSED))
    after = report(("a", "n1", PASSED), ("a", "n2", PASSED), ("b", "", FAILED), ("c", "", WARNED))

    assert list(changes(None, before)) == ["a: failed (n1, n2)", "b: failed"]
    assert list(changes(before, after)) == ["a: failed -> passed (n1, n2)", "c: passed -> warned"]
    assert list(changes(after, after)) == []


def test_of_several_answers_of_one_check_the_worst_counts() -> None:
    several = report(("a", "", PASSED), ("a", "", WARNED), ("a", "", PASSED))

    assert list(changes(several, several)) == []
    assert list(changes(several, report(("a", "", PASSED)))) == ["a: warned -> passed"]


def test_many_nodes_are_counted() -> None:
    seen = report(*(("a", f"n{number}", FAILED) for number in range(5)))

    assert list(changes(None, seen)) == ["a: failed (n0, n1, n2 and 2 more)"]
