"""What a run comes to: a result for each node, and the error that ends it if not all is done."""

from typing import Final

from kgpuctl.errors import KgpuctlError, StepError
from kgpuctl.report import Result, Status
from kgpuctl.steps.label import Restore
from kgpuctl.steps.plan import Plan, result
from kgpuctl.steps.step import counted, few

INTERRUPTED: Final = "interrupted"


class InterruptedRunError(StepError):
    """Ctrl-C ended a run that had begun to change things."""

    exit_code = 130


def refusal(plan: Plan) -> StepError | None:
    """Return why nothing of a plan is done, if so."""
    if not plan.refused:
        return None
    first, nodes = plan.refused[0], [item.subject for item in plan.refused]
    return StepError(
        f"{counted(len(nodes), 'node')} cannot be changed: {few(nodes)}. "
        f"{first.subject}: {first.message}. Nothing was changed.",
        remedy=first.remedy_text,
    )


def pending(plan: Plan) -> tuple[Result, ...]:
    """Return what a plan would do, as results: nothing is done, so nothing has passed."""
    todo = tuple(
        result(plan.intent, job.name, Status.SKIPPED, f"not done: {told_of(plan, job.name)}")
        for job in plan.jobs
    )
    return in_order(plan, () if plan.refused else todo)


def told_of(plan: Plan, name: str) -> str:
    """Return what is to be done of one node, in words."""
    job = next(job for job in plan.jobs if job.name == name)
    evicts = f"; evict {few([str(pod) for pod in job.holders])}" if job.holders else ""
    return (job.change.in_words if job.change else "uncordon") + evicts


def in_order(plan: Plan, results: tuple[Result, ...]) -> tuple[Result, ...]:
    """Return the results of all nodes, by name."""
    every = (*plan.refused, *plan.left, *plan.done, *results)
    return tuple(sorted(every, key=lambda item: item.subject))


def conclude(plan: Plan, results: tuple[Result, ...], stopped: str) -> KgpuctlError | None:
    """Return the error that a run ends with, naming what was not done."""
    failed = [item.subject for item in in_order(plan, results) if item.status is Status.FAILED]
    done = sum(item.status in {Status.PASSED, Status.WARNED} for item in results)
    total = counted(len(plan.jobs) + len(plan.left), "node")
    verb = "restored" if isinstance(plan.intent, Restore) else "labelled"
    counts = f"{done:,} of {total} were {verb}"
    again = "Run the same command again: it goes on where it stopped, and repeats nothing."
    if stopped == INTERRUPTED:
        return InterruptedRunError(f"Interrupted: {counts}; not {few(failed)}.", remedy=again)
    if not failed:
        return None
    why = f" It was stopped: {stopped}." if stopped else ""
    return StepError(f"Only {counts}; not {few(failed)}.{why}", remedy=_first_remedy(plan, results))


def _first_remedy(plan: Plan, results: tuple[Result, ...]) -> str:
    told = [
        item.remedy_text
        for item in in_order(plan, results)
        if item.status is Status.FAILED and item.remedy
    ]
    return told[0] if told else "Run the same command again: it goes on where it stopped."
