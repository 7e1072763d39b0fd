"""Measure verify and label-nodes against a real API server, and print the ratios that are promised.

Each ratio is of times taken in turn in one run. `--nodes N` makes the big cluster smaller.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from benchmarks.startup import install, row  # noqa: E402

from cluster.api import MERGE_PATCH  # noqa: E402  # they live with the tests
from cluster.controlplane import Plane, bare_plane  # noqa: E402
from cluster.healthy_nodes import node_name  # noqa: E402
from cluster.large import load  # noqa: E402
from cluster.programs import NoProgramsError, find  # noqa: E402

NODES = 5000
ROUNDS = 3
SMALL = 10
GLANCE = 0.01  # seconds
PODS_PER_NODE = 9
CONNECTIONS = 4  # from here on the server is the limit
VERIFY, MEMORY = 2.5, 250.0
BARE_LOOP, KUBECTL_LABEL = 1.2, 2.5
NOTICED = 1.0
LINEAR = 1.5


class Run(NamedTuple):
    """One process: how long it took, and how much memory it had at its peak (MB)."""

    seconds: float
    megabytes: float


def run(command: Sequence[str], kubeconfig: Path, *, code: int | None = 0) -> Run:
    """Run one process to its end; any other exit code than the wanted one ends the benchmark."""
    environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            time.sleep(GLANCE)
        seconds = time.perf_counter() - start
        if code is not None and process.returncode != code:
            said.seek(0)
            raise SystemExit(f"{command} ended with {process.returncode}: {said.read().decode()}")
    return Run(seconds, peak)


def _peak(pid: int) -> float:
    """Return the most memory that a process has had so far (MB).

    What wait4 tells begins with the size of the parent, whose memory a child has until it is
    another program.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def medians(*measured: Callable[[], Run]) -> list[Run]:
    """Take each in turn, a few times, and return the median time and the highest memory of each."""
    rounds = [[one() for one in measured] for _ in range(ROUNDS)]
    return [
        Run(statistics.median(it.seconds for it in runs), max(it.megabytes for it in runs))
        for runs in zip(*rounds, strict=True)
    ]


def raw_lists(kubectl: str, kubeconfig: Path) -> Run:
    """Fetch the two big lists as they are, one after the other."""
    lists = [
        run([kubectl, "get", "--raw", f"/api/v1/{kind}"], kubeconfig) for kind in ("nodes", "pods")
    ]
    return Run(sum(it.seconds for it in lists), max(it.megabytes for it in lists))


def loaded(plane: Plane, nodes: int) -> float:
    """Load a cluster in place of what was there, and return the seconds that it took."""
    plane.wipe()
    return load(plane, nodes, PODS_PER_NODE)


def measure_verify(plane: Plane, program: str, kubectl: str, nodes: int) -> None:
    """Compare verify with fetching the same lists, on a small and on the big cluster."""
    kubeconfig = plane.kubeconfig()
    taken: dict[int, float] = {}
    for size in (SMALL, nodes):
        seconds = loaded(plane, size)
        print(f"| loaded {size} nodes, {size * PODS_PER_NODE} pods in {seconds:.0f} s")
        verify, raw = medians(
            lambda: run([program, "verify"], kubeconfig), lambda: raw_lists(kubectl, kubeconfig)
        )
        taken[size] = verify.seconds
        print(f"| verify {verify.seconds:.2f} s, raw lists {raw.seconds:.2f} s")
    ratio = verify.seconds / raw.seconds
    promised(
        f"verify, {nodes} nodes / two raw lists",
        f"{ratio:.2f} x",
        f"{VERIFY} x",
        nodes,
        good=ratio <= VERIFY,
    )
    promised(
        "peak memory of it",
        f"{verify.megabytes:.0f} MB",
        f"{MEMORY:.0f} MB",
        nodes,
        good=verify.megabytes <= MEMORY,
    )
    middle = nodes // 2
    loaded(plane, middle)
    (half,) = medians(lambda: run([program, "verify"], kubeconfig))
    growth = (taken[nodes] - half.seconds) / max(half.seconds - taken[SMALL], 0.01)
    promised(
        "its second half of nodes / its first",
        f"{growth:.2f} x",
        f"{LINEAR} x",
        nodes,
        good=growth <= LINEAR,
    )


