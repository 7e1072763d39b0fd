"""An HTTP(S) proxy in front of an API server that does to requests what a plan says.

It speaks TLS itself and passes on who the client is: a bearer token as it came, the name and groups
of a client certificate in the headers of Kubernetes' authenticating proxies, which the API server
believes because of the proxy's own certificate. It knows nothing of the control plane, so it works
in front of any server.
"""

import contextlib
import http.client
import json
import os
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final, TypeAlias, cast
from urllib.parse import urlsplit

from cluster.certificates import Certificate
from cluster.controlplane import Plane
from cluster.faults import Counted, Fault, Plan, Request, none

_UPSTREAM_TIMEOUT: Final = 120
_LARGEST_READ: Final = 1 << 16
_HOP_BY_HOP: Final = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding"}
)
_STATUSES: Final = {
    Fault.TOO_MANY: (429, "TooManyRequests", None),
    Fault.TOO_MANY_NOW: (429, "TooManyRequests", "0"),
    Fault.TOO_MANY_LATER: (429, "TooManyRequests", "1"),
    Fault.ERROR: (500, "InternalError", None),
    Fault.UNAVAILABLE: (503, "ServiceUnavailable", None),
    Fault.EXPIRED: (410, "Expired", None),
    Fault.UNAUTHORIZED: (401, "Unauthorized", None),
}
_Subject: TypeAlias = tuple[tuple[tuple[str, str], ...], ...]
_PAGE: Final = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>\n"


@dataclass(frozen=True, slots=True)
class Upstream:
    """The server behind the proxy, whom it trusts, and what it shows to be believed."""

    url: str
    authority: Path | None = None
    identity: Certificate | None = None


@dataclass(frozen=True, slots=True)
class Front:
    """How the proxy shows itself, and whose client certificates it takes."""

    certificate: Certificate
    authority: Path


class Proxy:
    """A running proxy; `plan` may be changed between requests."""

    def __init__(self, upstream: Upstream, front: Front | None, longest_delay: float) -> None:
        self.plan: Plan = none
        self.upstream = upstream
        self.upstream_tls = _client_context(upstream)
        self.longest_delay = longest_delay
        self.ending = threading.Event()
        self.counted = Counted()
        self._front = front
        self.server = _Server(self, _server_context(front) if front else None)

    @property
    def url(self) -> str:
        """Where it listens."""
        scheme = "https" if self._front else "http"
        return f"{scheme}://127.0.0.1:{self.server.server_address[1]}"

    def begin(self, plan: Plan) -> None:
        """Count from 0 again: with the same plan, the same requests meet the same faults."""
        self.counted = Counted()
        self.plan = plan

    @property
    def log(self) -> list[tuple[Request, Fault | None]]:
        """What was asked, and what was done to it."""
        return self.counted.log


@contextlib.contextmanager
def running(
    upstream: Upstream, front: Front | None = None, *, longest_delay: float = 0.2
) -> Iterator[Proxy]:
    """Run a proxy on a free port of the loopback; without `front` it speaks plain HTTP."""
    proxy = Proxy(upstream, front, longest_delay)
    thread = threading.Thread(target=proxy.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ending.set()
        proxy.server.shutdown()
        proxy.server.end_connections()
        proxy.server.server_close()
        thread.join()


@contextlib.contextmanager
def in_front_of(plane: Plane, *, longest_delay: float = 0.2) -> Iterator[Proxy]:
    """Run a proxy in front of a control plane; `plane.kubeconfig(server=proxy.url)` leads there."""
    upstream = Upstream(plane.server, plane.authority.certificate, plane.front_proxy)
    front = Front(plane.authority.issue("faulty-proxy"), plane.authority.certificate)
    with running(upstream, front, longest_delay=longest_delay) as proxy:
        yield proxy


def _client_context(upstream: Upstream) -> ssl.SSLContext | None:
    if upstream.authority is None:
        return None
    context = ssl.create_default_context(cafile=str(upstream.authority))
    if upstream.identity:
        context.load_cert_chain(upstream.identity.certificate, upstream.identity.key)
    return context


def _server_context(front: Front) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(front.authority))
    context.load_cert_chain(front.certificate.certificate, front.certificate.key)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


