"""The target nodes: found by NFD, labelled right, and with the operands that belong there."""

import re
from collections.abc import Iterator
from typing import Final

from kgpuctl.catalog import KataProvider, TakesKataBy
from kgpuctl.checks.check import (
    Outcome,
    check_all,
    check_each,
    failed,
    known,
    passed,
    skipped,
    warned,
)
from kgpuctl.checks.cluster_case import WORKLOADS, ClusterCase
from kgpuctl.checks.verify.gpus import passthrough_resources
from kgpuctl.checks.verify.places import operator_home
from kgpuctl.checks.verify.policy import is_empty
from kgpuctl.cluster.gpus import count, is_gpu_node
from kgpuctl.cluster.objects import KubeletSettings, Node
from kgpuctl.names import (
    DEPLOY_PREFIX,
    GPU_PRESENT_LABEL,
    GPU_RESOURCE_PREFIX,
    NFD_GPU_LABELS,
    NFD_PREFIX,
    OPERANDS_LABEL,
    WORKLOAD_LABEL,
    Workload,
)
from kgpuctl.report import ONE_SUBJECT, SUBJECT

_POD_RESOURCES_DEFAULT: Final = (1, 34)  # where KubeletPodResourcesGet is on by itself
_DRIVER: Final = f"{DEPLOY_PREFIX}driver"
_TIMEOUT_FLOOR: Final = 600  # seconds
_CONTAINER_OPERANDS: Final = ("driver", "container-toolkit", "device-plugin", "operator-validator")


def expected_operands(case: ClusterCase) -> tuple[str, ...]:
    """Return the operands that belong on a target, by the end of their gpu.deploy label."""
    policy = case.policy
    if case.takes_kata_by is TakesKataBy.MODE_KATA:
        names = ["vfio-manager", "sandbox-validator", "kata-sandbox-device-plugin"]
        if policy is not None and policy.spec.cc_manager.enabled:
            names.append("cc-manager")
        return tuple(names)
    names = ["vfio-manager", "sandbox-validator", "sandbox-device-plugin"]
    if policy is not None and policy.spec.kata_manager.enabled:
        names.append("kata-manager")
    return tuple(names)


@check_all("verify.workload-label", "Nodes are labelled to give their GPUs to VMs")
def workload_label(case: ClusterCase) -> Iterator[Outcome]:
    """The operator takes a mistyped value for the default, and says so in its log only."""
    allowed = ", ".join(item.value for item in Workload)
    for node in known(case.cluster.nodes):
        name, value = node.metadata.name, node.metadata.labels.get(WORKLOAD_LABEL)
        if case.nodes and name not in case.nodes:
            continue
        if value is not None and value not in WORKLOADS:
            yield failed(
                f"{WORKLOAD_LABEL}={value!r} is none of {allowed}: the operator takes the default "
                "for it",
                f"Set it right: `kgpuctl label-nodes {SUBJECT}`.",
            ).about(name)
        elif name in case.targets:
            yield passed(f"{WORKLOAD_LABEL}={value}" if value else "by default").about(name)
        elif case.nodes:
            yield failed(
                f"the node is not to give its GPUs to VMs ({WORKLOAD_LABEL} is "
                f"{value or 'not set'})",
                f"Label it: `kgpuctl label-nodes {SUBJECT}`, or leave it out of --node.",
            ).about(name)
    if not case.targets:
        known(case.cluster.cluster_policies)  # which may say that all nodes with GPUs are meant
        candidates = [node.metadata.name for node in case.gpu_nodes]
        shown = ", ".join(sorted(candidates)[:5]) or "none, as far as the cluster's labels tell"
        yield failed(
            f"no node is to give its GPUs to VMs; nodes with NVIDIA GPUs: {shown}",
            "Choose some: `kgpuctl label-nodes NODE…`, or all: `kgpuctl label-nodes "
            "--all-gpu-nodes`.",
        )


@check_each(
    "verify.nfd",
    "Node-feature-discovery has found the node's GPU",
    ClusterCase.each_target,
    none="there is no target node",
)
def nfd(case: ClusterCase, node: Node) -> Outcome:
    """The operator deploys nothing on a node without NFD's label."""
    labels = node.metadata.labels
    found = next((key for key in NFD_GPU_LABELS if labels.get(key) == "true"), None)
    if found:
        return passed(f"{found}=true")
    if case.operator and is_empty(case.policy):
        return skipped("follows from verify.cluster-policy")
    if any(key.startswith(NFD_PREFIX) for key in labels):
        return failed(
            "node-feature-discovery has labelled the node, and found no NVIDIA GPU on it",
            f"On {SUBJECT}: `lspci -d 10de:`. If the GPU is there, NFD's worker must look at "
            "classes 0300 and 0302 (deviceClassWhitelist) and label by vendor (deviceLabelFields).",
        )
    return failed(
        "node-feature-discovery has not labelled the node",
        "See that its worker runs there: `kubectl get pods -A -o wide | grep "
        "node-feature-discovery-worker`; a taint that it does not tolerate keeps it away.",
    )


