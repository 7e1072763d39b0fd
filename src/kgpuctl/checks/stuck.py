"""Pods that do not come up: what they show of it, and what the table of explanations says."""

import datetime as dt
from collections.abc import Iterator
from typing import Final, NamedTuple

from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.cluster.objects import ContainerState, ContainerStatus, Event, Pod
from kgpuctl.explanations import Clue, ClueKind, Explanation
from kgpuctl.report import Remedy
from kgpuctl.unread import Unread

# A VM with many GPUs and much memory takes minutes to boot; nothing is said of it before that,
# unless it has said something itself.
PATIENCE: Final = dt.timedelta(minutes=10)
# Between making a pod and the first word about it nothing is wrong.
SETTLING: Final = dt.timedelta(seconds=60)
_ON_ITS_WAY: Final = frozenset({"ContainerCreating", "PodInitializing", ""})
_HELD_BACK: Final = "SchedulingGated"  # a queue lets it wait for its turn
_CRASH_LOOP: Final = "CrashLoopBackOff"
_NO_SANDBOX: Final = frozenset({"FailedCreatePodSandBox", "FailedCreatePodSandbox"})
_REFUSED: Final = "FailedCreate"
RECENT: Final = dt.timedelta(hours=1)  # as long as events stay; what is older, is over
_VAGUE: Final = frozenset({"crash-loop", "container-failed", "kata-manager-fails"})
LONGEST: Final = 300  # of a message that is quoted
_LAST_WORDS: Final = 160


