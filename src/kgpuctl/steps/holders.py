"""The pods that hold GPUs of nodes, and which of them eviction can move."""

from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from kgpuctl.cluster.deadline import side_by_side
from kgpuctl.cluster.gpus import asked_of, is_over
from kgpuctl.cluster.objects import Pod
from kgpuctl.cluster.resources import PODS
from kgpuctl.steps.step import Cluster

# Up to so many nodes are asked about one by one: the API server finds a node's pods at once.
_ONE_BY_ONE: Final = 32
_NOT_OVER: Final = "status.phase!=Succeeded,status.phase!=Failed"
_PAGE: Final = 2000


class Holder(NamedTuple):
    """A pod that holds GPUs of a node. `owner` is the kind of what would make it again."""

    namespace: str
    name: str
    uid: str
    node: str
    holds: tuple[tuple[str, int], ...]
    owner: str = ""
    is_static: bool = False
    is_ending: bool = False

    def __str__(self) -> str:
        held = ", ".join(f"{name}: {count}" for name, count in self.holds)
        return f"{self.namespace}/{self.name} ({held})"

    @property
    def obstacle(self) -> str:
        """Say why eviction cannot take it off the node for good; empty where it can."""
        if self.is_static:
            return "is a static pod, which only its node can end"
        if self.owner == "DaemonSet":
            return "belongs to a DaemonSet, which makes it again on the same node"
        if not self.owner and not self.is_ending:
            return "has no controller: nothing would make it again elsewhere"
        return ""


def holder(pod: Pod) -> Holder | None:
    """Return a pod as a holder of GPUs, or None where it holds none."""
    held = sorted((name, count) for name, count in asked_of(pod).items() if count)
    if not held or is_over(pod) or not pod.spec.node_name:
        return None
    meta = pod.metadata
    return Holder(
        meta.namespace,
        meta.name,
        meta.uid,
        pod.spec.node_name,
        tuple(held),
        meta.controller.kind if meta.controller else "",
        is_static=bool(meta.annotations.mirror),
        is_ending=meta.deletion_timestamp is not None,
    )


def holders_on(cluster: Cluster, node: str) -> tuple[Holder, ...]:
    """Return the pods that hold GPUs of one node."""
    fields = f"spec.nodeName={node},{_NOT_OVER}"
    return cluster.list(PODS, Pod, holder, fields=fields).items


def find_holders(cluster: Cluster, nodes: Collection[str]) -> Mapping[str, tuple[Holder, ...]]:
    """Return the pods that hold GPUs of these nodes, by node."""
    if len(nodes) <= _ONE_BY_ONE:
        found = side_by_side([_asking(cluster, node) for node in nodes])
        return {node: pods for node, pods in zip(nodes, found, strict=True) if pods}
    wanted = frozenset(nodes)

    def keep(pod: Pod) -> Holder | None:
        return holder(pod) if pod.spec.node_name in wanted else None

    held: dict[str, tuple[Holder, ...]] = {}
    for one in cluster.list(PODS, Pod, keep, fields=_NOT_OVER, limit=_PAGE).items:
        held[one.node] = (*held.get(one.node, ()), one)
    return held


def _asking(cluster: Cluster, node: str) -> Callable[[], tuple[Holder, ...]]:
    return lambda: holders_on(cluster, node)
