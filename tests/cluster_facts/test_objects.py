"""What is kept of objects, what GPUs are, and how JSON becomes values."""

from typing import Final

import msgspec
import pytest

from clusters import (
    OLD,
    Json,
    event,
    gpu_pod,
    kata_deploy_cluster,
    node,
    pod,
)
from kgpuctl.cluster.custom import CustomResourceDefinition
from kgpuctl.cluster.decoding import decode
from kgpuctl.cluster.gpus import (
    asked_of,
    count,
    is_gpu_node,
    is_over,
    is_passthrough_resource,
    is_ready,
)
from kgpuctl.cluster.keep import keeper, requests_gpu
from kgpuctl.cluster.objects import Event, Metadata, Node, NodeStatus, OwnerReference, Pod, Shape
from kgpuctl.cluster.resources import CRDS, EVENTS, NODES, PODS, Resource

OPERAND: Final = {"kind": "DaemonSet", "name": "nvidia-vfio-manager", "uid": "u"}


def as_node(value: Json) -> Node:
    return msgspec.convert(value, Node)


def as_pod(value: Json) -> Pod:
    return msgspec.convert(value, Pod)


def kept(resource: Resource, value: Shape) -> Shape | None:
    return keeper(resource)(value)


# ---- kept ----------------------------------------------------------------------------------------


def plain_pod(**spec: object) -> Pod:
    return as_pod(pod("web", "default", "cpu-1", spec=spec))


@pytest.mark.parametrize(
    ("made", "stays"),
    [
        (plain_pod(), False),
        (plain_pod(runtimeClassName="nvidia"), False),
        (plain_pod(runtimeClassName="gvisor"), True),
        (as_pod(gpu_pod("vm")), True),
        (as_pod(gpu_pod("plain", resource="nvidia.com/gpu", runtime_class="")), True),
        (as_pod(pod("nvidia-vfio-manager-x", "gpu-operator", "gpu-1", owner=OPERAND)), True),
        (as_pod(pod("x", "default", "n", owner={"kind": "Job", "name": "backup"})), False),
    ],
    ids=[
        "plain",
        "nvidia",
        "another VM",
        "VM with a GPU",
        "container with a GPU",
        "operand",
        "Job",
    ],
)
def test_which_pods_are_kept(made: Pod, *, stays: bool) -> None:
    assert (kept(PODS, made) is not None) is stays


def test_a_pod_of_the_stack_that_is_well_is_kept_small() -> None:
    made = as_pod(
        pod("nvidia-vfio-manager-x", "gpu-operator", "gpu-1", owner=OPERAND, image="x/y:1")
    )

    small = kept(PODS, made)

    assert isinstance(small, Pod)
    assert small.spec.node_name == "gpu-1"
    assert [item.image for item in small.spec.containers] == [""]
    assert small.status.container_statuses == ()
    owner = small.metadata.controller
    assert owner == OwnerReference("DaemonSet", "nvidia-vfio-manager", "u", controller=True)


def test_a_pod_of_the_stack_that_is_not_well_is_kept_whole() -> None:
    value = pod("nvidia-vfio-manager-x", "gpu-operator", "gpu-1", owner=OPERAND)
    value["status"]["conditions"] = [{"type": "Ready", "status": "False"}]

    whole = kept(PODS, as_pod(value))

    assert isinstance(whole, Pod)
    assert whole.status.container_statuses


def test_only_warnings_are_kept_of_events() -> None:
    value = event("Pod", "default", "x", "Scheduled", "all is well")
    normal = msgspec.convert(value | {"type": "Normal"}, Event)
    warning = msgspec.convert(value, Event)

    assert kept(EVENTS, normal) is None
    assert isinstance(kept(EVENTS, warning), Event)


def test_a_node_keeps_what_is_wrong_with_it() -> None:
    value = node("n", {})
    value["status"]["conditions"] = [
        {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "stopped"},
        {"type": "MemoryPressure", "status": "True", "reason": "Full", "message": "x"},
        {"type": "DiskPressure", "status": "False"},
        {"type": "NetworkUnavailable", "status": "False"},
    ]

    found = kept(NODES, as_node(value))

    assert isinstance(found, Node)
    assert [item.type for item in found.status.conditions] == ["Ready", "MemoryPressure"]
    assert found.status.conditions[0].message == "stopped"


@pytest.mark.parametrize(
    ("group", "stays"), [("nvidia.com", True), ("example.com", False), ("nfd.k8s-sigs.io", True)]
)
def test_only_our_definitions_are_kept(group: str, *, stays: bool) -> None:
    fields: Json = {
        "sandboxWorkloads": {"properties": {"enabled": {}, "mode": {"properties": {"x": {}}}}}
    }
    schema = {"openAPIV3Schema": {"properties": {"spec": {"properties": fields}}}}
    value = {
        "metadata": {"name": "x"},
        "spec": {"group": group, "versions": [{"name": "v1", "schema": schema}]},
    }

    found = kept(CRDS, msgspec.convert(value, CustomResourceDefinition))

    assert (found is not None) is stays
    if isinstance(found, CustomResourceDefinition):
        assert found.spec.versions[0].schema.sandbox_fields == {"enabled", "mode"}


