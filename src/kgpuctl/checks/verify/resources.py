"""GPUs as a resource: does the node hand them out for VMs, and are any left."""

from collections.abc import Mapping

from kgpuctl.checks.check import Outcome, check_each, failed, known, passed, skipped, warned
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.verify.operands import DEVICE_PLUGINS, unready_operand
from kgpuctl.cluster.gpus import asked_of, count, is_passthrough_resource
from kgpuctl.cluster.objects import Node
from kgpuctl.names import CONTAINER_RESOURCES
from kgpuctl.report import SUBJECT

_PODS_TOLD = 3


def passthrough_resources(node: Node) -> Mapping[str, int]:
    """Return what a node hands out for VMs; the name differs by version, alias and model."""
    return {
        name: count(amount)
        for name, amount in node.status.allocatable.items()
        if is_passthrough_resource(name)
    }


@check_each(
    "verify.passthrough-resource",
    "The node hands out GPUs for VMs",
    ClusterCase.each_target,
    none="there is no target node",
    requires=(
        "verify.gpu-operator",
        "verify.cluster-policy",
        "verify.sandbox-mode",
        "verify.nfd",
        "verify.workload-label",
        "verify.operand-labels",
    ),
)
def passthrough_resource(case: ClusterCase, node: Node) -> Outcome:
    """The ClusterPolicy is ready with not one GPU to be had."""
    found = passthrough_resources(node)
    if any(found.values()):
        return passed(", ".join(f"{name}: {number}" for name, number in sorted(found.items())))
    broken = unready_operand(
        case, node.metadata.name, ("vfio-manager", "sandbox-validator", *DEVICE_PLUGINS)
    )
    if broken:
        return skipped("follows from verify.operands")
    for_containers = [
        name
        for name, amount in node.status.allocatable.items()
        if name.startswith(CONTAINER_RESOURCES) and count(amount)
    ]
    told = f"; it hands out {', '.join(for_containers)} for containers" if for_containers else ""
    look = (
        "vfio-manager's pod runs also when it could not bind a GPU. Read it, and the device "
        "plugin's, on the node: `kubectl -n gpu-operator logs -l name=nvidia-vfio-manager "
        f"--prefix`; on {SUBJECT}: `sudo kgpuctl preflight --after-install` names each GPU's "
        "driver."
    )
    if found:
        names = ", ".join(f"{name}: 0" for name in sorted(found))
        return failed(f"{names}: the device plugin has lost its GPUs{told}", look)
    return failed(f"it hands out no GPU for VMs{told}", look)


@check_each(
    "verify.resource-free",
    "GPUs for VMs are free on the node",
    ClusterCase.each_target,
    none="there is no target node",
    requires=("verify.passthrough-resource",),
)
def resource_free(case: ClusterCase, node: Node) -> Outcome:
    """A new pod waits until one is: that is no fault, and looks like one."""
    known(case.cluster.pods)
    have = passthrough_resources(node)
    if not any(have.values()):
        return skipped("it hands out none")
    used = dict.fromkeys(have, 0)
    holders: dict[str, None] = {}
    for pod in case.pods_on.get(node.metadata.name, ()):
        for name, number in asked_of(pod).items():
            if name in used and number:
                used[name] += number
                holders[pod.metadata.full_name] = None
    free = {name: number - used[name] for name, number in have.items()}
    if any(number > 0 for number in free.values()):
        return passed(", ".join(f"{free[name]} of {have[name]} {name}" for name in sorted(have)))
    told = ", ".join(sorted(holders)[:_PODS_TOLD])
    more = len(holders) - _PODS_TOLD
    return warned(
        f"all {sum(have.values())} are held by {told}" + (f" and {more} more" if more > 0 else ""),
        "A new GPU pod there waits until one of them ends. If none of them should hold it: "
        "`kubectl delete pod -n NAMESPACE NAME`.",
    )
