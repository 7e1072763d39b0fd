"""A host in a file: every answer that its Tree gave, so that the same questions replay.

A recording is a tar.gz. Its first member, `manifest`, has a line for each question:
`read|names|link|node|ask <path> <verdict> <value>`, separated by tabs, with `%XX` for what would
break a line. Longer contents are members of their own, `files/NUMBER`. Of files that people
write it has only what is judged (`Keep`), so that no credential can be in it.
"""

import gzip
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Final

from kgpuctl.errors import UnreachableError, UsageError
from kgpuctl.host.facts import Node
from kgpuctl.host.tree import MAX_FILE, Keep, Tree
from kgpuctl.unread import Fact, Reason, Unread

HEADER: Final = "kgpuctl-recording\t1"
MAX_MEMBERS: Final = 20_000
MAX_SIZE: Final = 256 * 1024 * 1024
MAX_PADDING: Final = 64 * 1024
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

    def read(self, path: str, keep: Keep | None = None) -> Fact[bytes | None]:
        """Return the content of a regular file; remember what may be kept of it."""
        answer = self.tree.read(path, keep)
        self.answers["read", path] = keep(answer) if keep and isinstance(answer, bytes) else answer
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
        """Return the recording as the bytes of a tar.gz; the same answers make the same bytes."""
        lines = [HEADER, f"time\t{time}"]
        files: list[bytes] = []
        for (method, path), answer in sorted(self.answers.items()):
            verdict, value = _spell(answer)
            if isinstance(answer, bytes) and len(answer) > _INLINE:
                verdict, value = "file", str(len(files))
                files.append(answer)
            lines.append("\t".join([method, _escape(path), verdict, value]))
        members = [("manifest", ("\n".join(lines) + "\n").encode())]
        members += [(f"files/{number}", content) for number, content in enumerate(files)]
        archive = b"".join(map(_member, *zip(*members, strict=True)))
        return gzip.compress(archive + bytes(2 * _BLOCK), mtime=0)


_BLOCK: Final = 512
_HEADER: Final = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")


def _member(name: str, content: bytes) -> bytes:
    """Return a regular file of a plain (ustar, POSIX.1-1988) archive."""
    fields: list[bytes] = [
        name.encode(), b"0000600\0", b"0000000\0", b"0000000\0", b"%011o\0" % len(content),
        b"00000000000\0", b" " * 8, b"0", b"", b"ustar\0", b"00", b"", b"",
        b"0000000\0", b"0000000\0", b"",
    ]  # fmt: skip
    fields[6] = b"%06o\0 " % sum(_HEADER.pack(*fields))
    return _HEADER.pack(*fields) + content + bytes(-len(content) % _BLOCK)


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
        case bytes():
            return "text", _escape(answer.decode("utf-8", "surrogateescape"))


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

    def read(self, path: str, keep: Keep | None = None) -> Fact[bytes | None]:
        """Return what was kept of a file."""
        del keep  # it was applied when the file was recorded
        answer = self._answer("read", path)
        return answer if answer is None or isinstance(answer, (bytes, Unread)) else _odd(path)

    def names(self, path: str) -> Fact[tuple[str, ...] | None]:
        """Return a recorded directory's names."""
        answer = self._answer("names", path)
        return answer if answer is None or isinstance(answer, (tuple, Unread)) else _odd(path)

    def link(self, path: str) -> Fact[str | None]:
        """Return a recorded link's target."""
        answer = self._answer("link", path)
        return answer if answer is None or isinstance(answer, (str, Unread)) else _odd(path)

    def node(self, path: str) -> Fact[Node | None]:
        """Return what was at `path`."""
        answer = self._answer("node", path)
        return answer if answer is None or isinstance(answer, (Node, Unread)) else _odd(path)

    def ask(self, question: str) -> Fact[str | None]:
        """Return what the running system answered."""
        answer = self._answer("ask", question)
        return answer if answer is None or isinstance(answer, (str, Unread)) else _odd(question)

    def _answer(self, method: str, path: str) -> Answer:
        try:
            return self.answers[method, path]
        except KeyError:
            return Unread(path, Reason.NOT_RECORDED)


def _odd(path: str) -> Unread:
    return Unread(path, Reason.UNUSABLE, "the recording holds something else there")


def open_recording(path: str) -> RecordingTree:
    """Load a recording into memory; nothing of it is ever written to disk."""
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return _load(path, file)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(
            f"There is no recording {path or repr(path)}.",
            remedy="Give --from a file that `kgpuctl preflight --record FILE` wrote; a directory "
            "goes to --root.",
        ) from error
    except (gzip.BadGzipFile, zlib.error, EOFError, _BadRecordingError) as error:
        raise UnreachableError(
            f"{path} is not a whole recording: {_reason(error)}.",
            remedy="Make a new one on that host with `kgpuctl preflight --record FILE`, "
            "or unpack other archives and name their directory with --root.",
        ) from error
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreachableError(
            f"{path} cannot be read: {told}.", remedy="Check the path and its permissions."
        ) from error


