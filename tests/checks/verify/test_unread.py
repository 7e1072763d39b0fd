"""What could not be read is never guessed: a verdict becomes unknown or skipped, and no better."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.verify.varied import (
    BOTH,
    COCO,
    KATA,
    WAITS,
    crash,
    gone,
    healthy,
    label,
    offers,
    policy_status,
    together,
)
from clusters import (
    NFD_LABEL,
    TARGETS,
    WORKLOAD,
    Change,
    Cluster,
    ago,
    event,
    gpu_pod,
    judged,
)
from kgpuctl.cluster.snapshot import LISTS, ClusterSnapshot
from kgpuctl.report import Result, Status
from kgpuctl.unread import Reason, Unread

NAMES: Final = (*(listed.name for listed in LISTS), "logs")
GOOD: Final = frozenset({Status.PASSED, Status.SKIPPED})


def by_default(cluster: Cluster) -> None:
    """No node is labelled: the ClusterPolicy says that all GPUs go to VMs."""
    cluster.policy()["spec"]["sandboxWorkloads"]["defaultWorkload"] = "vm-passthrough"
    for name in TARGETS:
        del cluster.labels(name)[WORKLOAD]


def stuck_pod(cluster: Cluster) -> None:
    made = gpu_pod("stuck")
    made["metadata"]["creationTimestamp"] = ago(minutes=5)
    made["status"] = {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}
    text = "Failed to create pod sandbox: rpc error: ttrpc: closed: unknown"
    cluster.add(made, event("Pod", "default", "stuck", "FailedCreatePodSandBox", text))


def refused(cluster: Cluster) -> None:
    text = 'pods "x" is forbidden: pod rejected: RuntimeClass "kata-qemu-nvidia-gpu-x" not found'
    cluster.add(event("ReplicaSet", "default", "app", "FailedCreate", text))


def stuck_namespace(cluster: Cluster) -> None:
    item = cluster.get("Namespace", "gpu-operator")
    item["metadata"]["deletionTimestamp"] = ago(hours=1)


def no_operator(cluster: Cluster) -> None:
    cluster.drop("Deployment", "gpu-operator")
    cluster.drop_pods("gpu-operator")


def not_done(cluster: Cluster) -> None:
    for item in cluster.all("PodLog"):
        item["text"] = "Pulling"


VFIO: Final = "nvidia-vfio-manager"
CLUSTERS: Final[dict[str, tuple[str, Change]]] = {
    "healthy": (KATA, lambda _: None),
    "healthy, CoCo": (COCO, lambda _: None),
    "by default": (KATA, by_default),
    "no operator": (KATA, no_operator),
    "no NFD": (COCO, label("gpu-1", NFD_LABEL, None)),
    "no status": (KATA, policy_status("")),
    "crashing": (KATA, together(crash(VFIO, VFIO, "", written="boom"), WAITS)),
    "nothing bound": (COCO, offers("gpu-1", {})),
    "installer crashes": (KATA, crash("kata-deploy", "kube-kata", "")),
    "installer missing there": (KATA, gone("kata-deploy", "gpu-1")),
    "no handler": (KATA, label("gpu-1", "nvidia.com/cc.ready.state", None)),
    "stuck pod": (KATA, stuck_pod),
    "refused pods": (KATA, refused),
    "stuck namespace": (KATA, stuck_namespace),
    "kata-manager not done": (COCO, not_done),
}


@cache
def snapshot_of(name: str) -> ClusterSnapshot:
    stack, change = CLUSTERS[name]
    cluster = healthy(stack)
    change(cluster)
    return cluster.snapshot()


@cache
def whole(name: str) -> dict[tuple[str, str], Status]:
    """Return the worst that is said of each subject with everything read."""
    return worst(judged(snapshot_of(name)).results)


def worst(results: Iterable[Result]) -> dict[tuple[str, str], Status]:
    order = list(Status)
    found: dict[tuple[str, str], Status] = {}
    for result in results:
        where = (result.id, result.subject)
        found[where] = max(found.get(where, Status.PASSED), result.status, key=order.index)
    return found


def without(snapshot: ClusterSnapshot, names: Iterable[str], reason: Reason) -> ClusterSnapshot:
    """Return a snapshot of somebody who may not read these."""
    gone = {name: Unread(name, reason, f"you may not list {name}") for name in names}
    return replace(snapshot, **gone)  # type: ignore[arg-type]  # each name has its own type


@pytest.mark.parametrize("name", CLUSTERS)
@given(names=st.sets(st.sampled_from(NAMES), min_size=1))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_what_is_forbidden_is_never_guessed(name: str, names: set[str]) -> None:
    less = without(snapshot_of(name), names, Reason.NOT_PERMITTED)

    results = judged(less).results

    _assert_no_better(whole(name), results)


def _assert_no_better(full: dict[tuple[str, str], Status], results: tuple[Result, ...]) -> None:
    partly = worst(results)
    unknown = {result.id for result in results if result.status is Status.UNKNOWN}
    failed = {result.id for result in results if result.status is Status.FAILED}
    were_wrong = {id_ for (id_, _), status in full.items() if status is Status.FAILED}
    for (id_, subject), status in partly.items():
        before = full.get((id_, subject))
        if status is Status.FAILED:
            # What followed from another finding stands for itself where that is not seen.
            assert id_ in were_wrong or before is Status.SKIPPED, f"{id_} {subject} is guessed"
        if status is Status.PASSED and before is not None:
            assert before in GOOD | {Status.WARNED}, f"{id_} {subject} passes by guessing"
    for (id_, subject), status in full.items():
        if status is not Status.FAILED or partly.get((id_, subject)) is Status.FAILED:
            continue
        # What was wrong is not to be seen now: then something must say that it could not look.
        assert unknown or failed, f"{id_} {subject} failed, and now all is well"


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.parametrize("reason", [Reason.NOT_PERMITTED, Reason.NOT_RECORDED])
@pytest.mark.parametrize("names", [("events",), ("logs",), ("events", "logs")])
def test_less_to_read_makes_no_failure_a_pass(
    name: str, names: tuple[str, ...], reason: Reason
) -> None:
    less = worst(judged(without(snapshot_of(name), names, reason)).results)

    for where, status in whole(name).items():
        if status is Status.FAILED:
            assert less.get(where) is not Status.PASSED


@pytest.mark.parametrize("stack", BOTH)
def test_nothing_at_all_is_all_unknown(stack: str) -> None:
    nothing = without(healthy(stack).snapshot(), NAMES, Reason.NOT_PERMITTED)

    report = judged(nothing)

    assert {result.status for result in report.results} <= {Status.UNKNOWN, Status.SKIPPED}
    assert report.exit_code == 4


@pytest.mark.parametrize("stack", BOTH)
@pytest.mark.parametrize("name", NAMES)
def test_a_healthy_cluster_never_fails_for_what_is_not_read(stack: str, name: str) -> None:
    report = judged(without(healthy(stack).snapshot(), (name,), Reason.NOT_PERMITTED))

    assert report.exit_code in {0, 4}
