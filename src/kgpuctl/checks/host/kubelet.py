"""Whether the kubelet is set up for VMs that start slowly and ask for their devices."""

from dataclasses import dataclass
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
from kgpuctl.host.facts import Kubelet, Runtime
from kgpuctl.names import POD_RESOURCES, Stack
from kgpuctl.unread import Reason, Unread

_DEFAULT_TIMEOUT: Final = 120.0
_MIN_TIMEOUT: Final = 600.0
_GATE: Final = "KubeletPodResourcesGet"
_GATE_DEFAULT: Final = (1, 34)  # from here on the gate is open by itself


def _kubelet(case: HostCase) -> Kubelet:
    found = known(case.host.kubelet)
    assert found is not None  # noqa: S101  # kubelet.present would have failed
    runtime = case.host.runtime
    if not found.files and not (isinstance(runtime, Runtime) and runtime.flavour in _PLACES):
        # Somewhere there is one: "not set" would be said about a file that nobody saw.
        raise UnknownFactError(Unread("the kubelet's configuration", Reason.NOT_RECORDED))
    return found


@check("kubelet.present", "This host is a node")
def present(case: HostCase) -> Outcome:
    """The kubelet's settings decide whether a VM gets its GPU and the time to start."""
    found = known(case.host.kubelet)
    if found is None:
        return failed("no kubelet found", "Join this host to the cluster, and look again.")
    return passed(", ".join(found.files) or "no configuration of the kubelet found")


@check(
    "kubelet.pod-resources",
    "The kubelet tells which devices a pod was given",
    requires=("kubelet.present",),
)
def pod_resources(case: HostCase) -> Outcome:
    """Kata asks the kubelet's PodResources API which GPU to plug in before the VM starts."""
    if case.stack is Stack.COCO_OPERATOR:
        return skipped("Kata of this stack reads a pod annotation instead")
    kubelet = _kubelet(case)
    gate = kubelet.gates.get(_GATE)
    if gate is False:
        return failed(f"featureGates.{_GATE} is false", _open_gate(case, _GATE))
    if not any(known(case.host.nodes[path]) for path in POD_RESOURCES):
        return failed(
            f"no {POD_RESOURCES[0]}",
            "Start the kubelet, and see `journalctl -u kubelet` on why it does not serve it.",
        )
    if gate:
        return passed(f"{_GATE} is on")
    version = known(case.host.kubelet_version)
    if version is None:
        raise UnknownFactError(Unread("the kubelet's version", Reason.NOT_RECORDED))
    if _older(version, _GATE_DEFAULT):
        return failed(f"kubelet {version} without featureGates.{_GATE}", _open_gate(case, _GATE))
    return passed(f"kubelet {version}")


def _older(version: str, than: tuple[int, int]) -> bool:
    numbers = version.split(".")[:2]
    return (int(numbers[0]), int(numbers[1])) < than


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a distribution has kubelet settings, in which form, and how they take effect."""

    file: str
    form: str
    restart: str


_PLACES: Final = {
    "k3s": _Place("/etc/rancher/k3s/config.yaml", "kubelet-arg: {flag}", "systemctl restart k3s"),
    "RKE2": _Place(
        "/etc/rancher/rke2/config.yaml", "kubelet-arg: {flag}", "systemctl restart rke2-agent"
    ),
    "k0s": _Place(
        "the unit of the k0s worker", "--kubelet-extra-args=--{flag}", "systemctl restart k0sworker"
    ),
    "microk8s": _Place(
        "/var/snap/microk8s/current/args/kubelet",
        "--{flag}",
        "snap restart microk8s.daemon-kubelite",
    ),
}


def _set(case: HostCase, setting: str, flag: str) -> str:
    """Say where to put a setting: in the kubelet's file, or as a flag where there is none."""
    runtime = case.host.runtime
    place = _PLACES.get(runtime.flavour) if isinstance(runtime, Runtime) else None
    if place:
        told = place.form.format(flag=flag)
        return f"Put `{told}` into {place.file} and run `sudo {place.restart}`."
    files = _kubelet(case).files
    file = files[0] if files else "/var/lib/kubelet/config.yaml"
    return f"Put `{setting}` into {file} and run `sudo systemctl restart kubelet`."


def _open_gate(case: HostCase, gate: str) -> str:
    return _set(case, f"featureGates: {{{gate}: true}}", f"feature-gates={gate}=true")


@check(
    "kubelet.request-timeout",
    "The kubelet waits long enough for a VM",
    requires=("kubelet.present",),
)
def request_timeout(case: HostCase) -> Outcome:
    """A GPU VM pins all its memory before it starts; the default of 2 minutes cuts that off."""
    kubelet = _kubelet(case)
    timeout = kubelet.request_timeout
    if timeout is not None and timeout >= _MIN_TIMEOUT:
        return passed(f"runtimeRequestTimeout {timeout / 60:g} min")
    told = (
        f"runtimeRequestTimeout is {timeout:g} s"
        if timeout is not None
        else f"runtimeRequestTimeout is not set: {_DEFAULT_TIMEOUT / 60:g} min"
    )
    return warned(
        told,
        _set(case, "runtimeRequestTimeout: 20m", "runtime-request-timeout=20m"),
    )


@check(
    "kubelet.image-gate",
    "The kubelet tells the runtime class when it pulls",
    requires=("kubelet.present",),
)
def image_gate(case: HostCase) -> Outcome:
    """Confidential VMs pull images inside; the runtime must know the class to do so."""
    if not case.confidential:
        return skipped("only with --confidential")
    kubelet = _kubelet(case)
    if kubelet.gates.get("RuntimeClassInImageCriApi"):
        return passed("RuntimeClassInImageCriApi on")
    return warned(
        "featureGates.RuntimeClassInImageCriApi is not on",
        _open_gate(case, "RuntimeClassInImageCriApi"),
    )


CHECKS = (present, pod_resources, request_timeout, image_gate)
