"""The checks as a reference: a list, a text for one, JSON, and the page of the documentation."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Final

from kgpuctl.explained import Explained
from kgpuctl.render.lines import wrap

WIDTH: Final = 80
_HEAD: Final = """\
# Checks

<!-- Written by `nox -s docs` from src/kgpuctl/explained.toml and the check tables. -->

Every check of `kgpuctl preflight`, of `preflight --cluster` (`cluster`) and of `verify` (`verify`),
in the order in which they are asked. `kgpuctl checks ID` says the same in the terminal. A broken
check **fails** (exit code 3) or **warns**; what could not be read is **unknown** (exit code 4);
what does not apply is **skipped**, with its reason.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A check as the reference tells it."""

    id: str
    title: str
    explained: Explained


def entries(
    checks: Iterable[tuple[str, str]], explained: Mapping[str, Explained]
) -> tuple[Entry, ...]:
    """Put ids and titles together with their explanations."""
    return tuple(Entry(id, title, explained[id]) for id, title in checks)  # noqa: A001


def as_list(listed: Iterable[Entry]) -> str:
    """Return a line for each check."""
    lines = [f"{entry.id:<30} {entry.title}" for entry in listed]
    return "\n".join([*lines, "", "`kgpuctl checks ID` explains one."]) + "\n"


def as_text(entry: Entry) -> str:
    """Return all that is known of one check, for a terminal."""
    told = entry.explained
    parts = [
        f"{entry.id}: {entry.title}",
        "",
        *wrap(f"When it is not so: {told.severity}", WIDTH, hanging=2),
        "\nWhat is read",
        *(f"  {path}" for path in told.reads),
        "\nWhy it matters",
        _fill(told.why),
        "\nHow to put it right",
        _fill(told.fix),
        "\nSources",
        *(f"  {source}" for source in told.sources),
    ]
    return "\n".join(parts) + "\n"


def _fill(text: str) -> str:
    return "\n\n".join(
        "\n".join(f"  {line}" for line in wrap(paragraph, WIDTH - 2))
        for paragraph in text.split("\n\n")
    )


def as_json(listed: Iterable[Entry]) -> str:
    """Return the checks for programs."""
    checks = [{"id": entry.id, "title": entry.title} | asdict(entry.explained) for entry in listed]
    envelope = {"apiVersion": "kgpuctl/v1", "kind": "CheckList", "checks": checks}
    return json.dumps(envelope, indent=2, ensure_ascii=False) + "\n"


def as_page(listed: Iterable[Entry]) -> str:
    """Return docs/reference/checks.md."""
    parts = [_HEAD]
    for area, members in groupby(listed, key=lambda entry: entry.id.partition(".")[0]):
        parts.append(f"\n## {area}\n")
        parts += [_section(entry) for entry in members]
    return "".join(parts)


def _section(entry: Entry) -> str:
    told = entry.explained
    reads = ", ".join(f"`{path}`" for path in told.reads)
    sources = "; ".join(told.sources)
    return (
        f'\n### <a id="{entry.id}"></a>`{entry.id}`: {entry.title}\n\n'
        f"**When it is not so:** {told.severity}\n\n"
        f"**What is read:** {reads}\n\n"
        f"**Why it matters:** {told.why}\n\n"
        f"**How to put it right:** {told.fix}\n\n"
        f"**Sources:** {sources}\n"
    )
