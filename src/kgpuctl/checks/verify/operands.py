"""The GPU Operator's operands on the targets: there, ready, and of a version that works."""

from collections.abc import Iterator
from typing import Final

from kgpuctl.catalog import Severity, TakesKataBy
from kgpuctl.checks.check import (
    Outcome,
    check,
    check_all,
    check_each,
    failed,
    known,
    passed,
    skipped,
    warned,
)
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.stuck import trouble
from kgpuctl.checks.verify.nodes import expected_operands
from kgpuctl.cluster.objects import DaemonSet, Node, Pod
from kgpuctl.names import DEPLOY_PREFIX
from kgpuctl.report import Remedy

DAEMON_SETS: Final = {
    "vfio-manager": "nvidia-vfio-manager",
    "sandbox-validator": "nvidia-sandbox-validator",
    "sandbox-device-plugin": "nvidia-sandbox-device-plugin-daemonset",
    "kata-sandbox-device-plugin": "nvidia-kata-sandbox-device-plugin-daemonset",
    "kata-manager": "nvidia-kata-manager",
    "cc-manager": "nvidia-cc-manager",
}
DEVICE_PLUGINS: Final = ("kata-sandbox-device-plugin", "sandbox-device-plugin")
_DONE: Final = "successfully restarted"  # kata-manager's last words before it waits
_CC_CAPABLE: Final = "nvidia.com/cc.capable"
_PODS_TOLD: Final = 3
# Known of whole versions, but only with other hardware, or shown by other checks.
_NOT_HERE: Final = frozenset({"variant-driver-skipped"})


def expected_nodes(case: ClusterCase, operand: str) -> frozenset[str]:
    """Return the targets on which the operator has chosen an operand."""
    label = f"{DEPLOY_PREFIX}{operand}"
    needs_cc = operand == "cc-manager" and case.takes_kata_by is TakesKataBy.KATA_MANAGER
    return frozenset(
        name
        for name, node in case.targets.items()
        if node.metadata.labels.get(label) == "true"
        and (not needs_cc or node.metadata.labels.get(_CC_CAPABLE) == "true")
    )


def is_ready(pod: Pod) -> bool:
    """Whether a pod says that it is ready, and stays."""
    return pod.metadata.deletion_timestamp is None and any(
        item.type == "Ready" and item.status == "True" for item in pod.status.conditions
    )


@check_all(
    "verify.operands",
    "The operands run on every target",
    none="no operand belongs on a target",
    requires=("verify.gpu-operator", "verify.cluster-policy", "verify.sandbox-mode"),
)
def operands(case: ClusterCase) -> Iterator[Outcome]:
    """A DaemonSet that selects no node counts as ready for the ClusterPolicy."""
    if case.operator is None:
        yield skipped("follows from verify.gpu-operator")
        return
    for operand in expected_operands(case):
        name = DAEMON_SETS[operand]
        nodes = expected_nodes(case, operand)
        item = case.daemon_sets.get(name)
        if item is None and case.targets:
            yield _missing(case, name).about(name)
        elif item is not None and nodes:
            yield _judge(case, item, nodes).about(name)


def _missing(case: ClusterCase, name: str) -> Outcome:
    space = case.operator.namespace if case.operator else "gpu-operator"
    return failed(
        f"there is no DaemonSet {name} in namespace {space}",
        f"See the operator's log: `kubectl -n {space} logs deployment/gpu-operator --tail=200`; "
        "it makes the DaemonSets once it has found a GPU node.",
    )


def _judge(case: ClusterCase, item: DaemonSet, nodes: frozenset[str]) -> Outcome:
    meta, status = item.metadata, item.status
    space, wanted = meta.namespace, len(nodes)
    pods = {
        pod.spec.node_name: pod
        for pod in sorted(case.pods_of.get(meta.full_name, ()), key=is_ready)
        if pod.spec.node_name in nodes
    }
    broken = [pod for pod in pods.values() if not is_ready(pod)]
    found = [it for pod in broken if (it := trouble(case, pod))]
    absent = sorted(nodes - pods.keys())
    if not broken and not absent:
        if status.observed_generation < meta.generation:
            return failed(
                "its last change is not rolled out yet",
                f"Wait for it: `kubectl -n {space} rollout status daemonset/{meta.name}`.",
            )
        return passed(f"{len(pods)} of {wanted} targets")
    ready = len(pods) - len(broken)
    told = [f"ready on {ready} of {wanted} targets"]
    if absent:
        told.append(f"no pod on {_some(absent)}")
    remedy = _remedy(item, broken)
    if found:
        first = found[0]
        where = first.pod.spec.node_name
        others = [it.pod.spec.node_name for it in found if it.what == first.what][1:]
        told.append(f"on {_some([where, *others])}: {first.message(case)}")
        remedy = first.remedy(case)
    elif broken:
        told.append(f"starting on {_some(sorted(pod.spec.node_name for pod in broken))}")
    return failed("; ".join(told), remedy)


