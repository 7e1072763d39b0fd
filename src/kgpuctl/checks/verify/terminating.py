"""Objects that are being deleted and do not go away: which, whose they are, and what is safe."""

import datetime as dt
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeVar

from kgpuctl.checks import recognise
from kgpuctl.checks.check import Outcome, check_all, failed, known, skipped
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.cluster.keep import is_stack_pod, requests_gpu
from kgpuctl.cluster.objects import Metadata, Namespace, Pod, PodMetadata
from kgpuctl.cluster.snapshot import ClusterSnapshot
from kgpuctl.names import CRD_GROUPS, GPU_HANDLER_MARK
from kgpuctl.unread import Reason, Unread

T = TypeVar("T")

# Deleting takes its time: kata-deploy's pods have ten minutes to clean up their node.
_DELETING: Final = dt.timedelta(minutes=12)
_HOMES: Final = frozenset(
    {"gpu-operator", "kata-system", "confidential-containers-system", "coco-system"}
)
_COCO: Final = "confidentialcontainers.org"


class _Deleted(NamedTuple):
    kind: str
    meta: Metadata | PodMetadata
    held_by: str = ""  # in its own words, where it has any


@check_all(
    "verify.terminating",
    "Nothing of the stack is stuck while it is being deleted",
)
def terminating(case: ClusterCase) -> Iterator[Outcome]:
    """A finalizer waits for its owner; where that is gone, the object stays for ever."""
    found = [
        _stuck(case, item).about(f"{item.kind} {item.meta.full_name}")
        for item in _deleted(case)
        if case.age(item.meta.deletion_timestamp) >= _DELETING
    ]
    yield from found or [_none(case.cluster)]


def _none(cluster: ClusterSnapshot) -> Outcome:
    """Say that nothing is; end as unknown where something could be, in a list that is not read."""
    facts: tuple[tuple[object, ...] | Unread, ...] = (
        cluster.cc_runtimes,
        cluster.cluster_policies,
        cluster.crds,
        cluster.namespaces,
        cluster.daemon_sets,
        cluster.pods,
    )
    unread = [fact for fact in facts if isinstance(fact, Unread)]
    for fact in unread:
        if fact.reason is not Reason.NOT_RECORDED:
            known(fact)
    left_out = f"; not recorded: {', '.join(fact.path for fact in unread)}" if unread else ""
    return skipped(f"nothing is being deleted{left_out}")


def _deleted(case: ClusterCase) -> Iterator[_Deleted]:
    homes = _homes(case)
    return (
        item
        for item in _all(case.cluster)
        if item.meta.deletion_timestamp is not None and _concerns(item, homes)
    )


def _all(cluster: ClusterSnapshot) -> Iterator[_Deleted]:
    for runtime in _seen(cluster.cc_runtimes):
        yield _Deleted("CcRuntime", runtime.metadata)
    for policy in _seen(cluster.cluster_policies):
        yield _Deleted("ClusterPolicy", policy.metadata)
    for crd in _seen(cluster.crds):
        yield _Deleted("CustomResourceDefinition", crd.metadata)
    for namespace in _seen(cluster.namespaces):
        yield _Deleted("Namespace", namespace.metadata, _remaining(namespace))
    for daemon_set in _seen(cluster.daemon_sets):
        yield _Deleted("DaemonSet", daemon_set.metadata)
    for pod in _seen(cluster.pods):
        if _is_ours(pod):
            yield _Deleted("Pod", pod.metadata)


def _seen(fact: tuple[T, ...] | Unread) -> tuple[T, ...]:
    return () if isinstance(fact, Unread) else fact


def _is_ours(pod: Pod) -> bool:
    """Whether a pod is of the stack or has a GPU; other VMs are none of our business."""
    if is_stack_pod(pod) or GPU_HANDLER_MARK in pod.spec.runtime_class_name:
        return True
    return any(map(requests_gpu, (*pod.spec.containers, *pod.spec.init_containers)))


