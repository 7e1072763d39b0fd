"""Reading a live cluster: every list whole or not at all, side by side."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

import msgspec

from kgpuctl.cluster.deadline import side_by_side
from kgpuctl.cluster.failures import ClusterError, ForbiddenError, NotFoundError
from kgpuctl.cluster.keep import is_stack_pod, keep_any_event, keep_log, keeper
from kgpuctl.cluster.kube import KubeCluster
from kgpuctl.cluster.objects import (
    ContainerStatus,
    KubeletConfig,
    Node,
    Pod,
    PodLog,
    PodMetadata,
    Shape,
)
from kgpuctl.cluster.resources import CUSTOM, EVENTS, NODES, PODS, READS, Call, Resource
from kgpuctl.cluster.snapshot import LISTS, ClusterSnapshot, ClusterSource, Listed, SourceKind
from kgpuctl.names import KATA_MANAGER
from kgpuctl.unread import Fact, Reason, Unread

T = TypeVar("T")

AT_ONCE: Final = 6
PAGE: Final = 500
TAIL: Final = 200  # lines of a log
LOGS: Final = 40  # of broken containers; more say the same
ALL_LOGS: Final = 400  # with --logs
_NO_ANSWER: Final = 0
_BAD_REQUEST: Final = 400  # there is no log: not started yet, or no container before it

# What reading asks of the API server, for `kgpuctl rbac`.
LIST_CALLS: Final = tuple(Call("list", resource) for resource in READS)
WATCH_CALLS: Final = tuple(Call("watch", resource) for resource in READS)
LOG_CALLS: Final = (Call("get", PODS, "log"),)
KUBELET_CALLS: Final = (Call("get", NODES, "proxy"),)


@dataclass(frozen=True, slots=True)
class Reading:
    """How much to read beside the lists."""

    logs: bool = True  # of broken operands, and of kata-manager, which says when it is done
    all_logs: bool = False
    kubelets: Callable[[ClusterSnapshot], Iterable[str]] | None = None  # of these nodes


def read_cluster(cluster: KubeCluster, how: Reading) -> ClusterSnapshot:
    """Read all that the checks look at. What is forbidden is Unread; any other failure ends it."""
    jobs = [partial(read_list, cluster, listed, whole=how.all_logs) for listed in LISTS]
    found = side_by_side(jobs, AT_ONCE)
    facts = {listed.name: fact for listed, fact in zip(LISTS, found, strict=True)}
    snapshot = ClusterSnapshot(_source(cluster), _version(cluster), **facts)  # type: ignore[arg-type]  # each name has its own type
    if how.logs or how.all_logs:
        wanted = _all_logs(snapshot) if how.all_logs else _telling_logs(snapshot)
        snapshot = replace(snapshot, logs=_read_logs(cluster, wanted))
    if how.kubelets is not None:
        names = tuple(how.kubelets(snapshot))
        configs = side_by_side([partial(_kubelet, cluster, name) for name in names], AT_ONCE)
        snapshot = replace(snapshot, kubelets=dict(zip(names, configs, strict=True)))
    return snapshot


def read_cluster_with(
    cluster: KubeCluster,
    facts: Mapping[str, Fact[tuple[Shape, ...]]],
    last: ClusterSnapshot | None,
    logs_every: dt.timedelta,
) -> ClusterSnapshot:
    """Return a snapshot of lists that are at hand; logs are read again only now and then."""
    version = last.version if last else _version(cluster)
    fresh = ClusterSnapshot(_source(cluster), version, **facts)  # type: ignore[arg-type]  # each name has its own type
    if last and _when(fresh) - _when(last) < logs_every:
        return replace(fresh, logs=last.logs, source=last.source)
    return replace(fresh, logs=_read_logs(cluster, _telling_logs(fresh)))


def _when(snapshot: ClusterSnapshot) -> dt.datetime:
    return dt.datetime.fromisoformat(snapshot.source.time)


def _source(cluster: KubeCluster) -> ClusterSource:
    identity = cluster.identity
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    context = identity.context
    return ClusterSource(SourceKind.LIVE, context, context, identity.server, identity.user, now)


def _version(cluster: KubeCluster) -> Fact[str]:
    try:
        return cluster.version().git_version
    except ForbiddenError as error:
        return forbidden("/version", error)


def fields_of(resource: Resource) -> str:
    """Return the field selector that leaves out what nobody looks at."""
    return "type=Warning" if resource is EVENTS else ""


def read_list(
    cluster: KubeCluster, listed: Listed, *, whole: bool = False
) -> Fact[tuple[Shape, ...]]:
    """Read one list; a kind that the server does not know has no objects. `whole`: all events."""
    resource = listed.resource
    keep, fields = keeper(resource), fields_of(resource)
    if whole and resource is EVENTS:
        keep, fields = keep_any_event, ""
    try:
        return cluster.list(resource, listed.shape, keep, fields=fields, limit=PAGE).items
    except ForbiddenError as error:
        return forbidden(resource.title, error)
    except NotFoundError:
        if resource in CUSTOM:
            return ()
        raise


def forbidden(what: str, error: ForbiddenError) -> Unread:
    """Return the fact that something may not be read, and how to be allowed to."""
    return Unread(
        what,
        Reason.NOT_PERMITTED,
        f"you may not {error.verb} {what}",
        "Ask for the rights: `kgpuctl rbac --command verify` prints them as a manifest.",
    )


Wanted = tuple[Pod, str, bool]  # a pod, one of its containers, and whether the one before it


def _telling_logs(snapshot: ClusterSnapshot) -> tuple[Wanted, ...]:
    """Return the logs that decide something: of what is broken, and of kata-manager."""
    broken = [
        (pod, status.name, status.state.waiting is not None)
        for pod in _pods(snapshot)
        for status in _statuses(pod)
        if _is_broken(status)
    ]
    silent = {node.metadata.name for node in _nodes(snapshot) if not node.status.runtime_handlers}
    managers = [
        (pod, KATA_MANAGER, False)
        for pod in _pods(snapshot)
        if (owner := pod.metadata.controller) is not None
        and owner.name == KATA_MANAGER
        and pod.spec.node_name in silent
        and pod.status.phase == "Running"
    ]
    return (*broken[:LOGS], *managers)


def _all_logs(snapshot: ClusterSnapshot) -> tuple[Wanted, ...]:
    """Return the logs of the stack's pods, the broken ones first."""
    telling = _telling_logs(snapshot)
    seen = {(pod.metadata.uid, container, before) for pod, container, before in telling}
    rest = [
        (pod, container.name, before)
        for pod in _pods(snapshot)
        if is_stack_pod(pod) and pod.spec.node_name
        for container in pod.spec.containers
        for before in (False, True)
        if (pod.metadata.uid, container.name, before) not in seen
    ]
    return (*telling, *rest)[:ALL_LOGS]


