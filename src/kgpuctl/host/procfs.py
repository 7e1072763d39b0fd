"""Parsers of /proc: text in, values out, ValueError for what is not what it should be.

Formats: Documentation/filesystems/proc.rst of the Linux kernel.
"""

import re
from typing import Final

from kgpuctl.host.facts import Cpu, Interrupts, IoRange, Memory, Vendor
from kgpuctl.host.text import whole_lines

_VENDORS: Final = {
    "GenuineIntel": Vendor.INTEL,
    "AuthenticAMD": Vendor.AMD,
    "HygonGenuine": Vendor.AMD,
}


def parse_cpuinfo(text: str) -> Cpu:
    """Parse /proc/cpuinfo; all processors of a host are taken to be like the first."""
    first: dict[str, str] = {}
    for line in whole_lines(text):
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


# The arguments that checks look at, and so all that a recording has of a command line.
CMDLINE_NAMES: Final = frozenset(
    {
        "amd_iommu",
        "intel_iommu",
        "intremap",
        "iommu",
        "modprobe.blacklist",
        "module_blacklist",
        "nouveau.modeset",
        "pcie_acs_override",
    }
)


def parse_cmdline(text: str) -> tuple[str, ...]:
    """Parse /proc/cmdline: the words that matter; double quotes keep spaces together."""
    if text.count("\n") != 1 or not text.endswith("\n"):
        raise ValueError("not one whole line")
    words = re.findall(r'(?:[^\s"]|"[^"]*"?)+', text[:-1])
    return tuple(word for word in words if word.partition("=")[0] in CMDLINE_NAMES)


def render_cmdline(text: str) -> str:
    """Return a command line of only the words that matter."""
    return " ".join(parse_cmdline(text)) + "\n"


def parse_meminfo(text: str) -> Memory:
    """Parse /proc/meminfo; sizes there are in KiB."""
    found = (re.match(r"(\w+):\s+([0-9]{1,15})(?: kB)?$", line) for line in whole_lines(text))
    sizes = {match[1]: int(match[2]) for match in found if match}
    if "MemTotal" not in sizes:
        raise ValueError("no MemTotal in it")
    total = sizes["MemTotal"]
    pages = sizes.get("HugePages_Total", 0) * sizes.get("Hugepagesize", 0)
    return Memory(total * 1024, sizes.get("MemAvailable", total) * 1024, pages * 1024)


def parse_modules(text: str) -> frozenset[str]:
    """Parse /proc/modules: `name size refcount users state address`."""
    names = []
    for line in whole_lines(text):
        match = re.fullmatch(r"([\w-]+) \d+ \S+ \S+ \w+ 0x[0-9a-f]+.*", line)
        if not match:
            raise ValueError(f"not a line of /proc/modules: {line[:40]!r}")
        names.append(match[1].replace("-", "_"))
    return frozenset(names)


def parse_interrupts(text: str) -> Interrupts:
    """Count remapped and plain chips of PCI messages and IO-APICs in /proc/interrupts.

    A remapped chip's name begins with `IR-` (Intel and AMD alike).
    """
    lines = whole_lines(text)
    if not lines or not lines[0].lstrip().startswith("CPU0"):
        raise ValueError("no line of CPUs in it")
    chips = re.findall(r"\s(IR-)?(?:PCI-MSIX?|IO-APIC)\b", text)
    remapped = sum(1 for chip in chips if chip)
    return Interrupts(remapped, len(chips) - remapped)


def parse_iomem(text: str) -> tuple[IoRange, ...]:
    """Parse /proc/iomem; to an ordinary user every address is shown as zero."""
    ranges = []
    for line in whole_lines(text):
        match = re.fullmatch(r"\s*([0-9a-f]+)-([0-9a-f]+) : (.*)", line)
        if not match:
            raise ValueError(f"not a line of /proc/iomem: {line[:40]!r}")
        ranges.append(IoRange(int(match[1], 16), int(match[2], 16), match[3]))
    if not ranges:
        raise ValueError("no address range in it")
    return tuple(ranges)
