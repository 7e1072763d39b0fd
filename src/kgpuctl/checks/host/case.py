"""What the checks of a host are asked about: its facts, and what it is meant for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from kgpuctl.checks.check import known
from kgpuctl.host.distribution import UNKNOWN, Distribution
from kgpuctl.host.facts import (
    ContainerdConfig,
    GpuDetails,
    HostFacts,
    IommuGroup,
    Node,
    PciDevice,
    Runtime,
    Vendor,
)
from kgpuctl.names import CLASS_NVSWITCH, GPU_CLASSES, NVIDIA, OPERATOR_DRIVER, Stack, Tee
from kgpuctl.unread import Unread


@dataclass(frozen=True)  # without slots: what is asked for each GPU is worked out once
class HostCase:
    """One host, judged for one purpose. `devices` are PCI addresses to be taken for its GPUs."""

    host: HostFacts
    stack: Stack = Stack.KATA_DEPLOY
    confidential: Tee | None = None
    after_install: bool = False
    devices: tuple[str, ...] = ()

    @property
    def distribution(self) -> Distribution:
        """Return the distribution, as far as it is known; remedies are worded by it."""
        found = self.host.distribution
        return UNKNOWN if isinstance(found, Unread) else found

    @property
    def vendor(self) -> Vendor:
        """Return the CPU's vendor; an unread one ends the check."""
        return known(self.host.cpu).vendor

    @property
    def is_vm(self) -> bool:
        """Whether the host itself is a virtual machine, as its CPU or its firmware tells."""
        if "hypervisor" in known(self.host.cpu).flags:
            return True
        words = f"{self.host.firmware.vendor} {self.host.firmware.product}".lower()
        return any(word in words for word in ("qemu", "kvm", "vmware", "virtual machine"))

    @cached_property
    def judged(self) -> tuple[PciDevice, ...]:
        """Return the devices that are to go into VMs: those that were named, or the GPUs."""
        found = known(self.host.devices)
        if self.devices:
            return tuple(device for device in found if device.address in self.devices)
        return tuple(
            device
            for device in found
            if device.vendor == NVIDIA
            and device.pci_class in GPU_CLASSES
            and device.is_vf is not True
        )

    @property
    def nvswitches(self) -> tuple[PciDevice, ...]:
        """Return the NVSwitches."""
        return tuple(
            device
            for device in known(self.host.devices)
            if device.vendor == NVIDIA and device.pci_class == CLASS_NVSWITCH
        )

    def details(self, device: PciDevice) -> GpuDetails:
        """Return what is known of a device that is to go into a VM."""
        return self.host.details[device.address]

    @cached_property
    def device_at(self) -> Mapping[str, PciDevice]:
        """Return the PCI devices by their addresses."""
        return {device.address: device for device in known(self.host.devices)}

    @cached_property
    def group_of(self) -> Mapping[int, IommuGroup]:
        """Return the IOMMU groups by their numbers."""
        return {group.number: group for group in known(self.host.groups)}

    @property
    def has_operator_driver(self) -> bool:
        """Whether the driver is the GPU Operator's, which takes it away itself for VMs."""
        nodes = self.host.nodes
        return isinstance(nodes[OPERATOR_DRIVER], Node) and nodes["/usr/bin/nvidia-smi"] is None

    @property
    def runtime(self) -> Runtime:
        """Return the container runtime; only for checks that require `runtime.containerd`."""
        found = known(self.host.runtime)
        assert found is not None  # noqa: S101  # runtime.containerd would have failed
        return found

    @property
    def containerd(self) -> ContainerdConfig:
        """Return containerd's configuration."""
        return known(self.runtime.config)

    def kept_out(self, module: str) -> str:
        """Say what keeps a module from being loaded even when it is asked for by name."""
        for word in known(self.host.cmdline):
            name, _, value = word.partition("=")
            if name == "module_blacklist" and module in value.replace("-", "_").split(","):
                return f"{word} on the kernel command line"
        if module in known(self.host.modprobe).replaced:
            return f"`install {module} …` in /etc/modprobe.d"
        return ""

    def is_there(self, path: str) -> bool:
        """Say whether there is anything at one of the paths that were looked for."""
        return known(self.host.nodes[path]) is not None


def gpus(case: HostCase) -> Iterator[tuple[str, PciDevice]]:
    """Yield the devices to judge by their addresses."""
    for device in case.judged:
        yield device.address, device
