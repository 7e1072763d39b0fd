"""Which nodes are meant, and whether each has a GPU as far as the cluster tells."""

from dataclasses import dataclass
from typing import Final

from kgpuctl.cluster.failures import ClusterError
from kgpuctl.cluster.gpus import is_gpu_node
from kgpuctl.cluster.resources import NODES
from kgpuctl.errors import UsageError, nearest, shown
from kgpuctl.names import NFD_PREFIX
from kgpuctl.steps.marks import MarkedNode
from kgpuctl.steps.step import Cluster, counted, few

_BAD_REQUEST: Final = 400
_WAYS: Final = "Name nodes, or choose them with --selector or --all-gpu-nodes"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which nodes were asked for: by name, by labels, or all that matter."""

    names: tuple[str, ...] = ()
    selector: str = ""
    every: bool = False

    def check(self) -> None:
        """Refuse more than one way of choosing: it is not clear what they mean together."""
        given = [
            word
            for word, is_given in (
                ("node names", self.names),
                ("--selector", self.selector),
                ("--all-gpu-nodes", self.every),
            )
            if is_given
        ]
        if len(given) > 1:
            raise UsageError(
                f"{' and '.join(given)} cannot be used together.", remedy=f"{_WAYS}: one of them."
            )


@dataclass(frozen=True, slots=True)
class Targets:
    """The nodes that were chosen. `knows_gpus` is False where nothing labels nodes with GPUs."""

    nodes: tuple[MarkedNode, ...]
    knows_gpus: bool

    @property
    def without_gpu(self) -> tuple[MarkedNode, ...]:
        """Return those on which nothing has found a GPU."""
        return tuple(node for node in self.nodes if not is_gpu_node(node))


def choose(cluster: Cluster, selection: Selection, *, restoring: bool) -> Targets:
    """Return the chosen nodes, by name; none only where all are to be restored."""
    selection.check()
    chosen = _list(cluster, selection.selector)
    if selection.selector:
        if not chosen:
            raise UsageError(
                f"No node has labels as --selector {shown(selection.selector)} asks.",
                remedy="`kubectl get nodes --show-labels` shows what they have.",
            )
        everything = chosen if all(map(is_gpu_node, chosen)) else _list(cluster, "")
    else:
        everything = chosen
        chosen = _chosen(everything, selection, restoring=restoring)
    return Targets(chosen, any(map(_is_labelled_by_nfd, everything)))


def _list(cluster: Cluster, selector: str) -> tuple[MarkedNode, ...]:
    try:
        nodes = cluster.list(NODES, MarkedNode, lambda node: node, selector=selector).items
    except ClusterError as error:
        if not selector or error.status != _BAD_REQUEST:
            raise
        raise UsageError(
            f"--selector {shown(selector)} is not one: {error.message}",
            remedy="Write it as kubectl does: key=value,key2!=value,key3.",
        ) from error
    return tuple(sorted(nodes, key=lambda node: node.name))


def _is_labelled_by_nfd(node: MarkedNode) -> bool:
    return any(key.startswith(NFD_PREFIX) for key in node.metadata.labels)


def _chosen(
    nodes: tuple[MarkedNode, ...], selection: Selection, *, restoring: bool
) -> tuple[MarkedNode, ...]:
    if selection.names:
        return _named(nodes, selection.names)
    candidates = [node for node in nodes if (is_marked if restoring else is_gpu_node)(node)]
    names = [node.name for node in candidates]
    if not selection.every:
        what = "labels that kgpuctl set" if restoring else "an NVIDIA GPU"
        known = f"These have {what}: {few(names)}." if names else f"No node is seen to have {what}."
        raise UsageError(f"No node was named. {known}", remedy=f"{_WAYS}.")
    if restoring:
        return tuple(candidates)
    if not any(map(_is_labelled_by_nfd, nodes)):
        _refuse_all_without_nfd(names)
    if not candidates:
        raise UsageError(
            f"None of the {counted(len(nodes), 'node')} is seen to have an NVIDIA GPU.",
            remedy="Look whether NFD runs on the nodes that have one, and sees PCI devices of "
            "vendor 10de.",
        )
    return tuple(candidates)


def _refuse_all_without_nfd(handing_out: list[str]) -> None:
    told = f" GPUs are handed out by {few(handing_out)}." if handing_out else ""
    raise UsageError(
        "Which nodes have GPUs is not known: Node Feature Discovery has labelled none, so "
        f"--all-gpu-nodes could leave some out.{told}",
        remedy="Name the nodes, or choose them with --selector.",
    )


def is_marked(node: MarkedNode) -> bool:
    """Whether kgpuctl has something to take back on a node."""
    return bool(node.metadata.annotations.previous_labels) or node.is_ours_to_uncordon


def _named(nodes: tuple[MarkedNode, ...], names: tuple[str, ...]) -> tuple[MarkedNode, ...]:
    by_name = {node.name: node for node in nodes}
    unknown = [name for name in dict.fromkeys(names) if name not in by_name]
    if unknown:
        told = "; ".join(_unknown(name, by_name) for name in unknown)
        raise UsageError(
            f"There is no node {told}." if len(unknown) == 1 else f"There are no nodes {told}.",
            remedy="`kubectl get nodes` lists them. Nothing was changed.",
        )
    return tuple(by_name[name] for name in sorted(set(names)))


def _unknown(name: str, known: dict[str, MarkedNode]) -> str:
    near = nearest(name, known)
    return f"{shown(name)} ({near[2:]})" if near.startswith("; ") else shown(name)