@check_each(
    "verify.operand-labels",
    "The GPU Operator has chosen the operands for VMs on the node",
    ClusterCase.each_target,
    none="there is no target node",
    requires=(
        "verify.gpu-operator",
        "verify.cluster-policy",
        "verify.sandbox-mode",
        "verify.nfd",
        "verify.workload-label",
    ),
)
def operand_labels(case: ClusterCase, node: Node) -> Outcome:
    """A value that is already there is left alone, also one that nobody means any more."""
    labels = node.metadata.labels
    if case.operator is None:
        return skipped("follows from verify.gpu-operator")
    if labels.get(OPERANDS_LABEL) == "false":
        return failed(
            f"{OPERANDS_LABEL}=false keeps every operand off the node",
            f"Take it away: `kubectl label node {SUBJECT} {OPERANDS_LABEL}-`.",
        )
    if labels.get(_DRIVER) == "pre-installed":
        return _pre_installed(node)
    wanted = [f"{DEPLOY_PREFIX}{name}" for name in expected_operands(case)]
    found = _held_back(labels, wanted)
    if found:
        return failed(*found)
    missing = [key for key in wanted if labels.get(key) != "true"]
    if missing:
        return failed(*_unlabelled(case, node, missing))
    return passed(f"{len(wanted)} operands")


def has_host_driver(node: Node) -> bool:
    """Whether a driver on the host keeps the GPUs, as the label says that it leaves behind."""
    is_marked = node.metadata.labels.get(_DRIVER) == "pre-installed"
    return is_marked and not any(passthrough_resources(node).values())


def _pre_installed(node: Node) -> Outcome:
    take_away = f"`kubectl label node {SUBJECT} {_DRIVER}-`"
    if not has_host_driver(node):
        return warned(
            f"{_DRIVER}=pre-installed is left from a driver that is gone: the node hands out GPUs "
            "for VMs",
            f"Take it away: {take_away}.",
        )
    return failed(
        f"{_DRIVER}=pre-installed: NVIDIA's driver was found on the host, and vfio-manager leaves "
        "the GPUs to it; the label stays when the driver is gone",
        f"Uninstall the host's driver on {SUBJECT}, reboot, and take the label away: {take_away}.",
    )


def _held_back(labels: dict[str, str], wanted: list[str]) -> tuple[str, str] | None:
    """Return values that the operator finds there and leaves alone, and how to be rid of them."""
    paused = [key for key in wanted if labels.get(key, "").startswith("paused-for-")]
    if paused:
        return (
            f"paused, and nothing takes it back: {_told(paused, labels)}",
            (
                f"If no change of driver or CC mode runs on {SUBJECT} now, set them again: "
                f"`kubectl label --overwrite node {SUBJECT} {_set_true(paused)}`. vfio-manager "
                "takes all GPUs of a node when it starts, also from running VMs: drain them first."
            ),
        )
    stale = [key for key in wanted if labels.get(key) not in {None, "", "true"}]
    if stale:
        return (
            f"the operator leaves these as they are: {_told(stale, labels)}",
            (
                f"Take them away, the operator sets them anew: `kubectl label node {SUBJECT} "
                f"{' '.join(f'{key}-' for key in stale)}`."
            ),
        )
    return None


def _set_true(keys: list[str]) -> str:
    return " ".join(f"{key}=true" for key in keys)


def _told(keys: list[str], labels: dict[str, str]) -> str:
    return ", ".join(f"{key}={labels.get(key, '')}" for key in keys)


def _unlabelled(case: ClusterCase, node: Node, missing: list[str]) -> tuple[str, str]:
    labels = node.metadata.labels
    containers = [
        name for name in _CONTAINER_OPERANDS if labels.get(f"{DEPLOY_PREFIX}{name}") == "true"
    ]
    if containers:
        what = f"it has the operands for containers ({', '.join(containers)}), not those for VMs"
    elif labels.get(GPU_PRESENT_LABEL) != "true":
        what = f"the operator has not found it yet ({GPU_PRESENT_LABEL} is not true)"
    else:
        what = f"labels are missing: {', '.join(missing)}"
    return what, (
        f"See what the operator says of it: `kubectl -n {operator_home(case)} logs "
        f"deployment/gpu-operator --tail=200 | grep -e {ONE_SUBJECT} -e WARN`."
    )


