"""Judge a cluster and report: what the commands on clusters do between parse and print."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from kgpuctl.catalog import Catalog, load_catalog
from kgpuctl.checks.check import run
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.verify.subject import describe
from kgpuctl.checks.verify.table import VERIFY_CHECKS
from kgpuctl.checks.waivers import refuse_unknown_ids, waive
from kgpuctl.cli.tables import all_checks
from kgpuctl.cluster.resources import Call
from kgpuctl.cluster.snapshot import ClusterSnapshot, SourceKind
from kgpuctl.config import Waiver
from kgpuctl.errors import UsageError, nearest, shown
from kgpuctl.explanations import Explanations, load_explanations
from kgpuctl.names import Stack, Tee
from kgpuctl.report import Claim, Report
from kgpuctl.unread import Fact, Unread

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
    stack: Stack | None = None


@cache
def _tables() -> tuple[Catalog, Explanations]:
    return load_catalog(), load_explanations()


def case_of(
    snapshot: ClusterSnapshot,
    wishes: Wishes | None = None,
    rights: Fact[Mapping[Call, bool]] | None = None,
) -> ClusterCase:
    """Return a snapshot with what it is judged by; unknown nodes and waivers are refused."""
    catalog, explanations = _tables()
    now = moment(snapshot)
    if wishes is None:
        return ClusterCase(snapshot, catalog, explanations, now)
    _refuse_unknown_nodes(snapshot, wishes.nodes)
    if wishes.waivers:
        refuse_unknown_ids(wishes.waivers, (check.id for check in all_checks()))
    return ClusterCase(
        snapshot,
        catalog,
        explanations,
        now,
        wishes.confidential,
        wishes.nodes,
        wishes.stack,
        rights,
    )


def verify_snapshot(snapshot: ClusterSnapshot, wishes: Wishes) -> Report:
    """Ask a snapshot every check of an installed stack."""
    case = case_of(snapshot, wishes)
    results = waive(run(VERIFY_CHECKS, case), wishes.waivers, wishes.today)
    return Report("verify", CLAIM, describe(case), results, wishes.only_problems)


def moment(snapshot: ClusterSnapshot) -> dt.datetime:
    """Return when a snapshot was taken, or else when the last thing in it happened."""
    if snapshot.source.kind is SourceKind.LIVE:
        return dt.datetime.now(dt.UTC)
    told = (snapshot.source.time, snapshot.source.newest)
    return next((when for time in told if (when := _parsed(time))), dt.datetime.now(dt.UTC))


def _parsed(time: str) -> dt.datetime | None:
    try:
        when = dt.datetime.fromisoformat(time)
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=dt.UTC)


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
