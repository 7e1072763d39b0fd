"""The plan of label-nodes: what is to be done of each node, what is refused, and why."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from kgpuctl.cluster.gpus import is_gpu_node
from kgpuctl.names import COCO_WORKER_LABEL, DEPLOY_PREFIX, WORKLOAD_LABEL, Stack, Workload
from kgpuctl.report import SUBJECT, Remedy, Result, Status, printable
from kgpuctl.steps.holders import Holder
from kgpuctl.steps.label import ForeignLabelError, Intent, Label, Restore, moves_gpus
from kgpuctl.steps.marks import APPLIED, PREVIOUS, ForeignMarkError, MarkedNode
from kgpuctl.steps.step import Change, few
from kgpuctl.steps.targets import Targets

Holders = Mapping[str, tuple[Holder, ...]]

_NO_GPU: Final = Remedy(
    "Leave it out, or look why NFD and the GPU Operator do not see its GPU: "
    f"`kubectl get node {SUBJECT} --show-labels`."
)
_IN_USE: Final = Remedy(
    "End these pods, or have them evicted with --evict; evicted pods start elsewhere, where there "
    "is room."
)
_FOREIGN_MARK: Final = Remedy(
    "If its labels are to stay as they are, let kgpuctl forget what it knew: "
    f"`kubectl annotate node {SUBJECT} {PREVIOUS}- {APPLIED}-`."
)


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done of one node; the holders are evicted first."""

    node: MarkedNode
    change: Change
    holders: tuple[Holder, ...] = ()

    @property
    def name(self) -> str:
        """Return the node's name."""
        return self.node.name


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, and what is not; nothing at all where anything is refused."""

    intent: Intent
    jobs: tuple[Job, ...]
    done: tuple[Result, ...]
    left: tuple[Result, ...]
    refused: tuple[Result, ...]
    notes: tuple[str, ...]

    @property
    def signature(self) -> tuple[object, ...]:
        """Return what two plans have in common that do the same."""
        jobs = tuple((job.name, job.change.labels, job.holders) for job in self.jobs)
        return (jobs, self.refused)


def intent_of(workload: Workload, stack: Stack, *, restore: bool) -> Intent:
    """Return what is wanted: the CoCo operator's own label only where VMs get the GPUs."""
    if restore:
        return Restore()
    labels = {WORKLOAD_LABEL: workload.value}
    if stack is Stack.COCO_OPERATOR and workload is Workload.VM_PASSTHROUGH:
        labels[COCO_WORKER_LABEL] = ""
    return Label(labels)


def plan(
    intent: Intent,
    targets: Targets,
    find: Callable[[tuple[str, ...]], Holders],
    *,
    evict: bool,
) -> Plan:
    """Work out what is left to do; `find` returns who holds GPUs of the nodes that would move."""
    changes, left, refused = _changes(intent, targets)
    blind = _without_gpu(intent, targets, changes)
    held = find(tuple(name for name, change in changes.items() if moves_gpus(change)))
    jobs = []
    for node in targets.nodes:
        change = changes.get(node.name)
        if change is not None and (change or node.is_ours_to_uncordon):
            jobs.append(Job(node, change, held.get(node.name, ())))
    busy = (_in_use(intent, job, evict=evict) for job in jobs if job.holders)
    return Plan(
        intent,
        tuple(jobs),
        tuple(_done(intent, targets, changes)),
        tuple(left),
        (*refused, *blind, *(result for result in busy if result)),
        tuple(_notes(intent, targets, jobs)),
    )


def _changes(
    intent: Intent, targets: Targets
) -> tuple[dict[str, Change], list[Result], list[Result]]:
    """Return the change of each node, those that are left as they are, and those refused."""
    changes: dict[str, Change] = {}
    left: list[Result] = []
    refused: list[Result] = []
    for node in targets.nodes:
        try:
            changes[node.name] = intent.change(node)
        except ForeignLabelError as error:
            remedy = Remedy(
                f"Put back what kgpuctl set and restore again, or keep it as it is and let kgpuctl "
                f"forget: `kubectl annotate node {SUBJECT} {PREVIOUS}- {APPLIED}-`."
            )
            told = f"left as it is: {error}"
            left.append(result(intent, node.name, Status.FAILED, told, remedy))
        except ForeignMarkError as error:
            refused.append(result(intent, node.name, Status.FAILED, str(error), _FOREIGN_MARK))
    return changes, left, refused