# ---- GPUs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("nvidia.com/pgpu", True),
        ("nvidia.com/GA102GL_A10", True),
        ("nvidia.com/2330", True),
        ("nvidia.com/nvswitch", False),
        ("nvidia.com/gpu", False),
        ("nvidia.com/gpu.shared", False),
        ("nvidia.com/mig-1g.10gb", False),
        ("amd.com/gpu", False),
        ("memory", False),
    ],
)
def test_which_resources_go_into_vms(name: str, *, is_one: bool) -> None:
    assert is_passthrough_resource(name) is is_one


@pytest.mark.parametrize(
    ("labels", "offers", "is_one"),
    [
        ({}, {}, False),
        ({"feature.node.kubernetes.io/pci-10de.present": "true"}, {}, True),
        ({"feature.node.kubernetes.io/pci-0302_10de.present": "true"}, {}, True),
        ({"nvidia.com/gpu.present": "true"}, {}, True),
        ({"nvidia.com/gpu.present": "false"}, {}, False),
        ({}, {"nvidia.com/pgpu": "8"}, True),
        ({}, {"nvidia.com/pgpu": "0"}, False),
        ({}, {"amd.com/gpu": "8"}, False),
    ],
)
def test_which_nodes_have_gpus(labels: Json, offers: Json, *, is_one: bool) -> None:
    assert is_gpu_node(as_node(node("n", labels, offers=offers))) is is_one


@pytest.mark.parametrize(
    ("amount", "number"), [("8", 8), (8, 8), ("0", 0), ("", 0), ("1k", 0), ("-1", 0), ("٣", 3)]
)
def test_amounts(amount: str | int, number: int) -> None:
    assert count(amount) == number


def asks(*containers: Json, init: tuple[Json, ...] = ()) -> Pod:
    return as_pod(
        {
            "metadata": {"name": "x"},
            "spec": {
                "containers": [{"name": "c", "resources": item} for item in containers],
                "initContainers": [{"name": "i", "resources": item} for item in init],
            },
        }
    )


PGPU: Final = "nvidia.com/pgpu"


@pytest.mark.parametrize(
    ("made", "held"),
    [
        (asks({}), {}),
        (asks({"limits": {PGPU: "1"}}), {PGPU: 1}),
        (asks({"requests": {PGPU: 2}}), {PGPU: 2}),
        (asks({"limits": {PGPU: "1"}, "requests": {PGPU: "1"}}), {PGPU: 1}),
        (asks({"limits": {PGPU: "1"}}, {"limits": {PGPU: "2"}}), {PGPU: 3}),
        (asks({"limits": {PGPU: "1"}}, init=({"limits": {PGPU: "4"}},)), {PGPU: 4}),
        (asks({"limits": {"cpu": "1"}}), {}),
    ],
)
def test_what_a_pod_holds(made: Pod, held: dict[str, int]) -> None:
    assert asked_of(made) == held
    assert any(map(requests_gpu, (*made.spec.containers, *made.spec.init_containers))) is bool(held)


@pytest.mark.parametrize(
    ("phase", "over"), [("Succeeded", True), ("Failed", True), ("Running", False)]
)
def test_what_has_ended(phase: str, *, over: bool) -> None:
    assert is_over(as_pod({"metadata": {"name": "x"}, "status": {"phase": phase}})) is over


def test_a_node_is_ready_that_says_so() -> None:
    assert is_ready(as_node(node("n", {})))
    assert not is_ready(Node(Metadata("n"), status=NodeStatus()))


# ---- decoding ------------------------------------------------------------------------------------


def test_nulls_are_passed_over_at_every_depth() -> None:
    content = b'{"metadata":{"name":"n","labels":{"a":"b","c":null}},"spec":{"taints":[null]}}'

    found = decode(content, Node)

    assert found.metadata.labels == {"a": "b"}
    assert found.spec.taints == ()


def test_a_wrong_type_is_told_with_its_place() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.metadata\.name"):
        decode(b'{"metadata":{"name":[]}}', Node)


def test_what_is_no_json_is_not_decoded() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(b"{", Node)


def test_events_are_as_old_as_they_say() -> None:
    old = event("Pod", "d", "x", "r", "m", lastTimestamp=None, eventTime=OLD)
    series = old | {"series": {"count": 2, "lastObservedTime": "2026-11-24T00:00:00Z"}}

    assert decode(msgspec.json.encode(old), Event).time == OLD
    assert decode(msgspec.json.encode(series), Event).time == "2026-11-24T00:00:00Z"


def test_owners_are_found() -> None:
    cluster = kata_deploy_cluster()

    found = as_pod(cluster.pod("nvidia-vfio-manager")).metadata

    assert found.controller is not None
    assert found.controller.name == "nvidia-vfio-manager"
    assert found.full_name == "gpu-operator/nvidia-vfio-manager-gpu-1"
