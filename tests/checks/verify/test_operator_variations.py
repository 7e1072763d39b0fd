"""The GPU Operator and its ClusterPolicy: absent, twice, not up, not ready, ready for nothing."""

import pytest

from checks.verify.varied import (
    BOTH,
    COCO,
    KATA,
    NO_TARGET,
    Variation,
    assert_exactly,
    both_targets,
    label,
    not_ready,
    offers,
    policy_status,
    together,
    vary,
    waiting,
)
from clusters import (
    DEPLOY,
    NFD_LABEL,
    WORKLOAD,
    Change,
    Cluster,
    Json,
    deployment,
    meta,
)

OPERANDS = "failed verify.operands "


def no_operator(cluster: Cluster) -> None:
    cluster.drop("Deployment", "gpu-operator")
    cluster.drop_pods("gpu-operator")


def never_installed(cluster: Cluster) -> None:
    """Nothing of it is there, its CRDs neither, and no node has its labels."""
    no_operator(cluster)
    cluster.drop("ClusterPolicy")
    cluster.drop("CustomResourceDefinition", "clusterpolicies.nvidia.com")
    for node in cluster.all("Node"):
        labels: Json = node["metadata"]["labels"]
        for key in [key for key in labels if key.startswith(DEPLOY)]:
            del labels[key]


def second_operator(cluster: Cluster) -> None:
    image = "nvcr.io/nvidia/gpu-operator:v25.3.0"
    cluster.add(*deployment("gpu-operator", "nvidia", {"gpu-operator": image}))


def not_available(cluster: Cluster) -> None:
    cluster.get("Deployment", "gpu-operator")["status"]["availableReplicas"] = 0


def version(value: str) -> Change:
    """Have another version of the chart installed."""

    def change(cluster: Cluster) -> None:
        labels = cluster.get("Deployment", "gpu-operator")["metadata"]["labels"]
        labels["helm.sh/chart"] = f"gpu-operator-{value}"
        labels["app.kubernetes.io/version"] = value

    return change


def no_image(cluster: Cluster) -> None:
    not_available(cluster)
    owner = next(name for pod in cluster.all("Pod") if (name := owner_of(pod)))
    waiting(
        owner,
        "gpu-operator",
        "ErrImagePull",
        'failed to pull and unpack image "nvcr.io/nvidia/gpu-operator:v99": failed to resolve '
        'reference "nvcr.io/nvidia/gpu-operator:v99": nvcr.io/nvidia/gpu-operator:v99: not found',
        node=next(p["spec"]["nodeName"] for p in cluster.pods(owner)),
    )(cluster)


def owner_of(pod: Json) -> str:
    names = [owner["name"] for owner in pod["metadata"].get("ownerReferences", [])]
    return next((n for n in names if n.rpartition("-")[0] == "gpu-operator"), "")


def no_policy(cluster: Cluster) -> None:
    cluster.drop("ClusterPolicy")


def second_policy(state: str) -> Change:
    """Add a ClusterPolicy beside the one that is there."""

    def change(cluster: Cluster) -> None:
        cluster.add(cluster.policy() | {"metadata": meta("other"), "status": {"state": state}})

    return change


def no_status(cluster: Cluster) -> None:
    del cluster.policy()["status"]


def sandbox(**values: object) -> Change:
    """Set values of sandboxWorkloads; None takes one away, as an old CRD does."""

    def change(cluster: Cluster) -> None:
        spec = cluster.policy()["spec"]["sandboxWorkloads"]
        spec |= values
        for name in [name for name, value in values.items() if value is None]:
            del spec[name]

    return change


def kata_manager(*, enabled: bool) -> Change:
    """Switch kata-manager on or off in the ClusterPolicy."""

    def change(cluster: Cluster) -> None:
        cluster.policy()["spec"].setdefault("kataManager", {})["enabled"] = enabled

    return change


def switched_off(cluster: Cluster) -> None:
    """The operator takes its RuntimeClasses and the DaemonSet away with kata-manager."""
    kata_manager(enabled=False)(cluster)
    cluster.drop_set("nvidia-kata-manager")
    managed = "nvidia.com/kata-runtime-class"
    for item in cluster.all("RuntimeClass"):
        if item["metadata"].get("labels", {}).get(managed) == "true":
            cluster.drop("RuntimeClass", item["metadata"]["name"])


published_on_a_new_chart = together(
    version("v26.7.0"), sandbox(mode="kubevirt"), kata_manager(enabled=True)
)


def nothing_deployed(reason: str, message: str) -> Change:
    """The operator is ready because it has found nothing to do."""
    return policy_status(
        "ready",
        {"status": "True", "reason": reason, "message": message},
        {"status": "False", "reason": "Ready", "message": ""},
    )


