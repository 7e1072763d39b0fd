"""Logs that do not come: they are missed where they decide, and nowhere else."""

import json
import socket
from pathlib import Path

import pytest
import trustme

from cluster_api.fake_api import FakeApi, Reply, status
from cluster_api.workstation import Workstation
from cluster_commands.served import Desk, serve
from clusters import Cluster, coco_cluster, judged, kata_deploy_cluster, pod
from kgpuctl.cluster.reader import Reading, read_cluster
from kgpuctl.cluster.snapshot import ClusterSnapshot
from kgpuctl.report import Status

DONE = "containerd successfully restarted\n"


def manager_logs(cluster: Cluster) -> list[str]:
    return [
        f"/api/v1/namespaces/{made['metadata']['namespace']}/pods/{made['metadata']['name']}/log"
        for made in cluster.pods("nvidia-kata-manager")
    ]


def read(api: FakeApi, home: Path, authority: trustme.CA) -> ClusterSnapshot:
    workstation = Workstation(home, authority)
    workstation.log_in(api.url)
    return read_cluster(workstation.connect(), Reading())


def say_nothing(connection: socket.socket) -> None:
    connection.recv(1)


NOT_COMING = {
    "its kubelet is away": status(500, "InternalError", "dial tcp 10.0.0.7:10250: i/o timeout"),
    "its node is unreachable": status(502, "", "error dialing backend"),
    "nothing comes at all": Reply(raw=say_nothing),
    "it is cut": Reply(raw=lambda connection: connection.close()),
}


@pytest.mark.parametrize("name", NOT_COMING)
def test_one_log_that_does_not_come_leaves_one_answer_out(
    api: FakeApi, tmp_path: Path, authority: trustme.CA, name: str
) -> None:
    cluster = coco_cluster()
    serve(api, cluster, logs=DONE)
    whole = judged(read(api, tmp_path, authority))
    api.answer(manager_logs(cluster)[0], NOT_COMING[name])

    report = judged(read(api, tmp_path, authority))

    different = [
        (item.id, item.subject, item.status)
        for item, before in zip(report.results, whole.results, strict=True)
        if item != before
    ]
    assert different == [("verify.kata-manager-done", "gpu-1", Status.UNKNOWN)]
    assert (whole.exit_code, report.exit_code) == (0, 4)


@pytest.mark.parametrize("code", [400, 404])
def test_a_container_without_a_log_has_none(
    api: FakeApi, tmp_path: Path, authority: trustme.CA, code: int
) -> None:
    cluster = coco_cluster()
    serve(api, cluster, logs=DONE)
    for path in manager_logs(cluster):
        api.answer(path, status(code, "", "previous terminated container not found"))

    assert read(api, tmp_path, authority).logs == ()


def test_a_snapshot_says_which_logs_did_not_come(api: FakeApi, desk: Desk) -> None:
    cluster = coco_cluster()
    serve(api, cluster, logs=DONE)
    api.answer(manager_logs(cluster)[0], status(503, "", "the kubelet is away"))

    ended = desk.run("snapshot", "-")

    logs = [item for item in json.loads(ended.out)["items"] if item["kind"] == "PodLog"]
    assert [log.get("text") for log in logs] == [None, DONE]
    assert "the kubelet is away" in logs[0]["unread"]


def test_logs_of_what_nobody_asks_about_are_not_read(
    api: FakeApi, tmp_path: Path, authority: trustme.CA
) -> None:
    cluster = kata_deploy_cluster()
    cluster.add(pod("shop-1", "shop", "cpu-1", status={"phase": "Failed"}))
    serve(api, cluster)

    read(api, tmp_path, authority)

    assert [seen.path for seen in api.seen if seen.path.endswith("/log")] == []
