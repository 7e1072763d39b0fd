"""Writing the files that a user asked for: whole or not at all."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from kgpuctl.errors import StepError, UsageError, shown


def refuse_existing(path: Path, *, force: bool) -> None:
    """Refuse a path that cannot become a new file, before any work is done for it."""
    try:
        there = os.path.lexists(path)
        is_file = stat.S_ISREG(path.stat().st_mode) if there else False
        has_parent = stat.S_ISDIR(path.parent.stat().st_mode)
    except OSError as error:
        raise UsageError(
            f"{shown(str(path))} cannot be written: {error.strerror or error}.",
            remedy="Name a file in a directory that you may write to.",
        ) from error
    if path.is_symlink():
        # Renaming onto /dev/stdout would take it away from the host.
        raise UsageError(f"{path} is a symbolic link.", remedy="Name the file itself.")
    if not has_parent or (there and not is_file):
        what = f"{path} is not a regular file." if has_parent else f"{path.parent} is no directory."
        raise UsageError(what, remedy="Name another file.")
    if there and not force:
        raise UsageError(
            f"{path} exists already.", remedy="Name another file, or overwrite it with --force."
        )


def write_output(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file through a temporary one beside it, so that no half file is ever seen."""
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".kgpuctl-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        raise StepError(
            f"{path} could not be written: {error.strerror or error}.",
            remedy="Name a file in a directory that you may write to and that has room; nothing "
            "was left behind.",
        ) from error
    finally:
        if temporary:
            with suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
