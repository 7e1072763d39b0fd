"""The nodes: what NFD, the operator and people write on them, and what machines they are."""

import pytest

from checks.verify.varied import (
    COCO,
    KATA,
    WAITS,
    Variation,
    assert_exactly,
    both_targets,
    crash,
    gone,
    label,
    offers,
    together,
    vary,
)
from clusters import DEPLOY, KATA_LABEL, MARKER, NFD_LABEL, WORKLOAD, Change, Cluster, kubelet, node
from kgpuctl.names import Tee

OPERANDS = {
    KATA: ("vfio-manager", "sandbox-validator", "kata-sandbox-device-plugin", "cc-manager"),
    COCO: ("vfio-manager", "sandbox-validator", "sandbox-device-plugin", "kata-manager"),
}
SETS = {
    "vfio-manager": "nvidia-vfio-manager",
    "sandbox-validator": "nvidia-sandbox-validator",
    "kata-sandbox-device-plugin": "nvidia-kata-sandbox-device-plugin-daemonset",
    "sandbox-device-plugin": "nvidia-sandbox-device-plugin-daemonset",
    "cc-manager": "nvidia-cc-manager",
    "kata-manager": "nvidia-kata-manager",
}
CONTAINER = ("driver", "container-toolkit", "device-plugin", "operator-validator")
LABELS = "failed verify.operand-labels gpu-1"
PLATFORM = "failed verify.platform gpu-1"
ODD_PLATFORM = "warned verify.platform gpu-1"


def held_back(stack: str, value: str | None, *names: str) -> Change:
    """Have labels of operands at another value: then their pods are not on the node."""
    chosen = names or OPERANDS[stack]
    return together(
        *(label("gpu-1", f"{DEPLOY}{name}", value) for name in chosen),
        *(gone(SETS[name], "gpu-1") for name in chosen if name in OPERANDS[stack]),
        offers("gpu-1", {}),
    )


def not_found(stack: str) -> Change:
    """The operator has lost sight of the GPU: labels of operands are gone, present is false."""
    return together(held_back(stack, None), label("gpu-1", "nvidia.com/gpu.present", "false"))


def for_containers(stack: str) -> Change:
    """Have the operands for containers on a node that is labelled for VMs."""
    return together(
        held_back(stack, None),
        *(label("gpu-1", f"{DEPLOY}{name}", "true") for name in CONTAINER),
        offers("gpu-1", {"nvidia.com/gpu": "8"}),
    )


def host_driver(cluster: Cluster) -> None:
    """What driver-manager does where it finds NVIDIA's driver on the host."""
    together(
        label("gpu-1", f"{DEPLOY}driver", "pre-installed"),
        offers("gpu-1", {}),
        crash("nvidia-vfio-manager", "k8s-driver-manager", "", init=True),
        crash("nvidia-sandbox-validator", "vfio-pci-validation", "", init=True),
        WAITS,
    )(cluster)


def mistyped(cluster: Cluster) -> None:
    """The operator takes `kata` for the default, and deploys for containers."""
    cluster.labels("gpu-1")[WORKLOAD] = "kata"


def without_nfd(cluster: Cluster) -> None:
    labels = cluster.labels("gpu-1")
    for key in [key for key in labels if key.startswith("feature.node.kubernetes.io/")]:
        del labels[key]


def condition(status: str, reason: str, message: str, *, cordoned: bool = False) -> Change:
    """Have the node report itself as down."""

    def change(cluster: Cluster) -> None:
        item = cluster.get("Node", "gpu-1")
        told = {"type": "Ready", "status": status, "reason": reason, "message": message}
        item["status"]["conditions"] = [told]
        if cordoned:
            item["spec"]["unschedulable"] = True
        for pod in cluster.all("Pod"):
            if pod["spec"].get("nodeName") == "gpu-1":
                pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]

    return change


def cordoned(cluster: Cluster) -> None:
    item = cluster.get("Node", "gpu-1")
    item["spec"]["unschedulable"] = True
    item["spec"]["taints"] = [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]


def tainted(cluster: Cluster) -> None:
    """A taint that kata-deploy does not tolerate: no pod of it, and nothing is installed."""
    taint = {"key": "dedicated", "value": "ml", "effect": "NoSchedule"}
    cluster.get("Node", "gpu-1")["spec"]["taints"] = [taint]
    gone("kata-deploy", "gpu-1")(cluster)
    for key in (KATA_LABEL, MARKER):
        cluster.labels("gpu-1").pop(key, None)


def architecture(cluster: Cluster) -> None:
    cluster.get("Node", "gpu-1")["status"]["nodeInfo"]["architecture"] = "arm64"


def joined_later(cluster: Cluster) -> None:
    cluster.add(node("gpu-4", {NFD_LABEL: "true"}))


