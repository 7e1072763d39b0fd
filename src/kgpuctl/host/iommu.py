"""Read what the firmware and the kernel say about IOMMUs and their groups."""

import re
import struct
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from kgpuctl.host.facts import IommuGroup, PciDevice
from kgpuctl.host.text import read_parsed
from kgpuctl.host.tree import Tree
from kgpuctl.unread import Fact, Reason, Unread

TABLES: Final = "/sys/firmware/acpi/tables"
GROUPS: Final = "/sys/kernel/iommu_groups"
_IORT_SMMU_TYPES: Final = frozenset({3, 4})  # SMMUv1/v2, SMMUv3: Arm IO Remapping Table, DEN0049
_NOT_JUDGED: Final = Unread(GROUPS, Reason.NOT_RECORDED, "the group of no GPU")
_REGION_TYPES: Final = frozenset({"direct", "direct-relaxable", "reserved", "msi"})


def read_acpi_tables(tree: Tree) -> Fact[frozenset[str]]:
    """Return the names of the ACPI tables that the firmware gave."""
    names = tree.names(TABLES)
    if names is None:
        return Unread(TABLES, Reason.NOT_RECORDED, "no ACPI tables are shown here")
    return names if isinstance(names, Unread) else frozenset(names)


def read_smmu(tree: Tree) -> Fact[bool]:
    """Say whether the IORT table describes an SMMU; only root may read the table."""
    path = f"{TABLES}/IORT"
    table = tree.read(path)
    if not isinstance(table, bytes):
        return table if isinstance(table, Unread) else False
    try:
        return bool(parse_iort(table) & _IORT_SMMU_TYPES)
    except ValueError as error:
        return Unread(path, Reason.UNUSABLE, str(error))


def parse_iort(table: bytes) -> frozenset[int]:
    """Return the node types of an IORT table: header 36 bytes, count and offset, then nodes."""
    if len(table) < 48 or table[:4] != b"IORT":  # noqa: PLR2004
        raise ValueError("not an IORT table")
    count, offset = struct.unpack_from("<II", table, 36)
    types = set()
    for _ in range(min(count, 4096)):
        if offset + 3 > len(table):
            raise ValueError("its nodes end outside of it")
        kind, length = struct.unpack_from("<BH", table, offset)
        if length < 16:  # noqa: PLR2004  # a node's header
            raise ValueError("a node without a length")
        types.add(kind)
        offset += length
    return frozenset(types)


def read_iommus(tree: Tree) -> Fact[tuple[str, ...]]:
    """Return the IOMMU units that a driver serves, such as dmar0 or ivhd0."""
    names = tree.names("/sys/class/iommu")
    return () if names is None else names


def read_groups(
    tree: Tree, devices: Fact[tuple[PciDevice, ...]], judged: frozenset[str]
) -> Fact[tuple[IommuGroup, ...]]:
    """Read the IOMMU groups, from the kernel's directory or else from the devices' links.

    The directory has all of them. Where it was not recorded but links were, the links show the
    groups that hold PCI devices; without a single link they show nothing. Only the groups of the
    `judged` addresses are looked into.
    """
    names = tree.names(GROUPS)
    linked = _linked(devices if isinstance(devices, tuple) else ())
    if isinstance(names, Unread):
        if names.reason is not Reason.NOT_RECORDED or not linked:
            return names
        numbers: Iterable[int] = linked
    else:
        numbers = (int(name) for name in names or () if re.fullmatch(r"[0-9]{1,9}", name))
    groups = []
    for number in sorted(numbers):
        members = tuple(linked.get(number, ()))
        if judged.isdisjoint(members):
            groups.append(IommuGroup(number, _NOT_JUDGED, members))
        else:
            reserved = _read_reserved(tree, number)
            groups.append(IommuGroup(number, reserved, _members(tree, number, members)))
    return tuple(groups)


def _linked(devices: Iterable[PciDevice]) -> dict[int, list[str]]:
    groups: dict[int, list[str]] = defaultdict(list)
    for device in devices:
        if isinstance(device.iommu_group, int):
            groups[device.iommu_group].append(device.address)
    return groups


def _members(tree: Tree, number: int, linked: tuple[str, ...]) -> tuple[str, ...]:
    """Return a group's members; a device that only one of both places shows is one."""
    names = tree.names(f"{GROUPS}/{number}/devices")
    return tuple(sorted({*(names if isinstance(names, tuple) else ()), *linked}))


def _read_reserved(tree: Tree, number: int) -> Fact[tuple[str, ...]]:
    path = f"{GROUPS}/{number}/reserved_regions"
    types = read_parsed(tree, path, parse_reserved_regions)
    return Unread(path, Reason.NOT_RECORDED) if types is None else types


def parse_reserved_regions(text: str) -> tuple[str, ...]:
    """Parse reserved_regions: `start end type` a line; return the types."""
    types = []
    for line in text.splitlines():
        words = line.split()
        if len(words) != 3 or words[2] not in _REGION_TYPES:  # noqa: PLR2004
            raise ValueError(f"not a line of reserved_regions: {line[:40]!r}")
        types.append(words[2])
    return tuple(types)
