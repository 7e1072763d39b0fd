"""What to type, in the words of the distribution and the vendor that were found.

Sources: docs/explanation/sources.md, "Persistent settings".
"""

from collections.abc import Mapping
from typing import Final

from kgpuctl.checks.host.case import HostCase
from kgpuctl.host.distribution import BOOT_EDITS, INITRAMFS, Boot, Family
from kgpuctl.host.facts import Vendor
from kgpuctl.report import KernelArguments, LoadModules, ModuleConfig, Remedy
from kgpuctl.unread import Unread

VIRTUALIZATION: Final[Mapping[Vendor, str]] = {
    Vendor.INTEL: '"Intel Virtualization Technology (VT-x)"',
    Vendor.AMD: '"SVM Mode"',
    Vendor.ARM: "virtualization (boot the kernel at EL2)",
    Vendor.OTHER: "hardware virtualization",
}
IOMMU: Final[Mapping[Vendor, str]] = {
    Vendor.INTEL: '"Intel VT for Directed I/O (VT-d)"',
    Vendor.AMD: '"IOMMU" (AMD-Vi, often under AMD CBS > NBIO)',
    Vendor.ARM: '"SMMU"',
    Vendor.OTHER: "the IOMMU",
}


def firmware_setting(case: HostCase, words: Mapping[Vendor, str]) -> str:
    """Name the firmware menu's word for this vendor, and where to find that menu."""
    cpu = case.host.cpu
    word = words[Vendor.OTHER if isinstance(cpu, Unread) else cpu.vendor]
    machine = f"{case.host.firmware.vendor} {case.host.firmware.product}".strip()
    where = f"the firmware setup of this {machine}" if machine else "the firmware setup (BIOS)"
    return f"Enable {word} in {where} and boot again."


def add_arguments(case: HostCase, *words: str) -> Remedy:
    """Say how this distribution puts words on its kernel command line for good."""
    told = " ".join(words)
    texts = {
        Boot.GRUBBY: f'Run `sudo grubby --update-kernel=ALL --args="{told}"` and reboot.',
        Boot.KERNELSTUB: f'Run `sudo kernelstub --add-options "{told}"` and reboot.',
        Boot.RPM_OSTREE: "Run `sudo rpm-ostree kargs"
        f"{''.join(f' --append-if-missing={word}' for word in words)}` and reboot.",
        Boot.FLATCAR_OEM: f'Put the line `set linux_append="$linux_append {told}"` into '
        "/oem/grub.cfg and reboot (for new nodes: into the Ignition configuration).",
    }
    text = texts.get(case.distribution.boot) or _edit(case, f"add {told} to")
    return Remedy(text, (KernelArguments(add=words),))


def remove_arguments(case: HostCase, *words: str) -> Remedy:
    """Say how this distribution takes words off its kernel command line for good."""
    told = " ".join(words)
    texts = {
        Boot.GRUBBY: f'Run `sudo grubby --update-kernel=ALL --remove-args="{told}"` and reboot.',
        Boot.KERNELSTUB: f'Run `sudo kernelstub --delete-options "{told}"` and reboot.',
        Boot.RPM_OSTREE: "Run `sudo rpm-ostree kargs"
        f"{''.join(f' --delete-if-present={word}' for word in words)}` and reboot.",
        Boot.FLATCAR_OEM: f"Take {told} out of /oem/grub.cfg and reboot "
        "(for new nodes: out of the Ignition configuration).",
    }
    text = texts.get(case.distribution.boot) or _edit(case, f"remove {told} from")
    return Remedy(text, (KernelArguments(remove=words),))


def _edit(case: HostCase, change: str) -> str:
    """Word a change of a configuration that is edited by hand."""
    boot = case.distribution.boot
    if boot in BOOT_EDITS:
        edit = BOOT_EDITS[boot]
        target = edit.variable or "the line"
        if change.startswith("remove ") and edit.variable:
            target = f"GRUB_CMDLINE_LINUX and {target}"
        return f"In {edit.file}, {change} {target}, run `sudo {edit.command}` and reboot."
    texts = {
        Boot.TALOS: f"In the machine configuration, {change} machine.install.extraKernelArgs "
        "(or the Image Factory schematic) and run `talosctl upgrade`.",
        Boot.BOTTLEROCKET: f"In the user data, {change} settings.boot.kernel-parameters, set "
        "settings.boot.reboot-to-reconcile and reboot.",
    }
    return texts.get(
        boot, f"With this host's boot loader, {change} the kernel command line; reboot."
    )


def module_config(case: HostCase, name: str, *lines: str) -> Remedy:
    """Say how to give modprobe these lines for good, in the initramfs too."""
    family = case.distribution.family
    fix = ModuleConfig(name, lines)
    if case.distribution.is_image:
        return Remedy(
            f"Put {'; '.join(lines)!r} into the module settings of the machine configuration.",
            (fix,),
        )
    rebuild = INITRAMFS.get(family)
    if case.distribution.boot is Boot.TRANSACTIONAL:
        rebuild = "transactional-update initrd"
    then = f"run `sudo {rebuild}` and reboot" if rebuild else "rebuild the initramfs and reboot"
    if family in {Family.OSTREE, Family.FLATCAR}:
        then = "reboot"
    written = " and ".join(f"`{line}`" for line in lines)
    return Remedy(f"Write {written} into /etc/modprobe.d/{name}.conf, {then}.", (fix,))


_MODULE_SETTINGS: Final = {
    Family.TALOS: "machine.kernel.modules of the machine configuration",
    Family.BOTTLEROCKET: "settings.kernel.modules of the user data",
}


def load_modules(case: HostCase, *modules: str) -> Remedy:
    """Say how to load modules now and at each boot."""
    names = " ".join(modules)
    fix = LoadModules(modules)
    setting = _MODULE_SETTINGS.get(case.distribution.family)
    if setting:
        return Remedy(f"Add {names} to {setting}.", (fix,))
    lines = "".join(f"{module}\\n" for module in modules)
    return Remedy(
        f"Run `sudo modprobe -a {names}`, and for each boot "
        f"`printf '{lines}' | sudo tee /etc/modules-load.d/kgpuctl-{modules[0]}.conf`.",
        (fix,),
    )


def restart_runtime(case: HostCase) -> str:
    """Name the command that makes the container runtime read its configuration again."""
    return f"`sudo systemctl restart {case.runtime.unit}`"
