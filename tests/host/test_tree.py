"""Reading below a root directory: nothing outside is read, nothing hangs, nothing is guessed."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import open_tree
from fuzz.bounded import bounded
from kgpuctl.errors import KgpuctlError, UnreachableError, UsageError
from kgpuctl.host.facts import Node
from kgpuctl.host.live import answer
from kgpuctl.host.tree import MAX_FILE, DirectoryTree
from kgpuctl.unread import Reason, Unread
from running import SRC

SECRET = b"outside of the root\n"
OS_RELEASE = "/etc/os-release"
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root directory with a file in it, and a secret beside it."""
    folder = tmp_path / "root"
    for name in ("etc", "usr/bin", "var/lib", "run", "opt"):
        (folder / name).mkdir(parents=True)
    (folder / "etc/os-release").write_text("ID=debian\n")
    (tmp_path / "secret").write_bytes(SECRET)
    return folder


def link(root: Path, target: str, name: str = "etc/link") -> str:
    """Make a link in the root directory; return its path there."""
    (root / name).symlink_to(target)
    return f"/{name}"


def listed(fact: object) -> tuple[str, ...]:
    """Return the names in a directory, none where it was not read."""
    return fact if isinstance(fact, tuple) else ()


def reason(fact: object) -> Reason | None:
    """Return why a fact is not known."""
    return fact.reason if isinstance(fact, Unread) else None


# Containment


def test_an_absolute_link_starts_again_at_the_root(root: Path) -> None:
    assert open_tree(root).read(link(root, OS_RELEASE)) == b"ID=debian\n"


def test_a_relative_link_is_followed_inside(root: Path) -> None:
    assert open_tree(root).read(link(root, "../etc/../etc/./os-release")) == b"ID=debian\n"


def test_a_link_that_climbs_out_ends_at_the_root(root: Path) -> None:
    path = link(root, "../" * 60 + "etc/os-release")

    assert open_tree(root).read(path) == b"ID=debian\n"


@pytest.mark.parametrize("way", ["absolute", "relative", "through a directory", "in the middle"])
def test_a_link_to_the_outside_does_not_show_it(root: Path, way: str) -> None:
    secret = root.parent / "secret"
    match way:
        case "absolute":
            path = link(root, str(secret))
        case "relative":
            path = link(root, "../../secret")
        case "through a directory":
            path = link(root, str(root.parent)) + "/secret"
        case _:
            link(root, "../..", "etc/up")
            path = link(root, "up/secret")
    tree = open_tree(root)

    assert not isinstance(tree.read(path), bytes)
    assert not isinstance(tree.node(path), Node)


def test_names_behind_a_link_to_the_outside_are_not_listed(root: Path) -> None:
    path = link(root, str(root.parent))

    assert "secret" not in listed(open_tree(root).names(path))


def test_dots_in_a_path_that_the_host_names_do_not_climb_out(root: Path) -> None:
    tree = open_tree(root)

    assert not isinstance(tree.read("/opt/../../secret"), bytes)
    assert not isinstance(tree.read("/../secret"), bytes)
    assert "secret" not in listed(tree.names("/.."))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "etc/c", "opt/d"]),
            st.lists(
                st.sampled_from(["..", ".", "", "a", "b", "etc", "opt", "c", "d", "secret", "/"]),
                min_size=1,
                max_size=6,
            ),
        ),
        max_size=6,
    ),
    st.lists(
        st.sampled_from(["..", "a", "b", "c", "d", "etc", "opt", "secret", "."]),
        min_size=1,
        max_size=6,
    ),
)
def test_no_web_of_links_leads_outside(
    tmp_path_factory: pytest.TempPathFactory,
    links: list[tuple[str, list[str]]],
    words: list[str],
) -> None:
    place = tmp_path_factory.mktemp("web")
    (place / "secret").write_bytes(SECRET)
    root = place / "root"
    (root / "etc").mkdir(parents=True)
    (root / "opt").mkdir()
    for name, target in links:
        if not (root / name).is_symlink():
            (root / name).symlink_to("/".join(target) or ".")
    tree = open_tree(root)
    path = "/" + "/".join(words)

    assert tree.read(path) != SECRET
    assert "secret" not in listed(tree.names(path))
    assert not isinstance(tree.node(path), Node) or words[-1] != "secret"
    tree.link(path)


def test_a_link_is_told_as_it_is_written(root: Path) -> None:
    path = link(root, "../../../bus/pci/drivers/vfio-pci")

    assert open_tree(root).link(path) == "../../../bus/pci/drivers/vfio-pci"


