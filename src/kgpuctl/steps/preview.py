"""What the API server would make of a change: each patch sent as a dry run, before and after."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from kgpuctl.cluster.deadline import side_by_side
from kgpuctl.cluster.decoding import decode
from kgpuctl.cluster.failures import ClusterError
from kgpuctl.cluster.objects import Taint
from kgpuctl.cluster.redact import redact
from kgpuctl.cluster.resources import NODES
from kgpuctl.errors import StepError
from kgpuctl.steps.plan import Job
from kgpuctl.steps.step import MANAGER, MERGE_PATCH, Cluster

_REFUSALS = frozenset({400, 403, 422})


class _Metadata(msgspec.Struct, frozen=True):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Spec(msgspec.Struct, frozen=True):
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class _Node(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    spec: _Spec = _Spec()

    @property
    def lines(self) -> tuple[str, ...]:
        """Return what of a node a label can change, a line each, credentials taken out."""
        return (
            *_section("label", self.metadata.labels),
            *_section("annotation", self.metadata.annotations),
            *(f"taint {taint}" for taint in sorted(map(str, self.spec.taints))),
            *(("unschedulable",) if self.spec.unschedulable else ()),
        )


def _section(name: str, values: Mapping[str, str]) -> list[str]:
    return [f"{name} {key}: {redact(value)!r}" for key, value in sorted(values.items())]


class Preview(NamedTuple):
    """A node as it is and as it would be, in lines to be compared."""

    node: str
    before: tuple[str, ...]
    after: tuple[str, ...]


def preview(cluster: Cluster, jobs: Sequence[Job]) -> tuple[Preview, ...]:
    """Return what would become of each node; nothing is changed."""
    return tuple(side_by_side([_asking(cluster, job) for job in jobs if job.change]))


def _asking(cluster: Cluster, job: Job) -> Callable[[], Preview]:
    return lambda: _preview(cluster, job)


def _preview(cluster: Cluster, job: Job) -> Preview:
    path = NODES.path(job.name)
    before = cluster.read(path, _Node)
    # Without the version: whoever else writes the node now does not change what would become of it.
    body = {"metadata": job.change.metadata}
    try:
        answer = cluster.send(
            "PATCH",
            path,
            body,
            content_type=MERGE_PATCH,
            query={"fieldManager": MANAGER, "dryRun": "All"},
            safe_to_repeat=True,
        )
    except ClusterError as error:
        if error.status not in _REFUSALS:
            raise
        raise StepError(
            f"The API server would refuse to change node {job.name}: {error.message}",
            remedy=error.remedy,
        ) from error
    return Preview(job.name, before.lines, decode(answer, _Node).lines)
