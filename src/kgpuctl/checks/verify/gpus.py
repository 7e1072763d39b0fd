"""GPUs that nodes hand out for VMs: how many there are, who holds them, how many are left."""

from collections.abc import Mapping

from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.cluster.gpus import asked_of, count, is_passthrough_resource
from kgpuctl.cluster.objects import Node


def passthrough_resources(node: Node) -> Mapping[str, int]:
    """Return what a node hands out for VMs; the name differs by version, alias and model."""
    return {
        name: count(amount)
        for name, amount in node.status.allocatable.items()
        if is_passthrough_resource(name)
    }


def holders_on(case: ClusterCase, node: str) -> tuple[str, ...]:
    """Return the pods that hold GPUs for VMs on a node."""
    return tuple(
        sorted(
            pod.metadata.full_name
            for pod in case.pods_on.get(node, ())
            if any(is_passthrough_resource(name) and n for name, n in asked_of(pod).items())
        )
    )


def free_on(case: ClusterCase, node: Node) -> Mapping[str, int]:
    """Return how many GPUs for VMs nobody holds on a node, by resource."""
    free = dict(passthrough_resources(node))
    for pod in case.pods_on.get(node.metadata.name, ()):
        for name, number in asked_of(pod).items():
            if name in free:
                free[name] -= number
    return free
