"""`kgpuctl verify`: whether GPU passthrough into Kata VMs really works on a cluster."""

import datetime as dt
import os
from functools import partial
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
from kgpuctl.names import Tee


def verify(  # noqa: PLR0913  # a command's options are its parameters
    *,
    recording: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help="Judge a snapshot, or `kubectl get -o json`."),
    ] = None,
    node: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Judge only this node; may be repeated."),
    ] = None,
    confidential: Annotated[
        Tee | None, typer.Option(help="Ask for what confidential VMs need.")
    ] = None,
    kubelet_config: Annotated[
        bool, typer.Option("--kubelet-config", help="Also read kubelets (needs nodes/proxy).")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it has passed, or for --timeout (20m).")
    ] = False,
    waive: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Do not count this check; may be repeated."),
    ] = None,
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
    """Say whether GPU passthrough into Kata VMs works, and if not, why and what to type.

    It only reads. The stack is recognised, never asked for; "ready" is believed of nobody.

    Example: kgpuctl verify --only-problems
    """
    from kgpuctl.cli.cluster_run import Wishes, verify_snapshot
    from kgpuctl.cli.connection import access, connect
    from kgpuctl.config import Waiver, load_config
    from kgpuctl.errors import UsageError

    if recording is not None and (wait or kubelet_config):
        raise UsageError(
            f"--from cannot be used with {'--wait' if wait else '--kubelet-config'}.",
            remedy="A recording does not change, and holds what it holds.",
        )
    settings = load_config(config, os.environ)
    wishes = Wishes(
        confidential=confidential or settings.confidential,
        nodes=tuple(node or ()),
        waivers=(*settings.waivers, *(Waiver(id, "--waive") for id in waive or ())),  # noqa: A001
        only_problems=only_problems,
        today=dt.datetime.now(dt.UTC).date(),
    )
    if recording is not None:
        from kgpuctl.cluster.recording import open_snapshot

        report = verify_snapshot(open_snapshot(recording), wishes)
    else:
        from kgpuctl.cli.live import await_passed, verify_now

        wanted = access(kubeconfig, context, as_user, as_group, timeout)
        run = await_passed if wait else verify_now
        report = run(wanted, partial(connect, verbose=verbose), wishes, kubelets=kubelet_config)
    emit(report, output, verbose=verbose, no_color=no_color)
    raise typer.Exit(report.exit_code)
