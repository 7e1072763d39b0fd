"""Whether each GPU can be handed to a VM."""

from collections import Counter
from typing import Final

from kgpuctl.checks.check import Outcome, check, check_each, failed, known, passed, skipped, warned
from kgpuctl.checks.host.case import HostCase, gpus
from kgpuctl.checks.host.driver import RELABEL
from kgpuctl.checks.host.remedies import add_arguments
from kgpuctl.host.facts import Bar, PciDevice
from kgpuctl.host.models import model_name
from kgpuctl.names import (
    GPU_CLASSES,
    NVIDIA,
    VFIO_DRIVERS,
    VFIO_PCI,
    VFIO_VARIANTS,
    Stack,
)
from kgpuctl.report import Remedy

# A data-centre GPU's framebuffer window is 256 MiB and more; its other windows are smaller.
LARGE_BAR: Final = 64 * 2**20
_4G: Final = 2**32
_NEEDS_GPU: Final = ("gpu.present",)
# Names in /proc/iomem of what drew the boot screen, and the argument that keeps it away. sysfb
# registers BOOTFB for simplefb and simpledrm, which no `video=` argument switches off.
_FRAMEBUFFERS: Final = {
    "BOOTFB": "initcall_blacklist=sysfb_init",
    "simple-framebuffer": "initcall_blacklist=sysfb_init",
    "simplefb": "initcall_blacklist=sysfb_init",
    "simpledrm": "initcall_blacklist=sysfb_init",
    "efifb": "video=efifb:off",
    "vesafb": "video=vesafb:off",
}
_GPU_DRIVERS: Final = frozenset({"nouveau", "nvidiafb", "nova_core", "nova-core", "NovaCore"})


@check("gpu.present", "There is an NVIDIA GPU")
def present(case: HostCase) -> Outcome:
    """Everything else is about the GPUs; virtual functions are not handed on whole."""
    found = case.judged
    if case.devices:
        missing = sorted(set(case.devices) - {device.address for device in found})
        if missing:
            return failed(
                f"no PCI device {', '.join(missing)}",
                "Name devices as `ls /sys/bus/pci/devices` shows them.",
            )
    if found:
        counts = Counter(model_name(device) for device in found)
        return passed(", ".join(f"{count} x {name}" for name, count in sorted(counts.items())))
    virtual = [
        device
        for device in known(case.host.devices)
        if device.vendor == NVIDIA and device.pci_class in GPU_CLASSES
    ]
    if virtual:
        return failed(
            f"only {len(virtual)} virtual functions of a GPU, no whole one",
            "Give this host the whole GPU: Kata passes physical functions through.",
        )
    return failed(
        "no PCI device of vendor 10de with class 0300 or 0302",
        "Use a host with an NVIDIA GPU; if there is one, see whether `lspci -d 10de:` shows it "
        "and the slot is enabled in the firmware.",
    )


@check_each("gpu.driver", "No host driver holds the GPU", gpus, none="no GPU", requires=_NEEDS_GPU)
def driver(case: HostCase, gpu: PciDevice) -> Outcome:
    """Only vfio-pci can hand the GPU on; a host driver must let go of it first."""
    name = known(gpu.driver)
    if name == VFIO_PCI:
        return passed("vfio-pci")
    if name in VFIO_VARIANTS:
        return warned(
            f"bound to {name}",
            "NVIDIA's sandbox device plugin up to 0.0.5 does not offer this GPU: bind it to "
            "vfio-pci, or use a newer plugin.",
        )
    if name == "nvidia" and case.has_operator_driver and not case.after_install:
        return warned("bound to the driver of the GPU Operator's container", RELABEL)
    if name is not None:
        return failed(f"bound to {name}", _unbind(case, gpu, name))
    if case.after_install:
        return failed(
            "bound to no driver, although vfio-manager should have bound it to vfio-pci",
            "Read the log of the pod nvidia-vfio-manager of this node: "
            "`kubectl -n gpu-operator logs -l name=nvidia-vfio-manager`.",
        )
    return passed("free")


def _unbind(case: HostCase, gpu: PciDevice, driver: str) -> Remedy | str:
    """Say how to keep a host driver from the GPU."""
    if driver == "nvidia":
        return (
            "Uninstall the NVIDIA driver from this host and reboot (driver.nvidia-unloaded says "
            "how); then remove the node label nvidia.com/gpu.deploy.driver if it says "
            "pre-installed."
        )
    if driver in _GPU_DRIVERS:
        module = {"NovaCore": "nova_core"}.get(driver, driver.replace("-", "_"))
        return add_arguments(case, f"modprobe.blacklist={module}")
    return (
        f"Keep {driver} from this device: put its id {gpu.id} into vfio-pci.ids= on the kernel "
        "command line, or unbind it by hand."
    )


@check_each(
    "gpu.boot-display", "The GPU is not the boot console", gpus, none="no GPU", requires=_NEEDS_GPU
)
def boot_display(case: HostCase, gpu: PciDevice) -> Outcome:
    """The boot framebuffer keeps a piece of the GPU's memory ("BAR 0: can't reserve")."""
    details = case.details(gpu)
    boot = known(details.boot_vga)
    bars = known(details.bars)
    for item in known(case.host.io_ranges):
        if item.name in _FRAMEBUFFERS and any(
            bar.assigned and bar.start <= item.start < bar.start + bar.size for bar in bars
        ):
            return warned(
                f"the boot framebuffer ({item.name}) lies in its memory",
                add_arguments(case, _FRAMEBUFFERS[item.name]),
            )
    if boot:
        return warned(
            "it is the display that the firmware booted with (boot_vga)",
            "Make another adapter (the management controller's) the primary display in the "
            "firmware.",
        )
    return passed()


