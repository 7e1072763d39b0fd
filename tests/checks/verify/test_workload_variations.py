"""Pods that should run in VMs with GPUs, stuck with real words, and what is stuck going away."""

from typing import Final

import pytest

from checks.verify.varied import COCO, KATA, Variation, assert_exactly, together, vary
from checks.verify.varied import label as set_label
from clusters import (
    COCO_SYSTEM,
    GPU_OPERATOR,
    Change,
    Cluster,
    Json,
    ago,
    event,
    gpu_pod,
    log,
    pod,
)
from kgpuctl.checks.verify.workloads import OF_ANY_POD
from kgpuctl.explanations import load_explanations

STUCK: Final = "verify.workloads default/stuck"
SANDBOX: Final = "FailedCreatePodSandBox"
SHIM: Final = (
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to create containerd "
    "task: failed to create shim task: "
)
NOT_MATCHED: Final = "node(s) didn't match Pod's node affinity/selector"


def pending(message: str, selector: Json | None = None, number: str = "1") -> Change:
    """A GPU pod that the scheduler finds no node for; `selector` as admission has merged it."""

    def change(cluster: Cluster) -> None:
        made = gpu_pod("stuck", number=number)
        del made["spec"]["nodeName"]
        made["spec"]["nodeSelector"] = selector or {}
        told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        told["message"] = message
        made["status"] = {"phase": "Pending", "conditions": [told]}
        cluster.add(made)

    return change


def creating(message: str, reason: str = SANDBOX, minutes: int = 5) -> Change:
    """A GPU pod whose VM does not come up, as an event tells."""

    def change(cluster: Cluster) -> None:
        made = gpu_pod("stuck")
        made["metadata"]["creationTimestamp"] = ago(minutes=minutes)
        made["status"] = {
            "phase": "Pending",
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [
                {
                    "name": "main",
                    "ready": False,
                    "state": {"waiting": {"reason": "ContainerCreating"}},
                }
            ],
        }
        cluster.add(made, event("Pod", "default", "stuck", reason, message))

    return change


def ended(
    exit_code: int, reason: str, *, written: str = "", age: str = "", phase: str = ""
) -> Change:
    """A GPU pod whose container ends: again and again, or for good."""

    def change(cluster: Cluster) -> None:
        made = gpu_pod("stuck")
        made["metadata"]["creationTimestamp"] = age or ago(minutes=20)
        state = {"terminated": {"exitCode": exit_code, "reason": reason}}
        again = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
        made["status"] = {
            "phase": phase or "Running",
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [
                {
                    "name": "main",
                    "ready": False,
                    "restartCount": 0 if phase else 7,
                    "state": state if phase else again,
                    "lastState": {} if phase else state,
                }
            ],
        }
        cluster.add(made)
        if written:
            cluster.add(log(made, "main", written))

    return change


def rejected(reason: str, message: str, age: str) -> Change:
    """A GPU pod that the kubelet of its node did not take."""

    def change(cluster: Cluster) -> None:
        made = gpu_pod("stuck")
        made["metadata"]["creationTimestamp"] = age
        made["status"] = {"phase": "Failed", "reason": reason, "message": message}
        cluster.add(made)

    return change


def at_pod_level(cluster: Cluster) -> None:
    """As in the published sample: `resources` beside the container, where nobody counts them."""
    made = gpu_pod("stuck")
    made["spec"]["resources"] = made["spec"]["containers"][0].pop("resources")
    cluster.add(made)


def without_class(cluster: Cluster) -> None:
    made = gpu_pod("stuck")
    del made["spec"]["runtimeClassName"]
    cluster.add(made)


def refused(name: str, message: str) -> Change:
    """A ReplicaSet whose pods are not made at all."""
    return lambda cluster: cluster.add(
        event("ReplicaSet", "default", name, "FailedCreate", message)
    )


