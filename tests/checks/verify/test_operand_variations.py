"""The operands: missing, crashing with the words of real ones, running to no avail, outdated."""

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
    offers,
    set_image,
    together,
    vary,
)
from clusters import (
    DEPLOY,
    GPU_CLASS,
    GPU_OPERATOR,
    TARGETS,
    Change,
    Cluster,
    ago,
    event,
    gpu_pod,
    log,
)

PLUGINS = {
    KATA: "nvidia-kata-sandbox-device-plugin-daemonset",
    COCO: "nvidia-sandbox-device-plugin-daemonset",
}
OPERAND = "failed verify.operands "
VFIO = OPERAND + "nvidia-vfio-manager"
VALIDATOR = OPERAND + "nvidia-sandbox-validator"
PLUGIN = OPERAND + "{plugin}"
RESOURCE = "failed verify.passthrough-resource gpu-1"
EMPTY = offers("gpu-1", {})
NOT_BOUND = (
    "Error: error validating vfio-pci driver installation: device not bound to 'vfio-pci'; "
    "device: 0000:65:00.0 driver: "
)
INVALID = "/bin/vfio-manage: line 37: echo: write error: Invalid argument"
CC_CAPABLE = "ERROR: Some GPUs are not cc-capable, but CC mode on was requested"
GLIBC = (
    "nvidia-kubevirt-gpu-device-plugin: /lib64/libc.so.6: version `GLIBC_2.32' not found "
    "(required by nvidia-kubevirt-gpu-device-plugin)"
)
PRE_INSTALLED = "NVIDIA GPU driver is already pre-installed on the node, exiting"


def missing(name: str) -> Change:
    """Take a DaemonSet away."""
    return together(lambda it: it.drop_set(name), WAITS)


def one_by_one(cluster: Cluster) -> None:
    """Each target has a trouble of its own."""
    together(
        EMPTY,
        offers("gpu-2", {}),
        crash("nvidia-vfio-manager", "nvidia-vfio-manager", "", written=INVALID),
        crash(
            "nvidia-vfio-manager",
            "k8s-driver-manager",
            "",
            node="gpu-2",
            init=True,
            written=PRE_INSTALLED,
        ),
        WAITS,
    )(cluster)


def by_quota(cluster: Cluster) -> None:
    """The pods are refused: the DaemonSet is there, and no pod of it."""
    gone("nvidia-vfio-manager", *TARGETS)(cluster)
    both_targets(lambda node: offers(node, {}))(cluster)
    WAITS(cluster)
    message = (
        "Error creating: insufficient quota to match these scopes: "
        "[{PriorityClass In [system-node-critical system-cluster-critical]}]"
    )
    cluster.add(event("DaemonSet", GPU_OPERATOR, "nvidia-vfio-manager", "FailedCreate", message))


def tainted(cluster: Cluster) -> None:
    taint = {"key": "dedicated", "value": "ml", "effect": "NoSchedule"}
    cluster.get("Node", "gpu-1")["spec"]["taints"] = [taint]
    together(EMPTY, gone("nvidia-vfio-manager", "gpu-1"))(cluster)


def switched_off(key: str) -> Change:
    """Have an operand switched off in the values."""

    def change(cluster: Cluster) -> None:
        cluster.policy()["spec"][key]["enabled"] = False

    return change


def starting_for_long(cluster: Cluster) -> None:
    """A pod that neither runs nor says why, for half an hour."""
    pod = cluster.pod("nvidia-vfio-manager")
    pod["metadata"]["creationTimestamp"] = ago(minutes=30)
    pod["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [
            {
                "name": "nvidia-vfio-manager",
                "ready": False,
                "state": {"waiting": {"reason": "PodInitializing"}},
            }
        ],
    }
    EMPTY(cluster)


def stale_label(cluster: Cluster) -> None:
    """A label from the time when the GPUs went to KubeVirt, and no GPU handed out."""
    cluster.labels("gpu-1")[f"{DEPLOY}sandbox-device-plugin"] = "true"
    EMPTY(cluster)


