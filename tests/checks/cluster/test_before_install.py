"""Before an install: what a cluster lacks, and what is in the way. Each row puts one thing in."""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import pytest

from clusters import (
    DEPLOY,
    GPU_OPERATOR,
    KATA_SYSTEM,
    NFD_LABEL,
    NOW,
    WORKLOAD,
    Cluster,
    coco_cluster,
    crd,
    daemon_set,
    deployment,
    gpu_pod,
    helm,
    kata_deploy_cluster,
    kubelet,
    namespace,
    node,
)
from kgpuctl.checks.check import run
from kgpuctl.checks.cluster.table import CLUSTER_CHECKS
from kgpuctl.cli.cluster_run import Wishes, case_of
from kgpuctl.cluster.resources import NODES, Call
from kgpuctl.errors import UsageError
from kgpuctl.names import Stack, Tee
from kgpuctl.report import Result, Status
from kgpuctl.unread import Fact, Reason, Unread

Change = Callable[[Cluster], None]
GPU_NODES = ("gpu-1", "gpu-2")


def fresh() -> Cluster:
    """Return a cluster with NFD and two GPU nodes, on which nothing was installed."""
    labels = {NFD_LABEL: "true", WORKLOAD: "vm-passthrough"}
    return Cluster(
        [
            namespace("default"),
            *(node(name, labels, handlers=["runc"]) for name in GPU_NODES),
            node("cpu-1", {"feature.node.kubernetes.io/cpu-cpuid.VMX": "true"}, handlers=["runc"]),
        ]
    )


def asked(
    cluster: Cluster,
    nodes: tuple[str, ...] = (),
    stack: Stack | None = None,
    tee: Tee | None = None,
    rights: Fact[Mapping[Call, bool]] | None = None,
) -> tuple[Result, ...]:
    wishes = Wishes(tee, nodes, (), only_problems=False, today=NOW.date(), stack=stack)
    return run(CLUSTER_CHECKS, case_of(cluster.snapshot(), wishes, rights))


def found(results: Iterable[Result]) -> set[tuple[str, str, str]]:
    """Return what is not as it should be."""
    quiet = {Status.PASSED, Status.SKIPPED}
    return {(r.status.value, r.id, r.subject) for r in results if r.status not in quiet}


def labelled(name: str, key: str, value: str | None) -> Change:
    def change(cluster: Cluster) -> None:
        labels = cluster.labels(name)
        labels.pop(key, None)
        if value is not None:
            labels[key] = value

    return change


def status(name: str, **more: object) -> Change:
    return lambda cluster: cluster.get("Node", name)["status"].update(more)


def runtime(name: str, version: str) -> Change:
    def change(cluster: Cluster) -> None:
        info = cluster.get("Node", name)["status"]["nodeInfo"]
        info["containerRuntimeVersion"] = version

    return change


def kubelet_version(name: str, version: str) -> Change:
    def change(cluster: Cluster) -> None:
        cluster.get("Node", name)["status"]["nodeInfo"]["kubeletVersion"] = version

    return change


def spec(name: str, **more: object) -> Change:
    return lambda cluster: cluster.get("Node", name).setdefault("spec", {}).update(more)


def added(*items: dict[str, object]) -> Change:
    return lambda cluster: cluster.add(*items)


def both(*changes: Change) -> Change:
    def change(cluster: Cluster) -> None:
        for one in changes:
            one(cluster)

    return change


def operator(version: str, **more: object) -> Change:
    marks = helm("gpu-operator", GPU_OPERATOR)
    marks["labels"] |= {
        "app.kubernetes.io/component": "gpu-operator",
        "helm.sh/chart": f"gpu-operator-{version}",
    }
    marks["labels"] |= more.get("labels", {})
    image = {"gpu-operator": f"nvcr.io/nvidia/gpu-operator:{version}"}
    return added(*deployment("gpu-operator", GPU_OPERATOR, image, **marks))


def kata_deploy(name: str = "kata-deploy", space: str = KATA_SYSTEM, **labels: str) -> Change:
    marks = helm(name, space)
    marks["labels"] |= labels
    image = "quay.io/kata-containers/kata-deploy:4.0.0"
    return added(*daemon_set(name, space, image, GPU_NODES, metadata=marks))


