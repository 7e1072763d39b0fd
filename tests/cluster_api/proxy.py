"""A small HTTP proxy on 127.0.0.1 that connects every name to one port, or refuses as told."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """What it was asked, and how it answers; empty means that it connects."""

    port: int
    target: int
    answer: bytes = b""
    silent: bool = False
    seen: list[bytes] = field(default_factory=list)

    def serve(self, client: socket.socket) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            chunk = client.recv(4096)
            if not chunk:
                return
            request += chunk
        self.seen.append(request)
        if self.silent:
            client.recv(1)
            return
        if self.answer:
            client.sendall(self.answer)
            return
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while chunk := source.recv(65536):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


@contextmanager
def proxying(target: int) -> Iterator[Proxy]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = Proxy(server.getsockname()[1], target)

        def accept() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(client,), daemon=True).start()

        def one(client: socket.socket) -> None:
            with client:
                client.settimeout(10)
                try:
                    proxy.serve(client)
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield proxy
        server.shutdown(socket.SHUT_RDWR)
