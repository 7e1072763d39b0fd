"""What happens on healthy clusters every day: verify may warn of it, and fails for none of it."""

from typing import Final

import pytest

from checks.verify.varied import (
    BOTH,
    KATA,
    WAITS,
    Variation,
    assert_exactly,
    label,
    offers,
    policy_status,
    together,
    vary,
)
from clusters import (
    DEPLOY,
    GPU_CLASS,
    MARKER,
    NFD_LABEL,
    NOW,
    RECONCILED,
    TARGETS,
    WORKLOAD,
    Change,
    Cluster,
    ago,
    daemon_set,
    event,
    gpu_pod,
    node,
    pod,
    runtime_class,
)
from kgpuctl.names import Tee

OPERANDS: Final = "warned verify.operands "


def restarting(owner: str, seconds: int = 20) -> Change:
    """A DaemonSet that is being rolled: its new pod on gpu-1 is seconds old."""

    def change(cluster: Cluster) -> None:
        found = cluster.pod(owner)
        found["metadata"]["creationTimestamp"] = ago(seconds=seconds)
        found["status"] = {
            "phase": "Pending",
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [
                {"name": owner, "ready": False, "state": {"waiting": {"reason": "PodInitializing"}}}
            ],
        }
        cluster.get("DaemonSet", owner)["status"]["numberReady"] -= 1

    return change


def changed_a_moment_ago(cluster: Cluster) -> None:
    cluster.get("DaemonSet", "nvidia-vfio-manager")["metadata"]["generation"] = 2


def drained(cluster: Cluster) -> None:
    """Cordoned, with a GPU pod on its way out."""
    cluster.get("Node", "gpu-1")["spec"]["unschedulable"] = True
    leaving = gpu_pod("leaving")
    leaving["metadata"]["deletionTimestamp"] = ago(seconds=20)
    cluster.add(leaving)


def finished(cluster: Cluster) -> None:
    """Pods that have done their work, and one of a Job that failed and was tried again."""
    done = gpu_pod("done")
    done["status"] = {"phase": "Succeeded"}
    cluster.add(done)


def waiting_their_turn(cluster: Cluster) -> None:
    """All GPUs are in use, and one more pod waits."""
    for name in TARGETS:
        for number in range(8):
            cluster.add(gpu_pod(f"busy-{name}-{number}", on=name))
    cluster.get("Pod", "cuda")["status"] = {"phase": "Succeeded"}
    made = gpu_pod("next")
    del made["spec"]["nodeName"]
    told = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/4 nodes are available: 2 Insufficient nvidia.com/pgpu, 2 node(s) didn't "
        "match Pod's node affinity/selector. preemption: not helpful.",
    }
    made["status"] = {"phase": "Pending", "conditions": [told]}
    cluster.add(made)


def queued(cluster: Cluster) -> None:
    """A queue like Kueue holds pods back until it is their turn."""
    made = gpu_pod("queued")
    del made["spec"]["nodeName"]
    told = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
    }
    made["status"] = {"phase": "Pending", "conditions": [told]}
    cluster.add(made)


def booting(cluster: Cluster) -> None:
    """A VM with many GPUs takes minutes, and says nothing meanwhile."""
    made = gpu_pod("big", number="4")
    made["metadata"]["creationTimestamp"] = ago(minutes=6)
    made["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [
            {"name": "main", "ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}}
        ],
    }
    cluster.add(made)


def other_teams(cluster: Cluster) -> None:
    """RuntimeClasses, pods, events and a broken DaemonSet that are none of ours."""
    cluster.add(runtime_class("gvisor", {}), runtime_class("wasmtime", {"wasm": "true"}))
    broken = pod("broken", "team", "cpu-1", spec={"runtimeClassName": "gvisor"})
    broken["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [
            {
                "name": "main",
                "ready": False,
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
            }
        ],
    }
    cluster.add(broken, event("Pod", "team", "broken", "Failed", "Failed to pull image"))
    made = daemon_set("logging", "team", "example/logging:1", ["cpu-1"])
    made[0]["status"]["numberReady"] = 0
    cluster.add(*made)


def own_nfd(cluster: Cluster) -> None:
    """Node-feature-discovery of the cluster's own, elsewhere and under another name."""
    cluster.drop_set("gpu-operator-node-feature-discovery-worker")
    image = "registry.k8s.io/nfd/node-feature-discovery:v0.17.0"
    cluster.add(*daemon_set("nfd-worker", "node-feature-discovery", image, TARGETS))
    for name in TARGETS:
        labels = cluster.labels(name)
        labels["feature.node.kubernetes.io/pci-0302_10de.present"] = "true"
        del labels[NFD_LABEL]


