"""What steps are made of: the cluster that they change, and a change as a value.

A step says its change before it makes it, so plan, dry run, diff, repeat and undo come from the
same value. Steps never open a boundary: what fits `Cluster` by its shape is handed to them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeVar

from kgpuctl.cluster.listing import Listing
from kgpuctl.cluster.resources import Resource

T = TypeVar("T")
U = TypeVar("U")

MERGE_PATCH: Final = "application/merge-patch+json"
# An answer with the metadata alone: nobody looks at the rest of what was changed.
METADATA_ONLY: Final = (
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
)
MANAGER: Final = "kgpuctl"  # who changed what, in the API server's own records
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Cluster(Protocol):
    """A cluster as steps ask and change it; any number of threads at once."""

    def read(self, path: str, kind: type[T], *, query: Mapping[str, str] = NOTHING) -> T:
        """Return one object."""

    def list(  # noqa: PLR0913  # the ways to narrow a list
        self,
        resource: Resource,
        item: type[T],
        keep: Callable[[T], U | None],
        *,
        namespace: str = "",
        selector: str = "",
        fields: str = "",
        limit: int = 500,
    ) -> Listing[U]:
        """Return what `keep` makes of each object of a whole list."""

    def send(  # noqa: PLR0913  # the parts of a request
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, object] | None = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, str] = NOTHING,
        safe_to_repeat: bool = False,
        accept: str = "application/json",
    ) -> bytes:
        """Change something."""


class Edit(NamedTuple):
    """One label or annotation: what it was and what it becomes; None is its absence."""

    key: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.after is None:
            return f"{self.key} removed ({was(self.before)})"
        return f"{self.key}={self.after} ({was(self.before)})"


def was(value: str | None) -> str:
    """Say what a label was."""
    if value is None:
        return "was not set"
    return f"was {value}" if value else "was empty"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be changed of a node, and the version of it that this was worked out from."""

    node: str
    version: str
    labels: tuple[Edit, ...] = ()
    annotations: tuple[Edit, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.labels or self.annotations)

    @property
    def metadata(self) -> Mapping[str, object]:
        """Return what of the node's metadata is to be merged: nothing that is not ours."""
        labels = {edit.key: edit.after for edit in self.labels}
        annotations = {edit.key: edit.after for edit in self.annotations}
        return ({"labels": labels} if labels else {}) | (
            {"annotations": annotations} if annotations else {}
        )

    @property
    def body(self) -> Mapping[str, object]:
        """Return the merge patch.

        Its version makes the API server refuse it where anything of the node was changed since:
        what is remembered must be what is replaced.
        """
        return {"metadata": {"resourceVersion": self.version, **self.metadata}}

    @property
    def in_words(self) -> str:
        """Return what happens to the labels; of the marks only where nothing else happens."""
        told = ", ".join(map(str, self.labels))
        return told or ("nothing but kgpuctl's marks removed" if self.annotations else "nothing")


def few(names: "tuple[str, ...] | list[str]", most: int = 10) -> str:
    """Name some, and say how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, noun: str) -> str:
    """Return "1 node" or "12 nodes"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
