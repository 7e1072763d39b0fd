"""A cluster with a marked secret in every place where one can be, in the shapes that they have."""

import base64
import json
from typing import Final

from clusters import Cluster, Json, event, gpu_pod, kata_deploy_cluster

MARK: Final = "MARKED"


def _shapes(place: str) -> dict[str, str]:
    """Return sentences with a credential each, all of them with the mark of this place."""
    word = f"{MARK}{place}"
    body = base64.b64encode((f"{word}-key-" * 24).encode()).decode()
    pem = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    head = base64.urlsafe_b64encode(b'{"alg":"RS256","kid":"x"}').decode().rstrip("=")
    return {
        "bearer": f"sent Authorization: Bearer {word}0aB1cD2eF3gH4iJ5 and was refused",
        "jwt": f"token {head}.eyJ{word}0aB1cD2eF3.{word}sig0aB1cD2-_x is not valid",
        "password": f'login failed with password="{word}pass" for bob',
        "option": f"started with --api-key {word}Opt1on --verbose",
        "environment": f"environment was HTTP_PROXY= NGC_API_KEY={word}ngc HOME=/root",
        "json": f'config {{"token": "{word}json", "user": "bob"}} was rejected',
        "url": f"GET https://bob:{word}url@registry.example/v2/: 401 Unauthorized",
        "ngc": f"key nvapi-{word}0aB1cD2eF3gH4iJ5kL6 has expired",
        "pem": f"read\n-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----\nand failed",
        "docker": f'{{"auths":{{"nvcr.io":{{"auth":"{_encoded(word)}"}}}}}}',
    }


def _encoded(word: str) -> str:
    return base64.b64encode(f"$oauthtoken:{word}docker0aB1cD2".encode()).decode()


def text(place: str) -> str:
    """Return what a program might write that tells all it knows."""
    return "\n".join(_shapes(place).values())


def traces(place: str) -> list[str]:
    """Return what must be found nowhere."""
    body = base64.b64encode((f"{MARK}{place}-key-" * 24).encode()).decode()
    return [f"{MARK}{place}", body[:40], body[64:104], _encoded(f"{MARK}{place}")[:-4]]


def _metadata(place: str) -> Json:
    last = json.dumps({"env": [{"name": "TOKEN", "value": f"{MARK}{place}lastapplied"}]})
    return {
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": last,
            "example.com/token": f"{MARK}{place}",
        },
        "managedFields": [{"manager": f"{MARK}{place}"}],
    }


PLACES: Final = (
    *("env", "pod", "node", "daemonset", "deployment", "job", "class", "namespace", "crd"),
    *("policy", "event", "waiting", "terminated", "ready", "pull", "pressure", "condition"),
    "log",
)


def planted() -> Cluster:
    """Return a cluster with broken pods, each of which says too much."""
    cluster = kata_deploy_cluster()
    broken = gpu_pod("leaky")
    broken["spec"]["containers"][0] |= {
        "env": [{"name": "NGC_API_KEY", "value": f"{MARK}env"}],
        "args": [f"--token={MARK}env", text("env")],
        "command": ["sh", "-c", f"login {MARK}env"],
        "lifecycle": {"postStart": {"exec": {"command": [f"{MARK}env"]}}},
    }
    broken["metadata"] |= _metadata("pod")
    broken["status"] = {
        "phase": "Pending",
        "message": text("condition"),
        "conditions": [{"type": "Ready", "status": "False", "message": text("ready")}],
        "containerStatuses": [
            {
                "name": "main",
                "ready": False,
                "restartCount": 4,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": text("waiting")}},
                "lastState": {
                    "terminated": {
                        "exitCode": 1,
                        "reason": "Error",
                        "message": text("terminated"),
                    }
                },
            }
        ],
    }
    pulled = gpu_pod("unpulled", on="gpu-2")
    pulled["status"] = {
        "phase": "Pending",
        "containerStatuses": [
            {
                "name": "main",
                "ready": False,
                "state": {"waiting": {"reason": "ErrImagePull", "message": text("pull")}},
            }
        ],
    }
    stuck = gpu_pod("stuck", on="gpu-2")
    stuck["status"] = {
        "phase": "Pending",
        "containerStatuses": [
            {"name": "main", "ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}}
        ],
    }
    cluster.add(
        broken,
        pulled,
        stuck,
        *(
            event("Pod", "default", name, "FailedCreatePodSandBox", text("event"))
            for name in ("stuck", "unpulled", "leaky")
        ),
        {
            **event("DaemonSet", "gpu-operator", "nvidia-vfio-manager", "Chatty", text("event")),
            "type": "Normal",
        },
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "chatty", "namespace": "kata-system", "uid": "j"},
            "spec": {},
            "status": {
                "conditions": [{"type": "Failed", "status": "True", "message": text("job")}]
            },
        },
    )
    _talk(cluster)
    return cluster


def _talk(cluster: Cluster) -> None:
    """Plant in the metadata and the conditions of what is not broken."""
    for kind, place in (
        ("Node", "node"),
        ("DaemonSet", "daemonset"),
        ("Deployment", "deployment"),
        ("Job", "job"),
        ("RuntimeClass", "class"),
        ("Namespace", "namespace"),
        ("CustomResourceDefinition", "crd"),
        ("ClusterPolicy", "policy"),
    ):
        for item in cluster.all(kind):
            known = item["metadata"].get("annotations", {})
            item["metadata"] |= _metadata(place)
            item["metadata"]["annotations"] |= known
            says = {"type": "Told", "status": "True", "reason": "R", "message": text(place)}
            item.setdefault("status", {}).setdefault("conditions", []).append(says)
            template = item.get("spec", {}).get("template", {}).get("spec", {})
            for container in template.get("containers", []):
                container["env"] = [{"name": "PASSWORD", "value": f"{MARK}{place}"}]
    node = cluster.get("Node", "gpu-1")
    node["status"]["conditions"] += [
        {"type": "DiskPressure", "status": "True", "message": text("pressure")}
    ]
    for condition in cluster.get("Node", "gpu-2")["status"]["conditions"]:
        condition["message"] = text("ready")
    ready = cluster.get("Node", "gpu-2")["status"]["conditions"][0]
    ready["status"] = "False"
    spec = cluster.policy()["spec"]
    spec["driver"] = {"env": [{"name": "TOKEN", "value": f"{MARK}policy"}]}
    for condition in cluster.policy()["status"]["conditions"]:
        if condition["type"] == "Error":
            condition |= {"status": "True", "reason": "ReconcileFailed", "message": text("policy")}