class _Server(ThreadingHTTPServer):
    """Threads for connections, each of which can be ended from outside."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: Proxy, tls: ssl.SSLContext | None) -> None:
        self.proxy = proxy
        self._tls = tls
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, object]:
        """Leave the handshake to the connection's thread: a slow client must not stop the rest."""
        connection, address = super().get_request()
        if self._tls:
            connection = self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Forget a connection that is over."""
        self.forget(cast(socket.socket, request))
        super().shutdown_request(request)

    def open(self, connection: socket.socket) -> None:
        """Remember a connection to the server behind."""
        self._open.add(connection)

    def forget(self, connection: socket.socket) -> None:
        """Leave a connection to itself."""
        self._open.discard(connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: that connections break is what a faulty proxy is for."""

    def end_connections(self) -> None:
        """Wake the threads that wait for a client."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _connected(server: _Server) -> Iterator[http.client.HTTPConnection]:
    """Connect to the server behind for one request."""
    proxy = server.proxy
    target = urlsplit(proxy.upstream.url)
    host, port = target.hostname or "", target.port
    connection = (
        http.client.HTTPSConnection(
            host, port, timeout=_UPSTREAM_TIMEOUT, context=proxy.upstream_tls
        )
        if target.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=_UPSTREAM_TIMEOUT)
    )
    with contextlib.closing(connection):
        connection.connect()
        connected = connection.sock
        server.open(connected)
        try:
            yield connection
        finally:
            server.forget(connected)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, and one to the server behind."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body would wait for the headers' acknowledgement
    server: _Server

    def do_GET(self) -> None:
        """Answer any method alike."""
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        user, groups = self._client()
        fault = proxy.counted.next(self.command, self.path, user, proxy.plan)
        if fault is Fault.DELAY:
            proxy.ending.wait(proxy.longest_delay)
        if fault is Fault.HTML:
            self._answer(502, _PAGE, {"Content-Type": "text/html"})
        elif fault is not None and fault in _STATUSES:
            self._refuse(fault)
        elif fault is Fault.RESET:
            self._reset()
        else:
            self._forward(body, self._headers(user, groups), fault)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_GET  # noqa: N815  # their names there

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        """Write nothing to stderr."""

    def _client(self) -> tuple[str, list[str]]:
        """Return the name and groups in the client's certificate."""
        shown = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else {}
        subject = cast(_Subject, (shown or {}).get("subject", ()))
        names = [value for part in subject for kind, value in part if kind == "commonName"]
        groups = [value for part in subject for kind, value in part if kind == "organizationName"]
        if "Authorization" in self.headers:
            return "(token)", []
        return (names[0], groups) if names else ("", [])

    def _headers(self, user: str, groups: list[str]) -> list[tuple[str, str]]:
        """Return what is passed on: all but what concerns this connection, or claims identity."""
        kept = [
            (name, value)
            for name, value in self.headers.items()
            if name.lower() not in _HOP_BY_HOP and not name.lower().startswith("x-remote-")
        ]
        if user and "Authorization" not in self.headers:
            kept.append(("X-Remote-User", user))
            kept += [("X-Remote-Group", group) for group in groups]
        return kept

    def _forward(self, body: bytes, headers: list[tuple[str, str]], fault: Fault | None) -> None:
        """Ask the server behind, and pass its answer on, whole or not."""
        with _connected(self.server) as upstream:
            upstream.putrequest(self.command, self.path, skip_accept_encoding=True)
            for name, value in headers:
                upstream.putheader(name, value)
            if body or self.command in {"POST", "PUT", "PATCH"}:
                upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            if fault is Fault.LOST:
                self._reset()
            elif Request(self.command, self.path, "").is_watch:
                self._stream(answer, fault)
            else:
                self._pass_on(answer, fault)

    def _pass_on(self, answer: http.client.HTTPResponse, fault: Fault | None) -> None:
        """Send an answer with its length, or not all of it."""
        body = answer.read()
        half = body[: len(body) // 2]
        self._begin(answer)
        if fault is Fault.SHORT_CHUNKS:
            self._chunked(half)
            self.close_connection = True
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault in {Fault.SHORT_BODY, Fault.RESET_BODY}:
            self.wfile.write(half)
            self.close_connection = True
        else:
            self.wfile.write(body)
        if fault is Fault.RESET_BODY:
            self._reset()

    def _stream(self, answer: http.client.HTTPResponse, fault: Fault | None) -> None:
        """Send the parts of an answer as they come, or half of the first one."""
        self._begin(answer)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while part := answer.read1(_LARGEST_READ):
            if fault in {Fault.SHORT_BODY, Fault.SHORT_CHUNKS, Fault.RESET_BODY}:
                self._write_chunk(part[: len(part) // 2])
                self.close_connection = True
                if fault is Fault.RESET_BODY:
                    self._reset()
                return
            self._write_chunk(part)
        self._write_chunk(b"")

    def _begin(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)

    def _chunked(self, part: bytes) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if part:
            self._write_chunk(part)

    def _write_chunk(self, part: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

    def _refuse(self, fault: Fault) -> None:
        """Answer as the API server does; inside a watch, an old resourceVersion is an event."""
        status, reason, retry_after = _STATUSES[fault]
        said = {"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure"} | {
            "message": fault.value,
            "reason": reason,
            "code": status,
        }
        headers = {"Content-Type": "application/json"}
        if retry_after is not None:
            headers["Retry-After"] = retry_after
        if fault is Fault.EXPIRED and Request(self.command, self.path, "").is_watch:
            event = json.dumps({"type": "ERROR", "object": said}).encode() + b"\n"
            self._answer(200, event, headers)
        else:
            self._answer(status, json.dumps(said).encode(), headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        """Close so that the client gets a reset instead of an orderly end."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.forget(self.connection)
        os.close(self.connection.detach())
