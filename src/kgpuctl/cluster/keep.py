"""What of a cluster's objects is kept: the same for a live cluster and for a recording.

A big cluster has ten times more pods than anyone asks about here; they are dropped page by page,
so memory goes with what matters. Text that programs wrote loses its credentials on the way.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from kgpuctl.cluster.custom import CustomResourceDefinition, Property, Schema
from kgpuctl.cluster.objects import (
    Condition,
    Container,
    ContainerState,
    ContainerStatus,
    Event,
    Node,
    OwnerReference,
    Pod,
    PodLog,
    PodSpec,
    PodStatus,
    Shape,
)
from kgpuctl.cluster.redact import redact
from kgpuctl.cluster.resources import (
    CLUSTER_POLICIES,
    CRDS,
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    Resource,
)
from kgpuctl.names import (
    CONTAINER_RUNTIME_CLASSES,
    CRD_GROUPS,
    GPU_RESOURCE_PREFIX,
    STACK_POD_MARKS,
)

_READY: Final = (Condition("Ready", "True"),)


@lru_cache(maxsize=4096)
def _one(owners: tuple[OwnerReference, ...]) -> tuple[OwnerReference, ...]:
    """Return the same value for equal ones: thousands of pods have the same owner."""
    return owners


@lru_cache(maxsize=1024)
def _named(names: tuple[str, ...]) -> tuple[Container, ...]:
    """Return containers of which only the names matter."""
    return tuple(map(Container, names))


def requests_gpu(container: Container) -> bool:
    """Whether a container asks for a resource of NVIDIA's."""
    asked = container.resources
    return any(name.startswith(GPU_RESOURCE_PREFIX) for name in (*asked.limits, *asked.requests))


def is_stack_pod(pod: Pod) -> bool:
    """Whether a pod belongs to what installs or runs Kata or the GPU Operator."""
    owner = pod.metadata.controller
    name = owner.name if owner else pod.metadata.name
    return any(mark in name for mark in STACK_POD_MARKS)


def _keep_pod(pod: Pod) -> Pod | None:
    spec = pod.spec
    in_vm = spec.runtime_class_name not in CONTAINER_RUNTIME_CLASSES
    uses_gpu = any(map(requests_gpu, (*spec.containers, *spec.init_containers)))
    stack = is_stack_pod(pod)
    if not (in_vm or uses_gpu or stack):
        return None
    meta = msgspec.structs.replace(
        pod.metadata, owner_references=_one(pod.metadata.owner_references)
    )
    if stack and not in_vm and _is_well(pod):
        slim = PodSpec(
            node_name=spec.node_name,
            containers=_named(tuple(item.name for item in spec.containers)),
        )
        status = PodStatus(phase=pod.status.phase, conditions=_READY)
        return Pod(meta, slim, status)
    return msgspec.structs.replace(pod, metadata=meta, status=_without_secrets(pod.status))


def _is_well(pod: Pod) -> bool:
    ready = any(item.type == "Ready" and item.status == "True" for item in pod.status.conditions)
    return ready and pod.metadata.deletion_timestamp is None and pod.status.phase == "Running"


def _without_secrets(status: PodStatus) -> PodStatus:
    replace = msgspec.structs.replace
    return replace(
        status,
        message=redact(status.message),
        conditions=_told(status.conditions),
        init_container_statuses=tuple(map(_clean_status, status.init_container_statuses)),
        container_statuses=tuple(map(_clean_status, status.container_statuses)),
    )


