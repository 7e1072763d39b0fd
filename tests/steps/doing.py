"""Running label-nodes' steps on a store, without a command line."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from kgpuctl.cluster.deadline import Deadline
from kgpuctl.journal import Entry
from kgpuctl.names import Stack, Workload
from kgpuctl.report import Result
from kgpuctl.steps.apply import Applying
from kgpuctl.steps.changing import Changing
from kgpuctl.steps.holders import find_holders
from kgpuctl.steps.parallel import Stop
from kgpuctl.steps.plan import Plan, intent_of, plan
from kgpuctl.steps.targets import Selection, choose
from steps.fake_cluster import FakeCluster
from steps.store import Store

EVERY = Selection(every=True)


@dataclass
class Records:
    """A journal in memory."""

    entries: list[Entry] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, entries: Iterable[Entry]) -> None:
        with self.lock:
            self.entries.extend(entries)


@dataclass
class Ours:
    """The right to change things, until it is lost."""

    trouble: str = ""


@dataclass
class Run:
    """What one run is made with, and what came of it."""

    store: Store
    records: Records = field(default_factory=Records)
    right: Ours = field(default_factory=Ours)
    stop: Stop = field(default_factory=Stop)
    said: list[str] = field(default_factory=list)
    seconds: float = 60
    observe: Callable[[Result], None] = lambda _: None

    def plan(
        self,
        workload: Workload = Workload.VM_PASSTHROUGH,
        selection: Selection = EVERY,
        *,
        stack: Stack = Stack.KATA_DEPLOY,
        restore: bool = False,
        evict: bool = False,
    ) -> Plan:
        cluster = FakeCluster(self.store)
        targets = choose(cluster, selection, restoring=restore)
        find = partial(find_holders, cluster)
        return plan(intent_of(workload, stack, restore=restore), targets, find, evict=evict)

    def apply(self, planned: Plan) -> dict[str, Result]:
        changing = Changing(
            FakeCluster(self.store),
            self.records,
            self.right,
            Deadline(self.seconds),
            self.stop,
            "alice@ws:1-abcd 2026-11-23T15:41:38Z",
            self.said.append,
        )
        results = Applying(planned, changing, self.observe).run()
        assert [result.subject for result in results] == [job.name for job in planned.jobs]
        return {result.subject: result for result in results}


def label(store: Store, workload: Workload = Workload.VM_PASSTHROUGH) -> dict[str, Result]:
    """Label every GPU node."""
    run = Run(store)
    return run.apply(run.plan(workload))


def restore(store: Store) -> dict[str, Result]:
    """Put every marked node back."""
    run = Run(store)
    return run.apply(run.plan(restore=True))
