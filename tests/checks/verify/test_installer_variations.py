"""What brings Kata onto the nodes: not there, twice, half done, by Jobs, and what it leaves."""

import pytest

from checks.verify.varied import (
    COCO,
    KATA,
    NONE_TOLD,
    Variation,
    assert_exactly,
    both_targets,
    crash,
    gone,
    label,
    set_image,
    together,
    vary,
    waiting,
)
from clusters import (
    GPU_CLASS,
    KATA_LABEL,
    KATA_SYSTEM,
    MARKER,
    TARGETS,
    Change,
    Cluster,
    Json,
    ago,
    coco_cluster,
    daemon_set,
    event,
    gpu_pod,
    helm,
    kata_deploy_cluster,
    meta,
    runtime_class,
)
from kgpuctl.names import Tee

STACK = "failed verify.stack"
INSTALLER = "failed verify.kata-installer"
KATA_NODE = "failed verify.node-kata-label gpu-1"
FRESH = tuple(f"failed verify.handler-fresh {name}" for name in TARGETS)
WORKER = "node.kubernetes.io/worker"
NO_JOBS = (
    "of kata-deploy 4.1.0 in kata-system neither DaemonSet nor Jobs are there any more: Jobs may "
    "be, when they are done; verify.node-kata-label tells"
)
CLAIMED = "the installation goes on, or has failed half-way"


def no_kata(cluster: Cluster) -> None:
    """As after `helm uninstall`, and a restart of containerd."""
    cluster.drop_set("kata-deploy")
    for item in cluster.all("RuntimeClass"):
        if item["handler"].startswith("kata"):
            cluster.drop("RuntimeClass", item["metadata"]["name"])
    for node in cluster.all("Node"):
        node["metadata"]["labels"].pop(KATA_LABEL, None)
        node["metadata"]["labels"].pop(MARKER, None)
        node["status"]["runtimeHandlers"] = [{"name": "runc"}]


def still_loaded(cluster: Cluster) -> None:
    """The uninstall has done its work, and the container runtime goes on with what it had."""
    no_kata(cluster)
    for name in TARGETS:
        handlers = [{"name": "runc"}, {"name": GPU_CLASS}]
        cluster.get("Node", name)["status"]["runtimeHandlers"] = handlers


def left_on_another(cluster: Cluster) -> None:
    cluster.get("Node", "gpu-3")["status"]["runtimeHandlers"] = [{"name": GPU_CLASS}]
    cluster.labels("gpu-3").pop(KATA_LABEL, None)


def both_kinds(cluster: Cluster) -> None:
    """Add the CoCo operator to kata-deploy."""
    wanted = {"Deployment": "cc-operator-controller-manager", "CcRuntime": "ccruntime-sample"}
    for kind, name in wanted.items():
        cluster.add(coco_cluster().get(kind, name))


def nowhere(cluster: Cluster) -> None:
    """Its nodeSelector matches no node: nothing is installed, and nothing fails."""
    gone("kata-deploy", *TARGETS)(cluster)
    item = cluster.get("DaemonSet", "kata-deploy")
    item["status"] = {"observedGeneration": 1}
    item["spec"]["template"]["spec"]["nodeSelector"] = {"kata": "yes"}
    cluster.drop_pods("kata-deploy")


def refused(cluster: Cluster) -> None:
    """Pod Security forbids its pods: there is a DaemonSet, and an event."""
    item = cluster.get("DaemonSet", "kata-deploy")
    item["status"] |= {"numberReady": 0, "numberAvailable": 0}
    cluster.drop_pods("kata-deploy")
    message = (
        'Error creating: pods "kata-deploy-x" is forbidden: violates PodSecurity '
        '"baseline:latest": hostPath volumes'
    )
    cluster.add(event("DaemonSet", KATA_SYSTEM, "kata-deploy", "FailedCreate", message))


def second_instance(cluster: Cluster) -> None:
    """A second release of kata-deploy, which fails on gpu-2."""
    cluster.add(
        *daemon_set(
            "kata-deploy-canary",
            KATA_SYSTEM,
            "quay.io/kata-containers/kata-deploy:4.1.0",
            ["gpu-2"],
            container="kube-kata",
            metadata=helm("canary", KATA_SYSTEM),
        )
    )
    crash("kata-deploy-canary", "kube-kata", "", node="gpu-2")(cluster)


def by_jobs(*jobs: Json) -> Change:
    """Have kata-deploy install by Jobs: no DaemonSet, and no pod that stays."""

    def change(cluster: Cluster) -> None:
        cluster.drop_set("kata-deploy")
        cluster.add(*jobs)

    return change


