"""`kgpuctl label-nodes`: what the GPUs of nodes are for, and back again."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kgpuctl.cli.connection import AsGroupOption, AsOption, ContextOption, KubeconfigOption
from kgpuctl.cli.session import ListOutput, NoColorOption, OnlyProblemsOption, VerboseOption
from kgpuctl.names import Stack


def label_nodes(  # noqa: PLR0913  # a command's options are its parameters
    node: Annotated[
        list[str] | None, typer.Argument(metavar="[NODE]...", help="The nodes to label.")
    ] = None,
    *,
    selector: Annotated[
        str, typer.Option("--selector", "-l", metavar="LABELS", help="The nodes with these labels.")
    ] = "",
    all_gpu_nodes: Annotated[
        bool, typer.Option("--all-gpu-nodes", help="All nodes with an NVIDIA GPU.")
    ] = False,
    workload: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="vm-passthrough (the default), container or vm-vgpu."),
    ] = None,
    stack: Annotated[
        Stack | None, typer.Option(help="The stack.  [default: recognised, else kata-deploy]")
    ] = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Put the labels back as they were before kgpuctl.")
    ] = False,
    evict: Annotated[
        bool, typer.Option("--evict", help="Cordon nodes in use and evict their GPU pods.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="With --dry-run: what the API server would make of it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="End after this time, such as 90s or 1h.")
    ] = "10m",
    only_problems: OnlyProblemsOption = False,
    output: Annotated[
        ListOutput, typer.Option("--output", "-o", help="How to write the report.")
    ] = ListOutput.HUMAN,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    as_user: AsOption = None,
    as_group: AsGroupOption = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A kgpuctl.toml.  [default: ./kgpuctl.toml]")
    ] = None,
) -> None:
    """Tell the GPU Operator what the GPUs of nodes are for: VMs or containers; or take that back.

    A node without an NVIDIA GPU, or whose GPUs are in use, is refused. Run again, it changes
    nothing more. The labels of before are remembered on each node.

    Example: kgpuctl label-nodes gpu-1 gpu-2 --dry-run
    """
    from kgpuctl.cli.connection import access, connect, duration
    from kgpuctl.cli.label_run import GRACE, Labelling, Wishes, stack_of, tell, workload_of
    from kgpuctl.cli.label_text import as_text
    from kgpuctl.config import load_config
    from kgpuctl.steps.targets import Selection

    refuse_together({"--diff": diff and not dry_run}, "without --dry-run")
    refuse_together(
        {
            "--workload": restore and workload is not None,
            "--stack": restore and stack is not None,
        },
        "with --restore",
    )
    wishes = Wishes(
        selection=Selection(tuple(node or ()), selector, every=all_gpu_nodes),
        workload=workload_of(workload),
        stack=stack_of(stack, load_config(config, os.environ).stack),
        restore=restore,
        evict=evict,
        dry_run=dry_run,
        diff=diff,
        yes=yes,
        timeout=duration(timeout),
        only_problems=only_problems,
    )
    wanted = access(kubeconfig, context, as_user, as_group, timeout)
    wanted = replace(wanted, timeout=wishes.timeout + GRACE)
    show = partial(as_text, verbose=verbose, no_color=no_color)
    labelling = Labelling(wishes, partial(connect, wanted, verbose=verbose), show)
    report = labelling.run()
    tell(report, output, show)
    raise typer.Exit(report.exit_code)


def refuse_together(given: Mapping[str, bool], why: str) -> None:
    """Refuse an option that would do nothing."""
    from kgpuctl.errors import UsageError

    for option, is_given in given.items():
        if is_given:
            raise UsageError(
                f"{option} cannot be used {why}.", remedy="`kgpuctl label-nodes --help` shows how."
            )
