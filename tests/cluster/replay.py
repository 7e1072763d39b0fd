"""Put a recorded cluster onto a control plane, exactly as it was.

The objects go below the API server, into its etcd. Created through the API they would get another
uid, creationTimestamp and generation, no deletionTimestamp, and a reader would find other ages;
what a recording leaves out, such as a CRD's schema, would not even be accepted. Read back, all of
it comes from the API server. Only a bare plane keeps it: controllers would set to work on it.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cluster.api import ApiError, Object, path_of
from cluster.controlplane import Plane

_DEADLINE: Final = 30.0
_POLL: Final = 0.02
_NOT_YET: Final = frozenset({404, 429, 503})  # unknown, or its storage is being set up
_CRD: Final = "CustomResourceDefinition"
# The API server keeps most kinds under their plural, and these elsewhere.
_KEPT_AS: Final = {
    "customresourcedefinitions": "apiextensions.k8s.io/customresourcedefinitions",
    "endpoints": "services/endpoints",
    "ingresses": "ingress",
    "nodes": "minions",
    "replicationcontrollers": "controllers",
    "services": "services/specs",
}
_ANY_OBJECT: Final = {
    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
}


def replay(plane: Plane, recording: Mapping[str, Any]) -> None:
    """Write every object of a List; what the control plane keeps for itself stays its own."""
    objects = _Objects(plane, recording["items"])
    plane.etcd.put(
        (key, json.dumps(_as_stored(item)).encode())
        for item in recording["items"]
        if (key := objects.key(item)) not in plane.own_keys or item["kind"] == "Namespace"
    )
    for path in objects.custom_lists():
        _wait_until_served(plane, path)


class _Objects:
    """Where the API server keeps objects, as it and the recorded CRDs tell."""

    def __init__(self, plane: Plane, items: Sequence[Object]) -> None:
        self._plane = plane
        self._definitions = [item["spec"] for item in items if item["kind"] == _CRD]
        self._plurals: dict[tuple[str, str], str] = {
            (f"{spec['group']}/{version['name']}", spec["names"]["kind"]): spec["names"]["plural"]
            for spec in self._definitions
            for version in spec["versions"]
        }
        self._custom = {spec["group"] for spec in self._definitions}

    def key(self, item: Object) -> str:
        """Return the key of an object."""
        version, metadata = item["apiVersion"], item["metadata"]
        plural = self._plural(version, item["kind"])
        group = version.rpartition("/")[0]
        kept = f"{group}/{plural}" if group in self._custom else _KEPT_AS.get(plural, plural)
        return "/".join(
            part
            for part in ("/registry", kept, metadata.get("namespace", ""), metadata["name"])
            if part
        )

    def custom_lists(self) -> Iterator[str]:
        """Yield the paths at which the recorded CRDs let their objects be listed."""
        for spec in self._definitions:
            for version in spec["versions"]:
                if version["served"]:
                    yield path_of(f"{spec['group']}/{version['name']}/{spec['names']['plural']}")

    def _plural(self, version: str, kind: str) -> str:
        if (version, kind) not in self._plurals:
            told = self._plane.api.get(path_of(f"{version}/").rstrip("/"))
            self._plurals |= {
                (version, resource["kind"]): resource["name"]
                for resource in told["resources"]
                if "/" not in resource["name"]
            }
        return self._plurals[version, kind]


def _as_stored(item: Object) -> Object:
    """Leave out what the server adds when it reads, and put in what a recording has cut off."""
    metadata = {
        name: value
        for name, value in item["metadata"].items()
        if name not in {"resourceVersion", "selfLink", "managedFields"}
    }
    stored = item | {"metadata": metadata}
    if item["kind"] == _CRD:
        versions = [
            {"schema": _ANY_OBJECT, "subresources": {"status": {}}} | version
            for version in item["spec"]["versions"]
        ]
        stored["spec"] = {"conversion": {"strategy": "None"}} | item["spec"]
        stored["spec"]["versions"] = versions
    return stored


def _wait_until_served(plane: Plane, path: str) -> None:
    """A CRD's objects can be read a moment after it was written."""
    deadline = time.monotonic() + _DEADLINE
    while True:
        try:
            plane.api.get(path)
        except ApiError as error:
            if error.status not in _NOT_YET or time.monotonic() > deadline:
                raise
            time.sleep(_POLL)
        else:
            return
