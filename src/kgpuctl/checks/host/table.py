"""All checks of a host, in the order in which a person would put things right."""

from typing import Final

from kgpuctl.checks.check import Check
from kgpuctl.checks.host import (
    driver,
    gpu,
    group,
    iommu,
    kubelet,
    leftovers,
    room,
    runtime,
    tee,
    virtualization,
)
from kgpuctl.checks.host.case import HostCase

HOST_CHECKS: Final[tuple[Check[HostCase], ...]] = (
    *virtualization.CHECKS,
    *iommu.CHECKS,
    *driver.CHECKS,
    *gpu.CHECKS,
    *group.CHECKS,
    *runtime.CHECKS,
    *kubelet.CHECKS,
    *room.CHECKS,
    *tee.CHECKS,
    *leftovers.CHECKS,
)
