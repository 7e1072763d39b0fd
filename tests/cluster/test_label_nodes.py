"""label-nodes on a real control plane: killed and run again, budgets, two administrators."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from cluster.api import Object, path_of, side_by_side
from cluster.controlplane import Plane
from kgpuctl.cluster.rights import Holder, manifest
from kgpuctl.names import COCO_WORKER_LABEL, WORKLOAD_LABEL
from kgpuctl.steps.label import CALLS
from steps.command import Administrator

pytestmark = pytest.mark.cluster

NODES: Final = path_of("v1/nodes")
LEASE: Final = path_of("coordination.k8s.io/v1/leases", "kube-system", "kgpuctl")
PODS: Final = path_of("v1/pods", "default")
TTL: Final = "node.alpha.kubernetes.io/ttl"  # a controller's, who sets it as the cluster grows
MANY: Final = 1000
NFD: Final = {"feature.node.kubernetes.io/pci-10de.present": "true"}


def node(name: str, labels: Mapping[str, str] | None = None) -> Object:
    resources = {"cpu": "64", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": "8"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, **NFD, **(labels or {})},
            "annotations": {"kwok.x-k8s.io/node": "fake", "team": "blue"},
        },
        "status": {"allocatable": resources, "capacity": resources},
    }


def make(plane: Plane, nodes: list[Object]) -> None:
    side_by_side(lambda one: plane.api.create(NODES, one), nodes)
    until(lambda: all(map(_is_ready, plane.api.items(NODES))))


def _is_ready(one: Object) -> bool:
    return any(
        item["type"] == "Ready" and item["status"] == "True"
        for item in one["status"].get("conditions", [])
    ) and not one["spec"].get("taints")


def until(is_true: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "this did not become true in time"
        time.sleep(0.02)


def marks(plane: Plane) -> dict[str, str]:
    """Return what label-nodes may change of each node, byte for byte."""
    return {
        one["metadata"]["name"]: json.dumps(
            [
                one["metadata"]["labels"],
                {key: text for key, text in one["metadata"]["annotations"].items() if key != TTL},
                one["spec"],
            ],
            sort_keys=True,
        )
        for one in plane.api.items(NODES)
    }


def labelled(plane: Plane, value: str = "vm-passthrough") -> int:
    return len(plane.api.items(f"{NODES}?labelSelector={WORKLOAD_LABEL}%3D{value}"))


@pytest.fixture
def alice(plane: Plane, tmp_path: Path) -> Administrator:
    return Administrator(tmp_path, plane.kubeconfig())


@contextmanager
def started(alice: Administrator, *words: str) -> Iterator[subprocess.Popen[str]]:
    with alice.start(*words) as process:
        try:
            yield process
        finally:
            process.kill()


def named_in(journals: list[Path]) -> set[str]:
    lines = (line for path in journals for line in path.read_text().splitlines())
    return {json.loads(line)["object"].removeprefix("node/") for line in lines}


def done_in(journals: list[Path]) -> int:
    return sum(path.read_text().count('"result":"done"') for path in journals)


def test_a_thousand_nodes_killed_again_and_again_then_restored(
    plane: Plane, alice: Administrator
) -> None:
    states: list[dict[str, str]] = [
        {},
        {WORKLOAD_LABEL: "container"},
        {WORKLOAD_LABEL: "kata"},
        {COCO_WORKER_LABEL: "old"},
    ]
    make(plane, [node(f"gpu-{number:04}", states[number % 4]) for number in range(MANY)])
    before = marks(plane)
    words = ("--all-gpu-nodes", "--yes", "--stack", "coco-operator")

    for point in (1, 200, 550, 950):
        with started(alice, *words) as process:
            until(lambda point=point: done_in(alice.journals) >= point)  # type: ignore[misc]
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        now = marks(plane)
        changed = {name for name, mark in now.items() if mark != before[name]}
        assert changed <= named_in(alice.journals)
    done = alice.run(*words)
    after = marks(plane)
    again = alice.run(*words)

    assert done.exit_code == 0, done.err
    assert "that process is gone" in done.err
    assert labelled(plane) == MANY
    assert again.out.splitlines()[-1] == "✓ Nothing to do, 1,000 nodes were so already."
    assert marks(plane) == after

    for more in (1, 300, 300):
        began = done_in(alice.journals)
        with started(alice, "--all-gpu-nodes", "--restore", "--yes") as process:
            until(lambda goal=began + more: done_in(alice.journals) >= goal)  # type: ignore[misc]
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
    back = alice.run("--all-gpu-nodes", "--restore", "--yes")

    assert back.exit_code == 0, back.err
    assert marks(plane) == before
    assert alice.run("--all-gpu-nodes", "--restore", "--yes").exit_code == 0
    assert marks(plane) == before


def workload(plane: Plane, replicas: int, at_least: int) -> None:
    """Run pods that hold GPUs, with a budget of how many must stay."""
    labels = {"app": "train"}
    container = {
        "name": "main",
        "image": "example/train",
        "resources": {"limits": {"nvidia.com/gpu": "4"}},
    }
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }
    plane.api.create(
        path_of("apps/v1/deployments", "default"),
        {
            "metadata": {"name": "train"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": template,
            },
        },
    )
    plane.api.create(
        path_of("policy/v1/poddisruptionbudgets", "default"),
        {
            "metadata": {"name": "train-budget"},
            "spec": {"minAvailable": at_least, "selector": {"matchLabels": labels}},
        },
    )
    budget = path_of("policy/v1/poddisruptionbudgets", "default", "train-budget")
    until(lambda: plane.api.get(budget).get("status", {}).get("currentHealthy", 0) == replicas)


def nodes_in_use(plane: Plane) -> set[str]:
    return {
        one["spec"]["nodeName"]
        for one in plane.api.items(PODS)
        if not one["metadata"].get("deletionTimestamp") and one["spec"].get("nodeName")
    }


def test_a_budget_that_forbids_it_is_respected_and_named(
    plane: Plane, alice: Administrator
) -> None:
    make(plane, [node("gpu-1")])
    workload(plane, replicas=2, at_least=2)
    pods = {one["metadata"]["uid"] for one in plane.api.items(PODS)}
    before = marks(plane)

    refused = alice.run("gpu-1", "--yes")
    evicting = alice.run("gpu-1", "--yes", "--evict", "--timeout", "4s")

    assert refused.exit_code == evicting.exit_code == 5
    told = " ".join(refused.out.split())
    assert "its GPUs are in use by default/train-" in told
    assert "(nvidia.com/gpu: 4)" in told
    told = " ".join(evicting.out.split())
    assert "the 4 s of --timeout are over, and it still waited for default/train-" in told
    assert "The disruption budget train-budget needs 2 healthy pods and has 2 currently" in told
    assert {one["metadata"]["uid"] for one in plane.api.items(PODS)} == pods
    assert marks(plane) == before


def test_pods_move_elsewhere_and_the_node_is_given_back(plane: Plane, alice: Administrator) -> None:
    make(plane, [node("gpu-1")])
    workload(plane, replicas=2, at_least=1)
    assert nodes_in_use(plane) == {"gpu-1"}
    make(plane, [node("gpu-2")])

    ended = alice.run("gpu-1", "--yes", "--evict", "--timeout", "60s")

    assert ended.exit_code == 0, ended.err + ended.out
    assert labelled(plane) == 1
    until(lambda: "gpu-2" in nodes_in_use(plane))
    spec = plane.api.get(f"{NODES}/gpu-1")
    assert not spec["spec"].get("unschedulable")
    assert "kgpuctl/cordoned" not in spec["metadata"]["annotations"]
    assert "; evicted default/train-" in " ".join(ended.out.split())


def test_a_run_killed_while_it_evicts_is_put_in_order_by_the_next(
    plane: Plane, alice: Administrator
) -> None:
    make(plane, [node("gpu-1"), node("gpu-2")])
    plane.api.patch(f"{NODES}/gpu-2", {"spec": {"unschedulable": True}})
    workload(plane, replicas=2, at_least=2)
    before = marks(plane)

    with started(alice, "gpu-1", "--yes", "--evict") as process:
        until(lambda: bool(plane.api.get(f"{NODES}/gpu-1")["spec"].get("unschedulable")))
        process.kill()
        process.communicate()
    again = alice.run("gpu-1", "gpu-2", "--yes", "--evict", "--timeout", "3s")

    assert again.exit_code == 5
    now = marks(plane)
    assert now["gpu-1"] == before["gpu-1"]
    assert plane.api.get(f"{NODES}/gpu-2")["spec"]["unschedulable"] is True  # somebody else's


def test_two_administrators_at_once(
    plane: Plane, alice: Administrator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    make(plane, [node("gpu-1"), node("gpu-2")])
    workload(plane, replicas=2, at_least=2)
    busy = min(nodes_in_use(plane))
    bob = replace(alice, home=tmp_path_factory.mktemp("bob"))

    with started(alice, busy, "--yes", "--evict") as process:
        until(lambda: bool(plane.api.get(f"{NODES}/{busy}")["spec"].get("unschedulable")))
        second = bob.run("gpu-1", "gpu-2", "--yes", "--evict")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    assert second.exit_code == 5
    assert f"(process {process.pid}) with `kgpuctl label-nodes` since " in second.err
    assert process.returncode == 130
    assert "Interrupted: 0 of 1 node were labelled" in err
    assert labelled(plane) == 0
    assert not plane.api.get(f"{NODES}/{busy}")["spec"].get("unschedulable")
    assert plane.api.get(LEASE)["spec"]["holderIdentity"] == ""


def grant(plane: Plane, calls: tuple[Any, ...], user: str) -> None:
    paths = {
        "ClusterRole": "clusterroles",
        "ClusterRoleBinding": "clusterrolebindings",
        "Role": "roles",
        "RoleBinding": "rolebindings",
    }
    for one in yaml.safe_load_all(
        yaml.safe_dump_all(manifest("kgpuctl-test", calls, Holder("User", user)))
    ):
        if one["kind"] in paths:
            namespace = one["metadata"].get("namespace", "")
            plural = f"rbac.authorization.k8s.io/v1/{paths[one['kind']]}"
            plane.api.create(path_of(plural, namespace), one)


def test_the_printed_rights_are_enough_and_a_missing_one_is_named(
    plane: Plane, tmp_path: Path
) -> None:
    make(plane, [node("gpu-1"), node("gpu-2")])
    workload(plane, replicas=1, at_least=0)
    grant(plane, CALLS, "carol")
    carol = Administrator(tmp_path, plane.kubeconfig("carol"))
    dave = Administrator(tmp_path, plane.kubeconfig("dave"))
    until(lambda: "cannot list" not in carol.run("gpu-1", "--dry-run").err)

    poor = dave.run("gpu-1", "gpu-2", "--yes", "--evict")
    ended = carol.run("gpu-1", "gpu-2", "--yes", "--evict", "--timeout", "60s")
    back = carol.run("--all-gpu-nodes", "--restore", "--yes", "--evict", "--timeout", "60s")

    assert poor.exit_code == 4
    assert "list nodes" in poor.err
    assert (ended.exit_code, back.exit_code) == (0, 0), ended.out + ended.err + back.out + back.err
