"""Breaking text into lines, so that what is to be typed stays in one piece."""

import textwrap
from typing import Final

_UNBROKEN: Final = "\u00a0"  # stands for the spaces of a `command` while lines are broken


def wrap(text: str, width: int, hanging: int = 0) -> list[str]:
    """Break a text into lines, but not a `command` that has room on one line of its own."""
    parts = text.split("`")
    for index in range(1, len(parts), 2):
        parts[index] = parts[index].replace(" ", _UNBROKEN)
    return [
        line.replace(_UNBROKEN, " ")
        for line in textwrap.wrap(
            "`".join(parts),
            max(width, 20),
            subsequent_indent=" " * hanging,
            break_long_words=False,
            break_on_hyphens=False,
        )
    ] or [""]
