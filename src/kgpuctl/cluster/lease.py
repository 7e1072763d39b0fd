"""One administrator at a time: the Lease `kgpuctl` in kube-system, held while something changes.

Clocks are not trusted alone. A lease of somebody else is taken over only where its time is over by
this machine's clock and it was not renewed while it was watched for longer than its holder lets
pass between renewals; or where its holder was a process of this machine that is gone. A holder
that could not renew for two thirds of its time stops changing things, by its own steady clock.
"""

import datetime as dt
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeVar

import msgspec

from kgpuctl.cluster.decoding import decode
from kgpuctl.cluster.failures import ClusterError, ConflictError, NotFoundError
from kgpuctl.cluster.lease_holder import Holder, is_gone
from kgpuctl.cluster.resources import LEASES, Call
from kgpuctl.errors import StepError
from kgpuctl.report import printable

T = TypeVar("T")

NAME: Final = "kgpuctl"
NAMESPACE: Final = "kube-system"
CALLS: Final = (
    Call("get", LEASES, namespace=NAMESPACE, name=NAME),
    Call("create", LEASES, namespace=NAMESPACE),
    Call("update", LEASES, namespace=NAMESPACE, name=NAME),
)
_COMMAND: Final = "kgpuctl/command"
_STARTED: Final = "kgpuctl/started-at"
_PROCESS: Final = "kgpuctl/process"
_PATH: Final = LEASES.path(NAME, NAMESPACE)
_TITLE: Final = f"the Lease {NAMESPACE}/{NAME}"
_ATTEMPTS: Final = 4
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class _Annotations(msgspec.Struct, frozen=True):
    command: str = msgspec.field(default="", name=_COMMAND)
    process: str = msgspec.field(default="", name=_PROCESS)


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    annotations: _Annotations = _Annotations()


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: str = ""
    renew_time: str = ""
    lease_transitions: int = 0


class _Lease(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    spec: _Spec = _Spec()

    @property
    def until(self) -> dt.datetime | None:
        """Return when it runs out by its holder's clock; None where it does not say."""
        try:
            renewed = dt.datetime.fromisoformat(self.spec.renew_time)
            return renewed + dt.timedelta(seconds=self.spec.lease_duration_seconds)
        except (ValueError, OverflowError):
            return None


class Cluster(Protocol):
    """What a lease needs of a cluster."""

    def read(self, path: str, kind: type[T], *, query: Mapping[str, str] = _NOTHING) -> T:
        """Return one object."""

    def send(  # noqa: PLR0913  # the parts of a request
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, object] | None = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, str] = _NOTHING,
        safe_to_repeat: bool = False,
    ) -> bytes:
        """Change something."""


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long, in seconds; and the clocks, of which only the steady one is believed alone."""

    duration: int = 60
    renew: float = 10.0
    watch: float = 15.0  # longer than a living holder lets pass
    poll: float = 1.0
    wall: Callable[[], dt.datetime] = _now
    steady: Callable[[], float] = time.monotonic
    wait: Callable[[float], object] = time.sleep  # a true answer ends the waiting

    @property
    def give_up(self) -> float:
        """Return after how long without renewal nothing more may be changed."""
        return self.duration * 2 / 3


class Tenure(NamedTuple):
    """One holder's time: since when, and the how many-th holder it is."""

    holder: Holder
    since: str
    transitions: int

    def body(self, version: str, timing: Timing) -> Mapping[str, object]:
        """Return the Lease as it is while it is held, renewed now."""
        now = _micro(timing.wall())
        return self._object(version, timing.duration, self.holder.identity, now)

    def ended(self, version: str, timing: Timing) -> Mapping[str, object]:
        """Return the Lease as it is afterwards: nobody's."""
        return self._object(version, 1, "", _micro(timing.wall()))

    def _object(self, version: str, seconds: int, identity: str, now: str) -> Mapping[str, object]:
        metadata: dict[str, object] = {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/managed-by": "kgpuctl"},
            "annotations": {
                _COMMAND: self.holder.command,
                _STARTED: self.since,
                _PROCESS: self.holder.process,
            },
        }
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": metadata | ({"resourceVersion": version} if version else {}),
            "spec": {
                "holderIdentity": identity,
                "leaseDurationSeconds": seconds,
                "acquireTime": self.since,
                "renewTime": now,
                "leaseTransitions": self.transitions,
            },
        }