def promised(name: str, value: str, budget: str, nodes: int, *, good: bool) -> None:
    """Print a row; what is promised is promised of the full size."""
    full = nodes >= NODES
    row(name, value, budget if full else f"({budget})", good=good or not full)


def measure_wait(plane: Plane, program: str) -> None:
    """Measure how long after a fact is true `verify --wait` has noticed and ended."""
    loaded(plane, SMALL)
    kubeconfig = plane.kubeconfig()
    path = f"/api/v1/nodes/{node_name(0)}"

    def label(value: str | None) -> None:
        labels = {"katacontainers.io/kata-runtime": value}
        plane.api.send("PATCH", path, {"metadata": {"labels": labels}}, MERGE_PATCH)

    lags = []
    for _ in range(ROUNDS):
        label(None)
        environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
        process = subprocess.Popen(
            [program, "verify", "--wait", "--timeout", "2m"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None  # noqa: S101  # it is a pipe
        process.stderr.readline()  # it says what it awaits: now it watches
        label("true")
        began = time.perf_counter()
        threading.Thread(target=process.stderr.read, daemon=True).start()
        if process.wait(timeout=60) != 0:
            raise SystemExit(f"verify --wait ended with {process.returncode}")
        lags.append(time.perf_counter() - began)
    lag = statistics.median(lags)
    row(
        "verify --wait: a fact true until it has ended",
        f"{lag:.2f} s",
        f"{NOTICED:.1f} s",
        good=lag <= NOTICED,
    )


def bare_loop(plane: Plane, nodes: int, value: str) -> Run:
    """PATCH every node from a few connections, and do nothing else."""
    start = time.perf_counter()
    body = {"metadata": {"labels": {"example.com/bench": value}}}
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        paths = [f"/api/v1/nodes/{node_name(number)}" for number in range(nodes)]
        list(pool.map(lambda path: plane.api.send("PATCH", path, body, MERGE_PATCH), paths))
    return Run(time.perf_counter() - start, 0.0)


def measure_label(plane: Plane, program: str, kubectl: str, nodes: int) -> None:
    """Compare label-nodes with a bare loop of PATCHes and with kubectl."""
    loaded(plane, nodes)
    # Labels are what is measured: no pod is to be in the way.
    stored = plane.etcd.keys()
    plane.etcd.delete([key for key in stored if key.startswith("/registry/pods/")])
    kubeconfig = plane.kubeconfig()
    ours, bare, theirs = [], [], []
    values = ("container", "vm-passthrough")
    for turn in range(ROUNDS):
        value = values[turn % 2]
        command = [program, "label-nodes", "--all-gpu-nodes", "--workload", value, "--yes"]
        ours.append(run(command, kubeconfig).seconds)
        bare.append(bare_loop(plane, nodes, str(turn)).seconds)
    label = [kubectl, "label", "nodes", "--all", "--overwrite", "example.com/bench=kubectl"]
    theirs.append(run(label, kubeconfig).seconds)
    mine, loop, kube = (statistics.median(times) for times in (ours, bare, theirs))
    print(
        f"| label {nodes} nodes: kgpuctl {mine:.1f} s, bare loop {loop:.1f} s, kubectl {kube:.1f} s"
    )
    promised(
        "label-nodes / bare loop of PATCHes",
        f"{mine / loop:.2f} x",
        f"{BARE_LOOP} x",
        nodes,
        good=mine <= BARE_LOOP * loop,
    )
    promised(
        "kubectl label nodes --all / label-nodes",
        f"{kube / mine:.2f} x",
        f">= {KUBECTL_LABEL} x",
        nodes,
        good=kube >= KUBECTL_LABEL * mine,
    )


def main() -> None:
    """Print the table; a wall clock must not decide a run, so this never fails for being slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=NODES)
    nodes = parser.parse_args().nodes
    try:
        kubectl = find().path("kubectl")
    except NoProgramsError as error:
        print(f"clusters are not measured: {error}")
        return
    with tempfile.TemporaryDirectory() as folder, bare_plane() as plane:
        program = install(Path(folder))
        measure_verify(plane, program, kubectl, nodes)
        measure_wait(plane, program)
        measure_label(plane, program, kubectl, nodes)


if __name__ == "__main__":
    main()