def for_containers(cluster: Cluster) -> None:
    offers("gpu-1", {"nvidia.com/gpu": "8"})(cluster)


def cc_crash(cluster: Cluster) -> None:
    labels = cluster.labels("gpu-1")
    for key in ("nvidia.com/cc.mode", "nvidia.com/cc.mode.state", "nvidia.com/cc.ready.state"):
        del labels[key]
    crash("nvidia-cc-manager", "nvidia-cc-manager", "", written=CC_CAPABLE)(cluster)
    WAITS(cluster)


def glibc(cluster: Cluster) -> None:
    for name in TARGETS:
        crash(PLUGINS[COCO], "nvidia-sandbox-device-plugin-ctr", "", node=name)(cluster)
        offers(name, {})(cluster)
    image = "nvcr.io/nvidia/kubevirt-gpu-device-plugin:v1.2.3"
    together(set_image(PLUGINS[COCO], image), WAITS)(cluster)


def all_held(cluster: Cluster) -> None:
    """Eight pods hold the eight GPUs of gpu-1."""
    resource = next(n for n in cluster.get("Node", "gpu-1")["status"]["allocatable"] if "com/" in n)
    offers("gpu-1", {resource: "8"})(cluster)
    classes = {item["metadata"]["name"] for item in cluster.all("RuntimeClass")}
    chosen = GPU_CLASS if GPU_CLASS in classes else "kata-nvidia-gpu"
    for number in range(8):
        cluster.add(gpu_pod(f"held-{number}", resource=resource, runtime_class=chosen))


def gfd_pod(cluster: Cluster) -> None:
    """The device plugin v0.0.2 takes a GPU of each node for a pod of its own."""
    image = "nvcr.io/nvidia/cloud-native/nvidia-sandbox-device-plugin:v0.0.2"
    set_image(PLUGINS[KATA], image)(cluster)
    for name in TARGETS:
        cluster.add(gpu_pod(f"gfd-{name}", where=GPU_OPERATOR, on=name))


SDP = "nvcr.io/nvidia/cloud-native/nvidia-sandbox-device-plugin"
F11 = set_image(PLUGINS[COCO], "nvcr.io/nvidia/kubevirt-gpu-device-plugin:v1.4.0")


