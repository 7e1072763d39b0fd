"""Whole commands on a served cluster: what they say, what they ask, and what they leave out."""

import json
from pathlib import Path

import pytest
import trustme

from cluster_api.fake_api import FakeApi, status
from cluster_api.workstation import Workstation
from cluster_commands.served import Desk, serve
from clusters import coco_cluster, judged, kata_deploy_cluster
from kgpuctl.cli.calls import calls_of
from kgpuctl.cluster.reader import Reading, read_cluster
from kgpuctl.cluster.resources import READS, Call, Resource
from kgpuctl.cluster.rights import rules
from kgpuctl.names import WORKLOAD_LABEL
from kgpuctl.report import Report, Status
from running import Ended

BUILT = {"kata-deploy": kata_deploy_cluster, "coco": coco_cluster}
DONE = "containerd successfully restarted\n"


def told(ended: Ended) -> list[tuple[str, ...]]:
    found = json.loads(ended.out)["results"]
    return [tuple(item[key] for key in ("id", "subject", "status", "message")) for item in found]


def live(api: FakeApi, home: Path, authority: trustme.CA) -> Report:
    workstation = Workstation(home, authority)
    workstation.log_in(api.url)
    return judged(read_cluster(workstation.connect(), Reading()))


@pytest.mark.parametrize("name", BUILT)
def test_a_served_cluster_its_snapshot_and_its_file_are_judged_alike(
    api: FakeApi, desk: Desk, name: str
) -> None:
    cluster = BUILT[name]()
    serve(api, cluster, logs=DONE)
    file = desk.home / "file.json"
    file.write_bytes(cluster.content())

    served = desk.run("verify", "-o", "json")

    assert desk.run("snapshot", "kept.json.gz").exit_code == 0
    assert told(desk.run("verify", "-o", "json", "--from", "kept.json.gz")) == told(served)
    assert told(desk.run("verify", "-o", "json", "--from", file)) == told(served)
    assert served.exit_code == 0


def test_a_file_is_kept_unless_told_otherwise(api: FakeApi, desk: Desk) -> None:
    serve(api, kata_deploy_cluster())
    path = desk.home / "cluster.json"
    path.write_text("precious", encoding="utf-8")

    refused = desk.run("snapshot", path)

    assert refused.exit_code == 2
    assert path.read_text(encoding="utf-8") == "precious"
    assert api.seen == []
    assert desk.run("snapshot", path, "--force").exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_snapshot_that_fails_leaves_no_file(api: FakeApi, desk: Desk) -> None:
    serve(api, kata_deploy_cluster())
    api.answer("/api/v1/pods", status(400, "BadRequest"))
    before = sorted(desk.home.iterdir())

    ended = desk.run("snapshot", "cluster.json")

    assert ended.exit_code == 4
    assert "list pods" in ended.err
    assert sorted(desk.home.iterdir()) == before


@pytest.mark.parametrize("resource", READS, ids=lambda resource: resource.title)
def test_a_list_that_is_forbidden_is_named_and_never_taken_for_none(
    api: FakeApi, tmp_path: Path, authority: trustme.CA, resource: Resource
) -> None:
    serve(api, coco_cluster(), logs=DONE)
    whole = live(api, tmp_path, authority)
    api.answer(resource.path(), status(403, "Forbidden"))

    report = live(api, tmp_path, authority)

    different = [item for item in report.results if item not in whole.results]
    assert {item.status for item in different} <= {Status.UNKNOWN, Status.SKIPPED}
    unknown = {item.message for item in different if item.status is Status.UNKNOWN}
    if resource.title == "jobs.batch":  # the CoCo operator has none
        assert unknown == set()
    else:
        assert unknown == {f"{resource.title}: you may not list {resource.title}"}
    assert report.exit_code == (4 if unknown else 0)


def test_a_wait_on_what_is_well_ends_at_once_and_says_nothing(api: FakeApi, desk: Desk) -> None:
    serve(api, kata_deploy_cluster())

    ended = desk.run("verify", "--wait", "-o", "json")

    assert (ended.exit_code, ended.err) == (0, "")
    assert told(ended) == told(desk.run("verify", "-o", "json"))


def test_a_wait_does_not_wait_for_what_is_forbidden(api: FakeApi, desk: Desk) -> None:
    serve(api, kata_deploy_cluster())
    api.answer("/api/v1/pods", status(403, "Forbidden"))

    ended = desk.run("verify", "--wait", "--timeout", "60s", "-o", "json")

    assert (ended.exit_code, ended.err) == (4, "")
    assert any("you may not list pods" in item[3] for item in told(ended))


def test_a_wait_that_is_over_tells_what_was_missing_last(api: FakeApi, desk: Desk) -> None:
    cluster = kata_deploy_cluster()
    del cluster.labels("gpu-1")[WORKLOAD_LABEL]
    del cluster.labels("gpu-2")[WORKLOAD_LABEL]
    serve(api, cluster)

    ended = desk.run("verify", "--wait", "--timeout", "1s", "-o", "json")

    assert ended.exit_code == 3
    assert [line.split()[0] for line in ended.err.splitlines()] == ["0:00"] * len(
        ended.err.splitlines()
    )
    assert told(ended) == told(desk.run("verify", "-o", "json"))


@pytest.mark.parametrize("command", ["verify", "snapshot", "preflight"])
def test_the_printed_rules_allow_the_calls_and_no_other(command: str, desk: Desk) -> None:
    printed = json.loads(desk.run("rbac", "--command", command, "-o", "json").out)

    allowed = {
        (verb, group, resource)
        for rule in printed["items"][0]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == {
        (
            call.verb,
            call.resource.group,
            call.resource.plural + (f"/{call.subresource}" if call.subresource else ""),
        )
        for call in calls_of(command)
    }
    verbs = {verb for verb, _, _ in allowed}
    assert verbs == {"get", "list"} | ({"watch"} if command == "verify" else set())


def test_a_rule_for_one_object_names_it() -> None:
    nodes = READS[0]
    named = [Call("get", nodes, name="gpu-1"), Call("patch", nodes, name="gpu-1")]

    assert rules([*named, Call("list", nodes)]) == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]},
        {
            "apiGroups": [""],
            "resources": ["nodes"],
            "resourceNames": ["gpu-1"],
            "verbs": ["get", "patch"],
        },
    ]
