"""Measure start-up and preflight as whole processes, and print the ratios that are promised.

Times on one machine mean little: each figure is a ratio of medians, taken in turn in one run.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
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


def row(name: str, value: str, budget: str, *, good: bool) -> bool:
    """Print a row of the table."""
    print(f"| {name:<44} | {value:>10} | {budget:>10} | {'ok' if good else 'OVER':<4} |")
    return good


def measure_startup(program: str) -> bool:
    """Compare --version and --help with kubectl and a bare Python."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        print("no kubectl here: start-up is not compared (Debian: kubernetes-client)")
        return True
    bare = str(Path(program).parent / "python")
    times = medians(
        [
            [kubectl, "version", "--client"],
            [bare, "-c", "pass"],
            [program, "--version"],
            [program, "--help"],
        ]
    )
    anchor = times[0] + times[1]
    return all(
        [
            row(
                "--version / (kubectl + python -c pass)",
                f"{times[2] / anchor:.2f} x",
                "1.50 x",
                good=times[2] <= 1.5 * anchor,
            ),
            row(
                "--help / (kubectl + python -c pass)",
                f"{times[3] / anchor:.2f} x",
                "3.00 x",
                good=times[3] <= 3 * anchor,
            ),
        ]
    )


def gpu_recording(folder: Path, count: int) -> bytes:
    """Return a recording of a host with this many GPUs, each in a group of its own."""
    devices = tuple(
        gpu(f"{number // 32:04x}:{number % 32:02x}:00.0", group=number) for number in range(count)
    )
    tree = Recorder(HostTree(devices=devices).tree(folder))
    read_host(tree, Source(SourceKind.TREE, "/", "", as_root=True))
    return tree.pack("")


def measure_devices(program: str, folder: Path) -> bool:
    """Time preflight on recordings with more and more GPUs."""
    commands = []
    for count in COUNTS:
        path = folder / f"{count}.tar.gz"
        path.write_bytes(gpu_recording(folder / f"tree-{count}", count))
        commands.append([program, "preflight", "--from", str(path), "-o", "json"])
    times = medians(commands, runs=7)
    base = times[0]
    good = True
    for count, taken in zip(COUNTS, times, strict=True):
        limit = PROMISED.get(count)
        good &= row(
            f"preflight, {count} GPUs",
            f"{taken:.3f} s",
            f"{limit} s" if limit else "",
            good=limit is None or taken <= limit,
        )
    per = [
        (taken - base) / (count - 1) * 1000
        for count, taken in zip(COUNTS[1:], times[1:], strict=True)
    ]
    growth = per[-1] / per[-2]
    return good & row(
        "cost per GPU, 1024 / 256", f"{growth:.2f} x", f"{LINEAR:.2f} x", good=growth <= LINEAR
    )


def main() -> int:
    """Print the table; the exit code tells whether every promise was kept."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = install(folder / "venv")
        print(f"| {'what':<44} | {'measured':>10} | {'budget':>10} |      |")
        print(f"|{'-' * 46}|{'-' * 12}|{'-' * 12}|{'-' * 6}|")
        measures: tuple[Callable[[], bool], ...] = (
            lambda: measure_startup(program),
            lambda: measure_devices(program, folder),
        )
        kept = [measure() for measure in measures]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
