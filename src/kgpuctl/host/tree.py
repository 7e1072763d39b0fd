"""Reading below a root directory, so that "not there" and "could not look" are never mixed up.

Paths are the host's own ("/proc/cmdline"), whatever directory stands for "/". Nothing outside
that directory is ever read, wherever a symbolic link points.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from kgpuctl.errors import UnreachableError, UsageError
from kgpuctl.host.facts import Node
from kgpuctl.unread import Fact, Reason, Unread

# Nothing that preflight reads is larger on a sound host; /proc/interrupts of 512 CPUs is 12 MB.
MAX_FILE: Final = 32 * 1024 * 1024
MAX_LINKS: Final = 40  # as the kernel's own limit

# A path counts as absent only where its surroundings were seen: the first prefix that fits names
# the witness which must exist. What has none was not recorded, and is not "not there".
WITNESSES: Final = (
    ("/sys/kernel", "/sys/kernel"),
    ("/sys/firmware/acpi", "/sys/firmware/acpi"),
    ("/sys/bus/pci/drivers", "/sys/bus/pci/drivers"),
    ("/sys/bus/pci", "/sys/bus/pci/devices"),
    ("/sys/class/dmi", "/sys/class"),
    ("/sys/class/iommu", "/sys/class"),
    ("/sys/module", "/sys/module"),
    ("/proc", "/proc/cmdline"),
    ("/dev", "/dev/null"),
    ("/etc/containerd", "/etc/containerd"),
    ("/etc/modprobe.d", "/etc/modprobe.d"),
    ("/etc", "/etc/os-release"),
    ("/usr", "/usr/bin"),
    ("/lib/modules", "/lib/modules"),
    ("/lib", "/usr/bin"),
    ("/opt", "/opt"),
    ("/run", "/run"),
    ("/var", "/var/lib"),
)
_KERNEL: Final = ("/sys", "/proc", "/dev")
_NULL: Final = os.makedev(1, 3)
# Of a running system only these can be hidden from us (a container, a chroot); the rest is it.
LIVE_WITNESSES: Final = tuple(
    (prefix, witness) for prefix, witness in WITNESSES if prefix.startswith(_KERNEL)
)


# Of a file's content, what a recording may have.
Keep = Callable[[bytes], bytes]


class Tree(Protocol):
    """A host's files. Each answer is a value, None for "not there", or why it is not known."""

    def read(self, path: str, keep: Keep | None = None) -> Fact[bytes | None]:
        """Return the content of a regular file; `keep` is for who records it."""
        ...

    def names(self, path: str) -> Fact[tuple[str, ...] | None]:
        """Return the sorted names in a directory."""
        ...

    def link(self, path: str) -> Fact[str | None]:
        """Return where a symbolic link points, as it is written."""
        ...

    def node(self, path: str) -> Fact[Node | None]:
        """Return what is at `path`, symbolic links followed."""
        ...

    def ask(self, question: str) -> Fact[str | None]:
        """Return what only a running system can answer (see `kgpuctl.host.live`)."""
        ...


@contextmanager
def _told(path: str, answer: list[Unread | None]) -> Iterator[None]:
    """Turn an OSError into an answer."""
    try:
        yield
    except FileNotFoundError:
        answer.append(None)
    except PermissionError:
        answer.append(Unread(path, Reason.NOT_PERMITTED))
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        answer.append(Unread(path, Reason.UNUSABLE, text.lower()))


