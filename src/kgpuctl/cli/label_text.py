"""A plan or an outcome as text for a terminal."""

import os
import sys

from rich.console import Console

from kgpuctl.render.changes import ChangePrinter
from kgpuctl.report import Report


def as_text(report: Report, *, verbose: bool, no_color: bool) -> str:
    """Return a report as people read it."""
    plain = no_color or bool(os.environ.get("NO_COLOR"))
    console = Console(
        file=sys.stdout, color_system=None if plain else "auto", highlight=False, emoji=False
    )
    with console.capture() as capture:
        ChangePrinter(console, verbose=verbose).show(report)
    return capture.get()
