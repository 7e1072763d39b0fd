"""Programs that run beside the tests: started, waited for, and ended by process id."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_POLL: Final = 0.05
_SHOWN: Final = 15


class StartError(Exception):
    """A program ended, or did not come up in time; its last lines are here."""


class Processes:
    """A group of programs with one log each, all ended when the group is left.

    The kernel ends them too if this process is killed, where setpriv can ask it to.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    @property
    def ids(self) -> Mapping[str, int]:
        """The process id of each program."""
        return {name: process.pid for name, process in self._running.items()}

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a program in a session of its own, so that Ctrl-C comes only to the tests."""
        setpriv = shutil.which("setpriv")
        with (self._directory / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [*((setpriv, "--pdeathsig", "KILL") if setpriv else ()), *command],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (self._directory / f"{name}.pid").write_text(f"{self._running[name].pid}\n")

    def wait(self, awaited: str, is_true: Callable[[], bool], seconds: float) -> None:
        """Wait until something is true, a program has ended, or the time is over."""
        deadline = time.monotonic() + seconds
        while not is_true():
            for name, process in self._running.items():
                if process.poll() is not None:
                    raise StartError(f"{name} ended while {awaited} was awaited:\n{self.log(name)}")
            if time.monotonic() > deadline:
                logs = "\n".join(f"{name}:\n{self.log(name)}" for name in self._running)
                raise StartError(f"no {awaited} after {seconds:g} s.\n{logs}")
            time.sleep(_POLL)

    def log(self, name: str) -> str:
        """Return the last lines that a program wrote."""
        text = (self._directory / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-_SHOWN:])

    def end(self) -> None:
        """End all, the last started first, and hard: nothing that they hold is worth keeping."""
        for process in reversed(self._running.values()):
            process.kill()
        for process in self._running.values():
            process.wait()
        self._running.clear()


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that were free a moment ago, all different."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
