"""Where an administrator sits: a home with a kubeconfig, and an environment."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from kgpuctl.cluster.access import Access, Patience, Surroundings
from kgpuctl.cluster.kube import KubeCluster

# Short enough for tests that run into each of them; nothing is asserted about how long it took.
QUICK = Patience(
    connect=2, silence=0.3, request=1, plugin=1, watch=2, pause=0.005, longest_pause=0.01
)
TOKEN = "tok-MARKED-8f2b6c"  # noqa: S105  # planted, to be found nowhere


def kubeconfig(
    server: str,
    authority: trustme.CA | None,
    user: Mapping[str, object] | None = None,
    cluster: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Return a kubeconfig with one cluster, user and context, right by default."""
    trust: dict[str, object] = {}
    if authority is not None:
        pem = authority.cert_pem.bytes()
        trust["certificate-authority-data"] = base64.b64encode(pem).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "night",
        "clusters": [{"name": "prod", "cluster": {"server": server, **trust, **(cluster or {})}}],
        "users": [{"name": "alice", "user": {"token": TOKEN} if user is None else user}],
        "contexts": [{"name": "night", "context": {"cluster": "prod", "user": "alice"}}],
    }


@dataclass
class Workstation:
    """One user's home directory and environment, and what kgpuctl told there."""

    home: Path
    authority: trustme.CA
    environment: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.home / ".kube" / "config"

    @property
    def around(self) -> Surroundings:
        return Surroundings(self.environment, self.home, self.home / "serviceaccount")

    def write(self, content: Mapping[str, object] | str | bytes, path: Path | None = None) -> Path:
        target = path or self.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Mapping):
            content = json.dumps(content)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return target

    def log_in(
        self,
        server: str,
        user: Mapping[str, object] | None = None,
        cluster: Mapping[str, object] | None = None,
    ) -> None:
        self.write(kubeconfig(server, self.authority, user, cluster))

    def connect(self, access: Access | None = None, patience: Patience = QUICK) -> KubeCluster:
        return KubeCluster.connect(
            access or Access(), self.told.append, around=self.around, patience=patience
        )
