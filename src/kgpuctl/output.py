"""Writing the files that a user asked for: whole or not at all."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from kgpuctl.errors import StepError, UsageError


def refuse_existing(path: Path, *, force: bool) -> None:
    """Refuse a path that cannot become a new file, before any work is done for it."""
    if path.is_dir() or (os.path.lexists(path) and not path.is_file()):
        raise UsageError(f"{path} is not a regular file.", remedy="Name another file.")
    if path.is_file() and not force:
        raise UsageError(
            f"{path} exists already.", remedy="Name another file, or overwrite it with --force."
        )
    if not path.parent.is_dir():
        raise UsageError(
            f"There is no directory {path.parent}.", remedy="Make it, or name another file."
        )


def write_output(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file through a temporary one beside it, so that no half file is ever seen."""
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        raise StepError(
            f"{path} could not be written: {error.strerror or error}.",
            remedy="Make room or name a file elsewhere; nothing was left behind.",
        ) from error
    finally:
        if temporary:
            with suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
