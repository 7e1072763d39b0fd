"""Nodes, pods and leases as an API server keeps them: in memory, with versions and conflicts."""

import copy
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from kgpuctl.cluster.asked import Asked, asked

Object: TypeAlias = dict[str, Any]

NODES = "/api/v1/nodes"
PODS = "/api/v1/pods"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kgpuctl"
CC_RUNTIMES = "/apis/confidentialcontainers.org/v1beta1/ccruntimes"
COCO_NAMESPACE = "/api/v1/namespaces/confidential-containers-system"
NFD = {"feature.node.kubernetes.io/pci-10de.present": "true"}


def node(
    name: str,
    labels: Mapping[str, str] | None = None,
    *,
    notes: Mapping[str, str] | None = None,
) -> Object:
    """Return a node that NFD has found a GPU on; labels and annotations come on top."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, **NFD, **(labels or {})},
            "annotations": {"volumes.example/attach": "true", **(notes or {})},
        },
        "spec": {},
        "status": {"allocatable": {"nvidia.com/gpu": "8"}},
    }


def pod(name: str, on: str, owner: str = "ReplicaSet", **more: object) -> Object:
    """Return a running pod that holds two GPUs of a node."""
    owners = [{"kind": owner, "name": "owner", "uid": "o", "controller": True}] if owner else []
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "ownerReferences": owners,
            **more,
        },
        "spec": {
            "nodeName": on,
            "containers": [
                {"name": "main", "resources": {"limits": {"nvidia.com/gpu": "2", "cpu": "1"}}}
            ],
        },
        "status": {"phase": "Running"},
    }


@dataclass(frozen=True)
class Answer:
    """A status and what came with it."""

    status: int
    value: Object

    @property
    def body(self) -> bytes:
        return json.dumps(self.value).encode()


def refused(status: int, reason: str, message: str, *causes: Object) -> Answer:
    details = {"causes": list(causes)} if causes else {}
    value = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": status,
        "details": details,
    }
    return Answer(status, value)


@dataclass
class Store:
    """Objects by path. `before` sees each request first, and may answer in the store's place."""

    objects: dict[str, Object] = field(default_factory=dict)
    budgets: dict[str, str] = field(default_factory=dict)  # pod -> what its budget says
    lingering: set[str] = field(default_factory=set)  # pods that do not go when evicted
    asked: list[Asked] = field(default_factory=list)
    before: Callable[[str, str], Answer | None] = lambda _method, _path: None
    version: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, *objects: Object) -> "Store":
        for one in objects:
            namespace = one["metadata"].get("namespace")
            name = one["metadata"]["name"]
            path = f"/api/v1/namespaces/{namespace}/pods/{name}" if namespace else f"{NODES}/{name}"
            self.objects[path] = self._versioned(copy.deepcopy(one))
        return self

    def node(self, name: str) -> Object:
        return self.objects[f"{NODES}/{name}"]

    def labels(self, name: str) -> dict[str, str]:
        labels: dict[str, str] = self.node(name)["metadata"]["labels"]
        return labels

    def bare(self) -> dict[str, Object]:
        """Return all nodes without what every write changes."""
        nodes = {path: copy.deepcopy(one) for path, one in self.objects.items() if NODES in path}
        for one in nodes.values():
            del one["metadata"]["resourceVersion"]
        return nodes

    def handle(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None
    ) -> Answer:
        with self.lock:
            self.asked.append(asked(method, path, query))
        early = self.before(method, path)
        if early is not None:
            return early
        with self.lock:
            return self._handle(method, path, query, json.loads(body) if body else {})

    def _handle(  # noqa: PLR0911  # a way out for each kind of request
        self, method: str, path: str, query: Mapping[str, str], body: Object
    ) -> Answer:
        if method == "GET" and path in {NODES, PODS, CC_RUNTIMES}:
            return self._list(path, query)
        if path.endswith("/eviction"):
            return self._evict(path.removesuffix("/eviction"), body)
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                return refused(409, "AlreadyExists", "it is there")
            self.objects[path] = self._versioned(body)
            return Answer(201, self.objects[path])
        old = self.objects.get(path)
        if old is None:
            return refused(404, "NotFound", f"{path} not found")
        if method == "GET":
            return Answer(200, old)
        version = body["metadata"].get("resourceVersion")
        if version not in {None, old["metadata"]["resourceVersion"]}:
            return refused(409, "Conflict", "the object has been modified")
        new = merged(old, body) if method == "PATCH" else body
        if query.get("dryRun") == "All":
            return Answer(200, new)
        self.objects[path] = self._versioned(new)
        return Answer(200, self.objects[path])

    def _list(self, path: str, query: Mapping[str, str]) -> Answer:
        if path == CC_RUNTIMES and path not in self.objects:
            return refused(404, "NotFound", "the server could not find the requested resource")
        selector = query.get("labelSelector", "")
        if "(" in selector:
            return refused(400, "BadRequest", "unable to parse requirement")
        part = "/pods/" if path == PODS else f"{path}/"
        items = [one for key, one in self.objects.items() if part in key]
        if selector:
            key, _, value = selector.partition("=")
            items = [one for one in items if one["metadata"]["labels"].get(key) == value]
        for term in query.get("fieldSelector", "").split(","):
            if term.startswith("spec.nodeName="):
                items = [one for one in items if one["spec"]["nodeName"] == term[14:]]
        return Answer(
            200, {"kind": "AnyList", "metadata": {"resourceVersion": "1"}, "items": items}
        )

    def _evict(self, path: str, body: Object) -> Answer:
        name = path.rpartition("/")[2]
        if path not in self.objects:
            return refused(404, "NotFound", "pods not found")
        if name in self.budgets:
            cause = {"reason": "DisruptionBudget", "message": self.budgets[name]}
            message = "Cannot evict pod as it would violate the pod's disruption budget."
            return refused(429, "TooManyRequests", message, cause)
        if body["deleteOptions"]["preconditions"]["uid"] != self.objects[path]["metadata"]["uid"]:
            return refused(409, "Conflict", "the UID in the precondition does not match")
        if name in self.lingering:
            self.objects[path]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        else:
            del self.objects[path]
        return Answer(201, {"kind": "Status", "status": "Success"})

    def _versioned(self, one: Object) -> Object:
        self.version += 1
        one = copy.deepcopy(one)
        one["metadata"]["resourceVersion"] = str(self.version)
        return one


def merged(old: Object, patch: Object) -> Object:
    """Return RFC 7386: null takes away, objects are merged, everything else is replaced."""
    new = copy.deepcopy(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            new[key] = merged(new.get(key, {}), value)
        else:
            new[key] = value
    return new
