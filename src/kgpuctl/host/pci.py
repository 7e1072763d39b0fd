"""Read PCI devices from sysfs (Documentation/ABI/testing/sysfs-bus-pci of the Linux kernel)."""

import re
from collections.abc import Collection, Mapping
from typing import Final

from kgpuctl.host.facts import Bar, GpuDetails, PciDevice
from kgpuctl.host.text import always, read_parsed
from kgpuctl.host.tree import Tree
from kgpuctl.names import GPU_CLASSES, NVIDIA
from kgpuctl.unread import Fact, Reason, Unread

DEVICES: Final = "/sys/bus/pci/devices"
ADDRESS: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_HEX: Final = re.compile(r"0x[0-9a-f]{4,6}\n?")
_INT: Final = re.compile(r"-?[0-9]{1,9}\n?")
_GROUP: Final = re.compile(r"[0-9]{1,9}")
_REGION: Final = re.compile(r"0x([0-9a-f]{16}) 0x([0-9a-f]{16}) 0x([0-9a-f]{16})")
_BARS: Final = 6  # then come the expansion ROM, SR-IOV windows and bridge windows
# include/linux/ioport.h
_IO_MEM: Final = 0x200
_IO_PREFETCH: Final = 0x2000
_IO_UNSET: Final = 0x20000000


def read_devices(tree: Tree) -> Fact[tuple[PciDevice, ...]]:
    """Read all PCI functions, in the order of their addresses."""
    names = tree.names(DEVICES)
    if names is None or isinstance(names, Unread):
        return always(names, DEVICES)
    # Without these two, a missing link would say "no driver" about what was never recorded.
    links_seen = {
        "driver": not isinstance(tree.node("/sys/bus/pci/drivers"), Unread),
        "iommu_group": not isinstance(tree.node("/sys/kernel"), Unread),
    }
    devices = []
    for address in names:
        if not ADDRESS.fullmatch(address):
            continue
        device = _read_device(tree, address, links_seen)
        if isinstance(device, Unread):
            return device
        devices.append(device)
    return tuple(devices)


def _read_device(tree: Tree, address: str, links_seen: Mapping[str, bool]) -> PciDevice | Unread:
    folder = f"{DEVICES}/{address}"
    numbers = []
    for name in ("vendor", "device", "class"):
        path = f"{folder}/{name}"
        number = always(read_parsed(tree, path, parse_hex), path)
        if isinstance(number, Unread):
            return number
        numbers.append(number)
    driver = _read_link(tree, f"{folder}/driver", seen=links_seen["driver"])
    group = _read_group(tree, f"{folder}/iommu_group", seen=links_seen["iommu_group"])
    return PciDevice(address, numbers[0], numbers[1], numbers[2] >> 8, driver, group)


def _read_group(tree: Tree, path: str, *, seen: bool) -> Fact[int | None]:
    group = _read_link(tree, path, seen=seen)
    if not isinstance(group, str):
        return group
    if _GROUP.fullmatch(group):
        return int(group)
    return Unread(path, Reason.UNUSABLE, f"not a link to a group: {group[:40]!r}")


def _read_link(tree: Tree, path: str, *, seen: bool) -> Fact[str | None]:
    """Return the last word of a link; its absence counts only where such links were seen."""
    target = tree.link(path)
    if isinstance(target, str):
        return target.rpartition("/")[2]
    return target if seen or target is not None else Unread(path, Reason.NOT_RECORDED)


def read_details(
    tree: Tree, devices: Collection[PciDevice], wanted: Collection[str]
) -> tuple[tuple[PciDevice, ...], dict[str, GpuDetails]]:
    """Read what only matters of GPUs, NVIDIA functions and the `wanted` addresses.

    Returns the devices (now knowing which are virtual functions) and the details by address.
    """
    details: dict[str, GpuDetails] = {}
    result = []
    for device in devices:
        if device.vendor == NVIDIA or device.address in wanted:
            details[device.address], is_vf = _read_detail(tree, device)
            result.append(
                PciDevice(
                    device.address,
                    device.vendor,
                    device.device,
                    device.pci_class,
                    device.driver,
                    device.iommu_group,
                    is_vf,
                )
            )
        else:
            result.append(device)
    return tuple(result), details


