"""Recorded clusters: what is written is read again, what kubectl writes too, what is broken not."""

import gzip
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusters import (
    Json,
    coco_cluster,
    gpu_pod,
    judged,
    kata_deploy_cluster,
    kubelet,
    log,
    node,
)
from kgpuctl.cluster.recording import dump, open_snapshot, packed
from kgpuctl.cluster.snapshot import LISTS, ClusterSnapshot
from kgpuctl.errors import KgpuctlError, UnreachableError, UsageError
from kgpuctl.unread import Reason, Unread

KUBECTL: Final[Json] = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}}
FACTS: Final = (*(listed.name for listed in LISTS), "logs", "kubelets", "version")


def written(folder: Path, content: bytes, name: str = "cluster.json") -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


def read(folder: Path, value: Any) -> ClusterSnapshot:  # noqa: ANN401  # JSON
    return open_snapshot(written(folder, json.dumps(value).encode()))


def whole() -> ClusterSnapshot:
    """Return a cluster with something of everything."""
    cluster = kata_deploy_cluster()
    cluster.add(*(coco_cluster().all("CcRuntime")), kubelet("gpu-1", {"A": True}, "20m0s"))
    cluster.add(log(cluster.pod("nvidia-vfio-manager"), "nvidia-vfio-manager", "bound\n"))
    cluster.missed = {"jobs.batch": "permission denied"}
    return cluster.snapshot()


# ---- what kgpuctl writes -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["json", "json.gz"])
def test_what_is_written_is_read_again(suffix: str, tmp_path: Path) -> None:
    first = whole()
    chunks = dump(first) if suffix == "json" else packed(dump(first))

    again = open_snapshot(written(tmp_path, b"".join(chunks), f"cluster.{suffix}"))

    for name in FACTS:
        one, other = getattr(first, name), getattr(again, name)
        if isinstance(one, Unread):
            assert isinstance(other, Unread)
            assert (one.path, one.reason) == (other.path, other.reason)
        else:
            assert one == other
    assert again.source.time == first.source.time


def test_what_is_written_is_a_list_of_kubernetes() -> None:
    value = json.loads(b"".join(dump(whole())))

    assert value["kind"] == "List"
    assert value["serverVersion"] == {"gitVersion": "v1.35.1"}
    assert all(item["kind"] and item["apiVersion"] for item in value["items"])
    assert {"Node", "Pod", "CcRuntime", "PodLog", "KubeletConfig", "Snapshot"} <= {
        item["kind"] for item in value["items"]
    }


def test_the_same_cluster_gives_the_same_bytes() -> None:
    snapshot = whole()

    assert b"".join(packed(dump(snapshot))) == b"".join(packed(dump(snapshot)))


def test_nothing_is_not_the_same_as_not_looked(tmp_path: Path) -> None:
    cluster = kata_deploy_cluster()
    cluster.missed = {"events": "permission denied"}

    snapshot = open_snapshot(written(tmp_path, cluster.content()))

    assert snapshot.jobs == ()
    assert isinstance(snapshot.events, Unread)
    assert snapshot.events.reason is Reason.NOT_PERMITTED
    assert "kgpuctl rbac" in snapshot.events.remedy


def test_an_unknown_reason_is_not_taken_for_nothing(tmp_path: Path) -> None:
    cluster = kata_deploy_cluster()
    cluster.missed = {"nodes": "the moon was full"}

    snapshot = open_snapshot(written(tmp_path, cluster.content()))

    assert isinstance(snapshot.nodes, Unread)
    assert snapshot.nodes.reason is Reason.UNUSABLE


# ---- what kubectl writes -------------------------------------------------------------------------


def typed(kind: str, items: Iterable[Json]) -> Json:
    """Return the list of one kind, as the API server itself answers: items without their kind."""
    bare = [{k: v for k, v in item.items() if k not in {"kind", "apiVersion"}} for item in items]
    return {"apiVersion": "v1", "kind": f"{kind}List", "metadata": {}, "items": bare}


