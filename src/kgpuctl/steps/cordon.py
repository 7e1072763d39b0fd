"""Keeping new pods from a node for a while; what somebody else cordoned stays cordoned."""

from contextlib import suppress
from typing import Final

from kgpuctl.cluster.failures import ConflictError, NotFoundError
from kgpuctl.journal import Entry, Told
from kgpuctl.steps.changing import Changing, StoppedError
from kgpuctl.steps.marks import CORDONED

ATTEMPTS: Final = 6  # kubelets and operators write nodes all the time


def cordon(changing: Changing, name: str) -> bool:
    """Cordon a node, with our mark; return whether it is ours to uncordon."""
    for attempt in range(ATTEMPTS):
        node = changing.node(name)
        if node.spec.unschedulable:
            return node.is_ours_to_uncordon
        body = {
            "metadata": {
                "resourceVersion": node.metadata.resource_version,
                "annotations": {CORDONED: changing.by},
            },
            "spec": {"unschedulable": True},
        }
        changing.check()
        entry = Entry(
            "step.cordon-node",
            f"node/{name}",
            Told.BEGUN,
            {"unschedulable": False},
            {"unschedulable": True},
        )
        changing.note(entry)
        try:
            changing.patch(name, body)
        except ConflictError:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            changing.note(entry._replace(result=Told.DONE))
            return True
    raise AssertionError("the last attempt returns or raises")


def uncordon(changing: Changing, name: str) -> None:
    """Take our cordon back, if it is ours and still there; also after a stop."""
    for attempt in range(ATTEMPTS):
        try:
            node = changing.node(name)
        except NotFoundError:
            return
        if not node.is_ours_to_uncordon:
            return
        body: dict[str, object] = {
            "metadata": {
                "resourceVersion": node.metadata.resource_version,
                "annotations": {CORDONED: None},
            }
        }
        if node.spec.unschedulable:
            body["spec"] = {"unschedulable": None}
        entry = Entry(
            "step.uncordon-node",
            f"node/{name}",
            Told.BEGUN,
            {"unschedulable": node.spec.unschedulable},
            {"unschedulable": False},
        )
        with suppress(StoppedError):  # a node must not stay cordoned because a disk is full
            changing.note(entry)
        try:
            changing.patch(name, body)
        except ConflictError:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            with suppress(StoppedError):
                changing.note(entry._replace(result=Told.DONE))
            return
