"""What is known about a cluster at one moment: values only, nothing is asked here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from kgpuctl.cluster.custom import CcRuntime, ClusterPolicy, CustomResourceDefinition
from kgpuctl.cluster.objects import (
    DaemonSet,
    Deployment,
    Event,
    Job,
    KubeletConfig,
    Namespace,
    Node,
    Pod,
    PodLog,
    RuntimeClass,
    Shape,
)
from kgpuctl.cluster.resources import (
    CC_RUNTIMES,
    CLUSTER_POLICIES,
    CRDS,
    DAEMON_SETS,
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    RUNTIME_CLASSES,
    Resource,
)
from kgpuctl.unread import Fact, Reason, Unread


class SourceKind(StrEnum):
    """Where a snapshot comes from."""

    LIVE = "live"
    RECORDING = "recording"


class ClusterSource(NamedTuple):
    """Where these facts come from, as whom they were read and when (ISO 8601, UTC).

    `name` is the kubeconfig context of a live cluster and the file of a recording, which tells its
    context and its time if kgpuctl made it.
    """

    kind: SourceKind
    name: str
    context: str = ""
    server: str = ""
    user: str = ""
    time: str = ""
    newest: str = ""  # moment that anything in a recording tells of


class Listed(NamedTuple):
    """A list of a snapshot: what is asked for, into which shape, and under which name."""

    resource: Resource
    shape: type[Shape]
    name: str


LISTS: Final = (
    Listed(NODES, Node, "nodes"),
    Listed(PODS, Pod, "pods"),
    Listed(DAEMON_SETS, DaemonSet, "daemon_sets"),
    Listed(DEPLOYMENTS, Deployment, "deployments"),
    Listed(JOBS, Job, "jobs"),
    Listed(RUNTIME_CLASSES, RuntimeClass, "runtime_classes"),
    Listed(NAMESPACES, Namespace, "namespaces"),
    Listed(CRDS, CustomResourceDefinition, "crds"),
    Listed(CLUSTER_POLICIES, ClusterPolicy, "cluster_policies"),
    Listed(CC_RUNTIMES, CcRuntime, "cc_runtimes"),
    Listed(EVENTS, Event, "events"),
)


def not_recorded(resource: Resource) -> Unread:
    """Return the fact that a file holds no object of a kind: whether there is one is not known."""
    return Unread(
        resource.title,
        Reason.NOT_RECORDED,
        f"the file holds no {resource.kind}, and does not say that there is none",
        "Record the cluster with `kgpuctl snapshot FILE`, or add this kind to `kubectl get`.",
    )


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """A cluster as far as the checks look at it.

    A list is what there is, or Unread with the reason; it is never half of what there is. `pods`
    holds only those that use GPUs, run under a RuntimeClass or belong to a stack; `events` only
    warnings.
    """

    source: ClusterSource
    version: Fact[str] = field(default=Unread("/version", Reason.NOT_RECORDED))
    nodes: Fact[tuple[Node, ...]] = field(default=not_recorded(NODES))
    pods: Fact[tuple[Pod, ...]] = field(default=not_recorded(PODS))
    daemon_sets: Fact[tuple[DaemonSet, ...]] = field(default=not_recorded(DAEMON_SETS))
    deployments: Fact[tuple[Deployment, ...]] = field(default=not_recorded(DEPLOYMENTS))
    jobs: Fact[tuple[Job, ...]] = field(default=not_recorded(JOBS))
    runtime_classes: Fact[tuple[RuntimeClass, ...]] = field(default=not_recorded(RUNTIME_CLASSES))
    namespaces: Fact[tuple[Namespace, ...]] = field(default=not_recorded(NAMESPACES))
    crds: Fact[tuple[CustomResourceDefinition, ...]] = field(default=not_recorded(CRDS))
    cluster_policies: Fact[tuple[ClusterPolicy, ...]] = field(
        default=not_recorded(CLUSTER_POLICIES)
    )
    cc_runtimes: Fact[tuple[CcRuntime, ...]] = field(default=not_recorded(CC_RUNTIMES))
    events: Fact[tuple[Event, ...]] = field(default=not_recorded(EVENTS))
    logs: Fact[tuple[PodLog, ...]] = ()
    kubelets: Mapping[str, Fact[KubeletConfig]] = field(default_factory=dict)

    @property
    def missed(self) -> tuple[str, ...]:
        """Say what could not be read."""
        facts = [self.version, *(getattr(self, listed.name) for listed in LISTS), self.logs]
        facts += self.kubelets.values()
        return tuple(str(fact) for fact in facts if isinstance(fact, Unread))
