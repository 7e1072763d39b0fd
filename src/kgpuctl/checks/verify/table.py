"""The checks after an install, in the order in which they are asked."""

from typing import Final

from kgpuctl.checks.check import Check
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.verify import (
    classes,
    handlers,
    installer,
    nodes,
    operands,
    operator,
    platform,
    plugins,
    resources,
    stack,
    terminating,
    workloads,
)

VERIFY_CHECKS: Final[tuple[Check[ClusterCase], ...]] = (
    operator.gpu_operator,
    stack.stack,
    operator.cluster_policy,
    operator.sandbox_mode,
    platform.platform,
    nodes.nfd,
    nodes.workload_label,
    installer.kata_installer,
    handlers.node_kata_label,
    nodes.operand_labels,
    operands.operands,
    plugins.kata_manager_done,
    plugins.device_plugin,
    classes.runtime_class,
    handlers.kata_handler,
    handlers.handler_fresh,
    classes.cc_mode,
    classes.runtime_class_nodes,
    resources.passthrough_resource,
    resources.resource_free,
    nodes.kubelet,
    workloads.workloads,
    terminating.terminating,
    nodes.new_nodes,
)
