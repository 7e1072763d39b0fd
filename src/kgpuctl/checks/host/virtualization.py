"""Whether this host can run VMs at all."""

from typing import Final

from kgpuctl.checks.check import (
    Outcome,
    UnknownFactError,
    check,
    failed,
    known,
    passed,
    skipped,
    warned,
)
from kgpuctl.checks.host.case import HostCase
from kgpuctl.checks.host.remedies import VIRTUALIZATION, firmware_setting, load_modules
from kgpuctl.host.facts import Vendor
from kgpuctl.unread import Reason, Unread

KVM_API: Final = 12  # include/uapi/linux/kvm.h; it has not changed since 2007


@check("host.architecture", "The CPU architecture is one that GPU runtimes exist for")
def architecture(case: HostCase) -> Outcome:
    """Kata's GPU runtime is built for x86_64; for aarch64 only in Rust, and hardly tried."""
    cpu = known(case.host.cpu)
    if cpu.vendor is Vendor.ARM:
        return warned(
            "aarch64",
            "Use the kata-deploy stack with a runtime-rs GPU class; NVIDIA validates x86_64 only.",
        )
    if "lm" in cpu.flags:
        return passed("x86_64")
    return failed(
        "neither x86_64 nor aarch64" if cpu.vendor is Vendor.OTHER else "a 32-bit x86 CPU",
        "Use a host with an x86_64 CPU.",
    )


@check("host.cpu-virtualization", "The CPU offers hardware virtualization")
def cpu_virtualization(case: HostCase) -> Outcome:
    """Without VT-x or AMD-V there is no KVM; firmware often ships with it switched off."""
    cpu = known(case.host.cpu)
    if cpu.vendor is Vendor.ARM:
        return skipped("ARM shows it by /dev/kvm only")
    found = sorted({"vmx", "svm"} & cpu.flags)
    if found:
        return passed(found[0])
    if case.is_vm:
        return failed(
            "no vmx or svm flag: this host is a VM without nested virtualization",
            "Use a bare-metal host, or turn on nested virtualization for this VM on its "
            "hypervisor (with KVM: `modprobe kvm_intel nested=1` or `kvm_amd nested=1`, "
            "and CPU mode host-passthrough).",
        )
    return failed("no vmx or svm flag in /proc/cpuinfo", firmware_setting(case, VIRTUALIZATION))


@check("host.kvm-device", "/dev/kvm exists", requires=("host.cpu-virtualization",))
def kvm_device(case: HostCase) -> Outcome:
    """Kata's hypervisor opens /dev/kvm; without it nothing starts."""
    if case.is_there("/dev/kvm"):
        return passed()
    node = case.host.nodes["/dev/mshv"]
    if node is not None and not isinstance(node, Unread):
        return failed(
            "there is /dev/mshv instead: this host runs on Hyper-V, without KVM",
            "Use a bare-metal host with KVM.",
        )
    cpu = known(case.host.cpu)
    if cpu.vendor is Vendor.ARM:
        return failed(
            "no /dev/kvm: the kernel was not started at EL2",
            firmware_setting(case, VIRTUALIZATION),
        )
    return failed(
        "no /dev/kvm although the CPU has the flag",
        load_modules(case, "kvm_intel" if cpu.vendor is Vendor.INTEL else "kvm_amd"),
    )


@check(
    "host.kvm-usable",
    "KVM answers and can create a VM",
    requires=("host.cpu-virtualization", "host.kvm-device"),
)
def kvm_usable(case: HostCase) -> Outcome:
    """A device file proves little: another hypervisor may own the CPU's VM mode."""
    probe = known(case.host.kvm)
    if probe.api_version is None:
        return failed(
            f"/dev/kvm does not open ({probe.error})",
            "Load the module of this CPU (kvm_intel or kvm_amd) and read `dmesg | grep -i kvm`.",
        )
    if probe.api_version != KVM_API:
        return failed(
            f"KVM answers with API version {probe.api_version} instead of {KVM_API}",
            "Use a kernel of the distribution.",
        )
    if probe.error == "EBUSY":
        return failed(
            "KVM cannot create a VM (EBUSY): another hypervisor owns the CPU's VM mode",
            "Stop the other hypervisor (VirtualBox, VMware) and unload its modules.",
        )
    if not probe.vm_created:
        return failed(
            f"KVM cannot create a VM ({probe.error})", "Read `dmesg | grep -i kvm` for the cause."
        )
    return passed("API 12, a VM was created and closed again")


