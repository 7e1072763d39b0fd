"""A small API server over HTTPS on 127.0.0.1 that answers as a test says, well or badly."""

import json
import socket
import ssl
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import trustme


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, list[str]]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """An answer; `raw` writes to the connection itself and then cuts it."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: Callable[[socket.socket], None] | None = None


VERSION = {"major": "1", "minor": "37", "gitVersion": "v1.37.2", "platform": "linux/amd64"}

Answering = Callable[[Seen], Reply]


def ok(value: object, **headers: str) -> Reply:
    return Reply(200, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


def status(code: int, reason: str = "", message: str = "", **more: object) -> Reply:
    value = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": message or f"refused as {reason}",
        "code": code,
        **more,
    }
    return Reply(code, json.dumps(value).encode(), {"Content-Type": "application/json"})


class FakeApi:
    """What it saw, and what it answers: for each path one reply after the other, then the last."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.subjects: list[str] = []  # of the client certificates, as the server verified them
        self.connections = 0
        self.closing = threading.Event()
        self.port = 0
        self._answers: dict[str, deque[Reply | Answering]] = defaultdict(deque)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def answer(self, path: str, *replies: Reply | Answering) -> None:
        self._answers[path] = deque(replies)

    def count(self, path: str) -> int:
        return sum(seen.path == path for seen in self.seen)

    def reply(self, seen: Seen) -> Reply:
        with self._lock:
            self.seen.append(seen)
            waiting = self._answers.get(seen.path)
            if not waiting:
                return status(404, "NotFound", "the server could not find the requested resource")
            chosen = waiting.popleft() if len(waiting) > 1 else waiting[0]
        return chosen if isinstance(chosen, Reply) else chosen(seen)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    server: "_Server"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def _any(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        headers = {key.lower(): self.headers.get_all(key, []) for key in self.headers}
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        body = self.rfile.read(length)
        reply = self.server.api.reply(Seen(self.command, parts.path, query, headers, body))
        if reply.raw is not None:
            self.close_connection = True
            reply.raw(self.connection)
            return
        self.send_response(reply.status)
        for key, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(reply.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815  # names the library calls

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as declared
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    api: FakeApi
    context: ssl.SSLContext | None = None

    def finish_request(self, request: object, client_address: object) -> None:
        connection = request
        if not isinstance(connection, socket.socket):
            raise TypeError
        connection.settimeout(20)
        try:
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
                certificate = connection.getpeercert() or {}
                names = certificate.get("subjectAltName", ())
                self.api.subjects += [str(name[1]) for name in names if isinstance(name, tuple)]
            self.api.connections += 1
            _Handler(connection, client_address, self)
            if isinstance(connection, ssl.SSLSocket):
                connection.close()
        except OSError:
            return  # a client that does not trust it, or has gone

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


@contextmanager
def serving(
    authority: trustme.CA,
    *names: str,
    clients: trustme.CA | None = None,
    tls: bool = True,
    until: datetime | None = None,
) -> Iterator[FakeApi]:
    """Run a server with a certificate for the names (127.0.0.1 when none is given)."""
    api = FakeApi()
    server = _Server(("127.0.0.1", 0), _Handler)
    server.api = api
    if tls:
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf = authority.issue_cert(
            *(names or ("127.0.0.1",)),
            not_after=until,
            not_before=until and until - timedelta(days=1),
        )
        leaf.configure_cert(server.context)
        if clients is not None:
            clients.configure_trust(server.context)
            server.context.verify_mode = ssl.CERT_OPTIONAL
    api.port = server.server_address[1]
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
