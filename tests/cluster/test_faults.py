"""The faulty proxy in front of a small server: each fault is what it says, as a client sees it."""

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

from cluster.certificates import Authority, Certificate
from cluster.faults import Always, Fault, Request, Seeded
from cluster.proxy import Front, Proxy, Upstream, running

BODY: Final = json.dumps({"kind": "NodeList", "items": ["x" * 500]}).encode()
EVENT: Final = b'{"type": "ADDED"}\n'
LIST: Final = "/api/v1/nodes"
NEXT_PAGE: Final = "/api/v1/nodes?limit=1&continue=abc"
WATCH: Final = "/api/v1/nodes?watch=1&resourceVersion=5"


class Echo(BaseHTTPRequestHandler):
    """Answers a list, a watch of two events, and to writes what was written and as whom."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "watch" in self.path:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (EVENT, EVENT, b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                time.sleep(0.01)
        else:
            self.say(BODY)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        told = {
            "sent": sent.decode(),
            "user": self.headers["X-Remote-User"],
            "groups": self.headers.get_all("X-Remote-Group"),
            "token": self.headers["Authorization"],
        }
        self.say(json.dumps(told).encode())

    def say(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        """Write nothing to stderr."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield Upstream(f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[Proxy]:
    with running(upstream) as started:
        yield started


@contextlib.contextmanager
def connected(proxy: Proxy) -> Iterator[http.client.HTTPConnection]:
    address = proxy.url.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(address, timeout=10)) as connection:
        yield connection


def ask(proxy: Proxy, path: str = LIST) -> tuple[int, bytes, str | None]:
    with connected(proxy) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("Retry-After")


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [
        (Fault.TOO_MANY, 429, None),
        (Fault.TOO_MANY_NOW, 429, "0"),
        (Fault.TOO_MANY_LATER, 429, "1"),
        (Fault.ERROR, 500, None),
        (Fault.UNAVAILABLE, 503, None),
        (Fault.UNAUTHORIZED, 401, None),
    ],
)
def test_a_refusal_is_a_status_object(
    proxy: Proxy, fault: Fault, status: int, retry_after: str | None
) -> None:
    proxy.plan = Always(fault)

    told, body, header = ask(proxy)

    assert (told, header) == (status, retry_after)
    assert json.loads(body)["kind"] == "Status"
    assert json.loads(body)["code"] == status


def test_a_gateway_answers_with_a_page(proxy: Proxy) -> None:
    proxy.plan = Always(Fault.HTML)

    status, body, _ = ask(proxy)

    assert status == 502
    assert body.startswith(b"<html>")


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.LOST])
def test_a_reset_before_the_answer_leaves_the_client_without_one(
    proxy: Proxy, fault: Fault
) -> None:
    proxy.plan = Always(fault)

    with pytest.raises(ConnectionError):
        ask(proxy)


@pytest.mark.parametrize("path", [LIST, WATCH])
def test_a_reset_in_the_body_is_seen_while_it_is_read(proxy: Proxy, path: str) -> None:
    proxy.plan = Always(Fault.RESET_BODY)

    with pytest.raises((ConnectionError, http.client.IncompleteRead)):
        ask(proxy, path)