@dataclass(slots=True)
class DirectoryTree:
    """A root directory: `/` (live) or another one, inside which all links are resolved."""

    root: str
    answer: Callable[[str], Fact[str | None]] | None = None
    _dirs: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def open(cls, root: str, answer: Callable[[str], Fact[str | None]]) -> "DirectoryTree":
        """Open a root directory, or say why it cannot be one; `answer` serves the live root."""
        try:
            absolute = _listable(root)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise UsageError(
                f"There is no directory {root or repr(root)}.",
                remedy="Give --root the directory that stands for the host's /.",
            ) from error
        except OSError as error:
            raise UnreachableError(
                f"{root} cannot be read: {error.strerror or error}.",
                remedy="Run it as a user who may read it, for example with sudo.",
            ) from error
        return cls(absolute, answer if absolute == "/" else None)

    @property
    def live(self) -> bool:
        """Whether this is the running system itself."""
        return self.answer is not None

    def read(self, path: str, keep: Keep | None = None) -> Fact[bytes | None]:
        """Return the content of a regular file of at most MAX_FILE bytes."""
        del keep  # nothing is recorded here
        answer: list[Unread | None] = []
        with _told(path, answer):
            # O_NONBLOCK: opening a FIFO must not wait for a writer.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
            descriptor = os.open(self._real(path), flags)
            try:
                found = os.fstat(descriptor)
                if found.st_rdev == _NULL and stat.S_ISCHR(found.st_mode):
                    return b""  # a link to /dev/null is the usual way to mask a file
                if not stat.S_ISREG(found.st_mode):
                    return Unread(path, Reason.UNUSABLE, "not a regular file")
                content = _read_all(descriptor)
            finally:
                os.close(descriptor)
            if len(content) > MAX_FILE:
                limit = f"larger than {MAX_FILE // 2**20} MiB"
                return Unread(path, Reason.UNUSABLE, limit)
            return content
        return self._absent(path, answer[0])

    def names(self, path: str) -> Fact[tuple[str, ...] | None]:
        """Return the sorted names in a directory."""
        answer: list[Unread | None] = []
        with _told(path, answer):
            return tuple(sorted(os.listdir(self._real(path))))  # noqa: PTH208
        return self._absent(path, answer[0])

    def link(self, path: str) -> Fact[str | None]:
        """Return where a symbolic link points, as it is written."""
        answer: list[Unread | None] = []
        with _told(path, answer):
            return os.readlink(self._real(path, follow_last=False))  # noqa: PTH115
        return self._absent(path, answer[0])

    def node(self, path: str) -> Fact[Node | None]:
        """Return what is at `path`, symbolic links followed."""
        answer: list[Unread | None] = []
        with _told(path, answer):
            mode = os.stat(self._real(path)).st_mode  # noqa: PTH116
            return Node(_KINDS.get(stat.S_IFMT(mode), "other"), stat.S_IMODE(mode))
        return self._absent(path, answer[0])

    def ask(self, question: str) -> Fact[str | None]:
        """Return what only a running system can answer."""
        if self.answer is None:
            return Unread(question, Reason.NOT_OFFERED, "a directory tree cannot tell")
        return self.answer(question)

    def _absent(self, path: str, answer: Unread | None) -> Unread | None:
        """Believe that something is not there only where its surroundings were seen."""
        if answer is not None or self._is_seen(path):
            return answer
        return Unread(path, Reason.NOT_RECORDED)

    def _is_seen(self, path: str) -> bool:
        for prefix, witness in LIVE_WITNESSES if self.live else WITNESSES:
            if path == prefix or path.startswith(prefix + "/"):
                if witness not in self._seen:
                    self._seen[witness] = self._exists(witness)
                if self._seen[witness]:
                    return True
                if self.live or prefix.startswith(_KERNEL):
                    return False  # only below other directories a parent's witness will do
        return self.live

    def _exists(self, path: str) -> bool:
        try:
            return os.path.lexists(self._real(path, follow_last=False))
        except OSError:
            return False

    def _real(self, path: str, *, follow_last: bool = True) -> str:
        """Return the path to open, with every link resolved inside the root."""
        if self.root == "/":
            return path
        parent, _, name = path.rstrip("/").rpartition("/")
        place = self._dirs.get(parent)
        if place is None:
            place = self._dirs[parent] = self._walk("", parent.split("/"), 0)
        if not follow_last:
            return f"{self.root}{place}/{name}"
        return self.root + self._walk(place, [name], 0)

    def _walk(self, start: str, parts: list[str], links: int) -> str:
        """Resolve `parts` from the directory `start` (inside the root) as chroot would."""
        place, todo = start, parts[::-1]
        while todo:
            part = todo.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                place = place.rpartition("/")[0]
                continue
            here = f"{place}/{part}"
            try:
                target = os.readlink(self.root + here)  # noqa: PTH115
            except OSError as error:
                if error.errno not in {errno.EINVAL, errno.ENOENT}:
                    raise
                place = here
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if target.startswith("/"):
                place = ""
            todo.extend(target.split("/")[::-1])
        return place


def _listable(root: str) -> str:
    """Return the absolute path of a directory that can be listed."""
    if not root:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    absolute = os.path.abspath(root)  # noqa: PTH100  # no symlink is resolved here
    os.listdir(absolute)  # noqa: PTH208
    return absolute


_KINDS: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "fifo",
}


def _read_all(descriptor: int) -> bytes:
    """Read to the end, or one byte past what is allowed."""
    chunks, size = [], 0
    while size <= MAX_FILE and (chunk := os.read(descriptor, 1 << 16)):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)
