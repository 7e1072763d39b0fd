"""What was judged: the host and its GPUs, for people in lines and for programs as JSON values."""

from collections import defaultdict

from kgpuctl.checks.check import UnknownFactError
from kgpuctl.checks.host.case import HostCase
from kgpuctl.host.facts import PciDevice, SourceKind
from kgpuctl.host.models import model_name
from kgpuctl.report import Subject, printable
from kgpuctl.unread import Unread


def describe(case: HostCase) -> Subject:
    """Describe a host; what was not read is null, or a question mark for people."""
    host = case.host
    cpu = None if isinstance(host.cpu, Unread) else host.cpu
    distribution = None if isinstance(host.distribution, Unread) else host.distribution.name
    try:
        devices = case.judged
    except UnknownFactError:
        devices = ()
    data: dict[str, object] = {
        "kind": "Host",
        "source": {
            "kind": host.source.kind.value,
            "path": host.source.path,
            "time": host.source.time,
        },
        "asRoot": host.source.as_root,
        "hostname": _value(host.hostname),
        "distribution": distribution,
        "kernel": _value(host.kernel),
        "cpu": cpu and {"vendor": cpu.vendor.value, "model": cpu.model, "count": cpu.processors},
        "machine": f"{host.firmware.vendor} {host.firmware.product}".strip() or None,
        "gpus": [_device_data(case, device) for device in devices],
        "stack": case.stack.value,
        "confidential": case.confidential and case.confidential.value,
        "afterInstall": case.after_install,
    }
    words = (
        _value(host.hostname),
        distribution,
        None if isinstance(host.kernel, Unread) else f"kernel {host.kernel}",
        cpu and (cpu.model or f"{cpu.vendor} CPU"),
    )
    first = ", ".join(word for word in words if word) or "a host that told nothing of itself"
    lines = (first, *_gpu_lines(devices), _purpose(case))
    return Subject(tuple(map(printable, lines)), data)


def _purpose(case: HostCase) -> str:
    """Say what the host is judged for, and where the facts come from unless from here."""
    source = case.host.source
    words = [
        "" if source.kind is SourceKind.LIVE else f"{source.kind} {source.path}: ",
        f"judged for {case.stack}, {'after' if case.after_install else 'before'} the install",
        f", with confidential VMs ({case.confidential})" if case.confidential else "",
    ]
    return "".join(words)


def _value(fact: str | Unread) -> str | None:
    return None if isinstance(fact, Unread) else fact


def _device_data(case: HostCase, device: PciDevice) -> dict[str, object]:
    details = case.details(device)
    return {
        "address": device.address,
        "id": device.id,
        "model": model_name(device),
        "driver": None if isinstance(device.driver, Unread) else device.driver,
        "iommuGroup": None if isinstance(device.iommu_group, Unread) else device.iommu_group,
        "numaNode": None if isinstance(details.numa_node, Unread) else details.numa_node,
    }


def _gpu_lines(devices: tuple[PciDevice, ...]) -> list[str]:
    """Return a line for each model: how many, and where."""
    models: dict[str, list[PciDevice]] = defaultdict(list)
    for device in devices:
        models[model_name(device)].append(device)
    return [f"{len(found)} x {model}: {_places(found)}" for model, found in sorted(models.items())]


def _places(devices: list[PciDevice]) -> str:
    listed = [
        device.address
        + (f" (group {device.iommu_group})" if isinstance(device.iommu_group, int) else "")
        for device in devices[:4]
    ]
    more = len(devices) - len(listed)
    return ", ".join(listed) + (f" and {more} more" if more else "")
