"""What a cluster shows of a stuck or failing pod, and what that means: one table, as data."""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from kgpuctl.report import printable

# Where one of these is not given, the remedy says it in capitals, for a person to fill in.
PLACES: Final = ("node", "pod", "namespace", "runtime_class", "resource", "container")
_PLACE: Final = re.compile(r"\{(" + "|".join(PLACES) + r")\}")
# What is looked at of a clue, and no more: a runtime's error has its cause near one of its ends.
LONGEST: Final = 65_536


class ClueKind(StrEnum):
    """Where a clue was found."""

    EVENT = "event"
    STATE = "state"
    LOG = "log"
    CONDITION = "condition"
    SELECTOR = "selector"


class Clue(NamedTuple):
    """Something that a cluster shows of a pod, a node or an operator.

    An ended container's text begins with its exit code (`exit code 127 …`). A selector's reason is
    the label that the pod's node selector wants and no node has; see `selector_clues`.
    """

    kind: ClueKind
    reason: str
    text: str
    container: str = ""


class Match(NamedTuple):
    """What a clue must have; empty asks for nothing. Of several texts all must be found."""

    kinds: tuple[ClueKind, ...]
    reason: str
    texts: tuple[str, ...]
    container: str

    def fits(self, clue: Clue) -> bool:
        """Compare with a clue; expressions are compiled when they are first needed, by `re`."""
        if self.kinds and clue.kind not in self.kinds:
            return False
        if self.reason and not re.fullmatch(self.reason, clue.reason):
            return False
        if self.container and not re.fullmatch(self.container, clue.container):
            return False
        return all(re.search(text, clue.text) for text in self.texts)


class Explanation(NamedTuple):
    """Why it happens and what to do about it; `heals` means that it may go away by itself."""

    id: str
    matches: tuple[Match, ...]
    cause_text: str
    remedy_text: str
    heals: bool
    sources: tuple[str, ...]

    @property
    def cause(self) -> str:
        """Return the cause, with what is not known of the pod in capitals."""
        return _filled(self.cause_text, {})

    def cause_for(self, **places: str) -> str:
        """Return the cause in the words of the pod at hand."""
        return _filled(self.cause_text, places)

    def remedy_for(self, **places: str) -> str:
        """Return the remedy with node, pod, namespace and so on filled in."""
        return _filled(self.remedy_text, places)


@dataclass(frozen=True, slots=True)
class Explanations:
    """The table; what is specific stands before what is general."""

    rows: tuple[Explanation, ...]

    def explain(self, clues: Iterable[Clue]) -> Explanation | None:
        """Return the first row that any of the clues fits; None where the table has none."""
        known = [_shortened(clue) for clue in clues]
        return next(
            (
                row
                for row in self.rows
                if any(match.fits(clue) for match in row.matches for clue in known)
            ),
            None,
        )


def selector_clues(
    wanted: Mapping[str, str], nodes: Sequence[Mapping[str, str]]
) -> tuple[Clue, ...]:
    """Return a clue for each label of a node selector that none of the nodes has.

    The scheduler does not say which label it missed. `wanted` is the selector of the RuntimeClass
    together with the pod's own, `nodes` are the labels of the nodes that it is meant for.
    """
    return tuple(
        Clue(ClueKind.SELECTOR, key, f'wanted "{value}", found {_found(key, nodes)}')
        for key, value in wanted.items()
        if all(labels.get(key) != value for labels in nodes)
    )


def _found(key: str, nodes: Sequence[Mapping[str, str]]) -> str:
    values = sorted({labels[key] for labels in nodes if labels.get(key)})
    return ", ".join(f'"{value}"' for value in values) or "nothing"


def _shortened(clue: Clue) -> Clue:
    """Keep both ends of a text that is too long to look through."""
    if len(clue.text) <= LONGEST:
        return clue
    half = LONGEST // 2
    return clue._replace(text=f"{clue.text[:half]}\n{clue.text[-half:]}")


def _filled(text: str, places: Mapping[str, str]) -> str:
    """Fill in the known places once; every other brace is the text's own."""
    return _PLACE.sub(lambda found: printable(places.get(found[1]) or found[1].upper()), text)


def load_explanations() -> Explanations:
    """Read the table that comes with kgpuctl."""
    text = Path(__file__).with_name("explanations.toml").read_text(encoding="utf-8")
    return Explanations(tuple(_row(row) for row in tomllib.loads(text)["explanation"]))


def _row(row: Mapping[str, Any]) -> Explanation:
    return Explanation(
        id=row["id"],
        matches=tuple(_match(match) for match in row["match"]),
        cause_text=" ".join(row["cause"].split()),
        remedy_text=" ".join(row["remedy"].split()),
        heals=row["heals"],
        sources=tuple(row["sources"]),
    )


def _match(row: Mapping[str, Any]) -> Match:
    return Match(
        kinds=tuple(ClueKind(kind) for kind in _listed(row.get("in", []))),
        reason=row.get("reason", ""),
        texts=tuple(_listed(row.get("text", []))),
        container=row.get("container", ""),
    )


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
