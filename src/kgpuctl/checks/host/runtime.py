"""Whether the container runtime is ready to be given Kata."""

from collections.abc import Iterable, Iterator
from typing import Final

from kgpuctl.checks.check import Outcome, check, check_each, failed, known, passed, skipped, warned
from kgpuctl.checks.host.case import HostCase
from kgpuctl.checks.host.remedies import restart_runtime
from kgpuctl.host.facts import CdiSpec, ContainerdConfig, KataHandler
from kgpuctl.names import GPU_HANDLER_MARK, VFIO_DRIVERS, Stack

_CRI: Final = frozenset(
    {
        "cri",
        "io.containerd.grpc.v1.cri",
        "io.containerd.cri.v1.images",
        "io.containerd.cri.v1.runtime",
    }
)
_NEEDS_RUNTIME: Final = ("runtime.containerd",)
_NEEDS_CONFIG: Final = (*_NEEDS_RUNTIME, "runtime.config")
# The first containerd that reads a schema version: docs/cri/config.md and release notes.
_VERSIONS: Final = range(1, 5)
_SCHEMAS: Final = {3: (2, 0), 4: (2, 3)}


@check("runtime.containerd", "containerd runs the containers")
def containerd(case: HostCase) -> Outcome:
    """NVIDIA supports Kata with containerd only; each distribution keeps its own elsewhere."""
    runtime = known(case.host.runtime)
    if runtime is None:
        return failed(
            "no container runtime found",
            "Join this host to a Kubernetes cluster with containerd first "
            "(kubeadm, k3s, RKE2, k0s, MicroK8s).",
        )
    if not runtime.supported:
        return failed(
            f"{runtime.flavour} instead of containerd",
            "Switch this node to containerd; NVIDIA does not support Kata with anything else.",
        )
    version = f" {runtime.version}" if isinstance(runtime.version, str) else ""
    name = "containerd" if runtime.flavour == "containerd" else f"{runtime.flavour}'s containerd"
    where = f", {runtime.config.path}" if isinstance(runtime.config, ContainerdConfig) else ""
    return passed(f"{name}{version}{where}")


@check("runtime.config", "containerd's configuration fits the stack", requires=_NEEDS_RUNTIME)
def config(case: HostCase) -> Outcome:
    """An installer edits this file; one that it misreads takes the node's containers down."""
    found = case.containerd
    restart = restart_runtime(case)
    if not found.exists:
        if case.stack is Stack.COCO_OPERATOR:
            return failed(
                f"no {found.path}: kata-manager would write one without any defaults",
                f"Run `containerd config default | sudo tee {found.path}`, then {restart}.",
            )
        return passed(f"no {found.path}: containerd's defaults hold")
    if found.problem:
        return failed(f"{found.path}: {found.problem}", f"Repair the file, then {restart}.")
    disabled = sorted(_CRI & set(found.disabled_plugins))
    if disabled:
        return failed(
            f"{found.path} disables the plugin {disabled[0]}: the kubelet cannot use it",
            f"Take {disabled[0]} out of disabled_plugins in {found.path}, then {restart}.",
        )
    version = 1 if found.version is None else found.version
    return _wrong_version(case, version) or passed(f"{found.path}, version {version}")


def _wrong_version(case: HostCase, version: int) -> Outcome | None:
    """Say why a configuration of this version cannot serve here."""
    path = case.containerd.path
    if version not in _VERSIONS:
        return failed(
            f"{path} has version {version}, which no containerd knows",
            f"Write it anew with `containerd config default`, then {restart_runtime(case)}.",
        )
    if case.stack is Stack.COCO_OPERATOR and version != 2:  # noqa: PLR2004
        return failed(
            f"{path} has version {version}: kata-manager writes version 2 tables only, "
            "which containerd would then ignore",
            "Use `--stack kata-deploy`, or containerd 1.x with a version 2 configuration.",
        )
    return _fits_containerd(case, version)


def _fits_containerd(case: HostCase, version: int) -> Outcome | None:
    """Refuse a schema that is newer than the containerd that reads it."""
    running = case.runtime.version
    numbers = running.split(".")[:2] if isinstance(running, str) else []
    if version not in _SCHEMAS or len(numbers) < 2 or not all(n.isdigit() for n in numbers):  # noqa: PLR2004
        return None
    if (int(numbers[0]), int(numbers[1])) >= _SCHEMAS[version]:
        return None
    needed = ".".join(map(str, _SCHEMAS[version]))
    return failed(
        f"its version {version} needs containerd {needed}, this is {running}",
        f"Update containerd, or write the file for it: `containerd config default`; "
        f"then {restart_runtime(case)}.",
    )


@check(
    "runtime.imports", "Everything that the configuration imports is there", requires=_NEEDS_CONFIG
)
def imports(case: HostCase) -> Outcome:
    """One import that is missing or broken, and containerd does not start again."""
    found = case.containerd.imports
    broken = [item for item in found if item.problem]
    if broken:
        listed = "; ".join(f"{item.path}: {item.problem}" for item in broken[:4])
        return failed(
            f"imported by {broken[0].imported_by}: {listed}",
            f"Take the entry out of `imports` in {broken[0].imported_by} or repair the file, "
            f"then {restart_runtime(case)}.",
        )
    if not found:
        return skipped("nothing is imported")
    return passed(f"{len(found)} imported")


