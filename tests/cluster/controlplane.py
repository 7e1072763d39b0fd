"""A Kubernetes control plane for tests: real programs on the loopback, in a directory of their own.

The full one has controllers, the scheduler and kwok: objects live. The bare one is etcd and the
API server only: what was written stays as it is, so recorded clusters are replayed there.
"""

import contextlib
import json
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import urllib3

from cluster import programs
from cluster.api import Api, ApiError
from cluster.certificates import Authority, Certificate
from cluster.etcd import Etcd
from cluster.processes import Processes, StartError, free_ports
from cluster.programs import Programs

ADMIN: Final = "admin"
_TOKENS: Final = "service-account-tokens"
_MASTERS: Final = ("system:masters",)
_STAGES: Final = Path(__file__).parent / "controlplane" / "stages.yaml"
_DEADLINE: Final = 60.0
_QUIET: Final = 0.5
_ATTEMPTS: Final = 3
_PORT_TAKEN: Final = "address already in use"
_SYSTEM_NAMESPACES: Final = ("default", "kube-node-lease", "kube-public", "kube-system")
# Without controllers nobody makes service accounts, or takes the taint of a new node away.
_NEED_CONTROLLERS: Final = "ServiceAccount,TaintNodesByCondition"
# Made by the control plane itself, and not always before it says that it is ready.
_SYSTEM_KEYS: Final = (
    *(f"/registry/configmaps/{name}/kube-root-ca.crt" for name in _SYSTEM_NAMESPACES),
    *(f"/registry/serviceaccounts/{name}/default" for name in _SYSTEM_NAMESPACES),
    *(f"/registry/namespaces/{name}" for name in _SYSTEM_NAMESPACES),
    *(f"/registry/{kind}/system:" for kind in ("clusterroles", "clusterrolebindings")),
    "/registry/apiregistration.k8s.io/",
    "/registry/clustertrustbundles/kubernetes.io:",
    "/registry/flowschemas/",
    "/registry/leases/kube-system/apiserver-",
    "/registry/masterleases/",
    "/registry/peerserverleases/",
    "/registry/priorityclasses/system-",
    "/registry/prioritylevelconfigurations/",
    "/registry/ranges/",
)


@dataclass(frozen=True, slots=True)
class Plane:
    """A running control plane."""

    directory: Path
    server: str
    processes: Processes
    authority: Authority
    front_proxy: Certificate  # whoever shows it may say for which user a request is
    etcd: Etcd
    api: Api  # as the administrator, who may do everything
    own_keys: frozenset[str]
    is_bare: bool

    def user(self, name: str, groups: Sequence[str] = ()) -> Certificate:
        """Return the client certificate of a user, who may do what RBAC lets them."""
        return self.authority.issue(name, _MASTERS if name == ADMIN else groups)

    def kubeconfig(
        self, user: str = ADMIN, groups: Sequence[str] = (), *, server: str | None = None
    ) -> Path:
        """Write a kubeconfig for a user; `server` may be a proxy with a certificate of ours."""
        client = self.user(user, groups)
        context = {"cluster": "test", "user": user}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "test",
                    "cluster": {
                        "server": server or self.server,
                        "certificate-authority": str(self.authority.certificate),
                    },
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate": str(client.certificate),
                        "client-key": str(client.key),
                    },
                }
            ],
            "contexts": [{"name": "test", "context": context}],
            "current-context": "test",
        }
        path = self.directory / f"kubeconfig-{uuid.uuid4()}"
        path.touch(mode=0o600)
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    def wipe(self) -> None:
        """Remove all that is not the control plane's own, whatever finalizers say.

        Controllers that are in the middle of something may write once more: it must stay so.
        """
        quiet_since = time.monotonic()
        deadline = quiet_since + _DEADLINE
        while True:
            left = [
                key for key in self.etcd.keys() - self.own_keys if not key.startswith(_SYSTEM_KEYS)
            ]
            now = time.monotonic()
            if left:
                self.etcd.delete(left)
                quiet_since = now
            elif self.is_bare or now - quiet_since > _QUIET:
                return
            if now > deadline:
                raise AssertionError(f"these come back: {', '.join(sorted(left)[:10])}")
            time.sleep(0 if self.is_bare else _QUIET / 10)


@contextlib.contextmanager
def full_plane() -> Iterator[Plane]:
    """Start a control plane with controllers, scheduler and kwok; end it all afterwards."""
    found = programs.find()
    with _started(found, _run_controllers) as plane:
        yield plane


@contextlib.contextmanager
def bare_plane() -> Iterator[Plane]:
    """Start etcd and the API server, and nothing that changes what is written there."""
    found = programs.find(programs.API)
    with _started(found, None) as plane:
        yield plane