def _micro(time_: dt.datetime) -> str:
    return time_.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class HeldLease:
    """The lease while it is held; renewed in the background until it is released or lost."""

    def __init__(self, cluster: Cluster, tenure: Tenure, version: str, timing: Timing) -> None:
        self.tenure = tenure
        self._cluster = cluster
        self._version = version
        self._timing = timing
        self._renewed = timing.steady()
        self._ended = threading.Event()
        self._lost = ""
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Say why nothing more may be changed; empty while the lease is surely ours."""
        silent = self._timing.steady() - self._renewed
        if self._lost or silent <= self._timing.give_up:
            return self._lost
        return f"{_TITLE} could not be renewed for {silent:.0f} s"

    def release(self) -> None:
        """Give the lease back; where that fails it runs out by itself."""
        self._ended.set()
        self._thread.join(timeout=self._timing.renew)
        with suppress(ClusterError):
            self._write(self.tenure.ended)

    def _keep(self) -> None:
        while not self._ended.wait(self._timing.renew) and not self._lost:
            began = self._timing.steady()
            # `trouble` counts the time for which this does not succeed.
            with suppress(ClusterError):
                if self._write(self.tenure.body):
                    self._renewed = began

    def _write(self, body: Callable[[str, Timing], Mapping[str, object]]) -> bool:
        """Write the lease if it is still ours; False where it is not."""
        for _ in range(_ATTEMPTS):
            if self._lost:
                return False
            try:
                self._version = _put(self._cluster, body(self._version, self._timing))
            except ConflictError:
                self._look()
            except NotFoundError:
                self._lost = f"{_TITLE} was deleted"
            else:
                return True
        return False

    def _look(self) -> None:
        """Find out who changed the lease: somebody who took it, or a renewal that did arrive."""
        lease = self._cluster.read(_PATH, _Lease)
        self._version = lease.metadata.resource_version
        holder = lease.spec.holder_identity
        if holder != self.tenure.holder.identity:
            self._lost = f"{_TITLE} was taken over by {printable(holder) or 'nobody'}"


def _put(cluster: Cluster, body: Mapping[str, object]) -> str:
    """Replace the lease, and return its new version; of two at once the second is refused."""
    answer = cluster.send("PUT", _PATH, body, safe_to_repeat=True)
    return _version_in(answer)


def _version_in(answer: bytes) -> str:
    try:
        return decode(answer, _Lease).metadata.resource_version
    except msgspec.DecodeError:
        return "0"  # the next write meets a conflict, and looks


class Acquired(NamedTuple):
    """A lease that is held now, and what is to be said of how it was come by."""

    lease: HeldLease
    told: str


def acquire(cluster: Cluster, holder: Holder, timing: Timing | None = None) -> Acquired:
    """Take the lease, or refuse where somebody else has it."""
    timing = timing or Timing()
    for _ in range(_ATTEMPTS):
        tenure = Tenure(holder, _micro(timing.wall()), 0)
        try:
            lease = cluster.read(_PATH, _Lease)
            told = _vacancy(cluster, lease, holder, timing)
            tenure = tenure._replace(transitions=lease.spec.lease_transitions + 1)
            body = tenure.body(lease.metadata.resource_version, timing)
            return Acquired(HeldLease(cluster, tenure, _put(cluster, body), timing), told)
        except NotFoundError:
            with suppress(ConflictError):
                path = LEASES.path(namespace=NAMESPACE)
                body = tenure.body("", timing)
                version = _version_in(cluster.send("POST", path, body, safe_to_repeat=True))
                return Acquired(HeldLease(cluster, tenure, version, timing), "")
        except ConflictError:
            continue
    raise StepError(
        f"{_TITLE[0].upper()}{_TITLE[1:]} was taken by others each time. Nothing was changed.",
        remedy="Look who else changes this cluster, then run it again.",
    )


def _vacancy(cluster: Cluster, lease: _Lease, ours: Holder, timing: Timing) -> str:
    """Say why the lease may be taken (nothing where it is free), or refuse."""
    holder = lease.spec.holder_identity
    if holder in {"", ours.identity}:  # ours: a write that arrived although its answer did not
        return ""
    who = _who(lease)
    if is_gone(lease.metadata.annotations.process):
        return f"took over the Lease of {who}: that process is gone"
    until = lease.until
    if until is not None and timing.wall() <= until:
        raise _refusal(lease, f"its Lease {NAMESPACE}/{NAME} runs until {_clock(until)}")
    deadline = timing.steady() + timing.watch
    while timing.steady() < deadline:
        if timing.wait(timing.poll):
            raise KeyboardInterrupt
        now = cluster.read(_PATH, _Lease)
        if now.spec.holder_identity != holder or now.spec.renew_time != lease.spec.renew_time:
            raise _refusal(now, f"its Lease {NAMESPACE}/{NAME} was renewed just now")
    return f"took over the expired Lease of {who}"


def _refusal(lease: _Lease, why: str) -> StepError:
    return StepError(
        f"{_who(lease)} is changing this cluster: {why}. Nothing was changed.",
        remedy="Wait until that is done. A Lease whose holder has died is taken over when its time "
        "is over.",
    )


def _who(lease: _Lease) -> str:
    """Name a holder as far as its lease does: user, host, process, command and since when."""
    name, _, process = lease.spec.holder_identity.rpartition(":")
    command = lease.metadata.annotations.command
    who = f"{name} (process {process.partition('-')[0]})" if name else lease.spec.holder_identity
    doing = f" with `kgpuctl {command}`" if command else ""
    since = f" since {_stamp(lease.spec.acquire_time)}" if lease.spec.acquire_time else ""
    return printable(f"{who}{doing}{since}")[:300]


def _clock(time_: dt.datetime) -> str:
    return f"{time_.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}Z"


def _stamp(text: str) -> str:
    try:
        return _clock(dt.datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return text[:40]
