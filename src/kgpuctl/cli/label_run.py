"""Look, plan, ask, change, report: what `kgpuctl label-nodes` does between parse and print."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import typer

from kgpuctl.cli.label_screen import Screen
from kgpuctl.cli.session import ListOutput
from kgpuctl.cluster.access import Identity
from kgpuctl.cluster.deadline import Deadline, within
from kgpuctl.cluster.kube import KubeCluster
from kgpuctl.cluster.lease import Timing, acquire
from kgpuctl.cluster.lease_holder import Holder
from kgpuctl.errors import KgpuctlError, StepError, UnreachableError, UsageError, nearest, shown
from kgpuctl.journal import Journal, Run
from kgpuctl.names import Stack, Workload
from kgpuctl.render import json
from kgpuctl.render.diff import diff
from kgpuctl.report import Claim, Report, Result, Status, Subject, printable
from kgpuctl.stdout import complain, write
from kgpuctl.steps.apply import Applying
from kgpuctl.steps.changing import Changing
from kgpuctl.steps.holders import find_holders
from kgpuctl.steps.label import Restore
from kgpuctl.steps.outcome import INTERRUPTED, conclude, in_order, pending, refusal
from kgpuctl.steps.parallel import Stop
from kgpuctl.steps.plan import Plan, intent_of, plan
from kgpuctl.steps.preview import preview
from kgpuctl.steps.stack import Recognised, recognise
from kgpuctl.steps.step import counted
from kgpuctl.steps.targets import Selection, choose

COMMAND: Final = "label-nodes"
GRACE: Final = 30.0  # beyond --timeout, to put in order what was begun


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for, options and configuration put together."""

    selection: Selection
    workload: Workload
    stack: Recognised | None
    restore: bool
    evict: bool
    dry_run: bool
    diff: bool
    yes: bool
    timeout: float
    only_problems: bool

    @property
    def doing(self) -> str:
        """Return the word for it."""
        return "restoring" if self.restore else "labelling"

    @property
    def done(self) -> str:
        """Return the word for what has been done."""
        return "restored" if self.restore else "labelled"


class Seen(NamedTuple):
    """A plan, and which stack it is for; None where that makes no difference."""

    plan: Plan
    stack: Recognised | None


Show = Callable[[Report], str]


class Labelling:
    """One run of the command."""

    def __init__(self, wishes: Wishes, connect: Callable[[], KubeCluster], show: Show) -> None:
        self._wishes = wishes
        self._connect = connect
        self._show = show
        self._cluster = connect()
        self._deadline = Deadline(wishes.timeout)
        self._screen = Screen(wishes.doing)
        self._journal: Path | None = None
        self._said: list[str] = []
        self._diff: str | None = None

    def run(self) -> Report:
        """Do what was asked for; an error before anything is done raises, later ones are told."""
        seen = self._look()
        error: KgpuctlError | None = refusal(seen.plan)
        if self._wishes.dry_run or error:
            if self._wishes.diff and not error:
                self._diff = diff(preview(self._cluster, seen.plan.jobs))
            return self._report(seen, pending(seen.plan), error)
        if not seen.plan.jobs:
            return self._report(seen, in_order(seen.plan, ()), conclude(seen.plan, (), ""))
        if not self._wishes.yes:
            self._confirm(seen)
            self._cluster = self._connect()
            self._deadline = Deadline(self._wishes.timeout)
        seen, results, error = self._change(seen)
        return self._report(seen, in_order(seen.plan, results), error)

    def _look(self) -> Seen:
        """Read what decides, within the time of the command."""
        try:
            return within(self._deadline.left, lambda _: _look(self._cluster, self._wishes))
        except TimeoutError:
            raise UnreachableError(
                f"Not all that decides could be read of {self._cluster.identity} within the "
                f"{self._wishes.timeout:g} s of --timeout. Nothing was changed.",
                remedy="Give it more time with --timeout.",
            ) from None

    def _confirm(self, seen: Seen) -> None:
        """Show the plan and ask; without a terminal there is nobody to ask."""
        complain(self._show(self._report(seen, pending(seen.plan), None)))
        nodes = counted(len(seen.plan.jobs), "node")
        if sys.stdin is None or not sys.stdin.isatty():
            raise UsageError(
                f"{nodes} would be {self._wishes.done}, and there is no terminal to ask on. "
                "Nothing was changed.",
                remedy="Add --yes to do it, or --dry-run to see only what would be done.",
            )
        verb = "Restore" if self._wishes.restore else "Label"
        if not typer.confirm(f"{verb} {nodes}?", err=True):
            raise UsageError("You said no. Nothing was changed.", remedy="Run it again if needed.")

    def _change(self, seen: Seen) -> tuple[Seen, tuple[Result, ...], KgpuctlError | None]:
        """Change what is planned while nobody else does, with a journal of it."""
        holder, stop = Holder.here(COMMAND), Stop()
        who = self._cluster.identity
        journal = Journal.open(os.environ, Path.home(), _run(who, holder))
        self._journal = journal.path
        with _stopping(stop):
            try:
                acquired = acquire(self._cluster, holder, Timing(wait=stop.wait))
                try:
                    if acquired.told:
                        self._say(acquired.told)
                    if acquired.told or not self._wishes.yes:
                        seen = self._look_again(seen)
                    changing = Changing(
                        self._cluster,
                        journal,
                        acquired.lease,
                        self._deadline,
                        stop,
                        f"{holder.identity} {acquired.lease.tenure.since}",
                        self._screen.awaiting,
                    )
                    self._screen.expect(len(seen.plan.jobs))
                    results = Applying(seen.plan, changing, self._screen.observe).run()
                finally:
                    acquired.lease.release()
            finally:
                self._screen.end()
                journal.close()
        return seen, results, conclude(seen.plan, results, stop.reason)

    def _look_again(self, before: Seen) -> Seen:
        """Plan anew after a while; what somebody agreed to must be what will be done."""
        seen = self._look()
        error = refusal(seen.plan)
        if error:
            raise error
        if not self._wishes.yes and seen.plan.signature != before.plan.signature:
            raise StepError(
                "The cluster has changed while you were asked. Nothing was changed.",
                remedy="Run it again, and look at the new plan.",
            )
        return seen

    def _say(self, text: str) -> None:
        self._said.append(text)
        self._screen.note(text)

    def _report(
        self, seen: Seen, results: tuple[Result, ...], error: KgpuctlError | None
    ) -> Report:
        verdict = _verdict(seen.plan, results, self._wishes)
        return Report(
            COMMAND,
            Claim(verdict, verdict, verdict),
            Subject(tuple(self._lines(seen)), self._data(seen)),
            results,
            self._wishes.only_problems,
            error,
        )

    def _lines(self, seen: Seen) -> Iterator[str]:
        who = self._cluster.identity
        yield f"{who} as {who.user}"
        if seen.stack:
            yield f"stack {seen.stack.stack.value}: {seen.stack.why}"
        yield from () if seen.plan.refused else map(printable, seen.plan.notes)
        if self._journal:
            yield f"journal {self._journal}"

    def _data(self, seen: Seen) -> Mapping[str, object]:
        who = self._cluster.identity
        return {
            "kind": "Change",
            "context": who.context,
            "cluster": who.cluster,
            "server": who.server,
            "user": who.user,
            "stack": seen.stack.stack.value if seen.stack else None,
            "workload": None if self._wishes.restore else self._wishes.workload.value,
            "restore": self._wishes.restore,
            "dryRun": self._wishes.dry_run,
            "journal": str(self._journal) if self._journal else None,
            "notes": [*seen.plan.notes, *self._said],
            "changes": [
                {
                    "node": job.name,
                    "labels": [edit._asdict() for edit in job.change.labels],
                    "evict": [f"{pod.namespace}/{pod.name}" for pod in job.holders],
                }
                for job in seen.plan.jobs
            ],
        } | ({} if self._diff is None else {"diff": self._diff})