def kubelets(version: str, timeout: str, *, gate: bool | None = None) -> Change:
    """Have the kubelets' configurations read."""

    def change(cluster: Cluster) -> None:
        for name in ("gpu-1", "gpu-2"):
            cluster.get("Node", name)["status"]["nodeInfo"]["kubeletVersion"] = version
            gates = {} if gate is None else {"KubeletPodResourcesGet": gate}
            cluster.add(kubelet(name, gates, timeout))

    return change


NO_GET = ("failed verify.kubelet gpu-1", "failed verify.kubelet gpu-2")
SHORT = ("warned verify.kubelet gpu-1", "warned verify.kubelet gpu-2")
UNLOADED = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady"
NO_CRI = "rpc error: code = Unimplemented desc = unknown service runtime.v1.RuntimeService"

PER_STACK = [
    row
    for stack in (KATA, COCO)
    for row in (
        *vary(
            "a stale label",
            held_back(stack, "false", "vfio-manager"),
            LABELS,
            on=[stack],
            says=["gpu.deploy.vfio-manager=false", "nvidia.com/gpu.deploy.vfio-manager-`"],
        ),
        *vary(
            "paused for a driver upgrade",
            held_back(stack, "paused-for-driver-upgrade"),
            LABELS,
            on=[stack],
            says=["paused", "--overwrite node gpu-1 nvidia.com/gpu.deploy.vfio-manager=true"],
        ),
        *vary(
            "paused for a change of mode",
            held_back(stack, "paused-for-cc-mode-change", "vfio-manager", "sandbox-validator"),
            LABELS,
            on=[stack],
        ),
        *vary(
            "operands=false",
            together(held_back(stack, None), label("gpu-1", f"{DEPLOY}operands", "false")),
            LABELS,
            on=[stack],
            says=["nvidia.com/gpu.deploy.operands-`"],
        ),
        *vary(
            "operands for containers on it",
            for_containers(stack),
            LABELS,
            on=[stack],
            says=["it has the operands for containers (driver, container-toolkit"],
        ),
        *vary(
            "not found by the operator",
            not_found(stack),
            LABELS,
            on=[stack],
            says=["nvidia.com/gpu.present is not true"],
        ),
    )
]


@pytest.mark.parametrize(
    "row",
    [
        *PER_STACK,
        *vary(
            "a mistyped label",
            mistyped,
            "failed verify.workload-label gpu-1",
            says=["'kata' is none of container, vm-passthrough, vm-vgpu", "label-nodes gpu-1"],
        ),
        *vary(
            "NFD does not run there",
            without_nfd,
            "failed verify.nfd gpu-1",
            says=["has not labelled the node", "node-feature-discovery-worker"],
        ),
        *vary(
            "NFD finds no GPU",
            label("gpu-1", NFD_LABEL, None),
            "failed verify.nfd gpu-1",
            says=["found no NVIDIA GPU", "deviceClassWhitelist"],
        ),
        *vary("a driver on the host", host_driver, LABELS, says=["pre-installed", "reboot"]),
        *vary(
            "a label left from a driver",
            label("gpu-1", f"{DEPLOY}driver", "pre-installed"),
            "warned verify.operand-labels gpu-1",
            says=["nvidia.com/gpu.deploy.driver-`"],
        ),
        *vary(
            "not Ready",
            condition("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."),
            PLATFORM,
            says=["NodeStatusUnknown: Kubelet stopped", "systemctl status kubelet containerd"],
        ),
        *vary(
            "its network is not ready",
            condition("False", "KubeletNotReady", UNLOADED),
            PLATFORM,
            says=["NetworkPluginNotReady", "network plugin on gpu-1"],
        ),
        *vary(
            "containerd without CRI",
            condition("False", "KubeletNotReady", NO_CRI),
            PLATFORM,
            says=['disabled_plugins holds "cri"', "On gpu-1 take"],
        ),
        *vary(
            "down and cordoned",
            condition("Unknown", "NodeStatusUnknown", "", cordoned=True),
            ODD_PLATFORM,
            says=["somebody is at work", "kubectl uncordon gpu-1"],
        ),
        *vary("cordoned", cordoned, ODD_PLATFORM, says=["kubectl uncordon gpu-1"]),
        *vary(
            "a taint that kata-deploy does not tolerate",
            tainted,
            "failed verify.kata-installer gpu-1",
            on=[KATA],
            says=["the node has the taint dedicated=ml:NoSchedule", "tolerations"],
        ),
        *vary(
            "OpenShift",
            label("gpu-1", "node.openshift.io/os_id", "rhcos"),
            ODD_PLATFORM,
            says=["leave OpenShift out"],
        ),
        *vary("a virtual node", label("gpu-1", "type", "virtual-kubelet"), ODD_PLATFORM),
        *vary(
            "a virtual machine",
            label("gpu-1", "feature.node.kubernetes.io/cpu-cpuid.HYPERVISOR", "true"),
            ODD_PLATFORM,
            says=["bare metal"],
        ),
        *vary("arm64", architecture, ODD_PLATFORM, says=["arm64"]),
        *vary(
            "a node that joined later",
            joined_later,
            "warned verify.new-nodes gpu-4",
            says=["kgpuctl label-nodes gpu-4"],
        ),
        *vary(
            "no PodResources Get on 1.33",
            kubelets("v1.33.4", "20m0s"),
            *NO_GET,
            on=[KATA],
            says=["KubeletPodResourcesGet: true", "On gpu-1"],
        ),
        *vary("switched off on 1.35", kubelets("v1.35.1", "20m0s", gate=False), *NO_GET, on=[KATA]),
        *vary(
            "the kubelet waits 2 minutes",
            kubelets("v1.35.1", "2m0s"),
            *SHORT,
            says=["runtimeRequestTimeout: 20m"],
        ),
        *vary("on by a gate", kubelets("v1.33.4", "20m0s", gate=True), on=[KATA]),
        *vary("not needed with annotations", kubelets("v1.28.9", "15m"), on=[COCO]),
    ],
)
def test_nodes(row: Variation) -> None:
    assert_exactly(row)


