"""The API server as plain HTTP and JSON, for tests that must not trust kgpuctl's own client."""

import json
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote

import urllib3

from cluster.certificates import Certificate

Object: TypeAlias = dict[str, Any]  # one Kubernetes object, or any other JSON object
Sent: TypeAlias = Mapping[str, Any]
_In = TypeVar("_In")

THREADS: Final = 8
MERGE_PATCH: Final = "application/merge-patch+json"
_JSON: Final = "application/json"
_TIMEOUT: Final = urllib3.Timeout(connect=5, read=60)
_ERROR: Final = 400


class ApiError(Exception):
    """The API server refused."""

    def __init__(self, method: str, path: str, status: int, said: bytes) -> None:
        super().__init__(f"{method} {path}: {status} {said[:600].decode(errors='replace')}")
        self.status = status


class Api:
    """Requests to one API server as one user; threads may share it."""

    def __init__(self, server: str, authority: Path, user: Certificate | None) -> None:
        context = ssl.create_default_context(cafile=str(authority))
        if user:
            context.load_cert_chain(user.certificate, user.key)
        self._pool = urllib3.PoolManager(
            ssl_context=context, maxsize=THREADS, block=True, retries=False, timeout=_TIMEOUT
        )
        self.server = server

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.clear()

    def send(
        self, method: str, path: str, body: Sent | None = None, content_type: str = _JSON
    ) -> bytes:
        """Return the body of the answer; anything but success is an error."""
        answer = self._pool.request(
            method,
            self.server + path,
            body=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": content_type, "Accept": _JSON},
        )
        if answer.status >= _ERROR:
            raise ApiError(method, path, answer.status, answer.data)
        return answer.data

    def get(self, path: str) -> Object:
        """Read an object or a list."""
        return _object(self.send("GET", path))

    def create(self, path: str, body: Sent) -> Object:
        """Create an object in a collection."""
        return _object(self.send("POST", path, body))

    def replace(self, path: str, body: Sent) -> Object:
        """Replace an object, or its status."""
        return _object(self.send("PUT", path, body))

    def patch(self, path: str, body: Sent) -> Object:
        """Merge into an object."""
        return _object(self.send("PATCH", path, body, MERGE_PATCH))

    def delete(self, path: str) -> None:
        """Delete an object or a collection at once."""
        self.send("DELETE", path, {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})

    def items(self, path: str) -> list[Object]:
        """Read a whole list, giving each item the apiVersion and kind that the list has of it."""
        answer = self.get(path)
        kind = {"apiVersion": answer["apiVersion"], "kind": answer["kind"].removesuffix("List")}
        return [kind | item for item in answer["items"]]

    def watch(self, path: str) -> Iterator[Object]:
        """Yield the events of a watch until the server ends it; `path` says watch=1."""
        answer = self._pool.request(
            "GET", self.server + path, headers={"Accept": _JSON}, preload_content=False
        )
        try:
            if answer.status >= _ERROR:
                raise ApiError("GET", path, answer.status, answer.read())
            for line in answer:
                yield _object(line)
        finally:
            answer.close()


def path_of(plural: str, namespace: str = "", name: str = "") -> str:
    """Return the path of a collection or an object; `plural` is like `apps/v1/daemonsets`."""
    group, _, resource = plural.rpartition("/")
    root = f"/api/{group}" if group == "v1" else f"/apis/{group}"
    place = f"/namespaces/{quote(namespace)}" if namespace else ""
    return f"{root}{place}/{resource}" + (f"/{quote(name)}" if name else "")


def side_by_side(do: Callable[[_In], object], over: Sequence[_In], threads: int = THREADS) -> None:
    """Do it to each, several at a time; the first error ends it."""
    with ThreadPoolExecutor(threads) as pool:
        try:
            for _ in pool.map(do, over):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _object(body: bytes) -> Object:
    content: Object = json.loads(body)
    return content
