"""All checks of all commands: what can be listed, explained and waived."""

from kgpuctl.checks.check import Check
from kgpuctl.checks.cluster.table import CLUSTER_CHECKS
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.host.case import HostCase
from kgpuctl.checks.host.table import HOST_CHECKS
from kgpuctl.checks.verify.table import VERIFY_CHECKS


def all_checks() -> tuple[Check[HostCase] | Check[ClusterCase], ...]:
    """Return every check, in the order in which a person meets them."""
    return (*HOST_CHECKS, *CLUSTER_CHECKS, *VERIFY_CHECKS)