def _look(cluster: KubeCluster, wishes: Wishes) -> Seen:
    decides = not wishes.restore and wishes.workload is Workload.VM_PASSTHROUGH
    stack = wishes.stack if decides else None
    if decides and stack is None:
        stack = recognise(cluster)
    targets = choose(cluster, wishes.selection, restoring=wishes.restore)
    intent = intent_of(
        wishes.workload, stack.stack if stack else Stack.KATA_DEPLOY, restore=wishes.restore
    )
    return Seen(plan(intent, targets, partial(find_holders, cluster), evict=wishes.evict), stack)


def _run(who: Identity, holder: Holder) -> Run:
    return Run(COMMAND, who.context, who.cluster, who.server, who.user, holder.identity)


def _verdict(plan: Plan, results: tuple[Result, ...], wishes: Wishes) -> str:
    """Return what a run without an error comes to."""
    nothing = (
        "had nothing to restore"
        if isinstance(plan.intent, Restore)
        else "was so already"
        if len(plan.done) == 1
        else "were so already"
    )
    same = f", {counted(len(plan.done), 'node')} {nothing}" if plan.done else ""
    if wishes.dry_run:
        todo = counted(len(plan.jobs), "node")
        return f"Dry run: {todo} would be {wishes.done}{same}. Nothing was changed."
    if not plan.jobs:
        return f"Nothing to do{same}."
    done = sum(item.status in {Status.PASSED, Status.WARNED} for item in results)
    if not done:
        return f"{counted(len(plan.jobs), 'node')} to be {wishes.done}{same}."
    return f"{counted(done, 'node')} {wishes.done}{same}."


@contextmanager
def _stopping(stop: Stop) -> Iterator[None]:
    """Let Ctrl-C, and a request to end, finish what was begun; a second one ends at once."""

    def handle(*_: object) -> None:
        if stop.reason == INTERRUPTED:
            _call("left at once: run the same command again to put things in order")
            os._exit(130)
        stop.because(INTERRUPTED)
        _call("interrupted: ending what was begun (again to leave at once)")

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    heard = [number for number in caught if signal.getsignal(number) is not signal.SIG_IGN]
    before = [(number, signal.signal(number, handle)) for number in heard]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _call(text: str) -> None:
    """Write to standard error from within a signal, whatever is being written there."""
    with suppress(OSError):
        os.write(2, f"\n{text}\n".encode())


def tell(report: Report, output: ListOutput, show: Show) -> None:
    """Write a report to stdout, and the error that ended it to stderr."""
    if output is ListOutput.JSON:
        write(json.dumps(report))
    else:
        changes = report.subject.data.get("diff", "")
        write(show(report) + (f"\n{changes}" if changes else ""))
    if report.error:
        complain(f"error: {report.error.message}\n  try: {report.error.remedy}\n")


def workload_of(word: str | None) -> Workload:
    """Return a workload: the GPU Operator takes any word, and does not say that it knows it not."""
    known = [item.value for item in Workload]
    if word is not None and word not in known:
        raise UsageError(
            f"--workload is {shown(word)}{nearest(word, known)}",
            remedy=f"Use one of {', '.join(known)}: the GPU Operator takes any other word for its "
            "default, and does not say so.",
        )
    return Workload(word or Workload.VM_PASSTHROUGH)


def stack_of(option: Stack | None, configured: Stack | None) -> Recognised | None:
    """Return the stack that somebody named; None where it is to be recognised."""
    if option:
        return Recognised(option, "as --stack says")
    return Recognised(configured, "as the configuration says") if configured else None
