"""Run the commands that the documentation shows, and write what they print; --check only compares.

A console block after the line `<!-- printed -->` holds commands (`$ ...`) and their output. They
are run by a shell in the directory of the sources, at 80 columns; kgpuctl is the one of this tree.
"""

import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(<!-- printed -->\n```console\n)(.*?)(```\n)", re.DOTALL)


def main() -> int:
    """Return 1 if a page shows something else than what is printed."""
    differs = False
    with tempfile.TemporaryDirectory() as programs:
        environment = _surroundings(Path(programs))
        for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]):
            before = page.read_text(encoding="utf-8")
            after = BLOCK.sub(lambda block: _printed(block, environment), before)
            if after == before:
                continue
            differs = True
            if "--check" not in sys.argv:
                page.write_text(after, encoding="utf-8")
            sys.stderr.writelines(
                difflib.unified_diff(
                    before.splitlines(keepends=True),
                    after.splitlines(keepends=True),
                    str(page.relative_to(ROOT)),
                    "what is printed: run `nox -s docs`",
                )
            )
    return int(differs and "--check" in sys.argv)


def _surroundings(programs: Path) -> dict[str, str]:
    """Put this tree's kgpuctl first on the path, and leave out what could change what it prints."""
    program = programs / "kgpuctl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kgpuctl "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KGPUCTL_", "NO_COLOR", "FORCE_COLOR", "KUBE"))
    }
    return kept | {
        "COLUMNS": "80",
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONUTF8": "1",
        "TERM": "dumb",
    }


def _printed(block: re.Match[str], environment: dict[str, str]) -> str:
    commands = [line for line in block[2].splitlines() if line.startswith("$ ")]
    script = "".join(f"printf '%s\\n' {_quoted(line)}\n{line[2:]}\n" for line in commands)
    done = subprocess.run(  # noqa: S603  # commands of our own pages
        ["/bin/sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
        timeout=120,
    )
    return f"{block[1]}{done.stdout}{block[3]}"


def _quoted(line: str) -> str:
    return "'" + line.replace("'", "'\\''") + "'"


if __name__ == "__main__":
    sys.exit(main())
