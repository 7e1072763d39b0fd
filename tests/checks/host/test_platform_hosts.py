"""Hosts whose CPU, IOMMU or trusted execution is not ready: exactly what preflight says of each."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from builders import (
    AMD,
    ARM,
    DIRECTORY,
    GPU,
    INTEL,
    Aims,
    HostTree,
    gpu,
    iort,
    verdict,
)
from exactly import assert_exactly, bad
from kgpuctl.names import Tee
from kgpuctl.unread import Reason, Unread

FAILED, WARNED, UNKNOWN = "failed", "warned", "unknown"
SNP_ON: Final = {"kvm_amd/sev": "Y", "kvm_amd/sev_es": "1", "kvm_amd/sev_snp": "Y"}
SNP, TDX = Aims(confidential=Tee.SNP), Aims(confidential=Tee.TDX)
KVM: Final = HostTree().nodes
NO_KVM: Final = tuple(name for name in KVM if name != "kvm")
NO_VHOST: Final = ("kvm", "net/tun")
XFS: Final = ("kernel/fs/xfs/xfs.ko.zst",)
CENTAUR: Final = replace(INTEL, cpuinfo="vendor_id\t: CentaurHauls\n")
QUIET_INTEL: Final = replace(INTEL, cmdline="")
QEMU: Final = {"/sys/class/dmi/id/sys_vendor": "QEMU\n", "/sys/class/dmi/id/product_name": "pc\n"}
VIRTUAL: Final = HostTree(flags=("hypervisor",), put=QEMU)
SNP_HOST: Final = HostTree(
    cpu=AMD, parameters=SNP_ON, kernel="6.17.0-5-generic", nodes=(*KVM, "sev")
)
TDX_HOST: Final = HostTree(parameters={"kvm_intel/tdx": "Y"}, kernel="6.17.0-5-generic")
NO_UNSAFE: Final = {"vfio_iommu_type1/allow_unsafe_interrupts": "N"}
UNSAFE: Final = {"vfio_iommu_type1/allow_unsafe_interrupts": "Y"}


CPUS: Final = [
    bad(
        "VT-x is off",
        HostTree(without_flags=("vmx",), nodes=NO_KVM),
        {"host.cpu-virtualization": FAILED},
    ),
    bad(
        "SVM is off",
        HostTree(cpu=AMD, without_flags=("svm",), nodes=NO_KVM),
        {"host.cpu-virtualization": FAILED},
    ),
    bad("a 32-bit CPU", HostTree(without_flags=("lm",)), {"host.architecture": FAILED}),
    bad("no KVM device", HostTree(nodes=NO_KVM), {"host.kvm-device": FAILED}),
    bad(
        "Hyper-V's device instead of KVM's",
        HostTree(nodes=(*NO_KVM, "mshv")),
        {"host.kvm-device": FAILED},
    ),
    bad(
        "another hypervisor owns the CPU",
        HostTree(answers={"kvm": "api=12 vm=no error=EBUSY"}),
        {"host.kvm-usable": FAILED},
    ),
    bad(
        "KVM's device does not open",
        HostTree(answers={"kvm": "api=- vm=no error=ENODEV"}),
        {"host.kvm-usable": FAILED},
    ),
    bad(
        "KVM speaks another version",
        HostTree(answers={"kvm": "api=11 vm=no error="}),
        {"host.kvm-usable": FAILED},
    ),
    bad(
        "KVM refuses a VM for want of memory",
        HostTree(answers={"kvm": "api=12 vm=no error=ENOMEM"}),
        {"host.kvm-usable": FAILED},
    ),
    bad(
        "KVM's device is not ours to open",
        HostTree(answers={"kvm": Unread("/dev/kvm", Reason.NOT_PERMITTED), "root": "no"}),
        {"host.kvm-usable": UNKNOWN},
        4,
    ),
    bad("a VM with a virtual IOMMU", VIRTUAL, {"host.bare-metal": WARNED}, 0),
    bad(
        "a VM that only its firmware tells",
        HostTree(put=QEMU),
        {"host.bare-metal": WARNED},
        0,
    ),
    bad(
        "a VM without an IOMMU",
        VIRTUAL.but(table=False, groups=False),
        {"host.bare-metal": WARNED, "iommu.firmware": FAILED},
    ),
    bad(
        "a VM without nested virtualization",
        VIRTUAL.but(without_flags=("vmx",), nodes=NO_KVM),
        {"host.bare-metal": WARNED, "host.cpu-virtualization": FAILED},
    ),
    bad(
        "a VM for confidential VMs",
        TDX_HOST.but(flags=("hypervisor",)),
        {"host.bare-metal": FAILED},
        aims=TDX,
    ),
    bad(
        "a VM whose virtual IOMMU the table VIOT describes",
        VIRTUAL.but(table=False, acpi=("APIC", "VIOT")),
        {"host.bare-metal": WARNED},
        0,
    ),
    bad(
        "unrestricted guests are off",
        HostTree(parameters={"kvm_intel/unrestricted_guest": "N"}),
        {"host.unrestricted-guest": WARNED},
        0,
    ),
    bad("ARM", HostTree(cpu=ARM), {"host.architecture": WARNED}, 0),
    bad(
        "ARM without an SMMU in its table",
        HostTree(cpu=ARM, put={"/sys/firmware/acpi/tables/IORT": iort(0, 2)}, groups=False),
        {"host.architecture": WARNED, "iommu.firmware": FAILED},
    ),
    bad(
        "ARM whose SMMU does not come up",
        HostTree(cpu=ARM, groups=False),
        {"host.architecture": WARNED, "iommu.enabled": FAILED},
    ),
    bad(
        "ARM that a device tree describes",
        HostTree(
            cpu=ARM,
            put={"/sys/firmware/devicetree/base": DIRECTORY},
            drop=("/sys/firmware/acpi",),
        ),
        {"host.architecture": WARNED},
        0,
    ),
    bad(
        "ARM, not started at EL2",
        HostTree(cpu=ARM, nodes=NO_KVM),
        {"host.architecture": WARNED, "host.kvm-device": FAILED},
    ),
    bad(
        "ARM with an argument that only x86 kernels know",
        HostTree(cpu=ARM, cmdline="iommu=off"),
        {"host.architecture": WARNED},
        0,
    ),
    bad(
        "a laptop",
        HostTree(devices=(), memory=(16, 9)).but(
            drop=("/etc/containerd", "/usr/bin/containerd", "/usr/bin/kubelet", "/var/lib/kubelet")
        ),
        {
            "gpu.present": FAILED,
            "runtime.containerd": FAILED,
            "kubelet.present": FAILED,
            "memory.headroom": WARNED,
            "iommu.enabled": FAILED,
        },
    ),
]
VHOST: Final = [
    bad(
        "VMware's vsock is loaded",
        HostTree(modules=("kvm", "vmw_vsock_vmci_transport")),
        {"host.vhost-vsock": FAILED},
    ),
    bad(
        "no vhost in this kernel",
        HostTree(nodes=NO_VHOST, loadable=(*HostTree().loadable[:3], *XFS)),
        {"host.vhost-vsock": FAILED, "host.vhost-net": WARNED},
    ),
    bad(
        "vhost_vsock is kept from loading",
        HostTree(nodes=NO_VHOST, modprobe="install vhost-vsock /bin/true\n"),
        {"host.vhost-vsock": FAILED},
    ),
    bad(
        "vhost_net is kept from loading",
        HostTree(nodes=NO_VHOST, modprobe="install vhost_net /bin/false\n"),
        {"host.vhost-net": WARNED},
        0,
    ),
    bad(
        "vhost_vsock is kept out on the command line",
        HostTree(nodes=NO_VHOST, cmdline="module_blacklist=vhost_vsock"),
        {"host.vhost-vsock": FAILED},
    ),
    bad(
        "no TUN device",
        HostTree(nodes=("kvm", "vhost-net", "vhost-vsock"), builtin=XFS),
        {"host.tun": WARNED},
        0,
    ),
]
IOMMUS: Final = [
    bad("no DMAR table", HostTree(table=False, groups=False), {"iommu.firmware": FAILED}),
    bad("no IVRS table", HostTree(cpu=AMD, table=False, groups=False), {"iommu.firmware": FAILED}),
    bad(
        "no table on another vendor's CPU",
        HostTree(cpu=CENTAUR, table=False, groups=False),
        {"iommu.firmware": FAILED},
    ),
    bad(
        "no interrupt remapping on another vendor's CPU",
        HostTree(cpu=CENTAUR, remapped=False),
        {"iommu.interrupt-remapping": FAILED},
    ),
    bad(
        "an argument that does not help without a table",
        HostTree(table=False, groups=False, cmdline="intel_iommu=on"),
        {"iommu.firmware": FAILED},
    ),
    *(
        bad(
            f"{words} on {cpu.table}",
            HostTree(cpu=cpu, cmdline=words, groups=False),
            {"iommu.kernel-arguments": FAILED},
        )
        for cpu, words in (
            (INTEL, "iommu=off"),
            (INTEL, "iommu=pt,off"),
            (INTEL, "iommu=off iommu=on"),
            (INTEL, "intel_iommu=off"),
            (INTEL, "intel_iommu=on,sm_on intel_iommu=off"),
            (AMD, "iommu=off"),
            (AMD, "amd_iommu=off"),
            (AMD, "amd_iommu=off amd_iommu=on"),
            (AMD, "amd_iommu=fullflush,off"),
        )
    ),
    bad(
        "Intel's IOMMU was not asked for",
        HostTree(cpu=QUIET_INTEL, groups=False),
        {"iommu.enabled": FAILED},
    ),
    bad(
        "AMD's IOMMU does not come up",
        HostTree(cpu=AMD, cmdline="amd_iommu=on", groups=False),
        {"iommu.enabled": FAILED},
    ),
    *(
        bad(
            f"no interrupt remapping on {cpu.table}",
            HostTree(cpu=cpu, remapped=False, parameters=NO_UNSAFE),
            {"iommu.interrupt-remapping": FAILED},
        )
        for cpu in (INTEL, AMD)
    ),
    bad(
        "no interrupt remapping, and that allowed",
        HostTree(remapped=False, parameters=UNSAFE),
        {"iommu.interrupt-remapping": WARNED},
        0,
    ),
    bad(
        "interrupt remapping switched off",
        HostTree(remapped=False, cmdline="intremap=off"),
        {"iommu.interrupt-remapping": FAILED},
    ),
    bad(
        "interrupt remapping switched off together with more",
        HostTree(remapped=False, cmdline="intremap=off,nosid"),
        {"iommu.interrupt-remapping": FAILED},
    ),
    bad(
        "the ACS override",
        HostTree(cmdline="pcie_acs_override=downstream,multifunction"),
        {"iommu.acs-override": WARNED},
        0,
    ),
    bad(
        "the no-IOMMU mode",
        HostTree(parameters={"vfio/enable_unsafe_noiommu_mode": "Y"}),
        {"iommu.kernel-arguments": FAILED},
    ),
    bad(
        "a region that the firmware keeps",
        HostTree(reserved={0x65: "direct"}),
        {"gpu.reserved-regions": FAILED},
    ),
    bad(
        "a GPU that the IOMMU does not cover",
        HostTree(devices=(gpu(group=None), gpu("0000:ca:00.0"))),
        {"gpu.iommu-group": FAILED},
    ),
]
TEES: Final = [
    *(
        bad(
            f"kvm_amd's {name} is {value}",
            SNP_HOST.but(parameters={**SNP_ON, f"kvm_amd/{name}": value}),
            {"tee.snp": FAILED},
            aims=SNP,
        )
        for name, value in (("sev", "N"), ("sev_es", "0"), ("sev_snp", "N"))
    ),
    bad(
        "kvm_amd is not loaded",
        SNP_HOST.but(drop=("/sys/module/kvm_amd",)),
        {"tee.snp": FAILED},
        aims=SNP,
    ),
    bad("no secure processor", SNP_HOST.but(nodes=KVM), {"tee.sev-device": FAILED}, aims=SNP),
    bad(
        "SNP on an old kernel",
        SNP_HOST.but(kernel="6.8.0-45-generic"),
        {"tee.kernel": FAILED},
        aims=SNP,
    ),
    bad(
        "SNP on a kernel that NVIDIA did not validate",
        SNP_HOST.but(kernel="6.11.0-9-generic"),
        {"tee.kernel": WARNED},
        0,
        aims=SNP,
    ),
    bad(
        "SNP on a kernel without a number",
        SNP_HOST.but(kernel="next-20260102"),
        {"tee.kernel": FAILED},
        aims=SNP,
    ),
    bad(
        "SNP on Intel",
        TDX_HOST,
        {"tee.snp": FAILED},
        aims=SNP,
    ),
    bad("TDX on AMD", SNP_HOST, {"tee.tdx": FAILED}, aims=TDX),
    bad(
        "TDX off in the firmware",
        TDX_HOST.but(parameters={}),
        {"tee.tdx": FAILED},
        aims=TDX,
    ),
    bad(
        "a kernel without TDX",
        TDX_HOST.but(kernel="6.8.0-45-generic", drop=("/sys/module/kvm_intel/parameters/tdx",)),
        {"tee.tdx": FAILED, "tee.kernel": WARNED},
        aims=TDX,
    ),
]
HOSTS: Final = [*CPUS, *VHOST, *IOMMUS, *TEES]


@pytest.mark.parametrize(("host", "aims", "expected", "code"), HOSTS)
def test_exactly_what_is_wrong_is_said(
    host: HostTree, aims: Aims, expected: Mapping[str, str], code: int, tmp_path: Path
) -> None:
    assert_exactly(host, aims, expected, code, tmp_path)


def test_the_other_gpu_of_a_host_is_still_judged(tmp_path: Path) -> None:
    host = HostTree(devices=(gpu(group=None), gpu("0000:ca:00.0")))

    judged = verdict(host.tree(tmp_path))

    assert judged.status("gpu.group-viable", GPU) == "skipped"
    assert "gpu.iommu-group" in judged.message("gpu.group-viable", GPU)
    assert judged.status("gpu.group-viable", "0000:ca:00.0") == "passed"


@pytest.mark.parametrize(
    ("host", "id_", "words"),
    [
        (HostTree(without_flags=("vmx",)), "host.cpu-virtualization", "VT-x"),
        (HostTree(cpu=AMD, without_flags=("svm",)), "host.cpu-virtualization", "SVM Mode"),
        (HostTree(table=False), "iommu.firmware", "VT-d"),
        (HostTree(cpu=AMD, table=False), "iommu.firmware", "AMD-Vi"),
        (HostTree(table=False), "iommu.firmware", "Supermicro SYS-421GE-TNRT"),
        (HostTree(nodes=NO_KVM), "host.kvm-device", "kvm_intel"),
        (HostTree(cpu=AMD, nodes=NO_KVM), "host.kvm-device", "kvm_amd"),
        (VIRTUAL.but(table=False), "iommu.firmware", "intel-iommu"),
        (HostTree(answers={"kvm": "api=12 vm=no error=EBUSY"}), "host.kvm-usable", "VirtualBox"),
    ],
)
def test_a_remedy_speaks_of_this_machine(
    host: HostTree, id_: str, words: str, tmp_path: Path
) -> None:
    assert words in verdict(host.tree(tmp_path)).remedy(id_)


def test_amd_is_not_told_an_argument_that_does_nothing(tmp_path: Path) -> None:
    remedy = verdict(HostTree(cpu=AMD, groups=False).tree(tmp_path)).remedy("iommu.enabled")

    assert "add amd_iommu=on" not in remedy
    assert "amd_iommu=on does nothing" in remedy


def test_only_the_argument_in_force_is_to_be_removed(tmp_path: Path) -> None:
    host = HostTree(cmdline="intel_iommu=on,sm_on intel_iommu=off", groups=False)

    remedy = verdict(host.tree(tmp_path)).remedy("iommu.kernel-arguments")

    assert "remove intel_iommu=off from" in remedy


def test_an_arm_host_without_firmware_words_is_not_called_bare_metal(tmp_path: Path) -> None:
    silent = ("/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name")
    told = verdict(HostTree(cpu=ARM).tree(tmp_path / "told"))
    untold = verdict(HostTree(cpu=ARM).adding({}, *silent).tree(tmp_path / "untold"))

    assert told.status("host.bare-metal") == "passed"
    assert untold.status("host.bare-metal") == "unknown"
