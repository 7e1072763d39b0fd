"""What labelling a node, and taking that back, changes of it: pure functions over the node."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from kgpuctl.cluster.lease import CALLS as LEASE_CALLS
from kgpuctl.cluster.resources import CC_RUNTIMES, NAMESPACES, NODES, PODS, Call
from kgpuctl.names import WORKLOAD_LABEL
from kgpuctl.steps.marks import (
    APPLIED,
    PREVIOUS,
    MarkedNode,
    Remembered,
    applied,
    previous,
    written,
)
from kgpuctl.steps.stack import COCO_NAMESPACE
from kgpuctl.steps.step import Change, Edit

# What label-nodes asks of the API server in all, as RBAC sees it: `kgpuctl rbac` prints these.
CALLS: Final = (
    Call("list", NODES),
    Call("get", NODES),
    Call("patch", NODES),
    Call("list", PODS),
    Call("create", PODS, subresource="eviction"),
    Call("list", CC_RUNTIMES),
    Call("get", NAMESPACES, name=COCO_NAMESPACE),
    *LEASE_CALLS,
)


class ForeignLabelError(Exception):
    """Somebody else changed a label after kgpuctl had set it: it is not ours to put back."""

    def __init__(self, key: str, ours: str | None, now: str | None) -> None:
        self.key = key
        self.ours = ours
        self.now = now
        set_to = "took it away" if ours is None else f"had set it to {ours or 'the empty value'}"
        found = "is not set any more" if now is None else f"is {now or 'empty'} now"
        super().__init__(f"{key} {found}, and kgpuctl {set_to}: somebody else changed it")


class Intent(Protocol):
    """What is wanted of nodes; the change of each follows from how it is."""

    @property
    def id(self) -> str:
        """Return the id of its results."""

    @property
    def title(self) -> str:
        """Return it in the imperative."""

    def change(self, node: MarkedNode) -> Change:
        """Return what is left to do; an empty change where all is as wanted."""


@dataclass(frozen=True, slots=True)
class Label:
    """Set labels, and remember what they were before the first time."""

    labels: Mapping[str, str]
    id: str = "step.label-node"
    title: str = "Label the node"

    def change(self, node: MarkedNode) -> Change:
        """Return the labels that are not yet so, with what is to be remembered of them."""
        now = node.metadata.labels
        edits = tuple(
            Edit(key, now.get(key), value)
            for key, value in self.labels.items()
            if now.get(key) != value
        )
        if not edits:
            return Change(node.name, node.metadata.resource_version)
        oldest: Remembered = {edit.key: edit.before for edit in edits} | dict(previous(node))
        latest: Remembered = dict(applied(node)) | {edit.key: edit.after for edit in edits}
        notes = node.metadata.annotations
        return Change(
            node.name,
            node.metadata.resource_version,
            edits,
            (
                *_annotate(PREVIOUS, notes.previous_labels, written(oldest)),
                *_annotate(APPLIED, notes.applied_labels, written(latest)),
            ),
        )


@dataclass(frozen=True, slots=True)
class Restore:
    """Put labels back as they were, and forget."""

    id: str = "step.restore-node"
    title: str = "Put the node's labels back"

    def change(self, node: MarkedNode) -> Change:
        """Return what puts the labels back.

        Raises ForeignLabelError for a label that is neither what kgpuctl set nor what it was.
        """
        now, ours = node.metadata.labels, applied(node)
        edits = []
        for key, old in sorted(previous(node).items()):
            value = now.get(key)
            if value == old:
                continue
            if key in ours and value != ours[key]:
                raise ForeignLabelError(key, ours[key], value)
            edits.append(Edit(key, value, old))
        notes = node.metadata.annotations
        return Change(
            node.name,
            node.metadata.resource_version,
            tuple(edits),
            (
                *_annotate(PREVIOUS, notes.previous_labels, None),
                *_annotate(APPLIED, notes.applied_labels, None),
            ),
        )


def _annotate(name: str, before: str, after: str | None) -> tuple[Edit, ...]:
    return (Edit(name, before or None, after),) if before != (after or "") else ()


def moves_gpus(change: Change) -> bool:
    """Whether a change makes the GPU Operator take GPUs from who uses them now."""
    return any(edit.key == WORKLOAD_LABEL for edit in change.labels)
