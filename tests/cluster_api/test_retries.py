"""What is asked again, how often, after how long, and what is told of it."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import formatdate

import pytest

from cluster_api.fake_api import VERSION, FakeApi, Reply, Seen, ok, status
from cluster_api.test_refusals import raw, reset
from cluster_api.workstation import QUICK, TOKEN, Workstation
from kgpuctl.cluster.deadline import side_by_side
from kgpuctl.cluster.failures import ClusterError, ConflictError, TooManyRequestsError
from kgpuctl.cluster.resources import NODES, PODS

BUSY = Reply(429, b"busy", {"Retry-After": "0"})
PATCH = "application/merge-patch+json"


@pytest.mark.parametrize(
    "reply",
    [
        status(429, "TooManyRequests"),
        status(500, "InternalError"),
        Reply(502, b"<html>"),
        Reply(503),
        Reply(504),
        Reply(200, b'{"gitVersion": "v1.3'),
        Reply(200),
        raw(b""),
        raw(b"", reset),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
    ],
)
def test_what_may_pass_is_asked_again(reply: Reply, api: FakeApi, workstation: Workstation) -> None:
    api.answer("/version", reply, reply, ok(VERSION))
    workstation.log_in(api.url)
    cluster = workstation.connect()

    assert cluster.version().git_version == "v1.37.2"
    assert cluster.retries == 2
    told = [line for line in workstation.told if ": try " in line]
    assert told[0].startswith("GET /version: try 2 of 5 in 0.0 s: Cannot get /version in cluster ")
    assert told[1].startswith("GET /version: try 3 of 5 in 0.0 s: ")
    assert TOKEN not in "".join(workstation.told)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 422, 501])
def test_what_will_not_pass_is_asked_once(
    code: int, api: FakeApi, workstation: Workstation
) -> None:
    api.answer("/version", status(code, "Whatever"))
    workstation.log_in(api.url)
    cluster = workstation.connect()

    with pytest.raises(ClusterError) as caught:
        cluster.version()

    assert caught.value.status == code
    assert (api.count("/version"), cluster.retries) == (1, 0)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(503, b"", {"Retry-After": "1"}),
        Reply(429, b"", {"Retry-After": formatdate(time.time() + 600, usegmt=True)}),
        status(429, "TooManyRequests", details={"retryAfterSeconds": 1}),
    ],
    ids=["seconds", "date", "body"],
)
def test_a_server_that_says_when_is_heard(
    reply: Reply, api: FakeApi, workstation: Workstation
) -> None:
    api.answer("/version", reply, ok(VERSION))
    workstation.log_in(api.url)

    with pytest.raises(ClusterError, match=r"The server asks to wait \d+\.\d s, which is too long"):
        workstation.connect(patience=replace(QUICK, longest_wait=0.1)).version()


def test_the_wait_that_a_server_asks_for_is_kept(api: FakeApi, workstation: Workstation) -> None:
    api.answer("/version", Reply(503, b"", {"Retry-After": "1"}), ok(VERSION))
    workstation.log_in(api.url)
    began = time.monotonic()

    workstation.connect().version()

    assert time.monotonic() - began >= 1
    assert "GET /version: try 2 of 5 in 1.0 s: " in "".join(workstation.told)


def test_pauses_grow_up_to_a_limit(api: FakeApi, workstation: Workstation) -> None:
    api.answer("/version", Reply(503))
    workstation.log_in(api.url)
    patience = replace(QUICK, pause=0.1, longest_pause=0.3)

    with pytest.raises(ClusterError):
        workstation.connect(patience=patience).version()

    told = [line for line in workstation.told if ": try " in line]
    pauses = [float(line.split(" in ")[1].split(" s:")[0]) for line in told]
    for pause, most in zip(pauses, [0.1, 0.2, 0.3, 0.3], strict=True):
        assert most / 2 - 0.05 <= pause <= most


def send(workstation: Workstation, path: str = NODES.path("gpu-1"), *, safe: bool) -> bytes:
    body: Mapping[str, object] = {"metadata": {"labels": {"a": "b"}}}
    return workstation.connect().send("PATCH", path, body, content_type=PATCH, safe_to_repeat=safe)


def test_a_change_is_sent_as_it_is(api: FakeApi, workstation: Workstation) -> None:
    api.answer(NODES.path("gpu-1"), ok({"done": True}))
    workstation.log_in(api.url)
    query = {"fieldManager": "kgpuctl", "dryRun": "All"}

    answer = workstation.connect().send(
        "PATCH",
        NODES.path("gpu-1"),
        b"a: b",
        content_type="application/apply-patch+yaml",
        query=query,
    )

    assert answer == b'{"done": true}'
    [seen] = api.seen
    assert (seen.method, seen.body, seen.query) == ("PATCH", b"a: b", query)
    assert seen.headers["content-type"] == ["application/apply-patch+yaml"]


@pytest.mark.parametrize("reply", [status(500), Reply(503), raw(b"", reset)])
def test_a_change_that_may_have_been_made_is_not_sent_again(
    reply: Reply, api: FakeApi, workstation: Workstation
) -> None:
    api.answer(NODES.path("gpu-1"), reply, ok({}))
    workstation.log_in(api.url)

    with pytest.raises(ClusterError) as caught:
        send(workstation, safe=False)

    assert caught.value.message.startswith("Cannot patch nodes gpu-1 in cluster prod ")
    assert caught.value.message.endswith(" Whether it was done all the same is not known.")
    assert caught.value.uncertain
    assert len(api.seen) == 1


@pytest.mark.parametrize("reply", [status(500), Reply(503), raw(b"", reset)])
def test_a_change_that_may_be_made_twice_is_sent_again(
    reply: Reply, api: FakeApi, workstation: Workstation
) -> None:
    api.answer(NODES.path("gpu-1"), reply, ok({}))
    workstation.log_in(api.url)

    assert send(workstation, safe=True) == b"{}"
    assert len(api.seen) == 2


def test_a_change_that_fails_again_and_again_may_still_have_been_made(
    api: FakeApi, workstation: Workstation
) -> None:
    api.answer(NODES.path("gpu-1"), Reply(503))
    workstation.log_in(api.url)

    with pytest.raises(ClusterError, match="Whether it was done all the same is not ") as caught:
        send(workstation, safe=True)
    assert caught.value.uncertain
    assert len(api.seen) == 5


def test_a_change_that_is_refused_was_not_made(api: FakeApi, workstation: Workstation) -> None:
    api.answer(NODES.path("gpu-1"), status(409, "Conflict", "changed", details={"causes": [{}]}))
    workstation.log_in(api.url)

    with pytest.raises(ConflictError) as caught:
        send(workstation, safe=True)
    assert not caught.value.uncertain
    assert caught.value.message.endswith("the server answers 409: changed.")


def test_a_change_that_was_not_looked_at_is_sent_again(
    api: FakeApi, workstation: Workstation
) -> None:
    api.answer(NODES.path("gpu-1"), BUSY, ok({}))
    workstation.log_in(api.url)

    assert send(workstation, safe=False) == b"{}"


def test_a_disruption_budget_is_no_reason_to_try_again(
    api: FakeApi, workstation: Workstation
) -> None:
    path = PODS.path("web-1", "shop") + "/eviction"
    cause = {"reason": "DisruptionBudget", "message": "The disruption budget web needs 3 pods"}
    details = {"causes": [cause], "retryAfterSeconds": 10}
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    api.answer(path, status(429, "TooManyRequests", message, details=details))
    workstation.log_in(api.url)

    with pytest.raises(TooManyRequestsError) as caught:
        workstation.connect().send("POST", path, {}, safe_to_repeat=True)

    assert caught.value.causes == ("The disruption budget web needs 3 pods",)
    assert message in caught.value.message
    assert caught.value.message.startswith(
        "Cannot create pods/eviction web-1 in namespace shop in cluster prod "
    )
    assert len(api.seen) == 1


def test_retries_of_many_threads_are_all_counted(api: FakeApi, workstation: Workstation) -> None:
    lock = threading.Lock()
    asked: dict[str, int] = {}

    def once_busy(seen: Seen) -> Reply:
        with lock:
            asked[seen.path] = asked.get(seen.path, 0) + 1
        return ok({}) if asked[seen.path] > 1 else BUSY

    names = [f"node-{n}" for n in range(40)]
    for name in names:
        api.answer(NODES.path(name), once_busy)
    workstation.log_in(api.url)
    cluster = workstation.connect()

    def reading(name: str) -> Callable[[], object]:
        return lambda: cluster.read(NODES.path(name), dict)

    side_by_side([reading(name) for name in names], 16)

    assert cluster.retries == 40
    assert sum(": try 2 of 5" in line for line in workstation.told) == 40


def test_connections_are_used_again(api: FakeApi, workstation: Workstation) -> None:
    api.answer("/version", ok(VERSION))
    workstation.log_in(api.url)
    cluster = workstation.connect()

    for _ in range(5):
        cluster.version()

    assert api.connections == 1


def test_a_request_is_refused_whose_path_leads_elsewhere(
    api: FakeApi, workstation: Workstation
) -> None:
    workstation.log_in(api.url)

    with pytest.raises(Exception, match=r"'/api/v1/nodes/\.\.' is no path of an object"):
        workstation.connect().send("DELETE", NODES.path(".."))
    assert api.seen == []
