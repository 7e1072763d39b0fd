"""Whether this host can run confidential VMs."""

import re
from typing import Final

from kgpuctl.checks.check import Outcome, check, failed, known, passed, skipped, warned
from kgpuctl.checks.host.case import HostCase
from kgpuctl.checks.host.remedies import load_modules, module_config
from kgpuctl.host.facts import Vendor
from kgpuctl.names import Tee
from kgpuctl.report import Remedy

_ON: Final = frozenset({"Y", "1"})
# SNP hosts: snphost asks for 6.11; NVIDIA validates both TEEs with 6.17 (supported platforms).
_SNP_FLOOR: Final = (6, 11)
_VALIDATED: Final = (6, 17)


@check("tee.snp", "SEV-SNP is on")
def snp(case: HostCase) -> Outcome:
    """kvm_amd says in its parameters what firmware and kernel agreed on."""
    if case.confidential is not Tee.SNP:
        return skipped("only with --confidential snp")
    if case.vendor is not Vendor.AMD:
        return failed(f"the CPU's vendor is {case.vendor}", "SEV-SNP needs an AMD EPYC host.")
    for name in ("sev", "sev_es", "sev_snp"):
        value = known(case.host.parameters[f"kvm_amd/{name}"])
        if value is None:
            return failed(
                f"kvm_amd has no parameter {name}: it is not loaded, or the kernel is too old",
                load_modules(case, "kvm_amd"),
            )
        if value not in _ON:
            return failed(
                f"/sys/module/kvm_amd/parameters/{name} is {value[:20]}",
                _firmware_and_module(
                    'Enable "SMEE", "SNP Memory Coverage (RMP Table)" and "SEV-SNP Support" in the '
                    "firmware",
                    module_config(case, "kgpuctl-kvm-amd", f"options kvm_amd {name}=1"),
                ),
            )
    return passed("kvm_amd sev, sev_es and sev_snp are on")


def _firmware_and_module(firmware: str, config: Remedy) -> Remedy:
    """Put together what the firmware must have and what the module must be told."""
    by_hand = f"{firmware} and boot again."
    return Remedy(f"{by_hand} {config.text}", config.fixes, by_hand)


@check("tee.sev-device", "The AMD secure processor answers")
def sev_device(case: HostCase) -> Outcome:
    """/dev/sev is how a VM's memory gets its key."""
    if case.confidential is not Tee.SNP:
        return skipped("only with --confidential snp")
    if case.vendor is not Vendor.AMD:
        return skipped("AMD only")
    if case.is_there("/dev/sev"):
        return passed("/dev/sev")
    return failed("no /dev/sev", load_modules(case, "ccp"))


@check("tee.tdx", "TDX is on")
def tdx(case: HostCase) -> Outcome:
    """kvm_intel says in its parameter whether the TDX module was found and started."""
    if case.confidential is not Tee.TDX:
        return skipped("only with --confidential tdx")
    if case.vendor is not Vendor.INTEL:
        return failed(f"the CPU's vendor is {case.vendor}", "TDX needs an Intel Xeon host.")
    value = known(case.host.parameters["kvm_intel/tdx"])
    if value in _ON:
        return passed("kvm_intel tdx is on")
    if value is None:
        return failed(
            "kvm_intel has no parameter tdx: it is not loaded, or this kernel has no TDX host",
            "Use a kernel with TDX host support (mainline 6.16 or later).",
        )
    return failed(
        f"/sys/module/kvm_intel/parameters/tdx is {value[:20]}",
        _firmware_and_module(
            'Enable "TDX", "TME-MT" and "SEAM Loader" in the firmware',
            module_config(case, "kgpuctl-kvm-intel", "options kvm_intel tdx=1"),
        ),
    )


@check("tee.kernel", "The kernel is new enough for confidential VMs")
def kernel(case: HostCase) -> Outcome:
    """Host support for SNP and TDX came into the kernel late, and GPU support later still."""
    if not case.confidential:
        return skipped("only with --confidential")
    release = known(case.host.kernel)
    match = re.match(r"(\d+)\.(\d+)", release)
    if not match:
        return failed(f"kernel {release}", "Use a kernel of version 6.17 or later.")
    version = (int(match[1]), int(match[2]))
    if case.confidential is Tee.SNP and version < _SNP_FLOOR:
        return failed(f"kernel {release}, SNP needs 6.11", "Use a kernel of version 6.17 or later.")
    if version < _VALIDATED:
        return warned(
            f"kernel {release}: NVIDIA validates 6.17 and later",
            "Use a kernel of version 6.17 or later (Ubuntu 25.10, 26.04).",
        )
    return passed(release)


CHECKS = (snp, sev_device, tdx, kernel)
