"""`kgpuctl preflight --cluster`: whether a cluster can take the stack, from the workstation."""

from collections.abc import Iterable, Mapping

from kgpuctl.checks.check import run
from kgpuctl.checks.cluster.candidates import candidates
from kgpuctl.checks.cluster.table import CLUSTER_CHECKS
from kgpuctl.checks.verify.subject import describe
from kgpuctl.checks.waivers import waive
from kgpuctl.cli.calls import install_calls
from kgpuctl.cli.cluster_run import Wishes, case_of
from kgpuctl.cli.connection import connect
from kgpuctl.cluster.access import Access
from kgpuctl.cluster.resources import Call
from kgpuctl.cluster.snapshot import ClusterSnapshot
from kgpuctl.report import Claim, Report
from kgpuctl.unread import Fact

CLAIM = Claim(
    passed="Passed: this cluster can take GPU passthrough into Kata VMs.",
    unknown="Not known: some of what decides it could not be read.",
    failed="Failed: this cluster cannot take GPU passthrough into Kata VMs yet.",
)


def preflight_report(
    recording: str | None, wanted: Access, wishes: Wishes, *, kubelets: bool, verbose: bool
) -> Report:
    """Read the cluster, or a recording of it, and judge it before an install."""
    if recording is not None:
        from kgpuctl.cluster.recording import open_snapshot

        return _judge(open_snapshot(recording), wishes, None)
    from kgpuctl.cluster.kube import KubeCluster
    from kgpuctl.cluster.reader import Reading, read_cluster, read_rights

    cluster: KubeCluster = connect(wanted, verbose=verbose)

    def names(snapshot: ClusterSnapshot) -> Iterable[str]:
        return candidates(case_of(snapshot, wishes))

    snapshot = read_cluster(cluster, Reading(kubelets=names if kubelets else None))
    return _judge(snapshot, wishes, read_rights(cluster, install_calls()))


def _judge(
    snapshot: ClusterSnapshot, wishes: Wishes, rights: Fact[Mapping[Call, bool]] | None
) -> Report:
    case = case_of(snapshot, wishes, rights)
    results = waive(run(CLUSTER_CHECKS, case), wishes.waivers, wishes.today)
    return Report("preflight", CLAIM, describe(case), results, wishes.only_problems)
