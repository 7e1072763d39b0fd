"""What a user must be allowed, computed from the calls that are made, as RBAC objects."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kgpuctl.cluster.resources import Call

RBAC = "rbac.authorization.k8s.io"


class Holder(NamedTuple):
    """Who is to have rights: a User, a Group or a ServiceAccount."""

    kind: str
    name: str
    namespace: str = ""

    @property
    def subject(self) -> dict[str, str]:
        """Return it as a binding names it."""
        if self.kind == "ServiceAccount":
            return {"kind": self.kind, "name": self.name, "namespace": self.namespace}
        return {"kind": self.kind, "name": self.name, "apiGroup": RBAC}


def rules(calls: Iterable[Call]) -> list[dict[str, list[str]]]:
    """Return the fewest rules that allow exactly these calls; a named object and no other."""
    verbs: dict[tuple[str, str, str], dict[str, None]] = {}
    for call in calls:
        resource = call.resource.plural
        what = f"{resource}/{call.subresource}" if call.subresource else resource
        verbs.setdefault((call.resource.group, what, call.name), {})[call.verb] = None
    together: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (group, what, name), asked in verbs.items():
        together.setdefault((group, name, tuple(sorted(asked))), []).append(what)
    return [
        {
            "apiGroups": [group],
            "resources": sorted(resources),
            **({"resourceNames": [name]} if name else {}),
            "verbs": list(asked),
        }
        for (group, name, asked), resources in sorted(together.items())
    ]


def manifest(name: str, calls: Iterable[Call], holder: Holder | None) -> list[Mapping[str, object]]:
    """Return a ClusterRole for calls that reach everywhere, and a Role for each other namespace."""
    asked = list(calls)
    objects: list[Mapping[str, object]] = []
    for namespace in sorted({call.namespace for call in asked}):
        kind = "Role" if namespace else "ClusterRole"
        where = {"namespace": namespace} if namespace else {}
        metadata = {"name": name, **where}
        found = rules(call for call in asked if call.namespace == namespace)
        objects.append(
            {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata, "rules": found}
        )
        if holder:
            objects.append(
                {
                    "apiVersion": f"{RBAC}/v1",
                    "kind": f"{kind}Binding",
                    "metadata": metadata,
                    "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
                    "subjects": [holder.subject],
                }
            )
    return objects
