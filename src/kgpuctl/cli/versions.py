"""`kgpuctl versions`: the known versions, and what works with what."""

from typing import Annotated

import typer

from kgpuctl.cli.session import ListOutput
from kgpuctl.names import Stack
from kgpuctl.stdout import write


def versions(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[VERSION|DEFECT]", help="A version, or a defect's id, to tell all of."
        ),
    ] = None,
    *,
    stack: Annotated[
        Stack | None, typer.Option("--stack", help="Only the versions of this stack.")
    ] = None,
    output: Annotated[
        ListOutput, typer.Option("--output", "-o", help="How to write it.")
    ] = ListOutput.HUMAN,
) -> None:
    """List the known versions and what works with what, or tell all of one.

    Example: kgpuctl versions v25.10.1
    """
    from kgpuctl.catalog import load_catalog, parse_version
    from kgpuctl.errors import UsageError, nearest, shown
    from kgpuctl.render import versions as render

    catalog = load_catalog()
    stacks = [stack] if stack else list(Stack)
    if what is None:
        text = render.as_json if output is ListOutput.JSON else render.as_tables
        write(text(catalog, stacks))
        return
    if output is ListOutput.JSON:
        raise UsageError(
            "-o json writes the whole catalogue, not one part of it.",
            remedy=f"Leave out {shown(what)}, and pick it out of the JSON.",
        )
    listed = render.entries(catalog, stacks)
    numbers = parse_version(what)
    entry = next((entry for entry in listed if entry.numbers == numbers), None)
    if entry:
        write(render.as_text(catalog, entry))
    elif what in catalog.defects:
        write(render.as_defect(catalog, catalog.defects[what]))
    else:
        known = [*(entry.version for entry in listed), *catalog.defects]
        raise UsageError(
            f"The catalogue has nothing called {shown(what)}{nearest(what, known)}",
            remedy="`kgpuctl versions` lists what it has.",
        )
