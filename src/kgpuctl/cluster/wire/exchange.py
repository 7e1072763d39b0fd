"""One request and its whole answer, or an exception of urllib3; nothing is tried twice here."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from urllib3 import BaseHTTPResponse, HTTPHeaderDict, PoolManager, Timeout
from urllib3.exceptions import DecodeError, HTTPError

from kgpuctl.cluster.access import Patience
from kgpuctl.cluster.asked import Asked
from kgpuctl.cluster.deadline import Abandoned

_CHUNK: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent; `is_safe`: sending it twice does no more than once."""

    method: str
    url: str
    asked: Asked
    is_safe: bool
    is_change: bool = False
    body: bytes | None = None
    content_type: str = ""
    accept: str = "application/json"
    most_tries: int = 0  # where fewer are to be made than of other requests


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, complete and unpacked."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class CutError(HTTPError):
    """A packed answer ends before its end."""


class TooLargeError(Exception):
    """The answer is larger than any that is asked for."""


def exchange(
    pool: PoolManager,
    headers: HTTPHeaderDict,
    request: Request,
    patience: Patience,
    abandoned: Abandoned,
) -> Answer:
    """Send a request and read the answer to its end."""
    response = begin(pool, headers, request, patience)
    abandoned.cut_with(_cutting(response))
    try:
        body = _whole(response, patience.largest, abandoned)
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return Answer(response.status, response.headers, body)


def begin(
    pool: PoolManager, headers: HTTPHeaderDict, request: Request, patience: Patience
) -> BaseHTTPResponse:
    """Send a request and return the answer as far as its headers. Redirects are never followed."""
    headers = headers.copy()
    headers["Accept"] = request.accept
    headers["Accept-Encoding"] = "gzip"
    if request.content_type:
        headers["Content-Type"] = request.content_type
    return pool.urlopen(
        request.method,
        request.url,
        body=request.body,
        headers=headers,
        timeout=Timeout(connect=patience.connect, read=patience.silence),
        retries=False,
        redirect=False,
        preload_content=False,
        decode_content=False,
    )


def _cutting(response: BaseHTTPResponse) -> Callable[[], None]:
    def cut() -> None:
        try:
            response.shutdown()
        except (OSError, ValueError, RuntimeError):
            return  # it has ended already

    return cut


def _whole(response: BaseHTTPResponse, largest: int, abandoned: Abandoned) -> bytes:
    unpacked = unpacker(response, largest)
    parts: list[bytes] = []
    size = 0
    while chunk := response.read1(_CHUNK, decode_content=False):
        part = unpacked.feed(chunk)
        size += len(part)
        parts.append(part)
        if size > largest:
            raise TooLargeError
        if abandoned:
            raise CutError
    unpacked.end()
    return b"".join(parts)


class _Plain:
    """Gives what came as it came."""

    def feed(self, chunk: bytes) -> bytes:
        return chunk

    def end(self) -> None:
        """There is no end to check: the length was."""


class _Gzip:
    """Unpacks, and knows whether it came to the end, which a cut stream does not."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._stream = zlib.decompressobj(wbits=31)

    def feed(self, chunk: bytes) -> bytes:
        try:
            part = self._stream.decompress(chunk, self._largest + 1)
        except zlib.error as error:
            raise DecodeError("the gzip stream is broken") from error
        if self._stream.unconsumed_tail:
            raise TooLargeError
        return part

    def end(self) -> None:
        if not self._stream.eof:
            raise CutError


def unpacker(response: BaseHTTPResponse, largest: int) -> _Plain | _Gzip:
    """Return what unpacks an answer as its header says it is packed."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in {"gzip", "x-gzip"}:
        return _Gzip(largest)
    if encoding in {"", "identity"}:
        return _Plain()
    raise DecodeError("packed in a way that was not asked for")
