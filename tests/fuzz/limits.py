"""Running kgpuctl with limits that the kernel keeps: memory, time, size of files, or a user."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from running import SRC, Ended

MIB = 2**20
# Twice what the largest recording that is accepted may hold, and what Python itself takes.
MEMORY = 1024 * MIB
CPU_SECONDS = 60

LIMITED = """\
import resource, sys
for name, value in (pair.split("=") for pair in sys.argv.pop(1).split(",") if pair):
    resource.setrlimit(getattr(resource, name), (int(value), int(value)))
"""
# Nobody may not read Python's own files everywhere: all of kgpuctl is imported before.
NOBODY = """\
import importlib, kgpuctl, pkgutil
for module in pkgutil.walk_packages(kgpuctl.__path__, "kgpuctl."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import os
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
"""
RUN = "from kgpuctl.__main__ import main\nsys.argv[0] = 'kgpuctl'\nmain()\n"


def environment(**more: str) -> dict[str, str]:
    """Return a calm environment; coverage would write files where these tests forbid any."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KGPUCTL_", "COVERAGE_", "NO_COLOR", "FORCE_COLOR"))
    }
    ours = {"PYTHONPATH": str(SRC), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
    return kept | ours | {"COLUMNS": "80", "TERM": "dumb"} | more


def run_limited(
    *arguments: str | Path,
    cwd: Path | None = None,
    limits: Mapping[str, int] | None = None,
    before: str = "",
    **more: str,
) -> Ended:
    """Run kgpuctl under limits (`RLIMIT_…`); `before` is Python to run first."""
    given = {"RLIMIT_AS": MEMORY, "RLIMIT_CPU": CPU_SECONDS} if limits is None else limits
    words = ",".join(f"{name}={value}" for name, value in given.items())
    done = subprocess.run(
        [sys.executable, "-c", LIMITED + before + RUN, words, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=cwd,
        env=environment(**more),
        check=False,
        timeout=120,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
