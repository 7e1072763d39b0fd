"""Clusters to judge live, as files and on a plane, and what commands say of them."""

import contextlib
import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import pytest

from cluster import programs
from cluster.api import Object
from cluster.controlplane import Plane
from cluster.replay import replay
from clusters import NOW, SNAPSHOTS, Cluster, coco_cluster, kata_deploy_cluster
from kgpuctl.cli.cluster_run import Wishes, verify_snapshot
from kgpuctl.cluster.access import Access, Patience
from kgpuctl.cluster.kube import KubeCluster
from kgpuctl.cluster.reader import Reading, read_cluster
from kgpuctl.report import Report
from running import Ended, kgpuctl

Told: TypeAlias = tuple[str, str, str, str]  # id, subject, status, message
Content: TypeAlias = dict[str, Any]

HEALTHY: Final = "v26.7.0-healthy"
COCO: Final = "v25.10.1-coco-v0.17.0-kata-manager-healthy"
BROKEN: Final = (
    "after-helm-uninstall-v26.7.0",
    "v26.7.0-ready-but-no-gpus",
    "v26.7.0-seed-flags-kataManager-ignored",
)
BUILT: Final[dict[str, Callable[[], Cluster]]] = {
    "built-kata-deploy": kata_deploy_cluster,
    "built-coco": coco_cluster,
}
CLUSTERS: Final = (HEALTHY, COCO, *BROKEN, *BUILT)
WISHES: Final = Wishes(None, (), (), only_problems=False, today=NOW.date())
# What kata-manager says at the end; without a kubelet nobody can read it.
DONE: Final = "containerd successfully restarted\n"
# Quick enough for hundreds of runs; how long it waits decides nothing about the verdict.
QUICK: Final = Patience(pause=0.002, longest_pause=0.01)


def content_of(name: str) -> Content:
    """Return a recorded or built cluster as one List; skip where the recordings are not here."""
    if name in BUILT:
        return as_listed(BUILT[name]())
    path = SNAPSHOTS / f"{name}.json"
    if not path.exists():
        pytest.skip(f"the recording {path.name} is not here")
    content: Content = json.loads(path.read_bytes())
    return content


def as_listed(cluster: Cluster) -> Content:
    """Return a built cluster without kgpuctl's own kinds, and with CRDs that can be served."""
    items = [item for item in cluster.copy().items if item["apiVersion"] != "kgpuctl/v1"]
    for item in items:
        if item["kind"] == "CustomResourceDefinition":
            _complete(item["spec"])
    return {
        "apiVersion": "v1",
        "kind": "List",
        "serverVersion": {"gitVersion": cluster.version},
        "items": items,
    }


def _complete(spec: Object) -> None:
    names = spec["names"]
    names |= {"listKind": f"{names['kind']}List", "singular": names["kind"].lower()}
    version = "v1" if spec["group"] == "nvidia.com" else "v1beta1"
    spec["versions"] = [{"name": version, "served": True, "storage": True}]


def put(plane: Plane, content: Content, kubelet: "Kubelet | None" = None) -> None:
    """Put a cluster onto an empty plane; its nodes' logs then come from `kubelet`."""
    if kubelet is not None:
        for item in content["items"]:
            if item["kind"] == "Node":
                item["status"] |= kubelet.whereabouts
    replay(plane, content)


def lines(report: Report) -> list[Told]:
    """Return all results of a report, in its order."""
    return [(item.id, item.subject, item.status.value, item.message) for item in report.results]


def results(ended: Ended) -> list[Told]:
    """Return all results of a report in JSON, in its order."""
    told = json.loads(ended.out)
    assert told["exitCode"] == ended.exit_code
    return [
        (item["id"], item["subject"], item["status"], item["message"]) for item in told["results"]
    ]


def verified(*arguments: str | Path, as_user: Path | None = None) -> Ended:
    """Run `kgpuctl verify` and have its report in JSON."""
    return ran("verify", "-o", "json", *arguments, as_user=as_user)


def ran(*arguments: str | Path, as_user: Path | None = None) -> Ended:
    """Run kgpuctl with a kubeconfig, or with none at all."""
    return kgpuctl(*arguments, environment={"KUBECONFIG": str(as_user or "/dev/null/none")})


def judged_live(kubeconfig: Path, patience: Patience = QUICK) -> Report:
    """Read and judge a cluster in this process, as verify does it in one of its own."""
    cluster = KubeCluster.connect(Access(kubeconfig=str(kubeconfig)), patience=patience)
    return verify_snapshot(read_cluster(cluster, Reading()), WISHES)


def kubectl(plane: Plane, *arguments: str | Path) -> bytes:
    """Run the plane's own kubectl as the administrator."""
    return subprocess.run(
        [programs.find(("kubectl",)).path("kubectl"), *map(str, arguments)],
        env={"KUBECONFIG": str(plane.kubeconfig()), "HOME": str(plane.directory)},
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout


@dataclass
class Kubelet:
    """The kubelet of every node of a plane: it knows nothing but logs."""

    port: int = 0
    text: str = DONE
    asked: list[str] = field(default_factory=list)

    @property
    def whereabouts(self) -> Content:
        """What the status of a node says about where its kubelet listens."""
        return {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
        }


@contextlib.contextmanager
def kubelet_of(plane: Plane) -> Iterator[Kubelet]:
    """Answer the API server's requests for logs with the same text each."""
    kubelet = Kubelet()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kubelet.asked.append(urlsplit(self.path).path)
            body = kubelet.text.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
            """Write nothing to stderr."""

    pair = plane.authority.issue("kubelet")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        kubelet.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield kubelet
        finally:
            server.shutdown()
            thread.join()
