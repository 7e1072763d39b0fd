"""Recorded clusters: a Kubernetes List in JSON, as kgpuctl and kubectl write it.

kgpuctl's own recording says which kinds it asked for, so that it can tell "none" from "not
looked". What `kubectl get … -o json` gives does not: a kind that is missing there is not recorded.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from kgpuctl.cluster.decoding import decode
from kgpuctl.cluster.keep import keep_log, keeper
from kgpuctl.cluster.objects import KubeletConfig, PodLog, Shape
from kgpuctl.cluster.resources import CRDS, CUSTOM, Resource
from kgpuctl.cluster.snapshot import (
    LISTS,
    ClusterSnapshot,
    ClusterSource,
    Listed,
    SourceKind,
    not_recorded,
)
from kgpuctl.errors import UnreachableError, UsageError, shown
from kgpuctl.unread import Fact, Reason, Unread

MAX_SIZE: Final = 2 * 1024**3
API: Final = "kgpuctl/v1"
_PIECE: Final = 256 * 1024
_MOMENT: Final = re.compile(
    rb'"(?:last\w{4,20}Time(?:stamp)?|\w{2,12}At|creationTimestamp)":\s{0,4}'
    rb'"(20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ)"'
)
MANIFEST: Final = "Snapshot"
_GZIP: Final = b"\x1f\x8b"
_GZIP_FORMAT: Final = 31  # zlib's word for a gzip header, without a time in it
_KINDS: Final = {listed.resource.kind: listed for listed in LISTS}


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    git_version: str = ""


class _List(msgspec.Struct, frozen=True, rename="camel"):
    kind: str = ""
    items: list[msgspec.Raw] | None = None
    server_version: _Version = _Version()


class _Head(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str = ""
    kind: str = ""


class Missed(Shape, frozen=True):
    """A list, or another fact, that could not be had when the recording was made."""

    what: str
    reason: str
    detail: str = ""


class Manifest(Shape, frozen=True):
    """What a recording of kgpuctl says of itself."""

    context: str = ""
    server: str = ""
    user: str = ""
    time: str = ""
    kinds: tuple[str, ...] = ()
    missed: tuple[Missed, ...] = ()


class _Sorted(NamedTuple):
    """The objects of a file by their kind."""

    objects: Mapping[str, list[msgspec.Raw]]
    version: str
    newest: str  # moment that anything in it tells of


def open_snapshot(path: str) -> ClusterSnapshot:
    """Read a recorded cluster; a file of another sort is refused, never judged by its half."""
    content = _read(Path(path))
    try:
        found = _sort(content, path)
        return _snapshot(found, path)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreachableError(
            f"{path} is not a recorded cluster: {error}.",
            remedy="Make one with `kgpuctl snapshot FILE`, or with `kubectl get … -A -o json`.",
        ) from error


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            if path.exists():
                raise UsageError(f"{path} is not a file.", remedy="Name a recorded cluster.")
            raise UsageError(f"There is no file {path}.", remedy="Correct --from.")
        if path.stat().st_size > MAX_SIZE:
            raise _too_big(path)
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        if not packed:
            return path.read_bytes()
        with gzip.open(path) as file:
            content = file.read(MAX_SIZE + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreachableError(
            f"{path} is a broken gzip file: {error}.", remedy="Copy or record it again."
        ) from error
    except OSError as error:
        raise UnreachableError(
            f"{path} cannot be read: {error.strerror or error}.",
            remedy="Correct its permissions, or name another file.",
        ) from error
    if len(content) > MAX_SIZE:
        raise _too_big(path)
    return content


def _too_big(path: Path) -> UnreachableError:
    return UnreachableError(
        f"{path} holds more than {MAX_SIZE // 1024**3} GiB.",
        remedy="Record the cluster with `kgpuctl snapshot`, which keeps only what is judged.",
    )


def _sort(content: bytes, path: str) -> _Sorted:
    head = decode(content, _List)
    if head.items is None:
        if head.kind not in _KINDS:
            raise UnreachableError(
                f"{path} is no Kubernetes List: it has no items"
                + (f", its kind is {shown(head.kind)}." if head.kind else "."),
                remedy="Name what `kgpuctl snapshot` or `kubectl get … -o json` wrote.",
            )
        return _Sorted({head.kind: [msgspec.Raw(content)]}, "", _newest(content))
    of_list = head.kind.removesuffix("List")  # items of a NodeList do not name their kind
    objects: dict[str, list[msgspec.Raw]] = {}
    for item in head.items:
        kind = decode(item, _Head)
        name = kind.kind or of_list
        if name == MANIFEST and kind.api_version != API:
            continue
        objects.setdefault(name, []).append(item)
    if of_list in _KINDS:
        objects.setdefault(of_list, [])
    return _Sorted(objects, head.server_version.git_version, _newest(content))


def _newest(content: bytes) -> str:
    """Return the last moment that is told: kubelets alone write one every few minutes."""
    return max((found[1] for found in _MOMENT.finditer(content)), default=b"").decode()


def _snapshot(found: _Sorted, path: str) -> ClusterSnapshot:
    if not any(kind in _KINDS for kind in found.objects):
        raise UnreachableError(
            f"{path} holds no object that says anything about GPUs in Kata VMs.",
            remedy="Record the cluster with `kgpuctl snapshot FILE`.",
        )
    manifest = next((decode(item, Manifest) for item in found.objects.get(MANIFEST, ())), None)
    lists = {listed.name: _list(listed, found, manifest) for listed in LISTS}
    source = ClusterSource(
        SourceKind.RECORDING,
        path,
        manifest.context if manifest else "",
        manifest.server if manifest else "",
        manifest.user if manifest else "",
        manifest.time if manifest else "",
        found.newest,
    )
    version = found.version or Unread(
        "/version",
        Reason.NOT_RECORDED,
        "the file does not tell the server's version",
        "Record the cluster with `kgpuctl snapshot FILE`.",
    )
    missed = {item.what: item for item in manifest.missed} if manifest else {}
    logs: Fact[tuple[PodLog, ...]] = tuple(
        keep_log(decode(item, PodLog)) for item in found.objects.get("PodLog", ())
    )
    if "pods/log" in missed:
        logs = _unread(missed["pods/log"])
    kubelets = {
        config.metadata.name: config
        for config in (
            decode(item, KubeletConfig) for item in found.objects.get("KubeletConfig", ())
        )
    }
    return ClusterSnapshot(source, version, **lists, logs=logs, kubelets=kubelets)  # type: ignore[arg-type]  # each name has its own type


def _list(listed: Listed, found: _Sorted, manifest: Manifest | None) -> Fact[tuple[Shape, ...]]:
    raw = found.objects.get(listed.resource.kind)
    if manifest is not None:
        missed = next(
            (item for item in manifest.missed if item.what == listed.resource.title), None
        )
        if missed:
            return _unread(missed)
    asked = manifest is not None and listed.resource.title in manifest.kinds
    if raw is None and not asked and not _is_known_absent(listed.resource, found):
        return not_recorded(listed.resource)
    keep = keeper(listed.resource)
    kept = (keep(_decoded(item, listed)) for item in raw or ())
    return tuple(item for item in kept if item is not None)


def _decoded(item: msgspec.Raw, listed: Listed) -> Shape:
    try:
        return decode(item, listed.shape)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(f"a {listed.resource.kind} in it: {error}") from error


def _is_known_absent(resource: Resource, found: _Sorted) -> bool:
    """Whether there cannot be objects of a kind: the CRDs are all there, and its own is not."""
    if resource not in CUSTOM or CRDS.kind not in found.objects:
        return False
    name = f"{resource.plural}.{resource.group}".encode()
    return not any(name in bytes(item) for item in found.objects[CRDS.kind])


def _unread(missed: Missed) -> Unread:
    return Unread(
        missed.what,
        Reason(missed.reason) if missed.reason in set(Reason) else Reason.UNUSABLE,
        missed.detail,
        "Record the cluster again as a user who may read it: `kgpuctl rbac --command snapshot`.",
    )


def dump(snapshot: ClusterSnapshot) -> Iterator[bytes]:
    """Write a snapshot as one List, piece by piece, so that it need not be held a second time."""
    waiting: list[bytes] = []
    size = 0
    for part in _parts(snapshot):
        waiting.append(part)
        size += len(part)
        if size >= _PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _parts(snapshot: ClusterSnapshot) -> Iterator[bytes]:
    source = snapshot.source
    facts = {listed.resource.title: getattr(snapshot, listed.name) for listed in LISTS}
    facts["pods/log"] = snapshot.logs
    manifest = Manifest(
        context=source.context,
        server=source.server,
        user=source.user,
        time=source.time,
        kinds=tuple(title for title, fact in facts.items() if not isinstance(fact, Unread)),
        missed=tuple(
            Missed(title, fact.reason.value, fact.detail)
            for title, fact in facts.items()
            if isinstance(fact, Unread)
        ),
    )
    version = snapshot.version
    server = "" if isinstance(version, Unread) else version
    yield b'{"apiVersion":"v1","kind":"List","serverVersion":'
    yield msgspec.json.encode({"gitVersion": server}) + b',"items":[\n'
    yield _object(API, MANIFEST, manifest)
    for listed in LISTS:
        resource = listed.resource
        for item in _values(facts[resource.title]):
            yield b",\n" + _object(resource.api_version, resource.kind, item)
    for log in _values(snapshot.logs):
        yield b",\n" + _object(API, "PodLog", log)
    for config in snapshot.kubelets.values():
        if not isinstance(config, Unread):
            yield b",\n" + _object(API, "KubeletConfig", config)
    yield b"\n]}\n"


def _values(fact: Fact[tuple[Shape, ...]]) -> Iterable[Shape]:
    return () if isinstance(fact, Unread) else fact


def _object(api_version: str, kind: str, value: Shape) -> bytes:
    head = msgspec.json.encode({"apiVersion": api_version, "kind": kind})
    body = msgspec.json.encode(value)
    return head if body == b"{}" else head[:-1] + b"," + body[1:]


def packed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pack what is written, piece by piece, as gzip does; the same content gives the same bytes."""
    packer = zlib.compressobj(wbits=_GZIP_FORMAT)
    for chunk in chunks:
        yield packer.compress(chunk)
    yield packer.flush()
