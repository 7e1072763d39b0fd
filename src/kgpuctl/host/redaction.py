"""Taking what looks like a credential out of text that is kept.

It errs on the side of taking out too much: nothing that a check reads has such a name.
"""

import re
from typing import Final

REDACTED: Final = "REDACTED"
_WORDS: Final = r"(?:auth|credential|passw|secret|token|private[_-]?key|apikey|api[_-]key)"
# `key: value`, `"key" = value`, at the start of a line of YAML, TOML or an environment file.
_ASSIGNED: Final = re.compile(
    rf"""(?i)(\s*(?:-\s+)?["']?[\w./-]*{_WORDS}[\w./-]*["']?\s*[:=])(.*)"""
)
# `--token=value`, `name.password=value`, anywhere in a line.
_IN_LINE: Final = re.compile(rf"(?i)([\w.-]*{_WORDS}[\w.-]*=)(?!REDACTED)[^\s\"',]+")
_IN_FLAG: Final = re.compile(rf"(?i)(--[\w.-]*{_WORDS}[\w.-]*\s+)(?!-)[^\s\"',]+")
_IN_URL: Final = re.compile(r"(//)[^/@\s:]+:[^/@\s]+@")


def redact(text: str) -> str:
    """Replace the values of keys that name credentials, and passwords in URLs."""
    kept: list[str] = []
    below = -1  # the indentation of a redacted key: what stands deeper is its value
    until = ""  # the quotes that end a redacted multi-line string
    for line in text.splitlines(keepends=True):
        if until:
            until = "" if until in line else until
            continue
        indent = len(line) - len(line.lstrip())
        if below >= 0 and line.strip() and indent > below:
            continue
        below = -1
        match = _ASSIGNED.match(line)
        if match:
            value, end = match[2], line[match.end(2) :]
            kept.append(f'{match[1]} "{REDACTED}"{end}')
            below = indent
            until = next((q for q in ('"""', "'''") if value.count(q) == 1), "")
            continue
        line = _IN_URL.sub(rf"\1{REDACTED}@", line)  # noqa: PLW2901
        line = _IN_FLAG.sub(rf"\1{REDACTED}", line)  # noqa: PLW2901
        kept.append(_IN_LINE.sub(rf"\1{REDACTED}", line))
    return "".join(kept)