def suffixed(cluster: Cluster) -> None:
    """kata-deploy installed beside another Kata, with a suffix of its own."""
    marker = "kata-deploy.katacontainers.io/gpu"
    for name in TARGETS:
        labels = cluster.labels(name)
        labels.pop(MARKER)
        labels[marker] = "true"
        handlers = [{"name": "runc"}, {"name": f"{GPU_CLASS}-gpu"}]
        cluster.get("Node", name)["status"]["runtimeHandlers"] = handlers
    for item in cluster.all("RuntimeClass"):
        if GPU_CLASS in item["handler"]:
            item["handler"] = item["metadata"]["name"] = f"{item['handler']}-gpu"
            selector = item["scheduling"]["nodeSelector"]
            selector.pop(MARKER, None)
            selector[marker] = "true"


def several_models(cluster: Cluster) -> None:
    """Each model under its own name, with NVSwitches beside the GPUs."""
    offers("gpu-1", {"nvidia.com/GH100_H100_SXM5_80GB": "8", "nvidia.com/nvswitch": "4"})(cluster)
    offers("gpu-2", {"nvidia.com/AD102GL_L40S": "4", "nvidia.com/GA102GL_A10": "0"})(cluster)


def other_uses(cluster: Cluster) -> None:
    """Beside the targets: nodes for vGPUs, for containers, for nothing, and no GPU at all."""
    chosen = {f"{DEPLOY}vgpu-manager": "true", f"{DEPLOY}sandbox-validator": "true"}
    found = {NFD_LABEL: "true", "nvidia.com/gpu.present": "true"}
    cluster.add(
        node("vgpu-1", {**found, **chosen, WORKLOAD: "vm-vgpu"}, offers={"nvidia.com/A40-4Q": "8"}),
        node("gke-1", found, offers={"nvidia.com/gpu": "8"}),
        node("lab-1", {**found, f"{DEPLOY}operands": "false"}),
        node("control-1", {"node-role.kubernetes.io/control-plane": ""}),
    )
    taint = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
    cluster.get("Node", "control-1")["spec"]["taints"] = [taint]


def reserved(cluster: Cluster) -> None:
    """The GPU nodes have a taint that all who belong there tolerate."""
    for name in TARGETS:
        taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
        cluster.get("Node", name)["spec"]["taints"] = [taint]


