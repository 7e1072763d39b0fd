"""The checks of a cluster before an install, in the order in which they are asked."""

from typing import Final

from kgpuctl.checks.check import Check
from kgpuctl.checks.cluster import access, installed, nodes
from kgpuctl.checks.cluster_case import ClusterCase

CLUSTER_CHECKS: Final[tuple[Check[ClusterCase], ...]] = (
    access.reachable,
    access.version,
    access.permissions,
    nodes.target_nodes,
    nodes.node_runtime,
    nodes.label_values,
    nodes.stale_operand_labels,
    nodes.gpu_workloads,
    nodes.kubelet,
    installed.existing_gpu_operator,
    installed.existing_kata,
    installed.existing_nfd,
    installed.mixed_stacks,
    installed.versions,
    installed.pod_security,
    installed.nfd,
    installed.crds,
)
