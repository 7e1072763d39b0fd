"""The framework of the checks: order, what follows from what, and what an unread fact means."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from kgpuctl.checks.check import (
    Check,
    Outcome,
    UnknownFactError,
    check,
    check_each,
    failed,
    known,
    passed,
    run,
    skipped,
    warned,
)
from kgpuctl.report import KernelArguments, Remedy, Result, Status
from kgpuctl.unread import Fact, Reason, Unread

Facts = Mapping[str, Fact[str]]
Judge = Callable[[Facts], Outcome]


def always(outcome: Outcome) -> Judge:
    """Return a judge that always says the same."""

    def judge(_: Facts) -> Outcome:
        """Say it."""
        return outcome

    return judge


def claim(id_: str, outcome: Outcome, *requires: str) -> Check[Facts]:
    return check(id_, f"{id_} holds", requires=requires)(always(outcome))


def things(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield what there is, by name."""
    for name, fact in facts.items():
        yield name, known(fact)


def each(
    id_: str, bad: Mapping[str, Outcome], *requires: str, none: str = "nothing there"
) -> Check[Facts]:
    """Return a check of each thing; `bad` says of which ones it does not hold."""

    @check_each(id_, f"{id_} holds", things, none=none, requires=requires)
    def judge(_: Facts, thing: str) -> Outcome:
        """Judge one."""
        return bad.get(thing, passed())

    return judge


def said(results: tuple[Result, ...]) -> list[tuple[str, str, str, str]]:
    return [(item.id, item.subject, item.status.value, item.message) for item in results]


def statuses(results: tuple[Result, ...]) -> dict[tuple[str, str], str]:
    return {(item.id, item.subject): item.status.value for item in results}


BAD = failed("broken", "mend it")
TWO: Facts = {"a": "a", "b": "b"}


def test_checks_are_asked_in_their_order() -> None:
    checks = [claim("z", passed("1")), claim("a", BAD), claim("m", warned("hm", "look"))]

    assert said(run(checks, {})) == [
        ("z", "", "passed", "1"),
        ("a", "", "failed", "broken"),
        ("m", "", "warned", "hm"),
    ]


def test_a_result_carries_title_remedy_and_where_to_read_on() -> None:
    remedy = Remedy("mend it", (KernelArguments(add=("x=1",)),))

    (result,) = run([claim("area.name", failed("broken", remedy))], {})

    assert result.title == "area.name holds"
    assert result.remedy == remedy
    assert result.docs.endswith("/checks.md#area.name")
    assert not result.waived


def test_a_remedy_in_words_becomes_one() -> None:
    for outcome in (failed("broken", "mend it"), warned("broken", "mend it")):
        assert outcome.remedy == Remedy("mend it")
    assert passed().remedy is None
    assert skipped("why").remedy is None


def test_what_follows_from_a_failure_is_skipped_with_that_reason() -> None:
    checks = [claim("a", BAD), claim("b", passed("not so"), "a"), claim("c", passed(), "b")]

    assert said(run(checks, {})) == [
        ("a", "", "failed", "broken"),
        ("b", "", "skipped", "follows from a"),
        ("c", "", "skipped", "follows from a"),
    ]


def test_what_is_skipped_for_a_failure_is_not_asked() -> None:
    asked: list[str] = []

    @check("b", "b holds", requires=("a",))
    def after(_: Facts) -> Outcome:
        """Take note of being asked."""
        asked.append("b")
        return passed()

    run([claim("a", BAD), after], {})

    assert asked == []


@pytest.mark.parametrize("outcome", [passed(), skipped("why"), warned("hm", "look")])
def test_only_a_failure_answers_what_requires_it(outcome: Outcome) -> None:
    results = run([claim("a", outcome), claim("b", BAD, "a")], {})

    assert statuses(results)["b", ""] == "failed"


def test_an_unknown_check_answers_nothing_else() -> None:
    @check("a", "a holds")
    def unread(facts: Facts) -> Outcome:
        """Meet a fact that was not read."""
        return passed(known(facts["x"]))

    results = run([unread, claim("b", BAD, "a")], {"x": Unread("/x", Reason.NOT_PERMITTED)})

    assert statuses(results) == {("a", ""): "unknown", ("b", ""): "failed"}


def test_a_requirement_that_was_not_asked_blocks_nothing() -> None:
    assert statuses(run([claim("b", passed(), "a")], {})) == {("b", ""): "passed"}


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason.NOT_PERMITTED, "sudo"),
        (Reason.NOT_RECORDED, "--record"),
        (Reason.UNUSABLE, "Look at that file"),
    ],
)
def test_an_unread_fact_is_unknown_with_what_to_do_about_it(reason: Reason, words: str) -> None:
    @check("a", "a holds")
    def unread(facts: Facts) -> Outcome:
        """Meet a fact that was not read."""
        return passed(known(facts["x"]))

    (result,) = run([unread], {"x": Unread("/etc/x", reason)})

    assert result.status is Status.UNKNOWN
    assert result.message == f"/etc/x: {reason}"
    assert result.remedy is not None
    assert words in result.remedy.text