def job(
    name: str, image: str = "quay.io/kata-containers/kata-deploy:4.1.0", **status: Json
) -> Json:
    """Return a Job of kata-deploy's namespace."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta(name, KATA_SYSTEM),
        "spec": {"template": {"spec": {"containers": [{"name": "x", "image": image}]}}},
        "status": status,
    }


FAILED_JOB: Json = {
    "failed": 1,
    "conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}],
}
DONE_JOB: Json = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}


def joined_after_the_jobs(cluster: Cluster) -> None:
    by_jobs()(cluster)
    for key in (KATA_LABEL, MARKER):
        cluster.labels("gpu-1").pop(key, None)


def runtime_status(**status: object) -> Change:
    """Have the CoCo operator be elsewhere with its CcRuntime."""

    def change(cluster: Cluster) -> None:
        cluster.get("CcRuntime", "ccruntime-sample")["status"] = status

    return change


def unlabelled_workers(cluster: Cluster) -> None:
    """No node has the label by which the CoCo operator chooses: its CcRuntime stays empty."""
    runtime_status()(cluster)
    for name in TARGETS:
        cluster.labels(name).pop(WORKER, None)


def no_runtime(cluster: Cluster) -> None:
    cluster.drop("CcRuntime")


def manager_down(cluster: Cluster) -> None:
    """The image of its second container is not to be had any more."""
    cluster.get("Deployment", "cc-operator-controller-manager")["status"]["availableReplicas"] = 0
    [pod] = cluster.pods("cc-operator-controller-manager")
    pod["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
        "containerStatuses": [
            {"name": "manager", "ready": True, "state": {"running": {"startedAt": ago(days=1)}}},
            {
                "name": "kube-rbac-proxy",
                "ready": False,
                "state": {
                    "waiting": {
                        "reason": "ImagePullBackOff",
                        "message": "Back-off pulling image "
                        '"gcr.io/kubebuilder/kube-rbac-proxy:v0.13.1"',
                    }
                },
            },
        ],
    }


def manager_gone(cluster: Cluster) -> None:
    cluster.drop("Deployment", "cc-operator-controller-manager")
    cluster.drop_pods("cc-operator-controller-manager")


def coco_version(value: str) -> Change:
    """Have another version of the CoCo operator."""

    def change(cluster: Cluster) -> None:
        item = cluster.get("Deployment", "cc-operator-controller-manager")
        for container in item["spec"]["template"]["spec"]["containers"]:
            if container["name"] == "manager":
                container["image"] = f"quay.io/confidential-containers/operator:{value}"

    return change


def unselected(value: str | None) -> Change:
    """A target that the CoCo operator passes over: the label is missing, or has a value."""
    return together(
        label("gpu-1", WORKER, value),
        label("gpu-1", KATA_LABEL, None),
        runtime_status(
            totalNodesCount=1,
            installationStatus={
                "completed": {"completedNodesCount": 1, "completedNodesList": ["gpu-2"]}
            },
        ),
    )


HALF = runtime_status(
    totalNodesCount=2,
    installationStatus={"completed": {"completedNodesCount": 1, "completedNodesList": ["gpu-2"]}},
)


def coco_chart(cluster: Cluster) -> None:
    """The Helm chart that followed the CoCo operator: kata-deploy under another name."""
    cluster.drop_set("kata-deploy")
    for item in cluster.all("RuntimeClass"):
        if item["handler"].startswith("kata"):
            item["metadata"]["annotations"] |= helm("coco", "coco-system")["annotations"]
    cluster.add(
        *daemon_set(
            "kata-as-coco-runtime",
            "coco-system",
            "quay.io/kata-containers/kata-deploy:3.22.0",
            TARGETS,
            container="kube-kata",
            metadata=helm("coco", "coco-system"),
        )
    )


def interim(cluster: Cluster) -> None:
    """The mix of December 2025: kata-deploy 3.24 with GPU Operator v25.10 and kata-manager."""
    cluster.drop("Deployment", "cc-operator-controller-manager")
    cluster.drop_pods("cc-operator-controller-manager")
    cluster.drop("CcRuntime")
    cluster.drop_set("cc-operator-daemon-install")
    cluster.drop("PodLog")
    donor = kata_deploy_cluster()
    cluster.add(donor.get("DaemonSet", "kata-deploy"), *donor.pods("kata-deploy"))
    set_image("kata-deploy", "quay.io/kata-containers/kata-deploy:3.24.0")(cluster)
    labels = cluster.get("Deployment", "gpu-operator")["metadata"]["labels"]
    labels["helm.sh/chart"] = "gpu-operator-v25.10.0"
    for item in cluster.all("RuntimeClass"):
        if GPU_CLASS in item["metadata"]["name"]:
            cluster.drop("RuntimeClass", item["metadata"]["name"])
    cluster.add(runtime_class(GPU_CLASS, {KATA_LABEL: "true"}))
    cluster.policy()["spec"]["kataManager"]["config"] = {"runtimeClasses": None}
    set_image("nvidia-kata-manager", "nvcr.io/x/k8s-kata-manager:v0.2.4")(cluster)
    plugin = "nvcr.io/x/nvidia-sandbox-device-plugin:v0.0.1"
    set_image("nvidia-sandbox-device-plugin-daemonset", plugin)(cluster)
    for name in TARGETS:
        node = cluster.get("Node", name)
        node["status"]["nodeInfo"]["containerRuntimeVersion"] = "containerd://2.1.4"
        node["status"]["runtimeHandlers"] = [{"name": GPU_CLASS}]


K1_TEXT = "gcr.io/kubebuilder/kube-rbac-proxy was taken off that registry"


@pytest.mark.parametrize(
    "row",
    [
        *vary("nothing brings Kata", no_kata, STACK, on=[KATA], says=["helm install kata-deploy"]),
        *vary("two things bring it", both_kinds, STACK, on=[KATA], built_only=True),
        *vary("handlers are left", still_loaded, STACK, *FRESH, on=[KATA]),
        *vary(
            "a handler is left on another node",
            left_on_another,
            "failed verify.handler-fresh gpu-3",
            on=[KATA],
            built_only=True,
            says=["systemctl restart containerd"],
        ),
        *vary(
            "its DaemonSet selects no node",
            nowhere,
            INSTALLER,
            on=[KATA],
            says=["runs on no node: it selects kata=yes", "-n kata-system describe daemonset"],
        ),
        *vary(
            "its pod crashes on one target",
            crash("kata-deploy", "kube-kata", "", node="gpu-2"),
            f"{INSTALLER} gpu-2",
            on=[KATA],
            says=["CrashLoopBackOff, Error with exit code 1", "kgpuctl preflight` on gpu-2"],
        ),
        *vary(
            "set up for another distribution",
            crash(
                "kata-deploy",
                "kube-kata",
                "",
                written="Error: detected k3s but the chart was configured for k8sDistribution=k8s",
            ),
            f"{INSTALLER} gpu-1",
            on=[KATA],
            says=["Set `k8sDistribution`", "its log ends with: Error: detected k3s"],
        ),
        *vary(
            "its image is not to be had",
            waiting(
                "kata-deploy",
                "kube-kata",
                "ErrImagePull",
                'failed to pull and unpack image "quay.io/kata-containers/kata-deploy:9": failed '
                'to resolve reference "quay.io/kata-containers/kata-deploy:9": not found',
            ),
            f"{INSTALLER} gpu-1",
            on=[KATA],
            says=["There is no such image"],
        ),
        *vary(
            "its pods are refused",
            refused,
            f"{INSTALLER} gpu-1",
            f"{INSTALLER} gpu-2",
            on=[KATA],
            says=["violates PodSecurity", "kubectl label namespace kata-system"],
        ),
        *vary("a second release fails", second_instance, f"{INSTALLER} gpu-2", on=[KATA]),
        *vary("by Jobs that are gone", by_jobs(), on=[KATA], skips=[NO_JOBS]),
        *vary("by Jobs that ended well", by_jobs(job("kata-deploy-a", **DONE_JOB)), on=[KATA]),
        *vary(
            "by Jobs that failed",
            by_jobs(job("kata-deploy-install-gpu-1", **FAILED_JOB)),
            INSTALLER,
            on=[KATA],
            says=["kata-deploy-install-gpu-1", "-n kata-system logs job/kata-deploy-install-gpu-1"],
        ),
        *vary(
            "by Jobs that still run",
            by_jobs(job("kata-deploy-install-gpu-1", active=1)),  # type: ignore[arg-type]  # JSON
            INSTALLER,
            on=[KATA],
            says=["1 Jobs of kata-deploy 4.1.0 in kata-system still run"],
        ),
        *vary(
            "somebody else's Job failed there",
            by_jobs(job("backup", "example/backup:1", **FAILED_JOB)),
            on=[KATA],
            skips=[NO_JOBS],
        ),
        *vary(
            "a node joined after the Jobs",
            joined_after_the_jobs,
            KATA_NODE,
            on=[KATA],
            says=["run `helm upgrade` of release kata-deploy again"],
            skips=[NO_JOBS],
        ),
        *vary("claimed", label("gpu-1", KATA_LABEL, "false"), KATA_NODE, says=[CLAIMED]),
        *vary("no label", label("gpu-1", KATA_LABEL, None), KATA_NODE),
        *vary("being removed", label("gpu-1", KATA_LABEL, "cleanup"), KATA_NODE),
        *vary("no CcRuntime", no_runtime, INSTALLER, on=[COCO], says=["kubectl apply -k"]),
        *vary(
            "no node is a worker",
            unlabelled_workers,
            INSTALLER,
            on=[COCO],
            says=["which no node has", "kubectl label --overwrite node NODE node.kubernetes.io/w"],
        ),
        *vary(
            "no status, with workers",
            runtime_status(),
            INSTALLER,
            on=[COCO],
            says=["though 2 nodes have the label", "deployment/cc-operator-controller-manager"],
        ),
        *vary(
            "a status without nodes",
            runtime_status(totalNodesCount=0),
            INSTALLER,
            on=[COCO],
        ),
        *vary("half done", HALF, INSTALLER, on=[COCO], says=["1 of 2 nodes are done; not gpu-1"]),
        *vary(
            "one target is no worker",
            unselected(None),
            KATA_NODE,
            on=[COCO],
            says=["--overwrite node gpu-1 node.kubernetes.io/worker="],
        ),
        *vary("one is a worker with a value", unselected("true"), KATA_NODE, on=[COCO]),
        *vary(
            "its manager is down before it has begun",
            together(manager_down, runtime_status()),
            INSTALLER,
            on=[COCO],
            says=[K1_TEXT, "set image deployment/cc-operator-controller-manager"],
        ),
        *vary(
            "its manager is down when all is done",
            manager_down,
            "warned verify.kata-installer",
            on=[COCO],
            built_only=True,
            says=[K1_TEXT],
        ),
        *vary(
            "only its CcRuntime is left",
            manager_gone,
            "warned verify.kata-installer",
            on=[COCO],
            built_only=True,
            says=["its operator is gone"],
        ),
        *vary(
            "QEMU is elsewhere since v0.8.0",
            coco_version("v0.8.0"),
            "warned verify.kata-installer",
            on=[COCO],
            built_only=True,
            says=["/opt/confidential-containers/bin/qemu-system-x86_64"],
        ),
        *vary(
            "and a pod that runs proves otherwise",
            together(coco_version("v0.8.0"), lambda it: it.add(gpu_pod("proof"))),
            on=[COCO],
            built_only=True,
            skips=[],
        ),
        *vary("older than the procedure", coco_version("v0.6.0"), STACK, on=[COCO]),
        *vary(
            "an unknown version of it",
            coco_version("v0.99.0-dev"),
            "warned verify.kata-installer",
            on=[COCO],
            built_only=True,
        ),
        *vary(
            "kata-deploy that nobody knows",
            set_image("kata-deploy", "quay.io/kata-containers/kata-deploy:3.26.5"),
            "warned verify.stack",
            on=[KATA],
            says=["'3.26.5' is not in the catalogue"],
        ),
        *vary("the CoCo chart", coco_chart, "warned verify.stack", on=[KATA]),
        *vary(
            "the interim mix",
            interim,
            "warned verify.stack",
            on=[COCO],
            built_only=True,
            skips=["kata-manager has no RuntimeClass to set up"],
            says=["an interim mix of December 2025"],
        ),
    ],
)
def test_installers(row: Variation) -> None:
    assert_exactly(row)


def handlers(name: str, *loaded: str) -> Change:
    """Have a node's runtime load these handlers."""

    def change(cluster: Cluster) -> None:
        found = [{"name": handler} for handler in loaded]
        cluster.get("Node", name)["status"]["runtimeHandlers"] = found

    return change


