"""The command line: the commands, and the one place where errors become words and exit codes."""

import sys
from itertools import pairwise
from typing import Annotated

import typer

from kgpuctl import __version__
from kgpuctl.cli.checks import checks
from kgpuctl.cli.preflight import preflight
from kgpuctl.cli.session import Output, emit
from kgpuctl.errors import KgpuctlError, UsageError

INTERRUPTED = 130

app = typer.Typer(
    name="kgpuctl",
    invoke_without_command=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(value: bool) -> None:  # noqa: FBT001  # typer calls it
    if value:
        typer.echo(f"kgpuctl {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001  # its callback answers
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Take a cluster from bare NVIDIA GPU nodes to GPU workloads in Kata VMs, and back again.

    Exit codes: 0 nothing failed, 2 usage or configuration, 3 a check failed, 4 something could
    not be read or stayed unknown, 5 a step failed, 130 interrupted.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


COMMANDS = ("preflight", "checks")
app.command(short_help="Check whether this host can give its GPUs to Kata VMs.")(preflight)
app.command(short_help="List all checks, or explain one.")(checks)


def run() -> None:
    """Run the command line; every KgpuctlError becomes words on stderr and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a C locale cannot print every character
    try:
        code = app(standalone_mode=False)
    except KgpuctlError as error:
        code = _tell(error)
    except typer.TyperException as error:
        code = _tell(_usage(error))
    except (typer.Abort, KeyboardInterrupt):
        sys.stderr.write("\ninterrupted: nothing was changed on the host\n")
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: typer.TyperException) -> UsageError:
    """Put the parser's complaint into our form."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "kgpuctl"
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    return UsageError(message, remedy=f"`{command} --help` shows what it takes.")


def _tell(error: KgpuctlError) -> int:
    """Say on stderr what stopped the run; programs get it in the envelope that they asked for."""
    from rich.console import Console

    from kgpuctl.render.human import show_error
    from kgpuctl.report import Claim, Report, Subject

    show_error(Console(stderr=True, highlight=False, emoji=False), error)
    output = _wanted_output(sys.argv[1:])
    if output is not Output.HUMAN:
        command = next((word for word in sys.argv[1:] if word in COMMANDS), "kgpuctl")
        empty = Subject((), {})
        emit(Report(command, Claim("", "", ""), empty, (), error=error), output)
    return error.exit_code


def _wanted_output(words: list[str]) -> Output:
    """Find -o in the arguments, also where they could not be parsed."""
    for word, following in pairwise([*words, ""]):
        value = following if word in {"-o", "--output"} else ""
        for prefix in ("--output=", "-o"):
            if word.startswith(prefix) and word != "-o":
                value = word.removeprefix(prefix)
                break
        if value in {item.value for item in Output}:
            return Output(value)
    return Output.HUMAN
