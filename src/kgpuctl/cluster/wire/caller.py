"""Requests with all that surrounds them: credentials, deadlines, retries, and what is told."""

import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Final, TypeVar
from urllib.parse import urlsplit

from urllib3 import BaseHTTPResponse, HTTPHeaderDict, PoolManager
from urllib3.exceptions import HTTPError

from kgpuctl.cluster.access import Patience
from kgpuctl.cluster.deadline import Abandoned, Deadline, Workers, within
from kgpuctl.cluster.failures import ClusterError
from kgpuctl.cluster.kubeconfig.credential import Credential, Keeper
from kgpuctl.cluster.kubeconfig.target import Target
from kgpuctl.cluster.kubeconfig.whom import Whom
from kgpuctl.cluster.wire.answers import decoded, trouble_in
from kgpuctl.cluster.wire.exchange import Answer, Request, TooLargeError, begin, exchange
from kgpuctl.cluster.wire.tls import expiry, tls_context
from kgpuctl.cluster.wire.trouble import Repeat, Situation, Trouble, trouble_of

T = TypeVar("T")

_LUCK: Final = random.SystemRandom()
_BROKEN: Final = (HTTPError, HTTPException, OSError, TooLargeError)
_DAY: Final = 86400
_ERROR_BODY: Final = 65536  # bytes read of an answer that is no stream

OpenPool = Callable[[Target, ssl.SSLContext | None], PoolManager]


@dataclass(frozen=True, slots=True)
class Line:
    """Connections on which one credential is shown."""

    pool: PoolManager
    headers: HTTPHeaderDict
    credential: Credential


