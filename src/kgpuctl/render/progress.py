"""What is told while something is awaited: one line of what is missing, or what has changed."""

import shutil
from collections.abc import Iterator

from kgpuctl.report import Report, Status

_SUBJECTS_TOLD = 3


def awaited(report: Report, clock: str) -> str:
    """Return a line that fits the terminal: the first thing that is missing, and how many more."""
    failed = [item for item in report.results if item.status is Status.FAILED and not item.waived]
    if not failed:
        return f"waiting {clock}"
    first = failed[0]
    where = f" {first.subject}" if first.subject else ""
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    line = f"waiting {clock}  {first.id}{where}: {first.message}"
    room = max(shutil.get_terminal_size().columns - 1 - len(more), 20)
    return (line if len(line) <= room else f"{line[: room - 1]}…") + more


def changes(before: Report | None, after: Report) -> Iterator[str]:
    """Yield a line for each way in which a check's answers have changed."""
    was = {(item.id, item.subject): item.status for item in before.results} if before else {}
    moved: dict[tuple[str, str, str], list[str]] = {}
    for item in after.results:
        old = was.get((item.id, item.subject))
        if old is item.status or (old is None and item.status is not Status.FAILED):
            continue
        key = (item.id, old.value if old else "", item.status.value)
        moved.setdefault(key, []).append(item.subject)
    for (check, old_status, status), subjects in moved.items():
        arrow = f"{old_status} -> {status}" if old_status else status
        yield f"{check}: {arrow}{_named([name for name in subjects if name])}"


def _named(subjects: list[str]) -> str:
    if not subjects:
        return ""
    more = len(subjects) - _SUBJECTS_TOLD
    return f" ({', '.join(subjects[:_SUBJECTS_TOLD])}{f' and {more} more' if more > 0 else ''})"
