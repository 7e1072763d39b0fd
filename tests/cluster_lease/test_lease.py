"""Two administrators at once, crashed ones, and clocks that do not agree."""

import datetime as dt
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from kgpuctl.cluster.lease import HeldLease, Timing, acquire
from kgpuctl.cluster.lease_holder import Holder, is_gone
from kgpuctl.errors import StepError
from steps.fake_cluster import FakeCluster
from steps.store import LEASE, Answer, Store, refused

NOW = dt.datetime(2026, 11, 23, 15, 0, tzinfo=dt.UTC)
NEVER = 3600.0


@dataclass
class Clock:
    """Time that passes only by waiting; `meanwhile` happens during each wait."""

    passed: float = 0.0
    meanwhile: Callable[[], None] = lambda: None
    waits: list[float] = field(default_factory=list)

    def wait(self, seconds: float) -> None:
        self.passed += seconds
        self.waits.append(seconds)
        self.meanwhile()

    def timing(self, renew: float = NEVER) -> Timing:
        return Timing(
            renew=renew,
            wall=lambda: NOW + dt.timedelta(seconds=self.passed),
            steady=lambda: self.passed,
            wait=self.wait,
        )


def take(store: Store, clock: Clock | None = None) -> tuple[HeldLease, str]:
    acquired = acquire(FakeCluster(store), Holder.here("label-nodes"), (clock or Clock()).timing())
    return acquired.lease, acquired.told


def held_by(identity: str, renewed: dt.datetime | None, process: str = "") -> dict[str, Any]:
    spec = {"holderIdentity": identity, "leaseDurationSeconds": 60, "leaseTransitions": 4}
    spec["acquireTime"] = "2026-11-23T14:00:00.000000Z"
    if renewed:
        spec["renewTime"] = renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    notes = {"kgpuctl/command": "label-nodes"} | ({"kgpuctl/process": process} if process else {})
    return {
        "metadata": {"name": "kgpuctl", "resourceVersion": "7", "annotations": notes},
        "spec": spec,
    }


