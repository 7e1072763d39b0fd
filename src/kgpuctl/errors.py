"""Everything that can stop kgpuctl, and the exit code each one owns.

Exit code 1 is left to Python: a traceback is a bug, never a finding.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar, Final

LONGEST: Final = 80  # of a user's own words in a message


def shown(word: str) -> str:
    """Return what a user gave as it can stand in a message: quoted, and cut where it is long."""
    return repr(word if len(word) <= LONGEST else f"{word[:LONGEST]}…")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" for a mistyped word, or the end of the sentence."""
    near = get_close_matches(word, sorted(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else "."


class KgpuctlError(Exception):
    """A failure that the user can act on: one sentence of what happened, one of what to do."""

    exit_code: ClassVar[int]

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class UsageError(KgpuctlError):
    """The command line or kgpuctl.toml asks for something that cannot be."""

    exit_code = 2


class UnreachableError(KgpuctlError):
    """A host, a recording, a cluster or a registry could not be read."""

    exit_code = 4


class StepError(KgpuctlError):
    """A change was refused, failed or ran out of time, or a local file could not be written."""

    exit_code = 5
