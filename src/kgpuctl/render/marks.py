"""A line on a console: marked by a status, coloured, and wrapped to the width that there is."""

from typing import Final

from rich.console import Console
from rich.text import Text

from kgpuctl.render.lines import wrap
from kgpuctl.report import Status

MIN_WIDTH: Final = 40
STYLES: Final = {
    Status.PASSED: "green",
    Status.SKIPPED: "dim",
    Status.WARNED: "yellow",
    Status.UNKNOWN: "magenta",
    Status.FAILED: "bold red",
}
_MARKS: Final = {
    Status.PASSED: "✓",
    Status.SKIPPED: "-",
    Status.WARNED: "!",
    Status.UNKNOWN: "?",
    Status.FAILED: "✗",
}
_ASCII_MARKS: Final = _MARKS | {Status.PASSED: "+", Status.FAILED: "x"}


def print_line(  # noqa: PLR0913  # how a line looks
    console: Console,
    text: str,
    *,
    mark: Status | None = None,
    indent: int = 0,
    style: str = "",
    hanging: int = 0,
) -> None:
    """Print a text on as many lines as it needs; a mark stands before the first of them."""
    width = max(console.width, MIN_WIDTH) - indent - (2 if mark else 0)
    for number, line in enumerate(wrap(text, width, hanging)):
        out = Text(" " * indent)
        if mark:
            out.append("  " if number else f"{_mark(console, mark)} ", style=STYLES[mark])
        out.append(line, style=style)
        console.print(out, soft_wrap=True)


def _mark(console: Console, status: Status) -> str:
    return (_MARKS if console.encoding.startswith("utf") else _ASCII_MARKS)[status]
