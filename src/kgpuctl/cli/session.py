"""What the commands share: options, where the output goes, and the boundaries they open."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from kgpuctl.errors import UsageError
from kgpuctl.stdout import write

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kgpuctl.report import Report


class Output(StrEnum):
    """How a report is written."""

    HUMAN = "human"
    JSON = "json"
    JUNIT = "junit"
    MARKDOWN = "markdown"


class ListOutput(StrEnum):
    """How a list is written that is no report."""

    HUMAN = "human"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="How to write the report.", show_default=True)
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Tell of every check, passed and skipped ones too.")
]
NoColorOption = Annotated[
    bool, typer.Option("--no-color", help="No colour; so does NO_COLOR in the environment.")
]
OnlyProblemsOption = Annotated[
    bool, typer.Option("--only-problems", help="List only what failed, warned or is unknown.")
]


def emit(report: Report, output: Output, *, verbose: bool = False, no_color: bool = False) -> None:
    """Write a report to stdout in the form that was asked for."""
    match output:
        case Output.HUMAN:
            write(_as_text(report, verbose=verbose, no_color=no_color))
        case Output.JSON:
            from kgpuctl.render import json

            write(json.dumps(report))
        case Output.JUNIT:
            from kgpuctl.render import junit

            write(junit.dumps(report))
        case Output.MARKDOWN:
            from kgpuctl.render import markdown

            write(markdown.dumps(report))


def _as_text(report: Report, *, verbose: bool, no_color: bool) -> str:
    from rich.console import Console

    from kgpuctl.render.human import Printer

    plain = no_color or bool(os.environ.get("NO_COLOR"))
    console = Console(
        file=sys.stdout, color_system=None if plain else "auto", highlight=False, emoji=False
    )
    with console.capture() as capture:
        Printer(console, verbose).show(report)
    return capture.get()


def refuse_given(ctx: typer.Context, names: Iterable[str], why: str) -> None:
    """Refuse options that mean nothing here: one that does nothing would be believed."""
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if (parameter.name or "") in names and source is not None and source.name == "COMMANDLINE":
            raise UsageError(
                f"{parameter.opts[0]} cannot be used {why}.",
                remedy=f"`{ctx.command_path} --help` says which options go together.",
            )
