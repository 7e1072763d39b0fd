"""etcd's own JSON interface: the tests' way around the API server.

An API server sets some fields itself, such as uid and creationTimestamp, and deletes slowly. What
shall be exactly as it was recorded, or gone at once, is written below it. Each key is written by
itself: of several changes with one revision an API server would show the first, and believe that
it has seen them all.
"""

import base64
import contextlib
import http.client
import json
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from cluster.api import THREADS, side_by_side

_OK: Final = 200
_TIMEOUT: Final = 30

_Asked: TypeAlias = tuple[str, bytes]  # what, and the body


class Etcd:
    """Keys and values of one etcd without authentication on the loopback."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc

    def is_ready(self) -> bool:
        """Ask whether it serves."""
        with self._connected() as connection:
            try:
                connection.request("GET", "/health")
                return connection.getresponse().status == _OK
            except OSError:
                return False

    def keys(self) -> set[str]:
        """Return all keys."""
        everything = _encoded(b"\0").decode()
        asked = {"key": everything, "range_end": everything, "keys_only": True}
        with self._connected() as connection:
            told: dict[str, Any] = json.loads(_ask(connection, "range", json.dumps(asked).encode()))
        return {base64.b64decode(entry["key"]).decode() for entry in told.get("kvs", ())}

    def put(self, values: Iterable[tuple[str, bytes]]) -> None:
        """Write values under keys, several at a time, in no order."""
        self._ask_all(
            ("put", b'{"key":"%s","value":"%s"}' % (_encoded(key.encode()), _encoded(value)))
            for key, value in values
        )

    def delete(self, keys: Iterable[str]) -> None:
        """Delete keys."""
        self._ask_all(("deleterange", b'{"key":"%s"}' % _encoded(key.encode())) for key in keys)

    def _ask_all(self, requests: Iterable[_Asked]) -> None:
        """Take the next one whenever a connection is free; there may be very many."""
        waiting, lock = iter(requests), threading.Lock()

        def taken() -> Iterator[_Asked]:
            while True:
                with lock:
                    asked = next(waiting, None)
                if asked is None:
                    return
                yield asked

        def work(_: int) -> None:
            with self._connected() as connection:
                for what, body in taken():
                    _ask(connection, what, body)

        side_by_side(work, range(THREADS))

    def _connected(self) -> contextlib.closing[http.client.HTTPConnection]:
        return contextlib.closing(http.client.HTTPConnection(self._address, timeout=_TIMEOUT))


def _ask(connection: http.client.HTTPConnection, what: str, body: bytes) -> bytes:
    connection.request("POST", f"/v3/kv/{what}", body)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != _OK:
        raise AssertionError(f"etcd: {what}: {answer.status} {content[:300]!r}")
    return content


def _encoded(content: bytes) -> bytes:
    return base64.b64encode(content)
