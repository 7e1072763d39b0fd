"""Whole clusters as the API server's own JSON: right by default; a test names what is wrong.

A `Cluster` is a list of objects that a test may change; `snapshot` reads it as a recording is read.
Both stacks can be built here, and the recorded ones be loaded where they are at hand.
"""

import datetime as dt
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kgpuctl.cli.cluster_run import Wishes, verify_snapshot
from kgpuctl.cluster.recording import open_snapshot
from kgpuctl.cluster.resources import READS
from kgpuctl.cluster.snapshot import ClusterSnapshot
from kgpuctl.names import Tee
from kgpuctl.report import Report

Json = dict[str, Any]
Change = Callable[["Cluster"], None]

NOW: Final = dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)
SHARED: Final = Path(os.environ.get("KGPU_SHARED", Path(__file__).parents[2] / "shared"))
SNAPSHOTS: Final = SHARED / "snapshots"

GPU_OPERATOR: Final = "gpu-operator"
KATA_SYSTEM: Final = "kata-system"
COCO_SYSTEM: Final = "confidential-containers-system"
GPU_CLASS: Final = "kata-qemu-nvidia-gpu"
KATA_LABEL: Final = "katacontainers.io/kata-runtime"
MARKER: Final = "kata-deploy.katacontainers.io/default"
WORKLOAD: Final = "nvidia.com/gpu.workload.config"
NFD_LABEL: Final = "feature.node.kubernetes.io/pci-10de.present"
DEPLOY: Final = "nvidia.com/gpu.deploy."
READY: Final = {"type": "Ready", "status": "True"}
TITLES: Final = tuple(resource.title for resource in READS)