class Caller:
    """Makes requests for many threads at once."""

    def __init__(
        self,
        whom: Whom,
        open_pool: OpenPool,
        patience: Patience,
        deadline: Deadline,
        tell: Callable[[str], None],
    ) -> None:
        self.whom = whom
        self.patience = patience
        self.deadline = deadline
        self.retries = 0
        self._open_pool = open_pool
        self._keeper = Keeper(whom.source)
        self._lock = threading.Lock()
        self._workers = Workers()
        self._line: Line | None = None
        self._tell = tell

    def say(self, text: str) -> None:
        """Tell one line."""
        with self._lock:
            self._tell(text)

    def open(self) -> Line:
        """Return connections that show a credential that is good as far as is known."""
        credential = self._keeper.current()
        with self._lock:
            line = self._line
            if line is None or line.credential is not credential:
                line = self._line = self._opened(credential, line)
            return line

    def _opened(self, credential: Credential, before: Line | None) -> Line:
        headers = HTTPHeaderDict({"User-Agent": "kgpuctl"})
        if credential.authorization:
            headers["Authorization"] = credential.authorization.reveal()
        for name, value in self.whom.impersonation:
            headers.add(name, value)
        if before is not None and _same_pair(before.credential, credential):
            return Line(before.pool, headers, credential)
        target = self.whom.target
        context = None
        if target.is_encrypted:
            context = tls_context(target, credential, self.whom.identity)
        return Line(self._open_pool(target, context), headers, credential)

    def call(self, request: Request, decode: Callable[[bytes], T]) -> T:
        """Return the decoded answer, or raise what kept it from coming."""

        def attempt(line: Line, situation: Situation) -> T | Trouble:
            answer = self._answer(line, request)
            if not 200 <= answer.status < 300:  # noqa: PLR2004
                return trouble_in(answer, situation)
            return decoded(answer, decode, situation)

        return self._persist(request, attempt)

    def _answer(self, line: Line, request: Request) -> Answer:
        started = time.monotonic()
        answer = within(
            min(self.patience.request, self.deadline.left),
            lambda abandoned: exchange(line.pool, line.headers, request, self.patience, abandoned),
            self._workers.start,
        )
        took = time.monotonic() - started
        self.say(f"{_name(request)}: {answer.status}, {len(answer.body)} bytes in {took:.2f} s")
        return answer

    def stream(self, request: Request, silence: float) -> BaseHTTPResponse:
        """Return an answer that goes on, once it has begun."""

        def attempt(line: Line, situation: Situation) -> BaseHTTPResponse | Trouble:
            seconds = min(self.patience.connect + self.patience.silence, self.deadline.left)
            response = within(seconds, lambda gone: _begun(line, request, silence, gone))
            self.say(f"{_name(request)}: {response.status}")
            if response.status == 200:  # noqa: PLR2004
                return response
            body = within(seconds, lambda _: response.read1(_ERROR_BODY))
            response.close()
            return trouble_in(Answer(response.status, response.headers, body), situation)

        return self._persist(request, attempt)

    def situation(self, request: Request) -> Situation:
        """Return what messages about a request begin with."""
        return Situation(self.whom.identity, request.asked, self.whom.target.proxy, self.patience)

    def _persist(self, request: Request, attempt: Callable[[Line, Situation], T | Trouble]) -> T:
        situation = self.situation(request)
        tries, renewed = 1, False
        while True:
            self._check_time(situation)
            line = self.open()
            try:
                outcome = attempt(line, situation)
            except _BROKEN as error:
                outcome = trouble_of(error, situation)
            if not isinstance(outcome, Trouble):
                return outcome
            if outcome.error.status == 401 and not renewed:  # noqa: PLR2004
                renewed = self._keeper.renewed(line.credential) is not None
                if renewed:
                    self.retrying(f"{_name(request)}: 401, trying again with a new credential")
                    continue
                outcome = _explained(outcome, line.credential)
            self._wait(outcome, request, tries, situation)
            tries += 1

    def _check_time(self, situation: Situation) -> None:
        if self.deadline.is_over:
            raise ClusterError(
                situation.cannot(f"the {self.deadline.seconds:g} s of --timeout are over"),
                remedy="Give it more time with --timeout.",
            )

    def _wait(self, trouble: Trouble, request: Request, tries: int, situation: Situation) -> None:
        """Wait before the next try, or raise where there is to be none."""
        error = trouble.error
        may = {Repeat.NEVER: False, Repeat.IF_SAFE: request.is_safe, Repeat.ALWAYS: True}
        if self.deadline.is_over:
            self._check_time(situation)
        if request.is_change and trouble.repeat is Repeat.IF_SAFE:
            error.uncertain = True
        if not may[trouble.repeat]:
            raise error.ending("")
        most = self.patience.slow_tries if trouble.is_slow else self.patience.tries
        most = min(most, request.most_tries or most)
        if tries >= most:
            raise error.ending(f"It was tried {tries} times.")
        pause = self.pause(tries) if trouble.after is None else trouble.after
        if pause >= self.deadline.left:
            raise error.ending(
                f"To try again in {_in_words(pause)} is beyond the {self.deadline.seconds:g} s of "
                "--timeout."
            )
        if pause > self.patience.longest_wait and self.deadline.seconds is None:
            raise error.ending(f"The server asks to wait {_in_words(pause)}, which is too long.")
        self.retrying(
            f"{_name(request)}: try {tries + 1} of {most} in {pause:.1f} s: {error.message}"
        )
        time.sleep(pause)

    def pause(self, tries: int) -> float:
        """Return the seconds before the next of several tries, longer each time."""
        longest: float = min(self.patience.pause * 2 ** (tries - 1), self.patience.longest_pause)
        return longest * _LUCK.uniform(0.5, 1.0)

    def retrying(self, text: str) -> None:
        """Count a request that is made again, and tell why."""
        with self._lock:
            self.retries += 1
            self._tell(text)


def _begun(line: Line, request: Request, silence: float, abandoned: Abandoned) -> BaseHTTPResponse:
    response = begin(line.pool, line.headers, request, Patience(silence=silence))
    abandoned.cut_with(response.close)
    return response


def _same_pair(one: Credential, other: Credential) -> bool:
    return one.certificate == other.certificate and one.key.reveal() == other.key.reveal()


def _explained(trouble: Trouble, credential: Credential) -> Trouble:
    """Say of a refused certificate that it has expired: the usual reason, and not said by it."""
    until = expiry(credential.certificate) if credential.certificate else None
    if until is not None and until <= datetime.now(UTC):
        trouble.error.adding(f"The client certificate expired at {until:%F %T}Z.")
    if credential.is_none:
        trouble.error.adding("The user in the kubeconfig has no credentials at all.")
    return trouble


def _in_words(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < _DAY else "more than a day"


def _name(request: Request) -> str:
    """Return a request as it is told: without its query, which holds long tokens."""
    return f"{request.method} {urlsplit(request.url).path}"
