"""What a test has done inside the VM: steps, each the name of a function here and its arguments.

One process does all steps, since the emulated CPU needs seconds to start Python and load kgpuctl.
"""

import contextlib
import fcntl
import json
import os
import runpy
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

DEVICES: Final = Path("/sys/bus/pci/devices")
DRIVERS: Final = Path("/sys/bus/pci/drivers")
OUTBOX: Final = Path(os.environ.get("OUTBOX", "."))

_VFIO_GROUP_GET_STATUS: Final = 0x3B67  # include/uapi/linux/vfio.h
_VFIO_GROUP_FLAGS_VIABLE: Final = 1


def preflight(name: str, *options: str) -> None:
    """Run `kgpuctl preflight`; keep its report as NAME.json and its exit code as NAME.exit."""
    sys.argv = ["kgpuctl", "preflight", "--output", "json", *options]
    code: object = 0
    with (OUTBOX / f"{name}.json").open("w") as report, contextlib.redirect_stdout(report):
        try:
            runpy.run_module("kgpuctl", run_name="__main__")
        except SystemExit as end:
            code = end.code
    (OUTBOX / f"{name}.exit").write_text(str(code))


def preflight_for_people(name: str, *options: str) -> None:
    """Run the real command; keep what it prints as NAME."""
    with (OUTBOX / name).open("wb") as report:
        subprocess.run(
            [sys.executable, "-m", "kgpuctl", "preflight", *options], stdout=report, check=False
        )


def modprobe(*words: str) -> None:
    """Load modules, or one module with parameters, as modprobe(8) takes them."""
    subprocess.run(["modprobe", *words], check=True)


def bind(driver: str, *addresses: str) -> None:
    """Bind devices through sysfs, as vfio-manager does it."""
    for address in addresses:
        bound = DEVICES / address / "driver"
        if bound.exists():
            (bound / "unbind").write_text(address)
        (DEVICES / address / "driver_override").write_text(driver)
        Path("/sys/bus/pci/drivers_probe").write_text(address)
        if not (DRIVERS / driver / address).exists():
            raise SystemExit(f"{driver} did not take {address}.")


def hold_group(name: str, address: str) -> None:
    """Leave a process behind that holds the device's VFIO group open; keep its id as NAME."""
    with _group_device(address).open("r+b", buffering=0) as group:
        holder = subprocess.Popen(["sleep", "1000"], pass_fds=[group.fileno()])
    (OUTBOX / name).write_text(str(holder.pid))


def ask_whether_viable(name: str, address: str) -> None:
    """Ask the kernel itself whether VFIO may have the device's group; keep yes or no as NAME."""
    with _group_device(address).open("r+b", buffering=0) as group:
        answer = fcntl.ioctl(group, _VFIO_GROUP_GET_STATUS, struct.pack("II", 8, 0))
    _, flags = struct.unpack("II", answer)
    (OUTBOX / name).write_text("yes" if flags & _VFIO_GROUP_FLAGS_VIABLE else "no")


def count_groups(name: str) -> None:
    """Keep the number of IOMMU groups as NAME."""
    (OUTBOX / name).write_text(str(len(list(Path("/sys/kernel/iommu_groups").iterdir()))))


def _group_device(address: str) -> Path:
    return Path("/dev/vfio") / (DEVICES / address / "iommu_group").readlink().name


STEPS: Final[Mapping[str, Callable[..., None]]] = {
    step.__name__: step
    for step in (
        preflight,
        preflight_for_people,
        modprobe,
        bind,
        hold_group,
        ask_whether_viable,
        count_groups,
    )
}


def main() -> None:
    """Do the steps that the first argument lists (JSON)."""
    for step, *arguments in json.loads(sys.argv[1]):
        STEPS[step](*arguments)


if __name__ == "__main__":
    main()