def elsewhere_down(cluster: Cluster) -> None:
    """A node that is no target is down, and kata-deploy, which runs everywhere, with it."""
    cluster.add(*daemon_set("kata-deploy", "x", "example/x:1", ["cpu-1"])[1:])
    [made] = [it for it in cluster.pods("kata-deploy") if it["spec"]["nodeName"] == "cpu-1"]
    made["metadata"]["namespace"] = "kata-system"
    made["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    status = cluster.get("DaemonSet", "kata-deploy")["status"]
    status["desiredNumberScheduled"] = status["updatedNumberScheduled"] = 3
    down = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
    cluster.get("Node", "cpu-1")["status"]["conditions"] = [down]


def container_driver_down(cluster: Cluster) -> None:
    """The driver of the container node does not load: the operator is not ready, the VMs are."""
    WAITS(cluster)
    item = cluster.get("DaemonSet", "nvidia-driver-daemonset")
    item["status"]["numberReady"] = 0


def repaired(cluster: Cluster) -> None:
    """Pods were refused until an hour ago; they are there now, the event is, too."""
    message = 'Error creating: pods "app-x" is forbidden: RuntimeClass "kata-qemu-x" not found'
    cluster.add(event("ReplicaSet", "default", "app-5", "FailedCreate", message))
    owner = {"kind": "ReplicaSet", "name": "app-5", "uid": "uid-rs"}
    made = gpu_pod("app-5-x")
    made["metadata"] |= {"creationTimestamp": ago(seconds=10)}
    made["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
    cluster.add(made)


def clock_ahead(cluster: Cluster) -> None:
    """The recording workstation's clock is behind the cluster's."""
    for item in cluster.items:
        item["metadata"]["creationTimestamp"] = (NOW.replace(hour=13)).isoformat()


def restarted_vm(cluster: Cluster) -> None:
    """A pod that runs well after a first attempt that failed; the event is still there."""
    cluster.add(gpu_pod("well"))
    text = "Failed to create pod sandbox: rpc error: ttrpc: closed: unknown"
    cluster.add(event("Pod", "default", "well", "FailedCreatePodSandBox", text))


def own_binding(cluster: Cluster) -> None:
    """GPUs bound by the kernel command line: vfio-manager is switched off, and not missed."""
    cluster.policy()["spec"]["vfioManager"]["enabled"] = False
    cluster.drop_set("nvidia-vfio-manager")


def from_olm(cluster: Cluster) -> None:
    """An operator that is named by its digest, and without a chart's labels."""
    item = cluster.get("Deployment", "gpu-operator")
    item["metadata"]["labels"] = {"app.kubernetes.io/version": "v26.7.0"}
    image = "nvcr.io/nvidia/gpu-operator@sha256:1234"
    item["spec"]["template"]["spec"]["containers"][0]["image"] = image


def reconciling(cluster: Cluster) -> None:
    together(restarting("nvidia-sandbox-validator"), WAITS)(cluster)


@pytest.mark.parametrize(
    "row",
    [
        *vary(
            "an operand restarts",
            reconciling,
            f"{OPERANDS}nvidia-sandbox-validator",
            says=["ready on 1 of 2 targets; restarting on gpu-1"],
        ),
        *vary("a change a moment ago", changed_a_moment_ago, f"{OPERANDS}nvidia-vfio-manager"),
        *vary("a node is drained", drained, "warned verify.platform gpu-1", on=[KATA]),
        *vary("pods are done", finished),
        *vary(
            "pods wait their turn",
            waiting_their_turn,
            "warned verify.workloads default/next",
            "warned verify.resource-free gpu-1",
            "warned verify.resource-free gpu-2",
            on=[KATA],
            built_only=True,
            says=["All GPUs that it could have are held by other pods"],
        ),
        *vary("pods are queued", queued),
        *vary("a big VM boots", booting, on=[KATA]),
        *vary("other teams' troubles", other_teams),
        *vary("an NFD of its own", own_nfd),
        *vary("kata-deploy with a suffix", suffixed, on=[KATA], built_only=True),
        *vary("another alias", offers("gpu-1", {"nvidia.com/h100-vm": "8"})),
        *vary("several models", several_models, on=[KATA]),
        *vary("nodes for other uses", other_uses),
        *vary("a taint that all tolerate", reserved),
        *vary("another node is down", elsewhere_down, on=[KATA], built_only=True),
        *vary(
            "the driver of a container node fails",
            container_driver_down,
            "warned verify.cluster-policy",
            says=["the operands for VMs are ready on every target"],
        ),
        *vary("refused once, there now", repaired, on=[KATA]),
        *vary("clocks differ", clock_ahead),
        *vary("a second attempt that went well", restarted_vm, on=[KATA]),
        *vary("GPUs bound at boot", own_binding),
        *vary("an operator by its digest", from_olm, on=[KATA]),
        *vary(
            "ready with an error of yesterday",
            policy_status("ready", dict(RECONCILED[0]), dict(RECONCILED[1])),
        ),
        *vary(
            "SNP and plain nodes in one cluster",
            together(
                label("gpu-2", "nvidia.com/cc.mode", "on"),
                label("gpu-2", "nvidia.com/cc.mode.state", "on"),
                label("gpu-2", "nvidia.com/cc.ready.state", "true"),
                label("gpu-2", "amd.feature.node.kubernetes.io/snp", "true"),
                lambda cluster: cluster.get("Node", "gpu-2")["status"]["runtimeHandlers"].append(
                    {"name": f"{GPU_CLASS}-snp"}
                ),
            ),
            on=[KATA],
        ),
    ],
)
def test_every_day(row: Variation) -> None:
    report = assert_exactly(row)

    assert report.exit_code == 0


@pytest.mark.parametrize("stack", BOTH)
def test_a_restart_that_leaves_no_gpu_is_no_trifle(stack: str) -> None:
    """Without a GPU on the node nothing proves that it ever worked there."""
    [row, *_] = vary(
        "first start",
        together(restarting("nvidia-sandbox-validator"), WAITS, offers("gpu-1", {})),
        "failed verify.operands nvidia-sandbox-validator",
        on=[stack],
    )

    assert assert_exactly(row.values[0]).exit_code == 3  # type: ignore[arg-type]  # pytest's own


def test_confidential_vms_are_judged_by_their_own_class() -> None:
    """A cluster that is well for plain VMs is not, for confidential ones."""
    [row, *_] = vary("as it is", lambda _: None, on=[KATA], tee=Tee.SNP)

    report = assert_exactly(row.values[0])  # type: ignore[arg-type]  # pytest's own type

    assert report.exit_code == 3
