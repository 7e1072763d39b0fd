"""RuntimeClasses: is there one for VMs with GPUs, and may its pods run on the targets."""

from collections.abc import Mapping

from kgpuctl.catalog import TakesKataBy
from kgpuctl.checks.check import Outcome, check, check_each, failed, known, passed, skipped
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.verify.gpus import holders_on
from kgpuctl.checks.verify.handlers import advertised
from kgpuctl.checks.verify.operands import answered
from kgpuctl.checks.verify.places import kata_home, operator_home
from kgpuctl.cluster.objects import Node, RuntimeClass
from kgpuctl.names import (
    CC_MODE_LABEL,
    CC_READY_LABEL,
    CC_STATE_LABEL,
    DEPLOY_PREFIX,
    KATA_LABEL,
    KATA_MARKER_PREFIX,
)
from kgpuctl.report import ONE_SUBJECT, SUBJECT

_DOCUMENTED = "kata-qemu-nvidia-gpu"
_PODS_TOLD = 3


@check(
    "verify.runtime-class",
    "There is a RuntimeClass for VMs with GPUs",
    requires=("verify.stack", "verify.sandbox-mode", "verify.kata-installer"),
)
def runtime_class(case: ClusterCase) -> Outcome:
    """Its name differs from version to version, and the documentation names another."""
    found = case.gpu_classes
    asked = f" for {case.confidential.value.upper()}" if case.confidential else ""
    if not found:
        kata = sorted(
            item.metadata.name
            for item in known(case.cluster.runtime_classes)
            if "kata" in item.handler
        )
        have = ", ".join(kata[:6]) + ("…" if len(kata) > 6 else "")  # noqa: PLR2004
        return failed(
            f"there is no RuntimeClass{asked} for VMs with NVIDIA GPUs; "
            f"of Kata's there are {have or 'none'}",
            _make_class(case),
        )
    names = ", ".join(sorted(item.metadata.name for item in found))
    if _DOCUMENTED not in {item.metadata.name for item in found} and not case.confidential:
        return passed(f"the documentation says {_DOCUMENTED}, this cluster has {names}")
    return passed(names)


def _make_class(case: ClusterCase) -> str:
    if case.takes_kata_by is TakesKataBy.KATA_MANAGER:
        return (
            "The operator makes those of kataManager.config.runtimeClasses: see that the chart's "
            f"values list one, and read its log: `kubectl -n {operator_home(case)} logs "
            "deployment/gpu-operator`."
        )
    shim = f"qemu-nvidia-gpu-{case.confidential.value}" if case.confidential else "qemu-nvidia-gpu"
    release = case.installer.release if case.installer else None
    name = release.name if release else "kata-deploy"
    version = f"--version {release.version} " if release and release.version else ""
    return (
        f"Have kata-deploy make it: `helm upgrade {name} "
        f"oci://ghcr.io/kata-containers/kata-deploy-charts/kata-deploy -n {kata_home(case)} "
        f"{version}--reuse-values --set shims.{shim}.enabled=true`."
    )


@check_each(
    "verify.cc-mode",
    "The GPUs are in the confidential-computing mode that was asked for",
    ClusterCase.each_target,
    none="there is no target node",
    requires=(
        "verify.cluster-policy",
        "verify.sandbox-mode",
        "verify.platform",
        "verify.operand-labels",
    ),
)
def cc_mode(case: ClusterCase, node: Node) -> Outcome:
    """From kata-deploy 3.29 on plain GPU pods, too, run only where cc-manager has said its word."""
    labels = node.metadata.labels
    wanted, state = labels.get(CC_MODE_LABEL), labels.get(CC_STATE_LABEL)
    enabled = case.policy is not None and case.policy.spec.cc_manager.enabled
    generation_two = case.takes_kata_by is TakesKataBy.MODE_KATA
    if state == "failed":
        return failed(
            f"cc-manager could not set the mode {wanted or '(default)'}: the GPU or the host does "
            "not support it",
            "Set one that they do: `kubectl label --overwrite node "
            f"{SUBJECT} {CC_MODE_LABEL}=off`; a GPU that hangs between modes needs a power cycle "
            "of the host.",
        )
    if state is None:
        if not enabled or not generation_two:
            return skipped("cc-manager is not enabled")
        if elsewhere := answered(case, node, ("cc-manager",)):
            return elsewhere
        return failed(
            f"cc-manager runs, and has not set {CC_STATE_LABEL} and {CC_READY_LABEL}",
            f"Read its log on the node: `kubectl -n {operator_home(case)} logs "
            "-l name=nvidia-cc-manager --prefix --tail=50`; with GPUs that cannot do confidential "
            "computing the mode must be off: "
            f"`kubectl label --overwrite node {SUBJECT} {CC_MODE_LABEL}=off`.",
        )
    if wanted is not None and generation_two and state != wanted:
        holders = ", ".join(holders_on(case, node.metadata.name)[:_PODS_TOLD])
        return failed(
            f"the mode is {state}, asked for is {wanted}"
            + (f"; GPUs are held by {holders}" if holders else ""),
            "A pod that holds a GPU keeps its mode from changing: delete it, or wait for it "
            f"(`kubectl get pods -A --field-selector spec.nodeName={ONE_SUBJECT}`).",
        )
    return passed(f"mode {state}")


