"""The checks after an install, in the order in which they are asked."""

from typing import Final

from kgpuctl.checks.check import Check
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.verify import (
    classes,
    installer,
    nodes,
    operands,
    operator,
    resources,
    workloads,
)

VERIFY_CHECKS: Final[tuple[Check[ClusterCase], ...]] = (
    operator.gpu_operator,
    installer.stack,
    operator.cluster_policy,
    operator.sandbox_mode,
    nodes.platform,
    nodes.nfd,
    nodes.workload_label,
    installer.kata_installer,
    installer.node_kata_label,
    nodes.operand_labels,
    operands.operands,
    operands.kata_manager_done,
    operands.device_plugin,
    classes.runtime_class,
    installer.kata_handler,
    installer.handler_fresh,
    classes.cc_mode,
    classes.runtime_class_nodes,
    resources.passthrough_resource,
    resources.resource_free,
    nodes.kubelet,
    workloads.workloads,
    workloads.terminating,
    nodes.new_nodes,
)