def _read_detail(tree: Tree, device: PciDevice) -> tuple[GpuDetails, Fact[bool]]:
    folder = f"{DEVICES}/{device.address}"
    bars = always(read_parsed(tree, f"{folder}/resource", parse_resource), f"{folder}/resource")
    # Every PCI device has `resource`: without it only part of the directory was recorded, and
    # what is missing there says nothing.
    whole = not isinstance(bars, Unread) or bars.reason is not Reason.NOT_RECORDED

    def seen(fact: Fact[object], name: str) -> Unread | None:
        if isinstance(fact, Unread):
            return fact
        return None if whole else Unread(f"{folder}/{name}", Reason.NOT_RECORDED)

    vfs = read_parsed(tree, f"{folder}/sriov_numvfs", parse_int)
    power = read_parsed(tree, f"{folder}/power_state", parse_power_state)
    boot = read_parsed(tree, f"{folder}/boot_vga", parse_int)
    numa = read_parsed(tree, f"{folder}/numa_node", parse_int)
    physfn = tree.link(f"{folder}/physfn")
    names = tree.names(folder)
    is_vf: Fact[bool] = True if isinstance(physfn, str) else seen(physfn, "physfn") or False
    consumers: Fact[tuple[str, ...]] = ()
    if device.pci_class in GPU_CLASSES:
        consumers = seen(names, "consumer:pci:*") or tuple(
            name.removeprefix("consumer:pci:")
            for name in (names if isinstance(names, tuple) else ())
            if name.startswith("consumer:pci:")
        )
    return (
        GpuDetails(
            bars=bars,
            vfs=vfs if isinstance(vfs, int) else seen(vfs, "sriov_numvfs"),
            power_state=power if isinstance(power, str) else seen(power, "power_state"),
            boot_vga=bool(boot) if isinstance(boot, int) else seen(boot, "boot_vga") or False,
            numa_node=numa if isinstance(numa, int) else seen(numa, "numa_node"),
            consumers=consumers,
        ),
        is_vf,
    )


def parse_hex(text: str) -> int:
    """Parse sysfs's `0x10de`."""
    if not _HEX.fullmatch(text):
        raise ValueError(f"not a hexadecimal number: {text[:40]!r}")
    return int(text, 16)


def parse_int(text: str) -> int:
    """Parse a decimal number."""
    if not _INT.fullmatch(text):
        raise ValueError(f"not a number: {text[:40]!r}")
    return int(text)


def parse_power_state(text: str) -> str:
    """Parse power_state: D0, D1, D2, D3hot, D3cold, or unknown, error."""
    word = text.strip()
    if word not in {"D0", "D1", "D2", "D3hot", "D3cold", "unknown", "error"}:
        raise ValueError(f"not a power state: {text[:40]!r}")
    return word


def parse_resource(text: str) -> tuple[Bar, ...]:
    """Parse `resource`: a line `start end flags` for each BAR; an unused one is all zero."""
    lines = text.splitlines()
    if len(lines) < _BARS:
        raise ValueError("fewer than six lines")
    bars = []
    for index, line in enumerate(lines[:_BARS]):
        match = _REGION.fullmatch(line)
        if not match:
            raise ValueError(f"not a line of a resource file: {line[:60]!r}")
        start, end, flags = (int(number, 16) for number in match.groups())
        if flags & _IO_MEM:
            assigned = bool(start) and not flags & _IO_UNSET
            bars.append(Bar(index, start, end - start + 1, bool(flags & _IO_PREFETCH), assigned))
    return tuple(bars)