def nfd(name: str, space: str) -> Change:
    image = "registry.k8s.io/nfd/node-feature-discovery:v0.19.0"
    return added(*daemon_set(name, space, image, GPU_NODES))


def policy_crd(*fields: str) -> dict[str, object]:
    made = crd("ClusterPolicy", "clusterpolicies", "nvidia.com")
    inner = {"properties": {name: {"type": "string"} for name in fields}}
    schema = {"properties": {"spec": {"properties": {"sandboxWorkloads": inner}}}}
    version = {"name": "v1", "served": True, "schema": {"openAPIV3Schema": schema}}
    made["spec"]["versions"] = [version]
    return made


class Row(NamedTuple):
    name: str
    change: Change
    expected: tuple[str, ...]
    says: str = ""
    stack: Stack | None = None
    tee: Tee | None = None
    nodes: tuple[str, ...] = ()


ROWS = (
    Row("nothing wrong", lambda _: None, ()),
    Row(
        "a mistyped label",
        labelled("gpu-1", WORKLOAD, "kata"),
        ("failed cluster.label-values gpu-1",),
        "'kata' is none of",
    ),
    Row(
        "a node that is down",
        status("gpu-1", conditions=[{"type": "Ready", "status": "Unknown"}]),
        ("failed cluster.target-nodes gpu-1",),
        "not Ready",
    ),
    Row(
        "a cordoned node",
        spec("gpu-1", unschedulable=True),
        ("warned cluster.target-nodes gpu-1",),
        "cordoned",
    ),
    Row(
        "a taint",
        spec("gpu-1", taints=[{"key": "team", "value": "ml", "effect": "NoSchedule"}]),
        ("warned cluster.target-nodes gpu-1",),
        "team=ml:NoSchedule",
    ),
    Row(
        "the taint that every operand tolerates",
        spec("gpu-1", taints=[{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]),
        (),
    ),
    Row(
        "a node without a GPU that is labelled",
        labelled("cpu-1", WORKLOAD, "vm-passthrough"),
        ("failed cluster.target-nodes cpu-1",),
        "no NVIDIA GPU",
    ),
    Row(
        "a node without a GPU that is named",
        lambda _: None,
        ("failed cluster.target-nodes cpu-1",),
        nodes=("cpu-1",),
    ),
    Row(
        "nobody has chosen",
        both(labelled("gpu-1", WORKLOAD, None), labelled("gpu-2", WORKLOAD, None)),
        ("warned cluster.target-nodes ",),
        "no node is named or labelled",
    ),
    Row(
        "no GPU anywhere",
        both(*(labelled(n, key, None) for n in GPU_NODES for key in (WORKLOAD, NFD_LABEL))),
        ("failed cluster.target-nodes ",),
        "has found an NVIDIA GPU on no node",
    ),
    Row(
        "no GPU known, for there is no NFD",
        both(
            *(labelled(n, key, None) for n in GPU_NODES for key in (WORKLOAD, NFD_LABEL)),
            labelled("cpu-1", "feature.node.kubernetes.io/cpu-cpuid.VMX", None),
        ),
        ("failed cluster.target-nodes ",),
        "has no node-feature-discovery yet",
    ),
    Row(
        "CRI-O",
        runtime("gpu-1", "cri-o://1.31.0"),
        ("failed cluster.node-runtime gpu-1",),
        "only containerd",
    ),
    Row(
        "an old containerd",
        runtime("gpu-1", "containerd://1.7.27"),
        ("warned cluster.node-runtime gpu-1",),
        "1.7.27",
    ),
    Row(
        "an old containerd, for the old stack",
        both(*(runtime(n, "containerd://1.7.27") for n in GPU_NODES)),
        (),
        stack=Stack.COCO_OPERATOR,
    ),
    Row(
        "containerd 2, for the old stack",
        runtime("gpu-2", "containerd://1.7.27"),
        ("failed cluster.node-runtime gpu-1",),
        "cannot read its configuration",
        stack=Stack.COCO_OPERATOR,
    ),
    Row(
        "a label from before",
        labelled("gpu-1", f"{DEPLOY}vfio-manager", "paused-for-driver-upgrade"),
        ("failed cluster.stale-operand-labels gpu-1",),
        "paused-for-driver-upgrade",
    ),
    Row(
        "labels of an operator that is gone",
        labelled("gpu-1", f"{DEPLOY}vfio-manager", "true"),
        ("warned cluster.stale-operand-labels gpu-1",),
        "a GPU Operator that is gone",
    ),
    Row(
        "a GPU in use on a node to be switched",
        both(labelled("gpu-1", WORKLOAD, None), added(gpu_pod("train"))),
        ("failed cluster.gpu-workloads gpu-1",),
        "train",
        nodes=("gpu-1",),
    ),
    Row("a GPU in use by a VM already", added(gpu_pod("train")), ()),
    Row("an operator that is there", operator("v26.7.0"), ()),
    Row(
        "an operator that Argo CD owns",
        operator("v26.7.0", labels={"argocd.argoproj.io/instance": "gpu"}),
        ("failed cluster.existing-gpu-operator ",),
        "Argo CD",
    ),
    Row(
        "an operator that Flux owns",
        operator("v26.7.0", labels={"helm.toolkit.fluxcd.io/name": "gpu"}),
        ("failed cluster.existing-gpu-operator ",),
        "Flux",
    ),
    Row(
        "an operator that OLM owns",
        operator("v26.7.0", labels={"olm.owner": "gpu"}),
        ("failed cluster.existing-gpu-operator ",),
        "Operator Lifecycle Manager",
    ),
    Row(
        "an operator of the other generation",
        operator("v25.10.1"),
        ("failed cluster.versions ",),
        "takes Kata by kataManager",
    ),
    Row(
        "a pair that fails silently",
        both(operator("v25.10.1"), kata_deploy()),
        ("failed cluster.versions ",),
        "do not know mode=kata",
    ),
    Row("a pair that works", both(operator("v26.7.0"), kata_deploy()), ()),
    Row(
        "kata-deploy twice",
        both(kata_deploy(), kata_deploy("kata-deploy-two", "kata-two")),
        ("failed cluster.existing-kata ",),
        "2 times",
    ),
    Row(
        "kata-deploy that Flux owns",
        kata_deploy(**{"helm.toolkit.fluxcd.io/name": "kata"}),
        ("failed cluster.existing-kata ",),
        "Flux",
    ),
    Row(
        "the CoCo chart",
        kata_deploy("kata-as-coco-runtime", "coco-system"),
        ("failed cluster.existing-kata ", "failed cluster.mixed-stacks "),
        "CoCo Helm chart",
    ),
    Row(
        "the other stack",
        both(kata_deploy(), *(runtime(n, "containerd://1.7.27") for n in GPU_NODES)),
        ("failed cluster.mixed-stacks ",),
        "asked for is coco-operator",
        stack=Stack.COCO_OPERATOR,
    ),
    Row(
        "two NFDs",
        both(nfd("nfd-worker", "nfd"), nfd("node-feature-discovery-worker", "nfd-two")),
        ("failed cluster.existing-nfd ",),
        "there are 2",
    ),
    Row(
        "an NFD of somebody else",
        nfd("nfd-worker", "nfd"),
        ("warned cluster.existing-nfd ",),
        "nfd/nfd-worker",
    ),
    Row(
        "a namespace that lets nothing privileged in",
        added(namespace(KATA_SYSTEM, labels={"pod-security.kubernetes.io/enforce": "baseline"})),
        (f"failed cluster.pod-security {KATA_SYSTEM}",),
        "enforce=baseline",
    ),
    Row(
        "somebody else's namespace",
        added(namespace("web", labels={"pod-security.kubernetes.io/enforce": "restricted"})),
        (),
    ),
    Row(
        "a CRD that drops the mode",
        both(operator("v26.7.0"), added(policy_crd("enabled", "defaultWorkload"))),
        ("failed cluster.crds ",),
        "does not know sandboxWorkloads.mode",
    ),
    Row(
        "a CRD that knows the mode",
        both(operator("v26.7.0"), added(policy_crd("enabled", "defaultWorkload", "mode"))),
        (),
    ),
    Row(
        "CRDs of an operator that is gone",
        added(policy_crd("enabled", "mode")),
        ("warned cluster.crds ",),
        "clusterpolicies.nvidia.com",
    ),
    Row(
        "confidential VMs without NFD's CRD",
        lambda _: None,
        ("warned cluster.nfd ",),
        "looks for its CRD",
        tee=Tee.SNP,
    ),
    Row(
        "a kubelet that keeps devices to itself",
        both(
            *(kubelet_version(n, "v1.33.4") for n in GPU_NODES),
            added(*(kubelet(n, {}, "20m0s") for n in GPU_NODES[:1])),
        ),
        ("failed cluster.kubelet gpu-1",),
        "PodResources API",
    ),
    Row(
        "a kubelet in a hurry",
        added(kubelet("gpu-1", {}, "2m0s")),
        ("warned cluster.kubelet gpu-1",),
        "runtimeRequestTimeout is 2m0s",
    ),
    Row(
        "a cluster that is too old for the chart",
        lambda cluster: setattr(cluster, "version", "v1.15.0"),
        ("failed cluster.version ",),
        "v1.15.0",
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_exactly_what_is_in_the_way_is_found(row: Row) -> None:
    cluster = fresh()
    row.change(cluster)
    results = asked(cluster, row.nodes, row.stack, row.tee)
    expected = {tuple(text.split(" ", 2)) for text in row.expected}
    assert found(results) == expected, [r for r in results if r.is_problem]
    told = " ".join(result.message for result in results if result.is_problem)
    assert row.says in told
    assert all(result.remedy for result in results if result.is_problem)


@pytest.mark.parametrize("stack", Stack)
def test_what_is_installed_and_well_is_not_in_the_way(stack: Stack) -> None:
    cluster = kata_deploy_cluster() if stack is Stack.KATA_DEPLOY else coco_cluster()
    if stack is Stack.COCO_OPERATOR:
        for item in cluster.all("Node"):
            item["status"]["nodeInfo"]["containerRuntimeVersion"] = "containerd://1.6.8.2"
    assert not {key for key in found(asked(cluster, stack=stack)) if key[0] == "failed"}


def test_rights_are_told_one_by_one() -> None:
    patch, read = Call("patch", NODES), Call("list", NODES)
    results = asked(fresh(), rights={patch: False, read: True})
    assert found(results) == {("failed", "cluster.permissions", "")}
    assert "patch nodes" in next(r.message for r in results if r.id == "cluster.permissions")
    assert not found(asked(fresh(), rights={patch: True, read: True}))


def test_rights_that_could_not_be_asked_are_unknown() -> None:
    unread = Unread("selfsubjectaccessreviews", Reason.NOT_PERMITTED, "no", "Ask for it.")
    assert found(asked(fresh(), rights=unread)) == {("unknown", "cluster.permissions", "")}


def test_what_could_not_be_read_is_unknown_and_nothing_else_changes() -> None:
    for title in ("nodes", "pods", "daemonsets.apps", "deployments.apps", "namespaces"):
        cluster = fresh()
        cluster.drop("Namespace" if title == "namespaces" else "Node", "") if title in {
            "nodes",
            "namespaces",
        } else None
        cluster.missed[title] = Reason.NOT_PERMITTED.value
        statuses = {result.status for result in asked(cluster)}
        assert Status.UNKNOWN in statuses, title
        assert Status.FAILED not in statuses, title


def test_a_node_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="'gpu-11'; did you mean gpu-1"):
        asked(fresh(), ("gpu-11",))


def test_every_check_was_seen_to_find_something() -> None:
    seen = {text.split(" ")[1] for row in ROWS for text in row.expected}
    asked_elsewhere = {"cluster.reachable", "cluster.permissions"}
    assert {check.id for check in CLUSTER_CHECKS} == seen | asked_elsewhere


def test_the_moment_of_a_recording_is_its_own() -> None:
    assert dt.datetime.fromisoformat(fresh().time) == NOW
