"""Doing things within a time, and ending at once when interrupted.

What blocks (names being resolved, handshakes, answers that come a byte at a time) runs in a daemon
thread; who asked waits on an event, which Ctrl-C and a deadline both end.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Deadline:
    """The moment at which the whole command ends, or never."""

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = math.inf if seconds is None else clock() + seconds

    @property
    def left(self) -> float:
        """Return the seconds that are left; infinite without a deadline."""
        return max(0.0, self._end - self._clock())

    @property
    def is_over(self) -> bool:
        """Whether nothing more may be begun."""
        return self.left == 0.0


class Abandoned:
    """Tells a job that nobody waits for it any more; `shut` then cuts what it is blocked in."""

    def __init__(self) -> None:
        self._flag = threading.Event()
        self._lock = threading.Lock()
        self._shut: Callable[[], object] | None = None

    def __bool__(self) -> bool:
        return self._flag.is_set()

    def cut_with(self, shut: Callable[[], object]) -> None:
        """Name what unblocks the job; called at once if it is abandoned already."""
        with self._lock:
            self._shut = shut
            late = self._flag.is_set()
        if late:
            shut()

    def set(self) -> None:
        """Abandon the job."""
        with self._lock:
            self._flag.set()
            shut = self._shut
        if shut is not None:
            shut()


class _Job(Generic[T]):
    """One call in a thread of its own, and what came of it."""

    def __init__(self, call: Callable[[], T], done: "Callable[[_Job[T]], object]") -> None:
        self._call = call
        self._done = done
        self._results: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            self.error = error
        finally:
            self._done(self)

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self._results[0]


class Workers:
    """Daemon threads that take one job after another: starting a thread costs as much as a request.

    A job that hangs keeps its thread; the next one gets another.
    """

    def __init__(self) -> None:
        self._idle: deque[SimpleQueue[Callable[[], object]]] = deque()

    def start(self, job: Callable[[], object]) -> None:
        """Begin a job, in a thread that has nothing to do or in a new one."""
        try:
            jobs = self._idle.pop()
        except IndexError:
            jobs = SimpleQueue()
            threading.Thread(target=self._serve, args=(jobs,), daemon=True).start()
        jobs.put(job)

    def _serve(self, jobs: "SimpleQueue[Callable[[], object]]") -> None:
        while True:
            jobs.get()()
            self._idle.append(jobs)


def _start(job: Callable[[], object]) -> None:
    threading.Thread(target=job, daemon=True).start()


def within(
    seconds: float,
    job: Callable[[Abandoned], T],
    start: Callable[[Callable[[], object]], None] = _start,
) -> T:
    """Return what the job returns; TimeoutError when it takes longer, and it is abandoned then."""
    abandoned = Abandoned()
    done = threading.Event()
    running = _Job(lambda: job(abandoned), lambda _: done.set())
    start(running.run)
    try:
        finished = done.wait(min(seconds, threading.TIMEOUT_MAX))
    except BaseException:
        abandoned.set()
        raise
    if not finished:
        abandoned.set()
        raise TimeoutError
    return running.result()


def side_by_side(jobs: Sequence[Callable[[], T]], workers: int = 8) -> list[T]:
    """Run the jobs a few at a time; the first error is raised at once, and so is Ctrl-C.

    Jobs not yet begun are then dropped; what runs is left to its own deadline.
    """
    finished: SimpleQueue[_Job[T]] = SimpleQueue()
    running = [_Job(job, finished.put) for job in jobs]
    todo = deque(running)
    for _ in range(min(workers, len(running))):
        threading.Thread(target=_work, args=(todo,), daemon=True).start()
    try:
        for _ in running:
            job = finished.get()
            if job.error is not None:
                raise job.error
    finally:
        todo.clear()
    return [job.result() for job in running]


def _work(todo: "deque[_Job[T]]") -> None:
    while True:
        try:
            job = todo.popleft()
        except IndexError:
            return
        job.run()