class Trouble(NamedTuple):
    """What is wrong with a pod, in words, and the explanation if the table has one."""

    pod: Pod
    what: str
    explanation: Explanation | None
    last_words: str = ""

    @property
    def kind(self) -> str:
        """Return what is the same for all pods with this trouble: their names are in the words."""
        return self.explanation.id if self.explanation else self.what

    @property
    def is_vague(self) -> bool:
        """Whether all that is known is that a container ends."""
        return self.explanation is None or self.explanation.id in _VAGUE

    @property
    def heals(self) -> bool:
        """Whether it may go away by itself."""
        return self.explanation is not None and self.explanation.heals

    def message(self, case: ClusterCase) -> str:
        """Say what is seen, and what that means."""
        seen = self.what if len(self.what) <= LONGEST else f"{self.what[:LONGEST]}…"
        if self.last_words:
            seen = f"{seen}; its log ends with: {self.last_words}"
        if self.explanation is None:
            return seen
        return f"{seen.rstrip('.')}. {self.explanation.cause_for(**_places(case, self.pod))}"

    def remedy(self, case: ClusterCase) -> Remedy:
        """Say what to do about this pod."""
        if self.explanation is None:
            name, space = self.pod.metadata.name, self.pod.metadata.namespace
            log = f"kubectl -n {space} logs {name}"
            broken = _broken_container(self.pod)
            before = f" -c {broken.name} --previous" if broken and broken.restart_count else ""
            return Remedy(
                f"Look at it: `kubectl -n {space} describe pod {name}` and "
                f"`{log}{before or ' --all-containers'}`."
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
    explanation = case.explanations.explain(tuple(_clues(case, pod)))
    return Trouble(pod, what, explanation, _last_words(case, pod))


class Refusal(NamedTuple):
    """Why a workload's pods are not even made: the API server said so, in an event about it."""

    event: Event
    explanation: Explanation | None


def refusals(case: ClusterCase) -> Iterator[Refusal]:
    """Yield the newest of each workload whose pods are refused, unless it has got some since."""
    events = case.cluster.events
    if isinstance(events, Unread):
        return
    newest: dict[str, Event] = {}
    for event in events:
        if event.reason == _REFUSED and case.age(event.time) <= RECENT:
            about = event.involved_object
            key = f"{about.kind}/{about.namespace}/{about.name}"
            newest[key] = max(newest.get(key, event), event, key=lambda item: item.time)
    for event in newest.values():
        if not _has_pods_since(case, event):
            clue = Clue(ClueKind.EVENT, event.reason, event.message)
            yield Refusal(event, case.explanations.explain((clue,)))


def refusal_of(case: ClusterCase, kind: str, full_name: str) -> Refusal | None:
    """Return why the pods of one workload are refused; None where they are not."""
    return next(
        (
            item
            for item in refusals(case)
            if item.event.involved_object.kind == kind
            and f"{item.event.involved_object.namespace}/{item.event.involved_object.name}"
            == full_name
        ),
        None,
    )


def _has_pods_since(case: ClusterCase, event: Event) -> bool:
    if isinstance(case.cluster.pods, Unread):
        return False
    about = event.involved_object
    pods = case.pods_of.get(f"{about.namespace}/{about.name}", ())
    return any((pod.metadata.creation_timestamp or "") > event.time for pod in pods)


def _what(case: ClusterCase, pod: Pod) -> str | None:
    status = pod.status
    if _is_past_or_not_begun(pod):
        return None
    if status.phase == "Failed":
        return ": ".join(filter(None, (status.reason or "Failed", status.message or _ended(pod))))
    if blocked := _unschedulable(pod):
        return f"it is not scheduled: {blocked}"
    if broken := _broken_container(pod):
        return f"container {broken.name}: {_state(broken)}"
    ready = next((item for item in status.conditions if item.type == "Ready"), None)
    if ready is not None and ready.status == "True":
        return None
    since = ready.last_transition_time if ready else None
    return _so_far(case, pod, since or pod.metadata.creation_timestamp)


def _is_past_or_not_begun(pod: Pod) -> bool:
    status = pod.status
    ends = status.phase == "Succeeded" or pod.metadata.deletion_timestamp is not None
    return ends or any(item.reason == _HELD_BACK for item in status.conditions)


def _so_far(case: ClusterCase, pod: Pod, since: str | None) -> str | None:
    """Say what is known of a pod that is neither broken nor ready; None while that is normal."""
    event = _telling_event(case, pod)
    age = case.age(since)
    if event and age > SETTLING:
        return f"{event.reason}: {event.message}"
    return f"not ready for {int(age.total_seconds() // 60)} minutes" if age > PATIENCE else None


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
    if state.waiting is None:
        return _terminated(state)
    if state.waiting.reason == _CRASH_LOOP and before:  # the kubelet's message is about waiting
        return f"{_CRASH_LOOP}, {_terminated(status.last_state)}"
    said = ": ".join(filter(None, (state.waiting.reason, state.waiting.message)))
    return f"{said}, last exit code {before.exit_code}" if before else said


def _terminated(state: ContainerState) -> str:
    ended = state.terminated
    if ended is None:
        return ""
    told = f"{ended.reason or 'ended'} with exit code {ended.exit_code}"
    return f"{told}: {ended.message.strip()}" if ended.message.strip() else told


def has_started(pod: Pod) -> bool:
    """Whether a container of a pod has ever run: then there was a VM for it, too."""
    return any(
        item.state.running or item.state.terminated or item.last_state.terminated
        for item in _statuses(pod)
    )


def _last_words(case: ClusterCase, pod: Pod) -> str:
    broken = _broken_container(pod)
    if broken is None:
        return ""
    logs = case.logs_of.get(pod.metadata.full_name, ())
    text = "\n".join(log.text for log in logs if log.container == broken.name)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_LAST_WORDS] if lines else ""


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
        yield from case.lacking(pod.spec.node_selector)
    for condition in pod.status.conditions:
        if condition.status == "False" and condition.message:
            yield Clue(ClueKind.CONDITION, condition.reason, condition.message)
    started = has_started(pod)
    for event in events_of(case, pod):
        if not (started and event.reason in _NO_SANDBOX):  # that was before it started
            yield Clue(ClueKind.EVENT, event.reason, event.message)
    for log in case.logs_of.get(pod.metadata.full_name, ()):
        yield Clue(ClueKind.LOG, "", log.text, log.container)
