"""A built cluster behind the small API server: its lists, logs and kubelets, and who asks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from cluster_api.fake_api import VERSION, Answering, FakeApi, Reply, Seen, ok, status
from cluster_api.workstation import kubeconfig
from clusters import Cluster, Json
from kgpuctl.cluster.resources import CUSTOM, READS, Resource
from running import Ended, kgpuctl

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
GRANTED = {"status": {"allowed": True}}
CONFIGURED: Json = {"kubeletconfig": {"runtimeRequestTimeout": "20m0s"}}


@dataclass
class Desk:
    """Where commands are run: a kubeconfig, a working directory, and nothing of this machine's."""

    home: Path
    authority: trustme.CA
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def kubeconfig(self) -> Path:
        return self.home / "kubeconfig.json"

    def log_in(
        self,
        server: str,
        user: Mapping[str, object] | None = None,
        cluster: Mapping[str, object] | None = None,
    ) -> None:
        content = kubeconfig(server, self.authority, user, cluster)
        self.kubeconfig.write_text(json.dumps(content), encoding="utf-8")

    def run(self, *arguments: str | Path) -> Ended:
        own = {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.home)}
        return kgpuctl(*arguments, cwd=self.home, environment=own | self.environment)


def listed(resource: Resource, items: list[Json]) -> Json:
    return {
        "apiVersion": resource.api_version,
        "kind": f"{resource.kind}List",
        "metadata": {"resourceVersion": "7"},
        "items": items,
    }


def serve(api: FakeApi, cluster: Cluster, *, logs: str = "nothing to tell\n") -> None:
    """Answer everything that the commands ask about a cluster; watches stay silent."""
    api.answer("/version", ok(VERSION | {"gitVersion": cluster.version}))
    api.answer(REVIEWS, ok(GRANTED))
    for resource in READS:
        items = cluster.all(resource.kind)
        if resource in CUSTOM and not items:
            continue
        api.answer(resource.path(), _lists(api, listed(resource, items)))
    for pod in cluster.all("Pod"):
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/log"
        api.answer(path, Reply(200, logs.encode(), {"Content-Type": "text/plain"}))
    for node in cluster.all("Node"):
        api.answer(f"/api/v1/nodes/{node['metadata']['name']}/proxy/configz", ok(CONFIGURED))


def _lists(api: FakeApi, content: Json) -> Answering:
    def answer(seen: Seen) -> Reply:
        if "watch" in seen.query:
            api.closing.wait(3)
            return Reply(200)
        return ok(content)

    return answer


def refusing(code: int, message: str) -> Reply:
    return status(code, message=message)


def refuse_all(api: FakeApi, reply: Reply) -> None:
    for resource in READS:
        api.answer(resource.path(), reply)
    api.answer("/version", reply)
    api.answer(REVIEWS, reply)
