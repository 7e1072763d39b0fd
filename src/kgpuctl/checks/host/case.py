"""What the checks of a host are asked about: its facts, and what it is meant for."""

from collections.abc import Iterator
from dataclasses import dataclass

from kgpuctl.checks.check import known
from kgpuctl.host.distribution import UNKNOWN, Distribution
from kgpuctl.host.facts import (
    ContainerdConfig,
    GpuDetails,
    HostFacts,
    PciDevice,
    Runtime,
    Unread,
    Vendor,
)
from kgpuctl.names import CLASS_NVSWITCH, GPU_CLASSES, NVIDIA, OPERATOR_DRIVER, Stack, Tee


@dataclass(frozen=True, slots=True)
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

    @property
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

    def device(self, address: str) -> PciDevice | None:
        """Return a PCI device by its address."""
        found = known(self.host.devices)
        return next((device for device in found if device.address == address), None)

    @property
    def has_operator_driver(self) -> bool:
        """Whether the driver is the GPU Operator's, which takes it away itself for VMs."""
        return self.is_there(OPERATOR_DRIVER) and not self.is_there("/usr/bin/nvidia-smi")

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
