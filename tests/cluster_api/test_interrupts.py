"""Ctrl-C ends whatever is waited for, at once; so does the first error of jobs side by side."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import kgpuctl
from cluster_api.fake_api import FakeApi, Reply, Seen, ok
from cluster_api.test_plugins import ends, plugin
from cluster_api.test_refusals import raw
from cluster_api.workstation import TOKEN, Workstation
from kgpuctl.cluster.deadline import Abandoned, Deadline, side_by_side, within

LONG = 60.0  # far beyond what a test may take

PROGRAM = """
import sys
from kgpuctl.cluster.access import Access, Patience
from kgpuctl.cluster.deadline import side_by_side
from kgpuctl.cluster.kube import KubeCluster

cluster = KubeCluster.connect(Access(), patience=Patience(silence=60, request=60, pause=60))
try:
    if sys.argv[1] == "one":
        cluster.version()
    else:
        side_by_side([cluster.version, cluster.version, cluster.version])
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("way", ["one", "several"])
@pytest.mark.parametrize("state", ["waiting", "between tries"])
def test_an_interrupt_ends_a_request(
    way: str, state: str, api: FakeApi, workstation: Workstation
) -> None:
    asked = threading.Event()

    def answer(_: Seen) -> Reply:
        asked.set()
        if state == "between tries":
            return Reply(503, b"", {"Retry-After": "30"})
        return raw(b"", lambda _: api.closing.wait(LONG))

    api.answer("/version", answer)
    workstation.log_in(api.url)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, way], env=environment(workstation), stderr=subprocess.PIPE
    ) as process:
        assert asked.wait(LONG)
        time.sleep(0.1)  # for the answer to arrive, so that the pause has begun
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=LONG / 2)

    assert process.returncode == 130
    assert stderr == b""


def test_an_interrupt_ends_a_plugin_and_its_children(workstation: Workstation) -> None:
    pids = workstation.home / "pids"
    user = plugin(workstation, f"sleep 60 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait")
    workstation.log_in("https://127.0.0.1:1", user)
    program = (
        "from kgpuctl.cluster.access import Access\n"
        "from kgpuctl.cluster.kube import KubeCluster\n"
        "KubeCluster.connect(Access())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment(workstation),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        end = time.monotonic() + LONG
        while not pids.exists() and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=LONG / 2)

    assert stderr.rstrip().endswith("KeyboardInterrupt")
    for pid in map(int, pids.read_text().split()):
        assert ends(pid)


def environment(workstation: Workstation) -> dict[str, str]:
    return {
        **os.environ,
        "KUBECONFIG": str(workstation.path),
        "PYTHONPATH": str(Path(kgpuctl.__file__).parents[1]),
    }


def test_jobs_give_their_results_in_order() -> None:
    jobs: list[Callable[[], int]] = [lambda n=n: n * n for n in range(50)]  # type: ignore[misc]

    assert side_by_side(jobs, 4) == [n * n for n in range(50)]
    assert side_by_side([], 4) == []


def test_no_more_jobs_run_at_once_than_said() -> None:
    lock = threading.Lock()
    running = most = 0

    def job() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    side_by_side([job] * 12, 3)

    assert most == 3


def test_the_first_error_is_raised_while_others_still_run() -> None:
    never = threading.Event()
    begun: list[int] = []

    def fail() -> None:
        raise LookupError("this one")

    def wait() -> None:
        begun.append(1)
        never.wait(LONG)

    with pytest.raises(LookupError, match="this one"):
        side_by_side([wait, fail, wait, wait], 2)
    never.set()
    assert len(begun) <= 2


def test_what_takes_too_long_is_abandoned_and_cut() -> None:
    cut = threading.Event()

    def job(abandoned: Abandoned) -> None:
        abandoned.cut_with(cut.set)
        cut.wait(LONG)

    with pytest.raises(TimeoutError):
        within(0.05, job)
    assert cut.is_set()


def test_what_is_abandoned_before_it_can_be_cut_is_cut_later() -> None:
    abandoned = Abandoned()
    cut = threading.Event()

    abandoned.set()
    abandoned.cut_with(cut.set)

    assert abandoned
    assert cut.is_set()


def test_a_deadline_is_over_when_its_time_is() -> None:
    now = 100.0

    def clock() -> float:
        return now

    deadline = Deadline(5, clock)
    assert (deadline.left, deadline.is_over) == (5.0, False)
    now = 106.0
    assert (deadline.left, deadline.is_over) == (0.0, True)
    assert not Deadline(None).is_over


def test_impersonation_goes_with_each_request(api: FakeApi, workstation: Workstation) -> None:
    api.answer("/version", ok({"gitVersion": "v1"}))
    user = {
        "token": TOKEN,
        "as": "carol",
        "as-uid": "7",
        "as-groups": ["x", "y"],
        "as-user-extra": {"scope": ["read"]},
    }
    workstation.log_in(api.url, user)

    workstation.connect().version()

    headers = api.seen[0].headers
    assert headers["impersonate-user"] == ["carol"]
    assert headers["impersonate-uid"] == ["7"]
    assert headers["impersonate-group"] == ["x", "y"]
    assert headers["impersonate-extra-scope"] == ["read"]
