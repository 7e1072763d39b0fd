"""The nodes that an install would change, before anything is labelled."""

from collections.abc import Iterator, Mapping

from kgpuctl.checks.check import known
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.cluster.gpus import is_gpu_node
from kgpuctl.cluster.objects import Node
from kgpuctl.names import NFD_PREFIX, WORKLOAD_LABEL, Workload


def chosen(case: ClusterCase) -> Mapping[str, Node]:
    """Return the nodes that were named, or else those that are labelled already."""
    if case.nodes:
        nodes = {node.metadata.name: node for node in known(case.cluster.nodes)}
        return {name: nodes[name] for name in case.nodes if name in nodes}
    return case.targets


def candidates(case: ClusterCase) -> Mapping[str, Node]:
    """Return the chosen nodes; where nobody has chosen, all with GPUs that are for nothing else."""
    found = chosen(case)
    if found:
        return found
    other = {Workload.CONTAINER.value, Workload.VM_VGPU.value}
    return {
        node.metadata.name: node
        for node in known(case.cluster.nodes)
        if is_gpu_node(node) and node.metadata.labels.get(WORKLOAD_LABEL) not in other
    }


def each_candidate(case: ClusterCase) -> Iterator[tuple[str, Node]]:
    """Yield the candidates with their names, in the order of the names."""
    yield from sorted(candidates(case).items())


def has_nfd_labels(case: ClusterCase) -> bool:
    """Whether node-feature-discovery has labelled any node: only then the cluster knows of GPUs."""
    return any(
        key.startswith(NFD_PREFIX)
        for node in known(case.cluster.nodes)
        for key in node.metadata.labels
    )
