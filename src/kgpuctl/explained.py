"""What each check means, in words: one table for `kgpuctl checks` and for the reference page."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Explained:
    """What a check reads, why it matters, how to put it right, and who says so."""

    reads: tuple[str, ...]
    severity: str
    why: str
    fix: str
    sources: tuple[str, ...]


def load_explained() -> Mapping[str, Explained]:
    """Return the explanation of every check by its id."""
    text = Path(__file__).with_name("explained.toml").read_text(encoding="utf-8")
    return {
        f"{area}.{name}": Explained(
            reads=tuple(row["reads"]),
            severity=row["severity"],
            why=row["why"].strip(),
            fix=row["fix"].strip(),
            sources=tuple(row["sources"]),
        )
        for area, rows in tomllib.loads(text).items()
        for name, row in rows.items()
    }