def ago(**span: float) -> str:
    """Return a moment before NOW, as the API server writes it."""
    return (NOW - dt.timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%SZ")


OLD: Final = ago(days=3)


@dataclass
class Cluster:
    """A cluster that a test may change; None in place of a title means that all was read."""

    items: list[Json]
    version: str = "v1.35.1"
    missed: dict[str, str] = field(default_factory=dict)  # title -> reason
    time: str = NOW.isoformat()

    def copy(self) -> "Cluster":
        return Cluster(deepcopy(self.items), self.version, dict(self.missed), self.time)

    def all(self, kind: str) -> list[Json]:
        return [item for item in self.items if item["kind"] == kind]

    def get(self, kind: str, name: str) -> Json:
        found = [item for item in self.all(kind) if item["metadata"]["name"] == name]
        assert found, f"there is no {kind} {name} in this cluster"
        return found[0]

    def has(self, kind: str, name: str) -> bool:
        return any(item["metadata"]["name"] == name for item in self.all(kind))

    def add(self, *items: Json) -> None:
        self.items += items

    def drop(self, kind: str, name: str = "") -> None:
        before = len(self.items)
        self.items = [
            item
            for item in self.items
            if item["kind"] != kind or (name and item["metadata"]["name"] != name)
        ]
        assert len(self.items) < before, f"there is no {kind} {name} in this cluster"

    def labels(self, node: str) -> dict[str, str]:
        labels: dict[str, str] = self.get("Node", node)["metadata"]["labels"]
        return labels

    def pods(self, owner: str) -> list[Json]:
        return [pod for pod in self.all("Pod") if owner in owners(pod)]

    def pod(self, owner: str, node: str = "gpu-1") -> Json:
        found = [pod for pod in self.pods(owner) if pod["spec"].get("nodeName") == node]
        assert found, f"no pod of {owner} on {node}"
        return found[0]

    def policy(self) -> Json:
        return self.get("ClusterPolicy", "cluster-policy")

    def drop_pods(self, owner: str, node: str = "") -> None:
        self.items = [
            item
            for item in self.items
            if item["kind"] != "Pod"
            or owner not in owners(item)
            or (node and item["spec"].get("nodeName") != node)
        ]

    def drop_set(self, name: str) -> None:
        """Take a DaemonSet away with its pods."""
        self.drop("DaemonSet", name)
        self.drop_pods(name)

    def content(self) -> bytes:
        manifest = {
            "apiVersion": "kgpuctl/v1",
            "kind": "Snapshot",
            "context": "test",
            "time": self.time,
            "kinds": [*TITLES, "pods/log"],
            "missed": [{"what": title, "reason": why} for title, why in self.missed.items()],
        }
        whole = {
            "apiVersion": "v1",
            "kind": "List",
            "serverVersion": {"gitVersion": self.version},
            "items": [manifest, *self.items],
        }
        return json.dumps(whole).encode()

    def snapshot(self) -> ClusterSnapshot:
        """Read it the way a recording is read."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cluster.json"
            path.write_bytes(self.content())
            return open_snapshot(str(path))


def owners(item: Json) -> list[str]:
    """Return the names of what made an object; a Deployment's without the hash of its pods."""
    names = [owner["name"] for owner in item["metadata"].get("ownerReferences", [])]
    return [*names, *(name.rpartition("-")[0] for name in names)]


def judged(
    snapshot: ClusterSnapshot, tee: Tee | None = None, nodes: tuple[str, ...] = ()
) -> Report:
    """Ask every check of verify."""
    return verify_snapshot(snapshot, Wishes(tee, nodes, (), False, NOW.date()))  # noqa: FBT003  # only_problems


# ---- single objects ------------------------------------------------------------------------------


def meta(name: str, namespace: str = "", **more: Any) -> Json:  # noqa: ANN401
    """Return metadata; a namespace only where there is one."""
    where = {"namespace": namespace} if namespace else {}
    return {
        "name": name,
        **where,
        "uid": f"uid-{namespace}-{name}",
        "creationTimestamp": OLD,
    } | more


def helm(release: str, namespace: str) -> Json:
    """Return what Helm leaves on what it makes."""
    return {
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {
            "meta.helm.sh/release-name": release,
            "meta.helm.sh/release-namespace": namespace,
        },
    }


def node(name: str, labels: Mapping[str, str], **more: Any) -> Json:  # noqa: ANN401
    """Return a node; `offers` are its extended resources; without `handlers` it tells none."""
    offers, handlers = more.get("offers", {}), more.get("handlers")
    told = {} if handlers is None else {"runtimeHandlers": [{"name": item} for item in handlers]}
    amounts = {"cpu": "64", "memory": "512Gi", "pods": "110", **offers}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": meta(name, labels={"kubernetes.io/hostname": name, **labels}),
        "spec": {},
        "status": {
            "allocatable": amounts,
            "capacity": dict(amounts),
            "conditions": [
                {**READY, "reason": "KubeletReady", "message": "kubelet is posting ready status"}
            ],
            "nodeInfo": {
                "architecture": "amd64",
                "containerRuntimeVersion": more.get("runtime", "containerd://2.2.2"),
                "kubeletVersion": more.get("kubelet", "v1.35.1"),
                "operatingSystem": "linux",
            },
            **told,
        },
    }


def pod(name: str, namespace: str, node_name: str, **more: Any) -> Json:  # noqa: ANN401
    """Return a pod that runs; `owner` is its maker, `spec` and `status` are added."""
    owner = more.get("owner")
    container = more.get("container", "main")
    made_by = {"ownerReferences": [{**owner, "controller": True}]} if owner else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(name, namespace, **made_by),
        "spec": {
            "nodeName": node_name,
            "containers": [{"name": container, "image": more.get("image", "example/app:1")}],
            **more.get("spec", {}),
        },
        "status": {
            "phase": "Running",
            "conditions": [READY],
            "containerStatuses": [
                {"name": container, "ready": True, "state": {"running": {"startedAt": OLD}}}
            ],
            **more.get("status", {}),
        },
    }


