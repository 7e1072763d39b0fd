"""Ending what runs too long: an input that takes more than its share of time is a failure."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# What these tests bound takes milliseconds where time grows in proportion to the input, and
# minutes or hours where it grows with its square.
SECONDS = 10.0


class TooSlowError(Exception):
    """Something did not end in time."""


@contextmanager
def bounded(seconds: float = SECONDS) -> Iterator[None]:
    """Raise TooSlowError in the block once it has run for so long."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TooSlowError

    handler = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)  # pytest-timeout's own, if it has one
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
