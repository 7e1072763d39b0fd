"""What is told of a cluster before it is judged: which one, what is on it, what it is for."""

from kgpuctl.checks.check import UnknownFactError
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.cluster.snapshot import SourceKind
from kgpuctl.report import Subject, printable
from kgpuctl.unread import Unread

_NAMES_TOLD = 4


def describe(case: ClusterCase) -> Subject:
    """Return the cluster in a few lines, and as data."""
    source, version = case.cluster.source, case.cluster.version
    kubernetes = "" if isinstance(version, Unread) else version
    live = source.kind is SourceKind.LIVE
    where = f"context {source.name}, {source.server}, as {source.user}" if live else source.name
    installed, targets = _installed(case), _targets(case)
    lines = [f"cluster: {where}"]
    if not live and source.time:
        of = f" of context {source.context}" if source.context else ""
        at = f" at {source.server}" if source.server else ""
        lines.append(f"recorded: {source.time}{of}{at}")
    lines.append(f"Kubernetes: {kubernetes or 'version not known'}")
    lines.append(f"stack: {', '.join(installed) if installed else 'none'}")
    missed = case.cluster.missed if live else ()
    if missed:
        lines.append(f"not read: {'; '.join(missed)}")
    lines.append(f"targets: {'not known' if targets is None else _named(targets)}{_of(case)}")
    return Subject(
        tuple(map(printable, lines)),
        {
            "kind": "Cluster",
            "source": {"kind": source.kind.value, "path": source.name, "time": source.time},
            "context": source.context,
            "server": source.server,
            "user": source.user,
            "kubernetesVersion": kubernetes,
            "installed": list(installed),
            "targets": list(targets or ()),
            "notRead": list(missed),
        },
    )


def _installed(case: ClusterCase) -> tuple[str, ...]:
    try:
        found = [str(item.release) for item in case.installers]
        if case.operator:
            found.append(f"GPU Operator {case.operator.version} in {case.operator.namespace}")
    except UnknownFactError:
        return ("not known",)
    return tuple(found)


def _targets(case: ClusterCase) -> tuple[str, ...] | None:
    try:
        return tuple(sorted(case.targets))
    except UnknownFactError:
        return None


def _named(names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    more = len(names) - _NAMES_TOLD
    return ", ".join(names[:_NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")


def _of(case: ClusterCase) -> str:
    try:
        number = len(case.gpu_nodes)
    except UnknownFactError:
        return ""
    return f" ({number} nodes with NVIDIA GPUs)" if number != 1 else " (1 node with NVIDIA GPUs)"
