"""What a script can do of a report's remedies, as a POSIX shell script for a human to read and run.

kgpuctl never runs it. Nothing of a report is ever code in it: texts lose their control characters
and are quoted, and a fix with a value that is not plainly a word is left to the reader.
"""

import re
import shlex
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

from kgpuctl import __version__
from kgpuctl.host.distribution import BOOT_EDITS, INITRAMFS, Boot, Distribution, Family
from kgpuctl.report import (
    Fix,
    KernelArguments,
    LoadModules,
    ModuleConfig,
    Remedy,
    Report,
    StopUnit,
)

_WIDTH: Final = 92
_WORD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:=/@%+-]*")
_MODULE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_UNIT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@\\-]*")

# Of these parameters the last one counts, so that there must be one word with all values.
_LAST_COUNTS: Final = ("vfio-pci.ids", "module_blacklist")
# grubby keeps one word for each parameter, whatever the kernel makes of more.
_GRUBBY_KEEPS: Final = (*_LAST_COUNTS, "modprobe.blacklist")

_COMMANDS: Final = frozenset({Boot.GRUBBY, Boot.KERNELSTUB, Boot.RPM_OSTREE})
_BLOCK_NAME: Final = re.compile(r"^(\w+)(?:\(\) \{(?: # (\S+))?|=)", re.MULTILINE)
_USED_ALWAYS: Final = frozenset({"say", "needs_root", "conclude"})

_Asked = Mapping[str, tuple[str, ...]]  # a remedy's text, and the ids of the checks that gave it


@dataclass(frozen=True, slots=True)
class _Step:
    """One change: who asks for it, what it is in words, and the shell lines to do and undo it."""

    asked: _Asked
    words: str
    apply: tuple[str, ...]
    undo: str
    reboot: bool = False

    @property
    def title(self) -> str:
        return f"{self.words} (needs a reboot)" if self.reboot else self.words


def dumps(report: Report, distribution: Distribution) -> str:
    """Return the script; equal reports give equal scripts."""
    wishes = _wishes(report)
    steps = tuple(_steps(wishes, distribution))
    by_hand = _by_hand(wishes, distribution)
    body = "\n".join(_body(steps, by_hand, distribution))
    library = _library(body, distribution.boot) if steps else _library("", Boot.UNKNOWN)
    return "\n".join((*_header(report, by_hand), body, library, *_main(steps)))


# --- what is wished for ---


def _wishes(report: Report) -> Mapping[Remedy, tuple[str, ...]]:
    """Return each remedy once, with the ids of the checks that ask for it."""
    found: dict[Remedy, dict[str, None]] = {}
    for result in report.results:
        if result.is_problem and result.remedy:
            found.setdefault(result.remedy, {})[_plain(result.id)] = None
    return {remedy: tuple(ids) for remedy, ids in found.items()}