CC_READY = "nvidia.com/cc.ready.state"
CC_STATE = "nvidia.com/cc.mode.state"
CLASS_NODES = "failed verify.runtime-class-nodes gpu-1"
CC_MODE = "failed verify.cc-mode gpu-1"


def snp_node(name: str) -> Change:
    """Have a node run its GPUs for confidential VMs."""
    return together(
        label(name, CC_READY, "true"),
        label(name, CC_STATE, "on"),
        label(name, "nvidia.com/cc.mode", "on"),
        label(name, "amd.feature.node.kubernetes.io/snp", "true"),
    )


def handlers(node_name: str, *names: str) -> Change:
    """Have a node's runtime load these handlers."""

    def change(cluster: Cluster) -> None:
        status = cluster.get("Node", node_name)["status"]
        status["runtimeHandlers"] = [{"name": name} for name in names]

    return change


def no_confidential_class(cluster: Cluster) -> None:
    for item in cluster.all("RuntimeClass"):
        if "-snp" in item["metadata"]["name"]:
            cluster.drop("RuntimeClass", item["metadata"]["name"])


SNP = together(*(snp_node(name) for name in ("gpu-1", "gpu-2")))
SNP_HANDLERS = both_targets(lambda name: handlers(name, "runc", "kata-qemu-nvidia-gpu-snp"))


@pytest.mark.parametrize(
    "row",
    [
        *vary("ready.state missing", label("gpu-1", CC_READY, None), CLASS_NODES, on=[KATA]),
        *vary(
            "ready.state empty",
            label("gpu-1", CC_READY, ""),
            CLASS_NODES,
            on=[KATA],
            says=["cc.ready.state=false (the node has '')", "nvidia.com/cc.mode=off"],
        ),
        *vary(
            "by default on, on a host that can",
            together(
                label("gpu-1", CC_READY, "true"),
                label("gpu-1", CC_STATE, "on"),
                label("gpu-1", "nvidia.com/cc.mode", None),
            ),
            CLASS_NODES,
            on=[KATA],
            says=["(the node has 'true')", "gpu-1 nvidia.com/cc.mode=off"],
        ),
        *vary(
            "the mode could not be set",
            together(label("gpu-1", CC_STATE, "failed"), label("gpu-1", CC_READY, "")),
            CC_MODE,
            on=[KATA],
            says=["could not set the mode off", "power cycle"],
        ),
        *vary(
            "a pod keeps the mode from changing",
            together(label("gpu-1", "nvidia.com/cc.mode", "on")),
            CC_MODE,
            on=[KATA],
            built_only=True,
            says=["the mode is off, asked for is on; GPUs are held by default/cuda"],
        ),
        *vary(
            "cc-manager has said nothing",
            together(label("gpu-1", CC_STATE, None), label("gpu-1", CC_READY, None)),
            CC_MODE,
            on=[KATA],
            says=["-l name=nvidia-cc-manager", "nvidia.com/cc.mode=off"],
        ),
        *vary(
            "the marker of 4.1 is missing",
            label("gpu-1", MARKER, None),
            CLASS_NODES,
            on=[KATA],
            says=["kata-deploy.katacontainers.io/default=true (the node has none)"],
        ),
        *vary(
            "no class for SNP",
            together(no_confidential_class, SNP),
            "failed verify.runtime-class",
            on=[KATA],
            tee=Tee.SNP,
            says=["for SNP", "shims.qemu-nvidia-gpu-snp.enabled=true", "--version 4.1.0"],
        ),
        *vary(
            "only the class that may not run has a handler",
            together(
                SNP, both_targets(lambda name: handlers(name, "runc", "kata-qemu-nvidia-gpu"))
            ),
            "failed verify.runtime-class-nodes gpu-1",
            "failed verify.runtime-class-nodes gpu-2",
            on=[KATA],
            says=["which has no handler for it"],
        ),
        *vary("in confidential VMs only", together(SNP, SNP_HANDLERS), on=[KATA]),
    ],
)
def test_confidential_modes(row: Variation) -> None:
    assert_exactly(row)
