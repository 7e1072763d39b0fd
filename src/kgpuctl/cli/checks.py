"""`kgpuctl checks`: all checks, or what one of them means."""

from typing import Annotated

import typer

from kgpuctl.cli.session import ListOutput
from kgpuctl.stdout import write


def checks(
    id: Annotated[  # noqa: A002  # the word users type
        str | None, typer.Argument(metavar="[ID]", help="A check to explain, or an area to list.")
    ] = None,
    *,
    output: Annotated[
        ListOutput, typer.Option("--output", "-o", help="How to write it.")
    ] = ListOutput.HUMAN,
) -> None:
    """List all checks, or explain one: what is read, why it matters, how to put it right.

    Example: kgpuctl checks gpu.group-viable
    """
    from kgpuctl.cli.tables import all_checks
    from kgpuctl.errors import UsageError, nearest, shown
    from kgpuctl.explained import load_explained
    from kgpuctl.render import reference

    known = all_checks()
    ids = [check.id for check in known]
    wanted = [check for check in known if id in {None, check.id, check.id.partition(".")[0]}]
    if not wanted:
        raise UsageError(
            f"There is no check {shown(id or '')}{nearest(id or '', ids)}",
            remedy="`kgpuctl checks` lists all ids.",
        )
    entries = reference.entries(((check.id, check.title) for check in wanted), load_explained())
    if output is ListOutput.JSON:
        write(reference.as_json(entries))
    else:
        write(reference.as_text(entries[0]) if id in ids else reference.as_list(entries))
