"""Whether there is room for a VM and for what it is made of."""

from typing import Final

from kgpuctl.checks.check import Outcome, check, known, passed, warned
from kgpuctl.checks.host.case import HostCase
from kgpuctl.names import Stack

GIB: Final = 2**30
# kata-deploy's RuntimeClass overhead (10 GiB) and the sample's limit (16 GiB); the CoCo operator
# asks for 8 GiB.
NEEDED_MEMORY: Final = {Stack.KATA_DEPLOY: 26 * GIB, Stack.COCO_OPERATOR: 8 * GIB}
NEEDED_SPACE: Final = 10 * GIB


@check("memory.headroom", "There is memory for a GPU VM")
def memory(case: HostCase) -> Outcome:
    """The VM's memory is pinned as a whole, with the RuntimeClass's overhead on top."""
    found = known(case.host.memory)
    needed = NEEDED_MEMORY[case.stack]
    told = f"{found.available / GIB:.1f} of {found.total / GIB:.1f} GiB available"
    if found.available >= needed:
        return passed(told)
    more = f", {found.hugepages / GIB:.1f} GiB of it in huge pages" if found.hugepages else ""
    return warned(
        f"{told}{more}; one GPU VM needs {needed // GIB} GiB",
        "Stop what uses the memory"
        + (", reserve fewer huge pages," if found.hugepages else "")
        + " or give the pods a smaller memory limit.",
    )


@check("disk.headroom", "There is disk space for Kata and the images")
def disk(case: HostCase) -> Outcome:
    """Kata's files need several GiB below /opt, and the images of its installers as much."""
    free = {path: known(space) for path, space in case.host.space.items()}
    tight = {path: space for path, space in free.items() if space < NEEDED_SPACE}
    if not tight:
        return passed(", ".join(f"{path} {space // GIB} GiB free" for path, space in free.items()))
    listed = ", ".join(f"{path} has {space / GIB:.1f} GiB free" for path, space in tight.items())
    return warned(
        f"{listed}; {NEEDED_SPACE // GIB} GiB are needed",
        f"Make room: `sudo crictl rmi --prune` removes unused images; "
        f"`du -xh --max-depth=2 {next(iter(tight))} | sort -h | tail` shows the rest.",
    )


CHECKS = (memory, disk)
