"""A cluster ten times as big takes about ten times as long: nothing looks at each pair of nodes."""

import gc
import time
from typing import Final

from clusters import (
    Cluster,
    Json,
    gpu_pod,
    judged,
    kata_deploy_cluster,
    pod,
)
from kgpuctl.cluster.snapshot import ClusterSnapshot

SMALL: Final = 500
BIG: Final = 5_000
SLACK: Final = 15
OPERANDS: Final = (
    "nvidia-vfio-manager",
    "nvidia-sandbox-validator",
    "nvidia-kata-sandbox-device-plugin-daemonset",
    "nvidia-cc-manager",
    "kata-deploy",
)


def fleet(number: int) -> ClusterSnapshot:
    """Return a cluster with so many targets, a tenth of which hand out nothing."""
    small = kata_deploy_cluster(())
    names = [f"gpu-{index:05}" for index in range(1, number + 1)]
    whole = kata_deploy_cluster(names)
    cluster = Cluster([item for item in whole.items if item["kind"] != "Pod"])
    cluster.add(*(item for item in small.all("Pod") if item["spec"].get("nodeName") != "gpu-1"))
    for owner in OPERANDS:
        item = cluster.get("DaemonSet", owner)
        item["status"] |= dict.fromkeys(
            ("desiredNumberScheduled", "numberReady", "updatedNumberScheduled"), number
        )
        space = item["metadata"]["namespace"]
        cluster.add(*(made(owner, space, name) for name in names))
    cluster.add(*(gpu_pod(f"vm-{name}", on=name) for name in names))
    _break(cluster, names)
    return cluster.snapshot()


def made(owner: str, space: str, name: str) -> Json:
    about = {"kind": "DaemonSet", "name": owner, "uid": f"uid-{owner}"}
    return pod(f"{owner}-{name}", space, name, owner=about)


def _break(cluster: Cluster, names: list[str]) -> None:
    """Take the GPUs from every tenth node, and let as many pods not be ready."""
    chosen = set(names[::10])
    for item in cluster.items:
        name = item["metadata"]["name"]
        if item["kind"] == "Node" and name in chosen:
            item["status"]["allocatable"].pop("nvidia.com/pgpu")
        if item["kind"] == "Pod" and item["spec"].get("nodeName") in chosen:
            item["status"]["conditions"] = [{"type": "Ready", "status": "False"}]


def seconds(snapshot: ClusterSnapshot) -> float:
    """Return the least processor time of three, so that other programs do not count."""
    taken = []
    gc.disable()  # it looks at all that lives, and that is more than is measured
    try:
        for _ in range(3):
            begin = time.process_time()
            judged(snapshot)
            taken.append(time.process_time() - begin)
    finally:
        gc.enable()
    return min(taken)


def test_ten_times_the_nodes_take_ten_times_as_long() -> None:
    small, big = fleet(SMALL), fleet(BIG)

    assert judged(small).exit_code == 3
    assert seconds(big) <= SLACK * seconds(small)
