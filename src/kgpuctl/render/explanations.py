"""The table of explanations as a page of the documentation."""

from collections.abc import Iterable
from typing import Final

from kgpuctl.explanations import Explanation

_HEAD: Final = """\
# Explanations

<!-- Written by `nox -s docs` from src/kgpuctl/explanations.toml. -->

What kgpuctl says about a pod that is stuck or fails. It looks at everything that the cluster shows
of the pod: its events, the states of its containers, the conditions of pod, node and operator, the
logs where there are any, and the labels that its RuntimeClass selects and no node has. The first
row below that fits any of these wins, so what is specific stands before what is general.

Names in capitals (NODE, POD, NAMESPACE, RUNTIME_CLASS, RESOURCE, CONTAINER) are filled in from the
pod at hand. Of some causes it is said that they may go away by themselves: a wait goes on for them,
and ends at once for the others.

What shows only on a host is not here: `kgpuctl preflight` finds that ([checks](checks.md)).
"""


def as_page(rows: Iterable[Explanation]) -> str:
    """Return the whole page."""
    return "\n".join([_HEAD, *map(_section, rows)])


def _section(row: Explanation) -> str:
    heals = "may go away by itself" if row.heals else "does not go away by itself"
    return (
        f'### <a id="{row.id}"></a>`{row.id}`\n\n{row.cause} It {heals}.\n\n'
        f"**What to do:** {row.remedy_for()}\n\n**Sources:** {'; '.join(row.sources)}\n"
    )
