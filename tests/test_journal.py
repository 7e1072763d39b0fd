"""The journal: private, whole, and never written where somebody else decides."""

import json
import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kgpuctl.errors import StepError
from kgpuctl.journal import Entry, Journal, Run, Told

RUN = Run("label-nodes", "night", "prod", "https://10.0.0.1:6443", "alice", "alice@ws:1-ab")
ENTRY = Entry("step.label-node", "node/gpu-1", Told.BEGUN, {"a": None}, {"a": "x"})


def opened(home: Path, **environment: str) -> Journal:
    return Journal.open(environment, home, RUN)


def lines(journal: Journal) -> list[dict[str, object]]:
    return [json.loads(line) for line in journal.path.read_text().splitlines()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_line_says_who_did_what_to_which_object_and_how_it_was(tmp_path: Path) -> None:
    journal = opened(tmp_path)

    journal.write([ENTRY, ENTRY._replace(result=Told.DONE, message="é\n\x1b[31m")])
    journal.close()

    first, second = lines(journal)
    assert first.pop("time")
    assert first == {
        "command": "label-nodes",
        "context": "night",
        "cluster": "prod",
        "server": "https://10.0.0.1:6443",
        "user": "alice",
        "by": "alice@ws:1-ab",
        "step": "step.label-node",
        "object": "node/gpu-1",
        "result": "begun",
        "before": {"a": None},
        "after": {"a": "x"},
        "message": "",
    }
    assert second["message"] == "é\n\x1b[31m"
    assert journal.path.read_bytes().isascii()
    assert journal.path.read_bytes().count(b"\n") == 2


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        journal = opened(tmp_path)
    finally:
        os.umask(before)

    assert mode(journal.path) == 0o600
    assert mode(journal.path.parent) == 0o700
    assert mode(journal.path.parent.parent) == 0o700
    assert journal.path.parent == tmp_path / ".local/state/kgpuctl/journal"


def test_a_directory_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    place = tmp_path / ".local/state/kgpuctl/journal"
    place.mkdir(parents=True)
    place.chmod(0o777)

    opened(tmp_path)

    assert mode(place) == 0o700


def test_each_run_has_a_file_of_its_own(tmp_path: Path) -> None:
    paths = {opened(tmp_path).path for _ in range(5)}

    assert len(paths) == 5
    assert all(path.name.endswith(".jsonl") and "-label-nodes-" in path.name for path in paths)


@pytest.mark.parametrize(("named", "used"), [("{}/elsewhere", True), ("relative", False)])
def test_the_state_directory_may_be_named_absolutely(
    tmp_path: Path, named: str, *, used: bool
) -> None:
    journal = opened(tmp_path, XDG_STATE_HOME=named.format(tmp_path))

    assert journal.path.is_relative_to(tmp_path / ("elsewhere" if used else ".local/state"))


def test_a_link_in_our_own_place_is_not_followed(tmp_path: Path) -> None:
    state = tmp_path / ".local/state"
    state.mkdir(parents=True)
    (tmp_path / "target").mkdir()
    (state / "kgpuctl").symlink_to(tmp_path / "target")

    with pytest.raises(StepError, match="No journal can be written to"):
        opened(tmp_path)
    assert list((tmp_path / "target").iterdir()) == []


def test_a_link_above_is_the_users_own_and_followed(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local/state").symlink_to(tmp_path / "big")

    assert opened(tmp_path).path.resolve().is_relative_to(tmp_path / "big")


def test_a_place_that_is_a_file_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    (tmp_path / ".local").write_text("")

    with pytest.raises(StepError) as caught:
        opened(tmp_path)
    assert caught.value.exit_code == 5
    assert caught.value.message.endswith("Nothing was changed.")
    assert "XDG_STATE_HOME" in caught.value.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(StepError, match="Permission denied"):
        opened(tmp_path)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_an_error_of_the_step(tmp_path: Path) -> None:
    journal = opened(tmp_path)

    with files_of_at_most(200), pytest.raises(StepError) as caught:
        journal.write([ENTRY] * 10)
    assert caught.value.message.startswith(f"The journal {journal.path} could not be written: ")
    journal.close()


def test_a_journal_of_nothing_is_not_left_behind(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.close()

    assert list(journal.path.parent.iterdir()) == []


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    journal = opened(tmp_path)

    def write(number: int) -> None:
        for _ in range(50):
            journal.write([ENTRY._replace(object=f"node/{number}", message="x" * 3000)])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()

    assert len(lines(journal)) == 400
