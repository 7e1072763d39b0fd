"""A table of hosts, each with exactly what is wrong with it: nothing more, nothing less."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from builders import BEFORE, Aims, HostTree, replayed, verdict


def bad(
    id_: str, host: HostTree, expected: Mapping[str, str], code: int = 3, aims: Aims = BEFORE
) -> ParameterSet:
    """Return a row: a host, what it is meant for, its problems by check id, and the exit code."""
    return pytest.param(host, aims, expected, code, id=id_)


def assert_exactly(
    host: HostTree, aims: Aims, expected: Mapping[str, str], code: int, folder: Path
) -> None:
    """Judge a host and its recording: these problems and no other, each with words to it."""
    tree = host.tree(folder / "root")
    judged = verdict(tree, aims)

    assert judged.problems == expected
    assert judged.exit_code == code
    assert judged.silent == ()
    assert replayed(tree, folder, aims).results == judged.results
