"""Parsers of /proc: text in, values out, ValueError for what is not what it should be.

Formats: Documentation/filesystems/proc.rst of the Linux kernel.
"""

import re
from collections.abc import Callable
from typing import Final, TypeVar

from kgpuctl.host.facts import (
    Cpu,
    Fact,
    Interrupts,
    IoRange,
    Memory,
    Reason,
    Unread,
    Vendor,
)
from kgpuctl.host.tree import Tree

T = TypeVar("T")

_NOT_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_VENDORS: Final = {
    "GenuineIntel": Vendor.INTEL,
    "AuthenticAMD": Vendor.AMD,
    "HygonGenuine": Vendor.AMD,
}


def read_text(tree: Tree, path: str) -> Fact[str | None]:
    """Return a file's text; bytes that are no UTF-8 text make it unusable."""
    content = tree.read(path)
    if not isinstance(content, bytes):
        return content
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return Unread(path, Reason.UNUSABLE, "not UTF-8 text")
    if _NOT_TEXT.search(text):
        return Unread(path, Reason.UNUSABLE, "not a text file")
    return text


def read_parsed(tree: Tree, path: str, parse: Callable[[str], T]) -> Fact[T | None]:
    """Return what `parse` makes of a file; its ValueError makes the file unusable."""
    text = read_text(tree, path)
    if not isinstance(text, str):
        return text
    try:
        return parse(text)
    except ValueError as error:
        return Unread(path, Reason.UNUSABLE, str(error))


def always(fact: Fact[T | None], path: str) -> Fact[T]:
    """Take absence of what every Linux host has as "not recorded"."""
    return Unread(path, Reason.NOT_RECORDED) if fact is None else fact


def parse_cpuinfo(text: str) -> Cpu:
    """Parse /proc/cpuinfo; all processors of a host are taken to be like the first."""
    first: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon:
            if first:
                break
            continue
        first.setdefault(key.strip(), value.strip())
    count = len(re.findall(r"^processor\s*:", text, re.MULTILINE))
    flags = first.get("flags", first.get("Features"))
    if not count or flags is None:
        raise ValueError("no processor with flags in it")
    vendor = _VENDORS.get(first.get("vendor_id", ""), Vendor.OTHER)
    if "CPU implementer" in first:
        vendor = Vendor.ARM
    model = first.get("model name", "")
    return Cpu(vendor, " ".join(model.split()), frozenset(flags.split()), count)


def parse_cmdline(text: str) -> tuple[str, ...]:
    """Parse /proc/cmdline: words, where double quotes keep spaces together."""
    if not text.endswith("\n"):
        raise ValueError("not a whole line")
    return tuple(re.findall(r'(?:[^\s"]|"[^"]*"?)+', text))


def parse_meminfo(text: str) -> Memory:
    """Parse /proc/meminfo; sizes there are in KiB."""
    sizes = {key: int(size) for key, size in re.findall(r"^(\w+):\s+(\d+)", text, re.MULTILINE)}
    if "MemTotal" not in sizes:
        raise ValueError("no MemTotal in it")
    total = sizes["MemTotal"]
    pages = sizes.get("HugePages_Total", 0) * sizes.get("Hugepagesize", 0)
    return Memory(total * 1024, sizes.get("MemAvailable", total) * 1024, pages * 1024)


def parse_modules(text: str) -> frozenset[str]:
    """Parse /proc/modules: `name size refcount users state address`."""
    names = []
    for line in text.splitlines():
        match = re.fullmatch(r"([\w-]+) \d+ \S+ \S+ \w+ 0x[0-9a-f]+.*", line)
        if not match:
            raise ValueError(f"not a line of /proc/modules: {line[:40]!r}")
        names.append(match[1].replace("-", "_"))
    return frozenset(names)


def parse_interrupts(text: str) -> Interrupts:
    """Count remapped and plain chips of PCI messages and IO-APICs in /proc/interrupts.

    A remapped chip's name begins with `IR-` (Intel and AMD alike).
    """
    if not text.lstrip().startswith("CPU0"):
        raise ValueError("no line of CPUs in it")
    chips = re.findall(r"\s(IR-)?(?:PCI-MSIX?|IO-APIC)\b", text)
    remapped = sum(1 for chip in chips if chip)
    return Interrupts(remapped, len(chips) - remapped)


def parse_iomem(text: str) -> tuple[IoRange, ...]:
    """Parse /proc/iomem. An ordinary user sees every address as zero: that is ValueError."""
    ranges = []
    for line in text.splitlines():
        match = re.fullmatch(r"\s*([0-9a-f]+)-([0-9a-f]+) : (.*)", line)
        if not match:
            raise ValueError(f"not a line of /proc/iomem: {line[:40]!r}")
        ranges.append(IoRange(int(match[1], 16), int(match[2], 16), match[3]))
    if not ranges:
        raise ValueError("no address range in it")
    if not any(item.end for item in ranges):
        raise ValueError("permission denied: its addresses are shown to root only")
    return tuple(ranges)