def test_what_is_wrong_with_an_unusable_file_is_told() -> None:
    @check("a", "a holds")
    def unread(_: Facts) -> Outcome:
        """Meet a fact that was not read."""
        return passed(known(Unread("/etc/x", Reason.UNUSABLE, "not TOML")))

    (result,) = run([unread], {})

    assert result.message == "/etc/x: not TOML"


def test_what_a_source_never_offers_is_skipped() -> None:
    @check("a", "a holds")
    def unread(_: Facts) -> Outcome:
        """Meet a fact that this source does not have."""
        return passed(known(Unread("kvm", Reason.NOT_OFFERED, "a directory tree cannot tell")))

    (result,) = run([unread], {})

    assert (result.status, result.message) == (
        Status.SKIPPED,
        "kvm: a directory tree cannot tell",
    )
    assert result.remedy is None


def test_every_reason_of_not_knowing_has_an_answer() -> None:
    for reason in Reason:

        @check("a", "a holds")
        def unread(_: Facts, reason: Reason = reason) -> Outcome:
            """Meet a fact that was not read."""
            return passed(known(Unread("/x", reason)))

        (result,) = run([unread], {})

        assert result.status in {Status.UNKNOWN, Status.SKIPPED}
        assert result.message


def test_a_known_fact_is_its_value() -> None:
    assert known("value") == "value"
    assert known(None) is None
    assert known(0) == 0
    with pytest.raises(UnknownFactError):
        known(Unread("/x", Reason.NOT_RECORDED))


def test_each_thing_has_its_own_result() -> None:
    results = run([each("a", {"b": BAD})], TWO)

    assert said(results) == [("a", "a", "passed", ""), ("a", "b", "failed", "broken")]


def test_without_things_the_question_is_skipped() -> None:
    assert said(run([each("a", {}, none="no GPU")], {})) == [("a", "", "skipped", "no GPU")]


def test_things_that_cannot_be_listed_are_unknown() -> None:
    results = run([each("a", {})], {"a": Unread("/sys", Reason.NOT_RECORDED)})

    assert statuses(results) == {("a", ""): "unknown"}


def test_one_unread_thing_leaves_the_others_judged() -> None:
    @dataclass(frozen=True)
    class Thing:
        fact: Fact[str]

    def pairs(_: Facts) -> Iterator[tuple[str, Thing]]:
        yield "a", Thing(Unread("/a", Reason.NOT_PERMITTED))
        yield "b", Thing("fine")
        yield "c", Thing(Unread("/c", Reason.NOT_OFFERED))

    @check_each("x", "x holds", pairs, none="none")
    def judge(_: Facts, thing: Thing) -> Outcome:
        """Judge one."""
        return passed(known(thing.fact))

    assert statuses(run([judge], {})) == {
        ("x", "a"): "unknown",
        ("x", "b"): "passed",
        ("x", "c"): "skipped",
    }


def test_a_failure_of_one_thing_answers_only_about_that_thing() -> None:
    checks = [each("first", {"a": BAD}), each("second", {"b": BAD}, "first")]

    assert said(run(checks, TWO))[2:] == [
        ("second", "a", "skipped", "follows from first"),
        ("second", "b", "failed", "broken"),
    ]


def test_what_follows_for_one_thing_goes_on_following() -> None:
    checks = [
        each("first", {"a": BAD}),
        each("second", {"b": BAD}, "first"),
        each("third", {}, "second"),
    ]

    assert said(run(checks, TWO))[4:] == [
        ("third", "a", "skipped", "follows from first"),
        ("third", "b", "skipped", "follows from second"),
    ]


def test_a_failure_of_the_whole_answers_about_every_thing() -> None:
    results = run([claim("whole", BAD), each("each", {}, "whole")], TWO)

    assert said(results)[1:] == [("each", "", "skipped", "follows from whole")]


def test_a_failure_of_one_thing_does_not_answer_about_the_whole() -> None:
    results = run([each("each", {"a": BAD}), claim("whole", passed(), "each")], TWO)

    assert statuses(results)["whole", ""] == "passed"


def test_the_requirement_named_first_is_the_reason() -> None:
    checks = [
        claim("second", BAD),
        claim("first", BAD),
        claim("c", passed(), "first", "second"),
    ]

    assert said(run(checks, {}))[-1] == ("c", "", "skipped", "follows from first")


def test_a_bug_in_a_check_is_not_hidden() -> None:
    @check("a", "a holds")
    def broken(facts: Facts) -> Outcome:
        """Look for what is not there."""
        return passed(known(facts["missing"]))

    with pytest.raises(KeyError):
        run([broken], {})