FAILED: Final = f"failed {STUCK}"
WARNED: Final = f"warned {STUCK}"
UNEXPECTED: Final = (
    "Allocate failed due to requested number of devices unavailable for nvidia.com/pgpu. "
    "Requested: 1, Available: 0, which is unexpected"
)
CC_FALSE: Final = {"nvidia.com/cc.ready.state": "false"}
RENAMED: Final = (
    'Error creating: pods "app-x" is forbidden: pod rejected: RuntimeClass '
    '"kata-qemu-nvidia-gpu-x" not found'
)
TEXTS: Final = (
    ("QMP command failed: vfio 0000:65:00.0: device is already attached: unknown", "twice"),
    ("QMP command failed: vfio 0000:1b:00.0: group 41 is not viable: unknown", "IOMMU group is"),
    ("QMP command failed: vfio 0000:01:00.1: group 1 used in multiple address spaces", "apart"),
    (
        (
            "device cold plug failed: cold plug: CDI device injection failed: unresolvable CDI "
            "devices nvidia.com/pgpu=vfio1"
        ),
        "calls the GPU vfioN",
    ),
    ("no CDI annotations, no devices to inject", "is not the one that the annotation"),
    (
        (
            "device cold plug failed: GetPodResources failed for pod(stuck) in namespace(default): "
            "rpc error: code = Unknown desc = PodResources API Get method disabled"
        ),
        "KubeletPodResourcesGet",
    ),
    ("open /dev/vhost-vsock: no such device: unknown", "modprobe vhost_vsock"),
    ("ttrpc: closed: unknown", "The VM ended"),
    ("failed to launch qemu: exit status 1, error messages from qemu log:", "QEMU ended at once"),
    (
        (
            "/opt/nvidia-gpu-operator/artifacts/runtimeclasses/kata-qemu-nvidia-gpu/x.toml: "
            "file /opt/confidential-containers/bin/qemu-system-x86_64 does not exist: not found"
        ),
        "only CoCo v0.7.0 puts it",
    ),
    ("vfio_container_dma_map(0x1, 0x0, 0x80000000, 0x7f) = -14 (Bad address)", "Bad address"),
    ("Error: timed out connecting to vsock 2447571626:1024", "nothing in it answered in time"),
    ("error bind device fd=20 to iommufd=19: Invalid argument", "earlier VM"),
    ("Timed out waiting for sandbox: context deadline exceeded", "runtimeRequestTimeout"),
    ("annotation io.katacontainers.config.hypervisor.default_memory is not enabled", "annotation"),
)


@pytest.mark.parametrize(
    "row",
    [
        row
        for text, meaning in TEXTS
        for row in vary(
            text[:50], creating(SHIM + text), FAILED, on=[KATA], built_only=True, says=[meaning]
        )
    ],
)
def test_vms_that_do_not_start(row: Variation) -> None:
    assert_exactly(row)


@pytest.mark.parametrize(
    "row",
    [
        *vary(
            "the handler is not there",
            creating(
                "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get "
                'sandbox runtime: no runtime for "kata-qemu-nvidia-gpu" is configured'
            ),
            FAILED,
            says=["kubectl get node gpu-1"],
        ),
        *vary(
            "a label that no node has",
            pending(f"0/4 nodes are available: 4 {NOT_MATCHED}.", {"rack": "b7"}),
            FAILED,
            says=["selects nodes by a label that no node has"],
        ),
        *vary(
            "cc.ready.state",
            together(
                *(
                    set_label(node, "nvidia.com/cc.ready.state", None)
                    for node in ("gpu-1", "gpu-2")
                ),
                pending(f"0/4 nodes are available: 4 {NOT_MATCHED}.", CC_FALSE),
            ),
            FAILED,
            "failed verify.runtime-class-nodes gpu-1",
            "failed verify.runtime-class-nodes gpu-2",
            on=[KATA],
            built_only=True,
            says=["no node has a value for it"],
        ),
        *vary(
            "asks for the containers' resource",
            pending("0/4 nodes are available: 4 Insufficient nvidia.com/gpu."),
            FAILED,
            on=[KATA],
            built_only=True,
        ),
        *vary(
            "asks for more than any node has",
            pending("0/4 nodes are available: 4 Insufficient nvidia.com/pgpu.", number="16"),
            FAILED,
            on=[KATA],
            built_only=True,
        ),
        *vary(
            "insufficient, though some are free",
            pending("0/4 nodes are available: 4 Insufficient nvidia.com/pgpu."),
            FAILED,
            on=[KATA],
            built_only=True,
            says=["No node has as many GPUs free"],
        ),
        *vary(
            "no room for it",
            pending(f"0/4 nodes are available: 2 Insufficient memory, 2 {NOT_MATCHED}."),
            WARNED,
            says=["RuntimeClass adds its overhead"],
        ),
        *vary(
            "a taint",
            pending("0/4 nodes are available: 2 node(s) had untolerated taint {nvidia.com/gpu: }."),
            WARNED,
            says=["tolerations"],
        ),
        *vary("its program ends", ended(1, "Error"), WARNED, says=["-n default logs stuck"]),
        *vary("out of memory", ended(137, "OOMKilled"), WARNED, says=["container main"]),
        *vary(
            "no NVSwitch in the VM",
            ended(1, "Error", written="CUDA error: 802 system not yet initialized\n"),
            FAILED,
            says=["NVSwitches"],
        ),
        *vary(
            "no GPU in the VM",
            ended(1, "Error", written="no CUDA-capable device is detected\n"),
            FAILED,
        ),
        *vary(
            "it failed lately",
            rejected("UnexpectedAdmissionError", UNEXPECTED, ago(minutes=5)),
            FAILED,
            says=["The kubelet gave the pod no GPU"],
        ),
        *vary(
            "it failed long ago",
            rejected("UnexpectedAdmissionError", UNEXPECTED, ago(days=2)),
            WARNED,
        ),
        *vary("waits for long", creating("is slow", "Slow", minutes=30), FAILED),
        *vary("resources at pod level", at_pod_level, WARNED, on=[KATA], says=["without a GPU"]),
        *vary(
            "no RuntimeClass",
            without_class,
            WARNED,
            on=[KATA],
            says=["runs as an ordinary container", "runtimeClassName: kata-qemu-nvidia-gpu."],
        ),
        *vary(
            "a ReplicaSet whose pods are refused",
            refused("app", RENAMED),
            "failed verify.workloads ReplicaSet default/app",
            says=["its pods are refused", "kubectl get runtimeclass"],
        ),
        *vary(
            "refused before the class came",
            refused("app", RENAMED.replace('-x" ', '" ')),
            on=[KATA],
        ),
    ],
)
def test_pods(row: Variation) -> None:
    assert_exactly(row)


