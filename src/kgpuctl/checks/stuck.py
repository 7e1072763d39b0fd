"""Pods that do not come up: what they show of it, and what the table of explanations says."""

import datetime as dt
from collections.abc import Iterator
from typing import Final, NamedTuple

from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.cluster.objects import ContainerState, ContainerStatus, Event, Pod
from kgpuctl.explanations import Clue, ClueKind, Explanation, selector_clues
from kgpuctl.report import Remedy

# A VM with many GPUs and much memory takes minutes to boot; nothing is said of it before that,
# unless it has said something itself.
PATIENCE: Final = dt.timedelta(minutes=10)
# Between making a pod and the first word about it nothing is wrong.
SETTLING: Final = dt.timedelta(seconds=60)
_ON_ITS_WAY: Final = frozenset({"ContainerCreating", "PodInitializing", ""})
LONGEST: Final = 300  # of a message that is quoted


class Trouble(NamedTuple):
    """What is wrong with a pod, in words, and the explanation if the table has one."""

    pod: Pod
    what: str
    explanation: Explanation | None

    @property
    def heals(self) -> bool:
        """Whether it may go away by itself."""
        return self.explanation is not None and self.explanation.heals

    def message(self, case: ClusterCase) -> str:
        """Say what is seen, and what that means."""
        seen = self.what if len(self.what) <= LONGEST else f"{self.what[:LONGEST]}…"
        if self.explanation is None:
            return seen
        return f"{seen}. {self.explanation.cause_for(**_places(case, self.pod))}"

    def remedy(self, case: ClusterCase) -> Remedy:
        """Say what to do about this pod."""
        if self.explanation is None:
            name, space = self.pod.metadata.name, self.pod.metadata.namespace
            return Remedy(
                f"Look at it: `kubectl -n {space} describe pod {name}` and "
                f"`kubectl -n {space} logs {name} --all-containers --previous`."
            )
        return Remedy(self.explanation.remedy_for(**_places(case, self.pod)))


def _places(case: ClusterCase, pod: Pod) -> dict[str, str]:
    resource = next((name for item in pod.spec.containers for name in item.resources.limits), "")
    status = _broken_container(pod)
    return {
        "node": pod.spec.node_name or "NODE",
        "pod": pod.metadata.name,
        "namespace": pod.metadata.namespace,
        "runtime_class": pod.spec.runtime_class_name or _any_class(case),
        "resource": next(
            (name for item in pod.spec.containers for name in item.resources.limits if "/" in name),
            resource or "nvidia.com/pgpu",
        ),
        "container": status.name if status else "CONTAINER",
    }


def _any_class(case: ClusterCase) -> str:
    return case.gpu_classes[0].metadata.name if case.gpu_classes else "RUNTIMECLASS"


def trouble(case: ClusterCase, pod: Pod) -> Trouble | None:
    """Return what is wrong with a pod; None where nothing is, or it is only on its way."""
    what = _what(case, pod)
    if what is None:
        return None
    return Trouble(pod, what, case.explanations.explain(tuple(_clues(case, pod))))


def _what(case: ClusterCase, pod: Pod) -> str | None:
    status = pod.status
    if status.phase == "Succeeded" or pod.metadata.deletion_timestamp is not None:
        return None
    if status.phase == "Failed":
        return ": ".join(filter(None, (status.reason or "Failed", status.message or _ended(pod))))
    if blocked := _unschedulable(pod):
        return f"it is not scheduled: {blocked}"
    if broken := _broken_container(pod):
        return f"container {broken.name}: {_state(broken)}"
    ready = any(item.type == "Ready" and item.status == "True" for item in status.conditions)
    return None if ready else _so_far(case, pod)


def _so_far(case: ClusterCase, pod: Pod) -> str | None:
    """Say what is known of a pod that is neither broken nor ready; None while that is normal."""
    event = _telling_event(case, pod)
    age = case.age(pod.metadata.creation_timestamp)
    if event and age > SETTLING:
        return f"{event.reason}: {event.message}"
    return f"not ready after {int(age.total_seconds() // 60)} minutes" if age > PATIENCE else None


def _unschedulable(pod: Pod) -> str:
    return next(
        (
            item.message or item.reason
            for item in pod.status.conditions
            if item.type == "PodScheduled" and item.status == "False"
        ),
        "",
    )


def _statuses(pod: Pod) -> tuple[ContainerStatus, ...]:
    return (*pod.status.init_container_statuses, *pod.status.container_statuses)


def _broken_container(pod: Pod) -> ContainerStatus | None:
    return next((item for item in _statuses(pod) if _is_broken(item)), None)


def _is_broken(status: ContainerStatus) -> bool:
    state = status.state
    if state.waiting is not None and state.waiting.reason not in _ON_ITS_WAY:
        return True
    return state.terminated is not None and state.terminated.exit_code != 0


def _state(status: ContainerStatus) -> str:
    state, before = status.state, status.last_state.terminated
    if state.waiting is not None:
        said = ": ".join(filter(None, (state.waiting.reason, state.waiting.message)))
        return f"{said}, last exit code {before.exit_code}" if before else said
    return _terminated(state)


def _terminated(state: ContainerState) -> str:
    ended = state.terminated
    if ended is None:
        return ""
    told = f"{ended.reason or 'ended'} with exit code {ended.exit_code}"
    return f"{told}: {ended.message.strip()}" if ended.message.strip() else told


def _ended(pod: Pod) -> str:
    return next(
        (
            f"container {item.name} {_terminated(item.state)}"
            for item in _statuses(pod)
            if item.state.terminated and item.state.terminated.exit_code
        ),
        "",
    )


def events_of(case: ClusterCase, pod: Pod) -> tuple[Event, ...]:
    """Return the warnings about this very pod, not about another of the same name before it."""
    events = case.events_about.get(f"Pod/{pod.metadata.full_name}", ())
    uid = pod.metadata.uid
    return tuple(
        event
        for event in events
        if not (uid and event.involved_object.uid) or event.involved_object.uid == uid
    )


def _telling_event(case: ClusterCase, pod: Pod) -> Event | None:
    return next((event for event in events_of(case, pod) if event.reason != "BackOff"), None)


def _states(container: str, state: ContainerState) -> Iterator[Clue]:
    waiting, ended = state.waiting, state.terminated
    if waiting is not None and waiting.reason not in _ON_ITS_WAY:
        yield Clue(ClueKind.STATE, waiting.reason, waiting.message, container)
    if ended is not None and ended.exit_code:
        text = f"exit code {ended.exit_code} {ended.message}".strip()
        yield Clue(ClueKind.STATE, ended.reason, text, container)


def _clues(case: ClusterCase, pod: Pod) -> Iterator[Clue]:
    """Yield all that a pod shows, the surest first."""
    for item in _statuses(pod):
        if not item.ready:
            yield from _states(item.name, item.state)
            yield from _states(item.name, item.last_state)
    if pod.status.reason or pod.status.message:
        yield Clue(ClueKind.CONDITION, pod.status.reason, pod.status.message)
    if _unschedulable(pod):
        labels = [node.metadata.labels for node in case.targets.values()]
        yield from selector_clues(pod.spec.node_selector, labels)
    for condition in pod.status.conditions:
        if condition.status == "False" and condition.message:
            yield Clue(ClueKind.CONDITION, condition.reason, condition.message)
    for event in events_of(case, pod):
        yield Clue(ClueKind.EVENT, event.reason, event.message)
    for log in case.logs_of.get(pod.metadata.full_name, ()):
        yield Clue(ClueKind.LOG, "", log.text, log.container)
