"""Nodes whose GPUs go to Kata VMs, and their pods, all well: as many as a test asks for.

They are templates: `@NODE@`, `@UID@`, `@NAMESPACE@` and `@POD@` stand for what differs. A node has
about 14 kB of JSON and a pod about 5 kB, as in real clusters.
"""

from typing import Final

from cluster.api import Object
from cluster.healthy_stack import OPERANDS, TEAMS, TIME, make, uid_of

_HERE: Final = [operand for operand in OPERANDS if operand.is_here]


def node_name(number: int) -> str:
    """Return the name of a node."""
    return f"gpu-{number:05}"


def place(index: int, number: int) -> tuple[str, str]:
    """Return namespace and name of a node's pod: its operands first, then ordinary ones."""
    if index < len(_HERE):
        return _HERE[index].namespace, f"{_HERE[index].name}-{number:05}"
    return f"team-{number % TEAMS}", f"service-{index}-{number:05}"


def node_object(name: str) -> Object:
    """Make a node with eight GPUs for VMs, as NFD, kata-deploy and the GPU Operator label it."""
    nfd = "feature.node.kubernetes.io"
    operands = [operand.label for operand in _HERE if operand.label]
    labels = {
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        f"{nfd}/pci-10de.present": "true",
        f"{nfd}/kernel-version.full": "6.8.0-45-generic",
        f"{nfd}/system-os_release.ID": "ubuntu",
        f"{nfd}/system-os_release.VERSION_ID": "24.04",
        f"{nfd}/cpu-cpuid.VMX": "true",
        **{f"{nfd}/cpu-cpuid.FEATURE{number:02}": "true" for number in range(64)},
        "kata-deploy.katacontainers.io/default": "true",
        "katacontainers.io/kata-runtime": "true",
        "nvidia.com/cc.mode": "off",
        "nvidia.com/cc.mode.state": "off",
        "nvidia.com/cc.ready.state": "false",
        **dict.fromkeys(operands, "true"),
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.workload.config": "vm-passthrough",
    }
    found = ",".join(key.removeprefix(f"{nfd}/") for key in labels if key.startswith(nfd))
    capacity = {
        "cpu": "128",
        "memory": "2Ti",
        "pods": "110",
        "ephemeral-storage": "1800Gi",
        "nvidia.com/pgpu": "8",
    }
    node = make(
        *("v1", "Node", name),
        more={
            "uid": "@UID@",
            "labels": labels,
            "annotations": {
                "nfd.node.kubernetes.io/feature-labels": found,
                "node.alpha.kubernetes.io/ttl": "0",
            },
        },
        spec={"podCIDR": "10.1.0.0/24", "providerID": f"metal://{name}"},
    )
    node["status"] = {
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": [{"type": "Hostname", "address": name}],
        "conditions": _node_conditions(),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": {
            "architecture": "amd64",
            "operatingSystem": "linux",
            "bootID": "",
            "machineID": "",
            "containerRuntimeVersion": "containerd://2.2.2",
            "systemUUID": "",
            "kernelVersion": "6.8.0-45-generic",
            "osImage": "Ubuntu 24.04.3 LTS",
            "kubeletVersion": "v1.35.1",
            "kubeProxyVersion": "v1.35.1",
        },
        "images": [
            {
                "names": [
                    f"registry.example.com/platform/component-{number}@sha256:{number:064x}",
                    f"registry.example.com/platform/component-{number}:v1.{number}.0",
                ],
                "sizeBytes": 100_000_000 + number,
            }
            for number in range(32)
        ],
        "runtimeHandlers": [
            {"name": handler, "features": {"recursiveReadOnlyMounts": True}}
            for handler in ("", "runc", "kata-qemu-nvidia-gpu", "kata-qemu-nvidia-gpu-snp")
        ],
    }
    return node


def _node_conditions() -> list[Object]:
    wanted = {"MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}
    return [
        {
            "type": kind,
            "status": status,
            "reason": "KubeletHasSufficient" if status == "False" else "KubeletReady",
            "message": "kubelet has looked",
            "lastHeartbeatTime": TIME,
            "lastTransitionTime": TIME,
        }
        for kind, status in (wanted | {"Ready": "True"}).items()
    ]


def pod_objects(node: str, count: int) -> list[Object]:
    """Make a node's pods: the operands' first, then ordinary ones of its users."""
    if count < len(_HERE):
        raise ValueError(f"a healthy node has at least {len(_HERE)} pods")
    operands = [_pod(node, operand.name, operand.image, kind="DaemonSet") for operand in _HERE]
    image = "registry.example.com/team/service:v1.2.3"
    return operands + [_pod(node, "service", image, kind="ReplicaSet")] * (count - len(_HERE))


def _pod(node: str, owner: str, image: str, *, kind: str) -> Object:
    is_operand = kind == "DaemonSet"
    volumes = [{"name": f"host-{n}", "hostPath": {"path": f"/run/{n}"}} for n in range(6)]
    mounts = [{"name": f"host-{n}", "mountPath": f"/host/run/{n}"} for n in range(6)]
    variables: list[Object] = [
        {"name": f"SETTING_{number:02}", "value": f"a value of ordinary length {number}"}
        for number in range(5)
    ]
    variables.append(
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    )
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10}
    container: Object = {
        "name": owner,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": variables,
        "volumeMounts": mounts,
        "livenessProbe": probe,
        "readinessProbe": probe,
        "resources": {"requests": {"cpu": "100m", "memory": "200Mi"}},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }
    key = "name" if owner == "kata-deploy" else "app"
    tolerated = ("not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure")
    running = {"running": {"startedAt": TIME}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "@POD@",
            "namespace": "@NAMESPACE@",
            "uid": "@UID@",
            "generateName": f"{owner}-",
            "creationTimestamp": TIME,
            "labels": {key: owner, "controller-revision-hash": "6d55f68b85"},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": kind,
                    "name": owner,
                    "uid": uid_of(kind, owner),
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "nodeName": node,
            "containers": [container],
            "volumes": volumes,
            "initContainers": [container | {"name": "wait", "env": variables[:3]}],
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "serviceAccountName": owner,
            "terminationGracePeriodSeconds": 30,
            **({"priorityClassName": "system-node-critical"} if is_operand else {}),
            "tolerations": [
                {"key": f"node.kubernetes.io/{name}", "operator": "Exists"} for name in tolerated
            ],
        },
        "status": {
            "phase": "Running",
            "qosClass": "Burstable",
            "startTime": TIME,
            "podIP": "10.1.0.5",
            "podIPs": [{"ip": "10.1.0.5"}],
            "conditions": [
                {"type": name, "status": "True", "lastTransitionTime": TIME}
                for name in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
            ],
            "containerStatuses": [
                {
                    "name": owner,
                    "image": image,
                    "imageID": f"{image}@sha256:{7:064x}",
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "state": running,
                    "lastState": {},
                }
            ],
            "initContainerStatuses": [
                {
                    "name": "wait",
                    "image": image,
                    "imageID": f"{image}@sha256:{7:064x}",
                    "ready": True,
                    "restartCount": 0,
                    "lastState": {},
                    "state": {
                        "terminated": {
                            "exitCode": 0,
                            "reason": "Completed",
                            "startedAt": TIME,
                            "finishedAt": TIME,
                        }
                    },
                }
            ],
        },
    }
