"""What a ClusterPolicy says of itself."""

from collections.abc import Mapping
from typing import Final

from kgpuctl.cluster.custom import ClusterPolicy
from kgpuctl.cluster.objects import Condition

# "Ready" with these reasons means that the operator found nothing to do.
EMPTY_READY: Final[Mapping[str, str]] = {
    "NoGPUNodes": "no node has a label that says it has an NVIDIA GPU",
    "NFDLabelsMissing": "no node has any label of node-feature-discovery",
}
# "Not ready" with these reasons means that the operator did its part, and operands do not run.
WAITS_FOR_OPERANDS: Final = frozenset(
    {"", "OperandNotReady", "DriverNotReady", "NodeStatusExporterNotReady"}
)


def condition(policy: ClusterPolicy, kind: str) -> Condition | None:
    """Return a condition of a ClusterPolicy; charts before v23.9 have none."""
    return next((item for item in policy.status.conditions if item.type == kind), None)


def telling(policy: ClusterPolicy) -> Condition | None:
    """Return the condition that says why: the one about errors where there is one."""
    error = condition(policy, "Error")
    return error if error and error.status == "True" else condition(policy, "Ready")


def is_empty(policy: ClusterPolicy | None) -> bool:
    """Whether the operator calls itself ready because it has found no node with a GPU."""
    ready = condition(policy, "Ready") if policy else None
    return ready is not None and ready.reason in EMPTY_READY
