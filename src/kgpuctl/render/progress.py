"""What is told while something is awaited: one line of what is missing, or what has changed."""

import shutil
from collections.abc import Iterator
from typing import Final

from kgpuctl.report import Report, Status

_SUBJECTS_TOLD: Final = 3
_LEAST: Final = 20  # columns for what is awaited
_ORDER: Final = tuple(Status)  # from good to bad


def awaited(report: Report, clock: str) -> str:
    """Return a line that fits the terminal: the first thing that is missing, and how many more."""
    seen = [item for item in report.results if not item.waived]
    failed = [item for item in seen if item.status is Status.FAILED]
    missing = failed or [item for item in seen if item.status is Status.UNKNOWN]
    if not missing:
        return f"waiting {clock}"
    first = missing[0]
    where = f" {first.subject}" if first.subject else ""
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    line = f"waiting {clock}  {first.id}{where}: {first.message}"
    width = max(shutil.get_terminal_size().columns - 1, 1)  # a full row would begin another
    if width - len(more) < _LEAST:
        more = ""
    room = width - len(more)
    return (line if len(line) <= room else f"{line[: room - 1]}…") + more


def changes(before: Report | None, after: Report) -> Iterator[str]:
    """Yield a line for each way in which a check's answers have changed."""
    was = _answers(before) if before else {}
    moved: dict[tuple[str, str, str], list[str]] = {}
    for (check, subject), status in _answers(after).items():
        old = was.get((check, subject))
        if old is status or (old is None and status is not Status.FAILED):
            continue
        moved.setdefault((check, old.value if old else "", status.value), []).append(subject)
    for (check, old_status, new_status), subjects in moved.items():
        arrow = f"{old_status} -> {new_status}" if old_status else new_status
        yield f"{check}: {arrow}{_named([name for name in subjects if name])}"


def _answers(report: Report) -> dict[tuple[str, str], Status]:
    """Return what each check says of each subject; of several answers the worst."""
    found: dict[tuple[str, str], Status] = {}
    for item in report.results:
        key = (item.id, item.subject)
        found[key] = max(found.get(key, Status.PASSED), item.status, key=_ORDER.index)
    return found


def _named(subjects: list[str]) -> str:
    if not subjects:
        return ""
    more = len(subjects) - _SUBJECTS_TOLD
    return f" ({', '.join(subjects[:_SUBJECTS_TOLD])}{f' and {more} more' if more > 0 else ''})"
