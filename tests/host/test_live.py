"""What only a running system answers, asked of this one."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from builders import open_tree
from fuzz.bounded import bounded
from kgpuctl.host.facts import Holder, KvmProbe
from kgpuctl.host.live import answer, read_holders, read_kvm, read_space
from kgpuctl.host.tree import DirectoryTree, Tree
from kgpuctl.unread import Fact, Reason, Unread
from running import SRC

IS_ROOT = os.geteuid() == 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A Tree of which only questions are asked."""

    answers: dict[str, Fact[str | None]] = field(default_factory=dict)

    def ask(self, question: str) -> Fact[str | None]:
        """Return the prepared answer."""
        return self.answers.get(question)


def asked(**answers: Fact[str | None]) -> Tree:
    """Return a Tree with these answers."""
    return Asked(dict(answers))  # type: ignore[return-value]  # nothing else is asked of it


def live() -> DirectoryTree:
    """Return this machine."""
    return DirectoryTree.open("/", answer)


def test_root_is_told_from_others() -> None:
    assert answer("root") == ("yes" if IS_ROOT else "no")


# KVM


def test_kvm_answers_in_one_line_that_is_understood() -> None:
    told = answer("kvm")

    if isinstance(told, Unread):
        assert told.reason is Reason.NOT_PERMITTED
        return
    assert told is not None
    assert re.fullmatch(r"api=(-|\d+) vm=(yes|no) error=[A-Z]*", told)
    assert isinstance(read_kvm(live()), KvmProbe)


@pytest.mark.parametrize(
    ("told", "probe"),
    [
        ("api=12 vm=yes error=", KvmProbe(12, vm_created=True)),
        ("api=12 vm=no error=EBUSY", KvmProbe(12, vm_created=False, error="EBUSY")),
        ("api=- vm=no error=ENODEV", KvmProbe(None, vm_created=False, error="ENODEV")),
    ],
)
def test_an_answer_of_kvm_is_read(told: str, probe: KvmProbe) -> None:
    assert read_kvm(asked(kvm=told)) == probe


@pytest.mark.parametrize(
    "told", ["", "yes", "api=12", "api=12 vm=maybe error=", "api=x vm=yes error=", "api=12 vm=yes"]
)
def test_what_is_no_answer_of_kvm_is_unusable(told: str) -> None:
    fact = read_kvm(asked(kvm=told))

    assert isinstance(fact, Unread)
    assert fact.reason is Reason.UNUSABLE


# Who holds a device

HOLD = """\
import sys
file = open(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""
IN_A_NAMESPACE = """\
import os, subprocess, sys
run = lambda *words: subprocess.run(words, check=True)
run("mount", "-t", "tmpfs", "none", "/dev")
os.mkdir("/dev/vfio")
for name in ("nvidia0", "vfio/7", "other", "null"):
    open(f"/dev/{name}", "w").close()
children = []
for name, words in (
    ("nvidia0", []),
    ("vfio/7", ["-name", "sandbox-abc,debug-threads=on"]),
    ("other", []),
):
    child = subprocess.Popen(
        [sys.executable, "-c", sys.argv[1], f"/dev/{name}", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )
    assert child.stdout.readline() == b"held\\n"
    children.append(child)
if "with a shim" in sys.argv:
    shim = subprocess.Popen(
        ["/bin/containerd-shim-kata-v2", "-c", "import sys; sys.stdin.read()", "-id", "abc"],
        executable=sys.executable, stdin=subprocess.PIPE,
    )
    while b"-id" not in open(f"/proc/{shim.pid}/cmdline", "rb").read():
        pass
    children.append(shim)
from kgpuctl.host.live import answer
print(answer("holders"))
print(" ".join(str(child.pid) for child in children))
for child in children:
    child.stdin.close()
    child.wait()
"""


def can_unshare() -> bool:
    """Say whether this process may have mounts of its own."""
    try:
        words = ["unshare", "--mount", "--propagation", "private", "true"]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


needs_mounts = pytest.mark.skipif(not can_unshare(), reason="it may not have mounts of its own")


def holders_in_a_namespace(*words: str) -> tuple[list[str], list[str]]:
    """Hold devices in a namespace of mounts; return the answer's lines, and the pids."""
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", sys.executable),
            *("-c", IN_A_NAMESPACE, HOLD, *words),
        ],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, pids = done.stdout.splitlines()
    return lines, pids.split()