@check_each(
    "gpu.bars",
    "The GPU's memory windows (BARs) are assigned",
    gpus,
    none="no GPU",
    requires=_NEEDS_GPU,
)
def bars(case: HostCase, gpu: PciDevice) -> Outcome:
    """Firmware without room above 4 GiB leaves a big window out; no driver works then."""
    found = known(case.details(gpu).bars)
    remedy = (
        'Enable "Above 4G Decoding" ("Memory Mapped I/O above 4 GB") in the firmware and give it '
        "the largest MMIO size; `dmesg | grep BAR` shows what found no room."
    )
    open_ones = [bar for bar in found if not bar.assigned]
    if open_ones:
        return failed(f"not assigned: {', '.join(_bar_name(bar) for bar in open_ones)}", remedy)
    if gpu.vendor != NVIDIA or gpu.pci_class not in GPU_CLASSES:
        return passed(f"{len(found)} assigned")
    large = max(
        (bar for bar in found if bar.size >= LARGE_BAR), key=lambda bar: bar.size, default=None
    )
    if large is None:
        return failed("no large window: the GPU's framebuffer BAR is not assigned", remedy)
    where = "above" if large.start >= _4G else "below"
    return passed(f"{_bar_name(large)}, {where} 4 GiB")


def _bar_name(bar: Bar) -> str:
    units = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "bytes"))
    size, unit = next((size, unit) for size, unit in units if bar.size >= size or size == 1)
    return f"BAR {bar.number} of {bar.size // size} {unit}"


@check_each(
    "gpu.sriov",
    "The GPU is not split into virtual functions",
    gpus,
    none="no GPU",
    requires=_NEEDS_GPU,
)
def sriov(case: HostCase, gpu: PciDevice) -> Outcome:
    """A GPU with virtual functions enabled serves vGPU and cannot be handed on whole."""
    count = known(case.details(gpu).vfs)
    if count is None:
        return passed("no SR-IOV")
    if count == 0:
        return passed("SR-IOV, none enabled")
    return failed(
        f"{count} virtual functions are enabled",
        f"Stop what enabled them (vGPU manager, sriov-manage) and run "
        f"`echo 0 | sudo tee /sys/bus/pci/devices/{gpu.address}/sriov_numvfs`.",
    )


@check_each(
    "gpu.power-state", "The GPU is not switched off", gpus, none="no GPU", requires=_NEEDS_GPU
)
def power_state(case: HostCase, gpu: PciDevice) -> Outcome:
    """From D3cold some GPUs do not come back when a VM starts."""
    state = known(case.details(gpu).power_state)
    if state is None:
        return skipped("this kernel does not show it")
    if state == "D3cold":
        return warned("D3cold", add_arguments(case, "vfio_pci.disable_idle_d3=1"))
    if state == "unknown":
        return skipped("the kernel tells once a driver has enabled the device")
    if state == "error":
        return warned("the kernel says: error", "Reboot, or reset the device, and look again.")
    return passed(state)


@check("gpu.uniform", "All GPUs are of one model", requires=_NEEDS_GPU)
def uniform(case: HostCase) -> Outcome:
    """The alias nvidia.com/pgpu makes no difference between models, and a node is all or none."""
    found = case.judged
    if len(found) < 2:  # noqa: PLR2004
        return skipped("one GPU")
    counts = Counter((device.id, model_name(device)) for device in found)
    if len(counts) == 1:
        return passed(f"{len(found)} x {model_name(found[0])}")
    if case.stack is Stack.COCO_OPERATOR:
        return passed("several models, each with a resource name of its own")
    names = ", ".join(f"{count} x {name} ({id})" for (id, name), count in sorted(counts.items()))  # noqa: A001
    return warned(
        names,
        'Set P_GPU_ALIAS="" for the sandbox device plugin, so that each model has a resource '
        "name of its own; all GPUs of a node go to VMs, or none.",
    )


@check("gpu.nvswitch", "NVSwitches go to the VM together with the GPUs")
def nvswitch(case: HostCase) -> Outcome:
    """Without its NVSwitches a group of GPUs fails in the VM with CUDA error 802."""
    found = case.nvswitches
    if not found:
        return skipped("no NVSwitch")
    if case.stack is Stack.COCO_OPERATOR:
        return warned(
            f"{len(found)} NVSwitches",
            "This stack gives a pod one GPU only, and such a GPU does not start without its "
            "switches: use `--stack kata-deploy`.",
        )
    left = [device for device in found if known(device.driver) not in VFIO_DRIVERS]
    if case.after_install and not left:
        return passed(f"{len(found)} NVSwitches bound to vfio-pci")
    ppcie = (
        " On Hopper with confidential VMs: label nvidia.com/cc.mode=ppcie."
        if case.confidential
        else ""
    )
    return warned(
        f"{len(left)} of {len(found)} NVSwitches are not bound to vfio-pci",
        "Install the GPU Operator with vfioManager.env BIND_NVSWITCHES=true, and let the pod "
        f"request all nvidia.com/nvswitch of the node together with all its GPUs.{ppcie}",
    )


CHECKS = (
    present,
    driver,
    boot_display,
    bars,
    sriov,
    power_state,
    uniform,
    nvswitch,
)