def test_what_any_pod_can_have_is_in_the_table() -> None:
    assert {row.id for row in load_explanations().rows} >= OF_ANY_POD


# ---- what does not go away -----------------------------------------------------------------------

FINALIZER: Final = "runtimeconfig.confidentialcontainers.org/finalizer"


def deleted(kind: str, name: str, age: str) -> Change:
    """Have an object be deleted for a while."""

    def change(cluster: Cluster) -> None:
        cluster.get(kind, name)["metadata"]["deletionTimestamp"] = age

    return change


def operator_gone(cluster: Cluster) -> None:
    cluster.drop("Deployment", "cc-operator-controller-manager")
    cluster.drop_pods("cc-operator-controller-manager")


def terminating(cluster: Cluster) -> None:
    item = cluster.get("Namespace", COCO_SYSTEM)
    item["metadata"]["deletionTimestamp"] = ago(hours=2)
    item["status"] = {
        "phase": "Terminating",
        "conditions": [
            {
                "type": "NamespaceFinalizersRemaining",
                "status": "True",
                "reason": "SomeFinalizersRemain",
                "message": f"Some content in the namespace has finalizers remaining: {FINALIZER}",
            }
        ],
    }


def held_pod(cluster: Cluster) -> None:
    made = gpu_pod("stuck")
    made["metadata"]["deletionTimestamp"] = ago(hours=1)
    cluster.add(made)


def other_peoples(cluster: Cluster) -> None:
    """A gVisor pod and a namespace that are none of ours."""
    made = pod("sandboxed", "default", "cpu-1", spec={"runtimeClassName": "gvisor"})
    made["metadata"]["deletionTimestamp"] = ago(hours=1)
    cluster.add(made)
    cluster.get("Namespace", "default")["metadata"]["deletionTimestamp"] = ago(hours=1)


GONE: Final = "failed verify.terminating "
RUNTIME: Final = f"{GONE}CcRuntime ccruntime-sample"


@pytest.mark.parametrize(
    "row",
    [
        *vary(
            "a CcRuntime without its operator",
            together(operator_gone, deleted("CcRuntime", "ccruntime-sample", ago(hours=1))),
            RUNTIME,
            "warned verify.kata-installer",
            on=[COCO],
            built_only=True,
            says=["for 60 minutes; finalizers: runtimeconfig", "same version of the operator"],
        ),
        *vary(
            "a CcRuntime with its operator",
            deleted("CcRuntime", "ccruntime-sample", ago(hours=1)),
            RUNTIME,
            on=[COCO],
            says=["a node that is NotReady holds it up"],
        ),
        *vary(
            "its namespace",
            terminating,
            f"{GONE}Namespace {COCO_SYSTEM}",
            on=[COCO],
            says=[FINALIZER],
        ),
        *vary(
            "a CRD",
            deleted("CustomResourceDefinition", "clusterpolicies.nvidia.com", ago(hours=1)),
            f"{GONE}CustomResourceDefinition clusterpolicies.nvidia.com",
            says=["kubectl get clusterpolicies.nvidia.com"],
        ),
        *vary(
            "a pod with a GPU", held_pod, f"{GONE}Pod default/stuck", on=[KATA], says=["--force"]
        ),
        *vary(
            "the operator's namespace",
            deleted("Namespace", GPU_OPERATOR, ago(hours=1)),
            f"{GONE}Namespace {GPU_OPERATOR}",
        ),
        *vary("a moment ago", deleted("Namespace", GPU_OPERATOR, ago(minutes=2))),
        *vary("other people's", other_peoples),
    ],
)
def test_what_does_not_go_away(row: Variation) -> None:
    assert_exactly(row)
