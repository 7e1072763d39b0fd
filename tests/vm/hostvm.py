"""Runs a shell command in a real Debian kernel with an emulated IOMMU, on any x86_64 machine.

QEMU emulates in software, so neither KVM nor an IOMMU is needed. The machine's own root is the
VM's root below a throw-away layer: its Python and virtual environments are there, and nothing
that the command writes reaches the machine, except through the exchange directory.
"""

import contextlib
import fcntl
import lzma
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

Iommu: TypeAlias = Literal["intel", "amd", "none"]

OUTBOX: Final = "/run/exchange/outbox"  # what the command leaves here is brought out of the VM

_HERE: Final = Path(__file__).parent
_KERNEL_PACKAGE: Final = "linux-image-amd64"
_PROGRAMS: Final = {  # program -> the Debian package that brings it
    "apt-cache": "apt",
    "apt-get": "apt",
    "busybox": "busybox-static",
    "depmod": "kmod",
    "dpkg": "dpkg",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
}
_BOOT_MODULES: Final = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
# A busy machine emulates too slowly for the kernel's test of its timer, hence no_timer_check.
_KERNEL_ARGUMENTS: Final = "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off"
# The CPU's maker must fit the IOMMU's, as on real boards. Named models, since with `-cpu max`
# static programs crash now and then under QEMU 7.2.
_IOMMU_ARGUMENTS: Final[Mapping[Iommu, tuple[str, ...]]] = {
    "intel": ("-cpu", "Skylake-Server-v1", "-device", "intel-iommu,intremap=on"),
    "amd": ("-cpu", "EPYC-v1", "-device", "amd-iommu,intremap=on"),
    "none": ("-cpu", "Skylake-Server-v1"),
}


class CannotBootError(Exception):
    """This machine lacks something that a VM needs; one sentence says what."""


class VmError(Exception):
    """The VM ended, or was ended, before the command did; the console's last lines are here."""


@dataclass(frozen=True, slots=True)
class CompletedVm:
    """What the command said and how it ended, and the files that it left in OUTBOX, by name."""

    exit_code: int
    output: str
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class _Kernel:
    """An unpacked kernel package."""

    directory: Path
    release: str

    @property
    def image(self) -> Path:
        """The kernel itself if it could be unpacked, else the packed one."""
        unpacked = self.directory / "boot" / "vmlinux"
        packed = self.directory / "boot" / f"vmlinuz-{self.release}"
        return unpacked if unpacked.exists() else packed

    @property
    def modules(self) -> Path:
        """What /lib/modules is in the VM."""
        return self.directory / "lib" / "modules"


def run_in_vm(
    command: str,
    *,
    iommu: Iommu,
    kernel_args: str = "",
    devices: Sequence[str] = (),
    timeout: float = 120,
) -> CompletedVm:
    """Boot, run a shell command as root, power off.

    `devices` are values of QEMU's -device. Raises CannotBootError before, VmError after the start.
    """
    kernel = _prepared_kernel()
    with tempfile.TemporaryDirectory(prefix="kgpuctl-vm-") as name:
        directory = Path(name)
        exchange = directory / "exchange"
        _fill_exchange(exchange, command)
        initramfs = directory / "initramfs"
        initramfs.write_bytes(_initramfs(kernel))
        console = directory / "console"
        arguments = [
            *_machine(kernel, initramfs, console, kernel_args),
            *_IOMMU_ARGUMENTS[iommu],
            *(word for device in devices for word in ("-device", device)),
            *_share("host", Path("/"), read_only=True),
            *_share("modules", kernel.modules, read_only=True),
            *_share("exchange", exchange, read_only=False),
        ]
        problem = _run_qemu(arguments, timeout)
        return _read_exchange(exchange, problem, console)


def _machine(kernel: _Kernel, initramfs: Path, console: Path, kernel_args: str) -> list[str]:
    """Return the arguments for a PC that has nothing but what is asked for.

    It has one CPU: QEMU emulates that a quarter faster than one of two.
    """
    return [
        *("-nodefaults", "-no-reboot", "-display", "none"),
        *("-accel", "tcg", "-machine", "q35,kernel-irqchip=split", "-m", "1536", "-smp", "1"),
        *("-serial", f"file:{_quoted(console)}"),
        *("-kernel", str(kernel.image), "-initrd", str(initramfs)),
        *("-append", f"{_KERNEL_ARGUMENTS} {kernel_args}"),
    ]


