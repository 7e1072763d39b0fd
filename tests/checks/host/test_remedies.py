"""Remedies name the distribution's own file and command, and nothing that it does not have."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from builders import (
    ARCH,
    BOTTLEROCKET,
    COREOS,
    DEBIAN,
    FLATCAR,
    INTEL,
    NIXOS,
    POP,
    PROXMOX,
    ROCKY,
    SLE_MICRO,
    SLES,
    TALOS,
    UBUNTU,
    Files,
    HostTree,
    release,
    verdict,
)

GRUB: Final = ("/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT")
RHCOS: Final = release("rhcos", "Red Hat Enterprise Linux CoreOS 417", "rhel fedora", "4.17")
BOOT: Final = [
    pytest.param(UBUNTU, (*GRUB, "`sudo update-grub`", "reboot"), id="Ubuntu"),
    pytest.param(DEBIAN, (*GRUB, "`sudo update-grub`", "reboot"), id="Debian"),
    pytest.param(PROXMOX, ("/etc/kernel/cmdline", "proxmox-boot-tool refresh"), id="Proxmox"),
    pytest.param(POP, ("sudo kernelstub",), id="Pop!_OS"),
    pytest.param(ROCKY, ("sudo grubby --update-kernel=ALL", "reboot"), id="Rocky"),
    pytest.param(SLES, (*GRUB, "grub2-mkconfig -o /boot/grub2/grub.cfg"), id="SLES"),
    pytest.param(SLE_MICRO, (*GRUB, "transactional-update grub.cfg"), id="SLE Micro"),
    pytest.param(COREOS, ("sudo rpm-ostree kargs",), id="Fedora CoreOS"),
    pytest.param({**RHCOS, "/ostree/repo": ""}, ("sudo rpm-ostree kargs",), id="RHEL CoreOS"),
    pytest.param(FLATCAR, ("/oem/grub.cfg", "Ignition"), id="Flatcar"),
    pytest.param(TALOS, ("machine.install.extraKernelArgs", "machine configuration"), id="Talos"),
    pytest.param(BOTTLEROCKET, ("settings.boot.kernel-parameters", "user data"), id="Bottlerocket"),
    pytest.param(ARCH, ("/etc/kernel/cmdline", "kernel-install add-all"), id="systemd-boot"),
    pytest.param(NIXOS, ("boot loader", "kernel command line"), id="unknown"),
    pytest.param(
        {"/etc/os-release": "# empty\n"}, ("boot loader",), id="a distribution without a name"
    ),
    pytest.param(
        {"/usr/lib/os-release": "ID='fedora'\nNAME=Fedora\n", "/usr/sbin/grubby": ""},
        ("sudo grubby",),
        id="os-release in /usr/lib",
    ),
]
_COMMANDS: Final = (
    "update-grub",
    "proxmox-boot-tool",
    "kernelstub",
    "grubby",
    "grub2-mkconfig",
    "transactional-update",
    "rpm-ostree",
    "/oem/grub.cfg",
    "machine configuration",
    "user data",
    "kernel-install",
)


def foreign(words: tuple[str, ...]) -> list[str]:
    """Return the commands of all other distributions."""
    return [name for name in _COMMANDS if not any(name in word for word in words)]


@pytest.mark.parametrize(("system", "words"), BOOT)
def test_an_argument_is_added_where_the_distribution_keeps_it(
    system: Files, words: tuple[str, ...], tmp_path: Path
) -> None:
    host = HostTree(system=system, cpu=replace(INTEL, cmdline=""), groups=False)

    remedy = verdict(host.tree(tmp_path)).remedy("iommu.enabled")

    assert [word for word in (*words, "intel_iommu=on") if word not in remedy] == []
    assert [name for name in foreign(words) if name in remedy] == []


@pytest.mark.parametrize(("system", "words"), BOOT)
def test_an_argument_is_removed_where_the_distribution_keeps_it(
    system: Files, words: tuple[str, ...], tmp_path: Path
) -> None:
    host = HostTree(system=system, cmdline="intel_iommu=off", groups=False)

    remedy = verdict(host.tree(tmp_path)).remedy("iommu.kernel-arguments")

    assert [word for word in (*words, "intel_iommu=off") if word not in remedy] == []
    assert [name for name in foreign(words) if name in remedy] == []


@pytest.mark.parametrize(
    ("system", "words", "never"),
    [
        pytest.param(UBUNTU, ("update-initramfs -u -k all",), "dracut", id="Ubuntu"),
        pytest.param(ROCKY, ("dracut --force",), "update-initramfs", id="Rocky"),
        pytest.param(SLES, ("dracut --force",), "update-initramfs", id="SLES"),
        pytest.param(COREOS, ("/etc/modprobe.d/", "reboot"), "dracut", id="Fedora CoreOS"),
        pytest.param(FLATCAR, ("/etc/modprobe.d/", "reboot"), "dracut", id="Flatcar"),
        pytest.param(TALOS, ("machine configuration",), "/etc/modprobe.d", id="Talos"),
        pytest.param(BOTTLEROCKET, ("configuration",), "/etc/modprobe.d", id="Bottlerocket"),
        pytest.param(NIXOS, ("initramfs",), "dracut", id="unknown"),
    ],
)
def test_a_blacklist_goes_into_the_initramfs_too(
    system: Files, words: tuple[str, ...], never: str, tmp_path: Path
) -> None:
    remedy = verdict(HostTree(system=system, quiet="").tree(tmp_path)).remedy(
        "driver.nouveau-blocked"
    )

    assert [word for word in ("blacklist nouveau", *words) if word not in remedy] == []
    assert never not in remedy


@pytest.mark.parametrize(
    ("system", "word"),
    [
        pytest.param(UBUNTU, "sudo apt-get purge", id="Ubuntu"),
        pytest.param(ROCKY, "sudo dnf remove", id="Rocky"),
        pytest.param(SLES, "sudo zypper remove", id="SLES"),
        pytest.param(COREOS, "sudo rpm-ostree uninstall", id="Fedora CoreOS"),
        pytest.param(TALOS, "image without the NVIDIA driver", id="Talos"),
        pytest.param(FLATCAR, "image without the NVIDIA driver", id="Flatcar"),
    ],
)
def test_a_host_driver_is_removed_by_the_distributions_package_manager(
    system: Files, word: str, tmp_path: Path
) -> None:
    host = HostTree(system=system, modules=("kvm", "nvidia"))

    assert word in verdict(host.tree(tmp_path)).remedy("driver.nvidia-unloaded")


@pytest.mark.parametrize(
    ("system", "word"),
    [
        pytest.param(UBUNTU, "/etc/modules-load.d/", id="Ubuntu"),
        pytest.param(TALOS, "machine.kernel.modules", id="Talos"),
    ],
)
def test_a_module_is_loaded_where_the_distribution_keeps_it(
    system: Files, word: str, tmp_path: Path
) -> None:
    host = HostTree(system=system, nodes=("vhost-net", "vhost-vsock", "net/tun"))

    assert word in verdict(host.tree(tmp_path)).remedy("host.kvm-device")
