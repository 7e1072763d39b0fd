"""What a request asks of the API server, in the words of RBAC."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_GROUPED: Final = "apis"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: verb and resource as a Role names them; `resource` is empty for a bare path."""

    verb: str
    path: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def right(self) -> str:
        """Return what the user must be allowed: "list pods", "create pods/eviction"."""
        if not self.resource:
            return f"{self.verb} {self.path}"
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {what}" + (f"/{self.subresource}" if self.subresource else "")

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"{self.right}{name}" + (f" in namespace {self.namespace}" if self.namespace else "")


def asked(method: str, path: str, query: Mapping[str, str]) -> Asked:
    """Return what a request asks, from its path."""
    parts = path.strip("/").split("/")
    skip = 3 if parts[0] == _GROUPED else 2
    if parts[0] not in {"api", _GROUPED} or len(parts) <= skip:
        return Asked(method.lower(), path)
    group = parts[1] if parts[0] == _GROUPED else ""
    namespace, rest = "", parts[skip:]
    if rest[0] == "namespaces" and len(rest) > 2:  # noqa: PLR2004  # its name, and what is in it
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = (*rest, "", "")[:3]
    return Asked(_verb(method, name, query), path, group, resource, subresource, namespace, name)


def _verb(method: str, name: str, query: Mapping[str, str]) -> str:
    if method in _VERBS:
        return _VERBS[method]
    if "watch" in query:
        return "watch"
    return "get" if name else "list"