def daemon_set(
    name: str,
    namespace: str,
    image: str,
    nodes: Iterable[str],
    **more: Any,  # noqa: ANN401
) -> list[Json]:
    """Return a DaemonSet with a ready pod on each of the nodes."""
    names = list(nodes)
    container = more.get("container", name)
    selector = {"nodeSelector": more["selector"]} if "selector" in more else {}
    item = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": meta(name, namespace, generation=1, **more.get("metadata", {})),
        "spec": {
            "template": {"spec": {"containers": [{"name": container, "image": image}], **selector}}
        },
        "status": {
            "desiredNumberScheduled": len(names),
            "currentNumberScheduled": len(names),
            "numberReady": len(names),
            "numberAvailable": len(names),
            "updatedNumberScheduled": len(names),
            "observedGeneration": 1,
        },
    }
    owner = {"kind": "DaemonSet", "name": name, "uid": f"uid-{namespace}-{name}"}
    pods = [
        pod(f"{name}-{where[-5:]}", namespace, where, owner=owner, container=container, image=image)
        for where in names
    ]
    return [item, *pods]


def deployment(
    name: str,
    namespace: str,
    containers: Mapping[str, str],
    **more: Any,  # noqa: ANN401
) -> list[Json]:
    """Return a Deployment with its one pod."""
    item: Json = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(name, namespace, generation=1, **more),
        "spec": {
            "replicas": 1,
            "template": {
                "spec": {
                    "containers": [
                        {"name": key, "image": image} for key, image in containers.items()
                    ]
                }
            },
        },
        "status": {"replicas": 1, "availableReplicas": 1, "readyReplicas": 1},
    }
    replica_set = {"kind": "ReplicaSet", "name": f"{name}-7d958d78d9", "uid": f"uid-rs-{name}"}
    made = pod(f"{name}-7d958d78d9-hq2j9", namespace, "cpu-1", owner=replica_set)
    made["spec"]["containers"] = item["spec"]["template"]["spec"]["containers"]
    made["status"]["containerStatuses"] = [
        {"name": key, "ready": True, "state": {"running": {"startedAt": OLD}}} for key in containers
    ]
    return [item, made]


def runtime_class(name: str, selector: Mapping[str, str], **more: Any) -> Json:  # noqa: ANN401
    """Return a RuntimeClass whose handler has its name."""
    return {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": meta(name, **more),
        "handler": name,
        "scheduling": {"nodeSelector": dict(selector)},
    }


def namespace(name: str, **more: Any) -> Json:  # noqa: ANN401
    """Return a namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": meta(name, **more),
        "status": {"phase": "Active"},
    }


def crd(kind: str, plural: str, group: str) -> Json:
    """Return a CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": meta(f"{plural}.{group}"),
        "spec": {"group": group, "scope": "Cluster", "names": {"kind": kind, "plural": plural}},
    }


def event(kind: str, where: str, name: str, reason: str, message: str, **more: Any) -> Json:  # noqa: ANN401
    """Return a warning about an object, a minute old."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": meta(f"{name}.{reason}.{abs(hash(message))}", where),
        "involvedObject": {"kind": kind, "namespace": where, "name": name},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": ago(minutes=1),
        "count": 3,
    } | more


def log(made: Json, container: str, text: str, *, previous: bool = False) -> Json:
    """Return what a container of a pod wrote, as a recording of kgpuctl holds it."""
    about = {"name": made["metadata"]["name"], "namespace": made["metadata"]["namespace"]}
    return {
        "apiVersion": "kgpuctl/v1",
        "kind": "PodLog",
        "metadata": about,
        "container": container,
        "previous": previous,
        "text": text,
    }


def kubelet(name: str, gates: Mapping[str, bool], timeout: str) -> Json:
    """Return a kubelet's configuration, as a recording of kgpuctl holds it."""
    return {
        "apiVersion": "kgpuctl/v1",
        "kind": "KubeletConfig",
        "metadata": {"name": name},
        "kubeletconfig": {"featureGates": dict(gates), "runtimeRequestTimeout": timeout},
    }