@pytest.mark.parametrize("fault", [Fault.SHORT_BODY, Fault.SHORT_CHUNKS])
@pytest.mark.parametrize("path", [LIST, WATCH])
def test_a_truncated_body_can_be_told_from_a_whole_one(
    proxy: Proxy, fault: Fault, path: str
) -> None:
    proxy.plan = Always(fault)

    with pytest.raises(http.client.IncompleteRead) as raised:
        ask(proxy, path)

    whole = BODY if path == LIST else EVENT
    assert raised.value.partial == whole[: len(whole) // 2]


def test_a_delayed_answer_is_whole(upstream: Upstream) -> None:
    with running(upstream, longest_delay=0.3) as proxy:
        proxy.plan = Always(Fault.DELAY)
        start = time.monotonic()

        assert ask(proxy)[:2] == (200, BODY)

    assert time.monotonic() - start >= 0.3


def test_an_expired_token_is_410_and_an_event_inside_a_watch(proxy: Proxy) -> None:
    proxy.plan = Always(Fault.EXPIRED)

    assert ask(proxy)[0] == 200  # nothing there that could expire
    status, body, _ = ask(proxy, NEXT_PAGE)
    assert (status, json.loads(body)["reason"]) == (410, "Expired")
    status, body, _ = ask(proxy, WATCH)
    assert status == 200
    assert json.loads(body)["type"] == "ERROR"
    assert json.loads(body)["object"]["code"] == 410


def test_what_no_plan_touches_passes_unchanged(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        for _ in range(3):  # on one connection
            connection.request("GET", WATCH)
            assert connection.getresponse().read() == EVENT * 2
            connection.request("GET", LIST)
            assert connection.getresponse().read() == BODY


def test_requests_are_recorded_with_what_was_done_to_them(proxy: Proxy) -> None:
    proxy.plan = lambda request: Fault.ERROR if request.number == 1 else None

    assert [ask(proxy)[0] for _ in range(3)] == [200, 500, 200]

    assert proxy.log == [
        (Request("GET", LIST, "", 0), None),
        (Request("GET", LIST, "", 1), Fault.ERROR),
        (Request("GET", LIST, "", 2), None),
    ]


def test_a_run_can_be_had_again(proxy: Proxy) -> None:
    kinds = [Fault.ERROR, Fault.UNAVAILABLE, Fault.HTML]
    told = []
    for _ in range(2):
        proxy.begin(Seeded(5, 0.5, kinds))
        told.append([ask(proxy)[0] for _ in range(12)])

    assert told[0] == told[1]
    assert {200, 500, 502, 503} == set(told[0])


def tls_proxy_says(
    upstream: Upstream, authority: Authority, headers: dict[str, str], user: Certificate | None
) -> tuple[dict[str, object], str]:
    front = Front(authority.issue("proxy"), authority.certificate)
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if user:
        context.load_cert_chain(user.certificate, user.key)
    with running(upstream, front) as proxy:
        connection = http.client.HTTPSConnection(
            proxy.url.removeprefix("https://"), timeout=10, context=context
        )
        with contextlib.closing(connection):
            connection.request("POST", LIST, b"{}", headers)
            told: dict[str, object] = json.loads(connection.getresponse().read())
        return told, proxy.log[0][0].user


def test_the_client_certificate_s_name_and_groups_are_passed_on(
    upstream: Upstream, authority: Authority
) -> None:
    alice = authority.issue("alice", ("dev", "a/b+c, ü"))

    told, user = tls_proxy_says(upstream, authority, {"X-Remote-User": "admin"}, alice)

    assert told["user"] == user == "alice"
    assert told["sent"] == "{}"
    assert told["token"] is None


def test_a_token_is_passed_on_and_not_recorded(upstream: Upstream, authority: Authority) -> None:
    sent = {"Authorization": "Bearer secret"}

    told, user = tls_proxy_says(upstream, authority, sent, None)

    assert told["token"] == sent["Authorization"]
    assert (told["user"], told["groups"]) == (None, None)
    assert user == "(token)"


def requests(count: int) -> list[Request]:
    return [Request("GET", f"{LIST}?n={number}", "", 0) for number in range(count)]


def test_the_same_seed_does_the_same_in_any_order() -> None:
    kinds = [fault for fault in Fault if fault is not Fault.UNAUTHORIZED]
    first, second = Seeded(7, 0.3, kinds), Seeded(7, 0.3, kinds)

    forwards = {request: first(request) for request in requests(200)}
    backwards = {request: second(request) for request in reversed(requests(200))}

    assert forwards == backwards
    assert forwards != {request: Seeded(8, 0.3, kinds)(request) for request in requests(200)}


def test_about_as_many_requests_fail_as_wanted_and_in_every_way() -> None:
    plan = Seeded(1, 0.3)

    drawn = [plan(request) for request in requests(3000)]

    assert 0.27 < sum(fault is not None for fault in drawn) / 3000 < 0.33
    assert {fault for fault in drawn if fault} == set(Fault) - {Fault.EXPIRED}
    assert drawn.count(Fault.UNAUTHORIZED) == 1


def test_where_nothing_can_expire_nothing_does() -> None:
    plan = Seeded(1, 1, [Fault.EXPIRED])

    assert plan(Request("GET", LIST, "")) is None
    assert plan(Request("GET", NEXT_PAGE, "")) is Fault.EXPIRED
    assert plan(Request("GET", WATCH, "")) is Fault.EXPIRED


def test_an_authority_gives_the_same_user_the_same_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "test")

    assert authority.issue("alice") == authority.issue("alice")
    assert authority.issue("alice") != authority.issue("alice", ("dev",))
