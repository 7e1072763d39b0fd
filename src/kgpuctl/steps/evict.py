"""Emptying a node's GPUs: through the eviction API, so that disruption budgets are respected."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from kgpuctl.cluster.failures import ConflictError, NotFoundError, TooManyRequestsError
from kgpuctl.cluster.resources import PODS
from kgpuctl.errors import StepError
from kgpuctl.journal import Entry, Told
from kgpuctl.names import DEPLOY_PREFIX
from kgpuctl.steps.changing import Changing, StoppedError
from kgpuctl.steps.holders import Holder, holders_on
from kgpuctl.steps.marks import MarkedNode
from kgpuctl.steps.step import few

_BUDGET: Final = (
    "Let the budget allow one more pod to be away (more replicas, ready elsewhere), or give it "
    "more time with --timeout."
)
_ENDING: Final = "Look why these pods do not end (`kubectl describe pod`), then run it again."
_SHORTEST: Final = 0.1  # between two looks; each further one doubles it
_LONGEST: Final = 1.0
_TAKEN_AWAY: Final = 60.0  # seconds in which the GPU Operator takes its device plugin off a node


def drain(changing: Changing, node: str) -> tuple[Holder, ...]:
    """Evict the pods that hold GPUs of a node and wait until they are gone; return which they were.

    A budget that forbids it is asked again until the time is over.
    """
    evicted: dict[str, Holder] = {}
    for pause in _pauses():
        left = holders_on(changing.cluster, node)
        if not left:
            return tuple(evicted.values())
        kept = _evict_all(changing, left, evicted)
        waiting = kept or f"the end of {few([str(pod) for pod in left], 3)}"
        changing.say(f"{node}: waiting for {waiting}")
        changing.stop.wait(pause)
        with suppress(StoppedError):
            changing.check()
        if changing.stop:
            raise StepError(
                f"{changing.stop.reason}, and it still waited for {waiting}",
                remedy=_BUDGET if kept else _ENDING,
            )
    raise AssertionError("the pauses never end")


def _pauses() -> Iterator[float]:
    """Yield the seconds to wait, again and again."""
    pause = _SHORTEST
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST)


def _evict_all(changing: Changing, left: tuple[Holder, ...], evicted: dict[str, Holder]) -> str:
    """Ask for the eviction of each pod once; return what keeps the first that is kept."""
    kept = ""
    for pod in left:
        if pod.uid in evicted:
            continue
        if pod.obstacle:
            raise StepError(
                f"{pod} {pod.obstacle}",
                remedy="End it yourself, then run it again: eviction does not help with it.",
            )
        changing.check()
        try:
            if not pod.is_ending:
                _evict(changing, pod)
            evicted[pod.uid] = pod
        except TooManyRequestsError as error:
            budget = "; ".join(error.causes) or error.message
            kept = kept or f"{pod}: {budget.rstrip('.')}"
    return kept


def _evict(changing: Changing, pod: Holder) -> None:
    """Ask for one eviction; a pod that is gone, or is another one by now, is well."""
    entry = Entry(
        "step.evict-pod",
        f"pod/{pod.namespace}/{pod.name}",
        Told.BEGUN,
        {"node": pod.node, "uid": pod.uid},
    )
    changing.note(entry)
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod.name, "namespace": pod.namespace},
        "deleteOptions": {"preconditions": {"uid": pod.uid}},
    }
    path = f"{PODS.path(pod.name, pod.namespace)}/eviction"
    try:
        changing.cluster.send("POST", path, body, safe_to_repeat=True)
    except (NotFoundError, ConflictError):
        pass
    except TooManyRequestsError as error:
        changing.note(entry._replace(result=Told.FAILED, message=error.message))
        raise
    changing.note(entry._replace(result=Told.DONE))


def settle(changing: Changing, before: MarkedNode, evicted: tuple[Holder, ...]) -> str:
    """Wait until the old device plugin is gone, or the evicted pods would come straight back.

    Only where the GPU Operator works on the node; returns what is still handed out after a while.
    """
    if not any(key.startswith(DEPLOY_PREFIX) for key in before.metadata.labels):
        return ""
    names = sorted({name for pod in evicted for name, _ in pod.holds})
    waited = 0.0
    for pause in _pauses():
        now = changing.node(before.name).status.allocatable
        offered = [name for name in names if str(now.get(name, 0)) != "0"]
        if not offered or waited >= _TAKEN_AWAY or changing.deadline.is_over:
            return few(offered)
        changing.say(f"{before.name}: waiting until {few(offered)} is not handed out any more")
        if changing.stop.wait(pause):
            return few(offered)
        waited += pause
    raise AssertionError("the pauses never end")