def _remaining(namespace: Namespace) -> str:
    """Return what a namespace says of why it is still there."""
    told = namespace.status.conditions
    return "; ".join(item.message for item in told if item.status == "True" and item.message)


def _homes(case: ClusterCase) -> frozenset[str]:
    """Return the namespaces of the stack, as far as its parts are known."""
    deployments, sets = case.cluster.deployments, case.cluster.daemon_sets
    found = set(_HOMES)
    if not isinstance(deployments, Unread):
        found |= {item.namespace for item in recognise.gpu_operators(case.cluster)}
    if not isinstance(sets, Unread):
        found |= {item.metadata.namespace for item in sets if _installs_kata(item.metadata.name)}
    return frozenset(found)


def _installs_kata(name: str) -> bool:
    return name.startswith("kata-deploy") or "kata-as-coco-runtime" in name


def _concerns(item: _Deleted, homes: frozenset[str]) -> bool:
    """Whether it belongs to a stack; other people's namespaces are none of our business."""
    if item.kind == "Namespace":
        return item.meta.name in homes
    if item.kind == "DaemonSet":
        return item.meta.namespace in homes
    if item.kind == "CustomResourceDefinition":
        return any(item.meta.name.endswith(f".{group}") for group in CRD_GROUPS)
    return True


def _stuck(case: ClusterCase, item: _Deleted) -> Outcome:
    minutes = int(case.age(item.meta.deletion_timestamp).total_seconds() // 60)
    held = f"; finalizers: {', '.join(item.meta.finalizers)}" if item.meta.finalizers else ""
    words = f"; it says: {item.held_by}" if item.held_by else ""
    return failed(f"it is being deleted for {minutes} minutes{held}{words}", _release(case, item))


def _release(case: ClusterCase, item: _Deleted) -> str:
    name = item.meta.name
    if item.kind == "CcRuntime" and any(_COCO in it for it in item.meta.finalizers):
        return _release_runtime(case, name)
    if item.kind == "Namespace":
        return (
            f"See what is left in it: `kubectl get namespace {name} -o yaml` tells in "
            "status.conditions; an object there has a finalizer whose owner is gone, or an "
            "APIService does not answer."
        )
    if item.kind == "CustomResourceDefinition":
        return (
            f"It goes when its last object is gone: `kubectl get {name}` lists them, and what "
            "holds each stands in its metadata.finalizers."
        )
    if item.kind == "Pod":
        return (
            "Its node does not answer, or the VM does not end: `kubectl get nodes`, and on the "
            "node `crictl pods`, `ps -C qemu-system-x86_64`. Deleting it with --force leaves a VM "
            "that goes on holding the GPU."
        )
    space = f"-n {item.meta.namespace} " if item.meta.namespace else ""
    return (
        f"See who holds it: `kubectl {space}get {item.kind.lower()} {name} -o "
        "jsonpath='{.metadata.finalizers}'`, and that the owner of that finalizer runs."
    )


def _release_runtime(case: ClusterCase, name: str) -> str:
    deployments = case.cluster.deployments
    manager = None if isinstance(deployments, Unread) else recognise.coco_manager(case.cluster)
    if isinstance(deployments, Unread) or (manager and manager.status.available_replicas):
        space = manager.metadata.namespace if manager else recognise.COCO_NAMESPACE
        return (
            "Its operator takes the finalizer away when every node is cleaned up: a node that is "
            f"NotReady holds it up. `kubectl get nodes`, and `kubectl -n {space} logs "
            f"deployment/{recognise.COCO_MANAGER} -c manager --tail=50`."
        )
    return (
        "Its operator does not run, and only that takes the finalizer away: install the same "
        "version of the operator again and let it finish. Only as a last resort, for it leaves "
        f"Kata on the nodes: `kubectl patch ccruntime {name} --type=merge -p "
        '\'{"metadata":{"finalizers":[]}}\'`.'
    )
