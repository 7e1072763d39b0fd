"""Pods that should run in VMs with GPUs, and objects that do not go away."""

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Final

from kgpuctl.checks.check import Outcome, check_all, failed, known, warned
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.stuck import Trouble, trouble
from kgpuctl.checks.verify.resources import passthrough_resources
from kgpuctl.cluster.gpus import asked_of, is_over, is_passthrough_resource
from kgpuctl.cluster.keep import is_stack_pod
from kgpuctl.cluster.objects import Event, Metadata, Pod, PodMetadata
from kgpuctl.explanations import Clue, ClueKind
from kgpuctl.names import CONTAINER_RUNTIME_CLASSES, CRD_GROUPS, GPU_HANDLER_MARK
from kgpuctl.report import Remedy
from kgpuctl.unread import Unread

# Deleting takes its time: kata-deploy's pods have ten minutes to clean up their node.
_DELETING: Final = dt.timedelta(minutes=12)
_OWNERS: Final = frozenset(
    {"ReplicaSet", "StatefulSet", "Job", "DaemonSet", "ReplicationController"}
)
_KATA_WORDS: Final = ("kata", "RuntimeClass")


@check_all(
    "verify.workloads",
    "Pods that ask for VMs with GPUs run",
    none="no pod asks for one",
)
def workloads(case: ClusterCase) -> Iterator[Outcome]:
    """What a stuck pod shows is explained; one that asks for half of it gets no GPU, silently."""
    names = {item.metadata.name for item in case.gpu_classes}
    for pod in known(case.cluster.pods):
        if is_over(pod) and pod.status.phase == "Succeeded":
            continue
        in_vm = pod.spec.runtime_class_name in names or (
            GPU_HANDLER_MARK in pod.spec.runtime_class_name
        )
        wants = [name for name in asked_of(pod) if is_passthrough_resource(name)]
        if in_vm or (wants and not is_stack_pod(pod)):
            yield from _judge(case, pod, in_vm=in_vm, wants=bool(wants))
    yield from _never_made(case)


def _judge(case: ClusterCase, pod: Pod, *, in_vm: bool, wants: bool) -> Iterator[Outcome]:
    name = pod.metadata.full_name
    found = trouble(case, pod)
    if found:
        yield _explained(case, found).about(name)
    elif in_vm and not asked_of(pod):
        yield warned(
            "it runs in a VM without a GPU: none of its containers asks for one",
            "Put the resource under a container's resources.limits, not under the pod's spec: "
            f"{_limit(case)}.",
        ).about(name)
    elif wants and pod.spec.runtime_class_name in CONTAINER_RUNTIME_CLASSES:
        yield warned(
            "it holds a GPU for VMs and runs as an ordinary container, which cannot use it",
            f"Set spec.runtimeClassName: {_class(case)}.",
        ).about(name)


def _explained(case: ClusterCase, found: Trouble) -> Outcome:
    if "Insufficient nvidia.com/" in found.what and _all_held(case, found.pod):
        return warned(
            f"{found.what}. All GPUs that it could have are held by other pods.",
            "It starts when one of them ends; verify.resource-free names them.",
        )
    return failed(found.message(case), found.remedy(case))


def _all_held(case: ClusterCase, pod: Pod) -> bool:
    """Whether nodes do hand out what a pod waits for: then it is in use, not missing."""
    wanted = asked_of(pod)
    return any(
        passthrough_resources(node).get(name, 0) >= number > 0
        for node in case.targets.values()
        for name, number in wanted.items()
    )


def _limit(case: ClusterCase) -> str:
    names = (
        name
        for node in case.targets.values()
        for name, n in passthrough_resources(node).items()
        if n
    )
    return f'{next(names, "nvidia.com/pgpu")}: "1"'


def _class(case: ClusterCase) -> str:
    return min((item.metadata.name for item in case.gpu_classes), key=len, default="RUNTIMECLASS")


