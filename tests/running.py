"""Running the command line as its users do."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SRC = Path(__file__).parent.parent / "src"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it printed."""

    exit_code: int
    out: str
    err: str


def kgpuctl(
    *arguments: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Ended:
    """Run kgpuctl in a process of its own, at 80 columns and without colour."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KGPUCTL_", "NO_COLOR", "FORCE_COLOR"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "kgpuctl", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=cwd,
        env=kept
        | {"PYTHONPATH": str(SRC), "COLUMNS": "80", "TERM": "dumb", "PYTHONUTF8": "1"}
        | dict(environment or {}),
        check=False,
        timeout=120,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
