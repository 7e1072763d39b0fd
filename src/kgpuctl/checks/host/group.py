"""Whether the IOMMU group of each GPU can go to a VM."""

from typing import Final

from kgpuctl.checks.check import Outcome, check_each, failed, known, passed, warned
from kgpuctl.checks.host.case import HostCase, gpus
from kgpuctl.checks.host.remedies import add_arguments
from kgpuctl.host.facts import IommuGroup, PciDevice
from kgpuctl.names import (
    CLASS_PCI_BRIDGE,
    CLASS_VGA,
    GPU_CLASSES,
    NVIDIA,
    PCI_STUB,
    VFIO_DRIVERS,
    Stack,
)
from kgpuctl.report import Remedy
from kgpuctl.unread import Reason, Unread

_NEEDS_IOMMU: Final = ("gpu.present", "iommu.firmware", "iommu.kernel-arguments", "iommu.enabled")


@check_each(
    "gpu.iommu-group",
    "The GPU is in an IOMMU group",
    gpus,
    none="no GPU",
    requires=_NEEDS_IOMMU,
)
def iommu_group(_: HostCase, gpu: PciDevice) -> Outcome:
    """The group is what VFIO hands to the VM."""
    group = known(gpu.iommu_group)
    if group is not None:
        return passed(f"group {group}")
    return failed(
        "no iommu_group link: the IOMMU does not cover this device",
        "Update the firmware, or move the GPU to a slot that the IOMMU serves.",
    )


_NEEDS_GROUP: Final = (*_NEEDS_IOMMU, "gpu.iommu-group")


@check_each(
    "gpu.reserved-regions",
    "The firmware keeps no memory of the GPU's group for itself",
    gpus,
    none="no GPU",
    requires=_NEEDS_GROUP,
)
def reserved_regions(case: HostCase, gpu: PciDevice) -> Outcome:
    """VFIO refuses a device with a directly mapped region (RMRR): the firmware still uses it."""
    group = _group(case, gpu)
    if "direct" not in known(group.reserved):
        return passed()
    return failed(
        f"group {group.number} has a reserved region of type direct (RMRR)",
        "Turn off what uses it in the firmware (shared memory of the management controller, "
        "legacy USB), or update the firmware.",
    )


def _group(case: HostCase, gpu: PciDevice) -> IommuGroup:
    """Return a GPU's group; one that its link names but the kernel does not list is not known."""
    number = known(gpu.iommu_group)
    missing = Unread(f"/sys/kernel/iommu_groups/{number}", Reason.NOT_RECORDED)
    return known(missing if number is None else case.group_of.get(number, missing))


def _siblings(case: HostCase, gpu: PciDevice) -> list[PciDevice]:
    """Return the other endpoints of a GPU's group; bridges are exempt, as in the kernel."""
    members = [_member(case, address) for address in _group(case, gpu).members]
    return [
        member
        for member in members
        if member.address != gpu.address and member.pci_class != CLASS_PCI_BRIDGE
    ]


def _member(case: HostCase, address: str) -> PciDevice:
    """Return a group's member; one that is no PCI device, or was not seen, is not known."""
    missing = Unread(f"/sys/bus/pci/devices/{address}", Reason.NOT_RECORDED)
    return known(case.device_at.get(address, missing))


def _is_free(device: PciDevice) -> bool:
    """Say whether VFIO may share a group with this device's driver."""
    driver = known(device.driver)
    return driver is None or driver in VFIO_DRIVERS or driver == PCI_STUB


def _will_be_bound(case: HostCase, gpu: PciDevice, sibling: PciDevice) -> bool:
    """Say whether the GPU Operator's vfio-manager will take this sibling along by itself.

    It binds every GPU, and of a VGA-class GPU the one function that a `consumer` link names;
    the manager of the coco-operator stack's chart (v23.6) binds every NVIDIA function.
    """
    if case.after_install:
        return False
    if sibling in case.judged:
        return True
    if sibling.vendor != NVIDIA:
        return False
    if case.stack is Stack.COCO_OPERATOR or sibling.pci_class in GPU_CLASSES:
        return True
    consumers = known(case.details(gpu).consumers)
    return gpu.pci_class == CLASS_VGA and consumers == (sibling.address,)


@check_each(
    "gpu.group-viable",
    "The GPU's whole group can go to the VM",
    gpus,
    none="no GPU",
    requires=_NEEDS_GROUP,
)
def group_viable(case: HostCase, gpu: PciDevice) -> Outcome:
    """QEMU refuses a group of which any member still serves the host ("not viable")."""
    siblings = _siblings(case, gpu)
    held = [
        sibling
        for sibling in siblings
        if not _is_free(sibling) and not _will_be_bound(case, gpu, sibling)
    ]
    number = _group(case, gpu).number
    if held:
        listed = ", ".join(
            f"{device.address} ({_class_name(device)} {device.id}, driver {known(device.driver)})"
            for device in held
        )
        return failed(f"group {number} also holds {listed}", _free_siblings(case, gpu, held))
    taken = [sibling for sibling in siblings if not _is_free(sibling)]
    if taken:
        names = ", ".join(f"{device.address} ({_class_name(device)})" for device in taken)
        return passed(f"group {number}; vfio-manager will also bind {names}")
    return passed(f"group {number}, {1 + len(siblings)} endpoint{'s' if siblings else ''}")


def _free_siblings(case: HostCase, gpu: PciDevice, held: list[PciDevice]) -> Remedy | str:
    own = [device for device in held if device.slot == gpu.slot]
    if len(own) == len(held):
        ids = ",".join(sorted({device.id for device in held}))
        drivers = " and ".join(sorted({str(known(device.driver)) for device in held}))
        early = f"vfio-pci must be loaded before {drivers}: put it into the initramfs."
        remedy = add_arguments(case, f"vfio-pci.ids={ids}")
        return Remedy(f"{remedy.text} {early}", remedy.fixes, early)
    others = ", ".join(device.address for device in held if device.slot != gpu.slot)
    return (
        f"Enable ACS (Access Control Services) in the firmware, or move the GPU or {others} to "
        "another slot; a device that the host can do without may be bound to vfio-pci instead."
    )


_CLASS_NAMES: Final = {
    0x0100: "SCSI",
    0x0106: "SATA",
    0x0108: "NVMe",
    0x0200: "network",
    0x0207: "InfiniBand",
    0x0300: "VGA",
    0x0302: "3D",
    0x0403: "audio",
    0x0680: "NVSwitch",
    0x0C03: "USB",
    0x0C80: "UCSI",
}


def _class_name(device: PciDevice) -> str:
    return _CLASS_NAMES.get(device.pci_class, f"class {device.pci_class:04x}")


@check_each(
    "gpu.group-isolated",
    "The GPU has its IOMMU group to itself",
    gpus,
    none="no GPU",
    requires=_NEEDS_GROUP,
)
def group_isolated(case: HostCase, gpu: PciDevice) -> Outcome:
    """Two GPUs of one group can only go to the same VM, and QEMU often refuses even that."""
    others = [item for item in _siblings(case, gpu) if item.slot != gpu.slot]
    if not others:
        return passed()
    names = ", ".join(f"{device.address} ({_class_name(device)})" for device in others)
    return warned(
        f"group {_group(case, gpu).number} is shared with {names}",
        "Enable ACS (Access Control Services) in the firmware, or move one of them to another "
        "slot: they can only go to one VM together.",
    )


CHECKS: Final = (iommu_group, reserved_regions, group_viable, group_isolated)