def test_a_list_of_kubectl_is_judged_like_a_recording(tmp_path: Path) -> None:
    cluster = kata_deploy_cluster()
    value = KUBECTL | {"items": cluster.items, "serverVersion": {"gitVersion": "v1.35.1"}}

    report = judged(read(tmp_path, value))

    # Which kinds it was asked for is not told: nobody has looked for CcRuntimes' CRD in vain.
    assert {it.id for it in report.results if it.is_problem} == set()
    assert report.exit_code == 0


def test_kinds_that_a_list_does_not_hold_are_not_recorded(tmp_path: Path) -> None:
    snapshot = read(tmp_path, KUBECTL | {"items": [node("gpu-1", {})]})

    assert isinstance(snapshot.nodes, tuple)
    assert isinstance(snapshot.pods, Unread)
    assert snapshot.pods.reason is Reason.NOT_RECORDED
    assert isinstance(snapshot.version, Unread)


def test_items_of_a_typed_list_have_its_kind(tmp_path: Path) -> None:
    snapshot = read(tmp_path, typed("Node", [node("gpu-1", {}), node("gpu-2", {})]))

    assert isinstance(snapshot.nodes, tuple)
    assert [item.metadata.name for item in snapshot.nodes] == ["gpu-1", "gpu-2"]


def test_one_object_is_a_cluster_of_one(tmp_path: Path) -> None:
    snapshot = read(tmp_path, node("gpu-1", {"a": "b"}))

    assert isinstance(snapshot.nodes, tuple)
    assert [item.metadata.labels for item in snapshot.nodes] == [
        {"kubernetes.io/hostname": "gpu-1", "a": "b"}
    ]


def test_no_custom_resource_without_its_definition(tmp_path: Path) -> None:
    """Where all CRDs are there and the one of CcRuntime is not, there is no CcRuntime."""
    definitions = kata_deploy_cluster().all("CustomResourceDefinition")

    snapshot = read(tmp_path, KUBECTL | {"items": definitions})

    assert snapshot.cc_runtimes == ()
    assert isinstance(snapshot.cluster_policies, Unread)


NULLS: Final[list[Json]] = [
    {"metadata": {"name": "n", "labels": None, "annotations": None, "creationTimestamp": None}},
    {"metadata": {"name": "n"}, "spec": None, "status": None},
    {"metadata": {"name": "n"}, "spec": {"taints": None}, "status": {"conditions": None}},
    {"metadata": {"name": "n"}, "status": {"runtimeHandlers": None, "nodeInfo": None}},
    {"metadata": {"name": "n", "ownerReferences": [None], "finalizers": None}},
    {"metadata": {"name": "n", "unheardOf": {"deep": [1, None]}}, "unheardOf": None},
]


@pytest.mark.parametrize("item", NULLS, ids=str)
def test_null_is_nothing(item: Json, tmp_path: Path) -> None:
    snapshot = read(tmp_path, KUBECTL | {"items": [{"apiVersion": "v1", "kind": "Node"} | item]})

    assert isinstance(snapshot.nodes, tuple)
    assert [it.metadata.name for it in snapshot.nodes] == ["n"]


def test_a_snapshot_of_another_program_is_no_manifest(tmp_path: Path) -> None:
    """Other projects have a kind Snapshot, too: it says nothing of what was looked for."""
    other = {"apiVersion": "backup.example/v1", "kind": "Snapshot", "metadata": {}, "kinds": ["x"]}

    snapshot = read(tmp_path, KUBECTL | {"items": [other, node("gpu-1", {})]})

    assert isinstance(snapshot.pods, Unread)


def test_what_is_secret_by_kind_is_never_looked_at(tmp_path: Path) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"k": "c2Vj"},
    }
    config = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"password": "hunter2"}}

    snapshot = read(tmp_path, KUBECTL | {"items": [secret, config, node("gpu-1", {})]})

    again = b"".join(dump(snapshot))
    assert b"c2Vj" not in again
    assert b"hunter2" not in again


