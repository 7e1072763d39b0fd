"""A healthy stack of kata-deploy 4.1.0 and GPU Operator v26.7.0, for clusters of any size.

What a cluster has once is here, as the API server shows it once all is ready; what each node has
is in healthy_nodes.py.
"""

import uuid
from collections.abc import Iterator
from typing import Final, NamedTuple

from cluster.api import Object

TIME: Final = "2026-11-20T10:00:00Z"
OPERATOR: Final = "gpu-operator"
KATA: Final = "kata-system"
NFD: Final = "gpu-operator-node-feature-discovery"
CHART: Final = "gpu-operator-v26.7.0"
TEAMS: Final = 20
NAMESPACES: Final = (OPERATOR, KATA, *(f"team-{number}" for number in range(TEAMS)))


class Operand(NamedTuple):
    """A DaemonSet of the stack."""

    name: str
    namespace: str
    image: str
    label: str  # of the nodes that it runs on; all, if empty
    is_here: bool  # on nodes whose GPUs go to VMs


def _ours(name: str, image: str, label: str, *, is_here: bool = True) -> Operand:
    """Name an operand of the GPU Operator."""
    image = f"nvcr.io/nvidia/{image}"
    return Operand(name, OPERATOR, image, f"nvidia.com/gpu.deploy.{label}", is_here)


_PLUGIN: Final = "k8s-device-plugin:v0.20.0"
_ITSELF: Final = "gpu-operator:v26.7.0"
_DISCOVERY: Final = "registry.k8s.io/nfd/node-feature-discovery:v0.19.0"
OPERANDS: Final = (
    Operand("kata-deploy", KATA, "quay.io/kata-containers/kata-deploy:4.1.0", "", is_here=True),
    Operand(f"{NFD}-worker", OPERATOR, _DISCOVERY, "", is_here=True),
    _ours("nvidia-cc-manager", "cloud-native/k8s-cc-manager:v0.4.3", "cc-manager"),
    _ours(
        "nvidia-kata-sandbox-device-plugin-daemonset",
        "cloud-native/nvidia-sandbox-device-plugin:v0.0.5",
        "kata-sandbox-device-plugin",
    ),
    _ours("nvidia-sandbox-validator", _ITSELF, "sandbox-validator"),
    _ours("nvidia-vfio-manager", "cloud-native/k8s-driver-manager:v0.12.0", "vfio-manager"),
    _ours("gpu-feature-discovery", _PLUGIN, "gpu-feature-discovery", is_here=False),
    _ours(
        "nvidia-container-toolkit-daemonset",
        "k8s/container-toolkit:v1.20.0",
        "container-toolkit",
        is_here=False,
    ),
    _ours("nvidia-device-plugin-daemonset", _PLUGIN, "device-plugin", is_here=False),
    _ours("nvidia-driver-daemonset", "driver:595.91.07-ubuntu24.04", "driver", is_here=False),
    _ours("nvidia-operator-validator", _ITSELF, "operator-validator", is_here=False),
)
CLASSES: Final = {
    "kata-qemu-nvidia-gpu": {"nvidia.com/cc.ready.state": "false"},
    "kata-qemu-nvidia-gpu-snp": {
        "amd.feature.node.kubernetes.io/snp": "true",
        "nvidia.com/cc.ready.state": "true",
    },
    "kata-qemu-nvidia-gpu-tdx": {
        "intel.feature.node.kubernetes.io/tdx": "true",
        "nvidia.com/cc.ready.state": "true",
    },
}