def _some(names: list[str]) -> str:
    more = len(names) - _PODS_TOLD
    return ", ".join(names[:_PODS_TOLD]) + (f" and {more} more" if more > 0 else "")


def _remedy(item: DaemonSet, broken: list[Pod]) -> Remedy:
    space, name = item.metadata.namespace, item.metadata.name
    if broken:
        pod = broken[0].metadata.name
        return Remedy(
            f"Wait a few minutes (`kgpuctl verify --wait`); if it stays so: `kubectl -n {space} "
            f"describe pod {pod}` and `kubectl -n {space} logs {pod} --all-containers`."
        )
    return Remedy(
        f"See what keeps its pods away: `kubectl -n {space} describe daemonset {name}` (taints, "
        "quotas, Pod Security), and that the nodes are Ready and not cordoned."
    )


def unready_operand(case: ClusterCase, node: str, operands: tuple[str, ...]) -> str | None:
    """Return an operand that should run on a node and is not ready; its fault is told elsewhere."""
    home = case.operator.namespace if case.operator else ""
    for operand in operands:
        if node not in expected_nodes(case, operand):
            continue
        name = DAEMON_SETS[operand]
        pods = [p for p in case.pods_of.get(f"{home}/{name}", ()) if p.spec.node_name == node]
        if not any(map(is_ready, pods)):
            return name
    return None


@check_each(
    "verify.kata-manager-done",
    "kata-manager has set up the node",
    ClusterCase.each_target,
    none="there is no target node",
    requires=("verify.gpu-operator", "verify.cluster-policy", "verify.sandbox-mode"),
)
def kata_manager_done(case: ClusterCase, node: Node) -> Outcome:
    """Its pod is Ready before it has done anything."""
    if case.takes_kata_by is not TakesKataBy.KATA_MANAGER:
        return skipped("this stack has no kata-manager")
    name = node.metadata.name
    wanted = {item.handler for item in case.gpu_classes}
    if any(item.name in wanted for item in node.status.runtime_handlers or ()):
        return passed("the node's container runtime has loaded its handler")
    if unready_operand(case, name, ("kata-manager",)):
        return skipped("follows from verify.operands")
    home = case.operator.namespace if case.operator else ""
    known(case.cluster.logs)
    pods = [
        pod
        for pod in case.pods_of.get(f"{home}/{DAEMON_SETS['kata-manager']}", ())
        if pod.spec.node_name == name
    ]
    logs = [log for pod in pods for log in case.logs_of.get(pod.metadata.full_name, ())]
    if not logs:
        return skipped("neither its log nor the node's handlers are to be seen")
    if any(_DONE in log.text for log in logs if not log.previous):
        return passed(f"its log says {_DONE!r}")
    return failed(
        "its pod is Ready, but its log does not say that the container runtime was restarted: "
        "it has not set up the handlers yet, or cannot",
        f"Read it: `kubectl -n {home} logs {pods[0].metadata.name}`; it downloads the guest's "
        "artifacts first, which takes minutes and needs the registry.",
    )


@check(
    "verify.device-plugin",
    "The device plugin is of a version that works",
    requires=("verify.gpu-operator", "verify.sandbox-mode"),
)
def device_plugin(case: ClusterCase) -> Outcome:
    """Some versions hand a GPU out in a way that no VM can take it."""
    wanted = set(expected_operands(case)) if case.operator else set()
    name = next((DAEMON_SETS[it] for it in DEVICE_PLUGINS if it in wanted), "")
    item = case.daemon_sets.get(name)
    if item is None:
        return skipped("there is no device plugin for VMs")
    images = [container.image for container in item.spec.template.spec.containers]
    defects = [
        defect
        for image in images
        for defect in case.catalog.image_defects(image)
        if defect.id not in _NOT_HERE
    ]
    works = item.status.number_ready >= max(item.status.desired_number_scheduled, 1)
    told = ", ".join(image.rpartition("/")[2] for image in images)
    for defect in defects:
        if defect.severity is Severity.WARNS:
            return warned(f"{told}: {defect.what}", defect.to_do)
        if defect.id == "device-plugin-glibc" and works:
            continue  # it does not start, says the catalogue; here it runs
        if defect.id == "gfd-pod-takes-a-gpu":
            return warned(f"{told}: {defect.what}", defect.to_do)
        return failed(f"{told}: {defect.what}", defect.to_do)
    return passed(told)
