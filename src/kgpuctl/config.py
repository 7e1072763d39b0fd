"""kgpuctl.toml and KGPUCTL_* variables as a frozen value."""

import datetime as dt
import errno
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from kgpuctl.errors import UsageError, nearest, shown
from kgpuctl.names import Stack, Tee

FILE: Final = "kgpuctl.toml"
MAX_SIZE: Final = 64 * 1024
_KEYS: Final = ("confidential", "devices", "stack", "waive")
_WAIVER_KEYS: Final = ("id", "reason", "until")
_PREFIX: Final = "KGPUCTL_"
# Kubernetes sets these in a pod where its namespace has a Service called kgpuctl.
_OF_A_SERVICE: Final = re.compile(r"KGPUCTL_(?:SERVICE_|PORT(?:_|$))")
_VARIABLES: Final = ("KGPUCTL_CONFIDENTIAL", "KGPUCTL_CONFIG", "KGPUCTL_STACK")

E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Waiver:
    """A check that somebody decided to live with: why, and until which day it holds."""

    id: str
    reason: str
    until: dt.date | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """What is configured; None where nothing was said."""

    stack: Stack | None = None
    confidential: Tee | None = None
    devices: tuple[str, ...] = ()
    waivers: tuple[Waiver, ...] = ()


def load_config(path: Path | None, environment: Mapping[str, str]) -> Config:
    """Read the named file, else ./kgpuctl.toml if it is there; variables fill what it leaves."""
    for name in environment:
        if name.startswith(_PREFIX) and name not in _VARIABLES and not _OF_A_SERVICE.match(name):
            raise UsageError(
                f"There is no variable {name}{nearest(name, _VARIABLES)}",
                remedy=f"Unset it; known are {', '.join(_VARIABLES)}.",
            )
    environment = {name: value for name, value in environment.items() if value}
    named = path or (
        Path(environment["KGPUCTL_CONFIG"]) if "KGPUCTL_CONFIG" in environment else None
    )
    table = _read(named or Path(FILE), must_exist=named is not None)
    where = str(named or FILE)
    _refuse_unknown(table, _KEYS, where)
    return Config(
        stack=_choice(Stack, table.get("stack"), f"stack in {where}")
        or _choice(Stack, environment.get("KGPUCTL_STACK"), "KGPUCTL_STACK"),
        confidential=_choice(Tee, table.get("confidential"), f"confidential in {where}")
        or _choice(Tee, environment.get("KGPUCTL_CONFIDENTIAL"), "KGPUCTL_CONFIDENTIAL"),
        devices=_devices(table.get("devices", []), where),
        waivers=_waivers(table.get("waive", []), where),
    )


def _read(path: Path, *, must_exist: bool) -> Mapping[str, object]:
    try:
        content = _read_small(path)
        return tomllib.loads(content.decode())
    except FileNotFoundError as error:
        if not must_exist:
            return {}
        raise UsageError(
            f"There is no configuration file {path}.", remedy="Correct --config or leave it out."
        ) from error
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror or error}.",
            remedy="Correct it, or name another file with --config.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is not TOML: {error}.",
            remedy="Correct the file; see docs/reference/config.md.",
        ) from error


def _read_small(path: Path) -> bytes:
    """Read a regular file of at most MAX_SIZE; a FIFO or a device would never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        content = file.read(MAX_SIZE + 1)
    if len(content) > MAX_SIZE:
        raise OSError(errno.EFBIG, f"it is larger than {MAX_SIZE // 1024} KiB")
    return content


def _refuse_unknown(table: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise UsageError(
                f"{where} has an unknown key {shown(key)}{nearest(key, known)}",
                remedy=f"Known keys are {', '.join(known)}.",
            )


def _choice(kind: type[E], value: object, where: str) -> E | None:
    if value is None:
        return None
    allowed = [item.value for item in kind]
    remedy = f"Use one of {', '.join(allowed)}."
    if not isinstance(value, str):
        raise UsageError(f"{where} is not a string.", remedy=remedy)
    if value not in allowed:
        raise UsageError(f"{where} is {shown(value)}{nearest(value, allowed)}", remedy=remedy)
    return kind(value)


def _devices(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(
            f"devices in {where} is not a list of PCI addresses.",
            remedy='Write it as devices = ["0000:65:00.0"].',
        )
    return tuple(pci_address(item) for item in value)


def pci_address(text: str) -> str:
    """Return a PCI address in full ("65:00.0" becomes "0000:65:00.0"), or refuse it."""
    match = re.fullmatch(
        r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", text.strip().lower()
    )
    if not match:
        raise UsageError(
            f"{shown(text)} is not a PCI address.",
            remedy="Write it as `lspci -D` and `ls /sys/bus/pci/devices` show it: 0000:65:00.0.",
        )
    return f"{match[1] or '0000'}:{match[2]}"


def _waivers(value: object, where: str) -> tuple[Waiver, ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UsageError(
            f"waive in {where} is not a list of tables.",
            remedy='Write each as [[waive]] with id = "…" and reason = "…".',
        )
    return tuple(_waiver(item, where) for item in value)


def _waiver(table: Mapping[str, object], where: str) -> Waiver:
    _refuse_unknown(table, _WAIVER_KEYS, f"[[waive]] in {where}")
    check, reason, until = (table.get(key) for key in _WAIVER_KEYS)
    if not isinstance(check, str) or not isinstance(reason, str) or not reason.strip():
        raise UsageError(
            f"A [[waive]] in {where} lacks its id or its reason.",
            remedy='Give both: id = "gpu.nvswitch" and reason = "why this is accepted".',
        )
    if isinstance(until, dt.datetime) or not isinstance(until, dt.date | None):
        raise UsageError(
            f"until of the waiver of {check} in {where} is not a date.",
            remedy="Write it without quotes: until = 2027-01-31.",
        )
    return Waiver(check, reason.strip(), until)
