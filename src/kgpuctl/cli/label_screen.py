"""What label-nodes tells while it works: a live line on a terminal, elsewhere what is new."""

import shutil
import sys
import threading
import time
from typing import Final

from kgpuctl.report import Result, Status, printable
from kgpuctl.stdout import complain

_PAUSE: Final = 0.1
_CLEAR: Final = "\r\x1b[K"


class Screen:
    """Standard error, as several threads tell of their progress there."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._live = sys.stderr is not None and sys.stderr.isatty()
        self._lock = threading.Lock()
        self._total = 0
        self._ended = 0
        self._failed = 0
        self._awaited = ""
        self._told: set[str] = set()
        self._drawn = 0.0

    def expect(self, total: int) -> None:
        """Say how many nodes there are to be done."""
        self._total = total

    def observe(self, result: Result) -> None:
        """Count a node that is done, or failed."""
        with self._lock:
            self._ended += 1
            self._failed += result.status is Status.FAILED
            self._draw()

    def awaiting(self, text: str) -> None:
        """Say what is awaited; without a terminal each such text once."""
        with self._lock:
            self._awaited = printable(text)
            if self._live:
                self._draw()
            elif self._awaited not in self._told:
                self._told.add(self._awaited)
                complain(f"{self._awaited}\n")

    def note(self, text: str) -> None:
        """Say something that stays."""
        with self._lock:
            complain(f"{_CLEAR if self._live else ''}{text}\n")

    def end(self) -> None:
        """Take the live line away."""
        if self._live:
            complain(_CLEAR)

    def _draw(self) -> None:
        now = time.monotonic()
        if not self._live or (now - self._drawn < _PAUSE and self._ended < self._total):
            return
        self._drawn = now
        failed = f", {self._failed:,} failed" if self._failed else ""
        line = f"{self._doing} {self._ended:,} of {self._total:,} nodes{failed}"
        line += f"  {self._awaited}" if self._awaited else ""
        room = max(shutil.get_terminal_size().columns - 1, 20)
        complain(_CLEAR + (line if len(line) <= room else f"{line[: room - 1]}…"))
