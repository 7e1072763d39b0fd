"""Where things are on this cluster, for commands that a person can type as they stand."""

from kgpuctl.catalog import KataProvider
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.recognise import COCO_NAMESPACE

_GPU_OPERATOR = "gpu-operator"
_KATA = "kata-system"


def operator_home(case: ClusterCase) -> str:
    """Return the namespace of the GPU Operator; the documented one where there is none."""
    return case.operator.namespace if case.operator else _GPU_OPERATOR


def kata_home(case: ClusterCase) -> str:
    """Return the namespace of what installs Kata; the documented one where there is none."""
    found = case.installer
    if found is None:
        return _KATA
    return found.release.namespace or (
        COCO_NAMESPACE if found.provider is KataProvider.COCO_OPERATOR else _KATA
    )
