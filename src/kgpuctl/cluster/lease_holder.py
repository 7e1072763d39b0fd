"""Who holds the Lease: a process on a machine, told apart from any other there ever was."""

import getpass
import hashlib
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_START: Final = 19  # field 22 of /proc/PID/stat, counted after the command's name


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, for what; `process` is known again on the same machine only."""

    identity: str
    command: str
    process: str

    @classmethod
    def here(cls, command: str) -> "Holder":
        """Return this process."""
        pid = os.getpid()
        name = f"{_user()}@{socket.gethostname()}:{pid}-{secrets.token_hex(4)}"
        return cls(name, command, f"{_machine()} {pid} {_started(pid)}")


def is_gone(process: str) -> bool:
    """Whether a process surely does not run any more: it was one of this machine's."""
    machine, _, rest = process.partition(" ")
    pid, _, started = rest.partition(" ")
    if not machine or machine != _machine() or not pid.isdecimal() or int(pid) < 1:
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        pass  # somebody else's, but there is one
    now = _started(int(pid))
    return bool(now and started and now != started)  # its number was given to another


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user often has no name
        return f"uid-{os.getuid()}"


def _machine() -> str:
    """Return what differs between machines, boots, and containers with processes of their own."""
    with suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = str((_PROC / "self/ns/pid").readlink())
        return hashlib.sha256(f"{boot} {space}".encode()).hexdigest()[:16]
    return ""


def _started(pid: int) -> str:
    """Return when a process began, in ticks since boot; empty where that cannot be read."""
    with suppress(OSError, IndexError):
        stat = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
        return stat.rpartition(")")[2].split()[_START]
    return ""