def _gpu_handlers(case: HostCase) -> Iterator[tuple[str, KataHandler]]:
    for handler in case.containerd.handlers:
        if GPU_HANDLER_MARK in handler.name:
            yield handler.name, handler


@check("runtime.kata-handlers", "A Kata handler for GPUs is configured", requires=_NEEDS_CONFIG)
def kata_handlers(case: HostCase) -> Outcome:
    """A RuntimeClass whose handler containerd does not know ends in FailedCreatePodSandBox."""
    names = [name for name, _ in _gpu_handlers(case)]
    suffix = f"-{case.confidential}" if case.confidential else ""
    wanted = [name for name in names if name.endswith(suffix)]
    if wanted:
        return passed(", ".join(wanted))
    if not case.after_install:
        return skipped("not installed yet; asked with --after-install")
    return failed(
        f"containerd has no runtime kata-…nvidia-gpu{suffix}",
        "Look at the installer on this node: the pods of kata-deploy in kata-system "
        "(or nvidia-kata-manager in gpu-operator); then restart containerd.",
    )


@check_each(
    "runtime.kata-files",
    "What a Kata handler names is on the disk",
    _gpu_handlers,
    none="no handler for GPUs is configured",
    requires=_NEEDS_CONFIG,
)
def kata_files(case: HostCase, handler: KataHandler) -> Outcome:
    """The configuration may name a QEMU, kernel or image where no installer put one."""
    judge = failed if case.after_install else warned
    reinstall = "Install Kata again on this node, with versions that belong together."
    problem = known(handler.problem)
    if problem:
        return judge(problem, reinstall)
    missing = [item for item in handler.artifacts if not known(item.exists)]
    if missing:
        listed = ", ".join(f"{item.path} ({item.key})" for item in missing)
        return judge(f"{handler.config_path} names what is not there: {listed}", reinstall)
    if not any(item.key == "path" for item in handler.artifacts):
        return judge(f"{handler.config_path} names no hypervisor", reinstall)
    return passed(f"{len(handler.artifacts)} files")


@check("runtime.cdi", "The CDI specs fit the devices")
def cdi(case: HostCase) -> Outcome:
    """Kata finds the GPU's VFIO device by a CDI spec; a stale one points at another group."""
    specs = known(case.host.cdi)
    judge = failed if case.after_install else warned
    for spec in specs:
        if spec.problem:
            return judge(f"{spec.path}: {spec.problem}", _renew(case, spec.path))
    double = _named_twice(specs)
    if double:
        name, first, second = double
        return judge(f"{name} is in {first} and in {second}", _renew(case, second))
    for spec in specs:
        problem = _points_nowhere(case, spec)
        if problem:
            return judge(f"{spec.path}: {problem}", _renew(case, spec.path))
    gpu_specs = [spec for spec in specs if spec.kind.startswith("nvidia.com/")]
    if gpu_specs:
        count = sum(len(spec.devices) for spec in gpu_specs)
        return passed(f"{count} devices in {', '.join(spec.path for spec in gpu_specs)}")
    if not case.after_install:
        return skipped("no spec for NVIDIA devices yet")
    return failed(
        "no CDI spec for NVIDIA devices in /var/run/cdi or /etc/cdi",
        "Look at the pod of NVIDIA's sandbox device plugin (or kata-manager) on this node.",
    )


def _named_twice(specs: Iterable[CdiSpec]) -> tuple[str, str, str] | None:
    """Return a device that two specs of one directory name; across directories one wins."""
    seen: dict[tuple[str, str], str] = {}
    for spec in specs:
        for device in spec.devices:
            name = f"{spec.kind}={device.name}"
            key = (spec.path.rpartition("/")[0], name)
            if key in seen:
                return name, seen[key], spec.path
            seen[key] = spec.path
    return None


def _points_nowhere(case: HostCase, spec: CdiSpec) -> str:
    """Say which VFIO device of a spec does not exist or belongs to no judged GPU."""
    if not spec.kind.startswith("nvidia.com/"):
        return ""
    bound = [gpu for gpu in case.judged + case.nvswitches if known(gpu.driver) in VFIO_DRIVERS]
    groups = {str(known(gpu.iommu_group)) for gpu in bound}
    for device in spec.devices:
        for path, exists in device.nodes:
            if not known(exists):
                return f"device {device.name} names {path}, which does not exist"
            group = path.removeprefix("/dev/vfio/")
            if group.isdigit() and group not in groups:
                return f"device {device.name} names {path}, but no GPU on vfio-pci has that group"
    return ""


def _renew(case: HostCase, path: str) -> str:
    writer = (
        "nvidia-kata-manager"
        if case.stack is Stack.COCO_OPERATOR
        else "nvidia-kata-sandbox-device-plugin-daemonset"
    )
    return (
        f"Remove {path} and delete the pod of {writer} on this node, which writes it anew "
        "(nothing writes it before the install)."
    )


CHECKS = (containerd, config, imports, kata_handlers, kata_files, cdi)
