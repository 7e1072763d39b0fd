"""`kgpuctl checks`: all checks, or what one of them means."""

from typing import Annotated

import typer

from kgpuctl.cli.session import ListOutput, write


def checks(
    id: Annotated[  # noqa: A002  # the word users type
        str | None, typer.Argument(metavar="[ID]", help="The check to explain.")
    ] = None,
    *,
    output: Annotated[
        ListOutput, typer.Option("--output", "-o", help="How to write it.")
    ] = ListOutput.HUMAN,
) -> None:
    """List all checks, or explain one: what is read, why it matters, how to put it right.

    Example: kgpuctl checks gpu.group-viable
    """
    from kgpuctl.checks.host.table import HOST_CHECKS
    from kgpuctl.config import nearest
    from kgpuctl.errors import UsageError
    from kgpuctl.explained import load_explained
    from kgpuctl.render import reference

    ids = [check.id for check in HOST_CHECKS]
    if id is not None and id not in ids:
        raise UsageError(
            f"There is no check {id}{nearest(id, ids)}", remedy="`kgpuctl checks` lists all ids."
        )
    wanted = [check for check in HOST_CHECKS if id in {None, check.id}]
    entries = reference.entries(((check.id, check.title) for check in wanted), load_explained())
    if output is ListOutput.JSON:
        write(reference.as_json(entries))
    else:
        write(reference.as_list(entries) if id is None else reference.as_text(entries[0]))