def on_flavour(version: str) -> Change:
    """Have a node of another distribution, without the handler."""

    def change(cluster: Cluster) -> None:
        info = cluster.get("Node", "gpu-1")["status"]["nodeInfo"]
        info["kubeletVersion"] = version
        handlers("gpu-1", "runc")(cluster)

    return change


def untold(cluster: Cluster) -> None:
    for node in cluster.all("Node"):
        node["status"].pop("runtimeHandlers", None)


def containerd_2(cluster: Cluster) -> None:
    for name in TARGETS:
        info = cluster.get("Node", name)["status"]["nodeInfo"]
        info["containerRuntimeVersion"] = "containerd://2.0.5"


def log_says(text: str) -> Change:
    """Have kata-manager say something else at the end of its log."""

    def change(cluster: Cluster) -> None:
        for item in cluster.all("PodLog"):
            item["text"] = text

    return change


def no_logs(cluster: Cluster) -> None:
    cluster.drop("PodLog")


def no_gpu_class(cluster: Cluster) -> None:
    for item in cluster.all("RuntimeClass"):
        if "nvidia-gpu" in item["metadata"]["name"]:
            cluster.drop("RuntimeClass", item["metadata"]["name"])


def renamed(cluster: Cluster) -> None:
    """From v24.3 on the operator calls its classes otherwise than the documentation does."""
    for item in cluster.all("RuntimeClass"):
        for field in (item["metadata"], item):
            name = "name" if field is item["metadata"] else "handler"
            field[name] = field[name].replace("kata-qemu-nvidia", "kata-nvidia")


