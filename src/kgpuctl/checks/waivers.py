"""Waiving findings that somebody decided to live with."""

import datetime as dt
from collections.abc import Iterable

from kgpuctl.config import Waiver
from kgpuctl.errors import UsageError, nearest, shown
from kgpuctl.report import PROBLEMS, Result


def waive(
    results: Iterable[Result], waivers: Iterable[Waiver], today: dt.date
) -> tuple[Result, ...]:
    """Mark waived problems with the reason; a waiver past its day only says that it ended."""
    by_id = {waiver.id: waiver for waiver in waivers}
    if not by_id:
        return tuple(results)
    return tuple(_waive_one(result, by_id.get(result.id), today) for result in results)


def _waive_one(result: Result, waiver: Waiver | None, today: dt.date) -> Result:
    if waiver is None or result.status not in PROBLEMS:
        return result
    if waiver.until is not None and waiver.until < today:
        return result._replace(message=f"{result.message} (its waiver ended {waiver.until})")
    return result._replace(message=f"{result.message} (waived: {waiver.reason})", waived=True)


def refuse_unknown_ids(waivers: Iterable[Waiver], known: Iterable[str]) -> None:
    """Refuse a waiver of a check that does not exist: it would hide nothing, silently."""
    ids = frozenset(known)
    for waiver in waivers:
        if waiver.id not in ids:
            raise UsageError(
                f"There is no check {shown(waiver.id)} to waive{nearest(waiver.id, ids)}",
                remedy="`kgpuctl checks` lists all ids.",
            )
