"""Recorded clusters on a real API server: what it then tells is what was recorded."""

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

from cluster.api import Object, path_of
from cluster.controlplane import Plane
from cluster.replay import replay

pytestmark = pytest.mark.cluster

SHARED: Final = Path(os.environ.get("KGPU_SHARED", Path(__file__).parents[3] / "shared"))
RECORDINGS: Final = (
    "after-helm-uninstall-v26.7.0",
    "v25.10.1-coco-v0.17.0-kata-manager-healthy",
    "v26.7.0-healthy",
    "v26.7.0-ready-but-no-gpus",
    "v26.7.0-seed-flags-kataManager-ignored",
)
PLURALS: Final = {
    "CcRuntime": "ccruntimes",
    "ClusterPolicy": "clusterpolicies",
    "ConfigMap": "configmaps",
    "CustomResourceDefinition": "customresourcedefinitions",
    "DaemonSet": "daemonsets",
    "Deployment": "deployments",
    "Event": "events",
    "Job": "jobs",
    "Namespace": "namespaces",
    "Node": "nodes",
    "NodeFeatureRule": "nodefeaturerules",
    "Pod": "pods",
    "RuntimeClass": "runtimeclasses",
}
TIME: Final = "2026-11-20T10:00:00Z"


def is_own(item: Object) -> bool:
    """Say whether it is a ConfigMap by which the API server tells about itself."""
    return bool(item["kind"] == "ConfigMap") and item["metadata"].get("namespace") == "kube-system"


def comparable(item: Object) -> Object:
    """Leave out what the server counts itself, and what a recording cuts off a CRD."""
    copy: Object = json.loads(json.dumps(item))
    for name in ("resourceVersion", "selfLink", "managedFields"):
        copy["metadata"].pop(name, None)
    if not copy["metadata"].get("annotations"):  # the recorder took out the last one
        copy["metadata"].pop("annotations", None)
    if copy["kind"] == "CustomResourceDefinition":
        copy["spec"].pop("conversion", None)
        for version in copy["spec"]["versions"]:
            version.pop("schema", None)
            version.pop("subresources", None)
    return copy


def by_name(items: list[Object]) -> dict[tuple[str, ...], Object]:
    return {
        (
            item["apiVersion"],
            item["kind"],
            item["metadata"].get("namespace", ""),
            item["metadata"]["name"],
        ): comparable(item)
        for item in items
        if not is_own(item)
    }


def live(plane: Plane, recording: Object) -> dict[tuple[str, ...], Object]:
    """List every kind of the recording through the API."""
    kinds = {(item["apiVersion"], item["kind"]) for item in recording["items"]}
    return by_name(
        [
            item
            for version, kind in sorted(kinds)
            for item in plane.api.items(path_of(f"{version}/{PLURALS[kind]}"))
        ]
    )


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recorded_cluster_is_listed_as_it_was(bare: Plane, name: str) -> None:
    file = SHARED / "snapshots" / f"{name}.json"
    if not file.exists():
        pytest.skip(f"the recording {file.name} is not here")
    recording = json.loads(file.read_bytes())

    replay(bare, recording)

    assert live(bare, recording) == by_name(recording["items"])


def small() -> dict[str, Any]:
    """Return a recording with what is hard to bring back through the API."""
    policy = {"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "name": "p", "uid": "u-1"}
    definition = {
        "group": "nvidia.com",
        "names": {
            "kind": "ClusterPolicy",
            "listKind": "ClusterPolicyList",
            "plural": "clusterpolicies",
            "singular": "clusterpolicy",
        },
        "scope": "Cluster",
        "versions": [{"name": "v1", "served": True, "storage": True}],
    }

    def item(version: str, kind: str, name: str, namespace: str = "", **rest: object) -> Object:
        metadata = {"name": name, "uid": f"u-{name}", "creationTimestamp": TIME}
        place = {"namespace": namespace} if namespace else {}
        own = rest.pop("metadata", {})
        assert isinstance(own, dict)
        return {
            "apiVersion": version,
            "kind": kind,
            "metadata": metadata | place | own,
            **rest,
        }

    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            item(
                "v1",
                "Pod",
                "stuck",
                "gpu-operator",
                metadata={
                    "deletionTimestamp": TIME,
                    "deletionGracePeriodSeconds": 30,
                    "finalizers": ["example.com/held"],
                    "ownerReferences": [policy],
                    "generation": 4,
                },
                spec={
                    "containers": [{"name": "c", "image": "c"}],
                    "nodeName": "gpu-1",
                    "overhead": {"cpu": "1"},
                },
                status={"phase": "Running", "qosClass": "BestEffort"},
            ),
            item(
                "nvidia.com/v1",
                "ClusterPolicy",
                "p",
                metadata={"uid": "u-1", "generation": 2},
                spec={"anything": {"goes": 1}},
                status={"state": "ready"},
            ),
            item(
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                "clusterpolicies.nvidia.com",
                spec=definition,
            ),
            item(
                "v1",
                "Namespace",
                "gpu-operator",
                metadata={"labels": {"kubernetes.io/metadata.name": "gpu-operator"}},
                status={"phase": "Terminating"},
            ),
            item(
                "v1",
                "Event",
                "stuck.1",
                "gpu-operator",
                involvedObject={"kind": "Pod", "name": "stuck", "uid": "u-stuck"},
                reason="FailedKillPod",
                message="held",
                lastTimestamp=TIME,
                count=7,
            ),
            item("v1", "Node", "gpu-1", status={"allocatable": {"nvidia.com/pgpu": "8"}}),
        ],
    }


def test_owners_deletions_statuses_and_times_are_the_recorded_ones(bare: Plane) -> None:
    recording = small()

    replay(bare, recording)

    told = live(bare, recording)
    for name, wanted in by_name(recording["items"]).items():
        found = told[name]
        # A server adds defaults to what is written by hand, but changes nothing.
        assert found["metadata"] == wanted["metadata"]
        if "status" in wanted:
            assert found["status"] == found["status"] | wanted["status"]
    (event,) = bare.api.items("/api/v1/events")
    assert event["involvedObject"]["uid"] == "u-stuck"
    assert (event["lastTimestamp"], event["count"]) == (TIME, 7)
    policy = bare.api.get("/apis/nvidia.com/v1/clusterpolicies/p")
    assert (policy["spec"], policy["status"]) == ({"anything": {"goes": 1}}, {"state": "ready"})


def test_what_was_replayed_can_be_changed_through_the_api(bare: Plane) -> None:
    replay(bare, small())

    node = bare.api.patch("/api/v1/nodes/gpu-1", {"metadata": {"labels": {"a": "b"}}})
    policy = bare.api.patch(
        "/apis/nvidia.com/v1/clusterpolicies/p/status", {"status": {"state": "notReady"}}
    )
    bare.api.patch(path_of("v1/pods", "gpu-operator", "stuck"), {"metadata": {"finalizers": None}})

    assert node["status"]["allocatable"] == {"nvidia.com/pgpu": "8"}
    assert policy["spec"] == {"anything": {"goes": 1}}
    bare.api.delete(path_of("v1/pods", "gpu-operator", "stuck"))
    assert bare.api.items("/api/v1/pods") == []


def test_one_recording_replaces_another_after_a_wipe(bare: Plane) -> None:
    replay(bare, small())
    bare.wipe()
    second = small()
    second["items"][1]["status"] = {"state": "notReady"}

    replay(bare, second)

    (policy,) = bare.api.items("/apis/nvidia.com/v1/clusterpolicies")
    assert policy["status"] == {"state": "notReady"}
