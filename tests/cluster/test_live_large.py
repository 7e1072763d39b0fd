"""A thousand nodes: memory stays small, and a snapshot of them can be judged again."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from cluster.controlplane import Plane
from cluster.large import load
from cluster.live import ran, results, verified
from running import SRC

pytestmark = pytest.mark.cluster

NODES: Final = 1000
MOST: Final = 200  # MB
# Of the program alone: what getrusage tells of a child begins with the size of its parent.
MEASURED: Final = """
import sys
from kgpuctl.__main__ import main
try:
    main()
finally:
    told = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(int(told["VmHWM"].split()[0]) // 1024, file=open(sys.argv.pop(), "w"))
"""


def peak(plane: Plane, folder: Path, *arguments: str) -> tuple[int, int]:
    """Run kgpuctl; return its exit code and the most memory that it had, in MB."""
    noted = folder / "peak"
    program = MEASURED.replace("sys.argv.pop()", repr(str(noted)))
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"KUBECONFIG": str(plane.kubeconfig()), "PYTHONPATH": str(SRC)},
        stdout=subprocess.DEVNULL,
        check=False,
        timeout=120,
    )
    return done.returncode, int(noted.read_text(encoding="utf-8"))


def test_a_thousand_nodes_are_judged_in_little_memory(bare: Plane, tmp_path: Path) -> None:
    load(bare, NODES)
    user = bare.kubeconfig()
    snapshot = tmp_path / "large.json.gz"

    for words in (
        ("verify", "-o", "json"),
        ("verify",),
        ("snapshot", str(snapshot)),
        ("verify", "--from", str(snapshot)),
        ("verify", "--wait"),
    ):
        code, most = peak(bare, tmp_path, *words)
        assert code == 0, words
        assert most < MOST, f"{' '.join(words)}: {most} MB"

    live, again = verified(as_user=user), verified("--from", snapshot)
    assert results(again) == results(live)
    assert again.exit_code == live.exit_code == 0
    nodes = {subject for _, subject, _, _ in results(live) if subject.startswith("gpu-")}
    assert len(nodes) == NODES
    told = ran("verify", as_user=user).out.splitlines()
    assert "gpu-00003 and 996 more (1000 nodes with NVIDIA GPUs)" in " ".join(told)
    assert len(told) < 20
