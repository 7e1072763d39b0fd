"""Fill an API server with a large, healthy cluster: kata-deploy 4.1.0 and GPU Operator v26.7.0.

    python benchmarks/load_cluster.py [--nodes N] [--pods-per-node N] [-- COMMAND ...]

starts a control plane without controllers, loads it, says how long that took, and runs the command
with KUBECONFIG set. tests/cluster/large.py makes the cluster.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from cluster.controlplane import bare_plane  # noqa: E402  # found by the path above
from cluster.large import load  # noqa: E402


def main() -> int:
    """Load, say how long it took, and run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--pods-per-node", type=int, default=9)
    parser.add_argument("command", nargs="*")
    wanted = parser.parse_args()
    with bare_plane() as plane:
        seconds = load(plane, wanted.nodes, wanted.pods_per_node)
        pods = wanted.nodes * wanted.pods_per_node
        print(f"{wanted.nodes} nodes and {pods} pods in {seconds:.1f} s", flush=True)
        if not wanted.command:
            return 0
        environment = os.environ | {"KUBECONFIG": str(plane.kubeconfig())}
        return subprocess.run(wanted.command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
