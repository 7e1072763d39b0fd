"""Whether there is an IOMMU, and it is on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from kgpuctl.checks.check import Outcome, check, failed, known, passed, skipped, warned
from kgpuctl.checks.host.case import HostCase
from kgpuctl.checks.host.remedies import IOMMU, add_arguments, firmware_setting, remove_arguments
from kgpuctl.host.facts import Vendor
from kgpuctl.unread import Unread

_TABLES: Final[Mapping[Vendor, str]] = {
    Vendor.INTEL: "DMAR",
    Vendor.AMD: "IVRS",
    Vendor.ARM: "IORT",
}
_X86: Final = frozenset({Vendor.INTEL, Vendor.AMD, Vendor.OTHER})


@dataclass(frozen=True, slots=True)
class _Switch:
    """A kernel argument that takes `off`, by whom, and whether a later `on` takes it back."""

    name: str
    vendors: frozenset[Vendor]
    has_on: bool


# arch/x86/kernel/pci-dma.c, drivers/iommu/intel/iommu.c, drivers/iommu/amd/init.c
_SWITCHES: Final = (
    _Switch("iommu", _X86, has_on=False),
    _Switch("intel_iommu", frozenset({Vendor.INTEL, Vendor.OTHER}), has_on=True),
    _Switch("amd_iommu", frozenset({Vendor.AMD, Vendor.OTHER}), has_on=False),
)


@check("iommu.firmware", "The firmware describes an IOMMU")
def firmware(case: HostCase) -> Outcome:
    """The kernel finds the IOMMU by an ACPI table; without it no kernel argument helps."""
    vendor = case.vendor
    if vendor is Vendor.ARM and _has_device_tree(case):
        return skipped("a device tree describes this host, not ACPI")
    tables = known(case.host.acpi_tables)
    wanted = {_TABLES[vendor]} if vendor in _TABLES else set(_TABLES.values())
    found = sorted((wanted | {"VIOT"}) & tables)
    if not found:
        return _no_table(case, " or ".join(sorted(wanted)))
    if found == ["IORT"] and not known(case.host.smmu):
        return failed("the ACPI table IORT has no SMMU", firmware_setting(case, IOMMU))
    return passed(f"ACPI table {', '.join(found)}")


def _has_device_tree(case: HostCase) -> bool:
    """Say whether the hardware is described by a device tree instead of ACPI tables."""
    tables = case.host.acpi_tables
    return isinstance(tables, Unread) and case.is_there("/sys/firmware/devicetree/base")


def _no_table(case: HostCase, wanted: str) -> Outcome:
    if case.is_vm:
        return failed(
            f"no ACPI table {wanted}: this VM has no virtual IOMMU",
            "Use a bare-metal host, or give this VM a virtual IOMMU on its hypervisor "
            "(QEMU: `-device intel-iommu,intremap=on` or `-device amd-iommu,intremap=on`).",
        )
    return failed(f"no ACPI table {wanted}", firmware_setting(case, IOMMU))


@check("iommu.kernel-arguments", "No kernel argument switches the IOMMU off")
def kernel_arguments_off(case: HostCase) -> Outcome:
    """`intel_iommu=off` and its like win over everything that the firmware offers."""
    words = known(case.host.cmdline)
    bad = [
        word
        for switch in _SWITCHES
        if case.vendor in switch.vendors
        for word in _switched_off(words, switch)
    ]
    if bad:
        return failed(f"{' '.join(bad)} on the command line", remove_arguments(case, *bad))
    if known(case.host.parameters["vfio/enable_unsafe_noiommu_mode"]) in {"Y", "1"}:
        return failed(
            "VFIO is in no-IOMMU mode: devices would reach all of the host's memory",
            "Remove enable_unsafe_noiommu_mode=1 from /etc/modprobe.d and the kernel command "
            "line, and reboot.",
        )
    return passed()


def _switched_off(words: Iterable[str], switch: _Switch) -> list[str]:
    """Return the words that leave a switch off; the kernel reads from left to right."""
    off: list[str] = []
    for word in words:
        name, _, values = word.partition("=")
        if name != switch.name:
            continue
        for value in values.split(","):
            if value == "off":
                off.append(word)
            elif value == "on" and switch.has_on:
                off.clear()
    return off


@check(
    "iommu.enabled",
    "The IOMMU is enabled",
    requires=("iommu.firmware", "iommu.kernel-arguments"),
)
def enabled(case: HostCase) -> Outcome:
    """VFIO hands a GPU to a VM by its IOMMU group; without groups there is no passthrough."""
    groups = known(case.host.groups)
    if groups:
        return passed(f"{len(groups)} IOMMU {'group' if len(groups) == 1 else 'groups'}")
    message = "no group under /sys/kernel/iommu_groups although the firmware describes an IOMMU"
    vendor = case.vendor
    if vendor is Vendor.INTEL:
        return failed(message, add_arguments(case, "intel_iommu=on"))
    if vendor is Vendor.AMD:
        # The kernel's parser does not know amd_iommu=on: the IOMMU is on unless it is broken.
        return failed(
            message,
            "Read `dmesg | grep -i AMD-Vi` for the cause and update the firmware; the kernel "
            "argument amd_iommu=on does nothing.",
        )
    return failed(message, "Read `dmesg | grep -i -e smmu -e iommu` for the cause.")


@check("iommu.interrupt-remapping", "Interrupts are remapped", requires=("iommu.enabled",))
def interrupt_remapping(case: HostCase) -> Outcome:
    """VFIO refuses a device whose interrupts could be forged by the VM."""
    if case.vendor is Vendor.ARM:
        return skipped("ARM's interrupt controller (ITS) does it")
    if not known(case.host.groups):
        return skipped("there is no IOMMU group")
    found = known(case.host.interrupts)
    if found.remapped:
        return passed(f"{found.remapped} remapped interrupts")
    off = tuple(word for word in known(case.host.cmdline) if word == "intremap=off")
    because = f" ({off[0]} on the command line)" if off else ""
    message = f"no IR- interrupt in /proc/interrupts{because}"
    if known(case.host.parameters["vfio_iommu_type1/allow_unsafe_interrupts"]) in {"Y", "1"}:
        return warned(
            f"{message}; VFIO is told to allow unsafe interrupts",
            "A VM could forge interrupts: enable interrupt remapping in the firmware and take "
            "allow_unsafe_interrupts=1 away.",
        )
    if off:
        return failed(message, remove_arguments(case, *off))
    words = {
        Vendor.INTEL: '"Interrupt Remapping" (or x2APIC without its opt-out)',
        Vendor.AMD: '"IOMMU" with interrupt remapping',
        Vendor.ARM: "",
        Vendor.OTHER: "interrupt remapping",
    }
    return failed(message, firmware_setting(case, words))


@check("iommu.acs-override", "ACS is not overridden")
def acs_override(case: HostCase) -> Outcome:
    """The override claims an isolation between devices that the hardware does not have."""
    words = [word for word in known(case.host.cmdline) if word.startswith("pcie_acs_override=")]
    if not words:
        return passed()
    return warned(
        f"{words[0][:60]} on the command line: groups look isolated that are not",
        remove_arguments(case, *words),
    )


CHECKS = (firmware, kernel_arguments_off, enabled, interrupt_remapping, acs_override)
