"""Judging a live cluster: once, or again and again until it has passed."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import Final, Self

from kgpuctl.cli.cluster_run import Wishes, case_of, verify_snapshot
from kgpuctl.cluster.access import Access
from kgpuctl.cluster.following import LOGS_EVERY, Following
from kgpuctl.cluster.kube import KubeCluster
from kgpuctl.cluster.reader import Reading, read_cluster
from kgpuctl.cluster.snapshot import ClusterSnapshot
from kgpuctl.errors import UsageError
from kgpuctl.render.progress import awaited, changes
from kgpuctl.report import Report
from kgpuctl.stdout import complain

Connect = Callable[[Access], KubeCluster]

WAIT: Final = 20 * 60.0
_GRACE: Final = 30.0  # so that the wait ends with its last report and not with an error
_SETTLE: Final = 0.2  # changes come in flocks
_TICK: Final = 1.0
_AGAIN: Final = 20.0  # what is judged by its age changes without anything happening
_FAILED: Final = 3
_UNKNOWN: Final = 4
_CLEAR: Final = "\r\x1b[K"


def target_names(snapshot: ClusterSnapshot) -> Iterable[str]:
    """Return the nodes whose kubelets are asked."""
    return case_of(snapshot).targets


def verify_now(wanted: Access, connect: Connect, wishes: Wishes, *, kubelets: bool) -> Report:
    """Read the cluster and judge it."""
    cluster = connect(wanted)
    reading = Reading(kubelets=target_names if kubelets else None)
    return verify_snapshot(read_cluster(cluster, reading), wishes)


def await_passed(wanted: Access, connect: Connect, wishes: Wishes, *, kubelets: bool) -> Report:
    """Judge the cluster until it has passed or the time is over; the last report counts."""
    if kubelets:
        raise UsageError(
            "--kubelet-config cannot be used with --wait.",
            remedy="A kubelet's configuration does not change by waiting: verify it without.",
        )
    limit = wanted.timeout or WAIT
    began = time.monotonic()
    cluster = connect(replace(wanted, timeout=limit + _GRACE))
    with Following(cluster) as following, _Line(began) as line:
        found = following.snapshot()
        report, judged = verify_snapshot(found, wishes), time.monotonic()
        while _may_pass(report, found) and time.monotonic() - began < limit:
            line.show(report)
            left = limit - (time.monotonic() - began)
            changed = following.await_change(min(_TICK, max(left, 0.0)))
            if not changed and time.monotonic() - judged < _again(found):
                continue
            if changed:
                time.sleep(_SETTLE)
            found = following.snapshot()
            report, judged = verify_snapshot(found, wishes), time.monotonic()
        line.end(report)
    return report


def _may_pass(report: Report, snapshot: ClusterSnapshot) -> bool:
    """Whether waiting makes sense: what may not be read does not come by waiting."""
    return report.exit_code == _FAILED or (report.exit_code == _UNKNOWN and not snapshot.missed)


def _again(snapshot: ClusterSnapshot) -> float:
    """Return the seconds after which to judge again, also when nothing has changed."""
    return LOGS_EVERY.total_seconds() if snapshot.logs else _AGAIN  # a log grows unseen


class _Line:
    """One live line on a terminal; elsewhere a line for each change."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._last: Report | None = None
        self._live = sys.stderr is not None and sys.stderr.isatty()

    def __enter__(self) -> Self:
        if self._live and threading.current_thread() is threading.main_thread():
            _clear_before(signal.SIGINT)
        return self

    def __exit__(self, *_: object) -> None:
        """Take the live line away, however the wait ends."""
        if self._live and self._last is not None:
            complain(_CLEAR)

    def show(self, report: Report) -> None:
        """Say what is awaited."""
        seconds = int(time.monotonic() - self._began)
        clock = f"{seconds // 60}:{seconds % 60:02}"
        if self._live:
            complain(f"{_CLEAR}{awaited(report, clock)}")
        elif report is not self._last:
            for change in changes(self._last, report):
                complain(f"{clock} {change}\n")
        self._last = report

    def end(self, report: Report) -> None:
        """Say the last changes where there is no live line."""
        if not self._live and report is not self._last and self._last is not None:
            self.show(report)


def _clear_before(number: int) -> None:
    """Take the live line away before a signal is handled as it is now: that may end the process."""
    handle = signal.getsignal(number)
    if not callable(handle):
        return

    def clear(number: int, frame: FrameType | None) -> None:
        with suppress(AttributeError, OSError, ValueError):
            os.write(sys.stderr.fileno(), _CLEAR.encode())  # the stream itself may be in use
        handle(number, frame)

    signal.signal(number, clear)
