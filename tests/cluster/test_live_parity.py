"""The same cluster live, as a snapshot, as kubectl writes it, and as it was recorded."""

import datetime as dt
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from cluster.controlplane import Plane
from cluster.live import (
    BUILT,
    CLUSTERS,
    HEALTHY,
    Kubelet,
    Told,
    content_of,
    judged_live,
    kubectl,
    kubelet_of,
    lines,
    put,
    ran,
    results,
    verified,
)
from kgpuctl.cluster.resources import CC_RUNTIMES, CRDS, READS
from running import Ended

pytestmark = pytest.mark.cluster

# A list that somebody else wrote cannot tell "none" from "not looked".
UNTOLD: Final = (
    "not recorded: ",
    "without events it is not seen",
    "neither its log nor the node's handlers are to be seen",
)
# A healthy cluster is healthy whether or not there are some of these.
NOTHING_HANGS_ON: Final = frozenset({"events", "jobs.batch", "namespaces"})


@pytest.fixture
def kubelet(bare: Plane) -> Iterator[Kubelet]:
    with kubelet_of(bare) as started:
        yield started


def built(name: str) -> bytes:
    """Return a built cluster as kgpuctl itself writes it, taken just now."""
    cluster = BUILT[name]()
    cluster.time = dt.datetime.now(dt.UTC).isoformat()
    return cluster.content()


def assert_only_less(told: list[Told], live: list[Told]) -> None:
    """Assert that what a file cannot tell is said to be so, and all the rest is as it is live."""
    assert [item[:2] for item in told] == [item[:2] for item in live]
    different = [item for item, known in zip(told, live, strict=True) if item != known]
    assert {item[2] for item in different} <= {"skipped", "unknown"}
    for _, _, status, said in different:
        assert any(words in said for words in UNTOLD), f"{status}: {said}"


def as_kubectl_tells(plane: Plane, folder: Path, *, without: str = "") -> Path:
    kinds = [resource.title for resource in READS if resource.title != without]
    known = kubectl(plane, "api-resources", "-o", "name").decode().split()
    path = folder / "kubectl.json"
    asked = ",".join(kind for kind in kinds if kind in known)
    path.write_bytes(kubectl(plane, "get", asked, "-A", "-o", "json"))
    return path


def same(one: Ended, other: Ended) -> None:
    """Assert that two reports say the same of every check and subject."""
    assert results(one) == results(other)
    assert one.exit_code == other.exit_code


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_live_cluster_is_judged_as_its_file_and_as_its_snapshot(
    bare: Plane, tmp_path: Path, kubelet: Kubelet, name: str
) -> None:
    file = tmp_path / "recorded.json"
    file.write_bytes(json.dumps(content_of(name)).encode() if name not in BUILT else built(name))
    put(bare, content_of(name), kubelet)
    user = bare.kubeconfig()

    live = verified(as_user=user)

    recorded = verified("--from", file)
    assert recorded.exit_code == live.exit_code
    if name in BUILT:  # such a file says which kinds it holds
        assert results(recorded) == results(live)
    else:
        assert_only_less(results(recorded), results(live))
    snapshot = tmp_path / "snapshot.json"
    assert ran("snapshot", snapshot, as_user=user) == Ended(0, "", "")
    same(verified("--from", snapshot), live)


def test_what_is_packed_or_printed_is_what_is_written(bare: Plane, tmp_path: Path) -> None:
    put(bare, content_of("built-kata-deploy"))
    user = bare.kubeconfig()
    plain, packed, printed = (tmp_path / name for name in ("a.json", "b.json.gz", "c.json"))

    ran("snapshot", plain, as_user=user)
    ran("snapshot", packed, as_user=user)
    out = ran("snapshot", "-", as_user=user)

    printed.write_text(out.out, encoding="utf-8")
    assert gzip.decompress(packed.read_bytes()).startswith(b'{"apiVersion":"v1","kind":"List"')
    assert plain.stat().st_mode & 0o777 == packed.stat().st_mode & 0o777 == 0o600
    first = verified("--from", plain)
    same(verified("--from", packed), first)
    same(verified("--from", printed), first)


def test_a_file_is_overwritten_only_when_told_so(bare: Plane, tmp_path: Path) -> None:
    put(bare, content_of("built-kata-deploy"))
    path = tmp_path / "cluster.json"
    path.write_text("precious", encoding="utf-8")

    refused = ran("snapshot", path, as_user=bare.kubeconfig())

    assert (refused.exit_code, refused.out) == (2, "")
    assert "exists already" in refused.err
    assert path.read_text(encoding="utf-8") == "precious"
    assert ran("snapshot", path, "--force", as_user=bare.kubeconfig()).exit_code == 0
    assert json.loads(path.read_bytes())["kind"] == "List"


def test_logs_come_along_when_asked_for(bare: Plane, tmp_path: Path, kubelet: Kubelet) -> None:
    content = content_of(HEALTHY)
    put(bare, content, kubelet)
    user = bare.kubeconfig()
    few, many = tmp_path / "few.json", tmp_path / "many.json"

    ran("snapshot", few, as_user=user)
    assert kubelet.asked == []  # nothing is broken, and handlers tell what kata-manager did
    ran("snapshot", many, "--logs", as_user=user)

    logs = [item for item in json.loads(many.read_bytes())["items"] if item["kind"] == "PodLog"]
    operands = {
        f"{item['metadata']['namespace']}/{item['metadata']['name']}"
        for item in content["items"]
        if item["kind"] == "Pod" and "vfio-manager" in item["metadata"]["name"]
    }
    told = {f"{log['metadata']['namespace']}/{log['metadata']['name']}" for log in logs}
    assert operands
    assert operands <= told
    assert {log.get("previous", False) for log in logs} == {False, True}
    assert {log["text"] for log in logs} == {kubelet.text}
    same(verified("--from", many), verified("--from", few))


@pytest.mark.parametrize("name", CLUSTERS)
def test_what_kubectl_writes_is_judged_the_same(
    bare: Plane, tmp_path: Path, kubelet: Kubelet, name: str
) -> None:
    put(bare, content_of(name), kubelet)
    path = as_kubectl_tells(bare, tmp_path)

    told = verified("--from", path)

    live = judged_live(bare.kubeconfig())
    assert told.exit_code == live.exit_code
    assert_only_less(results(told), lines(live))
    packed = tmp_path / "packed.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    same(verified("--from", packed), told)


@pytest.mark.parametrize("missing", [resource.title for resource in READS])
def test_a_kind_that_a_file_lacks_is_never_taken_for_none(
    bare: Plane, tmp_path: Path, missing: str
) -> None:
    put(bare, content_of("built-coco" if missing == CC_RUNTIMES.title else "built-kata-deploy"))
    whole = lines(judged_live(bare.kubeconfig()))

    ended = verified("--from", as_kubectl_tells(bare, tmp_path, without=missing))

    different = [item for item in results(ended) if item not in whole]
    assert {item[2] for item in different} <= {"skipped", "unknown"}
    unknown = [item[3] for item in different if item[2] == "unknown"]
    if missing in NOTHING_HANGS_ON:
        assert (ended.exit_code, unknown) == (0, [])
    else:
        assert ended.exit_code == 4
        # Without the CRDs it is not known whether there can be a CcRuntime.
        named = CC_RUNTIMES.title if missing == CRDS.title else missing
        assert {said.partition(": ")[0] for said in unknown} == {named}
