"""`kgpuctl preflight`: whether this host can give its GPUs to Kata VMs."""

import datetime as dt
import os
from pathlib import Path
from typing import Annotated

import typer

from kgpuctl.cli.session import (
    NoColorOption,
    OnlyProblemsOption,
    Output,
    OutputOption,
    VerboseOption,
    emit,
)
from kgpuctl.names import Stack, Tee


def preflight(  # noqa: PLR0913  # a command's options are its parameters
    *,
    root: Annotated[
        str, typer.Option(metavar="DIR", help="Another root directory than /, such as /host.")
    ] = "/",
    recording: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="Judge a recording.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write what was read (tar.gz).")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Judge this PCI device as a GPU; may be repeated."),
    ] = None,
    stack: Annotated[
        Stack | None, typer.Option(help="The stack to judge for.  [default: kata-deploy]")
    ] = None,
    confidential: Annotated[
        Tee | None, typer.Option(help="Also ask for what confidential VMs need.")
    ] = None,
    after_install: Annotated[
        bool, typer.Option("--after-install", help="Require what the install has set up.")
    ] = False,
    waive: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Do not count this check; may be repeated."),
    ] = None,
    fix_script: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a shell script with the remedies, to be read."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the files of --record and --fix-script.")
    ] = False,
    only_problems: OnlyProblemsOption = False,
    output: OutputOption = Output.HUMAN,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A kgpuctl.toml.  [default: ./kgpuctl.toml]")
    ] = None,
) -> None:
    """Say whether this host can give its GPUs to Kata VMs, and if not, why and what to type.

    It only reads: nothing on the host is changed. As root it sees everything; as an ordinary
    user it says what it could not see.

    Example: sudo kgpuctl preflight --fix-script fix.sh
    """
    from kgpuctl.cli.preflight_run import Wishes, judge
    from kgpuctl.config import Waiver, load_config, pci_address
    from kgpuctl.errors import UsageError
    from kgpuctl.output import refuse_existing, write_output

    if recording is not None and (root != "/" or record):
        raise UsageError(
            f"--from cannot be used with {'--record' if record else '--root'}.",
            remedy="Judge a recording, or a directory, or this host.",
        )
    if record and record == fix_script:
        raise UsageError(f"--record and --fix-script both name {record}.", remedy="Name two files.")
    for path in filter(None, (record, fix_script)):
        refuse_existing(path, force=force)
    settings = load_config(config, os.environ)
    wishes = Wishes(
        root=root,
        recording=recording,
        devices=tuple(map(pci_address, device or ())) or settings.devices,
        stack=stack or settings.stack or Stack.KATA_DEPLOY,
        confidential=confidential or settings.confidential,
        after_install=after_install,
        waivers=(*settings.waivers, *(Waiver(id, "--waive") for id in waive or ())),  # noqa: A001
        only_problems=only_problems,
        now=dt.datetime.now(dt.UTC),
    )
    judged = judge(wishes)
    if record:
        write_output(record, judged.pack(), mode=0o600)
    if fix_script:
        write_output(fix_script, judged.fix_script().encode(), mode=0o700)
    emit(judged.report, output, verbose=verbose, no_color=no_color)
    raise typer.Exit(judged.report.exit_code)
