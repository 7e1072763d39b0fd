"""The control planes themselves, without kgpuctl: what the other tests here rely on."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest
import urllib3

from cluster import programs
from cluster.api import Api, ApiError, Object, path_of
from cluster.controlplane import Plane, bare_plane
from cluster.faults import Fault, Seeded
from cluster.processes import Processes, StartError
from cluster.programs import NoProgramsError
from cluster.proxy import in_front_of

TESTS: Final = Path(__file__).parents[1]
NODE: Final = {
    "metadata": {"name": "gpu-1", "annotations": {"kwok.x-k8s.io/node": "fake"}},
    "status": {"allocatable": {"cpu": "8", "memory": "64Gi", "pods": "110"}},
}
DEPLOYMENT: Final = {
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web"}]},
        },
    },
}
NODE_READER: Final[list[tuple[str, Object]]] = [
    (
        "rbac.authorization.k8s.io/v1/clusterroles",
        {
            "metadata": {"name": "node-reader"},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}],
        },
    ),
    (
        "rbac.authorization.k8s.io/v1/clusterrolebindings",
        {
            "metadata": {"name": "alice-reads-nodes"},
            "subjects": [{"kind": "User", "name": "alice"}],
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "node-reader",
            },
        },
    ),
]


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that nobody has waited for yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def until(is_true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def names(plane: Plane, plural: str) -> set[str]:
    return {item["metadata"]["name"] for item in plane.api.items(path_of(plural))}


def as_user(plane: Plane, name: str, server: str | None = None) -> Api:
    return Api(server or plane.server, plane.authority.certificate, plane.user(name))


@pytest.mark.cluster
def test_controllers_a_scheduler_and_kwok_bring_objects_to_life(plane: Plane) -> None:
    plane.api.create(path_of("v1/nodes"), NODE)
    plane.api.create(path_of("apps/v1/deployments", "default"), DEPLOYMENT)

    def is_available() -> bool:
        found = plane.api.get(path_of("apps/v1/deployments", "default", "web"))
        return bool(found["status"].get("availableReplicas") == 2)

    until(is_available)
    assert {pod["spec"]["nodeName"] for pod in plane.api.items("/api/v1/pods")} == {"gpu-1"}


@pytest.mark.cluster
def test_wiping_leaves_what_the_control_plane_made_itself(plane: Plane) -> None:
    before = names(plane, "v1/namespaces")
    plane.api.create(path_of("v1/nodes"), NODE)
    plane.api.create(
        path_of("v1/namespaces"), {"metadata": {"name": "mine", "finalizers": ["a/b"]}}
    )
    plane.api.create(path_of("apps/v1/deployments", "default"), DEPLOYMENT)
    until(lambda: len(names(plane, "v1/pods")) == 2)

    plane.wipe()

    assert names(plane, "v1/namespaces") == before
    for plural in ("v1/nodes", "v1/pods", "apps/v1/replicasets", "apps/v1/deployments"):
        assert names(plane, plural) == set()
    assert names(plane, "rbac.authorization.k8s.io/v1/clusterroles") >= {"cluster-admin", "view"}
    plane.api.create(path_of("v1/configmaps", "default"), {"metadata": {"name": "still-works"}})


@pytest.mark.cluster
def test_a_user_has_only_the_rules_that_were_given(bare: Plane) -> None:
    alice = as_user(bare, "alice")
    for plural, item in NODE_READER:
        bare.api.create(path_of(plural), item)
    bare.api.create(path_of("v1/nodes"), NODE)

    def may_list() -> bool:
        try:
            return len(alice.items("/api/v1/nodes")) == 1
        except ApiError as error:
            return error.status != 403

    until(may_list)
    with pytest.raises(ApiError, match=r'User \\"alice\\" cannot list resource \\"pods\\"'):
        alice.get("/api/v1/pods")


@pytest.mark.cluster
def test_a_kubeconfig_leads_to_the_plane_as_that_user(bare: Plane) -> None:
    written = json.loads(bare.kubeconfig("bob", ("dev", "ops")).read_text(encoding="utf-8"))
    (cluster,), (user,) = written["clusters"], written["users"]
    shown = bare.user("bob", ("dev", "ops"))
    bob = Api(
        cluster["cluster"]["server"], Path(cluster["cluster"]["certificate-authority"]), shown
    )

    review = bob.create(
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
    )

    assert user["user"]["client-certificate"] == str(shown.certificate)
    assert review["status"]["userInfo"]["username"] == "bob"
    assert review["status"]["userInfo"]["groups"] == ["dev", "ops", "system:authenticated"]


@pytest.mark.cluster
def test_a_bare_plane_changes_nothing(bare: Plane) -> None:
    made = bare.api.create(path_of("v1/nodes"), NODE)
    bare.api.create(path_of("apps/v1/deployments", "default"), DEPLOYMENT)

    assert bare.api.get(path_of("v1/nodes", name="gpu-1")) == made
    assert "taints" not in made["spec"]
    assert names(bare, "v1/pods") == set()


@pytest.mark.cluster
def test_the_proxy_asks_as_the_client_and_fails_as_planned(bare: Plane) -> None:
    bare.api.create(path_of("v1/nodes"), NODE)
    with in_front_of(bare) as proxy:
        admin, carol = as_user(bare, "admin", proxy.url), as_user(bare, "carol", proxy.url)
        assert len(admin.items("/api/v1/nodes")) == 1
        with pytest.raises(ApiError, match=r'User \\"carol\\" cannot list'):
            carol.get("/api/v1/nodes")
        assert [request.user for request, _ in proxy.log] == ["admin", "carol"]

        proxy.begin(Seeded(3, 0.3))
        failed = sum(not _lists(admin) for _ in range(100))

    done = [fault for _, fault in proxy.log if fault]
    assert failed == sum(fault is not Fault.DELAY for fault in done) > 10


def _lists(api: Api) -> bool:
    try:
        return len(api.items("/api/v1/nodes")) == 1
    except (ApiError, urllib3.exceptions.HTTPError):
        return False


@pytest.mark.cluster
def test_a_token_goes_through_the_proxy(bare: Plane) -> None:
    path = path_of("v1/serviceaccounts", "default")
    bare.api.create(path, {"metadata": {"name": "robot"}})
    token = bare.api.create(
        f"{path}/robot/token", {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
    )["status"]["token"]

    with (
        in_front_of(bare) as proxy,
        urllib3.PoolManager(ca_certs=str(bare.authority.certificate)) as pool,
    ):
        answer = pool.request(
            "GET", f"{proxy.url}/api/v1/nodes", headers={"Authorization": f"Bearer {token}"}
        )

    assert answer.status == 403
    assert "system:serviceaccount:default:robot" in answer.json()["message"]


@pytest.mark.cluster
def test_a_watch_comes_through_the_proxy_as_it_happens(bare: Plane) -> None:
    path = path_of("v1/configmaps", "default")
    with in_front_of(bare) as proxy:
        admin = as_user(bare, "admin", proxy.url)
        version = admin.get(path)["metadata"]["resourceVersion"]
        events = admin.watch(f"{path}?watch=1&timeoutSeconds=10&resourceVersion={version}")
        for name in ("first", "second"):
            bare.api.create(path, {"metadata": {"name": name}})
            start = time.monotonic()
            event = next(events)
            assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", name)
            assert time.monotonic() - start < 5


STARTED: Final = """
import sys, time
from cluster.controlplane import bare_plane
with bare_plane() as plane:
    print(plane.directory, *plane.processes.ids.values(), flush=True)
    time.sleep(60)
