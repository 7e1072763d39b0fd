"""A host in a file: every answer that its Tree gave, so that the same questions replay.

A recording is a tar.gz. Its first member, `manifest`, has a line for each question:
`read|names|link|node|ask <path> <verdict> <value>`, separated by tabs, with `%XX` for what would
break a line. Longer contents are members of their own, `files/<path>`.
"""

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from kgpuctl.errors import UnreachableError, UsageError
from kgpuctl.host.facts import Fact, Node, Reason, Unread
from kgpuctl.host.redaction import redact
from kgpuctl.host.tree import MAX_FILE, Tree

HEADER: Final = "kgpuctl-recording\t1"
MAX_MEMBERS: Final = 20_000
MAX_SIZE: Final = 256 * 1024 * 1024
_INLINE: Final = 512  # bytes of content kept in the manifest itself
_VERDICTS: Final = {
    Reason.NOT_PERMITTED: "denied",
    Reason.NOT_RECORDED: "unrecorded",
    Reason.UNUSABLE: "unusable",
    Reason.NOT_OFFERED: "unoffered",
}
_REASONS: Final = {verdict: reason for reason, verdict in _VERDICTS.items()}
_UNSAFE: Final = re.compile(r"[^ -$&-~]")

Answer = bytes | str | tuple[str, ...] | Node | Unread | None


@dataclass(slots=True)
class Recorder:
    """A Tree that passes questions on to another one and remembers the answers."""

    tree: Tree
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)

    def read(self, path: str) -> Fact[bytes | None]:
        """Return the content of a regular file."""
        answer = self.tree.read(path)
        self.answers["read", path] = answer
        return answer

    def names(self, path: str) -> Fact[tuple[str, ...] | None]:
        """Return the sorted names in a directory."""
        answer = self.tree.names(path)
        self.answers["names", path] = answer
        return answer

    def link(self, path: str) -> Fact[str | None]:
        """Return where a symbolic link points."""
        answer = self.tree.link(path)
        self.answers["link", path] = answer
        return answer

    def node(self, path: str) -> Fact[Node | None]:
        """Return what is at `path`."""
        answer = self.tree.node(path)
        self.answers["node", path] = answer
        return answer

    def ask(self, question: str) -> Fact[str | None]:
        """Return what only a running system can answer."""
        answer = self.tree.ask(question)
        self.answers["ask", question] = answer
        return answer

    def pack(self, time: str) -> bytes:
        """Return the recording as the bytes of a tar.gz; credentials are taken out."""
        lines, files = [HEADER, f"time\t{time}"], {}
        for (method, path), answer in sorted(self.answers.items()):
            verdict, value = _spell(answer)
            if isinstance(answer, bytes):
                content = _without_credentials(answer)
                if len(content) > _INLINE or not content.isascii():
                    files[path] = content
                    verdict, value = "file", ""
                else:
                    value = _escape(content.decode())
            lines.append("\t".join([method, _escape(path), verdict, value]))
        packed = io.BytesIO()
        # mtime=0: the same answers make the same bytes.
        with (
            gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w|") as tar,
        ):
            _add(tar, "manifest", ("\n".join(lines) + "\n").encode())
            for path, content in files.items():
                _add(tar, f"files{path}", content)
        return packed.getvalue()


def _without_credentials(content: bytes) -> bytes:
    try:
        return redact(content.decode()).encode()
    except UnicodeDecodeError:  # a firmware table, or what is no text anyway
        return content


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    tar.addfile(member, io.BytesIO(content))


def _spell(answer: Answer) -> tuple[str, str]:
    match answer:
        case None:
            return "absent", ""
        case Unread():
            return _VERDICTS[answer.reason], _escape(f"{answer.path}\n{answer.detail}")
        case Node():
            return "node", f"{answer.kind} {answer.mode:o}"
        case tuple():
            return "names", "/".join(_escape(name) for name in answer)
        case str():
            return "text", _escape(answer)
        case _:
            return "text", ""


def _escape(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    if raw.isascii() and not _UNSAFE.search(text):
        return text
    return "".join(
        chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}"  # noqa: PLR2004
        for byte in raw
    )


def _unescape(text: str) -> str:
    if "%" not in text:
        return text
    raw = re.sub(rb"%([0-9A-F]{2})", lambda code: bytes([int(code[1], 16)]), text.encode())
    return raw.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class RecordingTree:
    """The answers of a recording; what was never asked was not recorded."""

    path: str
    time: str
    answers: dict[tuple[str, str], Answer]

    def read(self, path: str) -> Fact[bytes | None]:
        """Return a recorded file's content."""
        answer = self._answer("read", path)
        return answer if isinstance(answer, bytes | Unread | None) else _odd(path)

    def names(self, path: str) -> Fact[tuple[str, ...] | None]:
        """Return a recorded directory's names."""
        answer = self._answer("names", path)
        return answer if isinstance(answer, tuple | Unread | None) else _odd(path)

    def link(self, path: str) -> Fact[str | None]:
        """Return a recorded link's target."""
        answer = self._answer("link", path)
        return answer if isinstance(answer, str | Unread | None) else _odd(path)

    def node(self, path: str) -> Fact[Node | None]:
        """Return what was at `path`."""
        answer = self._answer("node", path)
        return answer if isinstance(answer, Node | Unread | None) else _odd(path)

    def ask(self, question: str) -> Fact[str | None]:
        """Return what the running system answered."""
        answer = self._answer("ask", question)
        return answer if isinstance(answer, str | Unread | None) else _odd(question)

    def _answer(self, method: str, path: str) -> Answer:
        missing = Unread(path, Reason.NOT_RECORDED)
        return self.answers.get((method, path), missing)