F36 = both_targets(lambda name: handlers(name, "runc", "kata-qemu"))
NOT_LOADED = "failed verify.kata-handler gpu-1"
NO_SCHEMA = tuple(f"warned verify.kata-handler {name}" for name in TARGETS)
NOT_DONE = tuple(f"failed verify.kata-manager-done {name}" for name in TARGETS)
UNSEEN = "neither its log nor the node's handlers are to be seen"


@pytest.mark.parametrize(
    "row",
    [
        *vary(
            "not loaded",
            handlers("gpu-1", "runc", "kata-qemu"),
            NOT_LOADED,
            on=[KATA],
            says=["it has loaded kata-qemu, runc", "containerd config dump", "On gpu-1 look"],
        ),
        *vary("k3s", on_flavour("v1.35.1+k3s1"), NOT_LOADED, on=[KATA], says=["tion=k3s"]),
        *vary("RKE2", on_flavour("v1.35.1+rke2r1"), NOT_LOADED, on=[KATA], says=["ion=rke2"]),
        *vary("not told", untold, on=[KATA], skips=[NONE_TOLD, "no node tells of such a handler"]),
        *vary(
            "kata-manager on containerd 2, not loaded",
            together(containerd_2, F36),
            "failed verify.kata-handler gpu-1",
            "failed verify.kata-handler gpu-2",
            on=[COCO],
            built_only=True,
            says=["containerd 2.0.5 with kata-manager"],
        ),
        *vary(
            "kata-manager on containerd 2, not told",
            containerd_2,
            *NO_SCHEMA,
            on=[COCO],
            built_only=True,
        ),
        *vary(
            "kata-manager has not come to its end",
            log_says("Pulling nvcr.io/nvidia/cloud-native/kata-gpu-artifacts:x\n"),
            *NOT_DONE,
            on=[COCO],
            built_only=True,
            says=["does not say that the container runtime was restarted"],
        ),
        *vary(
            "nothing to see of kata-manager", no_logs, on=[COCO], built_only=True, skips=[UNSEEN]
        ),
        *vary(
            "no GPU class",
            no_gpu_class,
            "failed verify.runtime-class",
            on=[KATA],
            says=["of Kata's there are kata", "shims.qemu-nvidia-gpu.enabled=true"],
        ),
        *vary(
            "kata-manager's class is gone",
            no_gpu_class,
            "failed verify.runtime-class",
            on=[COCO],
            says=["kataManager.config.runtimeClasses"],
            built_only=True,
        ),
        *vary("renamed", renamed, on=[COCO], built_only=True),
        *vary(
            "no class for TDX",
            no_gpu_class,
            "failed verify.runtime-class",
            on=[KATA],
            tee=Tee.TDX,
            says=["for TDX"],
        ),
    ],
)
def test_handlers_and_classes(row: Variation) -> None:
    assert_exactly(row)


def test_a_renamed_class_passes_and_is_named() -> None:
    [row] = vary("renamed", renamed, on=[COCO], built_only=True)

    report = assert_exactly(row.values[0])  # type: ignore[arg-type]  # pytest's own type

    told = {it.id: it.message for it in report.results}
    assert told["verify.runtime-class"] == (
        "the documentation says kata-qemu-nvidia-gpu, this cluster has "
        "kata-nvidia-gpu, kata-nvidia-gpu-snp"
    )