@check_each(
    "verify.runtime-class-nodes",
    "Pods of a RuntimeClass for VMs with GPUs may run on the node",
    ClusterCase.each_target,
    none="there is no target node",
    requires=(
        "verify.runtime-class",
        "verify.platform",
        "verify.node-kata-label",
        "verify.operand-labels",
        "verify.cc-mode",
    ),
)
def runtime_class_nodes(case: ClusterCase, node: Node) -> Outcome:
    """A pod stays Pending for a label of its RuntimeClass that nobody thinks of."""
    labels = node.metadata.labels
    lacking = {item.metadata.name: _lacking(item, labels) for item in case.gpu_classes}
    handlers = {item.metadata.name: item.handler for item in case.gpu_classes}
    fitting = {name: handler for name, handler in handlers.items() if not lacking[name]}
    if fitting:
        return _with_handler(case, node, fitting)
    if elsewhere := answered(case, node, ("cc-manager",)):
        return elsewhere
    name, keys = min(lacking.items(), key=lambda pair: (len(pair[1]), len(pair[0])))
    told = ", ".join(
        f"{key}={value} (the node has {labels[key]!r})"
        if key in labels
        else f"{key}={value} (the node has none)"
        for key, value in keys.items()
    )
    return failed(f"RuntimeClass {name} asks for {told}", _satisfy(case, keys))


def _with_handler(case: ClusterCase, node: Node, fitting: Mapping[str, str]) -> Outcome:
    """Join both halves: the class whose pods may run here is to be the one that can run here."""
    have = advertised(node)
    names = sorted(fitting)
    if have is None or not have & {item.handler for item in case.gpu_classes}:
        return passed(", ".join(names))  # verify.kata-handler tells of it
    able = sorted(name for name, handler in fitting.items() if handler in have)
    if able:
        return passed(", ".join(able))
    other = sorted(it.metadata.name for it in case.gpu_classes if it.handler in have)
    return failed(
        f"pods of {', '.join(names)} may run on the node, which has no handler for it; those of "
        f"{', '.join(other)}, for which it has one, may not",
        f"See which mode its GPUs are in: `kubectl get node {SUBJECT} -L {CC_MODE_LABEL} -L "
        f"{CC_READY_LABEL}`, and have both handlers installed, or the mode set that goes with the "
        "one that is there.",
    )


def _lacking(item: RuntimeClass, labels: Mapping[str, str]) -> Mapping[str, str]:
    selector = item.scheduling.node_selector
    return {key: value for key, value in selector.items() if labels.get(key) != value}


def _satisfy(case: ClusterCase, keys: Mapping[str, str]) -> str:
    if CC_READY_LABEL in keys:
        wanted = "off" if keys[CC_READY_LABEL] == "false" else "on"
        return (
            "cc-manager sets this label, also where no confidential computing is wanted: enable it "
            "(`ccManager.enabled=true`), and ask for the mode: `kubectl label --overwrite node "
            f"{SUBJECT} {CC_MODE_LABEL}={wanted}`."
        )
    if any(key == KATA_LABEL or key.startswith(KATA_MARKER_PREFIX) for key in keys):
        return (
            "kata-deploy sets it when it is done with the node: read its pod there: `kubectl -n "
            f"{kata_home(case)} get pods -o wide --field-selector spec.nodeName={ONE_SUBJECT}`."
        )
    if any(key.startswith(DEPLOY_PREFIX) for key in keys):
        return (
            "The GPU Operator sets it on nodes that give their GPUs to VMs: "
            f"`kubectl -n {operator_home(case)} logs deployment/gpu-operator "
            f"| grep {ONE_SUBJECT}`."
        )
    told = " ".join(f"{key}={value}" for key, value in keys.items())
    return (
        f"See who should set {told}; NFD sets feature labels. By hand: "
        f"`kubectl label node {SUBJECT} {told}`."
    )