class _BadRecordingError(Exception):
    """What is wrong with a recording, in words."""


def _reason(error: Exception) -> str:
    if isinstance(error, _BadRecordingError):
        return str(error)
    if isinstance(error, EOFError):
        return "it ends too early"
    return "it is no gzip file" if isinstance(error, gzip.BadGzipFile) else "it is damaged"


def _load(path: str, file: IO[bytes]) -> RecordingTree:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise _BadRecordingError("it is not a regular file")
    manifest: str | None = None
    files: dict[str, bytes] = {}
    with gzip.GzipFile(fileobj=file, mode="rb") as unzipped:
        for name, content in _members(unzipped):
            if manifest is None:
                if name != "manifest":
                    raise _BadRecordingError("its first member is not a kgpuctl manifest")
                manifest = content.decode("utf-8", "replace")
            elif re.fullmatch(r"files/[0-9]{1,9}", name) and name not in files:
                files[name] = content
            else:
                raise _BadRecordingError(f"its member {name[:80]!r} is not one of kgpuctl's")
    if manifest is None:
        raise _BadRecordingError("it is empty")
    return _parse(path, manifest, files)


_SIZE: Final = re.compile(rb"[0-7]{1,11}[ \0]?")


def _members(stream: gzip.GzipFile) -> Iterator[tuple[str, bytes]]:
    """Yield the regular files of a plain (ustar) archive, and refuse everything else.

    Python's tarfile is not used for reading: its extensions (long names, pax, sparse files) can
    be made to recurse, to raise any error, and to hold any amount of memory.
    """
    total = 0
    for count in range(MAX_MEMBERS + 1):
        header = _exactly(stream, _BLOCK)
        if not header.strip(b"\0"):
            _refuse_more(stream)
            return
        name, size = _parse_header(header)
        total += size
        if count == MAX_MEMBERS:
            raise _BadRecordingError(f"it has more than {MAX_MEMBERS} members")
        if size > MAX_FILE or total > MAX_SIZE:
            raise _BadRecordingError(f"it unpacks to more than {MAX_SIZE // 2**20} MiB")
        yield name, _exactly(stream, size)
        _exactly(stream, -size % _BLOCK)


def _refuse_more(stream: gzip.GzipFile) -> None:
    """Read to the end, which checks the sum of it all; only padding may come there."""
    rest = stream.read(MAX_PADDING + 1)
    if len(rest) > MAX_PADDING or rest.strip(b"\0"):
        raise _BadRecordingError("something follows its end")


def _exactly(stream: gzip.GzipFile, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content


def _parse_header(header: bytes) -> tuple[str, int]:
    name = header[:100].rstrip(b"\0").decode("utf-8", "replace")
    # The checksum is the sum of all bytes, its own eight counted as spaces.
    told = header[148:156].strip(b" \0")
    if header[257:262] != b"ustar" or not re.fullmatch(rb"[0-7]{1,8}", told):
        raise _BadRecordingError("it is no tar archive")
    if int(told, 8) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise _BadRecordingError("it is damaged")
    if name.startswith("/") or ".." in name.split("/"):
        raise _BadRecordingError(f"its member {name[:80]!r} points outside of it")
    size = header[124:136]
    if header[156:157] not in {b"0", b"\0"} or not _SIZE.fullmatch(size):
        raise _BadRecordingError(f"its member {name[:80]!r} is not a regular file")
    return name, int(size.strip(b" \0"), 8)


def _parse(path: str, manifest: str, files: dict[str, bytes]) -> RecordingTree:
    header, time, *lines = manifest.rstrip("\n").split("\n") + [""] * 2
    if header != HEADER:
        raise _BadRecordingError(
            "another version of kgpuctl wrote it"
            if header.startswith("kgpuctl-recording")
            else "its manifest is not kgpuctl's"
        )
    answers: dict[tuple[str, str], Answer] = {}
    unused = set(files)
    for line in filter(None, lines):
        try:
            method, name, verdict, value = line.split("\t")
            key = (method, _unescape(name))
            if key in answers:
                raise _BadRecordingError(f"its manifest answers twice: {line[:60]!r}")
            answers[key] = _SPELLED[method](key[1], verdict, value, files)
            if verdict == "file":
                unused.discard(f"files/{value}")
        except (ValueError, KeyError) as error:
            raise _BadRecordingError(f"its manifest has a damaged line: {line[:60]!r}") from error
    if unused:
        raise _BadRecordingError(f"no line of its manifest names {min(unused)}")
    return RecordingTree(path, time.removeprefix("time\t")[:40], answers)


def _parse_read(name: str, verdict: str, value: str, files: dict[str, bytes]) -> Answer:
    if verdict == "file":
        return files[f"files/{value}"]
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
        match = re.fullmatch(r"([a-z]{1,10}) ([0-7]{1,5})", value)
        if not match:
            raise ValueError(value)
        return Node(match[1], int(match[2], 8))
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