def _without_gpu(
    intent: Intent, targets: Targets, changes: Mapping[str, Change]
) -> tuple[Result, ...]:
    if isinstance(intent, Restore) or not targets.knows_gpus:
        return ()
    return tuple(
        result(
            intent,
            node.name,
            Status.FAILED,
            "no NVIDIA GPU: neither labels of NFD or the GPU Operator nor its allocatable "
            "resources tell of one",
            _NO_GPU,
        )
        for node in targets.without_gpu
        if changes.get(node.name)
    )


def _in_use(intent: Intent, job: Job, *, evict: bool) -> Result | None:
    """Return the refusal of a node whose pods use GPUs, unless they can be evicted."""
    if not evict:
        told = f"its GPUs are in use by {few([str(pod) for pod in job.holders])}"
        return result(intent, job.name, Status.FAILED, told, _IN_USE)
    stuck = [f"{pod} {pod.obstacle}" for pod in job.holders if pod.obstacle]
    if not stuck:
        return None
    remedy = Remedy("End these pods yourself, then run it again: eviction does not help with them.")
    return result(intent, job.name, Status.FAILED, f"its GPUs are in use: {few(stuck)}", remedy)


def _done(intent: Intent, targets: Targets, changes: Mapping[str, Change]) -> Iterator[Result]:
    told = "nothing to restore" if isinstance(intent, Restore) else "already so"
    for node in targets.nodes:
        if node.name in changes and not changes[node.name] and not node.is_ours_to_uncordon:
            yield result(intent, node.name, Status.SKIPPED, told)


def result(
    intent: Intent, node: str, status: Status, message: str, remedy: Remedy | None = None
) -> Result:
    """Return what came of one node."""
    return Result(intent.id, intent.title, status, printable(node), printable(message), remedy)


_EFFECTS: Final = {
    Workload.VM_PASSTHROUGH: "The GPU Operator takes its container operands (driver, toolkit, "
    "device plugin) off these nodes and gives their GPUs to VMs: containers get none there any "
    "more.",
    Workload.CONTAINER: "The GPU Operator takes its VM operands off these nodes and gives their "
    "GPUs to containers: VMs get none there any more.",
    Workload.VM_VGPU: "The GPU Operator takes its container operands off these nodes and shares "
    "their GPUs among VMs by its vGPU manager: containers get none there any more.",
}


def _notes(intent: Intent, targets: Targets, jobs: Iterable[Job]) -> Iterator[str]:
    moving = [job for job in jobs if moves_gpus(job.change)]
    if isinstance(intent, Label) and moving:
        yield _EFFECTS[Workload(intent.labels[WORKLOAD_LABEL])]
    elif moving:
        yield (
            "The GPU Operator takes its operands off these nodes and brings those that the labels "
            "of before ask for."
        )
    unseen = [job.name for job in jobs if not is_gpu_node(job.node)]
    if isinstance(intent, Label) and unseen and not targets.knows_gpus:
        yield (
            "Whether these nodes have NVIDIA GPUs is not known, as Node Feature Discovery has "
            f"labelled none; they are taken because you chose them: {few(unseen)}."
        )
    if any(job.holders for job in jobs):
        yield (
            "These nodes are cordoned while their pods are evicted; what pods keep in emptyDir "
            "volumes is lost."
        )
    yield from _stale(moving)
    worker = [job.name for job in jobs if has_other_worker_value(job.change)]
    if worker:
        yield (
            f"{COCO_WORKER_LABEL} has a value on {few(worker)}: the CoCo operator selects only the "
            "empty one. It is emptied; what else selects by the old value does so no more."
        )


def _stale(jobs: Iterable[Job]) -> Iterator[str]:
    """Tell of labels that keep the operator from deploying: it honours what stands there (F22)."""
    stale = [
        f"{job.name} ({key}={value})"
        for job in jobs
        for key, value in sorted(job.node.metadata.labels.items())
        if key.startswith(DEPLOY_PREFIX) and value not in {"true", ""}
    ]
    if stale:
        yield f"The GPU Operator will leave operands out where these labels stay: {few(stale, 5)}."


def has_other_worker_value(change: Change) -> bool:
    """Whether the CoCo operator would have passed over a node that seems labelled for it."""
    return any(
        edit.key == COCO_WORKER_LABEL and edit.after == "" and edit.before for edit in change.labels
    )
