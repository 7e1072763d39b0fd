"""The GPU Operator's operands on the targets: there, ready, and of a version that works."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from kgpuctl.catalog import Defect, Severity, TakesKataBy, When
from kgpuctl.checks.check import Outcome, check_all, failed, passed, skipped, warned
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.stuck import SETTLING, Refusal, Trouble, refusal_of, trouble
from kgpuctl.checks.verify.gpus import passthrough_resources
from kgpuctl.checks.verify.nodes import expected_operands, has_host_driver
from kgpuctl.checks.verify.places import operator_home
from kgpuctl.checks.verify.platform import is_down
from kgpuctl.cluster.objects import DaemonSet, Node, Pod
from kgpuctl.names import CC_STATE_LABEL, DEPLOY_PREFIX
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
_CC_CAPABLE: Final = "nvidia.com/cc.capable"
_PODS_TOLD: Final = 3


def is_expected(case: ClusterCase, node: Node, operand: str) -> bool:
    """Whether the operator has chosen an operand for a node."""
    labels = node.metadata.labels
    needs_cc = operand == "cc-manager" and case.takes_kata_by is TakesKataBy.KATA_MANAGER
    return labels.get(f"{DEPLOY_PREFIX}{operand}") == "true" and (
        not needs_cc or labels.get(_CC_CAPABLE) == "true"
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
    yield from judge_operands(case)


def judge_operands(case: ClusterCase) -> Iterator[Outcome]:
    """Judge each operand that belongs on the targets, but where another check knows the cause."""
    up = frozenset(
        name
        for name, node in case.targets.items()
        if not is_down(node) and not has_host_driver(node)
    )
    for operand in expected_operands(case):
        name = DAEMON_SETS[operand]
        item = case.daemon_sets.get(name)
        nodes = frozenset(it for it in up if is_expected(case, case.targets[it], operand))
        if item is not None and nodes:
            yield _judge(case, item, operand, nodes).about(name)
        elif item is None and up and does_without(case, operand):
            yield passed("not wanted, and the nodes hand out GPUs without it").about(name)
        elif item is None and up:
            yield _missing(case, operand).about(name)


def does_without(case: ClusterCase, operand: str) -> bool:
    """Whether an operand is switched off, and something else does its work."""
    return _is_off(case, operand) and all(
        any(passthrough_resources(node).values()) for node in case.targets.values()
    )


def _is_off(case: ClusterCase, operand: str) -> bool:
    if case.policy is None:
        return False
    spec = case.policy.spec
    wanted = {
        "vfio-manager": spec.vfio_manager,
        "sandbox-device-plugin": spec.sandbox_device_plugin,
        "kata-sandbox-device-plugin": spec.kata_sandbox_device_plugin,
    }.get(operand)
    return wanted is not None and wanted.enabled is False


def _missing(case: ClusterCase, operand: str) -> Outcome:
    space, name = operator_home(case), DAEMON_SETS[operand]
    what = f"there is no DaemonSet {name} in namespace {space}"
    if _is_off(case, operand):
        head, *rest = operand.split("-")
        key = head + "".join(word.capitalize() for word in rest)
        return failed(
            f"{what}: {key}.enabled is false in the ClusterPolicy",
            f"Set `{key}.enabled=true` in the values of the GPU Operator.",
        )
    return failed(
        what,
        f"See the operator's log: `kubectl -n {space} logs deployment/gpu-operator --tail=200`; "
        "it makes the DaemonSets once it has found a GPU node.",
    )


def _judge(case: ClusterCase, item: DaemonSet, operand: str, nodes: frozenset[str]) -> Outcome:
    meta = item.metadata
    pods = {
        pod.spec.node_name: pod
        for pod in sorted(case.pods_of.get(meta.full_name, ()), key=is_ready)
        if pod.spec.node_name in nodes
    }
    broken = [pod for _, pod in sorted(pods.items()) if not is_ready(pod)]
    absent = sorted(nodes - pods.keys())
    if broken or absent:
        ready = f"ready on {len(pods) - len(broken)} of {len(nodes)} targets"
        found = [it for pod in broken if (it := trouble(case, pod))]
        if not found and not absent and _is_restarting(case, operand, broken):
            where = _some([pod.spec.node_name for pod in broken])
            return warned(f"{ready}; restarting on {where}", _remedy(item, broken))
        return _not_running(case, item, _Seen(ready, broken, absent, found))
    if item.status.observed_generation < meta.generation:
        return warned(
            f"{len(pods)} of {len(nodes)} targets, and its last change is not rolled out yet",
            f"Follow it: `kubectl -n {meta.namespace} rollout status daemonset/{meta.name}`.",
        )
    return passed(f"{len(pods)} of {len(nodes)} targets")


class _Seen(NamedTuple):
    """What is seen of an operand that does not run on every target."""

    ready: str
    broken: list[Pod]
    absent: list[str]
    found: list[Trouble]


def _not_running(case: ClusterCase, item: DaemonSet, seen: _Seen) -> Outcome:
    meta, found = item.metadata, seen.found
    refused = refusal_of(case, "DaemonSet", meta.full_name) if seen.absent else None
    told = [seen.ready, *_absent(case, seen.absent, refused), *_troubles(case, found)]
    quiet = {pod.spec.node_name for pod in seen.broken} - {it.pod.spec.node_name for it in found}
    if quiet:
        told.append(f"starting on {_some(sorted(quiet))}")
    defect = _known_defect(case, item) if found and found[0].is_vague else None
    if defect:
        return failed("; ".join((*told, defect.what)), defect.to_do)
    if found:
        return failed("; ".join(told), found[0].remedy(case))
    if refused and refused.explanation:
        remedy = refused.explanation.remedy_for(namespace=meta.namespace)
        return failed("; ".join(told), remedy)
    return failed("; ".join(told), _remedy(item, seen.broken))


def _known_defect(case: ClusterCase, item: DaemonSet) -> Defect | None:
    """Return why an image is known not to start; its pods alone may not say so."""
    return next(
        (
            defect
            for container in item.spec.template.spec.containers
            for defect in case.catalog.image_defects(container.image)
            if defect.severity is Severity.FAILS and defect.when is When.INSTALL
        ),
        None,
    )


def _absent(case: ClusterCase, nodes: list[str], refused: Refusal | None) -> Iterator[str]:
    if not nodes:
        return
    if refused:
        cause = f". {refused.explanation.cause}" if refused.explanation else ""
        yield f"no pod on {_some(nodes)}: {refused.event.message}{cause}"
        return
    taints = dict.fromkeys(str(taint) for name in nodes for taint in case.targets[name].spec.taints)
    yield f"no pod on {_some(nodes)}" + (f" (taints: {', '.join(taints)})" if taints else "")


def _troubles(case: ClusterCase, found: list[Trouble]) -> Iterator[str]:
    """Tell each kind of trouble once, with the nodes that have it."""
    kinds: dict[str, list[Trouble]] = {}
    for item in found:
        kinds.setdefault(item.kind, []).append(item)
    for same in kinds.values():
        yield f"on {_some([it.pod.spec.node_name for it in same])}: {same[0].message(case)}"


def _is_restarting(case: ClusterCase, operand: str, pods: list[Pod]) -> bool:
    """Whether pods are only being replaced, on nodes where all works in the meantime.

    Where a node hands out GPUs, an earlier pod has done its work. kata-manager takes its handlers
    away when it ends, and cc-manager has to tell the mode first.
    """
    nodes = [case.targets[pod.spec.node_name] for pod in pods]
    return (
        operand != "kata-manager"
        and all(case.age(pod.metadata.creation_timestamp) <= SETTLING for pod in pods)
        and all(any(passthrough_resources(node).values()) for node in nodes)
        and all(operand != "cc-manager" or CC_STATE_LABEL in it.metadata.labels for it in nodes)
    )


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


def answered(case: ClusterCase, node: Node, operands: tuple[str, ...]) -> Outcome | None:
    """Name the check that tells already why a node lacks what these operands do; None if none."""
    if is_down(node):
        return skipped("follows from verify.platform")
    home = operator_home(case)
    ready = {
        owner.name
        for pod in case.pods_on.get(node.metadata.name, ())
        if is_ready(pod) and pod.metadata.namespace == home and (owner := pod.metadata.controller)
    }
    for operand in expected_operands(case):
        wanted = operand in operands and is_expected(case, node, operand)
        if wanted and DAEMON_SETS[operand] not in ready:
            return skipped("follows from verify.operands")
    return None