def gpu_pod(name: str, **more: Any) -> Json:  # noqa: ANN401
    """Return a user's pod in a VM with one GPU; `resource` and `runtime_class` may differ."""
    asked = {more.get("resource", "nvidia.com/pgpu"): more.get("number", "1")}
    made = pod(name, more.get("where", "default"), more.get("on", "gpu-1"))
    made["spec"]["runtimeClassName"] = more.get("runtime_class", GPU_CLASS)
    made["spec"]["containers"][0]["resources"] = {"limits": asked, "requests": asked}
    return made


# ---- both stacks ---------------------------------------------------------------------------------

TARGETS: Final = ("gpu-1", "gpu-2")
_CONTAINER_OPERANDS: Final = {
    "driver": "nvidia-driver-daemonset",
    "container-toolkit": "nvidia-container-toolkit-daemonset",
    "device-plugin": "nvidia-device-plugin-daemonset",
    "operator-validator": "nvidia-operator-validator",
}


def _chosen(operands: Iterable[str]) -> dict[str, str]:
    return {f"{DEPLOY}{name}": "true" for name in operands}


def _gpu_operator(version: str) -> Iterator[Json]:
    labels = {
        "app.kubernetes.io/component": "gpu-operator",
        "app.kubernetes.io/version": version,
        "helm.sh/chart": f"gpu-operator-{version}",
    }
    marks = helm("gpu-operator", GPU_OPERATOR)
    marks["labels"] |= labels
    image = f"nvcr.io/nvidia/gpu-operator:{version}"
    yield from deployment("gpu-operator", GPU_OPERATOR, {"gpu-operator": image}, **marks)
    nodes = (*TARGETS, "gpu-3", "cpu-1")
    yield from daemon_set(
        "gpu-operator-node-feature-discovery-worker",
        GPU_OPERATOR,
        "registry.k8s.io/nfd/node-feature-discovery:v0.19.0",
        nodes,
        container="worker",
    )
    for operand, name in _CONTAINER_OPERANDS.items():
        selector = {f"{DEPLOY}{operand}": "true"}
        yield from daemon_set(name, GPU_OPERATOR, "nvcr.io/x:1", ["gpu-3"], selector=selector)


def _operands(images: Mapping[str, tuple[str, str]]) -> Iterator[Json]:
    for operand, (name, image) in images.items():
        selector = {f"{DEPLOY}{operand}": "true"}
        container = name.replace("-daemonset", "-ctr")
        yield from daemon_set(
            name, GPU_OPERATOR, image, TARGETS, selector=selector, container=container
        )


def _policy(spec: Json, conditions: list[Json]) -> Json:
    return {
        "apiVersion": "nvidia.com/v1",
        "kind": "ClusterPolicy",
        "metadata": meta("cluster-policy", **helm("gpu-operator", GPU_OPERATOR)),
        "spec": spec,
        "status": {"state": "ready", "namespace": GPU_OPERATOR, "conditions": conditions},
    }


RECONCILED: Final = (
    {
        "type": "Ready",
        "status": "True",
        "reason": "Reconciled",
        "message": "ClusterPolicy is ready as all resources have been successfully reconciled",
    },
    {"type": "Error", "status": "False", "reason": "Ready", "message": ""},
)


def _common() -> Iterator[Json]:
    for name in ("default", "kube-system", GPU_OPERATOR):
        yield namespace(name)
    yield crd("ClusterPolicy", "clusterpolicies", "nvidia.com")
    for name in ("nvidia", "nvidia-cdi", "nvidia-legacy"):
        yield runtime_class(name, {})
    yield node("cpu-1", {"feature.node.kubernetes.io/cpu-cpuid.VMX": "true"}, handlers=["runc"])
    yield node(
        "gpu-3",
        {NFD_LABEL: "true", "nvidia.com/gpu.present": "true"} | _chosen(_CONTAINER_OPERANDS),
        offers={"nvidia.com/gpu": "8"},
        handlers=["runc", "nvidia"],
    )


