"""`kgpuctl preflight`: whether this host can give its GPUs to Kata VMs."""

import datetime as dt
import os
from pathlib import Path
from typing import Annotated

import typer

from kgpuctl.cli.connection import (
    AsGroupOption,
    AsOption,
    ContextOption,
    KubeconfigOption,
    TimeoutOption,
)
from kgpuctl.cli.session import (
    NoColorOption,
    OnlyProblemsOption,
    Output,
    OutputOption,
    VerboseOption,
    emit,
)
from kgpuctl.names import Stack, Tee

_HOST_ONLY = ("root", "record", "device", "after_install", "fix_script", "force")
_CLUSTER_ONLY = (
    "node",
    "kubelet_config",
    "timeout",
    "kubeconfig",
    "context",
    "as_user",
    "as_group",
)


def preflight(  # noqa: PLR0913  # a command's options are its parameters
    ctx: typer.Context,
    *,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Check a cluster before an install, not this host.")
    ] = False,
    node: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With --cluster: install on this node; may be repeated."),
    ] = None,
    kubelet_config: Annotated[
        bool, typer.Option("--kubelet-config", help="With --cluster: read kubelets (nodes/proxy).")
    ] = False,
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
    timeout: TimeoutOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    as_user: AsOption = None,
    as_group: AsGroupOption = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A kgpuctl.toml.  [default: ./kgpuctl.toml]")
    ] = None,
) -> None:
    """Say whether this host can give its GPUs to Kata VMs, and if not, why and what to type.

    It only reads: nothing is changed. On a host, root sees everything; an ordinary user is told
    what could not be seen. With --cluster it judges a cluster before an install.

    Example: sudo kgpuctl preflight --fix-script fix.sh
    """
    from kgpuctl.cli.session import refuse_given
    from kgpuctl.config import Waiver, load_config, pci_address
    from kgpuctl.errors import UsageError

    refuse_given(
        ctx,
        _HOST_ONLY if cluster else _CLUSTER_ONLY,
        "with --cluster" if cluster else "without --cluster",
    )
    settings = load_config(config, os.environ)
    waivers = (*settings.waivers, *(Waiver(id, "--waive") for id in waive or ()))  # noqa: A001
    tee = confidential or settings.confidential
    if cluster:
        from kgpuctl.cli.cluster_run import Wishes as ClusterWishes
        from kgpuctl.cli.connection import access
        from kgpuctl.cli.preflight_cluster import preflight_report

        report = preflight_report(
            recording,
            access(kubeconfig, context, as_user, as_group, timeout),
            ClusterWishes(
                confidential=tee,
                nodes=tuple(node or ()),
                waivers=waivers,
                only_problems=only_problems,
                today=dt.datetime.now(dt.UTC).date(),
                stack=stack or settings.stack,
            ),
            kubelets=kubelet_config,
            verbose=verbose,
        )
        emit(report, output, verbose=verbose, no_color=no_color)
        raise typer.Exit(report.exit_code)
    from kgpuctl.cli.preflight_run import Wishes, judge
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
    wishes = Wishes(
        root=root,
        recording=recording,
        devices=tuple(map(pci_address, device or ())) or settings.devices,
        stack=stack or settings.stack or Stack.KATA_DEPLOY,
        confidential=tee,
        after_install=after_install,
        waivers=waivers,
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
