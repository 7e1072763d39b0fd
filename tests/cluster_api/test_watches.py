"""Watches: every change once, whatever becomes of the connection."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from cluster_api.fake_api import FakeApi, Reply, ok, status
from cluster_api.test_lists import Thing
from cluster_api.workstation import QUICK, Workstation
from kgpuctl.cluster.access import Access, Patience
from kgpuctl.cluster.failures import ClusterError, ExpiredError, ForbiddenError
from kgpuctl.cluster.listing import Change
from kgpuctl.cluster.resources import NODES

PATH = "/api/v1/nodes"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}


def event(kind: str, version: str, name: str = "gpu-1") -> dict[str, object]:
    return {"type": kind, "object": {"metadata": {"name": name, "resourceVersion": version}}}


def stream(*events: object, then: str = "", hold: threading.Event | None = None) -> Reply:
    def write(connection: socket.socket) -> None:
        lines = b"".join(json.dumps(item).encode() + b"\n" for item in events)
        connection.sendall(HEAD + lines + then.encode())
        if hold is not None:
            hold.wait(5)

    return Reply(raw=write)


def changes(
    workstation: Workstation,
    api: FakeApi,
    stop: threading.Event,
    access: Access | None = None,
    patience: Patience = QUICK,
) -> Iterator[Change[Thing]]:
    workstation.log_in(api.url)
    return workstation.connect(access, patience).watch(NODES, Thing, "5", stop=stop)


def told(seen: Sequence[Change[Thing]]) -> list[tuple[str, str, str]]:
    return [
        (change.kind.value, change.version, change.object.metadata.name if change.object else "")
        for change in seen
    ]


def test_changes_come_as_they_happen(api: FakeApi, workstation: Workstation) -> None:
    stop = threading.Event()
    events = [event("ADDED", "6"), event("BOOKMARK", "7", ""), event("DELETED", "8")]
    api.answer(PATH, stream(*events, hold=api.closing))
    watch = changes(workstation, api, stop)

    seen = [next(watch), next(watch), next(watch)]
    stop.set()

    assert list(watch) == []
    assert told(seen) == [("ADDED", "6", "gpu-1"), ("BOOKMARK", "7", ""), ("DELETED", "8", "gpu-1")]
    assert api.seen[0].query == {
        "watch": "1",
        "resourceVersion": "5",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "2",
    }


def test_a_watch_goes_on_after_the_last_version_that_was_seen(
    api: FakeApi, workstation: Workstation
) -> None:
    stop = threading.Event()
    api.answer(
        PATH,
        stream(event("ADDED", "6"), then='{"type": "MODI'),
        status(503, "ServiceUnavailable"),
        stream(event("BOOKMARK", "9", "")),
        stream(event("MODIFIED", "10"), hold=api.closing),
    )
    watch = changes(workstation, api, stop)

    seen = [next(watch), next(watch), next(watch)]
    stop.set()

    assert told(seen) == [
        ("ADDED", "6", "gpu-1"),
        ("BOOKMARK", "9", ""),
        ("MODIFIED", "10", "gpu-1"),
    ]
    assert [seen.query["resourceVersion"] for seen in api.seen] == ["5", "6", "6", "9"]
    assert any(line.startswith("watch nodes: cut, going on in ") for line in workstation.told)


@pytest.mark.parametrize(
    "reply",
    [status(410, "Expired"), stream({"type": "ERROR", "object": GONE})],
    ids=["answer", "event"],
)
def test_a_version_that_is_too_old_says_so(
    reply: Reply, api: FakeApi, workstation: Workstation
) -> None:
    api.answer(PATH, reply)

    with pytest.raises(ExpiredError, match="Cannot watch nodes in cluster prod"):
        next(changes(workstation, api, threading.Event()))


def test_an_error_that_passes_is_no_end(api: FakeApi, workstation: Workstation) -> None:
    passing = {"kind": "Status", "code": 500, "message": "etcd"}
    api.answer(PATH, stream({"type": "ERROR", "object": passing}), stream(event("ADDED", "6")))

    change = next(changes(workstation, api, threading.Event()))

    assert change.version == "6"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"type": "ERROR", "object": {"kind": "Status", "code": 400, "message": "bad"}}, "400"),
        ({"type": "GROWN", "object": {}}, "an event of a type that there is not"),
        ({"type": "ADDED", "object": {"metadata": {"name": "x"}}}, "`resourceVersion`"),
        ({"type": "ADDED", "object": {"metadata": {"resourceVersion": "6"}}}, "`name`"),
        ({"object": {}}, "missing required field `type`"),
    ],
)
def test_an_event_that_is_none(
    sent: object, said: str, api: FakeApi, workstation: Workstation
) -> None:
    api.answer(PATH, stream(sent))

    with pytest.raises(ClusterError, match=said):
        next(changes(workstation, api, threading.Event()))


def test_a_lacking_right_ends_a_watch(api: FakeApi, workstation: Workstation) -> None:
    api.answer(PATH, status(403, "Forbidden"))

    with pytest.raises(ForbiddenError) as caught:
        next(changes(workstation, api, threading.Event()))
    assert caught.value.verb == "watch"


def test_a_server_that_cuts_each_watch_at_once(api: FakeApi, workstation: Workstation) -> None:
    api.answer(PATH, stream())

    with pytest.raises(ClusterError, match=r"Cannot watch nodes .*: 5 watches were cut at once"):
        next(changes(workstation, api, threading.Event()))


def test_a_watch_that_nothing_happens_in_is_no_error(
    api: FakeApi, workstation: Workstation
) -> None:
    stop = threading.Event()
    quiet = stream(hold=threading.Event())

    def short(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        threading.Event().wait(0.1)

    api.answer(PATH, *[Reply(raw=short)] * 6, stream(event("ADDED", "6"), hold=api.closing))

    watch = changes(workstation, api, stop, patience=replace(QUICK, watch=0.1))

    assert next(watch).version == "6"
    stop.set()
    assert quiet.raw is not None


def test_the_time_of_the_whole_command_ends_a_watch(api: FakeApi, workstation: Workstation) -> None:
    api.answer(PATH, stream(event("ADDED", "6"), hold=api.closing))

    seen = list(changes(workstation, api, threading.Event(), Access(timeout=0.5)))

    assert told(seen) == [("ADDED", "6", "gpu-1")]


def test_a_watch_that_is_to_stop_stops_while_nothing_comes(
    api: FakeApi, workstation: Workstation
) -> None:
    stop = threading.Event()
    api.answer(PATH, stream(event("ADDED", "6"), hold=api.closing))
    watch = changes(workstation, api, stop)
    next(watch)

    threading.Timer(0.1, stop.set).start()

    assert list(watch) == []


def test_an_answer_that_is_no_stream(api: FakeApi, workstation: Workstation) -> None:
    api.answer(PATH, ok({"kind": "NodeList"}))

    with pytest.raises(ClusterError, match="missing required field `type`"):
        next(changes(workstation, api, threading.Event()))
