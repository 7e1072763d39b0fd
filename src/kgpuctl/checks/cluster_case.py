"""What the checks of a cluster are asked about: its snapshot, and what it is judged for."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from kgpuctl.catalog import Catalog, Product, TakesKataBy, parse_version
from kgpuctl.checks import recognise
from kgpuctl.checks.check import known
from kgpuctl.checks.recognise import KataInstaller, Release
from kgpuctl.cluster.custom import ClusterPolicy
from kgpuctl.cluster.gpus import is_gpu_node, is_over
from kgpuctl.cluster.objects import DaemonSet, Event, Node, Pod, PodLog, RuntimeClass
from kgpuctl.cluster.resources import Call
from kgpuctl.cluster.snapshot import ClusterSnapshot
from kgpuctl.explanations import Clue, Explanations, selector_clues
from kgpuctl.names import WORKLOAD_LABEL, Stack, Tee, Workload
from kgpuctl.unread import Fact, Unread

WORKLOADS: Final = frozenset(item.value for item in Workload)


@dataclass(frozen=True)  # without slots: what is asked for each node is worked out once
class ClusterCase:
    """One cluster, judged for one purpose. `nodes` are the targets that were named."""

    cluster: ClusterSnapshot
    catalog: Catalog
    explanations: Explanations
    now: dt.datetime
    confidential: Tee | None = None
    nodes: tuple[str, ...] = ()
    stack: Stack | None = None
    rights: Fact[Mapping[Call, bool]] | None = None  # None: a recording, which has no user

    @cached_property
    def operator(self) -> Release | None:
        """Return the GPU Operator."""
        return next(iter(recognise.gpu_operators(self.cluster)), None)

    @cached_property
    def policy(self) -> ClusterPolicy | None:
        """Return the ClusterPolicy that counts."""
        return next(iter(recognise.policies(self.cluster)), None)

    @cached_property
    def installers(self) -> tuple[KataInstaller, ...]:
        """Return what brings Kata onto the nodes."""
        return recognise.kata_installers(self.cluster)

    @cached_property
    def installer(self) -> KataInstaller | None:
        """Return what brings Kata onto the nodes, where that is one thing."""
        return self.installers[0] if self.installers else None

    @cached_property
    def takes_kata_by(self) -> TakesKataBy | None:
        """Say how this GPU Operator takes Kata; None where there is no operator."""
        if self.operator is None:
            return None
        entry = self.catalog.gpu_operator(self.operator.version).entry
        if entry is not None:
            return entry.takes_kata_by
        numbers = parse_version(self.operator.version)
        entries = self.catalog.entries[Product.GPU_OPERATOR]
        older = [item for item in entries if numbers and item.numbers <= numbers]
        if older:
            return older[-1].takes_kata_by
        has_mode = self.policy is not None and self.policy.spec.sandbox_workloads.mode is not None
        return TakesKataBy.MODE_KATA if has_mode else TakesKataBy.KATA_MANAGER

    @cached_property
    def gpu_classes(self) -> tuple[RuntimeClass, ...]:
        """Return the RuntimeClasses for VMs with GPUs that are asked about."""
        return recognise.gpu_classes(self.cluster, self.confidential)

    @cached_property
    def gpu_nodes(self) -> tuple[Node, ...]:
        """Return the nodes that have NVIDIA GPUs."""
        return tuple(node for node in known(self.cluster.nodes) if is_gpu_node(node))

    @cached_property
    def targets(self) -> Mapping[str, Node]:
        """Return the nodes whose GPUs are to go into VMs, by name."""
        return {
            node.metadata.name: node
            for node in known(self.cluster.nodes)
            if (not self.nodes or node.metadata.name in self.nodes) and self._is_target(node)
        }

    def _is_target(self, node: Node) -> bool:
        wanted = node.metadata.labels.get(WORKLOAD_LABEL)
        if wanted in WORKLOADS:
            return wanted == Workload.VM_PASSTHROUGH
        return self._by_default and is_gpu_node(node)

    @cached_property
    def _by_default(self) -> bool:
        policies = self.cluster.cluster_policies
        if isinstance(policies, Unread) or self.policy is None:
            return False
        return self.policy.spec.sandbox_workloads.default_workload == Workload.VM_PASSTHROUGH

    def lacking(self, wanted: Mapping[str, str]) -> tuple[Clue, ...]:
        """Return a clue for each label of a selector that no target has; pods share selectors."""
        key = tuple(sorted(wanted.items()))
        if key not in self._clues:
            labels = [node.metadata.labels for node in self.targets.values()]
            self._clues[key] = selector_clues(wanted, labels)
        return self._clues[key]

    @cached_property
    def _clues(self) -> dict[tuple[tuple[str, str], ...], tuple[Clue, ...]]:
        return {}

    def each_target(self) -> Iterator[tuple[str, Node]]:
        """Yield the targets with their names, in the order of the names."""
        yield from self._targets_in_order

    @cached_property
    def _targets_in_order(self) -> tuple[tuple[str, Node], ...]:
        return tuple(sorted(self.targets.items()))

    @cached_property
    def daemon_sets(self) -> Mapping[str, DaemonSet]:
        """Return the DaemonSets of the operator's namespace by name; others by namespace/name."""
        home = self.operator.namespace if self.operator else None
        return {
            item.metadata.name if item.metadata.namespace == home else item.metadata.full_name: item
            for item in known(self.cluster.daemon_sets)
        }

    @cached_property
    def pods_of(self) -> Mapping[str, tuple[Pod, ...]]:
        """Return the pods of each owner, by the owner's namespace/name."""
        found: dict[str, list[Pod]] = {}
        for pod in known(self.cluster.pods):
            owner = pod.metadata.controller
            if owner:
                found.setdefault(f"{pod.metadata.namespace}/{owner.name}", []).append(pod)
        return {key: tuple(pods) for key, pods in found.items()}

    @cached_property
    def pods_on(self) -> Mapping[str, tuple[Pod, ...]]:
        """Return the pods on each node that have not ended."""
        found: dict[str, list[Pod]] = {}
        for pod in known(self.cluster.pods):
            if pod.spec.node_name and not is_over(pod):
                found.setdefault(pod.spec.node_name, []).append(pod)
        return {key: tuple(pods) for key, pods in found.items()}

    @cached_property
    def events_about(self) -> Mapping[str, tuple[Event, ...]]:
        """Return the warnings about each object, by kind/namespace/name, the newest first."""
        if isinstance(self.cluster.events, Unread):
            return {}
        found: dict[str, list[Event]] = {}
        for event in self.cluster.events:
            about = event.involved_object
            found.setdefault(f"{about.kind}/{about.namespace}/{about.name}", []).append(event)
        return {
            key: tuple(sorted(events, key=lambda event: event.time, reverse=True))
            for key, events in found.items()
        }

    @cached_property
    def logs_of(self) -> Mapping[str, tuple[PodLog, ...]]:
        """Return the logs of each pod, by namespace/name."""
        if isinstance(self.cluster.logs, Unread):
            return {}
        found: dict[str, list[PodLog]] = {}
        for log in self.cluster.logs:
            found.setdefault(log.metadata.full_name, []).append(log)
        return {key: tuple(logs) for key, logs in found.items()}

    def age(self, time: str | None) -> dt.timedelta:
        """Return how long ago something was, as of the snapshot; nothing where it is not told."""
        if not time:
            return dt.timedelta()
        try:
            then = dt.datetime.fromisoformat(time)
        except ValueError:
            return dt.timedelta()
        if then.tzinfo is None:
            then = then.replace(tzinfo=dt.UTC)
        return max(self.now - then, dt.timedelta())
