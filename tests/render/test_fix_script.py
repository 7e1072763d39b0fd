"""The scripts are run for real, in a small tree of busybox and stub programs, never on this host.

`unshare -r chroot` makes that tree the root of each run, and takes away all power over the kernel.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgpuctl.host.distribution import Boot, Distribution, Family
from kgpuctl.render import fix_script
from kgpuctl.report import (
    Claim,
    Fix,
    KernelArguments,
    LoadModules,
    ModuleConfig,
    Remedy,
    Report,
    Result,
    Status,
    StopUnit,
    Subject,
)

SHELLS: Final = ("dash", "busybox", "bash")
AWKS: Final = ("dash", "busybox")  # what the tree of bash has is busybox's awk again
APPLETS: Final = (
    *("sh", "cat", "cp", "mv", "rm", "mkdir", "rmdir", "tr", "head", "tail", "sed", "grep", "id"),
    *("printf", "touch", "awk"),
)
GRUB: Final = "etc/default/grub"
ON: Final = KernelArguments(add=("intel_iommu=on",))
SWAP: Final = KernelArguments(add=("intel_iommu=on",), remove=("iommu=off",))
NOUVEAU: Final = ModuleConfig("kgpuctl-nouveau", ("blacklist nouveau", "options nouveau modeset=0"))
VFIO: Final = LoadModules(("vfio-pci", "vfio_iommu_type1"))
UNIT: Final = StopUnit("nvidia-persistenced.service")
ALL: Final[tuple[Fix, ...]] = (SWAP, NOUVEAU, VFIO, UNIT)

PUT: Final = "--append-if-missing"

STUBS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ["update-grub", "grub2-mkconfig", "transactional-update", "proxmox-boot-tool"], ""
    ),
    **dict.fromkeys(["kernel-install", "update-initramfs", "dracut"], ""),
    "modprobe": 'shift; for m; do mkdir -p "/sys/module/$(echo "$m" | tr - _)"; done',
    "systemctl": (
        'case $1 in is-*) cat "/units/$2.$1"; exit;; esac\n'
        'for last; do :; done; verb=$1; [ "$verb" = start ] || '
        'echo "${verb}d" >"/units/$last.is-enabled"\n'
        'case $* in *--now*|start*) [ "$verb" = disable ] && a=inactive || a=active; '
        'echo "$a" >"/units/$last.is-active";; esac'
    ),
    # The three take one option for each change, in their own spelling, and keep words in /words.
    "grubby": (
        '[ "$1" != --info=ALL ] || { while read -r l; do echo "args=\\"$l\\""; done </words; '
        "exit; }\n"
        "for o; do case $o in\n"
        "--args=*) for w in ${o#--args=}; do\n"
        '  sed -i "s/^/ /; s/\\$/ /; s/ ${w%%=*}=[^ ]* / /; s/\\$/$w/; s/^ //; s/  */ /g" /words;'
        " done;;\n"
        '--remove-args=*) for w in ${o#*args=}; do sed -i "s/^/ /; s/\\$/ /; s/ $w / /; s/^ //;'
        ' s/ \\$//" /words; done;;\nesac; done'
    ),
    "kernelstub": (
        '[ "$1" != --print-config ] || { echo "kernelstub: INFO" >&2; '
        'echo "    Kernel Boot Options:.$(cat /words)" >&2; exit; }\n'
        "while [ $# -gt 0 ]; do case $1 in\n"
        '--add-options) echo "$(cat /words) $2" >/words;;\n'
        '--delete-options) for w in $2; do sed -i "s/^/ /; s/\\$/ /; s/ $w / /; s/^ //; s/ \\$//"'
        " /words; done;;\nesac; shift 2; done"
    ),
    "rpm-ostree": (
        "[ $# -gt 1 ] || { cat /words; exit; }\n"
        "for o; do w=${o#--*=}; case $o in\n"
        '--append*) echo "$(cat /words) $w" >/words;;\n'
        '--delete*) sed -i "s/^/ /; s/\\$/ /; s/ $w / /; s/^ //; s/ \\$//" /words;;\nesac; done'
    ),
}


@dataclass(frozen=True)
class Tree:
    """The root of a host that a script may change."""

    root: Path
    shell: str

    def write(self, path: str, text: str | bytes) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def stub(self, name: str, body: str) -> None:
        log = f'#!/bin/sh\necho "{name} $*" >>/calls\n'
        self.write(f"usr/sbin/{name}", log + body + "\n").chmod(0o755)

    def calls(self, *, reading: bool = False) -> list[str]:
        """Return the commands that were called since the last time; mostly without the readers."""
        file = self.root / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        readers = ("--info", "--print-config", "is-enabled", "is-active", "rpm-ostree kargs$")
        return [s for s in lines if reading or not re.search("|".join(readers), s)]

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Return mode and content of all that a script may change."""
        return {
            str(path.relative_to(self.root)): (path.stat().st_mode, path.read_bytes())
            for top in ("etc", "oem", "var", "usr/share", "words")
            for path in (self.root / top, *sorted((self.root / top).rglob("*")))
            if path.is_file()
        }

    def run(self, script: str, *words: str, code: int | None = 0) -> str:
        """Run a script with this tree as its root; return all that it says."""
        # busybox's shell prefers its own modprobe to that of the tree.
        own = 'modprobe() { /usr/sbin/modprobe "$@"; }\n' if self.shell == "busybox" else ""
        self.write("fix.sh", (own + script).encode())
        shell = ["/bin/busybox", "sh"] if self.shell == "busybox" else [f"/bin/{self.shell}"]
        done = subprocess.run(
            [
                "unshare",
                "-r",
                f"--root={self.root}",
                *shell,
                "/fix.sh",
                *words,
            ],
            env={"PATH": "/usr/sbin:/bin"},
            cwd=self.root,
            capture_output=True,
            check=False,
            timeout=60,
        )
        said = (done.stdout + done.stderr).decode()
        assert code in {None, done.returncode}, said
        return said