def at(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def spec_of(store: Store) -> dict[str, Any]:
    spec: dict[str, Any] = store.objects[LEASE]["spec"]
    return spec


def test_the_first_makes_it_and_gives_it_back() -> None:
    store = Store()

    lease, told = take(store)

    assert told == ""
    assert lease.trouble == ""
    spec = spec_of(store)
    user_host, _, process = spec["holderIdentity"].rpartition(":")
    assert "@" in user_host
    assert process.startswith(f"{os.getpid()}-")
    assert spec["leaseDurationSeconds"] == 60
    assert spec["renewTime"] == "2026-11-23T15:00:00.000000Z"
    notes = store.objects[LEASE]["metadata"]["annotations"]
    assert notes["kgpuctl/command"] == "label-nodes"
    assert notes["kgpuctl/started-at"] == "2026-11-23T15:00:00.000000Z"
    lease.release()
    assert spec_of(store)["holderIdentity"] == ""
    again, told = take(store)
    assert told == ""
    assert spec_of(store)["leaseTransitions"] == 1
    again.release()


def test_the_second_is_refused_with_who_where_since_and_until_when() -> None:
    store = Store(objects={LEASE: held_by("bob@ws-7:4711-ab12", at(-10))})

    with pytest.raises(StepError) as caught:
        take(store)

    assert caught.value.message == (
        "bob@ws-7 (process 4711) with `kgpuctl label-nodes` since 2026-11-23 14:00:00Z is changing "
        "this cluster: its Lease kube-system/kgpuctl runs until 2026-11-23 15:00:50Z. Nothing was "
        "changed."
    )
    assert spec_of(store)["holderIdentity"] == "bob@ws-7:4711-ab12"


@pytest.mark.parametrize("renewed", [at(-61), at(-86400), None])
def test_an_expired_one_is_taken_over_after_it_was_watched(renewed: dt.datetime | None) -> None:
    store = Store(objects={LEASE: held_by("bob@ws-7:4711-ab12", renewed)})
    clock = Clock()

    lease, told = take(store, clock)

    assert told.startswith("took over the expired Lease of bob@ws-7 (process 4711)")
    assert clock.passed >= 15
    assert spec_of(store)["leaseTransitions"] == 5
    lease.release()


def test_one_that_is_renewed_while_it_is_watched_is_left_whatever_the_clocks_say() -> None:
    store = Store(objects={LEASE: held_by("bob@ws-7:4711-ab12", at(-3600))})  # bob's clock is slow
    clock = Clock()

    def renew() -> None:
        if clock.passed >= 10:
            store.objects[LEASE] = held_by("bob@ws-7:4711-ab12", at(-3590))

    clock.meanwhile = renew
    with pytest.raises(StepError, match="was renewed just now"):
        take(store, clock)


def test_of_two_that_take_over_one_gets_it() -> None:
    store = Store(objects={LEASE: held_by("bob@ws-7:4711-ab12", at(-100))})
    clock = Clock()

    def other(method: str, path: str) -> Answer | None:
        if method == "PUT":
            store.before = lambda _method, _path: None
            store.objects[path] = held_by("carol@ws-8:1-cd", at(20))
            store.objects[path]["metadata"]["resourceVersion"] = "99"
        return None

    store.before = other
    with pytest.raises(StepError, match="carol@ws-8"):
        take(store, clock)


def test_of_two_that_make_it_one_gets_it() -> None:
    store = Store()

    def other(method: str, _: str) -> Answer | None:
        if method == "POST":
            store.before = lambda _method, _path: None
            store.objects[LEASE] = held_by("carol@ws-8:1-cd", at(0))
        return None

    store.before = other
    with pytest.raises(StepError, match="carol@ws-8"):
        take(store)


def test_what_others_take_each_time_ends() -> None:
    store = Store(objects={LEASE: held_by("", at(0))})
    store.before = lambda method, _: refused(409, "Conflict", "x") if method == "PUT" else None

    with pytest.raises(StepError, match="was taken by others each time"):
        take(store)


def test_a_write_whose_answer_was_lost_is_known_again() -> None:
    store = Store(objects={LEASE: held_by("", at(0))})
    holder = Holder.here("label-nodes")

    def lose(method: str, path: str) -> Answer | None:
        if method == "PUT":
            store.before = lambda _method, _path: None
            store.objects[path] = held_by(holder.identity, at(0))
            store.objects[path]["metadata"]["resourceVersion"] = "99"
            return refused(409, "Conflict", "the repeat meets what the first try wrote")
        return None

    store.before = lose

    acquired = acquire(FakeCluster(store), holder, Clock().timing())

    assert spec_of(store)["holderIdentity"] == holder.identity
    acquired.lease.release()


def test_a_dead_process_of_this_machine_is_known_at_once() -> None:
    code = (
        "from kgpuctl.cluster.lease_holder import Holder; print(Holder.here('label-nodes').process)"
    )
    dead = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout.strip()
    store = Store(objects={LEASE: held_by("me@here:99-ab", at(0), dead)})
    clock = Clock()

    lease, told = take(store, clock)

    assert told.endswith("that process is gone")
    assert clock.waits == []
    lease.release()


def test_a_process_is_gone_only_where_that_is_sure() -> None:
    ours = Holder.here("x").process
    machine, pid, started = ours.split(" ")

    assert not is_gone(ours)
    assert is_gone(f"{machine} {pid} {int(started) - 1}")  # its number was given to another
    assert is_gone(f"{machine} 4194304999 1")
    assert not is_gone(f"0123456789abcdef {pid} 1")
    assert not is_gone("")
    assert not is_gone(f"{machine} 0 1")
    assert not is_gone(f"{machine} -1 1")
    assert not is_gone(f"{machine} {pid} ")


def until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def renewing(store: Store) -> HeldLease:
    timing = Timing(renew=0.01)
    return acquire(FakeCluster(store), Holder.here("label-nodes"), timing).lease


def test_it_is_renewed_while_it_is_held_and_not_after() -> None:
    store = Store()
    lease = renewing(store)
    first = spec_of(store)["renewTime"]

    until(lambda: spec_of(store)["renewTime"] != first)

    lease.release()
    version = store.version
    time.sleep(0.05)
    assert store.version == version


def test_a_change_of_others_beside_the_holder_does_not_lose_it() -> None:
    store = Store()
    lease = renewing(store)
    with store.lock:
        touched = store.objects[LEASE]
        touched["metadata"]["resourceVersion"] = "12345"
    first = spec_of(store)["renewTime"]

    until(lambda: spec_of(store)["renewTime"] != first)

    assert lease.trouble == ""
    lease.release()
    assert spec_of(store)["holderIdentity"] == ""


def test_a_lease_that_somebody_took_is_lost_and_stays_theirs() -> None:
    store = Store()
    lease = renewing(store)
    with store.lock:
        store.objects[LEASE] = held_by("carol@ws-8:1-cd", at(0))

    until(lambda: lease.trouble != "")

    assert lease.trouble == "the Lease kube-system/kgpuctl was taken over by carol@ws-8:1-cd"
    lease.release()
    assert spec_of(store)["holderIdentity"] == "carol@ws-8:1-cd"


def test_a_deleted_lease_is_lost() -> None:
    store = Store()
    lease = renewing(store)
    with store.lock:
        del store.objects[LEASE]

    until(lambda: lease.trouble != "")

    assert lease.trouble == "the Lease kube-system/kgpuctl was deleted"
    lease.release()


def test_a_lease_that_cannot_be_renewed_is_not_believed_in_for_long() -> None:
    store = Store()
    clock = Clock()
    lease, _ = take(store, clock)
    store.before = lambda _method, _path: refused(503, "Unavailable", "away")

    clock.passed = 39
    assert lease.trouble == ""
    clock.passed = 41
    assert lease.trouble == "the Lease kube-system/kgpuctl could not be renewed for 41 s"
    lease.release()


def test_a_server_that_hangs_does_not_keep_the_release_for_ever() -> None:
    store = Store()
    going = threading.Event()
    timing = Timing(renew=0.05)
    lease = acquire(FakeCluster(store), Holder.here("label-nodes"), timing).lease
    store.before = lambda _method, _path: (going.wait(0.5), None)[1]
    time.sleep(0.1)

    began = time.monotonic()
    lease.release()

    assert time.monotonic() - began < 5
    going.set()
