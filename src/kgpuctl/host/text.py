"""Reading text out of a Tree: what is no text, or not parsed, is unusable, never "not there".

Files that people write may hold credentials. For those a `Keep` says what a recording may have:
only what is judged, or only the reason why it could not be parsed.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import yaml

from kgpuctl.host.tree import Keep, Tree
from kgpuctl.unread import Fact, Reason, Unread

T = TypeVar("T")

MAX_CONFIG: Final = 1024 * 1024  # bytes; the parsers' time grows with the square of some inputs
MAX_DEPTH: Final = 64
_MAX_DOTS: Final = 200  # in one line of TOML
_NOT_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# What is kept of a file that could not be parsed; no text file begins like this.
_WITHHELD: Final = b"\0withheld\0"


def read_text(tree: Tree, path: str, keep: Keep | None = None) -> Fact[str | None]:
    """Return a file's text; bytes that are no UTF-8 text make it unusable."""
    content = tree.read(path, keep)
    if not isinstance(content, bytes):
        return content
    try:
        return _decode(content)
    except ValueError as error:
        return Unread(path, Reason.UNUSABLE, str(error))


def _decode(content: bytes) -> str:
    if content.startswith(_WITHHELD):
        raise ValueError(content.removeprefix(_WITHHELD).decode(errors="replace"))
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8 text") from error
    if _NOT_TEXT.search(text):
        raise ValueError("not a text file")
    return text


def read_parsed(
    tree: Tree, path: str, parse: Callable[[str], T], keep: Keep | None = None
) -> Fact[T | None]:
    """Return what `parse` makes of a file; its ValueError makes the file unusable."""
    text = read_text(tree, path, keep)
    if not isinstance(text, str):
        return text
    try:
        return parse(text)
    except ValueError as error:
        return Unread(path, Reason.UNUSABLE, str(error))


def keeping(render: Callable[[str], str]) -> Keep:
    """Make a Keep of a function that returns the judged part of a text in the same format."""

    def keep(content: bytes) -> bytes:
        try:
            return render(_decode(content)).encode()
        except ValueError as error:
            return _WITHHELD + str(error).encode()

    return keep


def always(fact: Fact[T | None], path: str) -> Fact[T]:
    """Take absence of what every Linux host has as "not recorded"."""
    return Unread(path, Reason.NOT_RECORDED) if fact is None else fact


def whole_lines(text: str) -> list[str]:
    """Return the lines of a file that always ends with one: a cut one tells less than there is."""
    if text and not text.endswith("\n"):
        raise ValueError("it ends in the middle of a line")
    return text.split("\n")[:-1]


def parse_toml(text: str) -> Mapping[str, object]:
    """Return what a TOML text holds; ValueError says why it is none."""
    if len(text) > MAX_CONFIG or any(line.count(".") > _MAX_DOTS for line in text.split("\n")):
        raise ValueError("it is too large to be parsed")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is not TOML: nested too deep") from error
    except ValueError as error:
        raise ValueError(f"it is not TOML: {error}") from error


def parse_yaml(text: str) -> object:
    """Return what a YAML or JSON text holds, with every scalar as a string.

    Built from the parser's events, with a limit to depth and without aliases: PyYAML's own
    construction can be made to crash, to explode, or to run Python errors through us.
    """
    if len(text) > MAX_CONFIG:
        raise ValueError("it is too large to be parsed")
    builder = _YamlBuilder()
    try:
        for event in yaml.parse(text, Loader=_YAML_LOADER):
            builder.take(event)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = "" if line is None else f" (line {line + 1})"
        raise ValueError(f"it is not YAML or JSON{where}") from error
    return builder.document


_YAML_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _YamlBuilder:
    """Puts parser events together; `_open` holds the collections that are not yet complete."""

    def __init__(self) -> None:
        self.document: object = None
        self._open: list[dict[str, object] | list[object]] = []
        self._keys: list[str | None] = []

    def take(self, event: object) -> None:
        """Add one event."""
        match event:
            case yaml.AliasEvent():
                raise ValueError("it has aliases, which are not followed")
            case yaml.ScalarEvent():
                self._put(event.value)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._start({} if isinstance(event, yaml.MappingStartEvent) else [])
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._open.pop()
                self._keys.pop()
            case _:
                pass

    def _start(self, collection: dict[str, object] | list[object]) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise ValueError("it is nested too deep")
        self._put(collection)
        self._open.append(collection)
        self._keys.append(None)

    def _put(self, value: object) -> None:
        if not self._open:
            self.document = value
            return
        parent = self._open[-1]
        if isinstance(parent, list):
            parent.append(value)
        elif self._keys[-1] is None:
            # A collection as a key is legal YAML, and means nothing in any file read here.
            self._keys[-1] = value if isinstance(value, str) else ""
        else:
            parent[self._keys[-1]] = value
            self._keys[-1] = None
