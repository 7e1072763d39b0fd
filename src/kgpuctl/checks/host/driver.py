"""Whether the host's drivers are out of the way, and VFIO is there."""

from typing import Final

from kgpuctl.checks.check import Outcome, check, failed, known, passed, skipped, warned
from kgpuctl.checks.host.case import HostCase
from kgpuctl.checks.host.remedies import add_arguments, load_modules, module_config
from kgpuctl.host.distribution import Family
from kgpuctl.names import NVIDIA_MODULES
from kgpuctl.report import Remedy, StopUnit

_REMOVE_DRIVER: Final = {
    Family.DEBIAN: "sudo apt-get purge '^nvidia-(driver|dkms|kernel|headless|utils).*'",
    Family.RHEL: "sudo dnf remove 'nvidia-driver*' 'kmod-nvidia*' 'dkms-nvidia*'",
    Family.SUSE: "sudo zypper remove 'nvidia-driver*' 'nvidia-open-driver*' 'nvidia-compute*'",
    Family.OSTREE: "sudo rpm-ostree uninstall PACKAGE (`rpm -qa | grep -i nvidia` lists them)",
}


RELABEL: Final = (
    "End the pods that use its GPUs, then label the node "
    "`nvidia.com/gpu.workload.config=vm-passthrough`: the operator unloads its driver itself."
)


def remove_driver(case: HostCase) -> str:
    """Say how to take NVIDIA's host driver away on this distribution."""
    command = _REMOVE_DRIVER.get(case.distribution.family)
    if command:
        return f"Run `{command}` and reboot; a driver from a .run file: `sudo nvidia-uninstall`."
    return "Use an image without the NVIDIA driver (remove its extension), and reboot."


@check("driver.nvidia-unloaded", "No NVIDIA host driver is loaded")
def nvidia_unloaded(case: HostCase) -> Outcome:
    """A loaded driver holds the GPUs, and the GPU Operator then stops at its first step."""
    loaded = sorted(NVIDIA_MODULES & known(case.host.modules))
    if not loaded:
        return passed()
    if case.has_operator_driver and not case.after_install:
        return warned(
            f"loaded by the GPU Operator's driver container: {', '.join(loaded)}",
            RELABEL,
        )
    return failed(f"loaded: {', '.join(loaded)}", remove_driver(case))


@check(
    "driver.nvidia-absent",
    "No NVIDIA host driver is installed",
    requires=("driver.nvidia-unloaded",),
)
def nvidia_absent(case: HostCase) -> Outcome:
    """Once nvidia-smi works on the host, vfio-manager takes the driver for wanted and gives up."""
    traces = [
        path
        for path in ("/usr/bin/nvidia-smi", "/proc/driver/nvidia/version")
        if case.is_there(path)
    ]
    if not traces and "nvidia" in known(case.host.module_index).loadable:
        traces = ["the kernel module nvidia"]
    if not traces:
        return passed()
    return warned(f"there is {' and '.join(traces)}", remove_driver(case))


@check("driver.nouveau-blocked", "nouveau is kept from the GPUs")
def nouveau_blocked(case: HostCase) -> Outcome:
    """The kernel's own driver takes every GPU at boot unless it is told not to."""
    words = known(case.host.cmdline)
    if "nouveau.modeset=0" in words:
        return passed("nouveau.modeset=0 on the command line")
    index = known(case.host.module_index)
    if "nouveau" in index.builtin:
        return warned(
            "nouveau is built into the kernel, where no blacklist reaches it",
            add_arguments(case, "nouveau.modeset=0"),
        )
    if "nouveau" not in index.loadable:
        return passed("this kernel has no nouveau")
    for word in words:
        name, _, value = word.partition("=")
        if name in {"modprobe.blacklist", "module_blacklist"} and "nouveau" in value.split(","):
            return passed(f"{word} on the command line")
    config = known(case.host.modprobe)
    if "nouveau" in config.blacklisted | config.replaced:
        return passed("blacklisted in modprobe.d")
    return warned(
        "neither the kernel command line nor modprobe.d blacklists it",
        module_config(case, "kgpuctl-nouveau", "blacklist nouveau", "options nouveau modeset=0"),
    )


