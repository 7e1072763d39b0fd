"""The field's own words, each written once: vendors, PCI classes, drivers, paths, stacks."""

from enum import StrEnum
from typing import Final


class Stack(StrEnum):
    """The two ways of getting Kata and the GPU Operator onto a cluster."""

    KATA_DEPLOY = "kata-deploy"
    COCO_OPERATOR = "coco-operator"


class Tee(StrEnum):
    """A trusted execution environment for confidential VMs."""

    SNP = "snp"
    TDX = "tdx"


NVIDIA: Final = 0x10DE

# PCI class codes without the programming interface (the upper 16 of 24 bits).
CLASS_VGA: Final = 0x0300
CLASS_3D: Final = 0x0302
CLASS_AUDIO: Final = 0x0403
CLASS_NVSWITCH: Final = 0x0680
CLASS_PCI_BRIDGE: Final = 0x0604
GPU_CLASSES: Final = frozenset({CLASS_VGA, CLASS_3D})

VFIO_PCI: Final = "vfio-pci"
PCI_STUB: Final = "pci-stub"
# Drivers that hand a device to a VM. The variant is skipped by sandbox device plugins up to 0.0.5.
VFIO_VARIANTS: Final = frozenset({"nvgrace_gpu_vfio_pci", "nvgrace-gpu-vfio-pci"})
VFIO_DRIVERS: Final = frozenset({VFIO_PCI}) | VFIO_VARIANTS

# Modules of NVIDIA's own host driver. Others merely begin with the same letters
# (nvidia_wmi_ec_backlight, nvidiafb) and do no harm here.
NVIDIA_MODULES: Final = frozenset(
    {
        "nvidia",
        "nvidia_drm",
        "nvidia_fs",
        "nvidia_modeset",
        "nvidia_peermem",
        "nvidia_uvm",
        "nvidia_vgpu_vfio",
    }
)

ARTIFACTS_DIR: Final = "/opt/nvidia-gpu-operator/artifacts/runtimeclasses"
COCO_DIR: Final = "/opt/confidential-containers"
COCO_DROP_IN: Final = "/etc/systemd/system/containerd.service.d/containerd-for-cc-override.conf"
KATA_DIR: Final = "/opt/kata"
# Where the GPU Operator's driver container shows its root directory to the host.
OPERATOR_DRIVER: Final = "/run/nvidia/driver"
GPU_HANDLER_MARK: Final = "nvidia-gpu"

POD_RESOURCES: Final = (
    "/var/lib/kubelet/pod-resources/kubelet.sock",
    "/var/lib/k0s/kubelet/pod-resources/kubelet.sock",
    "/var/snap/microk8s/common/var/lib/kubelet/pod-resources/kubelet.sock",
)

# Labels of nodes, as the GPU Operator, kata-deploy, the CoCo operator and NFD read and set them.
WORKLOAD_LABEL: Final = "nvidia.com/gpu.workload.config"
DEPLOY_PREFIX: Final = "nvidia.com/gpu.deploy."
OPERANDS_LABEL: Final = "nvidia.com/gpu.deploy.operands"
GPU_PRESENT_LABEL: Final = "nvidia.com/gpu.present"
NFD_GPU_LABELS: Final = tuple(
    f"feature.node.kubernetes.io/pci-{device}.present"
    for device in ("10de", "0302_10de", "0300_10de")
)
NFD_PREFIX: Final = "feature.node.kubernetes.io/"
CC_MODE_LABEL: Final = "nvidia.com/cc.mode"
CC_STATE_LABEL: Final = "nvidia.com/cc.mode.state"
CC_READY_LABEL: Final = "nvidia.com/cc.ready.state"
KATA_LABEL: Final = "katacontainers.io/kata-runtime"
KATA_MARKER_PREFIX: Final = "kata-deploy.katacontainers.io/"
COCO_WORKER_LABEL: Final = "node.kubernetes.io/worker"
KATA_CLASS_LABEL: Final = "nvidia.com/kata-runtime-class"
CHART_LABEL: Final = "helm.sh/chart"


class Workload(StrEnum):
    """What a node's GPUs are for; the GPU Operator takes any other word for the default."""

    CONTAINER = "container"
    VM_PASSTHROUGH = "vm-passthrough"
    VM_VGPU = "vm-vgpu"


# Resources: what is handed out for containers, and what goes with GPUs into VMs.
GPU_RESOURCE_PREFIX: Final = "nvidia.com/"
CONTAINER_RESOURCES: Final = frozenset({"nvidia.com/gpu", "nvidia.com/gpu.shared"})
MIG_RESOURCE_PREFIX: Final = "nvidia.com/mig-"
# Words in the names of a card's other functions, which old device plugins hand out like GPUs.
NO_GPU_WORDS: Final = frozenset({"AUDIO", "USB", "UCSI", "NVSWITCH", "BRIDGE"})
NVSWITCH_RESOURCE: Final = "nvidia.com/nvswitch"
# RuntimeClasses under which a pod is an ordinary container ("" is none).
CONTAINER_RUNTIME_CLASSES: Final = frozenset({"", "nvidia", "nvidia-cdi", "nvidia-legacy"})
KATA_MANAGER: Final = "nvidia-kata-manager"
# Parts of the names of what makes the pods of a stack.
STACK_POD_MARKS: Final = (
    "nvidia-",
    "gpu-operator",
    "kata-deploy",
    "kata-as-coco-runtime",
    "cc-operator",
    "node-feature-discovery",
    "nfd-",
)
CRD_GROUPS: Final = frozenset({"nvidia.com", "confidentialcontainers.org", "nfd.k8s-sigs.io"})

CHECKS_PAGE: Final = "docs/reference/checks.md"
