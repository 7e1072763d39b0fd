"""Watches: events as they come, taken up again where a connection ends."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Generic, TypeVar

import msgspec
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from kgpuctl.cluster.access import Patience
from kgpuctl.cluster.deadline import Deadline
from kgpuctl.cluster.decoding import decode
from kgpuctl.cluster.failures import ClusterError
from kgpuctl.cluster.listing import Change, ChangeKind
from kgpuctl.cluster.wire.answers import decoded, status_in, trouble_in
from kgpuctl.cluster.wire.caller import Caller
from kgpuctl.cluster.wire.exchange import Answer, Request
from kgpuctl.cluster.wire.trouble import Repeat, Trouble

T = TypeVar("T")

_GLANCE: Final = 0.2  # seconds; how often it is looked whether to stop
_CHUNK: Final = 65536
_AHEAD: Final = 256  # lines read before they are asked for
_LONGEST: Final = 64 * 1024 * 1024  # bytes of a line


class _Pump:
    """Reads a stream line by line in a thread of its own, so that who waits can stop waiting."""

    def __init__(self, response: BaseHTTPResponse) -> None:
        self._response = response
        self._lines: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self._over = threading.Event()

    def run(self) -> None:
        """Read until the stream ends, breaks off or nobody wants more."""
        rest = b""
        try:
            while not self._over.is_set() and len(rest) <= _LONGEST:
                chunk = self._response.read1(_CHUNK, decode_content=False)
                if not chunk:
                    self._put(rest)
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._put(line)
        except (HTTPError, OSError, ValueError):
            return  # cut: the caller goes on from the last version it saw
        finally:
            self._put(None)

    def _put(self, line: bytes | None) -> None:
        while not self._over.is_set():
            try:
                self._lines.put(line, timeout=_GLANCE)
            except queue.Full:
                continue
            return

    def next(self) -> bytes | None:
        """Return a line, or None at the end; queue.Empty when there is none for the moment."""
        return self._lines.get(timeout=_GLANCE)

    def close(self) -> None:
        """End the thread and the connection."""
        self._over.set()
        try:
            self._response.shutdown()
        except (OSError, ValueError, RuntimeError):
            return  # it has ended already


def lines(response: BaseHTTPResponse, stop: threading.Event, deadline: Deadline) -> Iterator[bytes]:
    """Yield the lines of a stream until it ends, or until it is to stop."""
    pump = _Pump(response)
    threading.Thread(target=pump.run, daemon=True).start()
    try:
        while not stop.is_set() and not deadline.is_over:
            try:
                line = pump.next()
            except queue.Empty:
                continue
            if line is None:
                return
            if line.strip():
                yield line
    finally:
        pump.close()


class _Line(msgspec.Struct, frozen=True):
    """One event; its object is decoded when its type is known."""

    type: str
    object: msgspec.Raw


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str


class _Versioned(msgspec.Struct, frozen=True):
    metadata: _Metadata


_LINE: Final = msgspec.json.Decoder(_Line)
_VERSIONED: Final = msgspec.json.Decoder(_Versioned)
_PASSING: Final = {429, 500, 502, 503, 504}


class Watch(Generic[T]):
    """What happens to some objects, from a version on."""

    def __init__(
        self,
        caller: Caller,
        request: Callable[[Mapping[str, str]], Request],
        item: type[T],
        stop: threading.Event,
    ) -> None:
        self._caller = caller
        self._request = request
        self._item = item
        self._stop = stop

    def changes(self, since: str) -> Iterator[Change[T]]:
        """Yield changes until `stop` or the deadline; go on from the last version after a cut."""
        patience, deadline = self._caller.patience, self._caller.deadline
        fruitless = 0
        while not self._stop.is_set() and not deadline.is_over:
            request = self._request(_query(since, patience))
            try:
                response = self._caller.stream(request, patience.watch + patience.silence)
            except ClusterError:
                if deadline.is_over:
                    return
                raise
            began, fruitless = time.monotonic(), fruitless + 1
            for line in lines(response, self._stop, deadline):
                change = self._change(line, request)
                if change is None:
                    break
                fruitless, since = 0, change.version
                yield change
            # A server ends each watch when its time is over; earlier than that it was cut.
            if time.monotonic() - began > patience.watch / 2:
                fruitless = 0
            elif not self._stop.is_set():
                self._rest(fruitless, request)

    def _rest(self, fruitless: int, request: Request) -> None:
        """Wait a little before a watch is taken up again; give up where each one is cut at once."""
        if fruitless >= self._caller.patience.tries:
            raise ClusterError(
                self._caller.situation(request).cannot(f"{fruitless} watches were cut at once"),
                remedy="Look at what stands between this machine and the API server.",
            )
        pause = self._caller.pause(max(1, fruitless))
        self._caller.retrying(f"{request.asked}: cut, going on in {pause:.1f} s")
        self._stop.wait(min(pause, self._caller.deadline.left))

    def _change(self, line: bytes, request: Request) -> Change[T] | None:
        """Return what an event says, or None where the watch is to be taken up again."""
        situation = self._caller.situation(request)
        event = decoded(Answer(200, {}, line), self._parse, situation)
        if isinstance(event, Trouble):
            if event.repeat is Repeat.NEVER:
                raise event.error
            return None
        if isinstance(event, Change):
            return event
        status = status_in(event)
        if status is None or status.code in _PASSING:
            return None
        raise trouble_in(Answer(status.code, {}, event), situation).error

    def _parse(self, line: bytes) -> Change[T] | bytes:
        """Return a change, or the Status that stands for one."""
        event = _LINE.decode(line)
        if event.type == "ERROR":
            return bytes(event.object)
        if event.type not in set(ChangeKind):
            raise msgspec.ValidationError("an event of a type that there is not")
        kind = ChangeKind(event.type)
        version = _VERSIONED.decode(event.object).metadata.resource_version
        item = None if kind is ChangeKind.BOOKMARK else decode(event.object, self._item)
        return Change(kind, item, version)


def _query(since: str, patience: Patience) -> dict[str, str]:
    return {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "resourceVersion": since,
        "timeoutSeconds": str(max(1, int(patience.watch))),
    }