def kata_deploy_cluster(targets: Iterable[str] = TARGETS) -> Cluster:
    """Return kata-deploy 4.1.0 with GPU Operator v26.7.0: two targets and two other nodes."""
    marks = helm("kata-deploy", KATA_SYSTEM)
    marks["annotations"]["katacontainers.io/kata-version"] = "4.1.0"
    kata = {KATA_LABEL: "true", MARKER: "true"}
    plugin = "nvcr.io/nvidia/cloud-native/nvidia-sandbox-device-plugin:v0.0.5"
    images = {
        "vfio-manager": ("nvidia-vfio-manager", "nvcr.io/x/k8s-driver-manager:v0.12.0"),
        "sandbox-validator": ("nvidia-sandbox-validator", "nvcr.io/nvidia/gpu-operator:v26.7.0"),
        "kata-sandbox-device-plugin": ("nvidia-kata-sandbox-device-plugin-daemonset", plugin),
        "cc-manager": ("nvidia-cc-manager", "nvcr.io/x/k8s-cc-manager:v0.4.3"),
    }
    labels = {
        "feature.node.kubernetes.io/cpu-cpuid.VMX": "true",
        NFD_LABEL: "true",
        "nvidia.com/gpu.present": "true",
        WORKLOAD: "vm-passthrough",
        "nvidia.com/cc.mode": "off",
        "nvidia.com/cc.mode.state": "off",
        "nvidia.com/cc.ready.state": "false",
        **_chosen((*images, "kata-manager")),
    }
    amd = {"amd.feature.node.kubernetes.io/snp": "true"}
    intel = {"intel.feature.node.kubernetes.io/tdx": "true"}
    on = {"nvidia.com/cc.ready.state": "true"}
    return Cluster(
        [
            *_common(),
            namespace(KATA_SYSTEM),
            *(
                node(
                    name,
                    {**labels, **kata},
                    offers={"nvidia.com/pgpu": "8"},
                    handlers=["runc", "kata-qemu", GPU_CLASS],
                )
                for name in targets
            ),
            *daemon_set(
                "kata-deploy",
                KATA_SYSTEM,
                "quay.io/kata-containers/kata-deploy:4.1.0",
                TARGETS,
                container="kube-kata",
                metadata=helm("kata-deploy", KATA_SYSTEM),
                selector={WORKLOAD: "vm-passthrough"},
            ),
            runtime_class("kata-qemu", kata, **marks),
            runtime_class(GPU_CLASS, {**kata, "nvidia.com/cc.ready.state": "false"}, **marks),
            runtime_class(f"{GPU_CLASS}-snp", {**kata, **on, **amd}, **marks),
            runtime_class(f"{GPU_CLASS}-tdx", {**kata, **on, **intel}, **marks),
            *_gpu_operator("v26.7.0"),
            *_operands(images),
            _policy(
                {
                    "sandboxWorkloads": {
                        "enabled": True,
                        "defaultWorkload": "container",
                        "mode": "kata",
                    },
                    "kataManager": {"enabled": False},
                    "ccManager": {"enabled": True, "defaultMode": "off"},
                    "vfioManager": {"enabled": True},
                    "sandboxDevicePlugin": {"enabled": True},
                    "kataSandboxDevicePlugin": {"enabled": True},
                },
                [dict(item) for item in RECONCILED],
            ),
            gpu_pod("cuda"),
        ]
    )


