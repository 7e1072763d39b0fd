"""The large cluster of the benchmarks, made small: it hangs together as a healthy one does."""

import json
from collections import Counter
from typing import Final

import pytest

from cluster.api import path_of
from cluster.controlplane import Plane
from cluster.healthy_stack import OPERANDS
from cluster.large import load

pytestmark = pytest.mark.cluster

NODES: Final = 7


def test_every_object_is_there_once_and_owners_are_found(bare: Plane) -> None:
    load(bare, NODES)

    nodes, pods = bare.api.items("/api/v1/nodes"), bare.api.items("/api/v1/pods")
    sets = bare.api.items(path_of("apps/v1/daemonsets"))
    owned = Counter(pod["metadata"]["ownerReferences"][0]["uid"] for pod in pods)
    assert len({item["metadata"]["uid"] for item in [*nodes, *pods]}) == NODES * 10
    assert Counter(pod["spec"]["nodeName"] for pod in pods) == {
        node["metadata"]["name"]: 9 for node in nodes
    }
    assert len(sets) == len(OPERANDS)
    for item in sets:
        assert owned[item["metadata"]["uid"]] == item["status"]["numberReady"]
        here = item["status"]["desiredNumberScheduled"] > 0
        selector = item["spec"]["template"]["spec"].get("nodeSelector", {})
        selected = [
            node for node in nodes if selector.items() <= node["metadata"]["labels"].items()
        ]
        assert len(selected) == (NODES if here else 0)


def test_one_gpu_class_fits_every_node(bare: Plane) -> None:
    load(bare, NODES)

    classes = bare.api.items(path_of("node.k8s.io/v1/runtimeclasses"))
    for node in bare.api.items("/api/v1/nodes"):
        labels, status = node["metadata"]["labels"], node["status"]
        handlers = {handler["name"] for handler in status["runtimeHandlers"]}
        fitting = [
            item["metadata"]["name"]
            for item in classes
            if "scheduling" in item and item["scheduling"]["nodeSelector"].items() <= labels.items()
        ]
        assert fitting == ["kata-qemu-nvidia-gpu"]
        assert set(fitting) <= handlers
        assert status["allocatable"]["nvidia.com/pgpu"] == "8"


def test_sizes_are_those_of_real_objects(bare: Plane) -> None:
    load(bare, NODES)

    for path, wanted in (("/api/v1/nodes", 13_800), ("/api/v1/pods", 4_800)):
        items = bare.api.get(path)["items"]
        average = sum(len(json.dumps(item, separators=(",", ":"))) for item in items) / len(items)
        assert 0.9 * wanted < average < 1.1 * wanted


def test_a_node_without_room_for_the_operands_is_refused(bare: Plane) -> None:
    with pytest.raises(ValueError, match="at least 6 pods"):
        load(bare, NODES, pods_per_node=5)