def _told(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    return tuple(
        msgspec.structs.replace(item, message=redact(item.message)) if item.message else item
        for item in conditions
    )


def _clean_status(status: ContainerStatus) -> ContainerStatus:
    return msgspec.structs.replace(
        status, state=_clean_state(status.state), last_state=_clean_state(status.last_state)
    )


def _clean_state(state: ContainerState) -> ContainerState:
    replace = msgspec.structs.replace
    if state.waiting and state.waiting.message:
        return replace(state, waiting=replace(state.waiting, message=redact(state.waiting.message)))
    if state.terminated and state.terminated.message:
        message = redact(state.terminated.message)
        return replace(state, terminated=replace(state.terminated, message=message))
    return state


def _keep_node(node: Node) -> Node:
    """Keep the conditions that say something is wrong, and whether the node is ready."""
    status = node.status
    told = tuple(
        item
        for item in status.conditions
        if item.type == "Ready" or (item.type.endswith("Pressure") and item.status == "True")
    )
    return msgspec.structs.replace(
        node,
        status=msgspec.structs.replace(
            status,
            conditions=tuple(
                Condition(item.type, item.status, item.reason, redact(item.message))
                if item.status != "True" or item.type != "Ready"
                else Condition(item.type, item.status)
                for item in told
            ),
        ),
    )


def _keep_event(event: Event) -> Event | None:
    return None if event.type == "Normal" else _clean_event(event)


def _clean_event(event: Event) -> Event:
    return msgspec.structs.replace(event, message=redact(event.message))


def _keep_crd(crd: CustomResourceDefinition) -> Shape | None:
    """Keep our CRDs, with the names of the fields that older charts do not know."""
    if crd.spec.group not in CRD_GROUPS:
        return None
    versions = tuple(
        msgspec.structs.replace(version, schema=_cut(version.schema))
        for version in crd.spec.versions
    )
    spec = msgspec.structs.replace(crd.spec, versions=versions)
    return _keep_told(msgspec.structs.replace(crd, spec=spec))


def _cut(schema: Schema) -> Schema:
    spec = schema.open_api.properties.get("spec")
    sandbox = spec.properties.get("sandboxWorkloads") if spec else None
    if sandbox is None:
        return Schema()
    names = {name: Property() for name in sandbox.properties}
    inner = Property({"sandboxWorkloads": Property(names)})
    return Schema(Property({"spec": inner}))


def keep_any_event(event: Event) -> Event:
    """Keep an event for people to read, also one that warns of nothing."""
    return _clean_event(event)


def keep_log(log: PodLog) -> PodLog:
    """Return a log without credentials."""
    return msgspec.structs.replace(log, text=redact(log.text))


def _keep_told(item: Any) -> Shape:  # noqa: ANN401
    """Keep an object whose status an operator or a controller tells in words."""
    status = item.status
    if not status.conditions:
        return item  # type: ignore[no-any-return]
    status = msgspec.structs.replace(status, conditions=_told(status.conditions))
    return msgspec.structs.replace(item, status=status)  # type: ignore[no-any-return]


_KEEPERS: Final[Mapping[Resource, Callable[[Any], Shape | None]]] = {
    NODES: _keep_node,
    PODS: _keep_pod,
    EVENTS: _keep_event,
    CRDS: _keep_crd,
    CLUSTER_POLICIES: _keep_told,
    DEPLOYMENTS: _keep_told,
    JOBS: _keep_told,
    NAMESPACES: _keep_told,
}


def _as_it_is(item: Shape) -> Shape:
    return item


def keeper(resource: Resource) -> Callable[[Any], Shape | None]:
    """Return what is done with each object of a kind: it is kept, cut down, or dropped (None)."""
    keep: Callable[[Any], Shape | None] = _KEEPERS.get(resource, _as_it_is)

    def kept(item: Any) -> Shape | None:  # noqa: ANN401  # each kind has its own type
        found = keep(item)
        return None if found is None else _without_version(found)

    return kept


def _without_version(item: Any) -> Shape:  # noqa: ANN401
    """Leave out the resourceVersion, which changes with every heartbeat and decides nothing."""
    if not item.metadata.resource_version:
        return item  # type: ignore[no-any-return]
    metadata = msgspec.structs.replace(item.metadata, resource_version="")
    return msgspec.structs.replace(item, metadata=metadata)  # type: ignore[no-any-return]
