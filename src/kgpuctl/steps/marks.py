"""What kgpuctl remembers on a node: the labels of before, those it set, and its own cordon."""

import json
from collections.abc import Mapping
from typing import Final

from msgspec import field

from kgpuctl.cluster.objects import Annotations, Metadata, Node
from kgpuctl.names import COCO_WORKER_LABEL, WORKLOAD_LABEL

PREVIOUS: Final = "kgpuctl/previous-labels"
APPLIED: Final = "kgpuctl/applied-labels"
CORDONED: Final = "kgpuctl/cordoned"
# The kubelet of a node may write the node's annotations: nothing else is put back from there.
_OURS: Final = frozenset({WORKLOAD_LABEL, COCO_WORKER_LABEL})

Remembered = Mapping[str, str | None]


class _MarkedAnnotations(Annotations, frozen=True):
    """The annotations of a node, also the one that only label-nodes reads."""

    applied_labels: str = field(default="", name=APPLIED)


class _MarkedMetadata(Metadata, frozen=True):
    """The metadata of a node, with all of kgpuctl's marks."""

    annotations: _MarkedAnnotations = _MarkedAnnotations()


class MarkedNode(Node, frozen=True):
    """A node with all of kgpuctl's marks."""

    metadata: _MarkedMetadata = _MarkedMetadata()

    @property
    def name(self) -> str:
        """Return its name."""
        return self.metadata.name

    @property
    def is_ours_to_uncordon(self) -> bool:
        """Whether kgpuctl cordoned it and has not taken that back."""
        return bool(self.metadata.annotations.cordoned)


class ForeignMarkError(Exception):
    """An annotation of ours holds what kgpuctl never writes."""


def previous(node: MarkedNode) -> Remembered:
    """Return the labels as they were before kgpuctl first changed them; None: there was none."""
    return _parse(PREVIOUS, node.metadata.annotations.previous_labels)


def applied(node: MarkedNode) -> Remembered:
    """Return the labels that kgpuctl set last."""
    return _parse(APPLIED, node.metadata.annotations.applied_labels)


def written(labels: Remembered) -> str:
    """Return labels as an annotation holds them: the same text for the same labels."""
    return json.dumps(labels, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _parse(name: str, text: str) -> Remembered:
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ForeignMarkError(f"its annotation {name} is not JSON") from error
    if not isinstance(value, dict) or not value.keys() <= _OURS:
        raise ForeignMarkError(f"its annotation {name} speaks of more than kgpuctl's own labels")
    if not all(isinstance(old, str | None) for old in value.values()):
        raise ForeignMarkError(f"its annotation {name} does not hold labels")
    return value
