"""What the API server would make of a change, as a unified diff; equal changes are shown once."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from kgpuctl.report import printable

SINGLE: Final = 20  # up to so many nodes each has a diff of its own
_NAMED: Final = 8


class Preview(Protocol):
    """An object as it is and as it would be."""

    @property
    def node(self) -> str:
        """Return its name."""

    @property
    def before(self) -> Sequence[str]:
        """Return its lines now."""

    @property
    def after(self) -> Sequence[str]:
        """Return its lines then."""


class _Group(NamedTuple):
    nodes: tuple[str, ...]
    lines: tuple[str, ...]


def diff(previews: Sequence[Preview]) -> str:
    """Return the differences, and nothing of what stays."""
    groups = [_Group((item.node,), _lines(item)) for item in previews]
    if len(groups) > SINGLE:
        groups = _merged(groups)
    return "".join(_text(group) for group in groups)


def _lines(item: Preview) -> tuple[str, ...]:
    found = difflib.unified_diff(item.before, item.after, lineterm="", n=0)
    return tuple(printable(line) for line in found if not line.startswith(("---", "+++")))


def _merged(groups: Iterable[_Group]) -> list[_Group]:
    """Put nodes together whose lines change alike, wherever in the node they stand."""
    nodes: dict[tuple[str, ...], list[str]] = {}
    for group in groups:
        lines = tuple(line for line in group.lines if not line.startswith("@@"))
        nodes.setdefault(lines, []).extend(group.nodes)
    return [_Group(tuple(names), lines) for lines, names in nodes.items()]


def _text(group: _Group) -> str:
    name = f"node/{printable(group.nodes[0])}"
    if len(group.nodes) > 1:
        told = ", ".join(map(printable, group.nodes[:_NAMED]))
        more = len(group.nodes) - _NAMED
        name = f"{len(group.nodes)} nodes: {told}{f' and {more} more' if more > 0 else ''}"
    lines = group.lines or ("(no difference)",)
    return "\n".join((f"--- {name} (now)", f"+++ {name} (then)", *lines)) + "\n"
