"""How a command reaches its cluster: the options, and the connection that they mean."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kgpuctl.errors import UsageError, shown
from kgpuctl.stdout import complain

if TYPE_CHECKING:
    from kgpuctl.cluster.access import Access
    from kgpuctl.cluster.kube import KubeCluster

KubeconfigOption = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="The kubeconfig.  [default: KUBECONFIG, ~/.kube/config]"),
]
ContextOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The kubeconfig context.  [default: the current one]"),
]
AsOption = Annotated[
    str | None, typer.Option("--as", metavar="USER", help="Impersonate this user.")
]
AsGroupOption = Annotated[
    list[str] | None,
    typer.Option("--as-group", metavar="GROUP", help="Impersonate this group; may be repeated."),
]
TimeoutOption = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="End after this time, such as 90s, 10m or 1h30m."),
]

_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6}(?:\.\d{1,3})?)s?)?")


def duration(text: str) -> float:
    """Return seconds of 90, 90s, 10m or 1h30m."""
    match = _DURATION.fullmatch(text.strip())
    parts = [float(part or 0) for part in match.groups()] if match else []
    seconds = parts[0] * 3600 + parts[1] * 60 + parts[2] if parts else 0.0
    if seconds <= 0:
        raise UsageError(
            f"{shown(text)} is no time to wait.", remedy="Write it like 90s, 10m or 1h30m."
        )
    return seconds


def access(
    kubeconfig: str | None,
    context: str | None,
    as_user: str | None,
    as_groups: list[str] | None,
    timeout: str | None,
) -> Access:
    """Put the options of a command together."""
    from kgpuctl.cluster.access import Access

    return Access(
        kubeconfig,
        context,
        as_user,
        tuple(as_groups or ()),
        duration(timeout) if timeout is not None else None,
    )


def connect(wanted: Access, *, verbose: bool) -> KubeCluster:
    """Open the cluster; with -v each request is told on stderr."""
    from kgpuctl.cluster.kube import KubeCluster, ignore

    return KubeCluster.connect(wanted, _tell if verbose else ignore)


def _tell(line: str) -> None:
    clear = "\r\x1b[K" if sys.stderr is not None and sys.stderr.isatty() else ""  # a live line
    complain(f"{clear}{line}\n")
