"""Operands that can be Ready and do no good: kata-manager, and some device plugins."""

from typing import Final

from kgpuctl.catalog import Defect, Severity, TakesKataBy, parse_version
from kgpuctl.checks.check import Outcome, check, check_each, failed, known, passed, skipped, warned
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.recognise import tag
from kgpuctl.checks.verify.nodes import expected_operands
from kgpuctl.checks.verify.operands import (
    DAEMON_SETS,
    DEVICE_PLUGINS,
    answered,
    does_without,
)
from kgpuctl.checks.verify.places import operator_home
from kgpuctl.cluster.objects import Node
from kgpuctl.unread import Reason, Unread

_DONE: Final = "successfully restarted"  # kata-manager's last words before it waits
_NO_VERSION: Final = (0, 0, 0)
_BOTH_NAMES: Final = (0, 2, 4)  # from here on kata-manager writes CDI devices as N and as vfioN
# Known of whole versions, but only with other hardware, or shown by other checks.
_NOT_HERE: Final = frozenset({"variant-driver-skipped"})

_SEE_KUBELET: Final = "See that the node is Ready and that the API server reaches its kubelet."


@check_each(
    "verify.kata-manager-done",
    "kata-manager has set up the node",
    ClusterCase.each_target,
    none="there is no target node",
    requires=(
        "verify.gpu-operator",
        "verify.cluster-policy",
        "verify.sandbox-mode",
        "verify.platform",
        "verify.operand-labels",
    ),
)
def kata_manager_done(case: ClusterCase, node: Node) -> Outcome:
    """Its pod is Ready before it has done anything."""
    if case.takes_kata_by is not TakesKataBy.KATA_MANAGER:
        return skipped("this stack has no kata-manager")
    if case.policy is not None and not case.policy.spec.kata_manager.config.runtime_classes:
        return skipped("kata-manager has no RuntimeClass to set up")
    wanted = {item.handler for item in case.gpu_classes}
    if any(item.name in wanted for item in node.status.runtime_handlers or ()):
        return passed("the node's container runtime has loaded its handler")
    return answered(case, node, ("kata-manager",)) or _by_its_log(case, node.metadata.name)


def _by_its_log(case: ClusterCase, node: str) -> Outcome:
    home = operator_home(case)
    known(case.cluster.logs)
    pods = [
        pod
        for pod in case.pods_of.get(f"{home}/{DAEMON_SETS['kata-manager']}", ())
        if pod.spec.node_name == node
    ]
    logs = [log for pod in pods for log in case.logs_of.get(pod.metadata.full_name, ())]
    if not logs:
        return skipped("neither its log nor the node's handlers are to be seen")
    if any(_DONE in log.text for log in logs if not log.previous):
        return passed(f"its log says {_DONE!r}")
    for log in logs:
        if log.unread and not log.previous:
            known(Unread("pods/log", Reason.UNUSABLE, log.unread, _SEE_KUBELET))
    return failed(
        "its pod is Ready, but its log does not say that the container runtime was restarted: "
        "it has not set up the handlers yet, or cannot",
        f"Read it: `kubectl -n {home} logs {pods[0].metadata.name}`; it downloads the guest's "
        "artifacts first, which takes minutes and needs the registry.",
    )


@check(
    "verify.device-plugin",
    "The device plugin is of a version that works",
    requires=("verify.gpu-operator", "verify.cluster-policy", "verify.sandbox-mode"),
)
def device_plugin(case: ClusterCase) -> Outcome:
    """Some versions hand a GPU out in a way that no VM can take it."""
    wanted = set(expected_operands(case)) if case.operator else set()
    operand = next((it for it in DEVICE_PLUGINS if it in wanted), "")
    item = case.daemon_sets.get(DAEMON_SETS[operand]) if operand else None
    if item is None:
        is_missing = operand and case.targets and not does_without(case, operand)
        why = "follows from verify.operands" if is_missing else "there is no device plugin for VMs"
        return skipped(why)
    images = [container.image for container in item.spec.template.spec.containers]
    defects = [
        defect
        for image in images
        for defect in case.catalog.image_defects(image)
        if defect.id not in _NOT_HERE and not _is_answered(case, defect)
    ]
    works = item.status.number_ready >= max(item.status.desired_number_scheduled, 1)
    told = ", ".join(image.rpartition("/")[2] for image in images)
    for defect in defects:
        if defect.severity is Severity.WARNS:
            return warned(f"{told}: {defect.what}", defect.to_do)
        if defect.id == "device-plugin-glibc":
            if works:
                continue  # it does not start, says the catalogue; here it runs
            return skipped("follows from verify.operands")
        if defect.id == "gfd-pod-takes-a-gpu":
            return warned(f"{told}: {defect.what}", defect.to_do)
        return failed(f"{told}: {defect.what}", defect.to_do)
    return passed(told)


def _is_answered(case: ClusterCase, defect: Defect) -> bool:
    """Whether another part makes up for a defect: newer kata-managers know both kinds of names."""
    manager = case.daemon_sets.get(DAEMON_SETS["kata-manager"])
    if defect.id != "device-plugin-cdi-names" or manager is None:
        return False
    images = (container.image for container in manager.spec.template.spec.containers)
    return any((parse_version(tag(image)) or _NO_VERSION) >= _BOTH_NAMES for image in images)