"""


@pytest.mark.cluster
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_nothing_survives_an_interrupt(bare: Plane, sent: signal.Signals) -> None:
    assert bare.processes.ids  # the programs are here
    with subprocess.Popen(
        [sys.executable, "-c", STARTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        text=True,
    ) as child:
        assert child.stdout is not None
        directory, *ids = child.stdout.readline().split()
        assert all(is_alive(int(pid)) for pid in ids)
        child.send_signal(sent)
        child.wait(20)

    until(lambda: not any(is_alive(int(pid)) for pid in ids))
    assert Path(directory).exists() == (sent is signal.SIGKILL)  # then nobody could remove it
    shutil.rmtree(directory, ignore_errors=True)


def program(directory: Path, name: str, text: str) -> None:
    file = directory / name
    file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give programs a directory, and temporary files another, which is returned."""
    left = tmp_path / "left"
    left.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(left))
    monkeypatch.setenv(programs.ASSETS, str(tmp_path))
    return left


def test_a_program_that_does_not_start_is_named_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = temporary(tmp_path, monkeypatch)
    program(tmp_path, "etcd", "echo no room for data >&2; exit 3")
    program(tmp_path, "kube-apiserver", "exit 0")

    with pytest.raises(StartError, match=r"^etcd ended while .*\nno room for data"), bare_plane():
        pass

    assert list(left.iterdir()) == []