@pytest.mark.parametrize("length", [1, 2, 39])
def test_a_chain_of_links_that_the_kernel_follows_is_followed(root: Path, length: int) -> None:
    for number in range(length):
        link(root, f"link{number + 1}", f"etc/link{number}")
    (root / f"etc/link{length}").write_text("end\n")

    assert open_tree(root).read("/etc/link0") == b"end\n"


@pytest.mark.parametrize("targets", [["link0"], ["link1", "link0"], ["/etc/./link0"]])
def test_a_loop_of_links_is_unusable(root: Path, targets: list[str]) -> None:
    for number, target in enumerate(targets):
        link(root, target, f"etc/link{number}")
    tree = open_tree(root)

    with bounded():
        for fact in (tree.read("/etc/link0"), tree.names("/etc/link0"), tree.node("/etc/link0")):
            assert reason(fact) is Reason.UNUSABLE
        assert reason(tree.read("/etc/link0/below")) is Reason.UNUSABLE


def test_links_that_double_at_each_step_do_not_take_long(root: Path) -> None:
    for number in range(60):
        link(root, f"a{number + 1}/../a{number + 1}", f"etc/a{number}")

    with bounded():
        assert not isinstance(open_tree(root).read("/etc/a0"), bytes)


# What is there instead of a file


@pytest.fixture
def fifo(root: Path) -> str:
    os.mkfifo(root / "etc/fifo")
    return "/etc/fifo"


def test_a_fifo_is_unusable_and_does_not_hang(root: Path, fifo: str) -> None:
    with bounded():
        assert reason(open_tree(root).read(fifo)) is Reason.UNUSABLE
        assert reason(open_tree(root).names(fifo)) is Reason.UNUSABLE
        assert open_tree(root).node(fifo) == Node(
            "fifo", stat.S_IMODE((root / "etc/fifo").stat().st_mode)
        )


