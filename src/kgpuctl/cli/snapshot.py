"""`kgpuctl snapshot`: everything that verify reads, in one file."""

import sys
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
from kgpuctl.cli.session import VerboseOption


def snapshot(  # noqa: PLR0913  # a command's options are its parameters
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Where to write it; - is stdout, .gz packs it.")
    ],
    *,
    logs: Annotated[
        bool, typer.Option("--logs", help="Also the operands' logs, current and previous.")
    ] = False,
    kubelet_config: Annotated[
        bool, typer.Option("--kubelet-config", help="Also read kubelets (needs nodes/proxy).")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    verbose: VerboseOption = False,
    timeout: TimeoutOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    as_user: AsOption = None,
    as_group: AsGroupOption = None,
) -> None:
    """Write what verify reads of a cluster into one file, for verify --from and for support.

    It holds no Secret, no ConfigMap, no environment variable and no argument of any container;
    credentials in events and logs are taken out.

    Example: kgpuctl snapshot cluster.json.gz --logs
    """
    from kgpuctl.cli.connection import access, connect
    from kgpuctl.cli.live import target_names
    from kgpuctl.cluster.reader import Reading, read_cluster
    from kgpuctl.cluster.recording import dump, packed
    from kgpuctl.output import refuse_existing, write_output
    from kgpuctl.stdout import complain, write

    path = None if file == "-" else Path(file)
    if path is not None:
        refuse_existing(path, force=force)
    cluster = connect(access(kubeconfig, context, as_user, as_group, timeout), verbose=verbose)
    found = read_cluster(
        cluster, Reading(all_logs=logs, kubelets=target_names if kubelet_config else None)
    )
    chunks = dump(found)
    if path is None:
        for chunk in chunks:
            write(chunk.decode())
    else:
        write_output(path, packed(chunks) if path.suffix == ".gz" else chunks, mode=0o600)
    if found.missed:
        complain(f"not in it: {'; '.join(found.missed)}\n")
    if path is not None and sys.stderr is not None and sys.stderr.isatty():
        complain(f"wrote {path}, {path.stat().st_size:,} bytes\n")
