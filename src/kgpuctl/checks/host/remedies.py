"""What to type, in the words of the distribution and the vendor that were found.

Sources: docs/explanation/sources.md, "Persistent settings".
"""

from collections.abc import Mapping
from typing import Final

from kgpuctl.checks.host.case import HostCase
from kgpuctl.host.distribution import BOOT_EDITS, INITRAMFS, Boot, Family
from kgpuctl.host.facts import Unread, Vendor
from kgpuctl.report import KernelArguments, LoadModules, ModuleConfig, Remedy

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


def firmware_setting(case: HostCase, words: Mapping[Vendor, str], *, more: str = "") -> str:
    """Name the firmware menu's word for this vendor, and where to find that menu."""
    cpu = case.host.cpu
    word = words[Vendor.OTHER if isinstance(cpu, Unread) else cpu.vendor]
    machine = f"{case.host.firmware.vendor} {case.host.firmware.product}".strip()
    where = f"the firmware setup of this {machine}" if machine else "the firmware setup (BIOS)"
    return f"Enable {word}{more} in {where} and boot again."


def kernel_arguments(
    case: HostCase, *, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()
) -> Remedy:
    """Say how this distribution changes its kernel command line for good."""
    if remove:
        # A plain word cannot be taken back by a script whose author did not see where it stands.
        wish = f"take {_words(remove)} off" + (f" and put {_words(add)} on" if add else "")
    else:
        wish = f"put {_words(add)} on"
    return Remedy(_kernel_text(case, add, remove, wish), (KernelArguments(add, remove),))


def _words(words: tuple[str, ...]) -> str:
    return " ".join(words)


def _kernel_text(case: HostCase, add: tuple[str, ...], remove: tuple[str, ...], wish: str) -> str:
    boot = case.distribution.boot
    if boot in BOOT_EDITS:
        edit = BOOT_EDITS[boot]
        verb = "remove" if remove else "add"
        change = f"{verb} {_words(remove or add)}" + (
            f", add {_words(add)}" if remove and add else ""
        )
        where = f"{edit.variable} in {edit.file}" if edit.variable else edit.file
        preposition = "from" if remove else "to"
        return (
            f"In {edit.file}, {change} {preposition} {edit.variable or 'the line'}, "
            f"run `sudo {edit.command}` and reboot."
            if where
            else wish
        )
    text = {
        Boot.GRUBBY: f"Run `sudo grubby --update-kernel=ALL{_option('--args', add)}"
        f"{_option('--remove-args', remove)}` and reboot.",
        Boot.KERNELSTUB: f"Run `sudo kernelstub{_option('--add-options', add)}"
        f"{_option('--delete-options', remove)}` and reboot.",
        Boot.RPM_OSTREE: "Run `sudo rpm-ostree kargs"
        + "".join(f" --append-if-missing={word}" for word in add)
        + "".join(f" --delete-if-present={word}" for word in remove)
        + "` and reboot.",
        Boot.FLATCAR_OEM: f"In /oem/grub.cfg, {wish} the line "
        f'`set linux_append="$linux_append …"` and reboot (new nodes: the same in Ignition).',
        Boot.TALOS: f"In the machine configuration, {wish} machine.install.extraKernelArgs "
        "(or the Image Factory schematic), then run `talosctl upgrade`.",
        Boot.BOTTLEROCKET: f"In the user data, {wish} settings.boot.kernel-parameters, "
        "set reboot-to-reconcile and reboot.",
    }.get(boot)
    return text or f"Configure the boot loader to {wish} the kernel command line, and reboot."


def _option(name: str, words: tuple[str, ...]) -> str:
    return f' {name}="{_words(words)}"' if words else ""


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
    then = f"run `sudo {rebuild}` and reboot" if rebuild else "rebuild the initramfs and reboot"
    if family in {Family.OSTREE, Family.FLATCAR}:
        then = "reboot"
    written = " and ".join(f"`{line}`" for line in lines)
    return Remedy(f"Write {written} into /etc/modprobe.d/{name}.conf, {then}.", (fix,))


def load_modules(case: HostCase, *modules: str) -> Remedy:
    """Say how to load modules now and at each boot."""
    names = " ".join(modules)
    fix = LoadModules(modules)
    if case.distribution.family is Family.TALOS:
        return Remedy(
            f"Add {names} to machine.kernel.modules of the machine configuration.", (fix,)
        )
    lines = "".join(f"{module}\\n" for module in modules)
    return Remedy(
        f"Run `sudo modprobe -a {names}`, and for each boot "
        f"`printf '{lines}' | sudo tee /etc/modules-load.d/kgpuctl-{modules[0]}.conf`.",
        (fix,),
    )


def restart_runtime(case: HostCase) -> str:
    """Name the command that makes the container runtime read its configuration again."""
    return f"`sudo systemctl restart {case.runtime.unit}`"
