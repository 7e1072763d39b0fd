"""What a change is made with: the cluster, the right to change it now, and the record of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kgpuctl.cluster.deadline import Deadline
from kgpuctl.cluster.resources import NODES
from kgpuctl.errors import StepError
from kgpuctl.journal import Entry
from kgpuctl.steps.marks import MarkedNode
from kgpuctl.steps.parallel import Stop
from kgpuctl.steps.step import MANAGER, MERGE_PATCH, METADATA_ONLY, Cluster


class StoppedError(Exception):
    """Nothing more may be changed; `Stop` knows why."""


class Record(Protocol):
    """Keeps what was done."""

    def write(self, entries: Iterable[Entry]) -> None:
        """Add entries; what begins is kept before this returns."""


class Right(Protocol):
    """Says whether this process is the one that may change the cluster."""

    @property
    def trouble(self) -> str:
        """Say why it is not any more; empty while it is."""


@dataclass(frozen=True, slots=True)
class Changing:
    """The means of one run. `say` is told what is awaited; `by` stands in our marks."""

    cluster: Cluster
    record: Record
    right: Right
    deadline: Deadline
    stop: Stop
    by: str
    say: Callable[[str], None]

    def check(self) -> None:
        """End here unless one more change may be begun."""
        if not self.stop and (trouble := self.right.trouble):
            self.stop.because(trouble)
        if not self.stop and self.deadline.is_over:
            self.stop.because(f"the {self.deadline.seconds:g} s of --timeout are over")
        if self.stop:
            raise StoppedError

    def note(self, *entries: Entry) -> None:
        """Write entries; without a record nothing more is begun."""
        try:
            self.record.write(entries)
        except StepError as error:
            self.stop.because(error.message)
            raise StoppedError from error

    def node(self, name: str) -> MarkedNode:
        """Read a node as it is now."""
        return self.cluster.read(NODES.path(name), MarkedNode)

    def patch(self, name: str, body: Mapping[str, object]) -> None:
        """Change a node; the version in the body makes that safe to repeat."""
        self.cluster.send(
            "PATCH",
            NODES.path(name),
            body,
            content_type=MERGE_PATCH,
            query={"fieldManager": MANAGER},
            safe_to_repeat=True,
            accept=METADATA_ONLY,
        )