def _odd(path: str) -> Unread:
    return Unread(path, Reason.UNUSABLE, "the recording holds something else there")


def open_recording(path: str) -> RecordingTree:
    """Load a recording into memory; nothing of it is ever written to disk."""
    try:
        with Path(path).open("rb") as file:
            return _load(path, file)
    except FileNotFoundError as error:
        raise UsageError(
            f"There is no recording {path}.",
            remedy="Give --from a file that `kgpuctl preflight --record FILE` wrote.",
        ) from error
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, _BadRecordingError) as error:
        raise UnreachableError(
            f"{path} is not a whole recording: {_reason(error)}.",
            remedy="Make a new one on that host with `kgpuctl preflight --record FILE`, "
            "or unpack other archives and name their directory with --root.",
        ) from error
    except OSError as error:
        raise UnreachableError(
            f"{path} cannot be read: {error.strerror or error}.",
            remedy="Check the path and its permissions.",
        ) from error


class _BadRecordingError(Exception):
    """What is wrong with a recording, in words."""


def _reason(error: Exception) -> str:
    if isinstance(error, _BadRecordingError):
        return str(error)
    if isinstance(error, EOFError):
        return "it ends too early"
    if isinstance(error, zlib.error):
        return "its compressed data is damaged"
    if isinstance(error, tarfile.ReadError) and "end" in str(error):
        return "it ends too early"
    return "it is no tar.gz archive"


class _Limited(io.RawIOBase):
    """A stream that refuses to give more than MAX_SIZE bytes."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._left = MAX_SIZE

    def read(self, size: int = -1) -> bytes:
        """Read on, but never past the limit."""
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise _BadRecordingError(f"it unpacks to more than {MAX_SIZE // 2**20} MiB")
        return content


def _load(path: str, file: IO[bytes]) -> RecordingTree:
    manifest: str | None = None
    files: dict[str, bytes] = {}
    with (
        gzip.GzipFile(fileobj=file, mode="rb") as unzipped,
        tarfile.open(fileobj=_Limited(unzipped), mode="r|") as tar,
    ):
        for count, member in enumerate(tar):
            _refuse_odd(member, count)
            stream = tar.extractfile(member)
            content = stream.read() if stream else b""
            if member.name == "manifest" and manifest is None:
                manifest = content.decode("utf-8", "replace")
            elif manifest is not None and member.name.startswith("files/"):
                files[member.name.removeprefix("files")] = content
            else:
                raise _BadRecordingError(
                    "its first member is not a kgpuctl manifest"
                    if manifest is None
                    else f"its member {member.name[:80]!r} is not one of kgpuctl's"
                )
    if manifest is None:
        raise _BadRecordingError("it is empty")
    return _parse(path, manifest, files)


def _refuse_odd(member: tarfile.TarInfo, count: int) -> None:
    name = repr(member.name[:80])
    if count >= MAX_MEMBERS:
        raise _BadRecordingError(f"it has more than {MAX_MEMBERS} members")
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise _BadRecordingError(f"its member {name} points outside of it")
    if not member.isreg():
        raise _BadRecordingError(f"its member {name} is not a regular file")
    if member.size > MAX_FILE:
        raise _BadRecordingError(f"its member {name} is larger than {MAX_FILE // 2**20} MiB")


def _parse(path: str, manifest: str, files: dict[str, bytes]) -> RecordingTree:
    header, time, *lines = manifest.rstrip("\n").split("\n") + [""] * 2
    if header != HEADER:
        raise _BadRecordingError(
            "another version of kgpuctl wrote it"
            if header.startswith("kgpuctl-recording")
            else "its manifest is not kgpuctl's"
        )
    answers: dict[tuple[str, str], Answer] = {}
    for line in filter(None, lines):
        try:
            method, name, verdict, value = line.split("\t")
            name = _unescape(name)
            answers[method, name] = _SPELLED[method](name, verdict, value, files)
        except (ValueError, KeyError) as error:
            raise _BadRecordingError(f"its manifest has a damaged line: {line[:60]!r}") from error
    return RecordingTree(path, time.removeprefix("time\t"), answers)


def _parse_read(name: str, verdict: str, value: str, files: dict[str, bytes]) -> Answer:
    if verdict == "file":
        return files[name]
    if verdict == "text":
        return _unescape(value).encode("utf-8", "surrogateescape")
    return _parse_other(name, verdict, value)


def _parse_names(name: str, verdict: str, value: str, _: dict[str, bytes]) -> Answer:
    if verdict == "names":
        return tuple(_unescape(part) for part in value.split("/")) if value else ()
    return _parse_other(name, verdict, value)


def _parse_text(name: str, verdict: str, value: str, _: dict[str, bytes]) -> Answer:
    return _unescape(value) if verdict == "text" else _parse_other(name, verdict, value)


def _parse_node(name: str, verdict: str, value: str, _: dict[str, bytes]) -> Answer:
    if verdict == "node":
        kind, mode = value.split(" ")
        return Node(kind, int(mode, 8))
    return _parse_other(name, verdict, value)


def _parse_other(name: str, verdict: str, value: str) -> Answer:
    if verdict == "absent":
        return None
    path, _, detail = _unescape(value).partition("\n")
    return Unread(path or name, _REASONS[verdict], detail)


_SPELLED: Final[dict[str, Callable[[str, str, str, dict[str, bytes]], Answer]]] = {
    "read": _parse_read,
    "names": _parse_names,
    "link": _parse_text,
    "node": _parse_node,
    "ask": _parse_text,
}