def _share(tag: str, directory: Path, *, read_only: bool) -> list[str]:
    """Return the arguments that offer a directory to the VM over 9p."""
    mode = "on" if read_only else "off"
    options = f"security_model=none,multidevs=remap,readonly={mode}"
    return [
        *("-fsdev", f"local,id={tag},path={_quoted(directory)},{options}"),
        *("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
    ]


def _quoted(path: Path) -> str:
    """Write a path as QEMU's options want it."""
    return str(path).replace(",", ",,")


def _run_qemu(arguments: Sequence[str], timeout: float) -> str:
    """Run QEMU to its end, or end it; return what was wrong, empty if nothing was.

    setpriv asks the kernel to end QEMU with this process, however that ends.
    """
    qemu_program = _program("qemu-system-x86_64")
    command = [_program("setpriv"), "--pdeathsig", "KILL", qemu_program, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as qemu:
        try:
            said, _ = qemu.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"The VM had not powered off after {timeout:g} s."
        finally:
            qemu.kill()
    if qemu.returncode != 0:
        last = said.decode(errors="replace").splitlines()[-2:]  # before: warnings about the CPU
        return "\n".join([f"QEMU ended with status {qemu.returncode}.", *last])
    return ""


def _fill_exchange(exchange: Path, command: str) -> None:
    """Lay out what session.sh expects; the command finds the same programs as this process."""
    (exchange / "outbox").mkdir(parents=True)
    shutil.copy(_HERE / "session.sh", exchange)
    text = f"export PATH={shlex.quote(_search_path())} HOME=/root\n{command}\n"
    (exchange / "command.sh").write_text(text, encoding="utf-8")


def _read_exchange(exchange: Path, problem: str, console: Path) -> CompletedVm:
    """Collect the result; without a status there is none, and the console tells why."""
    status, output = exchange / "status", exchange / "output"
    said = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
    if problem or not status.exists():
        lines = console.read_text(errors="replace").splitlines() if console.exists() else []
        reason = problem or "The VM powered off before the command had ended."
        raise VmError("\n".join([reason, *lines[-40:], said]))
    return CompletedVm(
        exit_code=int(status.read_text(encoding="ascii")),
        output=said,
        files={file.name: file.read_bytes() for file in (exchange / "outbox").iterdir()},
    )


def _initramfs(kernel: _Kernel) -> bytes:
    """Make the archive that the kernel starts from: busybox, init.sh and the way to the root."""
    entries: list[tuple[str, int, bytes]] = [
        (directory, stat.S_IFDIR | 0o755, b"")
        for directory in ("bin", "dev", "lower", "modules", "proc", "root", "sys", "upper")
    ]
    entries.append(("bin/busybox", stat.S_IFREG | 0o755, Path(_program("busybox")).read_bytes()))
    entries.append(("init", stat.S_IFREG | 0o755, (_HERE / "init.sh").read_bytes()))
    for number, file in enumerate(_with_dependencies(kernel, _BOOT_MODULES)):
        # insmod takes them in this order.
        entries.append((f"modules/{number:02}.ko", stat.S_IFREG | 0o644, _module(file)))
    return _cpio(entries)


def _cpio(entries: Sequence[tuple[str, int, bytes]]) -> bytes:
    """Pack (name, mode, content) in the "newc" format of the kernel's initramfs documentation."""
    archive = bytearray()
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        encoded = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        archive += bytes(-len(archive) % 4)
        archive += content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


def _with_dependencies(kernel: _Kernel, names: Sequence[str]) -> list[Path]:
    """Return the files of these modules and all that they need, each after what it needs."""
    directory = kernel.modules / kernel.release
    needs: dict[str, list[str]] = {}
    for line in (directory / "modules.dep").read_text(encoding="utf-8").splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    path_of = {Path(path).name.partition(".")[0].replace("-", "_"): path for path in needs}
    builtin = (directory / "modules.builtin").read_text(encoding="utf-8")
    ordered: dict[str, None] = {}
    for name in names:
        if name not in path_of and f"/{name}.ko" in builtin:
            continue
        if name not in path_of:
            raise CannotBootError(f"The kernel {kernel.release} has no module {name}.")
        # modules.dep lists all that is needed, the deepest last.
        ordered |= dict.fromkeys([*reversed(needs[path_of[name]]), path_of[name]])
    return [directory / path for path in ordered]


def _module(file: Path) -> bytes:
    """Return a module as the kernel loads it; newer Debian kernels bring them compressed."""
    content = file.read_bytes()
    return lzma.decompress(content) if file.suffix == ".xz" else content


def _prepared_kernel() -> _Kernel:
    """Return the cached kernel; the first caller fetches it while the others wait."""
    _check_machine()
    configured = os.environ.get("KGPUCTL_VM_CACHE")
    cache = Path(configured) if configured else Path.home() / ".cache" / "kgpuctl-vm"
    directory = cache / "kernel"
    with _locked(cache):
        if not directory.exists():
            _replace_directory(directory, _fetch_kernel)
    try:
        release = next((directory / "lib" / "modules").iterdir()).name
    except (OSError, StopIteration) as error:
        raise CannotBootError(f"{directory} holds no kernel: remove it.") from error
    return _Kernel(directory, release)


def _check_machine() -> None:
    """Say at once what is missing, with the package that brings it."""
    if platform.machine() != "x86_64":
        raise CannotBootError(
            f"The VM runs this machine's programs, and they are for {platform.machine()}."
        )
    for name in _PROGRAMS:
        _program(name)


def _program(name: str) -> str:
    """Return where a program is."""
    path = shutil.which(name, path=_search_path())
    if path is None:
        raise CannotBootError(f"There is no {name} here: install {_PROGRAMS[name]}.")
    return path


def _search_path() -> str:
    """Return PATH with the administrators' programs, which need not be on a user's."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


@contextlib.contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Keep other processes out of the cache; the kernel lets go if this one dies."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "lock").open("w")
    except OSError as error:
        raise CannotBootError(f"The cache {cache} cannot be written: {error.strerror}.") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace_directory(directory: Path, fill: Callable[[Path], None]) -> None:
    """Fill a directory and only then give it its name, so a half-filled one is never used."""
    with tempfile.TemporaryDirectory(prefix="new-", dir=directory.parent) as name:
        made = Path(name) / "made"
        made.mkdir()
        fill(made)
        made.rename(directory)


def _fetch_kernel(directory: Path) -> None:
    """Download Debian's kernel package and unpack it, without installing anything."""
    package = _kernel_package()
    with tempfile.TemporaryDirectory(prefix="kgpuctl-vm-") as name:
        _call("apt-get", "download", package, cwd=Path(name))
        (archive,) = Path(name).glob("*.deb")
        _call("dpkg", "-x", str(archive), str(directory))
    if not (directory / "lib").exists():  # newer packages have /usr/lib/modules only
        (directory / "lib").symlink_to("usr/lib")
    release = next((directory / "lib" / "modules").iterdir()).name
    _call("depmod", "-b", str(directory), release)
    _unpack_image(directory / "boot" / f"vmlinuz-{release}", directory / "boot" / "vmlinux")


def _unpack_image(packed: Path, unpacked: Path) -> None:
    """Do once what the emulated CPU would need 6 s for at each boot; QEMU starts both kinds."""
    content = packed.read_bytes()
    start = content.find(b"\xfd7zXZ\0")
    with contextlib.suppress(lzma.LZMAError):  # packed otherwise: it still boots, only later
        unpacked.write_bytes(lzma.LZMADecompressor().decompress(content[max(start, 0) :]))


def _kernel_package() -> str:
    """Return the package that the metapackage stands for at present."""
    for line in _call("apt-cache", "depends", "--important", _KERNEL_PACKAGE).splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends" and name.startswith("linux-image-"):
            return name
    raise CannotBootError(f"apt knows no {_KERNEL_PACKAGE}: run apt-get update, on Debian.")


def _call(name: str, *arguments: str, cwd: Path | None = None) -> str:
    """Run a program and return what it said; if it fails, no VM can be had."""
    done = subprocess.run(
        [_program(name), *arguments],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise CannotBootError(f"{name} {arguments[0]} failed: {last}")
    return done.stdout