@contextlib.contextmanager
def _started(
    found: Programs, run_more: Callable[[Programs, Plane], None] | None
) -> Iterator[Plane]:
    """Start the programs; again with other ports if somebody was quicker to take one."""
    for attempt in range(1, _ATTEMPTS + 1):
        with contextlib.ExitStack() as ending:
            directory = Path(
                ending.enter_context(
                    tempfile.TemporaryDirectory(prefix="kgpuctl-plane-", ignore_cleanup_errors=True)
                )
            )
            processes = ending.enter_context(Processes(directory))
            try:
                plane = _run_api(found, directory, processes, is_bare=run_more is None)
                if run_more:
                    run_more(found, plane)
            except StartError as error:
                if attempt < _ATTEMPTS and _PORT_TAKEN in str(error):
                    continue
                raise
            ending.callback(plane.api.close)
            yield plane
            return


def _run_api(found: Programs, directory: Path, processes: Processes, *, is_bare: bool) -> Plane:
    """Start etcd and the API server, and wait until both have said that they are ready."""
    etcd_port, peer_port, port = free_ports(3)
    authority = Authority(directory, "kgpuctl-test")
    front = Authority(directory, "kgpuctl-test-front-proxy")
    etcd_url, peer = (f"http://127.0.0.1:{number}" for number in (etcd_port, peer_port))
    etcd = Etcd(etcd_url)
    api = Api(f"https://127.0.0.1:{port}", authority.certificate, authority.issue(ADMIN, _MASTERS))
    processes.start(
        "etcd",
        [
            *(found.path("etcd"), "--name=test", f"--data-dir={directory / 'etcd'}"),
            *(f"--listen-client-urls={etcd_url}", f"--advertise-client-urls={etcd_url}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
            *(f"--initial-cluster=test={peer}", "--unsafe-no-fsync", "--log-level=warn"),
            f"--quota-backend-bytes={8 << 30}",
        ],
    )
    processes.wait("answer of etcd", etcd.is_ready, _DEADLINE)
    processes.start(
        "kube-apiserver",
        [
            *(found.path("kube-apiserver"), f"--etcd-servers={etcd_url}"),
            *("--bind-address=127.0.0.1", f"--secure-port={port}"),
            # A machine with nothing but a loopback has no other address.
            *("--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"),
            *_identity_flags(directory, authority, front),
            *("--authorization-mode=Node,RBAC", "--allow-privileged"),
            *("--service-cluster-ip-range=10.0.0.0/16", "--event-ttl=24h"),
            *([f"--disable-admission-plugins={_NEED_CONTROLLERS}"] if is_bare else []),
        ],
    )
    processes.wait("ready API server", lambda: _is_ready(api), _DEADLINE)
    return Plane(
        directory=directory,
        server=api.server,
        processes=processes,
        authority=authority,
        front_proxy=front.issue("front-proxy"),
        etcd=etcd,
        api=api,
        own_keys=frozenset(etcd.keys()),
        is_bare=is_bare,
    )


def _identity_flags(directory: Path, authority: Authority, front: Authority) -> list[str]:
    """Say who the API server is, whose certificates it trusts, and how it signs tokens."""
    serving = authority.issue("kube-apiserver")
    tokens = authority.issue(_TOKENS)
    return [
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--cert-dir={directory}",
        f"--client-ca-file={authority.certificate}",
        f"--requestheader-client-ca-file={front.certificate}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={tokens.certificate}",
        f"--service-account-signing-key-file={tokens.key}",
    ]


def _is_ready(api: Api) -> bool:
    """Ask the API server, and see what it makes by itself a moment later."""
    try:
        if api.send("GET", "/readyz") != b"ok":
            return False
        namespaces = api.items("/api/v1/namespaces")
    except (ApiError, urllib3.exceptions.HTTPError):
        return False
    return {item["metadata"]["name"] for item in namespaces} >= set(_SYSTEM_NAMESPACES)


def _run_controllers(found: Programs, plane: Plane) -> None:
    """Start what makes objects live, and wait until a namespace has its service account."""
    kubeconfig = f"--kubeconfig={plane.kubeconfig()}"
    quick = ("--kube-api-qps=1000", "--kube-api-burst=1000")
    plane.processes.start(
        "kube-controller-manager",
        [
            *(found.path("kube-controller-manager"), kubeconfig, *quick),
            f"--service-account-private-key-file={plane.user(_TOKENS).key}",
            f"--root-ca-file={plane.authority.certificate}",
            *("--leader-elect=false", "--secure-port=0"),
        ],
    )
    plane.processes.start(
        "kube-scheduler",
        [
            *(found.path("kube-scheduler"), kubeconfig, *quick),
            *("--leader-elect=false", "--secure-port=0"),
        ],
    )
    plane.processes.start(
        "kwok",
        [
            *(found.path("kwok"), kubeconfig, f"--config={_STAGES}"),
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--node-lease-duration-seconds=40",
        ],
    )
    plane.processes.wait("service account", lambda: _has_service_account(plane.api), _DEADLINE)


def _has_service_account(api: Api) -> bool:
    path = "/api/v1/namespaces/default/serviceaccounts/default"
    with contextlib.suppress(ApiError, urllib3.exceptions.HTTPError):
        return bool(api.get(path))
    return False
