"""Runs that are cut, refused, raced or stopped; and that the next run completes them."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgpuctl.errors import StepError
from kgpuctl.journal import Entry, Told
from kgpuctl.names import WORKLOAD_LABEL, Workload
from kgpuctl.report import Status
from kgpuctl.steps.outcome import INTERRUPTED, InterruptedRunError, conclude
from steps.doing import Records, Run, label, restore
from steps.store import NODES, Answer, Store, merged, node, pod, refused

STATES = st.sampled_from([None, "container", "kata", "vm-passthrough"])


class KilledError(BaseException):
    """The process is gone: nothing that it still wanted to do happens."""


def killing(at: int, *, after: bool) -> Callable[[str, str], Answer | None]:
    """Return what kills at the so-many-th request, before or after the server has acted."""
    count = 0
    lock = threading.Lock()

    def before(method: str, _: str) -> Answer | None:
        nonlocal count
        with lock:
            count += 1
            if count == at and after and method == "PATCH":
                return None  # it arrives; its answer does not
            if count >= at:
                raise KilledError
        return None

    return before


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    states=st.lists(STATES, min_size=1, max_size=12),
    kills=st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=4),
    busy=st.booleans(),
)
def test_any_crashes_and_reruns_end_like_one_clean_run(
    states: list[str | None], kills: list[tuple[int, bool]], *, busy: bool
) -> None:
    def make() -> Store:
        nodes = (
            node(f"gpu-{number}", {} if state is None else {WORKLOAD_LABEL: state})
            for number, state in enumerate(states)
        )
        return Store().add(*nodes, *([pod("p", "gpu-0")] if busy else []))

    clean, rough = make(), make()
    before = clean.bare()
    run = Run(clean)
    run.apply(run.plan(evict=True))

    named: set[str] = set()  # by the journals of all runs together
    for at, after in kills:
        rough.before = killing(at, after=after)
        crashed = Run(rough)
        with suppress(KilledError):
            crashed.apply(crashed.plan(evict=True))
        named |= {entry.object for entry in crashed.records.entries}
        changed = {
            f"node/{path.rpartition('/')[2]}"
            for path, now in rough.bare().items()
            if now != before[path]
        }
        assert changed <= named
    rough.before = lambda _method, _path: None
    last = Run(rough)
    last.apply(last.plan(evict=True))

    assert rough.bare() == clean.bare()
    restore(rough)
    assert rough.bare() == before


@pytest.mark.parametrize("tries", [1, 3])
def test_a_node_that_others_write_meanwhile_is_read_again(tries: int) -> None:
    store = Store().add(node("gpu-1"))
    planned = (run := Run(store)).plan()
    left = tries

    def before(method: str, path: str) -> Answer | None:
        nonlocal left
        if method == "PATCH" and left:
            left -= 1
            store.objects[path] = store._versioned(  # noqa: SLF001  # as another client's write
                merged(store.objects[path], {"metadata": {"labels": {"nfd": str(left)}}})
            )
        return None

    store.before = before
    results = run.apply(planned)

    assert results["gpu-1"].status is Status.PASSED
    assert store.labels("gpu-1")[WORKLOAD_LABEL] == "vm-passthrough"
    assert store.labels("gpu-1")["nfd"] == "0"


def test_what_is_remembered_is_what_was_really_replaced() -> None:
    store = Store().add(node("gpu-1"))
    planned = (run := Run(store)).plan()
    store.objects[f"{NODES}/gpu-1"] = store._versioned(  # noqa: SLF001
        merged(store.node("gpu-1"), {"metadata": {"labels": {WORKLOAD_LABEL: "container"}}})
    )

    run.apply(planned)
    restore(store)

    assert store.labels("gpu-1")[WORKLOAD_LABEL] == "container"
    assert [entry.before for entry in run.records.entries if entry.result is Told.BEGUN] == [
        {WORKLOAD_LABEL: None},
        {WORKLOAD_LABEL: "container"},
    ]


def test_a_patch_that_arrived_although_its_answer_did_not_is_no_failure() -> None:
    store = Store().add(node("gpu-1"))
    planned = (run := Run(store)).plan()
    lost = True

    def before(method: str, path: str) -> Answer | None:
        nonlocal lost
        if method == "PATCH" and lost:
            lost = False
            metadata = planned.jobs[0].change.metadata
            store.objects[path] = store._versioned(  # noqa: SLF001
                merged(store.objects[path], {"metadata": dict(metadata)})
            )
        return None

    store.before = before

    assert run.apply(planned)["gpu-1"].status is Status.PASSED
    restore(store)
    assert WORKLOAD_LABEL not in store.labels("gpu-1")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refused(403, "Forbidden", "gpu-2 is not yours"), "gpu-2 is not yours"),
        (refused(404, "NotFound", "gone"), "the node is not there any more"),
        (refused(500, "InternalError", "etcd is away"), "etcd is away"),
        (refused(422, "Invalid", "a webhook says no"), "a webhook says no"),
    ],
)
def test_a_partial_failure_names_what_was_done_and_what_not(answer: Answer, said: str) -> None:
    store = Store().add(node("gpu-1"), node("gpu-2"), node("gpu-3"))
    planned = (run := Run(store)).plan()
    store.before = lambda method, path: (
        answer if method == "PATCH" and path.endswith("gpu-2") else None
    )

    results = run.apply(planned)
    error = conclude(planned, tuple(results.values()), run.stop.reason)

    assert [result.status for result in results.values()] == [
        Status.PASSED,
        Status.FAILED,
        Status.PASSED,
    ]
    assert said in results["gpu-2"].message
    assert results["gpu-2"].remedy_text
    assert isinstance(error, StepError)
    assert error.message == "Only 2 of 3 nodes were labelled; not gpu-2."
    assert run.records.entries[-1].result is not Told.BEGUN
    store.before = lambda _method, _path: None
    assert list(label(store)) == ["gpu-2"]
    assert label(store) == {}


def test_many_failures_in_a_row_end_the_run() -> None:
    store = Store().add(*(node(f"gpu-{number:03}") for number in range(200)))
    planned = (run := Run(store)).plan()

    def before(*_: str) -> Answer:
        time.sleep(0.01)
        return refused(503, "Unavailable", "away")

    store.before = before
    results = run.apply(planned)

    assert all(result.status is Status.FAILED for result in results.values())
    assert sum(asked.verb == "patch" for asked in store.asked) < 50
    assert results["gpu-199"].message == "not begun: 16 nodes failed one after the other"
    error = conclude(planned, tuple(results.values()), run.stop.reason)
    assert error is not None
    assert "It was stopped: 16 nodes failed one after the other." in error.message


def at_patch(count: int, do: Callable[[], None]) -> Callable[[str, str], Answer | None]:
    """Return what does something at the so-many-th patch, each of which takes its time."""
    seen: list[str] = []

    def before(method: str, path: str) -> Answer | None:
        if method == "PATCH":
            time.sleep(0.005)
            seen.append(path)
            if len(seen) == count:
                do()
        return None

    return before


def test_ctrl_c_ends_what_was_begun_and_says_what_was_not() -> None:
    store = Store().add(*(node(f"gpu-{number:03}") for number in range(100)))
    planned = (run := Run(store)).plan()
    store.before = at_patch(10, lambda: run.stop.because(INTERRUPTED))

    results = run.apply(planned)
    error = conclude(planned, tuple(results.values()), run.stop.reason)

    done = {name for name, result in results.items() if result.status is Status.PASSED}
    assert 3 <= len(done) < 30
    assert done == {
        path.rpartition("/")[2]
        for path, one in store.bare().items()
        if WORKLOAD_LABEL in one["metadata"]["labels"]
    }
    assert isinstance(error, InterruptedRunError)
    assert error.exit_code == 130
    assert error.message.startswith(f"Interrupted: {len(done)} of 100 nodes were labelled; not ")
    store.before = lambda _method, _path: None
    label(store)
    assert label(store) == {}


def test_a_lost_lease_ends_the_run() -> None:
    store = Store().add(*(node(f"gpu-{number:03}") for number in range(100)))
    planned = (run := Run(store)).plan()

    def lose() -> None:
        run.right.trouble = "the Lease was taken over by bob"

    store.before = at_patch(10, lose)
    results = run.apply(planned)

    assert sum(result.status is Status.PASSED for result in results.values()) < 40
    assert results["gpu-099"].message == "not begun: the Lease was taken over by bob"


def test_the_time_is_over_before_anything_is_begun() -> None:
    store = Store().add(node("gpu-1"))
    run = Run(store, seconds=0)
    before = store.bare()

    results = run.apply(run.plan())

    assert results["gpu-1"].message == "not begun: the 0 s of --timeout are over"
    assert store.bare() == before


class FullDisk(Records):
    """A journal that takes the first lines only."""

    def write(self, entries: object) -> None:
        if len(self.entries) > 20:
            raise StepError("The journal j could not be written: full.", remedy="Make room.")
        super().write(entries)  # type: ignore[arg-type]


def test_without_a_journal_nothing_more_is_begun() -> None:
    store = Store().add(*(node(f"gpu-{number:03}") for number in range(10)))
    run = Run(store, records=FullDisk([Entry("s", "o", Told.DONE)] * 21))

    results = run.apply(run.plan())

    assert {result.message for result in results.values()} == {
        "not begun: The journal j could not be written: full."
    }
    assert all(WORKLOAD_LABEL not in store.labels(name) for name in results)


def test_each_change_is_in_the_journal_before_it_is_made() -> None:
    store = Store().add(*(node(f"gpu-{number}") for number in range(300)))
    run = Run(store)
    planned = run.plan()
    unnamed: list[str] = []

    def before(method: str, path: str) -> Answer | None:
        begun = {entry.object for entry in run.records.entries}
        if method == "PATCH" and f"node/{path.rpartition('/')[2]}" not in begun:
            unnamed.append(path)
        return None

    store.before = before
    run.apply(planned)

    assert unnamed == []
    told: Mapping[Told, int] = {
        kind: sum(entry.result is kind for entry in run.records.entries) for kind in Told
    }
    assert told == {Told.BEGUN: 300, Told.DONE: 300, Told.FAILED: 0}


def test_not_more_than_eight_requests_at_once() -> None:
    store = Store().add(*(node(f"gpu-{number}") for number in range(60)))
    planned = (run := Run(store)).plan(Workload.CONTAINER)
    running, most = 0, 0
    lock = threading.Lock()
    meet = threading.Event()

    def before(*_: str) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        meet.wait(0.002)
        with lock:
            running -= 1

    store.before = before
    run.apply(planned)

    assert 2 <= most <= 8
