"""A snapshot that follows the cluster: lists once, then what changes, as it changes."""

import datetime as dt
import threading
from collections.abc import Callable
from typing import Final, Self

from kgpuctl.cluster.failures import ExpiredError, ForbiddenError, NotFoundError
from kgpuctl.cluster.keep import keeper
from kgpuctl.cluster.kube import KubeCluster
from kgpuctl.cluster.listing import ChangeKind
from kgpuctl.cluster.objects import Shape
from kgpuctl.cluster.reader import fields_of, forbidden, read_cluster_with
from kgpuctl.cluster.resources import CUSTOM
from kgpuctl.cluster.snapshot import LISTS, ClusterSnapshot, Listed
from kgpuctl.unread import Fact

PAUSE: Final = 1.0  # before it is asked again whether a custom resource is served by now
LOGS_EVERY: Final = dt.timedelta(seconds=5)


class _Kept:
    """The objects of one list, by uid, as they are now."""

    def __init__(self, changed: threading.Event) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._fact: Fact[dict[str, Shape]] = {}
        self.ready = threading.Event()

    def begin(self, fact: Fact[tuple[Shape, ...]]) -> None:
        """Begin with a whole list."""
        fresh = {_uid(item): item for item in fact} if isinstance(fact, tuple) else fact
        with self._lock:
            if fresh != self._fact or not self.ready.is_set():
                self._fact = fresh
                self._changed.set()
        self.ready.set()

    def put(self, uid: str, item: Shape | None) -> None:
        """Note what an object is now, or that it is none of ours any more."""
        with self._lock:
            if not isinstance(self._fact, dict) or self._fact.get(uid) == item:
                return
            if item is None:
                del self._fact[uid]
            else:
                self._fact[uid] = item
            self._changed.set()

    @property
    def fact(self) -> Fact[tuple[Shape, ...]]:
        """Return the list as it is now."""
        with self._lock:
            return tuple(self._fact.values()) if isinstance(self._fact, dict) else self._fact


def _uid(item: Shape) -> str:
    metadata = item.metadata  # type: ignore[attr-defined]  # every kind of a list has it
    return metadata.uid or f"{metadata.namespace}/{metadata.name}"


class Following:
    """Watches all lists of a cluster. Use it in a `with`: its threads end with it."""

    def __init__(self, cluster: KubeCluster) -> None:
        self._cluster = cluster
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._lists = {listed.name: _Kept(self._changed) for listed in LISTS}
        self._last: ClusterSnapshot | None = None

    def __enter__(self) -> Self:
        for listed in LISTS:
            threading.Thread(
                target=self._follow, args=(listed, self._lists[listed.name]), daemon=True
            ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def await_change(self, seconds: float) -> bool:
        """Wait until something has changed, or for a time; raises what ended a watch."""
        seen = self._changed.wait(seconds)
        self._raise()
        return seen

    def snapshot(self) -> ClusterSnapshot:
        """Return the cluster as it is now; the first time this waits for every list."""
        for kept in self._lists.values():
            while not kept.ready.wait(0.2):
                self._raise()
        self._raise()
        self._changed.clear()
        facts = {name: kept.fact for name, kept in self._lists.items()}
        self._last = read_cluster_with(self._cluster, facts, self._last, LOGS_EVERY)
        return self._last

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _follow(self, listed: Listed, kept: _Kept) -> None:
        try:
            while not self._stop.is_set():
                self._once(listed, kept)
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            self._error = error
            self._changed.set()

    def _once(self, listed: Listed, kept: _Kept) -> None:
        """List, then watch until the version is too old."""
        keep: Callable[[Shape], Shape | None] = keeper(listed.resource)
        fields = fields_of(listed.resource)
        try:
            listing = self._cluster.list(listed.resource, listed.shape, keep, fields=fields)
        except ForbiddenError as error:
            kept.begin(forbidden(listed.resource.title, error))
            self._stop.wait()
            return
        except NotFoundError:
            if listed.resource not in CUSTOM:
                raise
            kept.begin(())
            self._stop.wait(PAUSE)
            return
        kept.begin(listing.items)
        try:
            for change in self._cluster.watch(
                listed.resource, listed.shape, listing.version, stop=self._stop, fields=fields
            ):
                if change.object is not None:
                    gone = change.kind is ChangeKind.DELETED
                    kept.put(_uid(change.object), None if gone else keep(change.object))
        except (ExpiredError, NotFoundError):
            return
