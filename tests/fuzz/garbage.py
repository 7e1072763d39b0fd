"""Hosts held in memory, of which any answer can be replaced by garbage."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from builders import AFTER, TIME, Aims, HostTree, case_of, judge
from kgpuctl.checks.check import run
from kgpuctl.checks.host.subject import describe
from kgpuctl.checks.host.table import HOST_CHECKS
from kgpuctl.host.facts import Node
from kgpuctl.host.recording import Answer, Recorder, RecordingTree
from kgpuctl.host.tree import Keep, Tree
from kgpuctl.render import json
from kgpuctl.report import Claim, Report, Result, Status
from kgpuctl.unread import Fact, Reason, Unread

Question = tuple[str, str]
Answers = Mapping[Question, Answer]


class Remembering:
    """A Tree that passes questions on, and remembers whole files, not what a recording keeps."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.answers: dict[Question, Answer] = {}

    def read(self, path: str, keep: Keep | None = None) -> Fact[bytes | None]:
        """Return the content of a regular file."""
        del keep
        answer = self.answers["read", path] = self.tree.read(path)
        return answer

    def names(self, path: str) -> Fact[tuple[str, ...] | None]:
        """Return the names in a directory."""
        answer = self.answers["names", path] = self.tree.names(path)
        return answer

    def link(self, path: str) -> Fact[str | None]:
        """Return where a symbolic link points."""
        answer = self.answers["link", path] = self.tree.link(path)
        return answer

    def node(self, path: str) -> Fact[Node | None]:
        """Return what is at `path`."""
        answer = self.answers["node", path] = self.tree.node(path)
        return answer

    def ask(self, question: str) -> Fact[str | None]:
        """Return what only a running system answers."""
        answer = self.answers["ask", question] = self.tree.ask(question)
        return answer


def answers_of(host: HostTree, folder: Path, aims: Aims = AFTER) -> Answers:
    """Write a host, read it once, and return every answer that it gave."""
    tree = Remembering(host.tree(folder))
    case_of(tree, aims)
    return tree.answers


def held(answers: Answers) -> RecordingTree:
    """Return a Tree of these answers."""
    return RecordingTree("memory", TIME, dict(answers))


class ReplayError(Exception):
    """A recording is judged in another way than the host that it was made of."""


def report(answers: Answers, aims: Aims = AFTER) -> Report:
    """Judge a host in memory, make JSON of the report, and judge what is recorded of it."""
    recorder = Recorder(held(answers))
    case = case_of(recorder, aims)
    made = Report("preflight", Claim("", "", ""), describe(case), run(HOST_CHECKS, case))
    json.dumps(made)
    again = run(HOST_CHECKS, case_of(held(recorder.answers), aims))
    for first, second in zip(made.results, again, strict=True):
        if first != second:
            raise ReplayError(f"{first.id}: {first.message!r} is replayed as {second.message!r}")
    return made


def passed(answers: Answers, aims: Aims = AFTER) -> frozenset[tuple[str, str]]:
    """Return what passes, by check and subject."""
    return frozenset(key for key, result in judge(held(answers), aims).items() if is_passed(result))


def is_passed(result: Result) -> bool:
    """Say whether a result claims that all is well."""
    return result.status is Status.PASSED


def _noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311  # it hides nothing


def _words(seed: int) -> bytes:
    """Return printable lines that mean nothing: no `=`, no `:`, no `#`."""
    chance = random.Random(seed)  # noqa: S311  # it hides nothing
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ !?%&*()~;<>@^|"
    lines = ("".join(chance.choices(letters, k=chance.randrange(1, 60))) for _ in range(30))
    return ("\n".join(lines) + "\n").encode()


# What a file's content may be instead of what it should be.
CONTENTS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "random bytes": lambda _: _noise(3000),
    "zero bytes": lambda content: bytes(len(content) or 1),
    "invalid UTF-8": lambda content: b"\xff\xfe\xc3" + content,
    "invalid UTF-8 at the end": lambda content: content + b"\xc3",
    "control characters": lambda content: content + b"\x1b[2J\x07",
    "line noise": lambda _: _words(1),
    "more line noise": lambda _: _words(2),
    "one word": lambda _: b"garbage\n",
    "brackets": lambda _: b"[" * 3000,
    "an HTML page": lambda _: b"<!DOCTYPE html>\n<html><body>502 Bad Gateway</body></html>\n",
    "an ELF program": lambda _: b"\x7fELF\x02\x01\x01" + bytes(60) + _noise(500),
    "nothing": lambda _: b"",
    "only line feeds": lambda _: b"\n" * 50,
    "half of it": lambda content: content[: len(content) // 2],
    "all but the end": lambda content: content[:-1],
}
# What a Tree says where it could not read a file's content at all.
UNREADABLE: Final[Mapping[str, Callable[[str], Unread]]] = {
    "a directory": lambda path: Unread(path, Reason.UNUSABLE, "not a regular file"),
    "too large": lambda path: Unread(path, Reason.UNUSABLE, "larger than 32 MiB"),
    "a loop of links": lambda path: Unread(path, Reason.UNUSABLE, "too many levels"),
    "an I/O error": lambda path: Unread(path, Reason.UNUSABLE, "input/output error"),
    "denied": lambda path: Unread(path, Reason.NOT_PERMITTED),
}
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "odd names": ("", ".", "..", "a/b", "a\nb", "\udcff", "9" * 5000, "*", "%s"),
    "noise": tuple(_words(3).decode().split("\n")),
}
LINKS: Final[Mapping[str, str]] = {
    "a long path": "../" * 2000 + "x",
    "noise": _words(4).decode(),
    "odd letters": "\udcff\x1b[2J",
    "many digits": "9" * 5000,
}