def coco_cluster() -> Cluster:
    """Return CoCo operator v0.7.0 with GPU Operator v23.9.2: two targets and two other nodes."""
    plugin = "nvcr.io/nvidia/kubevirt-gpu-device-plugin:v1.2.4"
    images = {
        "vfio-manager": ("nvidia-vfio-manager", "nvcr.io/nvidia/cuda:12.3.2-base-ubi8"),
        "sandbox-validator": ("nvidia-sandbox-validator", "nvcr.io/x/validator:v23.9.2"),
        "sandbox-device-plugin": ("nvidia-sandbox-device-plugin-daemonset", plugin),
        "kata-manager": ("nvidia-kata-manager", "nvcr.io/x/k8s-kata-manager:v0.1.2"),
    }
    worker = {"node.kubernetes.io/worker": ""}
    labels = {
        "feature.node.kubernetes.io/cpu-cpuid.VMX": "true",
        NFD_LABEL: "true",
        "nvidia.com/gpu.present": "true",
        WORKLOAD: "vm-passthrough",
        KATA_LABEL: "true",
        "cc-preinstall/done": "true",
        **worker,
        **_chosen((*images, "cc-manager")),
    }
    managed = {"nvidia.com/gpu.deploy.kata-manager": "true"}
    mark = {"labels": {"nvidia.com/kata-runtime-class": "true"}}
    payload = "quay.io/confidential-containers/runtime-payload:kata-containers-16d6e37"
    cluster = Cluster(
        [
            *_common(),
            namespace(COCO_SYSTEM),
            crd("CcRuntime", "ccruntimes", "confidentialcontainers.org"),
            *(
                node(
                    name,
                    labels,
                    offers={"nvidia.com/GA102GL_A10": "1"},
                    runtime="containerd://1.6.8.2",
                    kubelet="v1.28.9",
                )
                for name in TARGETS
            ),
            *deployment(
                "cc-operator-controller-manager",
                COCO_SYSTEM,
                {
                    "kube-rbac-proxy": "quay.io/brancz/kube-rbac-proxy:v0.13.1",
                    "manager": "quay.io/confidential-containers/operator:v0.7.0",
                },
            ),
            *daemon_set(
                "cc-operator-daemon-install",
                COCO_SYSTEM,
                payload,
                TARGETS,
                container="cc-runtime-install-pod",
                selector=worker,
            ),
            {
                "apiVersion": "confidentialcontainers.org/v1beta1",
                "kind": "CcRuntime",
                "metadata": meta(
                    "ccruntime-sample",
                    finalizers=["runtimeconfig.confidentialcontainers.org/finalizer"],
                ),
                "spec": {
                    "ccNodeSelector": {"matchLabels": worker},
                    "config": {"payloadImage": payload},
                },
                "status": {
                    "totalNodesCount": 2,
                    "runtimeClass": "kata,kata-qemu",
                    "installationStatus": {
                        "completed": {
                            "completedNodesCount": 2,
                            "completedNodesList": list(TARGETS),
                        }
                    },
                },
            },
            runtime_class("kata-qemu", worker),
            runtime_class(GPU_CLASS, managed, **mark),
            runtime_class(f"{GPU_CLASS}-snp", {**managed, "nvidia.com/cc.capable": "true"}, **mark),
            *_gpu_operator("v23.9.2"),
            *_operands(images),
            _policy(
                {
                    "sandboxWorkloads": {"enabled": True, "defaultWorkload": "container"},
                    "kataManager": {
                        "enabled": True,
                        "config": {
                            "runtimeClasses": [{"name": GPU_CLASS}, {"name": f"{GPU_CLASS}-snp"}]
                        },
                    },
                    "ccManager": {"enabled": False, "defaultMode": "off"},
                    "vfioManager": {"enabled": True},
                    "sandboxDevicePlugin": {"enabled": True},
                },
                [dict(item) for item in RECONCILED],
            ),
        ],
        "v1.28.9",
    )
    for made in cluster.pods("nvidia-kata-manager"):
        cluster.add(log(made, "nvidia-kata-manager", "containerd successfully restarted\n"))
    return cluster


def recorded(name: str) -> Cluster:
    """Return a recording to be changed, a while after it was made."""
    whole = json.loads((SNAPSHOTS / name).read_bytes())
    items = [item for item in whole["items"] if item["kind"] not in {"Event", "ConfigMap"}]
    return Cluster(items, whole["serverVersion"]["gitVersion"])
