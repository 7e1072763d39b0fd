"""What only a running system answers: ioctls, open files, versions, free space.

Each question is a line of text and so is its answer, for a recording keeps both. Nothing is
changed: no module is loaded, and the VM that KVM is asked for is closed at once.
"""

import errno
import fcntl
import os
import re
import stat
import subprocess
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final

from kgpuctl.host.facts import Holder, KvmProbe
from kgpuctl.host.tree import Tree
from kgpuctl.unread import Fact, Reason, Unread

KVM_GET_API_VERSION: Final = 0xAE00  # include/uapi/linux/kvm.h
KVM_CREATE_VM: Final = 0xAE01
_HELD: Final = re.compile(r"/dev/(?:nvidia|vfio/)")
_ANSWER_TIME: Final = 5.0  # seconds for `PROGRAM --version`


def answer(question: str) -> Fact[str | None]:
    """Answer `kvm`, `holders`, `root`, `version PROGRAM` or `space PATH` about this system."""
    verb, _, rest = question.partition(" ")
    return _ANSWERS[verb](rest)


def _ask_root(_: str) -> str:
    return "yes" if os.geteuid() == 0 else "no"


def _ask_kvm(_: str) -> Fact[str | None]:
    if not os.path.exists("/sys/class/misc/kvm"):  # noqa: PTH110
        # The device file may be there without the driver, and opening it would load a module.
        return "api=- vm=no error=ENODEV"
    try:
        device = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return Unread("/dev/kvm", Reason.NOT_PERMITTED)
    except OSError as error:
        return f"api=- vm=no error={_name(error)}"
    version = None
    try:
        version = fcntl.ioctl(device, KVM_GET_API_VERSION, 0)
        os.close(fcntl.ioctl(device, KVM_CREATE_VM, 0))
    except OSError as error:
        return f"api={'-' if version is None else version} vm=no error={_name(error)}"
    finally:
        os.close(device)
    return f"api={version} vm=yes error="


def read_kvm(tree: Tree) -> Fact[KvmProbe]:
    """Ask KVM for its version and for a VM."""
    told = tree.ask("kvm")
    if not isinstance(told, str):
        return told or Unread("/dev/kvm", Reason.NOT_RECORDED)
    match = re.fullmatch(r"api=(-|\d{1,9}) vm=(yes|no) error=(\w*)", told)
    if not match:
        return Unread("/dev/kvm", Reason.UNUSABLE, "the recorded answer is not one")
    return KvmProbe(None if match[1] == "-" else int(match[1]), match[2] == "yes", match[3])


def _ask_holders(_: str) -> Fact[str | None]:
    """Look through every process's open files; the first line names who could not be looked at."""
    if not any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/vfio")):  # noqa: PTH110
        return "nothing"
    held: list[tuple[int, str]] = []
    closed: list[str] = []
    shims: set[str] = set()
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        try:
            paths = _open_devices(f"/proc/{name}/fd")
        except PermissionError:
            closed.append(f"{_comm(name)} (pid {name})")
            continue
        except OSError:  # it has just ended
            continue
        held += [(int(name), path) for path in sorted(paths)]
        shims |= _shim_ids(_words(name))
    lines = ["\t".join(["partial", *closed[:3]]) if closed else "complete"]
    for pid, path in held:
        kata = "kata" if _sandbox_id(_words(str(pid))) in shims else "-"
        lines.append(f"{pid}\t{_comm(str(pid))}\t{path}\t{kata}")
    return "\n".join(lines)


def _open_devices(folder: str) -> set[str]:
    paths = set()
    for descriptor in os.listdir(folder):  # noqa: PTH208
        try:
            path = os.readlink(f"{folder}/{descriptor}")  # noqa: PTH115
        except FileNotFoundError:  # it has just been closed
            continue
        if _HELD.match(path) and path.isprintable():
            paths.add(path)
    return paths


def _words(pid: str) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            return file.read(1 << 16).decode(errors="replace").split("\0")
    except OSError:
        return []