def _can_unshare() -> bool:
    command = shutil.which("unshare")
    if command is None or shutil.which("busybox") is None:
        return False
    return not subprocess.run([command, "-r", "true"], check=False, capture_output=True).returncode


needs_tree = pytest.mark.skipif(
    not _can_unshare(), reason="needs busybox-static, and user namespaces (unshare -r)"
)


def _libraries(program: str) -> Iterator[Path]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    for word in listed.stdout.split():
        if word.startswith("/"):
            yield Path(word)


def _install(root: Path, program: str, name: str) -> None:
    shutil.copy(program, root / "bin" / name)
    for library in _libraries(program):
        target = root / str(library).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(library, target)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Make a tree for each shell; where there are more awks than busybox's, dash has another."""
    made = {}
    for shell in SHELLS:
        root = made[shell] = tmp_path_factory.mktemp(shell)
        (root / "bin").mkdir()
        _install(root, str(shutil.which("busybox")), "busybox")
        for applet in APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        if shell != "busybox" and (program := shutil.which(shell)):
            _install(root, program, shell)
        if shell == "dash" and (program := shutil.which("mawk")):
            (root / "bin/awk").unlink()
            _install(root, program, "awk")
    return made


def _grow(base: Path, root: Path, shell: str) -> Tree:
    shutil.copytree(base, root, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
    tree = Tree(root, shell)
    for name, body in STUBS.items():
        tree.stub(name, body)
    tree.write("dev/null", "")
    tree.write("etc/modprobe.d/other.conf", "blacklist pcspkr\n")
    return tree


@pytest.fixture(params=SHELLS)
def tree(request: pytest.FixtureRequest, bases: Mapping[str, Path], tmp_path: Path) -> Tree:
    shell: str = request.param
    if shell != "busybox" and shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    return _grow(bases[shell], tmp_path / "root", shell)


def report(*remedies: Remedy, host: str = "gpu-1, Ubuntu 24.04") -> Report:
    results = tuple(
        Result(f"area.check-{number}", "A claim", Status.FAILED, remedy=remedy)
        for number, remedy in enumerate(remedies, 1)
    )
    return _report(results, host)


def _report(results: tuple[Result, ...], host: str = "gpu-1") -> Report:
    return Report("preflight", Claim("", "", ""), Subject((host,), {}), results)


def on(boot: Boot, family: Family = Family.DEBIAN) -> Distribution:
    return Distribution("x", "X", "1", family, boot)


def script(*fixes: Fix, boot: Boot = Boot.UPDATE_GRUB, family: Family = Family.DEBIAN) -> str:
    remedies = (Remedy(f"Do {number}, with `sudo it`.", (fix,)) for number, fix in enumerate(fixes))
    return fix_script.dumps(report(*remedies), on(boot, family))


def there_and_back(tree: Tree, text: str, path: str) -> str:
    """Apply twice and undo twice; return the file as it was between."""
    before = tree.files()
    assert "needs a reboot" in tree.run(text)
    assert tree.files() == before
    tree.run(text, "apply")
    between = tree.files()
    assert len(tree.calls()) == 1
    said = tree.run(text, "apply")
    assert "already so" in said
    assert "Nothing was changed." in said
    assert tree.files() == between
    assert tree.calls() == []
    tree.run(text, "undo")
    assert tree.files() == before
    assert len(tree.calls()) == 1
    assert "Nothing was changed." in tree.run(text, "undo")
    assert tree.files() == before
    assert tree.calls() == []
    return between[path][1].decode("utf-8", "surrogateescape")


D: Final = "GRUB_CMDLINE_LINUX_DEFAULT"
L: Final = "GRUB_CMDLINE_LINUX"
FORMS: Final[Mapping[str, tuple[str, str]]] = {
    "double quotes": (f'{D}="quiet splash"\n', f'{D}="quiet splash intel_iommu=on"\n'),
    "single quotes": (f"{D}='quiet splash'\n", f"{D}='quiet splash intel_iommu=on'\n"),
    "no quotes": (f"{D}=quiet\n", f'{D}="quiet intel_iommu=on"\n'),
    "empty": (f'{D}=""\n', f'{D}="intel_iommu=on"\n'),
    "nothing": (f"{D}=\n", f'{D}="intel_iommu=on"\n'),
    "nothing but a comment": (f"{D}= # mine\n", f'{D}="intel_iommu=on" # mine\n'),
    "no variable": ("GRUB_TIMEOUT=5\n", f'GRUB_TIMEOUT=5\n{D}="intel_iommu=on"\n'),
    "no newline and no variable": ("A=5", f'A=5\n{D}="intel_iommu=on"\n'),
    "no newline": (f'A=5\n{D}="quiet"', f'A=5\n{D}="quiet intel_iommu=on"'),
    "an empty file": ("", f'{D}="intel_iommu=on"\n'),
    "a comment behind": (f'{D}="quiet"  # "mine"\n', f'{D}="quiet intel_iommu=on"  # "mine"\n'),
    "a comment before": (
        f'#{D}="x"\n# {D}="iommu=off" \\\n{D}="quiet"\n',
        f'#{D}="x"\n# {D}="iommu=off" \\\n{D}="quiet intel_iommu=on"\n',
    ),
    "a word that is there": (
        f'{D}="intel_iommu=on iommu=off"\n',
        f'{D}="intel_iommu=on"\n',
    ),
    "a word that is in the base": (
        f'{L}="intel_iommu=on"\n{D}="iommu=off quiet"\n',
        f'{L}="intel_iommu=on"\n{D}="quiet"\n',
    ),
    "a removal from both": (
        f'{L}="ro iommu=off  x"\n{D}=" a\tb  iommu=off c "\n',
        f'{L}="ro x"\n{D}=" a\tb  c intel_iommu=on"\n',
    ),
    "longer words": (
        f'{D}="intel_iommu=off iommu=offline x.iommu=off"\n',
        f'{D}="intel_iommu=off iommu=offline x.iommu=off intel_iommu=on"\n',
    ),
    "words with signs": (
        f"{D}=\"a=*? b=[x] c='d'\"\n",
        f"{D}=\"a=*? b=[x] c='d' intel_iommu=on\"\n",
    ),
    "another variable inside": (
        f'A=b\n{D}="quiet $A ${{A}}"\n',
        f'A=b\n{D}="quiet $A ${{A}} intel_iommu=on"\n',
    ),
    "two assignments": (
        f'{D}="one"\n{D}="two iommu=off"\n',
        f'{D}="one"\n{D}="two intel_iommu=on"\n',
    ),
    "one assignment and more": (
        f'{D}="one iommu=off"\n{D}="${D} two"\n',
        f'{D}="one"\n{D}="${D} two intel_iommu=on"\n',
    ),
    "names that only look alike": (
        f'{L}_XEN="iommu=off"\nMY_{D}="iommu=off"\n{D}="x"\n',
        f'{L}_XEN="iommu=off"\nMY_{D}="iommu=off"\n{D}="x intel_iommu=on"\n',
    ),
    "bytes that are not text": (
        f'# \udcff\udcfe\r\n{D}="x"\n\n\n',
        f'# \udcff\udcfe\r\n{D}="x intel_iommu=on"\n\n\n',
    ),
}


@needs_tree
@pytest.mark.parametrize("tree", AWKS, indirect=True)
@pytest.mark.parametrize("form", FORMS)
def test_the_variable_is_edited_in_place_and_put_back_byte_for_byte(tree: Tree, form: str) -> None:
    before, after = FORMS[form]
    tree.write(GRUB, before.encode("utf-8", "surrogateescape")).chmod(0o640)

    assert there_and_back(tree, script(SWAP), GRUB) == after


@needs_tree
@pytest.mark.parametrize("tree", AWKS, indirect=True)
@pytest.mark.parametrize(
    "line",
    [
        f'{D}="$(cat /x) iommu=off"',
        f"{D}=`cat /x`",
        f"{D}=$(cat /x)",
        f'{D}="quiet \\\n  splash"',
        f"{D}=quiet\\ splash",
        f'A="x\\\n{D}=y"',
        f'{D}="a \\"b\\""',
        f'{D}="quiet" && true',
        f'{D}="quiet"iommu=off',
        f'{D}="quiet',
        f'if true; then\n  {D}="quiet"\nfi',
        f'export {D}="quiet"',
        f'{D}+=" quiet"',
        f'{D}="quiet"\r',
        f'{L}="`cat /x`"\n{D}="quiet"',
    ],
)
def test_what_is_not_a_plain_assignment_is_left_to_a_person(tree: Tree, line: str) -> None:
    tree.write(GRUB, f"A=1\n{line}\n")
    before = tree.files()

    said = tree.run(script(SWAP, UNIT), "apply", code=1)

    assert re.search(r"By hand: /etc/default/grub: line \d+ is not understood", said)
    assert "add: intel_iommu=on; take off: iommu=off" in said.replace("Add", "add")
    assert tree.files() == before
    assert tree.calls() == []


@needs_tree
def test_a_link_or_a_missing_file_is_left_to_a_person(tree: Tree) -> None:
    assert "not a plain file" in tree.run(script(ON), "apply", code=1)
    tree.write("etc/grub", f'{D}=""\n')
    (tree.root / "etc/default").mkdir()
    (tree.root / GRUB).symlink_to("../grub")
    assert "not a plain file" in tree.run(script(ON), "apply", code=1)
    assert tree.read("etc/grub") == f'{D}=""\n'


@needs_tree
def test_values_are_joined_where_only_the_last_word_counts(tree: Tree) -> None:
    tree.write(GRUB, f'{L}="vfio_pci.ids=10de:1"\n{D}="modprobe.blacklist=a"\n')
    text = script(
        KernelArguments(add=("vfio-pci.ids=10de:2,10de:1",)),
        KernelArguments(add=("vfio-pci.ids=10de:3", "modprobe.blacklist=b")),
    )

    assert there_and_back(tree, text, GRUB) == (
        f'{L}=""\n{D}="modprobe.blacklist=a vfio_pci.ids=10de:1,10de:2,10de:3 '
        'modprobe.blacklist=b"\n'
    )


@needs_tree
def test_drop_ins_that_spoil_the_edit_are_named(tree: Tree) -> None:
    tree.write(GRUB, f'{D}="quiet"\n')
    tree.write("etc/default/grub.d/10-mine.cfg", f'{D}="${D} iommu=off"\n')
    tree.write("etc/default/grub.d/50-cloud image.cfg", f'{D}="console=tty1"\n')
    tree.write("etc/default/grub.d/60-odd.cfg", f'{D}="$(odd)"\n')
    tree.write("etc/default/grub.d/70-fine.cfg", f"# {D}=iommu=off\nA=1\n")

    said = tree.run(script(SWAP), "apply", code=1)

    assert "10-mine.cfg still has iommu=off: take it off there, then run update-grub." in said
    assert f"50-cloud image.cfg sets {D} anew: add intel_iommu=on there" in said
    assert "60-odd.cfg: line 1 is not understood" in said
    assert said.count("By hand:") == 3
    assert tree.calls() == ["update-grub "]


@needs_tree
@pytest.mark.parametrize(
    ("boot", "call"),
    [
        (Boot.PROXMOX_BOOT_TOOL, "proxmox-boot-tool refresh"),
        (Boot.KERNEL_INSTALL, "kernel-install add-all"),
    ],
)
def test_the_one_line_of_a_cmdline_file_is_edited(tree: Tree, boot: Boot, call: str) -> None:
    tree.write("etc/kernel/cmdline", "root=ZFS=a  iommu=off boot=zfs\n\n")
    text = script(SWAP, boot=boot)

    after = there_and_back(tree, text, "etc/kernel/cmdline")

    assert after == "root=ZFS=a  boot=zfs intel_iommu=on\n\n"
    tree.run(text, "apply")
    assert tree.calls() == [call]


@needs_tree
@pytest.mark.parametrize("text", ["", "\n", "root=a\nquiet\n", "# root=a\n"])
def test_a_cmdline_file_without_just_one_line_is_left_to_a_person(tree: Tree, text: str) -> None:
    tree.write("etc/kernel/cmdline", text)

    assert "By hand: /etc/kernel/cmdline: it" in tree.run(
        script(ON, boot=Boot.KERNEL_INSTALL), "apply", code=1
    )
    assert tree.read("etc/kernel/cmdline") == text


@needs_tree
@pytest.mark.parametrize(
    ("boot", "call"),
    [
        (Boot.GRUBBY, "grubby --update-kernel=ALL --args=a=1 c=3 --remove-args=iommu=off"),
        (Boot.KERNELSTUB, "kernelstub --add-options a=1 c=3 --delete-options iommu=off"),
        (
            Boot.RPM_OSTREE,
            f"rpm-ostree kargs --delete-if-present=iommu=off {PUT}=a=1 {PUT}=c=3",
        ),
    ],
)
def test_a_boot_loaders_command_takes_back_only_what_it_did(
    tree: Tree, boot: Boot, call: str
) -> None:
    tree.write("words", "ro * b=2 iommu=off\n")
    fix = KernelArguments(add=("a=1", "b=2", "c=3"), remove=("iommu=off", "nothing=1"))
    text = script(fix, boot=boot, family=Family.RHEL)

    tree.run(text, "apply")
    assert tree.calls() == [call]
    assert tree.read("words").split() == ["ro", "*", "b=2", "a=1", "c=3"]
    assert "already so" in tree.run(text, "apply")
    assert tree.calls() == []
    tree.run(text, "undo")
    assert tree.read("words").split() == ["ro", "*", "b=2", "iommu=off"]
    assert "nothing to take back" in tree.run(text, "undo")
    assert not (tree.root / "var/lib/kgpuctl").exists()


@needs_tree
def test_grubby_loses_no_value_and_an_entry_without_the_word_gets_it(tree: Tree) -> None:
    tree.write("words", "modprobe.blacklist=a intel_iommu=sm_on b=2\nmodprobe.blacklist=a x=1\n")
    text = script(
        KernelArguments(add=("modprobe.blacklist=b", "intel_iommu=on", "b=2")), boot=Boot.GRUBBY
    )

    tree.run(text, "apply")
    assert [set(line.split()) for line in tree.read("words").splitlines()] == [
        {"modprobe.blacklist=a,b", "intel_iommu=on", "b=2"},
        {"modprobe.blacklist=a,b", "intel_iommu=on", "b=2", "x=1"},
    ]
    tree.run(text, "undo")
    first, second = (set(line.split()) for line in tree.read("words").splitlines())
    assert first == {"modprobe.blacklist=a", "intel_iommu=sm_on", "b=2"}
    assert "intel_iommu=on" not in second


@needs_tree
def test_a_boot_loader_that_cannot_be_read_stops_the_script(tree: Tree) -> None:
    tree.stub("grubby", "exit 1")

    said = tree.run(script(ON, NOUVEAU, boot=Boot.GRUBBY), "apply", code=1)

    assert "Could not read the kernel command line; it is as it was." in said
    assert "etc/modprobe.d/kgpuctl-nouveau.conf" not in tree.files()


@needs_tree
@pytest.mark.parametrize("folder", ["oem", "usr/share/oem"])
def test_flatcar_gets_a_line_and_loses_words_by_hand(tree: Tree, folder: str) -> None:
    (tree.root / folder).mkdir(parents=True)
    path = f"{folder}/grub.cfg"
    tree.write(path, 'set oem_id="qemu"\nset linux_append="$linux_append quiet"')
    fix = KernelArguments(add=("quiet", "a=1"), remove=("iommu=off",))
    text = script(fix, boot=Boot.FLATCAR_OEM, family=Family.FLATCAR)
    before = tree.files()

    assert "- area.check-1: (The script does only a part of this.) Do 0" in tree.run(text)
    assert "Reboot the host" in tree.run(text, "apply")
    assert tree.read(path) == (
        'set oem_id="qemu"\nset linux_append="$linux_append quiet"\n'
        'set linux_append="$linux_append a=1"\n'
    )
    assert "Nothing was changed." in tree.run(text, "apply")
    tree.run(text, "undo")
    assert tree.files() == before


@needs_tree
def test_all_kinds_of_fixes_together_there_and_back(tree: Tree) -> None:
    tree.write(GRUB, f'{D}="quiet"\n')
    tree.write(f"units/{UNIT.unit}.is-enabled", "enabled\n")
    tree.write(f"units/{UNIT.unit}.is-active", "active\n")
    before = tree.files()
    text = script(*ALL, SWAP, ON, NOUVEAU)

    said = tree.run(text, "apply")
    assert tree.calls() == [
        "update-grub ",
        "update-initramfs -u -k all",
        f"systemctl disable --now {UNIT.unit}",
        "modprobe -a vfio-pci vfio_iommu_type1",
    ]
    assert tree.read("etc/modprobe.d/kgpuctl-nouveau.conf").splitlines()[1:] == list(NOUVEAU.lines)
    assert tree.read("etc/modules-load.d/kgpuctl-vfio-pci.conf").splitlines()[1:] == list(
        VFIO.modules
    )
    assert "Reboot the host" in said
    between = tree.files()
    said = tree.run(text, "apply")
    assert said.count("already so") == 4
    assert "If the host was not rebooted since it was changed, reboot it." in said
    assert (tree.files(), tree.calls()) == (between, [])
    tree.run(text, "undo")
    assert tree.calls() == [
        f"systemctl enable --now {UNIT.unit}",
        "update-grub ",
        "update-initramfs -u -k all",
    ]
    assert tree.files() == before
    tree.run(text, "undo")
    assert (tree.files(), tree.calls()) == (before, [])


@needs_tree
@pytest.mark.parametrize(
    ("enabled", "active", "calls"),
    [
        ("enabled", "inactive", ["disable --now", "enable"]),
        ("disabled", "active", ["disable --now", "start"]),
        ("static", "active", ["disable --now", "start"]),
        ("disabled", "inactive", []),
        ("", "", []),
    ],
)
def test_a_unit_is_left_as_it_was_found(
    tree: Tree, enabled: str, active: str, calls: list[str]
) -> None:
    if enabled:
        tree.write(f"units/{UNIT.unit}.is-enabled", f"{enabled}\n")
        tree.write(f"units/{UNIT.unit}.is-active", f"{active}\n")
    text = script(UNIT)

    assert "No reboot is needed" in tree.run(text, "apply")
    assert "already so" in tree.run(text, "apply")
    tree.run(text, "undo")
    assert "nothing to take back" in tree.run(text, "undo")
    assert tree.calls() == [f"systemctl {call} {UNIT.unit}" for call in calls]


@needs_tree
def test_a_file_that_somebody_else_wrote_is_kept_and_given_the_lines(tree: Tree) -> None:
    path = "etc/modprobe.d/kgpuctl-nouveau.conf"
    tree.write(path, "# mine\noptions nouveau modeset=0")

    after = there_and_back(tree, script(NOUVEAU), path)

    assert after == "# mine\noptions nouveau modeset=0\nblacklist nouveau\n"


@needs_tree
def test_what_was_changed_since_is_not_taken_back(tree: Tree) -> None:
    text = script(ON, NOUVEAU)
    tree.write(GRUB, f'{D}="quiet"\n')
    tree.run(text, "apply")
    for path in (GRUB, "etc/modprobe.d/kgpuctl-nouveau.conf"):
        tree.write(path, tree.read(path) + "# mine\n")
    before = tree.files()

    said = tree.run(text, "undo", code=1)

    assert said.count("was changed since and is left as it is") == 2
    assert tree.files() == before


@needs_tree
def test_a_second_script_does_not_overwrite_the_first_ones_backup(tree: Tree) -> None:
    tree.write(GRUB, f'{D}="quiet"\n')
    before = tree.files()
    tree.run(script(ON), "apply")
    tree.run(script(KernelArguments(add=("b=2",))), "apply")
    assert tree.read(GRUB) == f'{D}="quiet intel_iommu=on b=2"\n'

    tree.run(script(ON), "undo")

    assert tree.files() == before


@needs_tree
def test_an_edit_between_two_scripts_is_not_lost_by_undo(tree: Tree) -> None:
    tree.write(GRUB, f'{D}="quiet"\n')
    tree.run(script(ON), "apply")
    tree.write(GRUB, tree.read(GRUB) + "MINE=1\n")
    second = script(KernelArguments(add=("b=2",)))
    tree.run(second, "apply")

    assert "was changed since" in tree.run(second, "undo", code=1)
    assert "MINE=1" in tree.read(GRUB)


@needs_tree
def test_an_update_that_failed_is_made_good_by_the_next_run(tree: Tree) -> None:
    tree.write(GRUB, f'{D}="quiet"\n')
    tree.stub("update-grub", "exit 1")
    assert "This failed: update-grub." in tree.run(script(ON, VFIO), "apply", code=1)
    tree.stub("update-grub", "")
    tree.calls()

    tree.run(script(ON, VFIO), "apply")

    assert tree.calls() == ["update-grub ", "modprobe -a vfio-pci vfio_iommu_type1"]


@needs_tree
def test_a_file_without_its_backup_is_not_removed(tree: Tree) -> None:
    tree.write(GRUB, f'{D}="quiet"\n')
    tree.run(script(ON), "apply")
    (tree.root / f"{GRUB}.kgpuctl-backup").unlink()

    assert "has no backup any more" in tree.run(script(ON), "undo", code=1)
    assert (tree.root / GRUB).exists()


@needs_tree
def test_a_module_that_does_not_load_stops_before_its_file_is_written(tree: Tree) -> None:
    tree.stub("modprobe", "exit 1")

    assert "This failed: modprobe -a vfio-pci" in tree.run(script(VFIO), "apply", code=1)
    assert not (tree.root / "etc/modules-load.d").exists()


@needs_tree
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_a_files_owner_stays(bases: Mapping[str, Path], tmp_path: Path) -> None:
    tree = _grow(bases["busybox"], tmp_path / "root", "busybox")
    os.chown(tree.write(GRUB, f'{D}="quiet"\n'), 7, 8)
    tree.write("fix.sh", script(ON))
    for verb in ("apply", "undo"):
        subprocess.run(
            ["chroot", str(tree.root), "/bin/busybox", "sh", "/fix.sh", verb],
            env={"PATH": "/usr/sbin:/bin"},
            check=True,
            capture_output=True,
        )
        found = (tree.root / GRUB).stat()
        assert (found.st_uid, found.st_gid) == (7, 8)


@needs_tree
def test_without_root_only_the_plan_is_told(tree: Tree) -> None:
    text = script(ON).replace('"$(id -u)"', '"$(echo 1000)"')

    assert "apply does it" in tree.run(text)
    for verb in ("apply", "undo"):
        assert tree.run(text, verb, code=1) == "Only root can do this. Nothing was changed.\n"


@needs_tree
@pytest.mark.parametrize("words", [("yes",), ("apply", "now"), ("",), ("--help",)])
@pytest.mark.parametrize("fixes", [(), (ON,)])
def test_other_words_get_the_usage(
    tree: Tree, words: tuple[str, ...], fixes: tuple[Fix, ...]
) -> None:
    assert tree.run(script(*fixes), *words, code=2) == "usage: sh /fix.sh [apply | undo]\n"


@needs_tree
@pytest.mark.parametrize("words", [(), ("apply",), ("undo",)])
def test_a_report_without_fixes_only_lists_what_is_to_do(
    tree: Tree, words: tuple[str, ...]
) -> None:
    text = fix_script.dumps(report(Remedy("Enable it.\nThen boot.")), on(Boot.UPDATE_GRUB))

    said = tree.run(text, *words)

    assert "There is nothing that a script can do on gpu-1" in said
    assert "\n- area.check-1: Enable it. Then boot.\n" in said
    assert "# - area.check-1: Enable it. Then boot.\n" in text


@needs_tree
@pytest.mark.parametrize("boot", [Boot.TALOS, Boot.BOTTLEROCKET, Boot.UNKNOWN])
def test_a_boot_loader_without_a_command_is_done_by_hand(tree: Tree, boot: Boot) -> None:
    said = tree.run(script(ON, boot=boot, family=Family.OTHER))

    assert "nothing that a script can do" in said
    assert "- area.check-1: Do 0" in said


@pytest.mark.parametrize("family", [Family.TALOS, Family.BOTTLEROCKET])
def test_an_image_is_not_changed_from_inside(family: Family) -> None:
    text = script(*ALL, boot=Boot.TALOS, family=family)

    assert text.count("# - area.check-") == 4
    assert "modprobe" not in text


@pytest.mark.parametrize(
    ("family", "boot", "command"),
    [
        (Family.DEBIAN, Boot.UPDATE_GRUB, "finish initramfs update-initramfs -u -k all"),
        (Family.RHEL, Boot.GRUBBY, "finish initramfs dracut --force --regenerate-all"),
        (
            Family.SUSE,
            Boot.TRANSACTIONAL,
            "finish initramfs transactional-update --continue initrd",
        ),
        (Family.OSTREE, Boot.RPM_OSTREE, None),
        (Family.OTHER, Boot.UNKNOWN, None),
    ],
)
def test_the_initramfs_is_rebuilt_as_the_family_does_it(
    family: Family, boot: Boot, command: str | None
) -> None:
    text = script(NOUVEAU, boot=boot, family=family)

    assert re.findall(r"^    (finish initramfs .*)$", text, re.MULTILINE) == (
        [command, command] if command else []
    )
    assert ("only a part" in text) == (family is Family.OTHER)


def test_only_problems_are_mended() -> None:
    results = tuple(
        Result(f"x.{status}", "T", status, remedy=Remedy(str(status), (StopUnit(f"{status}.x"),)))
        for status in Status
    )
    waived = Result("x.w", "T", Status.FAILED, remedy=Remedy("w", (StopUnit("w.x"),)), waived=True)

    text = fix_script.dumps(_report((*results, waived)), on(Boot.UPDATE_GRUB))

    assert re.findall(r"^    stop_unit (\S+)$", text, re.MULTILINE) == [
        "warned.x",
        "unknown.x",
        "failed.x",
    ]


def test_a_step_tells_who_asks_for_it() -> None:
    text = script(ON, SWAP, NOUVEAU)

    assert text.count("    kernel_file ") == 1
    assert "    #    area.check-1: Do 0, with `sudo it`.\n    #    area.check-2: Do 1" in text
    assert "(needs a reboot), for area.check-1, area.check-2\n" in text.replace("\n     ", " ")


def test_a_script_holds_no_function_that_it_does_not_need() -> None:
    functions = re.findall(r"^(\w+)\(\) \{", script(UNIT), re.MULTILINE)

    assert functions == [
        *("plan", "apply", "undo", "say", "give_up", "is_so", "run_it"),
        *("stop_unit", "restore_unit", "needs_root", "conclude"),
    ]


COMBINATIONS: Final[tuple[tuple[Fix, ...], ...]] = ((), (ON,), (NOUVEAU,), (VFIO,), (UNIT,), ALL)


@pytest.mark.parametrize("boot", Boot)
def test_every_script_is_clean_under_shellcheck(boot: Boot, tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    families = {Boot.UPDATE_GRUB: tuple(Family), Boot.UNKNOWN: (Family.OTHER,)}.get(boot, ())
    made = {script(*ALL, boot=boot, family=family) for family in (Family.DEBIAN, *families)}
    if boot in {Boot.UPDATE_GRUB, Boot.GRUBBY}:
        made |= {script(*fixes, boot=boot) for fixes in COMBINATIONS}
    files = [str(tmp_path / f"{number}.sh") for number in range(len(made))]
    for file, text in zip(files, made, strict=True):
        Path(file).write_text(text)
    done = subprocess.run(
        ["shellcheck", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("shell", ["sh -n", "dash -n", "busybox sh -n", "bash --posix -n"])
def test_every_shell_can_read_every_script(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell.partition(" ")[0]) is None:
        pytest.skip(f"{shell} is not installed")
    seen: set[str] = set()
    for boot in Boot:
        for family in Family:
            for fixes in COMBINATIONS:
                text = script(*fixes, boot=boot, family=family)
                if text not in seen and len(seen) < 60:
                    seen.add(text)
                    (tmp_path / "fix.sh").write_text(text)
                    subprocess.run([*shell.split(), str(tmp_path / "fix.sh")], check=True)


HOSTILE: Final = st.lists(
    st.sampled_from(
        [
            *("$(touch /canary)", "`touch /canary`", "\n", "\ntouch /canary\n", "; touch /canary;"),
            *("'", '"', "\\", "END\n", "\nEND\n", "\r", "\x1b[31m", "\x00", "\u2028", "\u202e"),
            *("# ", "}", "*", "a", "../", "-", " ", "\udcff", "é", "&& touch /canary", "${IFS}"),
        ]
    )
    | st.text(max_size=5),
    max_size=6,
).map("".join)


@pytest.fixture(scope="session")
def hostile_tree(bases: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Tree:
    tree = _grow(bases["dash"], tmp_path_factory.mktemp("hostile") / "root", "dash")
    tree.write(GRUB, f'{D}="quiet"\n')
    return tree


@needs_tree
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(HOSTILE, min_size=7, max_size=7), st.sampled_from(Boot), st.sampled_from(Family))
def test_nothing_of_a_report_is_ever_obeyed(
    hostile_tree: Tree, words: list[str], boot: Boot, family: Family
) -> None:
    text, id_, word, name, line, unit, host = words
    fixes: tuple[Fix, ...] = (
        *(KernelArguments((word,), (line,)), ModuleConfig(name, (line,)), StopUnit(unit)),
        *(LoadModules((name,)), LoadModules((word, name)), LoadModules(()), KernelArguments()),
    )
    results = tuple(
        Result(id_, "T", Status.FAILED, remedy=Remedy(f"{text}{number}", (fix,)))
        for number, fix in enumerate(fixes)
    )
    made = fix_script.dumps(_report(results, host), Distribution(id_, text, "", family, boot))

    assert not re.search(r"[^\n -~\u00a0-\U0010ffff]", made.encode().decode())
    assert made == fix_script.dumps(
        _report(results, host), Distribution(id_, text, "", family, boot)
    )
    hostile_tree.run(made)
    for verb in ("apply", "undo"):
        hostile_tree.run(made, verb, code=None)
    assert not (hostile_tree.root / "canary").exists()
    assert hostile_tree.read(GRUB) == f'{D}="quiet"\n'
