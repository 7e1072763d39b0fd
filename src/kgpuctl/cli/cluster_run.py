"""Judge a cluster and report: what the commands on clusters do between parse and print."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from kgpuctl.catalog import load_catalog
from kgpuctl.checks.check import run
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.verify.subject import describe
from kgpuctl.checks.verify.table import VERIFY_CHECKS
from kgpuctl.checks.waivers import waive
from kgpuctl.cluster.snapshot import ClusterSnapshot, SourceKind
from kgpuctl.config import Waiver, nearest
from kgpuctl.errors import UsageError, shown
from kgpuctl.explanations import load_explanations
from kgpuctl.names import Tee
from kgpuctl.report import Claim, Report
from kgpuctl.unread import Unread

CLAIM = Claim(
    passed="Passed: GPU passthrough into Kata VMs is set up on every target.",
    unknown="Not known: some of what decides it could not be read.",
    failed="Failed: GPU passthrough into Kata VMs does not work yet.",
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for, options and configuration put together."""

    confidential: Tee | None
    nodes: tuple[str, ...]
    waivers: tuple[Waiver, ...]
    only_problems: bool
    today: dt.date


def verify_snapshot(snapshot: ClusterSnapshot, wishes: Wishes) -> Report:
    """Ask a snapshot every check of an installed stack."""
    _refuse_unknown_nodes(snapshot, wishes.nodes)
    case = ClusterCase(
        snapshot,
        load_catalog(),
        load_explanations(),
        moment(snapshot),
        wishes.confidential,
        wishes.nodes,
    )
    results = waive(run(VERIFY_CHECKS, case), wishes.waivers, wishes.today)
    return Report("verify", CLAIM, describe(case), results, wishes.only_problems)


def moment(snapshot: ClusterSnapshot) -> dt.datetime:
    """Return when a snapshot was taken, or else when the last thing in it happened."""
    if snapshot.source.kind is SourceKind.LIVE:
        return dt.datetime.now(dt.UTC)
    times = [time for time in (snapshot.source.time,) if time] or _times(snapshot)
    found = [when for time in times if (when := _parsed(time))]
    return max(found, default=dt.datetime.now(dt.UTC))


def _parsed(time: str) -> dt.datetime | None:
    try:
        when = dt.datetime.fromisoformat(time)
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=dt.UTC)


def _times(snapshot: ClusterSnapshot) -> Iterator[str]:
    if not isinstance(snapshot.events, Unread):
        yield from (event.time for event in snapshot.events if event.time)
    for fact in (snapshot.pods, snapshot.daemon_sets, snapshot.nodes):
        if isinstance(fact, Unread):
            continue
        for item in fact:
            yield from filter(
                None, (item.metadata.creation_timestamp, item.metadata.deletion_timestamp)
            )


def _refuse_unknown_nodes(snapshot: ClusterSnapshot, names: tuple[str, ...]) -> None:
    if isinstance(snapshot.nodes, Unread):
        return
    there = [node.metadata.name for node in snapshot.nodes]
    for name in names:
        if name not in there:
            raise UsageError(
                f"There is no node {shown(name)}{nearest(name, there)}",
                remedy="`kubectl get nodes` lists them.",
            )
