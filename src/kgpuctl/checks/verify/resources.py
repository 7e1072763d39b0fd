"""GPUs as a resource: does the node hand them out for VMs, and are any left."""

from kgpuctl.checks.check import Outcome, check_each, failed, known, passed, skipped, warned
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.verify.gpus import free_on, holders_on, passthrough_resources
from kgpuctl.checks.verify.operands import DEVICE_PLUGINS, answered
from kgpuctl.checks.verify.places import operator_home
from kgpuctl.cluster.gpus import count, is_container_resource
from kgpuctl.cluster.objects import Node
from kgpuctl.report import SUBJECT

_PODS_TOLD = 3
_HAND_OUT = ("vfio-manager", "sandbox-validator", *DEVICE_PLUGINS)  # what it takes for that


@check_each(
    "verify.passthrough-resource",
    "The node hands out GPUs for VMs",
    ClusterCase.each_target,
    none="there is no target node",
    requires=(
        "verify.gpu-operator",
        "verify.cluster-policy",
        "verify.sandbox-mode",
        "verify.platform",
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
    if elsewhere := answered(case, node, _HAND_OUT):
        return elsewhere
    for_containers = [
        name
        for name, amount in node.status.allocatable.items()
        if is_container_resource(name) and count(amount)
    ]
    told = f"; it hands out {', '.join(for_containers)} for containers" if for_containers else ""
    look = (
        "vfio-manager's pod runs also when it could not bind a GPU. Read it, and the device "
        f"plugin's, on the node: `kubectl -n {operator_home(case)} logs "
        f"-l name=nvidia-vfio-manager --prefix --tail=50`; on {SUBJECT}: `sudo kgpuctl preflight "
        "--after-install` names each GPU's driver."
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
        return answered(case, node, _HAND_OUT) or skipped("it hands out none")
    free = free_on(case, node)
    if any(number > 0 for number in free.values()):
        return passed(", ".join(f"{free[name]} of {have[name]} {name}" for name in sorted(have)))
    holders = holders_on(case, node.metadata.name)
    told = ", ".join(holders[:_PODS_TOLD])
    more = len(holders) - _PODS_TOLD
    return warned(
        f"all {sum(have.values())} are held by {told}" + (f" and {more} more" if more > 0 else ""),
        "A new GPU pod there waits until one of them ends. If none of them should hold it: "
        "`kubectl delete pod -n NAMESPACE NAME`.",
    )
