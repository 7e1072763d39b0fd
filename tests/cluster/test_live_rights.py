"""What `kgpuctl rbac` prints: enough for each command, and nothing of it too much."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from cluster.api import Api
from cluster.controlplane import Plane
from cluster.faults import Request
from cluster.live import (
    QUICK,
    WISHES,
    Content,
    Kubelet,
    Told,
    as_listed,
    content_of,
    judged_live,
    kubectl,
    kubelet_of,
    lines,
    put,
    ran,
    results,
)
from cluster.proxy import in_front_of
from clusters import kata_deploy_cluster
from kgpuctl.cli.live import await_passed
from kgpuctl.cluster.access import Access
from kgpuctl.cluster.kube import KubeCluster
from kgpuctl.cluster.rights import RBAC
from kgpuctl.errors import UnreachableError

pytestmark = pytest.mark.cluster

USER: Final = "night-shift"
ROLES: Final = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
DEADLINE: Final = 20.0
COMMANDS: Final = {
    "verify": ("verify", "-o", "json"),
    "snapshot": ("snapshot", "-"),
    "preflight": ("preflight", "--cluster", "-o", "json"),
}
# What everybody may do who is logged in.
OPEN_TO_ALL: Final = frozenset({"create selfsubjectaccessreviews.authorization.k8s.io"})


class Right(NamedTuple):
    """One verb on one resource, as a rule names them."""

    verb: str
    resource: str  # with its subresource
    group: str

    def __str__(self) -> str:
        plural, _, sub = self.resource.partition("/")
        return f"{self.verb} {plural}{self.group and '.'}{self.group}" + (f"/{sub}" if sub else "")


@pytest.fixture
def kubelet(bare: Plane) -> Iterator[Kubelet]:
    with kubelet_of(bare) as started:
        yield started


@pytest.fixture
def night_shift(bare: Plane) -> Iterator[Api]:
    api = Api(bare.server, bare.authority.certificate, bare.user(USER))
    yield api
    api.close()


def granted(plane: Plane, folder: Path, command: str) -> list[Right]:
    """Apply what is printed for a command, as an administrator would, and return its rights."""
    printed = ran("rbac", "--command", command, "--user", USER)
    assert printed.exit_code == 0
    path = folder / "rbac.yaml"
    path.write_text(printed.out, encoding="utf-8")
    kubectl(plane, "apply", "-f", path)
    role = plane.api.get(f"{ROLES}/kgpuctl-{command}")
    return [
        Right(verb, resource, rule["apiGroups"][0])
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def take_away(plane: Plane, command: str, rights: list[Right], lost: Right) -> None:
    """Leave all of a command's rights but one."""
    role = plane.api.get(f"{ROLES}/kgpuctl-{command}")
    role["rules"] = [
        {"apiGroups": [right.group], "resources": [right.resource], "verbs": [right.verb]}
        for right in rights
        if right != lost
    ]
    plane.api.replace(f"{ROLES}/kgpuctl-{command}", role)


def wait_until(night_shift: Api, rights: list[Right], lost: Right | None = None) -> None:
    """Wait until the API server goes by the roles that were written."""
    deadline = time.monotonic() + DEADLINE
    while any(may(night_shift, right) is (right == lost) for right in rights):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def may(user: Api, right: Right) -> bool:
    resource, _, sub = right.resource.partition("/")
    attributes = {"verb": right.verb, "group": right.group, "resource": resource}
    spec = {"resourceAttributes": attributes | {"subresource": sub}}
    kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    return bool(user.create(REVIEWS, kind | {"spec": spec})["status"]["allowed"])


def asked(request: Request) -> str:
    """Return what a request needs, in the words of RBAC."""
    url = urlsplit(request.path)
    parts = url.path.strip("/").split("/")
    if parts[0] not in {"api", "apis"}:
        return url.path
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    if rest[0] == "namespaces" and len(rest) > 2:
        rest = rest[2:]
    resource = "/".join([rest[0], *rest[2:3]])
    verb = {"GET": "get" if rest[1:] else "list", "POST": "create"}[request.method]
    if "watch" in parse_qs(url.query):
        verb = "watch"
    return str(Right(verb, resource, group))


def as_nobody(told: list[Told], user: str) -> list[Told]:
    return [
        (name, about, status, said.replace(f"as {user}", "")) for name, about, status, said in told
    ]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["built-kata-deploy", "built-coco"])
