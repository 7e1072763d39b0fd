"""Files that a user asked for are written as a whole or not at all."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz.limits import LIMITED, NOBODY, environment
from kgpuctl.errors import KgpuctlError, StepError, UsageError
from kgpuctl.output import refuse_existing, write_output

IS_ROOT = os.geteuid() == 0


def test_a_file_is_written_with_its_mode(tmp_path: Path) -> None:
    write_output(tmp_path / "file", b"content", mode=0o640)

    assert (tmp_path / "file").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_file_is_replaced_and_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "other").hardlink_to(tmp_path / "file")

    write_output(tmp_path / "file", b"new", mode=0o600)

    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "other").read_bytes() == b"old"


def test_nothing_else_is_left_beside_it(tmp_path: Path) -> None:
    write_output(tmp_path / "file", b"x" * 100_000, mode=0o600)

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "\udcff", "new\nline", "-v", " "])
def test_any_name_that_the_file_system_takes_is_taken(tmp_path: Path, name: str) -> None:
    refuse_existing(tmp_path / name, force=False)
    write_output(tmp_path / name, b"content", mode=0o600)

    assert (tmp_path / name).read_bytes() == b"content"


@pytest.mark.parametrize(
    ("make", "name"),
    [
        pytest.param(lambda _: None, "missing/file", id="missing directory"),
        pytest.param(lambda path: path.mkdir(), "place", id="directory"),
        pytest.param(lambda path: path.write_text(""), "place/file", id="file as directory"),
        pytest.param(lambda _: None, "a" * 256, id="long name"),
    ],
)
def test_what_cannot_be_written_is_a_failed_step(
    tmp_path: Path, make: Callable[[Path], object], name: str
) -> None:
    make(tmp_path / "place")
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(StepError) as failed:
        write_output(tmp_path / name, b"content", mode=0o600)

    assert failed.value.remedy
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("make", "name"),
    [
        pytest.param(lambda _: None, "missing/file", id="missing directory"),
        pytest.param(lambda path: path.mkdir(), "place", id="directory"),
        pytest.param(lambda path: path.write_text(""), "place", id="file"),
        pytest.param(lambda path: path.write_text(""), "place/file", id="file as directory"),
        pytest.param(lambda path: path.symlink_to("nowhere"), "place", id="dangling link"),
        pytest.param(lambda path: path.symlink_to(path), "place", id="loop"),
        pytest.param(os.mkfifo, "place", id="fifo"),
    ],
)
def test_what_is_there_already_is_refused(
    tmp_path: Path, make: Callable[[Path], object], name: str
) -> None:
    make(tmp_path / "place")

    with pytest.raises(UsageError) as refused:
        refuse_existing(tmp_path / name, force=False)

    assert refused.value.remedy.endswith(".")
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full", "/dev/zero"])
def test_a_device_is_refused_even_when_forced(device: str) -> None:
    with pytest.raises(UsageError):
        refuse_existing(Path(device), force=True)


@pytest.mark.parametrize("name", ["", ".", "..", "/"])
def test_what_names_a_directory_is_refused_even_when_forced(name: str) -> None:
    with pytest.raises(UsageError):
        refuse_existing(Path(name), force=True)


def test_a_file_is_not_refused_when_forced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    refuse_existing(tmp_path / "file", force=True)


def test_a_new_file_is_not_refused(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "file", force=False)


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 3000])
def test_a_name_that_no_kernel_takes_is_an_error_of_ours(tmp_path: Path, name: str) -> None:
    with pytest.raises(KgpuctlError):
        write_output(tmp_path / name, b"", mode=0o600)


def test_a_link_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    """/dev/stdout is a link, and may lead to a file: it must stay what it is."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_text("old")
    (tmp_path / "link").symlink_to("elsewhere/file")
    try:
        refuse_existing(tmp_path / "link", force=True)
        write_output(tmp_path / "link", b"new", mode=0o600)
    except UsageError:
        assert (tmp_path / "link").read_text() == "old"  # refusing is fine too
    else:
        assert (tmp_path / "link").read_text() == "new"

    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["elsewhere", "file", "link"]


# All of Python that is needed later: neither nobody nor a limit may keep it from being read.
FIRST = "import kgpuctl.output, os, pathlib, random, tempfile\n"
WRITE = """\
from pathlib import Path
from kgpuctl.errors import KgpuctlError
from kgpuctl.output import refuse_existing, write_output
try:
    refuse_existing(Path(sys.argv[1]), force=True)
    write_output(Path(sys.argv[1]), b"x" * 100_000, mode=0o600)
except KgpuctlError as error:
    print(type(error).__name__)
"""


def written_by_another(path: Path, limits: str = "", before: str = "") -> str:
    """Write a file in a process of its own; return the error that came of it."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST + LIMITED + before + WRITE, limits, str(path)],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    return done.stdout.strip()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    assert written_by_another(tmp_path / "file", "RLIMIT_FSIZE=50000") == "StepError"
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_another_open_file_is_a_failed_step(tmp_path: Path) -> None:
    assert written_by_another(tmp_path / "file", "RLIMIT_NOFILE=3") == "StepError"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")
@pytest.mark.parametrize("mode", [0o700, 0o711, 0o755])
def test_a_directory_without_permission_is_an_error_of_ours(tmp_path: Path, mode: int) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)
    place = tmp_path / "place"
    place.mkdir(mode=mode)

    assert written_by_another(place / "file", before=NOBODY) in {"StepError", "UsageError"}
    assert list(place.iterdir()) == []


INTERRUPTED = """\
import os, signal
from pathlib import Path
from kgpuctl.output import write_output
def stop(descriptor):
    os.kill(os.getpid(), signal.SIGINT)
os.fsync = stop
write_output(Path(sys.argv[1]), b"content", mode=0o600)
"""


def test_an_interrupt_in_the_middle_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED + INTERRUPTED, "", str(tmp_path / "file")],
        capture_output=True,
        env=environment(),
        check=False,
    )

    assert done.returncode == -signal.SIGINT
    assert list(tmp_path.iterdir()) == []
