"""From a kubeconfig and the options to one cluster and one user."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kgpuctl.cluster.access import Access
from kgpuctl.cluster.failures import ClusterError
from kgpuctl.cluster.kubeconfig.shapes import Cluster, Kubeconfig, User
from kgpuctl.errors import nearest, shown

_MOST: Final = 10  # names listed


@dataclass(frozen=True, slots=True)
class Choice:
    """A cluster and a user, with their names and the directories their paths start from."""

    context: str
    cluster_name: str
    cluster: Cluster
    cluster_directory: Path
    user_name: str
    user: User
    user_directory: Path


def choose(config: Kubeconfig, access: Access) -> Choice:
    """Return the chosen context's cluster and user; what is missing is said with what there is."""
    files = ", ".join(config.paths)
    name = config.current_context if access.context is None else access.context
    if not name:
        raise ClusterError(
            f"No context is chosen: {files} names no current-context.",
            remedy=f"Name one with --context{_of(config.contexts)}.",
        )
    context = config.contexts.get(name)
    if context is None:
        chosen = "" if access.context is not None else ", the current-context,"
        raise ClusterError(
            f"There is no context {shown(name)}{chosen} in {files}{nearest(name, config.contexts)}",
            remedy=f"Name another with --context{_of(config.contexts)}.",
        )
    where = f"The context {shown(name)} in {files}"
    remedy = f"Correct it, or name another with --context{_of(config.contexts)}."
    for kind, wanted, known in (
        ("cluster", context.cluster, config.clusters),
        ("user", context.user, config.users),
    ):
        if not wanted and kind == "cluster":
            raise ClusterError(f"{where} names no cluster.", remedy=remedy)
        if wanted and wanted not in known:
            raise ClusterError(
                f"{where} names the {kind} {shown(wanted)}, which is not there"
                f"{nearest(wanted, known)}",
                remedy=remedy,
            )
    cluster, cluster_directory = config.clusters[context.cluster]
    user, user_directory = config.users.get(context.user, (User(), cluster_directory))
    return Choice(
        name, context.cluster, cluster, cluster_directory, context.user, user, user_directory
    )


def _of(known: Iterable[str]) -> str:
    """Return the names there are, as the end of a remedy."""
    names = sorted(known)
    if not names:
        return "; there is none yet"
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f": {', '.join(names[:_MOST])}{more}"