def uid_of(kind: str, name: str) -> str:
    """Return the same uid for the same object, so that owners are found."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{kind}/{name}"))


def make(  # what every object begins with
    version: str,
    kind: str,
    name: str,
    namespace: str = "",
    more: Object | None = None,
    **rest: object,
) -> Object:
    """Make an object with the metadata that every one has."""
    metadata: Object = {"name": name, "uid": uid_of(kind, name), "creationTimestamp": TIME}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata | (more or {}), **rest}


def shared_objects(nodes: int) -> Iterator[Object]:
    """Yield what a cluster has once: namespaces, RuntimeClasses, the operators and DaemonSets."""
    for name in NAMESPACES:
        labels = {"kubernetes.io/metadata.name": name}
        yield make("v1", "Namespace", name, more={"labels": labels}, status={"phase": "Active"})
    yield _policy_definition()
    policy = _policy()
    yield policy
    owner = {name: policy[name] for name in ("apiVersion", "kind")} | {
        "name": policy["metadata"]["name"],
        "uid": policy["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    for name, selector in CLASSES.items():
        yield _runtime_class(name, selector)
    yield make(
        *("node.k8s.io/v1", "RuntimeClass", "nvidia"),
        handler="nvidia",
        more={
            "labels": {"app.kubernetes.io/component": "gpu-operator"},
            "ownerReferences": [owner],
        },
    )
    yield make(
        *("v1", "ConfigMap", "kata-deploy-kata-deploy-state", KATA),
        more=_released("kata-deploy", KATA),
        data={"deploymentMode": "daemonset", "multiInstallSuffix": ""},
    )
    for name, chart, image in (
        (OPERATOR, CHART, "nvcr.io/nvidia/gpu-operator:v26.7.0"),
        (f"{NFD}-master", "node-feature-discovery-0.19.0", _DISCOVERY),
        (f"{NFD}-gc", "node-feature-discovery-0.19.0", _DISCOVERY),
    ):
        yield _deployment(name, chart, image)
    for operand in OPERANDS:
        yield _daemon_set(operand, nodes, owner)


def _released(release: str, namespace: str, **labels: str) -> Object:
    """Return the metadata by which Helm marks what belongs to a release."""
    return {
        "annotations": {
            "meta.helm.sh/release-name": release,
            "meta.helm.sh/release-namespace": namespace,
        },
        "labels": {"app.kubernetes.io/managed-by": "Helm", **labels},
    }


def _runtime_class(name: str, selector: dict[str, str]) -> Object:
    metadata = _released("kata-deploy", KATA)
    metadata["annotations"]["katacontainers.io/kata-version"] = "4.1.0"
    metadata["labels"]["kata-deploy/instance"] = "default"
    ours = {
        "kata-deploy.katacontainers.io/default": "true",
        "katacontainers.io/kata-runtime": "true",
    }
    return make(
        *("node.k8s.io/v1", "RuntimeClass", name),
        handler=name,
        more=metadata,
        overhead={"podFixed": {"cpu": "1", "memory": "10Gi"}},
        scheduling={"nodeSelector": ours | selector},
    )


def _policy_definition() -> Object:
    names = {"kind": "ClusterPolicy", "listKind": "ClusterPolicyList"}
    return make(
        *("apiextensions.k8s.io/v1", "CustomResourceDefinition", "clusterpolicies.nvidia.com"),
        spec={
            "group": "nvidia.com",
            "names": names | {"plural": "clusterpolicies", "singular": "clusterpolicy"},
            "scope": "Cluster",
            "versions": [{"name": "v1", "served": True, "storage": True}],
        },
    )


def _policy() -> Object:
    ready = {"type": "Ready", "status": "True", "reason": "Reconciled", "lastTransitionTime": TIME}
    fine = {"type": "Error", "status": "False", "reason": "Ready", "lastTransitionTime": TIME}
    metadata = _released(OPERATOR, OPERATOR, **{"helm.sh/chart": CHART})
    metadata["labels"]["app.kubernetes.io/version"] = "v26.7.0"
    images = {
        "ccManager": ("cloud-native", "k8s-cc-manager", "v0.4.3"),
        "devicePlugin": ("", "k8s-device-plugin", "v0.20.0"),
        "driver": ("", "driver", "595.91.07"),
        "kataSandboxDevicePlugin": ("cloud-native", "nvidia-sandbox-device-plugin", "v0.0.5"),
        "toolkit": ("k8s", "container-toolkit", "v1.20.0"),
        "vfioManager": ("cloud-native", "k8s-driver-manager", "v0.12.0"),
    }
    spec: Object = {
        part: {
            "enabled": True,
            "repository": f"nvcr.io/nvidia/{folder}".rstrip("/"),
            "image": image,
            "version": version,
        }
        for part, (folder, image, version) in images.items()
    }
    spec["ccManager"]["defaultMode"] = "off"
    spec["sandboxWorkloads"] = {"enabled": True, "defaultWorkload": "container", "mode": "kata"}
    spec["kataManager"] = {"enabled": False}
    spec["operator"] = {"runtimeClass": "nvidia"}
    return make(
        *("nvidia.com/v1", "ClusterPolicy", "cluster-policy"),
        more=metadata | {"generation": 1},
        spec=spec,
        status={"state": "ready", "namespace": OPERATOR, "conditions": [ready, fine]},
    )


def _deployment(name: str, chart: str, image: str) -> Object:
    selector = {"app.kubernetes.io/name": name}
    return make(
        *("apps/v1", "Deployment", name, OPERATOR),
        more=_released(OPERATOR, OPERATOR, **{"helm.sh/chart": chart}) | {"generation": 1},
        spec={
            "replicas": 1,
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {"labels": selector},
                "spec": {"containers": [{"name": name, "image": image}]},
            },
        },
        status={
            "observedGeneration": 1,
            **dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), 1),
            "availableReplicas": 1,
            "conditions": [
                {"type": "Available", "status": "True", "lastTransitionTime": TIME},
            ],
        },
    )


def _daemon_set(operand: Operand, nodes: int, owner: Object) -> Object:
    name, namespace, image, label, is_here = operand
    selector = {"name" if namespace == KATA else "app": name}
    metadata: Object
    if label:  # the GPU Operator's own
        marks = {"app": name, "app.kubernetes.io/managed-by": OPERATOR, "helm.sh/chart": CHART}
        metadata = {"labels": marks, "ownerReferences": [owner]}
    else:
        release = "kata-deploy" if namespace == KATA else OPERATOR
        metadata = _released(release, namespace)
    count = nodes if is_here else 0
    spec = {"containers": [{"name": name, "image": image}]}
    return make(
        *("apps/v1", "DaemonSet", name, namespace),
        more=metadata | {"generation": 1},
        spec={
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {"labels": selector},
                "spec": spec | ({"nodeSelector": {label: "true"}} if label else {}),
            },
            "updateStrategy": {"type": "RollingUpdate"},
        },
        status={
            "observedGeneration": 1,
            "numberMisscheduled": 0,
            **dict.fromkeys(
                (
                    *("currentNumberScheduled", "desiredNumberScheduled", "numberReady"),
                    *("numberAvailable", "updatedNumberScheduled"),
                ),
                count,
            ),
        },
    )