def test_what_is_printed_is_enough(  # noqa: PLR0913, PLR0917  # its fixtures
    bare: Plane, kubelet: Kubelet, night_shift: Api, tmp_path: Path, name: str, command: str
) -> None:
    put(bare, content_of(name), kubelet)
    wait_until(night_shift, granted(bare, tmp_path, command))

    by_the_user = ran(*COMMANDS[command], as_user=bare.kubeconfig(USER))

    by_the_admin = ran(*COMMANDS[command], as_user=bare.kubeconfig())
    if command == "snapshot":
        files = [json.loads(ended.out)["items"] for ended in (by_the_user, by_the_admin)]
        assert "missed" not in files[0][0]
        assert files[0][1:] == files[1][1:]
        return
    told = as_nobody(results(by_the_user), USER)
    wanted = as_nobody(results(by_the_admin), "admin")
    different = [item for item, other in zip(told, wanted, strict=True) if item != other]
    if command == "verify":
        assert different == []
        assert by_the_user.exit_code == by_the_admin.exit_code
    else:  # who may only look is told that they may not install
        assert [item[::2] for item in different] == [("cluster.permissions", "failed")]
        assert "patch nodes" in different[0][3]
        assert "list" not in different[0][3].replace("list nodes", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_that_is_printed_is_superfluous(
    bare: Plane, kubelet: Kubelet, tmp_path: Path, command: str
) -> None:
    content = content_of("built-coco")
    break_something(content)
    put(bare, content, kubelet)
    printed = {str(right) for right in granted(bare, tmp_path, command)}

    with in_front_of(bare) as proxy:
        user = bare.kubeconfig(server=proxy.url)
        ran(*COMMANDS[command], as_user=user)
        if command == "verify":
            ran("verify", "--wait", "--timeout", "2s", as_user=user)
        seen = {asked(request) for request, _ in proxy.log}

    assert seen - {"/version"} - OPEN_TO_ALL == printed


def break_something(content: Content) -> None:
    """Let a node not be labelled: there is something to wait for, and all is still read."""
    node = next(item for item in content["items"] if item["metadata"]["name"] == "gpu-1")
    del node["metadata"]["labels"]["feature.node.kubernetes.io/pci-10de.present"]


def verify_without(
    plane: Plane, night_shift: Api, folder: Path, told: Callable[[Right, list[Told], int], None]
) -> None:
    """Judge the cluster once for each right that the user lacks."""
    rights = granted(plane, folder, "verify")
    user = plane.kubeconfig(USER)
    for lost in rights:
        if lost.verb == "watch":
            continue
        take_away(plane, "verify", rights, lost)
        wait_until(night_shift, rights, lost)
        report = judged_live(user)
        told(lost, lines(report), report.exit_code)


@pytest.mark.parametrize(
    ("name", "idle"),
    [
        # Its nodes tell their handlers, so no log decides; neither stack was installed by Jobs.
        ("built-kata-deploy", {"get pods/log", "list jobs.batch"}),
        ("built-coco", {"list jobs.batch"}),
    ],
)
def test_each_right_that_is_missing_is_named_and_nothing_else_changes(  # noqa: PLR0913, PLR0917  # its fixtures
    bare: Plane, kubelet: Kubelet, night_shift: Api, tmp_path: Path, name: str, idle: set[str]
) -> None:
    put(bare, content_of(name), kubelet)
    whole = lines(judged_live(bare.kubeconfig()))
    without: set[str] = set()

    def told(lost: Right, seen: list[Told], exit_code: int) -> None:
        different = [item for item in seen if item not in whole]
        assert {item[2] for item in different} <= {"unknown", "skipped"}
        unknown = {item[3] for item in different if item[2] == "unknown"}
        what = str(lost).partition(" ")[2]
        assert unknown <= {f"{what}: you may not {lost}"}
        assert exit_code == (4 if unknown else 0)
        if not different:
            without.add(str(lost))
        else:
            assert unknown

    verify_without(bare, night_shift, tmp_path, told)

    assert without == idle


def test_what_failed_stays_failed_when_a_right_is_missing(
    bare: Plane, kubelet: Kubelet, night_shift: Api, tmp_path: Path
) -> None:
    content = content_of("built-coco")
    break_something(content)
    put(bare, content, kubelet)
    whole = lines(judged_live(bare.kubeconfig()))
    failed = {item for item in whole if item[2] == "failed"}
    codes: dict[str, int] = {}

    def told(lost: Right, seen: list[Told], exit_code: int) -> None:
        assert {item for item in seen if item[2] == "failed"} <= failed
        passed = {item[:2] for item in seen if item[2] == "passed"}
        assert not passed & {item[:2] for item in whole if item[2] in {"failed", "unknown"}}
        still = any(item[2] == "failed" for item in seen)
        assert exit_code == (3 if still else 4)
        codes[str(lost)] = exit_code

    assert failed
    verify_without(bare, night_shift, tmp_path, told)

    assert set(codes.values()) == {3, 4}


def test_jobs_that_may_not_be_seen_are_not_taken_for_none(
    bare: Plane, night_shift: Api, tmp_path: Path
) -> None:
    cluster = kata_deploy_cluster()
    cluster.drop_set("kata-deploy")  # so Jobs have installed it, and are gone by now
    put(bare, as_listed(cluster))
    rights = granted(bare, tmp_path, "verify")
    jobs = Right("list", "jobs", "batch")
    take_away(bare, "verify", rights, jobs)
    wait_until(night_shift, rights, jobs)

    told = lines(judged_live(bare.kubeconfig(USER)))

    about = [item[2:] for item in told if item[0] == "verify.kata-installer"]
    assert [status for status, _ in about] == ["skipped"]
    assert "Jobs, which are not seen" in about[0][1]


def test_a_wait_without_the_right_to_watch_ends_and_names_it(
    bare: Plane, kubelet: Kubelet, night_shift: Api, tmp_path: Path
) -> None:
    content = content_of("built-coco")
    break_something(content)
    put(bare, content, kubelet)
    rights = granted(bare, tmp_path, "verify")
    wanted = Access(kubeconfig=str(bare.kubeconfig(USER)), timeout=DEADLINE)
    watches = [right for right in rights if right.verb == "watch"]
    assert len(watches) == 11

    for lost in watches:
        take_away(bare, "verify", rights, lost)
        wait_until(night_shift, rights, lost)
        with pytest.raises(UnreachableError) as caught:
            await_passed(wanted, _connect, WISHES, kubelets=False)
        assert f"Cannot {lost}" in caught.value.message
        assert str(lost) in caught.value.remedy


def _connect(wanted: Access) -> KubeCluster:
    return KubeCluster.connect(wanted, patience=QUICK)


@pytest.mark.parametrize("command", ["snapshot", "preflight"])
def test_each_right_that_a_command_lacks_is_named(
    bare: Plane, kubelet: Kubelet, night_shift: Api, tmp_path: Path, command: str
) -> None:
    put(bare, content_of("built-coco"), kubelet)
    rights = granted(bare, tmp_path, command)
    user = bare.kubeconfig(USER)

    for lost in rights[:: len(rights) // 3]:
        take_away(bare, command, rights, lost)
        wait_until(night_shift, rights, lost)
        ended = ran(*COMMANDS[command], as_user=user)
        words = f"you may not {lost}"
        if command == "snapshot":
            assert ended.exit_code == 0
            manifest: dict[str, Any] = json.loads(ended.out)["items"][0]
            assert [item["detail"] for item in manifest["missed"]] == [words]
        else:
            assert ended.exit_code == 3  # who may only look may not install
            told = results(ended)
            assert str(lost) in next(item[3] for item in told if item[0] == "cluster.permissions")


def test_the_manifest_binds_whom_it_names(bare: Plane, tmp_path: Path) -> None:
    for option, holder in (
        ("--user=a", {"kind": "User", "name": "a", "apiGroup": RBAC}),
        ("--group=b", {"kind": "Group", "name": "b", "apiGroup": RBAC}),
        ("--serviceaccount=c:d", {"kind": "ServiceAccount", "name": "d", "namespace": "c"}),
    ):
        path = tmp_path / "rbac.yaml"
        path.write_text(ran("rbac", "--command", "label-nodes", option).out, encoding="utf-8")
        kubectl(bare, "apply", "-f", path)
        kinds = ("clusterrolebinding", "-n=kube-system rolebinding")
        for kind in kinds:
            bound = kubectl(bare, "get", *kind.split(), "kgpuctl-label-nodes", "-o", "json")
            assert json.loads(bound)["subjects"] == [holder]
