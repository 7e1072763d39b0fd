"""The command line: the commands, and the one place where errors become words and exit codes."""

import re
import sys
from contextlib import suppress
from itertools import pairwise
from typing import Annotated

import typer

from kgpuctl import __version__
from kgpuctl.cli.checks import checks
from kgpuctl.cli.label_nodes import label_nodes
from kgpuctl.cli.preflight import preflight
from kgpuctl.cli.rbac import rbac
from kgpuctl.cli.session import Output, emit
from kgpuctl.cli.snapshot import snapshot
from kgpuctl.cli.verify import verify
from kgpuctl.cli.versions import versions
from kgpuctl.errors import KgpuctlError, UsageError
from kgpuctl.stdout import complain, write

EXIT_INTERRUPTED = 130

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


COMMANDS = ("preflight", "label-nodes", "verify", "snapshot", "checks", "versions", "rbac")
app.command(short_help="Check whether a host or a cluster can take GPUs into Kata VMs.")(preflight)
app.command(short_help="Choose the nodes whose GPUs go to VMs, or take that back.")(label_nodes)
app.command(short_help="Check whether GPUs in Kata VMs really work on a cluster.")(verify)
app.command(short_help="Write what verify reads of a cluster into a file.")(snapshot)
app.command(short_help="List all checks, or explain one.")(checks)
app.command(short_help="List the known versions, and what works with what.")(versions)
app.command(short_help="Print the rights that a command needs, as a manifest.")(rbac)


def run() -> int:
    """Run the command line; every KgpuctlError becomes words on stderr and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a C locale cannot print every character
    try:
        code = _ended()
    except KgpuctlError as error:
        return _tell(error)
    except typer.Abort:
        code = EXIT_INTERRUPTED
    if code == EXIT_INTERRUPTED:  # the parser keeps a KeyboardInterrupt to itself
        complain("\ninterrupted\n")
    return code


def _ended() -> int:
    """Run the parser and the command; what the parser says counts as our own error."""
    try:
        code = app(standalone_mode=False)
        write("")  # what the parser printed may still be on its way
    except typer.TyperException as error:
        raise _usage(error) from error
    except SystemExit:  # the parser's way of saying that nobody reads its help any more
        return 0
    except OSError as error:
        if error.filename is not None:
            raise
        write("")  # the help met a closed or full stdout: this tells which
    return code if isinstance(code, int) else 0


def _usage(error: typer.TyperException) -> UsageError:
    """Put the parser's complaint into our form."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "kgpuctl"
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    end = "" if message.endswith((".", "?", ")")) else "."
    return UsageError(f"{message}{end}", remedy=f"`{command} --help` shows what it takes.")


def _tell(error: KgpuctlError) -> int:
    """Say on stderr what stopped the run; programs get it in the envelope that they asked for."""
    from kgpuctl.report import Claim, Report, Subject

    complain(f"error: {error.message}\n  try: {error.remedy}\n")
    output = _wanted_output(sys.argv[1:])
    if output is not Output.HUMAN:
        command = next((word for word in sys.argv[1:] if word in COMMANDS), "kgpuctl")
        empty = Subject((), {})
        with suppress(KgpuctlError):  # stdout itself may be what failed
            emit(Report(command, Claim("", "", ""), empty, (), error=error), output)
    return error.exit_code


def _wanted_output(words: list[str]) -> Output:
    """Find the last -o in the arguments, also where they could not be parsed."""
    found = Output.HUMAN
    for word, following in pairwise([*words, ""]):
        match = re.fullmatch(r"--output(?:=(.*))?|-[a-np-z]*o(.*)", word, re.DOTALL)
        if match:
            value = match[1] or match[2] or following
            found = Output(value) if value in set(Output) else found
    return found
