"""Writing the files that a user asked for: whole or not at all."""

import os
import signal
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from kgpuctl.errors import StepError, UsageError, shown


def refuse_existing(path: Path, *, force: bool) -> None:
    """Refuse a path that cannot become a new file, before any work is done for it."""
    try:
        kind = _kind(path)
        parent = stat.S_IFMT(path.parent.stat().st_mode)
    except OSError as error:
        raise UsageError(
            f"{shown(str(path))} cannot be written: {error.strerror or error}.",
            remedy="Name a file in a directory that you may write to.",
        ) from error
    if parent != stat.S_IFDIR:
        raise UsageError(f"{path.parent} is no directory.", remedy="Name another file.")
    if kind == stat.S_IFLNK:
        # Renaming onto /dev/stdout would take it away from the host.
        raise UsageError(f"{path} is a symbolic link.", remedy="Name the file itself.")
    if kind not in {None, stat.S_IFREG}:
        raise UsageError(f"{path} is not a regular file.", remedy="Name another file.")
    if kind and not force:
        raise UsageError(
            f"{path} exists already.", remedy="Name another file, or overwrite it with --force."
        )


def _kind(path: Path) -> int | None:
    """Return what is at a path, links not followed; None for nothing."""
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except FileNotFoundError:
        return None


def write_output(path: Path, content: bytes | Iterable[bytes], *, mode: int) -> None:
    """Write a file through a temporary one beside it, so that no half file is ever seen."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # From here on an interrupt must clean up instead of ending the process at once.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Named before it is made: an interrupt in between leaves nothing behind.
    temporary = path.with_name(f".kgpuctl-{os.urandom(8).hex()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines((content,) if isinstance(content, bytes) else content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StepError(
            f"{path} could not be written: {error.strerror or error}.",
            remedy="Name a file in a directory that you may write to and that has room; nothing "
            "was left behind.",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