@check("driver.vfio-pci", "The driver vfio-pci is there")
def vfio_pci(case: HostCase) -> Outcome:
    """vfio-pci is what hands a PCI device to a VM."""
    if "vfio_pci" in known(case.host.modules):
        return passed("loaded")
    index = known(case.host.module_index)
    if "vfio_pci" in index.builtin:
        return passed("built in")
    if "vfio_pci" not in index.loadable:
        return failed(
            "the kernel has no module vfio_pci",
            "Install the package with the kernel's further modules (Ubuntu: "
            "linux-modules-extra-$(uname -r)), or a kernel with CONFIG_VFIO_PCI.",
        )
    barrier = case.kept_out("vfio_pci")
    if barrier:
        return failed(f"{barrier} keeps vfio_pci from being loaded", "Take that away, and reboot.")
    if case.after_install:
        return failed("not loaded", load_modules(case, "vfio-pci"))
    return passed("can be loaded")


@check("driver.vfio-backend", "VFIO offers an interface to QEMU", requires=("driver.vfio-pci",))
def vfio_backend(case: HostCase) -> Outcome:
    """QEMU opens /dev/vfio/vfio, or /dev/iommu with a device file for each GPU."""
    if case.is_there("/dev/iommu") and case.is_there("/dev/vfio/devices"):
        return passed("/dev/iommu and /dev/vfio/devices (iommufd)")
    if case.is_there("/dev/vfio/vfio"):
        return passed("/dev/vfio/vfio")
    if not case.after_install:
        return skipped("it appears when a device is bound; asked with --after-install")
    return failed(
        "neither /dev/vfio/vfio nor /dev/iommu with /dev/vfio/devices",
        load_modules(case, "vfio-pci", "vfio_iommu_type1"),
    )


@check("driver.users", "No process holds a GPU")
def users(case: HostCase) -> Outcome:
    """Unbinding a driver hangs while a process holds the device; a lost VM keeps its GPU."""
    holders = [holder for holder in known(case.host.holders) if not holder.kata]
    kata = {holder.pid for holder in known(case.host.holders) if holder.kata}
    if not holders:
        return passed(f"{len(kata)} running Kata VMs" if kata else "")
    held = {(holder.pid, holder.command) for holder in holders}
    listed = ", ".join(f"{command} (pid {pid})" for pid, command in sorted(held)[:8])
    more = f" and {len(held) - 8} more" if len(held) > 8 else ""  # noqa: PLR2004
    paths = sorted({holder.path for holder in holders})
    verb = "holds" if len(held) == 1 else "hold"
    message = f"{listed}{more} {verb} {', '.join(paths[:4])}{', …' if len(paths) > 4 else ''}"  # noqa: PLR2004
    return warned(message, _let_go({holder.command for holder in holders}))


# The daemons of NVIDIA's driver by their process names (which the kernel cuts at 15 letters).
_DAEMONS: Final = {
    "nvidia-persiste": "nvidia-persistenced.service",
    "nv-hostengine": "nvidia-dcgm.service",
    "nv-fabricmanage": "nvidia-fabricmanager.service",
}


def _let_go(commands: set[str]) -> Remedy:
    """Say how to stop these processes; NVIDIA's daemons come back unless they are disabled."""
    units = tuple(StopUnit(unit) for command, unit in _DAEMONS.items() if command in commands)
    by_hand = ""
    if commands - set(_DAEMONS):
        by_hand = (
            "End these processes by their pid. A QEMU whose pod is gone was left behind; if it "
            "does not end, reboot."
        )
    stop = f"Run `sudo systemctl disable --now {' '.join(unit.unit for unit in units)}`."
    text = " ".join(part for part in (stop if units else "", by_hand) if part)
    return Remedy(text, units, by_hand if units else "")


CHECKS = (nvidia_unloaded, nvidia_absent, nouveau_blocked, vfio_pci, vfio_backend, users)