@needs_mounts
def test_whoever_holds_a_device_is_found_and_nobody_else() -> None:
    lines, pids = holders_in_a_namespace()

    assert lines[0].split("\t")[0] in {"complete", "partial"}
    found = [line.split("\t") for line in lines[1:]]
    assert [(pid, path, kata) for pid, _, path, kata in found] == [
        (pids[0], "/dev/nvidia0", "-"),
        (pids[1], "/dev/vfio/7", "-"),
    ]
    assert all(command.startswith("python") for _, command, _, _ in found)


@needs_mounts
def test_a_vm_whose_shim_lives_is_in_use_and_not_lost() -> None:
    lines, pids = holders_in_a_namespace("with a shim")

    assert [line.split("\t")[3] for line in lines[1:]] == ["-", "kata"]
    assert lines[2].startswith(f"{pids[1]}\t")


def test_this_machine_says_who_holds_its_gpus() -> None:
    found = read_holders(live())

    assert isinstance(found, tuple | Unread)


def test_holders_are_read() -> None:
    told = "complete\n12\tqemu-system-x86\t/dev/vfio/1\tkata\n7\tnv hostengine\t/dev/nvidia0\t-"

    assert read_holders(asked(holders=told)) == (
        Holder(12, "qemu-system-x86", "/dev/vfio/1", kata=True),
        Holder(7, "nv hostengine", "/dev/nvidia0"),
    )


@pytest.mark.parametrize("told", ["complete", "nothing"])
def test_nobody_is_nobody_where_all_was_seen(told: str) -> None:
    assert read_holders(asked(holders=told)) == ()


@pytest.mark.parametrize(
    ("root", "reason"), [("no", Reason.NOT_PERMITTED), ("yes", Reason.UNUSABLE)]
)
def test_nobody_is_not_known_where_only_some_were_seen(root: str, reason: Reason) -> None:
    fact = read_holders(asked(holders="partial\tsshd (pid 1)", root=root))

    assert isinstance(fact, Unread)
    assert fact.reason is reason


def test_whoever_was_found_counts_even_where_only_some_were_seen() -> None:
    told = "partial\tsshd (pid 1)\n7\tx\t/dev/nvidia0\t-"

    assert read_holders(asked(holders=told)) == (Holder(7, "x", "/dev/nvidia0"),)


@pytest.mark.parametrize(
    "told",
    [
        *("", "x", "complete\n", "complete\n1\t2", "complete\nx\tq\t/dev/vfio/1\t-"),
        *("complete\n1\tq\t/etc/passwd\t-", "complete\n1\tq\t/dev/vfio/1\tmaybe"),
        "complete\n\n",
    ],
)
def test_what_is_no_answer_about_holders_is_unusable(told: str) -> None:
    fact = read_holders(asked(holders=told))

    assert isinstance(fact, Unread)
    assert fact.reason is Reason.UNUSABLE