@check("host.bare-metal", "The host is bare metal")
def bare_metal(case: HostCase) -> Outcome:
    """In a VM the GPU must itself be passed through, with a virtual IOMMU: rarely supported."""
    if not case.is_vm:
        if case.vendor is Vendor.ARM and not any(case.host.firmware):
            # ARM's CPUs do not show it; only the firmware's words could.
            raise UnknownFactError(Unread("/sys/class/dmi/id/sys_vendor", Reason.NOT_RECORDED))
        return passed()
    message = "this host is itself a VM"
    if case.confidential:
        return failed(message, "Confidential VMs need bare metal: use such a host.")
    return warned(
        message,
        "Use bare metal if you can. A VM needs nested virtualization, the GPU passed through to "
        "it, and a virtual IOMMU with interrupt remapping; NVIDIA does not support that.",
    )


@check("host.vhost-vsock", "vhost-vsock is there for the VM's agent")
def vhost_vsock(case: HostCase) -> Outcome:
    """The Kata shim talks to the agent in the VM through vsock."""
    if "vmw_vsock_vmci_transport" in known(case.host.modules):
        return failed(
            "VMware's vmw_vsock_vmci_transport is loaded and owns vsock",
            "Run `sudo modprobe -r vmw_vsock_vmci_transport` and blacklist it in "
            "/etc/modprobe.d, or use bare metal.",
        )
    return _device_or_module(case, "/dev/vhost-vsock", "vhost_vsock", severe=True)


@check("host.vhost-net", "vhost-net is there for the VM's network")
def vhost_net(case: HostCase) -> Outcome:
    """Without vhost-net the VM's network is slow, and Kata's own check complains."""
    return _device_or_module(case, "/dev/vhost-net", "vhost_net", severe=False)


@check("host.tun", "TUN/TAP is there for the VM's network")
def tun(case: HostCase) -> Outcome:
    """Kata connects the pod's network to the VM with a tap device."""
    return _device_or_module(case, "/dev/net/tun", "tun", severe=False)


def _device_or_module(case: HostCase, path: str, module: str, *, severe: bool) -> Outcome:
    """Pass if the device file is there or the module that makes it can be loaded."""
    if case.is_there(path):
        return passed(path)
    judge = failed if severe else warned
    index = known(case.host.module_index)
    if module in index.builtin:
        return passed(f"{module} is built in")
    if module not in index.loadable:
        return judge(
            f"no {path}, and the kernel has no module {module}",
            f"Install the package with the kernel's further modules, or a kernel with {module}.",
        )
    barrier = case.kept_out(module)
    if barrier:
        return judge(f"{barrier} keeps {module} from being loaded", "Take that away, and reboot.")
    return passed(f"module {module} can be loaded")


@check("host.unrestricted-guest", "The CPU runs unrestricted guests")
def unrestricted_guest(case: HostCase) -> Outcome:
    """Without it Intel CPUs start VMs in a slow emulated mode; Kata's own check refuses."""
    if case.vendor is not Vendor.INTEL:
        return skipped("Intel only")
    if case.is_vm:
        return skipped("in a VM its hypervisor decides")
    value = known(case.host.parameters["kvm_intel/unrestricted_guest"])
    if value is None:
        return skipped("kvm_intel is not loaded, or built in without parameters")
    if value in {"Y", "1"}:
        return passed()
    return warned(
        f"/sys/module/kvm_intel/parameters/unrestricted_guest is {value[:20]}",
        "Remove `options kvm_intel unrestricted_guest=0` or `ept=0` from /etc/modprobe.d and "
        "load kvm_intel again.",
    )


CHECKS = (
    architecture,
    cpu_virtualization,
    kvm_device,
    kvm_usable,
    bare_metal,
    vhost_vsock,
    vhost_net,
    tun,
    unrestricted_guest,
)
