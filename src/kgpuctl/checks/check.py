"""The check framework: a check is a named pure function over facts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from kgpuctl.names import CHECKS_PAGE
from kgpuctl.report import Remedy, Result, Status, printable
from kgpuctl.unread import Reason, Unread

Facts = TypeVar("Facts")
Thing = TypeVar("Thing")
T = TypeVar("T")


class Outcome(NamedTuple):
    """What one check concluded of one subject."""

    status: Status
    message: str = ""
    remedy: Remedy | None = None
    subject: str = ""

    def about(self, subject: str) -> "Outcome":
        """Return the same conclusion about a named subject."""
        return Outcome(self.status, self.message, self.remedy, subject)


def passed(message: str = "") -> Outcome:
    """Say what was seen, and that it is as it should be."""
    return Outcome(Status.PASSED, message)


def skipped(reason: str) -> Outcome:
    """Say why this question is not asked here."""
    return Outcome(Status.SKIPPED, reason)


def warned(message: str, remedy: Remedy | str) -> Outcome:
    """Say what will hurt later, and what to do about it."""
    return Outcome(Status.WARNED, message, _remedy(remedy))


def failed(message: str, remedy: Remedy | str) -> Outcome:
    """Say what is wrong, and what to do about it."""
    return Outcome(Status.FAILED, message, _remedy(remedy))


def _remedy(remedy: Remedy | str) -> Remedy:
    return Remedy(remedy) if isinstance(remedy, str) else remedy


class UnknownFactError(Exception):
    """A check met a fact that could not be read; it can say nothing."""

    def __init__(self, fact: Unread) -> None:
        super().__init__(str(fact))
        self.fact = fact


def known(fact: T | Unread) -> T:
    """Return a fact's value; a check whose fact was not read ends here, as unknown."""
    if isinstance(fact, Unread):
        raise UnknownFactError(fact)
    return fact


_TO_SEE = {  # on a host; a fact of a cluster brings its own words
    Reason.NOT_PERMITTED: "Run it as root, for example with sudo, to see this.",
    Reason.NOT_RECORDED: "Run `sudo kgpuctl preflight` on the host itself, outside of any "
    "container, or record it there with `--record FILE`.",
    Reason.UNUSABLE: "Look at that file on the host: it is not what it should be.",
}


def _unknown(fact: Unread) -> Outcome:
    if fact.reason is Reason.NOT_OFFERED:
        return skipped(f"{fact.path}: {fact.detail or fact.reason}")
    return Outcome(Status.UNKNOWN, str(fact), Remedy(fact.remedy or _TO_SEE[fact.reason]))


@dataclass(frozen=True, slots=True)
class Check(Generic[Facts]):
    """One question, asked of facts; `id` is what users select, waive and look up.

    `requires` are the ids of checks whose failure answers this one already.
    """

    id: str
    title: str
    ask: Callable[[Facts], Sequence[Outcome]]
    requires: tuple[str, ...] = ()


def check(
    id: str,  # noqa: A002  # the word users type
    title: str,
    *,
    requires: tuple[str, ...] = (),
) -> Callable[[Callable[[Facts], Outcome]], Check[Facts]]:
    """Turn a function over facts into a Check; nothing is registered anywhere."""

    def make(judge: Callable[[Facts], Outcome]) -> Check[Facts]:
        def ask(facts: Facts) -> Sequence[Outcome]:
            try:
                return (judge(facts),)
            except UnknownFactError as unknown:
                return (_unknown(unknown.fact),)

        return Check(id, title, ask, requires)

    return make


def check_each(
    id: str,  # noqa: A002
    title: str,
    things: Callable[[Facts], Iterable[tuple[str, Thing]]],
    *,
    none: str,
    requires: tuple[str, ...] = (),
) -> Callable[[Callable[[Facts, Thing], Outcome]], Check[Facts]]:
    """Turn a function over facts and one named thing of them into a Check with a result each.

    `none` is said where there is no such thing.
    """

    def make(judge: Callable[[Facts, Thing], Outcome]) -> Check[Facts]:
        def ask_one(facts: Facts, thing: Thing) -> Outcome:
            try:
                return judge(facts, thing)
            except UnknownFactError as unknown:
                return _unknown(unknown.fact)

        def ask(facts: Facts) -> Sequence[Outcome]:
            try:
                outcomes = tuple(ask_one(facts, thing).about(name) for name, thing in things(facts))
                return outcomes or (skipped(none),)
            except UnknownFactError as unknown:
                return (_unknown(unknown.fact),)

        return Check(id, title, ask, requires)

    return make


def check_all(
    id: str,  # noqa: A002
    title: str,
    *,
    none: str = "",
    requires: tuple[str, ...] = (),
) -> Callable[[Callable[[Facts], Iterable[Outcome]]], Check[Facts]]:
    """Turn a function that finds any number of things into a Check; its outcomes name subjects.

    Finding nothing is passed, or skipped where `none` says why.
    """

    def make(judge: Callable[[Facts], Iterable[Outcome]]) -> Check[Facts]:
        def ask(facts: Facts) -> Sequence[Outcome]:
            try:
                return tuple(judge(facts)) or (skipped(none) if none else passed(),)
            except UnknownFactError as unknown:
                return (_unknown(unknown.fact),)

        return Check(id, title, ask, requires)

    return make


def run(checks: Iterable[Check[Facts]], facts: Facts) -> tuple[Result, ...]:
    """Ask every check in order; what an earlier failure answers already is skipped.

    A failure about one subject answers the questions about that subject only.
    """
    results: list[Result] = []
    blocked: dict[str, dict[str, str]] = {}  # check id -> subject ("": all) -> what failed
    for item in checks:
        causes: dict[str, str] = {}
        for need in item.requires:
            causes = blocked.get(need, {}) | causes
        if "" in causes:
            outcomes: Sequence[Outcome] = (skipped(f"follows from {causes['']}"),)
        else:
            outcomes = [
                skipped(f"follows from {causes[asked.subject]}").about(asked.subject)
                if asked.subject in causes
                else asked
                for asked in item.ask(facts)
            ]
        failures = {
            outcome.subject: item.id for outcome in outcomes if outcome.status is Status.FAILED
        }
        blocked[item.id] = causes | failures
        results += (_result(item, outcome) for outcome in outcomes)
    return tuple(results)


def _result(item: Check[Facts], outcome: Outcome) -> Result:
    return Result(
        id=item.id,
        title=item.title,
        status=outcome.status,
        subject=printable(outcome.subject),
        message=printable(outcome.message),
        remedy=outcome.remedy and outcome.remedy._replace(text=printable(outcome.remedy.text)),
        docs=f"{CHECKS_PAGE}#{item.id}",
    )