@check_each(
    "verify.kubelet",
    "The kubelet lets Kata see its devices, and waits long enough for a VM",
    ClusterCase.each_target,
    none="there is no target node",
)
def kubelet(case: ClusterCase, node: Node) -> Outcome:
    """Kata asks the kubelet which GPU a pod was given; a big VM takes minutes to start."""
    installer = case.installer
    # The old stack takes the GPU from the pod's annotation.
    by_annotation = installer and installer.provider is KataProvider.COCO_OPERATOR
    return judge_kubelet(case, node, with_gate=installer is not None and not by_annotation)


def judge_kubelet(case: ClusterCase, node: Node, *, with_gate: bool) -> Outcome:
    """Judge a kubelet's configuration; `with_gate`: Kata will ask it for the devices of a pod."""
    found = case.cluster.kubelets.get(node.metadata.name)
    if found is None:
        return skipped("kubelet configurations were not read (--kubelet-config reads them)")
    settings = known(found).kubeletconfig
    if with_gate and not _tells_devices(node, settings):
        return failed(
            "the kubelet's PodResources API does not answer Get: Kata cannot tell which GPU a pod "
            "was given",
            f"On {SUBJECT} set featureGates.KubeletPodResourcesGet: true in the kubelet's "
            "configuration (/var/lib/kubelet/config.yaml), and `systemctl restart kubelet`.",
        )
    seconds = _seconds(settings.runtime_request_timeout)
    if seconds is not None and 0 < seconds < _TIMEOUT_FLOOR:
        return warned(
            f"runtimeRequestTimeout is {settings.runtime_request_timeout}: a VM with big GPUs or "
            "much memory takes longer to start",
            f"On {SUBJECT} set runtimeRequestTimeout: 20m in the kubelet's configuration, and "
            "`systemctl restart kubelet`.",
        )
    return passed(f"runtimeRequestTimeout {settings.runtime_request_timeout or 'not told'}")


def _tells_devices(node: Node, settings: KubeletSettings) -> bool:
    gate = settings.feature_gates.get("KubeletPodResourcesGet")
    if gate is not None:
        return gate
    match = re.match(r"v?(\d+)\.(\d+)", node.status.node_info.kubelet_version)
    return match is None or (int(match[1]), int(match[2])) >= _POD_RESOURCES_DEFAULT


def _seconds(duration: str) -> float | None:
    """Read a duration as Go writes it ("2m0s", "1h", "1m30.5s")."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", duration)
    if not parts or "".join(map("".join, parts)) != duration:
        return None
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(number) * units[unit] for number, unit in parts)


def _others(case: ClusterCase) -> Iterator[tuple[str, Node]]:
    """Yield the nodes with GPUs that are no targets, unless only some nodes are asked about."""
    for node in known(case.cluster.nodes):
        if is_gpu_node(node) and not case.nodes and node.metadata.name not in case.targets:
            yield node.metadata.name, node


@check_each(
    "verify.new-nodes",
    "Every node with an NVIDIA GPU belongs to a stack",
    _others,
    none="all nodes with NVIDIA GPUs are targets",
)
def new_nodes(case: ClusterCase, node: Node) -> Outcome:
    """Nodes that joined later are easily forgotten: neither containers nor VMs get their GPUs."""
    labels = node.metadata.labels
    if any(key.startswith(DEPLOY_PREFIX) and labels[key] == "true" for key in labels):
        return passed(labels.get(WORKLOAD_LABEL, "containers"))
    if labels.get(OPERANDS_LABEL) == "false":
        return passed(f"left out on purpose: {OPERANDS_LABEL}=false")
    handed_out = sorted(
        name
        for name, amount in node.status.allocatable.items()
        if name.startswith(GPU_RESOURCE_PREFIX) and count(amount)
    )
    if handed_out:
        return passed(f"it hands out {', '.join(handed_out)}")
    if case.operator is None:
        return skipped("follows from verify.gpu-operator")
    if is_empty(case.policy):
        return skipped("follows from verify.cluster-policy")
    return warned(
        "it has an NVIDIA GPU, and the GPU Operator has deployed nothing on it",
        f"For VMs: `kgpuctl label-nodes {SUBJECT}`. For containers: see why the operator passes it "
        "over (a taint, NotReady, sandboxWorkloads).",
    )