# ---- what is broken ------------------------------------------------------------------------------

GZIPPED: Final = gzip.compress(kata_deploy_cluster().content())
BROKEN: Final = {
    "empty": (b"", "is not a recorded cluster"),
    "no JSON": (b"apiVersion: v1\nkind: List\n", "is not a recorded cluster"),
    "cut off": (kata_deploy_cluster().content()[:2000], "is not a recorded cluster"),
    "binary": (bytes(range(256)) * 8, "is not a recorded cluster"),
    "a number": (b"42", "is not a recorded cluster"),
    "an array": (b"[]", "is not a recorded cluster"),
    "no list": (b'{"kind": "Status", "message": "no"}', "no Kubernetes List"),
    "no kind": (b"{}", "it has no items"),
    "items are null": (b'{"kind": "List", "items": null}', "it has no items"),
    "items are no list": (b'{"kind": "List", "items": 7}', "is not a recorded cluster"),
    "an item is no object": (b'{"kind": "List", "items": [7]}', "is not a recorded cluster"),
    "nothing of ours": (b'{"kind": "List", "items": []}', "says anything about GPUs"),
    "others' kinds": (b'{"kind":"List","items":[{"kind":"Secret"}]}', "says anything about GPUs"),
    "a node of another shape": (
        b'{"kind":"List","items":[{"kind":"Node","metadata":{"name":5}}]}',
        "a Node in it",
    ),
    "a DaemonSet of another shape": (
        b'{"kind":"List","items":[{"kind":"DaemonSet","status":{"numberReady":"two"}}]}',
        "a DaemonSet in it",
    ),
    "nested without end": (
        b'{"kind":"List","items":' + b"[" * 100_000,
        "is not a recorded cluster",
    ),
    "a broken gzip file": (b"\x1f\x8b" + b"nonsense" * 9, "a broken gzip file"),
    "a gzip file cut off": (GZIPPED[: len(GZIPPED) // 2], "a broken gzip file"),
    "gzip of nonsense": (gzip.compress(b"nonsense"), "is not a recorded cluster"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused(name: str, tmp_path: Path) -> None:
    content, words = BROKEN[name]
    path = written(tmp_path, content)

    with pytest.raises(UnreachableError) as raised:
        open_snapshot(path)

    assert raised.value.exit_code == 4
    assert raised.value.message.startswith(path)
    assert words in raised.value.message
    assert raised.value.remedy


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_what_is_no_file_is_a_wrong_word(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        open_snapshot(str(tmp_path / name))

    assert raised.value.exit_code == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = Path(written(tmp_path, b"{}"))
    path.chmod(stat.S_IWUSR)

    with pytest.raises(UnreachableError, match="cannot be read"):
        open_snapshot(str(path))


@given(
    place=st.integers(min_value=0, max_value=10_000),
    noise=st.binary(min_size=1, max_size=12),
)
@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_damaged_file_is_read_or_refused(place: int, noise: bytes, tmp_path: Path) -> None:
    content = bytearray(kata_deploy_cluster().content())
    start = place % len(content)
    content[start : start + len(noise)] = noise

    try:
        code = judged(open_snapshot(written(tmp_path, bytes(content)))).exit_code
    except KgpuctlError as error:
        code = error.exit_code

    assert code in {0, 3, 4}


def test_a_pod_of_no_interest_is_not_kept(tmp_path: Path) -> None:
    plain = gpu_pod("web")
    del plain["spec"]["runtimeClassName"]
    del plain["spec"]["containers"][0]["resources"]

    snapshot = read(tmp_path, KUBECTL | {"items": [plain, gpu_pod("vm")]})

    assert isinstance(snapshot.pods, tuple)
    assert [pod.metadata.name for pod in snapshot.pods] == ["vm"]
