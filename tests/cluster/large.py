"""A healthy cluster of any size on a bare plane: kata-deploy 4.1.0 and GPU Operator v26.7.0.

It is written below the API server, as replay.py explains: through it, 45,000 pods with their
statuses take several times as long.
"""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Final

from cluster.api import ApiError
from cluster.controlplane import Plane
from cluster.healthy_nodes import node_name, node_object, place, pod_objects
from cluster.healthy_stack import shared_objects
from cluster.replay import replay

_BEHIND: Final = 504  # "too large resource version"
_CATCH_UP: Final = 120.0  # seconds


def load(plane: Plane, nodes: int = 5000, pods_per_node: int = 9) -> float:
    """Make the cluster and return the seconds that it took; the plane must be a bare one."""
    start = time.perf_counter()
    replay(plane, {"items": [*shared_objects(nodes)]})
    node = json.dumps(node_object("@NODE@"))
    pods = [json.dumps(pod) for pod in pod_objects("@NODE@", pods_per_node)]
    plane.etcd.put(entry for number in range(nodes) for entry in _entries(number, node, pods))
    for path in ("/api/v1/nodes", "/api/v1/pods"):
        _await_seen(plane, f"{path}?limit=500")
    return time.perf_counter() - start


def _await_seen(plane: Plane, path: str) -> None:
    """Wait until the API server has read what is in etcd: until then it answers 504."""
    deadline = time.monotonic() + _CATCH_UP
    while True:
        try:
            plane.api.get(path)
        except ApiError as error:
            if error.status != _BEHIND or time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def _entries(number: int, node: str, pods: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the keys and values of one node and of its pods."""
    name = node_name(number)
    yield f"/registry/minions/{name}", _filled(node, name)
    for index, pod in enumerate(pods):
        namespace, pod_name = place(index, number)
        filled = _filled(pod, name).replace(b"@NAMESPACE@", namespace.encode())
        yield (
            f"/registry/pods/{namespace}/{pod_name}",
            filled.replace(b"@POD@", pod_name.encode()),
        )


def _filled(template: str, node: str) -> bytes:
    return template.replace("@NODE@", node).replace("@UID@", str(uuid.uuid4())).encode()
