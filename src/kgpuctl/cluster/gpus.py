"""What objects say about GPUs: which nodes have some, which pods hold some."""

from collections.abc import Mapping

from kgpuctl.cluster.objects import Node, Pod
from kgpuctl.names import (
    CONTAINER_RESOURCES,
    GPU_PRESENT_LABEL,
    GPU_RESOURCE_PREFIX,
    MIG_RESOURCE_PREFIX,
    NFD_GPU_LABELS,
    NO_GPU_WORDS,
    NVSWITCH_RESOURCE,
)


def is_gpu_node(node: Node) -> bool:
    """Whether NFD or the GPU Operator has found an NVIDIA GPU on a node, or it hands any out."""
    labels = node.metadata.labels
    if any(labels.get(key) == "true" for key in (*NFD_GPU_LABELS, GPU_PRESENT_LABEL)):
        return True
    return any(
        name.startswith(GPU_RESOURCE_PREFIX) and str(amount) not in {"0", ""}
        for name, amount in node.status.allocatable.items()
    )


def is_passthrough_resource(name: str) -> bool:
    """Whether a resource stands for whole GPUs that go into VMs."""
    return (
        name.startswith(GPU_RESOURCE_PREFIX)
        and name != NVSWITCH_RESOURCE
        and not is_container_resource(name)
        and NO_GPU_WORDS.isdisjoint(name.removeprefix(GPU_RESOURCE_PREFIX).split("_"))
    )


def is_container_resource(name: str) -> bool:
    """Whether a resource stands for GPUs, or parts of them, that go into containers."""
    return name in CONTAINER_RESOURCES or name.startswith(MIG_RESOURCE_PREFIX)


def is_ready(node: Node) -> bool:
    """Whether the kubelet of a node reports that it is ready."""
    return any(item.type == "Ready" and item.status == "True" for item in node.status.conditions)


def count(quantity: str | int) -> int:
    """Return an amount of devices: whole numbers, as device plugins give them."""
    text = str(quantity)
    return int(text) if text.isdecimal() else 0


def asked_of(pod: Pod) -> Mapping[str, int]:
    """Return how many of each of NVIDIA's resources a pod holds."""
    held: dict[str, int] = {}
    for container in pod.spec.containers:
        wanted = {**container.resources.requests, **container.resources.limits}
        for name, amount in wanted.items():
            if name.startswith(GPU_RESOURCE_PREFIX):
                held[name] = held.get(name, 0) + count(amount)
    for container in pod.spec.init_containers:
        for name, amount in container.resources.limits.items():
            if name.startswith(GPU_RESOURCE_PREFIX):
                held[name] = max(held.get(name, 0), count(amount))
    return held


def is_over(pod: Pod) -> bool:
    """Whether a pod has ended, and holds nothing any more."""
    return pod.status.phase in {"Succeeded", "Failed"}
