"""Which stack a cluster is for, where nobody says: only the CoCo operator's own objects decide."""

from typing import Final, NamedTuple

from kgpuctl.cluster.custom import CcRuntime
from kgpuctl.cluster.failures import ForbiddenError, NotFoundError
from kgpuctl.cluster.objects import Namespace
from kgpuctl.cluster.resources import CC_RUNTIMES, NAMESPACES
from kgpuctl.names import Stack
from kgpuctl.steps.step import Cluster

COCO_NAMESPACE: Final = "confidential-containers-system"


class Recognised(NamedTuple):
    """A stack, and by what it was recognised."""

    stack: Stack
    why: str


def recognise(cluster: Cluster) -> Recognised:
    """Return the stack of a cluster; where what decides it may not be seen, that is said."""
    try:
        runtimes = cluster.list(CC_RUNTIMES, CcRuntime, lambda item: item.metadata.name).items
    except NotFoundError:
        return Recognised(Stack.KATA_DEPLOY, "the CoCo operator is not there")
    except ForbiddenError:
        return Recognised(
            Stack.KATA_DEPLOY, "the default: whether there is a CcRuntime may not be seen"
        )
    if runtimes:
        return Recognised(Stack.COCO_OPERATOR, f"there is a CcRuntime {runtimes[0]}")
    try:
        cluster.read(NAMESPACES.path(COCO_NAMESPACE), Namespace)
    except NotFoundError:
        return Recognised(
            Stack.KATA_DEPLOY, "of the CoCo operator nothing is left but its definitions"
        )
    except ForbiddenError:
        return Recognised(
            Stack.KATA_DEPLOY, f"the default: the namespace {COCO_NAMESPACE} may not be seen"
        )
    return Recognised(Stack.COCO_OPERATOR, f"there is a namespace {COCO_NAMESPACE}")