def test_a_port_that_was_taken_meanwhile_is_no_reason_to_fail_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary(tmp_path, monkeypatch)
    program(tmp_path, "etcd", f"echo x >>{tmp_path}/starts; echo bind: address already in use")
    program(tmp_path, "kube-apiserver", "exit 0")

    with pytest.raises(StartError, match="address already in use"), bare_plane():
        pass

    assert (tmp_path / "starts").read_text(encoding="utf-8") == "x\n" * 3


def test_what_does_not_come_in_time_is_said_and_ended(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("slow", ["sh", "-c", "echo waiting; exec sleep 60"])
        pid = processes.ids["slow"]
        with pytest.raises(StartError, match=r"^no light after 0\.5 s\.\nslow:\nwaiting$"):
            processes.wait("light", lambda: False, 0.5)
        assert is_alive(pid)

    assert not is_alive(pid)
    assert (tmp_path / "slow.pid").read_text(encoding="utf-8") == f"{pid}\n"


def find_with(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NoProgramsError) as raised:
        programs.find()
    return str(raised.value)


def test_what_given_assets_lack_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("etcd", "kube-apiserver", "kubectl"):
        program(tmp_path, name, "exit 0")

    assert find_with({programs.ASSETS: str(tmp_path)}, monkeypatch) == (
        f"KUBEBUILDER_ASSETS={tmp_path} has no kube-controller-manager, kube-scheduler, kwok:"
        " put them there, or unset it to have all of them built."
    )
    assert programs.find(programs.API).path("etcd") == str(tmp_path / "etcd")


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (None, "There is no Go here to build the control plane with"),
        ("go1.19.8", "go1.19.8 is too old to build the control plane with"),
        ("go1.26.8", "The control plane is not built yet: nox -s cluster builds it."),
    ],
)
def test_where_nothing_is_built_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str | None, sentence: str
) -> None:
    monkeypatch.delenv(programs.ASSETS, raising=False)
    if told:
        program(tmp_path, "go", f"echo {told}")

    said = find_with({"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}, monkeypatch)

    assert said.startswith(sentence)


def test_a_build_that_fails_leaves_nothing_that_looks_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(programs.ASSETS, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    cache = tmp_path / "kgpuctl" / "controlplane"
    (cache / "new-of-a-killed-build").mkdir(parents=True)
    fails = "case $1 in env) echo go1.26.0;; list) echo v1.37.2;; build) exit 1;; esac"
    program(tmp_path, "go", fails)

    with pytest.raises(programs.BuildError, match=r"go build of go.etcd.io/etcd/server/v3 failed"):
        programs.build()
    assert [entry.name for entry in cache.iterdir()] == ["lock"]

    works = fails.replace("exit 1", 'while [ "$1" != -o ]; do shift; done; : >"$2"; chmod +x "$2"')
    program(tmp_path, "go", works)
    built = programs.build()
    assert sorted(entry.name for entry in built.directory.iterdir()) == sorted(programs.ALL)
    assert programs.find() == built
