import subprocess
import sys

import pytest

HEAVY = {
    "kubernetes",
    "kgpuctl.cluster",
    "kgpuctl.host",
    "msgspec",
    "oras",
    "pydantic",
    "requests",
    "rich",
    "tarfile",
    "urllib3",
    "yaml",
}


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_what_says_little_loads_nothing_heavy(argument: str) -> None:
    code = (
        "import sys; sys.argv = ['kgpuctl', sys.argv[1]]\n"
        "from kgpuctl.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, argument], check=True, capture_output=True, text=True
    )
    loaded = done.stdout.rpartition("LOADED")[2].split()

    assert HEAVY.isdisjoint(loaded)


def test_version_does_not_even_load_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "kgpuctl", "--version"],
        check=True,
        capture_output=True,
        text=True,
    )

    assert "typer" not in done.stderr