# Versions


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return a program that can be written and run."""
    file = tmp_path / "program"
    file.write_text("#!/bin/sh\necho program v1.2.3\n")
    file.chmod(0o755)
    return file


needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root owns what is run")


@needs_root
def test_a_program_of_root_tells_its_version(program: Path) -> None:
    assert answer(f"version {program}") == "program v1.2.3"


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_program_that_others_may_change_is_not_run(program: Path, mode: int) -> None:
    ran = program.parent / "ran"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(mode)

    told = answer(f"version {program}")

    assert isinstance(told, Unread)
    assert told.reason is Reason.NOT_OFFERED
    assert not ran.exists()


@needs_root
def test_a_program_of_somebody_else_is_not_run(program: Path) -> None:
    os.chown(program, 65534, 65534)

    assert isinstance(answer(f"version {program}"), Unread)


def test_a_program_that_is_not_there_is_absent(tmp_path: Path) -> None:
    assert answer(f"version {tmp_path / 'nothing'}") is None
    (tmp_path / "link").symlink_to("nowhere")
    assert answer(f"version {tmp_path / 'link'}") is None


@needs_root
@pytest.mark.parametrize(
    "script",
    [
        pytest.param("", id="no program at all"),
        pytest.param("#!/no/such/interpreter\n", id="no interpreter"),
        pytest.param("#!/bin/sh\nexit 1\n", id="failure"),
        pytest.param("#!/bin/sh\nkill -9 $$\n", id="killed"),
        pytest.param("#!/bin/sh\necho v1.2.3 >&2\n", id="on stderr"),
        pytest.param("#!/bin/sh\nprintf '\\377\\376\\000\\033[2J'\n", id="bytes"),
        pytest.param("#!/bin/sh\nexec head -c 3000000 /dev/zero\n", id="3 MB"),
    ],
)
def test_a_program_that_tells_no_version_breaks_nothing(program: Path, script: str) -> None:
    program.write_text(script)

    with bounded():
        told = answer(f"version {program}")

    assert isinstance(told, Unread) or (told is not None and len(told) <= 1000)


@needs_root
def test_a_program_that_is_a_directory_breaks_nothing(tmp_path: Path) -> None:
    assert isinstance(answer(f"version {tmp_path}"), Unread)


@needs_root
def test_a_program_that_hangs_is_ended(program: Path) -> None:
    program.write_text("#!/bin/sh\nexec sleep 600\n")

    with bounded(60):
        told = answer(f"version {program}")

    assert isinstance(told, Unread)
    assert told.reason is Reason.NOT_OFFERED


@needs_root
def test_a_child_that_keeps_the_output_open_does_not_hold_us_up(program: Path) -> None:
    program.write_text("#!/bin/sh\nsleep 30 &\necho v1.2.3\n")

    with bounded(20):
        answer(f"version {program}")


@needs_root
def test_a_program_gets_nothing_of_our_environment(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD_X", "secret")
    program.write_text('#!/bin/sh\necho "v1.2.3 [$LD_PRELOAD_X] [$LC_ALL]"\n')

    assert answer(f"version {program}") == "v1.2.3 [] [C]"


# Space


def test_free_space_is_what_the_file_system_says(tmp_path: Path) -> None:
    told = answer(f"space {tmp_path}")

    assert isinstance(told, str)
    assert 0 <= int(told) <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize


def test_the_space_of_what_is_not_there_is_that_of_its_parent(tmp_path: Path) -> None:
    tree = asked(**{f"space {tmp_path}": "5"})

    assert answer(f"space {tmp_path / 'nothing'}") is None
    assert read_space(tree, str(tmp_path / "nothing/at/all")) == 5


@pytest.mark.parametrize("told", ["", "-5", "5 GiB", "1e9", "\u0665", "9" * 21, "5\n"])
def test_what_is_no_space_is_unusable(told: str) -> None:
    fact = read_space(asked(**{"space /opt": told}), "/opt")

    assert isinstance(fact, Unread)
    assert fact.reason is Reason.UNUSABLE


def test_no_answer_anywhere_was_not_recorded() -> None:
    fact = read_space(asked(), "/opt/a/b")

    assert isinstance(fact, Unread)
    assert fact.reason is Reason.NOT_RECORDED


def test_a_directory_tree_is_asked_nothing(tmp_path: Path) -> None:
    tree = open_tree(tmp_path)

    for question in ("root", "kvm", "holders", "version /bin/sh", "space /"):
        told = tree.ask(question)
        assert isinstance(told, Unread)
        assert told.reason is Reason.NOT_OFFERED
