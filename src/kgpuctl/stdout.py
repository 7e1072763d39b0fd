"""Writing to standard output, which may be closed, full, or read by someone who went away."""

import os
import sys
from typing import Final

from kgpuctl.errors import StepError

INTERRUPTED: Final = "\ninterrupted: nothing was changed\n"


def write(text: str) -> None:
    """Write all of it, or say why not; a reader that went away early is no error of ours."""
    if sys.stdout is None:
        raise StepError("There is no standard output.", remedy="Run it with one, such as a file.")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Python would complain once more when it closes stdout at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise StepError(
                f"The output could not be written: {error.strerror or error}.",
                remedy="Make room for it, or send it elsewhere.",
            ) from error


def complain(text: str) -> None:
    """Write to standard error, if there is one that takes it."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (AttributeError, OSError):  # closed or full: the exit code still tells
        sys.stderr = None
