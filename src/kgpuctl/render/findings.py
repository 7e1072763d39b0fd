"""Results put together for people: equal ones as one finding, remedies in the order to do them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from kgpuctl.report import PROBLEMS, Remedy, Report, Result, Status

SUBJECTS_SHOWN: Final = 3
_ORDER: Final = tuple(Status)
_URGENCY: Final = {Status.FAILED: 0, Status.WARNED: 1, Status.UNKNOWN: 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """Results that say the same of one or more subjects."""

    id: str
    title: str
    status: Status
    message: str
    remedy: Remedy | None
    waived: bool
    subjects: tuple[str, ...]

    @property
    def where(self) -> str:
        """Name the subjects: a few of them, and how many more."""
        shown = ", ".join(self.subjects[:SUBJECTS_SHOWN])
        more = len(self.subjects) - SUBJECTS_SHOWN
        return f"{shown} and {more} more" if more > 0 else shown


def group(results: Iterable[Result]) -> tuple[Finding, ...]:
    """Put together what differs only in its subject; the order of first appearance stays."""
    groups: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        key = (result.id, result.status, result.message, result.remedy, result.waived)
        groups.setdefault(key, []).append(result)
    return tuple(
        Finding(
            id=found[0].id,
            title=found[0].title,
            status=found[0].status,
            message=found[0].message,
            remedy=found[0].remedy,
            waived=found[0].waived,
            subjects=tuple(result.subject for result in found if result.subject),
        )
        for found in groups.values()
    )


def problems(findings: Iterable[Finding]) -> list[Finding]:
    """Return what asks for something to be done: failures first, what could not be seen last."""
    found = [item for item in findings if item.status in PROBLEMS and not item.waived]
    return sorted(found, key=lambda item: _URGENCY[item.status])


def remedies(findings: Iterable[Finding]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return what to do, in order: each text once, with the ids of the checks that ask for it."""
    ids: dict[Remedy, dict[str, None]] = {}
    subjects: dict[Remedy, dict[str, None]] = {}
    for finding in findings:
        if finding.remedy:
            ids.setdefault(finding.remedy, {})[finding.id] = None
            subjects.setdefault(finding.remedy, {}).update(dict.fromkeys(finding.subjects))
    todo: dict[str, dict[str, None]] = {}
    for remedy, who in ids.items():
        todo.setdefault(remedy.said_of(tuple(subjects[remedy])), {}).update(who)
    return tuple((text, tuple(who)) for text, who in todo.items())


def count_checks(report: Report) -> Mapping[str, int]:
    """Count checks (not results) by the worst that each came to; waived ones apart."""
    worst: dict[str, Status | None] = {}
    for result in report.results:
        status = None if result.waived else result.status
        before = worst.get(result.id)
        if before is None or (status is not None and _ORDER.index(status) > _ORDER.index(before)):
            worst[result.id] = status
    counts: dict[str, int] = {}
    for status in worst.values():
        word = status.value if status else "waived"
        counts[word] = counts.get(word, 0) + 1
    return counts


def count_line(report: Report) -> str:
    """Say the counts in words, the worst first."""
    counts = count_checks(report)
    words = ("failed", "unknown", "warned", "waived", "passed", "skipped")
    told = ", ".join(f"{counts[word]} {word}" for word in words if counts.get(word))
    return told or "nothing was checked"
