"""Making a plan true: bounded in parallel, recorded before and after, tidied up at the end."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final

from kgpuctl.cluster.failures import ClusterError, ConflictError, NotFoundError
from kgpuctl.errors import KgpuctlError
from kgpuctl.journal import Entry, Told
from kgpuctl.report import SUBJECT, Remedy, Result, Status
from kgpuctl.steps.changing import Changing, StoppedError
from kgpuctl.steps.cordon import ATTEMPTS, cordon, uncordon
from kgpuctl.steps.evict import drain, settle
from kgpuctl.steps.label import ForeignLabelError, Intent
from kgpuctl.steps.marks import ForeignMarkError
from kgpuctl.steps.parallel import WORKERS, Stop, in_parallel
from kgpuctl.steps.plan import Job, Plan, has_other_worker_value, result
from kgpuctl.steps.step import Change, few

Observe = Callable[[Result], None]

_BATCH: Final = 256  # nodes whose beginning is recorded, and brought to the disk, at once
_IN_A_ROW: Final = 2 * WORKERS
_AGAIN: Final = Remedy("Run the same command again: it goes on where it stopped.")
_CORDONED: Final = Remedy(
    f"Run the same command again, or take the cordon back yourself: `kubectl uncordon {SUBJECT}`."
)
_OFFERED: Final = Remedy(
    "Look why the GPU Operator does not take its old device plugin off the node: "
    f"`kubectl get pods -A --field-selector spec.nodeName={SUBJECT}`."
)
_WORKER: Final = Remedy(
    "Look what else selects nodes by the old value of that label; --restore puts it back."
)


class Applying:
    """One run over a plan."""

    def __init__(self, plan: Plan, changing: Changing, observe: Observe) -> None:
        self._plan = plan
        self._intent: Intent = plan.intent
        self._changing = changing
        self._observe = observe
        self._results: dict[str, Result] = {}
        self._cordoned: dict[str, None] = {}
        self._in_a_row = 0

    def run(self) -> tuple[Result, ...]:
        """Change what is to be changed; return a result for each node, in the plan's order."""
        busy = [job for job in self._plan.jobs if job.holders]
        idle = [job for job in self._plan.jobs if not job.holders]
        self._cordoned |= {
            job.name: None for job in self._plan.jobs if job.node.is_ours_to_uncordon
        }
        try:
            for start in range(0, len(idle), _BATCH):
                self._batch(idle[start : start + _BATCH])
            self._empty(busy)
        finally:
            self._uncordon_all()
        for job in self._plan.jobs:
            if job.name not in self._results:
                told = f"not begun: {self._changing.stop.reason}"
                self._results[job.name] = self._result(job, Status.FAILED, told, _AGAIN)
        return tuple(self._results[job.name] for job in self._plan.jobs)

    def _batch(self, jobs: list[Job]) -> None:
        """Label nodes whose GPUs nobody uses."""
        if not self._go_on():
            return
        try:
            self._changing.note(*(_entry(self._intent, job.change) for job in jobs if job.change))
        except StoppedError:
            return
        self._collect(self._doing(job, self._label) for job in jobs)

    def _empty(self, jobs: list[Job]) -> None:
        """Cordon all nodes in use, so that no evicted pod moves to the next; then one by one."""
        if not jobs or not self._go_on():
            return

        def hold(job: Job) -> None:
            self._cordoned[job.name] = None  # before it is: its answer may get lost
            cordon(self._changing, job.name)

        self._collect(self._doing(job, hold) for job in jobs)
        ready = [job for job in jobs if job.name not in self._results]
        self._collect(self._doing(job, self._move) for job in ready)

    def _go_on(self) -> bool:
        try:
            self._changing.check()
        except StoppedError:
            return False
        return True

    def _collect(self, jobs: Iterable[Callable[[], tuple[Job, Result | None]]]) -> None:
        for job, came in in_parallel(jobs, self._changing.stop):
            if came is None:
                continue  # only prepared
            self._results[job.name] = came
            self._observe(came)
            self._in_a_row = self._in_a_row + 1 if came.status is Status.FAILED else 0
            if self._in_a_row >= _IN_A_ROW:
                self._changing.stop.because(f"{_IN_A_ROW} nodes failed one after the other")

    def _doing(
        self, job: Job, do: Callable[[Job], Result | None]
    ) -> Callable[[], tuple[Job, Result | None]]:
        """Return a job that never raises what can be told of its node."""

        def done() -> tuple[Job, Result | None]:
            try:
                return job, do(job)
            except StoppedError:
                told = f"not done: {self._changing.stop.reason}"
                return job, self._result(job, Status.FAILED, told, _AGAIN)
            except NotFoundError:
                return job, self._failed(job, "the node is not there any more", "Leave it out.")
            except (ForeignLabelError, ForeignMarkError) as error:
                return job, self._failed(job, f"left as it is: {error}", _AGAIN.text)
            except KgpuctlError as error:
                return job, self._failed(job, error.message, error.remedy)

        return done

    def _label(self, job: Job) -> Result:
        """Label a node, and take back a cordon that an earlier run left on it."""
        if job.change:
            job = Job(job.node, self._change(job.change), job.holders)
        self._release(job.name)
        return self._passed(job, "")

    def _move(self, job: Job) -> Result:
        """Evict, label, wait for the operator, uncordon."""
        evicted = drain(self._changing, job.name)
        # Cordoning has made another version of the node, and eviction may have taken its time.
        change = self._intent.change(self._changing.node(job.name))
        if change:
            self._changing.note(_entry(self._intent, change))
            job = Job(job.node, self._change(change), job.holders)
        offered = settle(self._changing, job.node, evicted)
        self._release(job.name)
        told = f"; evicted {few([str(pod) for pod in evicted])}" if evicted else ""
        if offered:
            told += f"; {offered} is still handed out there, so pods may come back"
            return self._result(job, Status.WARNED, job.change.in_words + told, _OFFERED)
        return self._passed(job, told)

    def _change(self, change: Change) -> Change:
        """Change a node's labels as the intent asks; anew where somebody wrote the node since."""
        for attempt in range(ATTEMPTS):
            self._changing.check()
            try:
                self._changing.patch(change.node, change.body)
            except ConflictError:
                if attempt == ATTEMPTS - 1:
                    raise
                newer = self._intent.change(self._changing.node(change.node))
                if not newer:
                    break  # it was made all the same, or somebody else made it
                if newer.labels != change.labels or newer.annotations != change.annotations:
                    self._changing.note(_entry(self._intent, newer))
                change = newer
            else:
                break
        self._changing.note(_entry(self._intent, change)._replace(result=Told.DONE))
        return change

    def _release(self, name: str) -> None:
        if name in self._cordoned:
            uncordon(self._changing, name)
            self._cordoned.pop(name, None)

    def _uncordon_all(self) -> None:
        """Take back what is still cordoned, however the run ended, while that is ours to do."""

        def take_back(name: str) -> tuple[str, str]:
            try:
                trouble = self._changing.right.trouble
                if not trouble:
                    self._release(name)
            except ClusterError as error:
                trouble = error.message
            return name, trouble

        jobs = (partial(take_back, name) for name in tuple(self._cordoned))
        for name, trouble in in_parallel(jobs, Stop()):
            if trouble:
                self._left_cordoned(name, trouble)

    def _left_cordoned(self, name: str, why: str) -> None:
        came = self._results.get(name)
        told = f"{came.message}; " if came else ""
        message = f"{told}it stays cordoned: {why}"
        self._results[name] = result(self._intent, name, Status.FAILED, message, _CORDONED)

    def _result(
        self, job: Job, status: Status, message: str, remedy: Remedy | None = None
    ) -> Result:
        return result(self._intent, job.name, status, message, remedy)

    def _passed(self, job: Job, told: str) -> Result:
        if not job.change:
            return self._result(job, Status.PASSED, "uncordoned: an earlier run had left it so")
        if has_other_worker_value(job.change):
            return self._result(job, Status.WARNED, job.change.in_words + told, _WORKER)
        return self._result(job, Status.PASSED, job.change.in_words + told)

    def _failed(self, job: Job, message: str, remedy: str) -> Result:
        entry = _entry(self._intent, job.change)._replace(result=Told.FAILED, message=message)
        with suppress(StoppedError):  # `Stop` tells why
            self._changing.note(entry)
        return self._result(job, Status.FAILED, message, Remedy(remedy))


def _entry(intent: Intent, change: Change) -> Entry:
    """Return what the journal says of a change that begins."""
    edits = change.labels or change.annotations  # kgpuctl's marks follow from the labels
    return Entry(
        intent.id,
        f"node/{change.node}",
        Told.BEGUN,
        {edit.key: edit.before for edit in edits},
        {edit.key: edit.after for edit in edits},
    )
