"""What was done to a cluster: one file a run, a line of JSON for each thing begun and ended.

What is begun is on the disk before it is begun, so after any end, also a sudden one, the journal
names every object that may have been changed. kgpuctl never removes or shortens one.
"""

import datetime as dt
import json
import os
import stat
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from kgpuctl.errors import StepError

_PLACE: Final = ("kgpuctl", "journal")
_ATTEMPTS: Final = 100
Values: TypeAlias = Mapping[str, object]
_NOTHING: Final[Values] = MappingProxyType({})
_REMEDY: Final = (
    "Make room, or name another directory for it with XDG_STATE_HOME. Without a journal nothing is "
    "changed."
)


class Told(StrEnum):
    """How far something is."""

    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"


class Entry(NamedTuple):
    """One line: a step, the object that it changes, and how that object is before and after."""

    step: str
    object: str
    result: Told
    before: Values = _NOTHING
    after: Values = _NOTHING
    message: str = ""


class Run(NamedTuple):
    """What stands in each line: which command, on which cluster, as whom, and by which process."""

    command: str
    context: str
    cluster: str
    server: str
    user: str
    by: str


class Journal:
    """One open file; any number of threads may write to it."""

    def __init__(self, path: Path, descriptor: int, run: Run) -> None:
        self.path = path
        self._descriptor = descriptor
        self._run = run._asdict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, environment: Mapping[str, str], home: Path, run: Run) -> "Journal":
        """Make a new file that only its owner may read, in a directory that only they may enter."""
        place = _state_directory(environment, home)
        try:
            directory = _enter(place)
        except OSError as error:
            raise _refusal(place.joinpath(*_PLACE), error) from error
        try:
            name, descriptor = _create(directory, run.command)
        except OSError as error:
            raise _refusal(place.joinpath(*_PLACE), error) from error
        finally:
            os.close(directory)
        return cls(place.joinpath(*_PLACE, name), descriptor, run)

    def write(self, entries: Iterable[Entry]) -> None:
        """Add lines, all in one write; they are on the disk where any of them begins something."""
        entries = tuple(entries)
        time = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        lines = "".join(self._line(time, entry) for entry in entries).encode()
        with self._lock:
            try:
                while lines:
                    lines = lines[os.write(self._descriptor, lines) :]
                if any(entry.result is Told.BEGUN for entry in entries):
                    os.fsync(self._descriptor)
            except OSError as error:
                raise StepError(
                    f"The journal {self.path} could not be written: {error.strerror or error}.",
                    remedy=_REMEDY,
                ) from error

    def _line(self, time: str, entry: Entry) -> str:
        fields = {"time": time, **self._run, **entry._asdict()}
        fields |= {"before": dict(entry.before), "after": dict(entry.after)}
        return json.dumps(fields, separators=(",", ":")) + "\n"

    def close(self) -> None:
        """Bring all of it to the disk; a file in which nothing stands is not left behind."""
        with self._lock, suppress(OSError):
            if os.fstat(self._descriptor).st_size == 0:
                self.path.unlink()
            os.fsync(self._descriptor)
            os.close(self._descriptor)


def _refusal(place: Path, error: OSError) -> StepError:
    return StepError(
        f"No journal can be written to {place}: {error.strerror or error}. Nothing was changed.",
        remedy=_REMEDY,
    )


def _state_directory(environment: Mapping[str, str], home: Path) -> Path:
    """Return where a user's programs keep what is neither configuration nor cache."""
    named = environment.get("XDG_STATE_HOME", "")
    return Path(named) if named.startswith("/") else home / ".local/state"


def _enter(place: Path) -> int:
    """Open our own directory below the user's; links are followed only as far as the user's."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in _PLACE:
        above = descriptor
        try:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=above)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=above)
        finally:
            os.close(above)
    try:
        _close_to_others(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _close_to_others(directory: int) -> None:
    if stat.S_IMODE(os.fstat(directory).st_mode) != 0o700:  # noqa: PLR2004  # as chmod has it
        os.fchmod(directory, 0o700)  # fails where it is somebody else's


def _create(directory: int, command: str) -> tuple[str, int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    start = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{command}-{os.getpid()}"
    for number in range(_ATTEMPTS):
        name = f"{start}{f'-{number}' if number else ''}.jsonl"
        with suppress(FileExistsError):
            descriptor = os.open(name, flags, 0o600, dir_fd=directory)
            os.fchmod(descriptor, 0o600)  # whatever the umask takes away or not
            with suppress(OSError):  # not every file system can
                os.fsync(directory)
            return name, descriptor
    raise FileExistsError(f"{start} exists {_ATTEMPTS} times")
