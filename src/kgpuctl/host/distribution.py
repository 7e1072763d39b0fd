"""Which distribution a host runs, and where that keeps what a remedy must change.

Sources: the distributions' own manuals, as collected in docs/explanation/sources.md.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Family(StrEnum):
    """Distributions that share package manager and habits."""

    DEBIAN = "debian"
    RHEL = "rhel"
    SUSE = "suse"
    OSTREE = "ostree"  # Fedora CoreOS, Silverblue, RHEL for Edge
    FLATCAR = "flatcar"
    TALOS = "talos"
    BOTTLEROCKET = "bottlerocket"
    OTHER = "other"


class Boot(StrEnum):
    """How the kernel command line is changed for good."""

    UPDATE_GRUB = "update-grub"
    GRUB2_MKCONFIG = "grub2-mkconfig"
    GRUBBY = "grubby"
    KERNELSTUB = "kernelstub"
    PROXMOX_BOOT_TOOL = "proxmox-boot-tool"
    KERNEL_INSTALL = "kernel-install"
    TRANSACTIONAL = "transactional-update"
    RPM_OSTREE = "rpm-ostree"
    FLATCAR_OEM = "oem-grub"
    TALOS = "machine-config"
    BOTTLEROCKET = "bottlerocket-settings"
    UNKNOWN = "unknown"


class Distribution(NamedTuple):
    """/etc/os-release, the family it belongs to, and its boot loader's configuration."""

    id: str
    name: str
    version: str
    family: Family
    boot: Boot

    @property
    def is_image(self) -> bool:
        """Whether its system is an image that is configured from outside, not edited in place."""
        return self.family in {Family.TALOS, Family.BOTTLEROCKET}


UNKNOWN = Distribution("", "unknown distribution", "", Family.OTHER, Boot.UNKNOWN)

_FAMILIES: Mapping[str, Family] = {
    "debian": Family.DEBIAN,
    "ubuntu": Family.DEBIAN,
    "rhel": Family.RHEL,
    "fedora": Family.RHEL,
    "centos": Family.RHEL,
    "rocky": Family.RHEL,
    "almalinux": Family.RHEL,
    "ol": Family.RHEL,
    "amzn": Family.RHEL,
    "suse": Family.SUSE,
    "sles": Family.SUSE,
    "sled": Family.SUSE,
    "opensuse": Family.SUSE,
    "flatcar": Family.FLATCAR,
    "coreos": Family.FLATCAR,
    "talos": Family.TALOS,
    "bottlerocket": Family.BOTTLEROCKET,
}

# What tells a boot loader, in the order of asking: the first path that exists decides.
BOOT_PATHS: tuple[tuple[str, Boot], ...] = (
    ("/ostree", Boot.RPM_OSTREE),
    ("/etc/kernel/proxmox-boot-uuids", Boot.PROXMOX_BOOT_TOOL),
    ("/usr/bin/kernelstub", Boot.KERNELSTUB),
    ("/usr/sbin/transactional-update", Boot.TRANSACTIONAL),
    ("/usr/sbin/grubby", Boot.GRUBBY),
    ("/usr/sbin/update-grub", Boot.UPDATE_GRUB),
    ("/usr/sbin/grub2-mkconfig", Boot.GRUB2_MKCONFIG),
    ("/etc/kernel/cmdline", Boot.KERNEL_INSTALL),
)

_DEFAULT_BOOT: Mapping[Family, Boot] = {
    Family.DEBIAN: Boot.UPDATE_GRUB,
    Family.RHEL: Boot.GRUBBY,
    Family.SUSE: Boot.GRUB2_MKCONFIG,
    Family.OSTREE: Boot.RPM_OSTREE,
    Family.FLATCAR: Boot.FLATCAR_OEM,
    Family.TALOS: Boot.TALOS,
    Family.BOTTLEROCKET: Boot.BOTTLEROCKET,
    Family.OTHER: Boot.UNKNOWN,
}

# Families whose boot loader follows from what they are, whatever lies on the disk.
_FIXED = frozenset({Family.FLATCAR, Family.TALOS, Family.BOTTLEROCKET})


def recognise(release: Mapping[str, str], boot: Boot | None) -> Distribution:
    """Make a Distribution of /etc/os-release's fields and the boot loader that was found."""
    words = [release.get("ID", "").lower(), *release.get("ID_LIKE", "").lower().split()]
    family = next(
        (
            _FAMILIES[part]
            for word in words
            for part in (word, word.partition("-")[0])
            if part in _FAMILIES
        ),
        Family.OTHER,
    )
    if boot is Boot.RPM_OSTREE and family is Family.RHEL:
        family = Family.OSTREE
    if family in _FIXED or boot is None:
        boot = _DEFAULT_BOOT[family]
    return Distribution(
        id=words[0],
        name=release.get("PRETTY_NAME") or release.get("NAME") or words[0] or UNKNOWN.name,
        version=release.get("VERSION_ID", ""),
        family=family,
        boot=boot,
    )


class BootEdit(NamedTuple):
    """Where kernel arguments stand, and the command that makes an edit count at the next boot.

    `variable` is the shell variable in `file` (empty: the file is one plain line).
    """

    file: str
    variable: str
    command: str


BOOT_EDITS: Mapping[Boot, BootEdit] = {
    Boot.UPDATE_GRUB: BootEdit("/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT", "update-grub"),
    Boot.GRUB2_MKCONFIG: BootEdit(
        "/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT", "grub2-mkconfig -o /boot/grub2/grub.cfg"
    ),
    Boot.TRANSACTIONAL: BootEdit(
        "/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT", "transactional-update grub.cfg"
    ),
    Boot.PROXMOX_BOOT_TOOL: BootEdit("/etc/kernel/cmdline", "", "proxmox-boot-tool refresh"),
    Boot.KERNEL_INSTALL: BootEdit("/etc/kernel/cmdline", "", "kernel-install add-all"),
}

INITRAMFS: Mapping[Family, str] = {
    Family.DEBIAN: "update-initramfs -u -k all",
    Family.RHEL: "dracut --force --regenerate-all",
    Family.SUSE: "dracut --force --regenerate-all",
}