def test_a_socket_is_unusable(root: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    directory = os.open(root / "etc", os.O_RDONLY)
    try:
        server.bind(f"/proc/self/fd/{directory}/socket")  # a socket's path may not be long
    finally:
        os.close(directory)
        server.close()
    tree = open_tree(root)

    assert reason(tree.read("/etc/socket")) is Reason.UNUSABLE
    node = tree.node("/etc/socket")
    assert isinstance(node, Node)
    assert node.kind == "socket"


@pytest.mark.skipif(not IS_ROOT, reason="only root may make device files")
def test_a_device_is_unusable_and_is_not_read(root: Path) -> None:
    try:
        os.mknod(root / "etc/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("device files cannot be made here")
    tree = open_tree(root)

    with bounded():
        assert reason(tree.read("/etc/zero")) is Reason.UNUSABLE
    assert tree.node("/etc/zero") == Node("char", stat.S_IMODE((root / "etc/zero").stat().st_mode))


def test_a_directory_in_place_of_a_file_is_unusable(root: Path) -> None:
    (root / "etc/file").mkdir()

    assert reason(open_tree(root).read("/etc/file")) is Reason.UNUSABLE


def test_a_file_in_place_of_a_directory_is_unusable(root: Path) -> None:
    tree = open_tree(root)

    assert reason(tree.names(OS_RELEASE)) is Reason.UNUSABLE
    assert reason(tree.read(f"{OS_RELEASE}/below")) is Reason.UNUSABLE
    assert reason(tree.node(f"{OS_RELEASE}/below")) is Reason.UNUSABLE


def test_a_file_is_no_link(root: Path) -> None:
    assert reason(open_tree(root).link(OS_RELEASE)) is Reason.UNUSABLE


@pytest.mark.parametrize("size", [MAX_FILE + 1, 100 * 2**20, 2**40])
def test_a_file_that_is_too_large_is_unusable(root: Path, size: int) -> None:
    with (root / "etc/large").open("wb") as file:
        file.truncate(size)

    with bounded():
        fact = open_tree(root).read("/etc/large")

    assert isinstance(fact, Unread)
    assert fact.reason is Reason.UNUSABLE
    assert "larger than" in fact.detail


def test_a_file_of_just_the_right_size_is_read(root: Path) -> None:
    with (root / "etc/large").open("wb") as file:
        file.truncate(MAX_FILE)

    content = open_tree(root).read("/etc/large")

    assert isinstance(content, bytes)
    assert len(content) == MAX_FILE


# Names


def test_names_that_are_not_utf8_are_listed_and_can_be_asked_for(root: Path) -> None:
    name = os.fsdecode(b"caf\xe9.conf")
    (root / "etc" / name).write_text("x")
    tree = open_tree(root)

    assert name in listed(tree.names("/etc"))
    assert tree.read(f"/etc/{name}") == b"x"


@pytest.mark.parametrize(
    "path", ["/etc/a\0b", "/etc/" + "a" * 300, "/etc/" + "a/" * 3000, "/\udc00"]
)
def test_paths_that_no_kernel_takes_are_answered_all_the_same(root: Path, path: str) -> None:
    tree = open_tree(root)

    for fact in (tree.read(path), tree.names(path), tree.link(path), tree.node(path)):
        assert fact is None or isinstance(fact, Unread)


# Absent, or not recorded


def test_what_is_not_there_counts_as_absent_where_its_surroundings_are(root: Path) -> None:
    tree = open_tree(root)

    assert tree.read("/etc/nothing") is None
    assert tree.names("/opt/nothing") is None
    assert tree.node("/usr/bin/nvidia-smi") is None


@pytest.mark.parametrize(
    "path",
    ["/proc/cpuinfo", "/sys/kernel/iommu_groups", "/dev/kvm", "/elsewhere"],
)
def test_what_is_not_there_was_not_recorded_where_nothing_around_it_is(
    root: Path, path: str
) -> None:
    tree = open_tree(root)

    for fact in (tree.read(path), tree.names(path), tree.link(path), tree.node(path)):
        assert reason(fact) is Reason.NOT_RECORDED


def test_a_link_that_leads_nowhere_is_absent(root: Path) -> None:
    assert open_tree(root).read(link(root, "nowhere")) is None


def test_a_directory_tree_answers_no_question_about_a_running_system(root: Path) -> None:
    assert reason(open_tree(root).ask("kvm")) is Reason.NOT_OFFERED


# The root directory itself


@pytest.mark.parametrize(
    ("make", "error"),
    [
        pytest.param(lambda _: None, UsageError, id="nothing"),
        pytest.param(lambda path: path.write_text(""), UsageError, id="file"),
        pytest.param(lambda path: path.symlink_to("nowhere"), UsageError, id="dangling link"),
        pytest.param(lambda path: path.symlink_to(path), UnreachableError, id="loop"),
        pytest.param(os.mkfifo, UsageError, id="fifo"),
    ],
)
def test_what_is_no_directory_is_refused(
    tmp_path: Path, make: Callable[[Path], object], error: type[KgpuctlError]
) -> None:
    make(tmp_path / "root")

    with pytest.raises(error) as refused, bounded():
        DirectoryTree.open(str(tmp_path / "root"), answer)

    assert refused.value.remedy


def test_a_link_to_a_directory_is_a_root(root: Path) -> None:
    (root.parent / "other").symlink_to("root")

    assert open_tree(root.parent / "other").read(OS_RELEASE) == b"ID=debian\n"


def test_an_empty_directory_is_a_root_of_which_nothing_was_recorded(tmp_path: Path) -> None:
    assert reason(open_tree(tmp_path).read("/proc/cpuinfo")) is Reason.NOT_RECORDED


# Permissions, as a user who is not root

AS_NOBODY = """\
import os, sys
from kgpuctl.errors import UnreachableError
from kgpuctl.host.tree import DirectoryTree
root, *paths = sys.argv[1:]
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    tree = DirectoryTree.open(root, str)
    for path in paths:
        print(getattr(tree.read(path), "reason", "read"))
        print(getattr(tree.names(path), "reason", "read"))
        print(getattr(tree.node(path), "reason", "read"))
except UnreachableError as error:
    print("unreachable:", error)
"""


def as_nobody(root: Path, *paths: str) -> list[str]:
    """Read paths as a user who owns nothing; return what came of it, a line each."""
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(root), *paths],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")


@pytest.fixture
def shared(root: Path) -> Path:
    """Return the root directory, which every user may reach."""
    for folder in (root, *root.parents[:4]):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & stat.S_ISVTX:
            folder.chmod(folder.stat().st_mode | 0o055)
    return root


@needs_root
def test_a_file_without_permission_says_so(shared: Path) -> None:
    (shared / OS_RELEASE[1:]).chmod(0o600)

    assert as_nobody(shared, OS_RELEASE) == ["permission denied", "not usable", "read"]


@needs_root
def test_a_directory_without_permission_says_so(shared: Path) -> None:
    (shared / "etc").chmod(0o700)

    assert as_nobody(shared, "/etc/containerd/config.toml") == ["permission denied"] * 3


@needs_root
def test_a_root_without_permission_is_unreachable(shared: Path) -> None:
    shared.chmod(0o700)

    (line,) = as_nobody(shared, OS_RELEASE)

    assert line.startswith("unreachable:")
