"""What goes wrong between kgpuctl and an API server, and which request it happens to.

`Seeded` draws from the seed, the request and how often that request came before, never from the
order in which threads happened to ask: the same seed does the same to the same requests.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias


class Fault(StrEnum):
    """One way of not answering well."""

    TOO_MANY = "429 without Retry-After"
    TOO_MANY_NOW = "429 with Retry-After: 0"
    TOO_MANY_LATER = "429 with Retry-After: 1"
    ERROR = "500"
    UNAVAILABLE = "503"
    HTML = "502 with a page"
    RESET = "reset before the request is passed on"
    LOST = "reset after the request was passed on"
    RESET_BODY = "reset in the middle of the body"
    SHORT_BODY = "fewer bytes than Content-Length says"
    SHORT_CHUNKS = "chunks without the last one"
    DELAY = "a late answer"
    EXPIRED = "410, the continue token or resourceVersion is too old"
    UNAUTHORIZED = "401 once"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, and as whom; `path` has the query, `number` counts equal requests from 0."""

    method: str
    path: str
    user: str
    number: int = 0

    @property
    def is_watch(self) -> bool:
        """A watch is answered for as long as it is open."""
        return "watch=1" in self.path or "watch=true" in self.path.lower()


Plan: TypeAlias = Callable[[Request], Fault | None]

ALL: Final = tuple(Fault)


def none(_: Request) -> None:
    """Let everything pass."""


@dataclass(frozen=True, slots=True)
class Always:
    """Do this to every request that it can be done to."""

    fault: Fault

    def __call__(self, request: Request) -> Fault | None:
        """Return it, where it fits."""
        return self.fault if _fits(self.fault, request) else None


class Seeded:
    """Do something to a share of all requests, chosen by a seed."""

    def __init__(self, seed: int, probability: float, faults: Sequence[Fault] = ALL) -> None:
        self._seed = seed
        self._probability = probability
        self._faults = faults
        self._refused = False
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Fault | None:
        """Draw; a token is refused only once, as one that expired and was renewed."""
        if self._drawn(request, "whether") >= self._probability:
            return None
        with self._lock:
            fitting = [
                fault
                for fault in self._faults
                if _fits(fault, request) and not (fault is Fault.UNAUTHORIZED and self._refused)
            ]
            if not fitting:
                return None
            fault = fitting[int(self._drawn(request, "which") * len(fitting))]
            self._refused = self._refused or fault is Fault.UNAUTHORIZED
            return fault

    def _drawn(self, request: Request, what: str) -> float:
        """Return a number of [0, 1) that this request always gets."""
        text = f"{self._seed} {what} {request.method} {request.path} {request.number}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) / (1 << 56)


class Counted:
    """How often each request came, and all that were asked and what was done to them, in order."""

    def __init__(self) -> None:
        self._times: Counter[tuple[str, str]] = Counter()
        self._log: list[tuple[Request, Fault | None]] = []
        self._lock = threading.Lock()

    def next(self, method: str, path: str, user: str, plan: Plan) -> Fault | None:
        """Count a request and return what shall happen to it."""
        with self._lock:
            request = Request(method, path, user, self._times[method, path])
            self._times[method, path] += 1
            fault = plan(request)
            self._log.append((request, fault))
            return fault

    @property
    def log(self) -> list[tuple[Request, Fault | None]]:
        """Return a copy of what came so far."""
        with self._lock:
            return list(self._log)


def _fits(fault: Fault, request: Request) -> bool:
    """Only a token can expire: the one that continues a list, or that a watch starts from."""
    if fault is not Fault.EXPIRED:
        return True
    return "continue=" in request.path or (request.is_watch and "resourceVersion=" in request.path)