def _never_made(case: ClusterCase) -> Iterator[Outcome]:
    """Yield workloads whose pods were refused: they are nowhere but in an event."""
    events = case.cluster.events
    if isinstance(events, Unread):
        return
    latest: dict[str, Event] = {}
    for event in events:
        about = event.involved_object
        if about.kind in _OWNERS and any(word in event.message for word in _KATA_WORDS):
            key = f"{about.kind} {about.namespace}/{about.name}"
            latest[key] = max(latest.get(key, event), event, key=lambda it: it.time)
    for key, event in latest.items():
        found = case.explanations.explain((Clue(ClueKind.EVENT, event.reason, event.message),))
        if found is None or case.age(event.time) > dt.timedelta(hours=1):
            continue
        about = event.involved_object
        places = {
            "node": "NODE",
            "pod": about.name,
            "namespace": about.namespace,
            "runtime_class": _class(case),
            "resource": "nvidia.com/pgpu",
            "container": "CONTAINER",
        }
        yield failed(
            f"its pods are refused: {event.message}. {found.cause_for(**places)}",
            Remedy(found.remedy_for(**places)),
        ).about(key)


@check_all(
    "verify.terminating",
    "Nothing of the stack is stuck while it is being deleted",
    none="nothing is being deleted",
)
def terminating(case: ClusterCase) -> Iterator[Outcome]:
    """A finalizer waits for its owner; where that is gone, the object stays for ever."""
    for kind, meta in _deleted(case):
        if case.age(meta.deletion_timestamp) < _DELETING:
            continue
        yield _stuck(case, kind, meta).about(f"{kind} {meta.full_name}")


def _deleted(case: ClusterCase) -> Iterator[tuple[str, Metadata | PodMetadata]]:
    cluster = case.cluster
    lists: tuple[tuple[str, object], ...] = (
        ("CcRuntime", cluster.cc_runtimes),
        ("ClusterPolicy", cluster.cluster_policies),
        ("CustomResourceDefinition", cluster.crds),
        ("Namespace", cluster.namespaces),
        ("DaemonSet", cluster.daemon_sets),
        ("Pod", cluster.pods),
    )
    for kind, fact in lists:
        if not isinstance(fact, tuple):
            continue
        for item in fact:
            if item.metadata.deletion_timestamp is not None and _concerns(
                case, kind, item.metadata
            ):
                yield kind, item.metadata


def _concerns(case: ClusterCase, kind: str, meta: Metadata | PodMetadata) -> bool:
    """Whether it belongs to a stack; other people's namespaces are none of our business."""
    homes = {item.release.namespace for item in case.installers} | {
        "gpu-operator",
        "kata-system",
        "confidential-containers-system",
        "coco-system",
    }
    if case.operator:
        homes.add(case.operator.namespace)
    if kind == "Namespace":
        return meta.name in homes
    if kind == "DaemonSet":
        return meta.namespace in homes
    if kind == "CustomResourceDefinition":
        return any(meta.name.endswith(f".{group}") for group in CRD_GROUPS)
    return True


def _stuck(case: ClusterCase, kind: str, meta: Metadata | PodMetadata) -> Outcome:
    minutes = int(case.age(meta.deletion_timestamp).total_seconds() // 60)
    held = f"; finalizers: {', '.join(meta.finalizers)}" if meta.finalizers else ""
    return failed(
        f"it is being deleted for {minutes} minutes{held}", _release(case, kind, meta.finalizers)
    )


def _release(case: ClusterCase, kind: str, finalizers: Iterable[str]) -> str:
    if any("confidentialcontainers.org" in item for item in finalizers):
        alive = any(item.release.version for item in case.installers)
        if alive:
            return (
                "Its operator takes the finalizer away when every node is cleaned up: a node that "
                "is NotReady holds it up. `kubectl get nodes`, and `kubectl -n "
                "confidential-containers-system logs deployment/cc-operator-controller-manager`."
            )
        return (
            "Its operator is gone, and only it takes the finalizer away: install the same version "
            "of the operator again and let it finish. Removing the finalizer by hand leaves "
            "Kata on the nodes."
        )
    if kind == "Namespace":
        return (
            "See what is left in it: `kubectl get namespace NAME -o yaml` tells in "
            "status.conditions; an object there has a finalizer whose owner is gone, or an "
            "APIService does not answer."
        )
    if kind == "Pod":
        return (
            "Its node does not answer, or the VM does not end: `kubectl get nodes`, and on the "
            "node `crictl pods`, `ps -C qemu-system-x86_64`. Deleting it with --force leaves a VM "
            "that goes on holding the GPU."
        )
    return "See who holds it: `kubectl describe` it, and see that the owner of its finalizer runs."
