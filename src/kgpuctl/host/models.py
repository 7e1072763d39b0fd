"""Names of NVIDIA devices, for people to read; no check depends on one."""

from functools import cache
from pathlib import Path

from kgpuctl.host.facts import PciDevice
from kgpuctl.names import NVIDIA


@cache
def _names() -> dict[str, str]:
    text = Path(__file__).with_name("nvidia.ids").read_text(encoding="utf-8")
    return dict(line.split(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def model_name(device: PciDevice) -> str:
    """Return a device's name ("NVIDIA A10"), or its vendor and device id where none is known."""
    if device.vendor != NVIDIA:
        return f"PCI device {device.id}"
    name = _names().get(f"{device.device:04x}")
    return f"NVIDIA {name}" if name else f"NVIDIA device {device.id}"