@pytest.mark.parametrize(
    "row",
    [
        *vary(
            "no IOMMU",
            together(
                EMPTY,
                crash("nvidia-vfio-manager", "nvidia-vfio-manager", "", written=INVALID),
                WAITS,
            ),
            VFIO,
            says=["ready on 1 of 2 targets", "on gpu-1:", "no IOMMU", "On gpu-1 add", INVALID],
        ),
        *vary(
            "not bound, held by nvidia",
            together(
                EMPTY,
                crash(
                    "nvidia-sandbox-validator",
                    "vfio-pci-validation",
                    f"{NOT_BOUND}'nvidia'",
                    init=True,
                ),
                WAITS,
            ),
            VALIDATOR,
            says=["held by the NVIDIA driver of the host", "device: 0000:65:00.0"],
        ),
        *vary(
            "not bound, held by nouveau",
            together(
                EMPTY,
                crash(
                    "nvidia-sandbox-validator",
                    "vfio-pci-validation",
                    "",
                    init=True,
                    written=f"{NOT_BOUND}'nouveau'",
                ),
                WAITS,
            ),
            VALIDATOR,
            says=["modprobe.blacklist=nouveau"],
        ),
        *vary(
            "a driver on the host, without the label",
            together(
                EMPTY,
                crash(
                    "nvidia-vfio-manager",
                    "k8s-driver-manager",
                    "",
                    init=True,
                    written=PRE_INSTALLED,
                ),
                WAITS,
            ),
            VFIO,
            says=["An NVIDIA driver is installed on the host"],
        ),
        *vary("each target with its own", one_by_one, VFIO, says=["on gpu-1:", "on gpu-2:"]),
        *vary(
            "without a log",
            together(EMPTY, crash("nvidia-vfio-manager", "nvidia-vfio-manager", "boom"), WAITS),
            VFIO,
            says=["CrashLoopBackOff, Error with exit code 1: boom"],
        ),
        *vary("no GPU is CC-capable", cc_crash, OPERAND + "nvidia-cc-manager", on=[KATA]),
        *vary(
            "F25",
            glibc,
            PLUGIN,
            on=[COCO],
            says=["GLIBC", "sandboxDevicePlugin.version=v1.2.4"],
        ),
        *vary(
            "F25, told by its log",
            together(
                EMPTY,
                crash(PLUGINS[COCO], "nvidia-sandbox-device-plugin-ctr", "", written=GLIBC),
                WAITS,
            ),
            PLUGIN,
            on=[COCO],
            says=["wants a newer C library"],
        ),
        *vary(
            "artifacts refused",
            together(
                crash(
                    "nvidia-kata-manager",
                    "nvidia-kata-manager",
                    "",
                    written="error pulling artifact: nvcr.io/x: 401 Unauthorized",
                ),
                WAITS,
            ),
            OPERAND + "nvidia-kata-manager",
            on=[COCO],
            says=["may not pull the guest artifacts"],
        ),
        *vary("a DaemonSet is missing", missing("nvidia-vfio-manager"), VFIO),
        *vary(
            "the device plugin is missing",
            together(missing(PLUGINS[KATA]), both_targets(lambda node: offers(node, {}))),
            PLUGIN,
            on=[KATA],
        ),
        *vary(
            "switched off",
            together(
                missing("nvidia-vfio-manager"),
                switched_off("vfioManager"),
                both_targets(lambda node: offers(node, {})),
            ),
            VFIO,
            says=["vfioManager.enabled is false", "Set `vfioManager.enabled=true`"],
        ),
        *vary(
            "no pod on any target",
            together(
                gone("nvidia-vfio-manager", *TARGETS), both_targets(lambda node: offers(node, {}))
            ),
            VFIO,
            says=["ready on 0 of 2 targets; no pod on gpu-1, gpu-2"],
        ),
        *vary("refused by a quota", by_quota, VFIO, says=["insufficient quota", "ResourceQuota"]),
        *vary("kept away by a taint", tainted, VFIO, says=["(taints: dedicated=ml:NoSchedule)"]),
        *vary("starting for long", starting_for_long, VFIO, says=["not ready for 30 minutes"]),
        *vary("runs, and nothing is bound", EMPTY, RESOURCE, says=["hands out no GPU for VMs"]),
        *vary(
            "runs, and has lost its GPUs",
            offers("gpu-1", {"nvidia.com/pgpu": "0"}),
            RESOURCE,
            says=["nvidia.com/pgpu: 0", "on gpu-1"],
        ),
        *vary("for containers instead", for_containers, RESOURCE, says=["nvidia.com/gpu for con"]),
        *vary("a label of KubeVirt is left", stale_label, RESOURCE, on=[KATA]),
        *vary(
            "all held",
            all_held,
            "warned verify.resource-free gpu-1",
            says=["all 8 are held by default/"],
        ),
        *vary("F11", F11, "warned verify.device-plugin", on=[COCO], built_only=True),
        *vary(
            "F14",
            set_image(PLUGINS[KATA], f"{SDP}:v0.0.1"),
            "failed verify.device-plugin",
            on=[KATA],
            says=["unresolvable CDI devices"],
        ),
        *vary("v0.0.2", gfd_pod, "warned verify.device-plugin", on=[KATA], says=["gfd-NODE"]),
    ],
)
def test_operands(row: Variation) -> None:
    assert_exactly(row)


def test_a_log_of_another_container_explains_nothing() -> None:
    """Only the words of the container that ends are its last words."""

    def change(cluster: Cluster) -> None:
        crash("nvidia-vfio-manager", "nvidia-vfio-manager", "")(cluster)
        cluster.add(log(cluster.pod("nvidia-vfio-manager"), "other", "all is well"))
        EMPTY(cluster)

    [row, *_] = vary("another log", change, VFIO, on=[KATA])

    report = assert_exactly(row.values[0])  # type: ignore[arg-type]  # pytest's own type

    assert not any("all is well" in result.message for result in report.results)