def _comm(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:  # noqa: PTH123
            return re.sub(r"[^\x20-\x7e]", "?", file.read(64).decode(errors="replace").strip())
    except OSError:
        return "?"


def _shim_ids(words: list[str]) -> set[str]:
    """Return the sandbox id that a containerd-shim-kata process was started for."""
    if not words or "containerd-shim-kata" not in words[0] or "-id" not in words:
        return set()
    return set(words[words.index("-id") + 1 :][:1])


def _sandbox_id(words: list[str]) -> str | None:
    """Return the sandbox id of a Kata VM: QEMU is started with `-name sandbox-ID,…`."""
    for option, value in pairwise(words):
        if option == "-name" and value.startswith("sandbox-"):
            return value.removeprefix("sandbox-").partition(",")[0]
    return None


def read_holders(tree: Tree) -> Fact[tuple[Holder, ...]]:
    """Return who holds GPU device files; none found among only some processes is not known."""
    told = tree.ask("holders")
    if not isinstance(told, str):
        return told or Unread("/proc/*/fd", Reason.NOT_RECORDED)
    head, *lines = told.split("\n")
    holders = []
    for line in lines:
        match = re.fullmatch(r"(\d{1,10})\t([^\t]*)\t(/dev/[^\t]+)\t(kata|-)", line)
        if not match:
            return Unread("/proc/*/fd", Reason.UNUSABLE, "the recorded answer is not one")
        holders.append(Holder(int(match[1]), match[2], match[3], match[4] == "kata"))
    word, *closed = head.split("\t")
    if word not in {"nothing", "complete", "partial"}:
        return Unread("/proc/*/fd", Reason.UNUSABLE, "the recorded answer is not one")
    if closed and not holders:
        if tree.ask("root") != "yes":
            return Unread("/proc/*/fd", Reason.NOT_PERMITTED)
        told = f"not even root may look at {', '.join(closed)}"
        return Unread("/proc/*/fd", Reason.UNUSABLE, told)
    return tuple(holders)


def _ask_version(program: str) -> Fact[str | None]:
    """Run `PROGRAM --version`, if it is there and only root could have put it there."""
    try:
        others = _others_may_change(program)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Unread(program, Reason.UNUSABLE, (error.strerror or str(error)).lower())
    if others:
        return Unread(program, Reason.NOT_OFFERED, "not run: others than root may change it")
    try:
        done = subprocess.run(  # noqa: S603  # a fixed list of absolute paths
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            timeout=_ANSWER_TIME,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return Unread(program, Reason.NOT_OFFERED, "it does not tell its version")
    return done.stdout[:1000].decode(errors="replace").strip()


def _others_may_change(program: str) -> bool:
    """Say whether anybody but root could have decided what this path runs."""
    paths = [program]
    if os.path.islink(program):  # noqa: PTH114
        paths.append(os.path.dirname(program))  # noqa: PTH120
    return any(
        found.st_uid != 0 or bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
        for found in map(os.stat, paths)
    )


def _ask_space(path: str) -> Fact[str | None]:
    try:
        found = os.statvfs(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Unread(path, Reason.UNUSABLE, (error.strerror or str(error)).lower())
    return str(found.f_bavail * found.f_frsize)


def read_space(tree: Tree, path: str) -> Fact[int]:
    """Return the free bytes of the file system that holds `path` or its nearest parent."""
    told: Fact[str | None] = None
    while told is None:
        told = tree.ask(f"space {path}")
        if told is None and path == "/":
            return Unread(path, Reason.NOT_RECORDED)
        path = path.rpartition("/")[0] or "/"
    if isinstance(told, Unread):
        return told
    if not re.fullmatch(r"[0-9]{1,20}", told):
        return Unread(path, Reason.UNUSABLE, "the recorded answer is not one")
    return int(told)


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "EIO")


_ANSWERS: Final[Mapping[str, Callable[[str], Fact[str | None]]]] = {
    "root": _ask_root,
    "kvm": _ask_kvm,
    "holders": _ask_holders,
    "version": _ask_version,
    "space": _ask_space,
}
