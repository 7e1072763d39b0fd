"""Measure start-up and preflight as whole processes, and print the ratios that are promised.

Times on one machine mean little: each figure is a ratio of medians, taken in turn in one run.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from builders import HostTree, gpu  # noqa: E402  # they live with the tests
from kgpuctl.host.facts import Source, SourceKind  # noqa: E402
from kgpuctl.host.reader import read_host  # noqa: E402
from kgpuctl.host.recording import Recorder  # noqa: E402

RUNS = 15
COUNTS = (1, 16, 64, 256, 1024)
PROMISED = {256: 0.3}  # seconds
ANCHOR = 0.074  # of `kubectl version --client` + `python -c pass` on the machine of that promise
LINEAR = 1.5


def seconds(command: Sequence[str]) -> float:
    """Time one run of a command."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - start


def medians(commands: Sequence[Sequence[str]], runs: int = RUNS) -> list[float]:
    """Run the commands in turn and return the median of each."""
    for command in commands:
        seconds(command)
    rounds = [[seconds(command) for command in commands] for _ in range(runs)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def install(folder: Path) -> str:
    """Install kgpuctl as a user would, compiled, and return its program."""
    uv = str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, "venv", "-q", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    subprocess.run(
        [uv, "pip", "install", "-q", "--python", python, "--compile-bytecode", str(ROOT)],
        check=True,
    )
    return str(folder / "bin" / "kgpuctl")


def row(name: str, value: str, budget: str, *, good: bool) -> None:
    """Print a row of the table."""
    print(f"| {name:<44} | {value:>14} | {budget:>14} | {'ok' if good else 'OVER':<4} |")


def measure_startup(program: str) -> float | None:
    """Compare --version and --help with kubectl and a bare Python; return the seconds of those."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        print("no kubectl here: start-up is not compared (Debian: kubernetes-client)")
        return None
    bare = str(Path(program).parent / "python")
    commands = [
        [kubectl, "version", "--client"],
        [bare, "-c", "pass"],
        [program, "--version"],
        [program, "--help"],
    ]
    times = medians(commands)
    anchor = times[0] + times[1]
    for name, taken, limit in (("--version", times[2], 1.5), ("--help", times[3], 3.0)):
        ratio = taken / anchor
        row(
            f"{name} / (kubectl + python -c pass)",
            f"{ratio:.2f} x",
            f"{limit:.2f} x",
            good=ratio <= limit,
        )
    return anchor


def gpu_recording(folder: Path, count: int) -> bytes:
    """Return a recording of a host with this many GPUs, each in a group of its own."""
    devices = tuple(
        gpu(f"{number // 32:04x}:{number % 32:02x}:00.0", group=number) for number in range(count)
    )
    tree = Recorder(HostTree(devices=devices).tree(folder))
    read_host(tree, Source(SourceKind.TREE, "/", "", as_root=True))
    return tree.pack("")


def measure_devices(program: str, folder: Path, anchor: float | None) -> None:
    """Time preflight on recordings with more and more GPUs."""
    commands = []
    for count in COUNTS:
        path = folder / f"{count}.tar.gz"
        path.write_bytes(gpu_recording(folder / f"tree-{count}", count))
        commands.append([program, "preflight", "--from", str(path), "-o", "json"])
    times = medians(commands)
    for count, taken in zip(COUNTS, times, strict=True):
        told = f"{taken:.3f} s" + (f" {taken / anchor:.1f} x" if anchor else "")
        limit = PROMISED.get(count)
        # On a machine that is slower than the one of the promise, its ratio counts.
        good = limit is None or taken <= limit or bool(anchor and taken <= limit / ANCHOR * anchor)
        budget = f"{limit} s {limit / ANCHOR:.1f} x" if limit else ""
        row(f"preflight of {count} GPUs, whole process", told, budget, good=good)
    per = [
        (taken - times[0]) / (count - 1)
        for count, taken in zip(COUNTS, times, strict=True)
        if count > 1
    ]
    growth = per[-1] / per[-2]
    row(
        "cost of one more GPU, 1024 / 256",
        f"{growth:.2f} x",
        f"{LINEAR:.2f} x",
        good=growth <= LINEAR,
    )


def main() -> None:
    """Print the table. It only tells: whether a machine is busy today is no fault of the code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = install(folder / "venv")
        print(f"| {'what':<44} | {'measured':>14} | {'budget':>14} |      |")
        print(f"|{'-' * 46}|{'-' * 16}|{'-' * 16}|{'-' * 6}|")
        measure_devices(program, folder, measure_startup(program))


if __name__ == "__main__":
    main()
