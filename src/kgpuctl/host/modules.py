"""What the kernel's module directory offers, and what modprobe is told about it."""

import re
import zlib
from typing import Final

from kgpuctl.host.facts import ModprobeConfig, ModuleIndex
from kgpuctl.host.procfs import parse_modules
from kgpuctl.host.text import always, keeping, read_parsed, whole_lines
from kgpuctl.host.tree import MAX_FILE, Tree
from kgpuctl.unread import Fact, Reason, Unread

# Where modprobe looks (modprobe.d(5)); a file hides those of the same name further down.
MODPROBE_DIRS: Final = (
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
)
MIN_OPTIONS: Final = 100  # the smallest kernel that runs at all sets several hundred
_OPTIONS: Final = {
    "nouveau": "CONFIG_DRM_NOUVEAU",
    "tun": "CONFIG_TUN",
    "vfio_pci": "CONFIG_VFIO_PCI",
    "vhost_net": "CONFIG_VHOST_NET",
    "vhost_vsock": "CONFIG_VHOST_VSOCK",
}
_DIRECTIVES: Final = frozenset(
    {
        "alias",
        "blacklist",
        "config",
        "include",
        "install",
        "options",
        "remove",
        "softdep",
        "weakdep",
    }
)
_MODULE_FILE: Final = re.compile(r"[\w./+-]+\.ko(?:\.(?:gz|xz|zst))?")
# `install nouveau /bin/false`: what runs instead of loading loads nothing.
_DOES_NOTHING: Final = re.compile(r"\S*/(?:true|false)\b.*|:")


def read_modules(tree: Tree) -> Fact[frozenset[str]]:
    """Return the names of all loaded modules, and of the built-in ones that have parameters.

    /sys/module is asked first: /proc/modules is empty on a kernel without loadable modules, and
    an empty file could also be a file that was cut off.
    """
    names = tree.names("/sys/module")
    listed = read_parsed(tree, "/proc/modules", parse_modules)
    loaded = listed if isinstance(listed, frozenset) else frozenset[str]()
    if isinstance(names, tuple):
        return loaded | {name.replace("-", "_") for name in names}
    if isinstance(listed, Unread):
        return listed
    return loaded or always(None, "/proc/modules")


def read_module_index(tree: Tree, release: Fact[str]) -> Fact[ModuleIndex]:
    """Read which modules the running kernel could load, and which are built in."""
    if isinstance(release, Unread):
        return release
    folder = f"/lib/modules/{release}"
    loadable = read_parsed(tree, f"{folder}/modules.dep", parse_modules_dep)
    builtin = read_parsed(tree, f"{folder}/modules.builtin", parse_modules_builtin)
    if isinstance(loadable, Unread):
        return loadable
    if isinstance(builtin, Unread):
        return builtin
    if loadable is None and builtin is None:
        # No module directory: nothing can be loaded, and the kernel itself says what is built in.
        return _read_kernel_config(tree, folder)
    return ModuleIndex(loadable or frozenset(), builtin or frozenset())


def _read_kernel_config(tree: Tree, folder: str) -> Fact[ModuleIndex]:
    packed = tree.read("/proc/config.gz")
    if not isinstance(packed, bytes):
        return Unread(folder, Reason.NOT_RECORDED, "not there, and there is no /proc/config.gz")
    try:
        unpacker = zlib.decompressobj(wbits=31)
        config = unpacker.decompress(packed, MAX_FILE).decode()
        if not unpacker.eof or unpacker.unused_data:
            return Unread("/proc/config.gz", Reason.UNUSABLE, "not one whole gzip file")
        return ModuleIndex(frozenset(), parse_kernel_config(config))
    except (zlib.error, ValueError) as error:
        return Unread("/proc/config.gz", Reason.UNUSABLE, str(error))


def parse_kernel_config(text: str) -> frozenset[str]:
    """Return which of the modules that matter here are built into a kernel."""
    options = dict(re.findall(r"^(CONFIG_\w+)=(\S+)$", text, re.MULTILINE))
    if len(options) < MIN_OPTIONS:
        raise ValueError("not a kernel configuration")
    return frozenset(name for name, option in _OPTIONS.items() if options.get(option) == "y")


def parse_modules_dep(text: str) -> frozenset[str]:
    """Parse modules.dep: `path/name.ko[.xz]: dependencies`."""
    names = []
    for line in whole_lines(text):
        path, colon, _ = line.partition(":")
        if not colon or not _MODULE_FILE.fullmatch(path):
            raise ValueError(f"not a line of modules.dep: {line[:40]!r}")
        names.append(_module_name(path))
    if not names:
        raise ValueError("empty")
    return frozenset(names)


def parse_modules_builtin(text: str) -> frozenset[str]:
    """Parse modules.builtin: one path a line."""
    names = []
    for line in whole_lines(text):
        if not _MODULE_FILE.fullmatch(line):
            raise ValueError(f"not a line of modules.builtin: {line[:40]!r}")
        names.append(_module_name(line))
    if not names:
        raise ValueError("empty")
    return frozenset(names)


def _module_name(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def read_modprobe(tree: Tree) -> Fact[ModprobeConfig]:
    """Read modprobe.d; one file that cannot be read makes the whole unread."""
    files: dict[str, str] = {}
    for folder in MODPROBE_DIRS:
        names = tree.names(folder)
        if isinstance(names, Unread):
            return names
        for name in names or ():
            if name.endswith(".conf"):
                files.setdefault(name, f"{folder}/{name}")
    blacklisted: set[str] = set()
    replaced: set[str] = set()
    for path in files.values():
        config = read_parsed(tree, path, parse_modprobe, keeping(render_modprobe))
        if isinstance(config, Unread):
            return config
        if config is not None:
            blacklisted |= config.blacklisted
            replaced |= config.replaced
    return ModprobeConfig(frozenset(blacklisted), frozenset(replaced))


def parse_modprobe(text: str) -> ModprobeConfig:
    """Parse a file of modprobe.d; modprobe itself ignores lines that it does not know."""
    blacklisted, replaced = set(), set()
    lines = [line.split(None, 2) for line in text.replace("\\\n", " ").splitlines()]
    directives = [words for words in lines if words and not words[0].startswith("#")]
    for words in directives:
        if words[0] == "blacklist" and len(words) > 1:
            blacklisted.add(words[1].replace("-", "_"))
        elif words[0] == "install" and _DOES_NOTHING.fullmatch(" ".join(words[2:])):
            replaced.add(words[1].replace("-", "_"))
    if directives and not any(words[0] in _DIRECTIVES for words in directives):
        raise ValueError("no line of it is one of modprobe.d's")
    return ModprobeConfig(frozenset(blacklisted), frozenset(replaced))


def render_modprobe(text: str) -> str:
    """Return the lines that are judged; options may hold anything."""
    config = parse_modprobe(text)
    lines = [f"blacklist {name}\n" for name in sorted(config.blacklisted)]
    return "".join(lines + [f"install {name} /bin/false\n" for name in sorted(config.replaced)])
