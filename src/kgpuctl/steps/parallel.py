"""Several jobs at once, begun one by one until somebody says stop."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")

# From four requests at once on the API server is the limit, not who asks it.
WORKERS: Final = 8


class Stop:
    """Says whether anything more may be begun, and why not. The first reason is the one told."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason = ""

    def __bool__(self) -> bool:
        return self._event.is_set()

    def because(self, reason: str) -> None:
        """Let nothing more be begun. Also called by a signal: nothing is locked here."""
        self.reason = self.reason or reason
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait, but not beyond the stop; True where that has come."""
        return self._event.wait(seconds)


def in_parallel(jobs: Iterable[Callable[[], T]], stop: Stop, workers: int = WORKERS) -> Iterator[T]:
    """Yield what the jobs return as they end; after a stop only those that had begun."""
    todo = deque(jobs)
    ended: SimpleQueue[T | BaseException | None] = SimpleQueue()

    def work() -> None:
        try:
            while todo and not stop:
                ended.put(todo.popleft()())
        except IndexError:  # another was quicker
            pass
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            ended.put(error)
        finally:
            ended.put(None)

    count = min(workers, len(todo))
    for _ in range(count):
        threading.Thread(target=work, daemon=True).start()
    while count:
        result = ended.get()
        if isinstance(result, BaseException):
            stop.because("an error that should not be")
            raise result
        if result is None:
            count -= 1
        else:
            yield result
