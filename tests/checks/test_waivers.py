"""Waivers: what somebody decided to live with, why, and until when."""

import datetime as dt

import pytest

from kgpuctl.checks.waivers import refuse_unknown_ids, waive
from kgpuctl.config import Waiver
from kgpuctl.errors import UsageError
from kgpuctl.report import Claim, Remedy, Report, Result, Status, Subject

TODAY = dt.date(2026, 5, 17)
PROBLEMS = [Status.WARNED, Status.UNKNOWN, Status.FAILED]
FINE = [Status.PASSED, Status.SKIPPED]


def result(status: Status, id_: str = "gpu.bars", subject: str = "") -> Result:
    return Result(id_, "a claim", status, subject, "what was seen", Remedy("what to do"))


def waiver(until: dt.date | None = None, id_: str = "gpu.bars") -> Waiver:
    return Waiver(id_, "we know", until)


def report(*results: Result) -> Report:
    return Report("preflight", Claim("", "", ""), Subject((), {}), results)


@pytest.mark.parametrize("status", PROBLEMS)
def test_a_waived_problem_keeps_its_status_and_says_why(status: Status) -> None:
    (waived,) = waive([result(status)], [waiver()], TODAY)

    assert waived.waived
    assert waived.status is status
    assert waived.message == "what was seen (waived: we know)"
    assert waived.remedy == Remedy("what to do")
    assert not waived.is_problem


@pytest.mark.parametrize("status", FINE)
def test_nothing_is_waived_where_there_is_no_problem(status: Status) -> None:
    assert waive([result(status)], [waiver()], TODAY) == (result(status),)


def test_other_checks_are_left_alone() -> None:
    others = (result(Status.FAILED, "gpu.sriov"), result(Status.FAILED, "gpu"))

    assert waive(others, [waiver()], TODAY) == others


def test_a_waiver_is_for_every_subject_of_its_check() -> None:
    results = [result(Status.FAILED, subject=name) for name in ("a", "b")]

    assert [item.waived for item in waive(results, [waiver()], TODAY)] == [True, True]


@pytest.mark.parametrize("days", [0, 1, 365])
def test_a_waiver_holds_through_its_last_day(days: int) -> None:
    until = TODAY + dt.timedelta(days)

    (waived,) = waive([result(Status.FAILED)], [waiver(until)], TODAY)

    assert waived.waived


def test_a_waiver_past_its_day_only_says_that_it_ended() -> None:
    until = TODAY - dt.timedelta(1)

    (ended,) = waive([result(Status.FAILED)], [waiver(until)], TODAY)

    assert not ended.waived
    assert ended.is_problem
    assert ended.message == "what was seen (its waiver ended 2026-05-16)"


def test_a_waiver_past_its_day_says_nothing_of_what_passed() -> None:
    fine = result(Status.PASSED)

    assert waive([fine], [waiver(TODAY - dt.timedelta(9))], TODAY) == (fine,)


def test_the_order_of_the_results_stays() -> None:
    results = [
        result(Status.PASSED, "a"),
        result(Status.FAILED, "gpu.bars"),
        result(Status.WARNED, "b"),
    ]

    ids = [item.id for item in waive(results, [waiver()], TODAY)]

    assert ids == ["a", "gpu.bars", "b"]


def test_without_waivers_nothing_changes() -> None:
    results = (result(Status.FAILED),)

    assert waive(results, [], TODAY) == results


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([Status.FAILED], 0),
        ([Status.UNKNOWN], 0),
        ([Status.FAILED, Status.PASSED], 0),
    ],
)
def test_what_is_waived_does_not_count(statuses: list[Status], code: int) -> None:
    waived = waive([result(status) for status in statuses], [waiver()], TODAY)

    told = report(*waived)

    assert told.exit_code == code
    assert told.summary["waived"] == 1
    assert told.summary["failed"] == told.summary["unknown"] == 0


def test_another_problem_still_counts() -> None:
    results = [result(Status.FAILED), result(Status.UNKNOWN, "gpu.sriov")]

    assert report(*waive(results, [waiver()], TODAY)).exit_code == 4


def test_a_waiver_of_no_check_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageError) as refused:
        refuse_unknown_ids([waiver(id_="gpu.bar")], ["gpu.bars", "iommu.enabled"])

    assert "gpu.bar" in refused.value.message
    assert "did you mean gpu.bars?" in refused.value.message
    assert "kgpuctl checks" in refused.value.remedy


def test_waivers_of_checks_are_accepted() -> None:
    refuse_unknown_ids([waiver()], ["gpu.bars"])
    refuse_unknown_ids([], [])
