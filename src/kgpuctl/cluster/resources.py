"""The kinds of objects that kgpuctl asks for, and the calls that it makes, as data.

What a user must be allowed to do (`kgpuctl rbac`) is computed from these same values, so it cannot
differ from what is really asked.
"""

from typing import Final, NamedTuple


class Resource(NamedTuple):
    """A kind of object, as the API server names it in paths (`plural`) and in objects (`kind`)."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """Return what stands as apiVersion in its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def title(self) -> str:
        """Return it as kubectl and RBAC messages name it: "daemonsets.apps"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, name: str = "", namespace: str = "") -> str:
        """Return the path of all such objects, of those of a namespace, or of one of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}{within}/{self.plural}" + (f"/{name}" if name else "")


class Call(NamedTuple):
    """One thing that a command asks of the API server, as RBAC sees it.

    `namespace` is empty for a call that reaches all namespaces or a resource without any.
    """

    verb: str
    resource: Resource
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        what = f"{self.resource.plural}/{self.subresource}" if self.subresource else ""
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {what or self.resource.title}{where}"


NODES: Final = Resource("", "v1", "nodes", "Node", namespaced=False)
PODS: Final = Resource("", "v1", "pods", "Pod", namespaced=True)
EVENTS: Final = Resource("", "v1", "events", "Event", namespaced=True)
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
DAEMON_SETS: Final = Resource("apps", "v1", "daemonsets", "DaemonSet", namespaced=True)
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment", namespaced=True)
JOBS: Final = Resource("batch", "v1", "jobs", "Job", namespaced=True)
RUNTIME_CLASSES: Final = Resource(
    "node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False
)
CRDS: Final = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
CLUSTER_POLICIES: Final = Resource(
    "nvidia.com", "v1", "clusterpolicies", "ClusterPolicy", namespaced=False
)
CC_RUNTIMES: Final = Resource(
    "confidentialcontainers.org", "v1beta1", "ccruntimes", "CcRuntime", namespaced=False
)
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True)
DISRUPTION_BUDGETS: Final = Resource(
    "policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", namespaced=True
)
ACCESS_REVIEWS: Final = Resource(
    "authorization.k8s.io",
    "v1",
    "selfsubjectaccessreviews",
    "SelfSubjectAccessReview",
    namespaced=False,
)

# Where the API server does not know these, there are none.
CUSTOM: Final = (CLUSTER_POLICIES, CC_RUNTIMES)
# What a snapshot holds, in the order in which it is written.
READS: Final = (
    NODES,
    PODS,
    DAEMON_SETS,
    DEPLOYMENTS,
    JOBS,
    RUNTIME_CLASSES,
    NAMESPACES,
    CRDS,
    *CUSTOM,
    EVENTS,
)