def _pods(snapshot: ClusterSnapshot) -> tuple[Pod, ...]:
    return () if isinstance(snapshot.pods, Unread) else snapshot.pods


def _nodes(snapshot: ClusterSnapshot) -> tuple[Node, ...]:
    return () if isinstance(snapshot.nodes, Unread) else snapshot.nodes


def _statuses(pod: Pod) -> Iterator[ContainerStatus]:
    yield from pod.status.init_container_statuses
    yield from pod.status.container_statuses


def _is_broken(status: ContainerStatus) -> bool:
    state, before = status.state, status.last_state
    if state.terminated is not None:
        return state.terminated.exit_code != 0
    return state.waiting is not None and before.terminated is not None


def _read_logs(cluster: KubeCluster, wanted: Iterable[Wanted]) -> Fact[tuple[PodLog, ...]]:
    try:
        found = side_by_side([partial(_log, cluster, *item) for item in wanted], AT_ONCE)
    except ForbiddenError as error:
        return forbidden("pods/log", error)
    return tuple(log for log in found if log is not None)


def _log(cluster: KubeCluster, pod: Pod, container: str, before: bool) -> PodLog | None:  # noqa: FBT001  # the parts of Wanted
    meta = pod.metadata
    about = PodMetadata(name=meta.name, namespace=meta.namespace)
    try:
        text = cluster.logs(meta.namespace, meta.name, container, previous=before, tail=TAIL)
    except NotFoundError:
        return None
    except ForbiddenError:
        raise
    except ClusterError as error:
        if error.status == _BAD_REQUEST:
            return None
        # Its kubelet or its node does not answer: one of them must not hide how the others are.
        if error.status >= 500 or error.status == _NO_ANSWER:  # noqa: PLR2004
            return PodLog(about, container, before, unread=error.message)
        raise
    return keep_log(PodLog(about, container, before, text.decode(errors="replace")))


def _kubelet(cluster: KubeCluster, node: str) -> Fact[KubeletConfig]:
    path = f"{NODES.path(node)}/proxy/configz"
    try:
        config = cluster.read(path, KubeletConfig)
    except ForbiddenError as error:
        return forbidden("nodes/proxy", error)
    except ClusterError as error:
        return Unread(
            f"the kubelet of {node}",
            Reason.UNUSABLE,
            error.message,
            "See that the node is Ready and that the API server reaches its kubelet.",
        )
    return msgspec.structs.replace(config, metadata=PodMetadata(name=node))


def read_rights(cluster: KubeCluster, calls: Iterable[Call]) -> Fact[Mapping[Call, bool]]:
    """Ask for each call whether this user may make it."""
    asked = tuple(calls)
    try:
        allowed = side_by_side([partial(cluster.may, call) for call in asked], AT_ONCE)
        return dict(zip(asked, allowed, strict=True))
    except ForbiddenError as error:
        return forbidden("selfsubjectaccessreviews.authorization.k8s.io", error)