def unlabelled_by_nfd(cluster: Cluster) -> None:
    """Without NFD's label the operator chooses nothing, and deploys nothing."""
    for node in cluster.all("Node"):
        labels: Json = node["metadata"]["labels"]
        for key in [k for k in labels if k.startswith(DEPLOY) or k == NFD_LABEL]:
            del labels[key]
    for item in [it for it in cluster.all("DaemonSet") if it["metadata"]["name"][:7] == "nvidia-"]:
        cluster.drop_set(item["metadata"]["name"])
    both_targets(lambda node: offers(node, {}))(cluster)


NO_GPU_NODES = nothing_deployed("NoGPUNodes", "No GPU node found, watching for new nodes")
NO_NFD = nothing_deployed("NFDLabelsMissing", "No NFD labels found in the cluster")
CONFLICT = not_ready("ReconcileFailed", "both a ClusterPolicy and a GPUCluster exist")
OPERATOR = "failed verify.gpu-operator"
POLICY = "failed verify.cluster-policy"
MODE = "failed verify.sandbox-mode"


@pytest.mark.parametrize(
    "row",
    [
        *vary("no GPU Operator", no_operator, OPERATOR, says=["helm install gpu-operator"]),
        *vary("never installed", never_installed, OPERATOR),
        *vary("two GPU Operators", second_operator, OPERATOR, says=["v25.3.0 in nvidia"]),
        *vary("no pod of it available", not_available, OPERATOR, says=["describe deployment"]),
        *vary(
            "its image is not there",
            no_image,
            OPERATOR,
            says=["ErrImagePull", "There is no such image in the registry"],
        ),
        *vary("unknown version", version("v25.5.0"), "warned verify.gpu-operator", on=[COCO]),
        *vary("unknown version", version("v26.5.0"), "warned verify.gpu-operator", on=[KATA]),
        *vary("newer version", version("v27.1.0"), "warned verify.gpu-operator", on=[KATA]),
        *vary("no ClusterPolicy", no_policy, POLICY, says=["clusterPolicy.deployCR=true"]),
        *vary("two, one ignored", second_policy("ignored"), POLICY, says=["cluster-policy, other"]),
        *vary("two, both ready", second_policy("ready"), POLICY),
        *vary("no status", no_status, POLICY, says=["logs deployment/gpu-operator"]),
        *vary("reconcile failed", CONFLICT, POLICY, says=["ReconcileFailed: both a ClusterPolicy"]),
        *vary("ready without GPU nodes", NO_GPU_NODES, POLICY, says=["NoGPUNodes"]),
        *vary("ready without NFD labels", NO_NFD, POLICY, says=["NFDLabelsMissing"]),
        *vary(
            "ready, and all is missing",
            together(NO_GPU_NODES, unlabelled_by_nfd),
            POLICY,
        ),
        *vary("sandboxWorkloads off", sandbox(enabled=False), MODE, says=["enabled is false"]),
        *vary("mode pruned", sandbox(mode=None), MODE, on=[KATA], says=["operator.upgradeCRD"]),
        *vary("mode kubevirt", sandbox(mode="kubevirt"), MODE, on=[KATA]),
        *vary(
            "kataManager ignored",
            together(sandbox(mode="kubevirt"), kata_manager(enabled=True)),
            MODE,
            on=[KATA],
            says=["kataManager.enabled=true is ignored by GPU Operator v26.7.0"],
        ),
        *vary(
            "the published command on a new chart",
            published_on_a_new_chart,
            MODE,
            on=[COCO],
            says=["take the CoCo operator away", "mode=kata", "v25.10.1 or older"],
        ),
        *vary("without kataManager", switched_off, MODE, on=[COCO], says=["kataManager.enabled=t"]),
    ],
)
def test_operator_and_policy(row: Variation) -> None:
    assert_exactly(row)


@pytest.mark.parametrize("stack", BOTH)
def test_a_policy_of_v23_6_has_no_conditions_and_passes(stack: str) -> None:
    [row, *_] = vary("no conditions", policy_status("ready"), on=[stack])

    report = assert_exactly(row.values[0])  # type: ignore[arg-type]  # pytest's own type

    told = {it.id: it.message for it in report.results}
    assert told["verify.cluster-policy"] == "state ready; this version has no conditions"


container_node = label("gpu-3", WORKLOAD, "container")


def no_targets(cluster: Cluster) -> None:
    both_targets(lambda node: label(node, WORKLOAD, None))(cluster)


@pytest.mark.parametrize(
    "row",
    [
        *vary(
            "nobody is labelled",
            no_targets,
            "failed verify.workload-label",
            says=["nodes with NVIDIA GPUs: gpu-1, gpu-2, gpu-3", "kgpuctl label-nodes"],
            skips=[NO_TARGET, "no operand belongs on a target"],
        ),
        *vary(
            "by default, not by label",
            together(no_targets, sandbox(defaultWorkload="vm-passthrough"), container_node),
        ),
    ],
)
def test_targets(row: Variation) -> None:
    assert_exactly(row)
