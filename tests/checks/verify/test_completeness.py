"""That nothing is left out: each check is seen to find something, and to be content."""

from collections.abc import Iterator
from types import ModuleType
from typing import Final

from checks.verify import (
    test_installer_variations,
    test_node_variations,
    test_operand_variations,
    test_operator_variations,
    test_quiet,
    test_workload_variations,
)
from checks.verify.varied import BOTH, Variation, before
from kgpuctl.checks.verify.table import VERIFY_CHECKS
from kgpuctl.report import Status

TABLES: Final[tuple[ModuleType, ...]] = (
    test_installer_variations,
    test_node_variations,
    test_operand_variations,
    test_operator_variations,
    test_quiet,
    test_workload_variations,
)
IDS: Final = {check.id for check in VERIFY_CHECKS}
# Asked only where something is there that may go wrong.
ASKED_FOR: Final = {"verify.terminating", "verify.kubelet"}


def variations() -> Iterator[Variation]:
    for module in TABLES:
        for value in vars(module).values():
            for mark in getattr(value, "pytestmark", []):
                for row in mark.args[1] if mark.args[0] == "row" else ():
                    yield from (it for it in row.values if isinstance(it, Variation))


def test_each_check_is_seen_to_find_something() -> None:
    found = {id_ for row in variations() for _, id_, _ in row.expected}

    assert found == IDS


def test_each_check_is_seen_to_be_content() -> None:
    content = {
        result.id
        for stack in BOTH
        for result in before(stack, None).results
        if result.status is Status.PASSED
    }

    assert content == IDS - ASKED_FOR


def test_there_are_enough_of_them() -> None:
    names = {(row.change, row.tee) for row in variations()}

    assert len(names) >= 100


def test_every_requirement_is_asked_before() -> None:
    seen: set[str] = set()
    for check in VERIFY_CHECKS:
        assert set(check.requires) <= seen, check.id
        seen.add(check.id)
