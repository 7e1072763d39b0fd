"""What an answer means that is not the one that was asked for."""

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec

from kgpuctl.cluster.failures import (
    ClusterError,
    ConflictError,
    CredentialError,
    ExpiredError,
    ForbiddenError,
    NotFoundError,
    TooManyRequestsError,
)
from kgpuctl.cluster.redact import redact
from kgpuctl.cluster.wire.exchange import Answer
from kgpuctl.cluster.wire.trouble import Repeat, Situation, Trouble
from kgpuctl.report import printable

T = TypeVar("T")

_LONGEST: Final = 400  # of a server's own words
_BUDGET: Final = "DisruptionBudget"
_AGAIN: Final = "Try again; if it stays so, look at the API server's own log."
_REQUEST: Final = "Check what was asked for."
_SERVER: Final = 500  # from here on the server itself failed, perhaps after it had acted
_NOT_ONE: Final = "Check the server address in the kubeconfig: a proxy or a login page may answer."


# The errors of a status that a caller may want to tell apart.
_KINDS: Final[Mapping[int, tuple[type[ClusterError], str]]] = {
    HTTPStatus.NOT_FOUND: (NotFoundError, "Check that it is installed and its name is right."),
    HTTPStatus.CONFLICT: (ConflictError, "Look who else changes it, then try again."),
    HTTPStatus.GONE: (ExpiredError, _AGAIN),
    HTTPStatus.TOO_MANY_REQUESTS: (TooManyRequestsError, "Try again later."),
}


class Cause(msgspec.Struct, frozen=True):
    """One detail of a refusal."""

    reason: str = ""
    message: str = ""
    field: str = ""


class Details(msgspec.Struct, frozen=True, rename="camel"):
    """The details of a refusal."""

    causes: tuple[Cause, ...] | None = None
    retry_after_seconds: int = 0


class Status(msgspec.Struct, frozen=True):
    """How the API server says that it did not do something."""

    kind: str
    message: str = ""
    reason: str = ""
    code: int = 0
    details: Details | None = None

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Return the single details."""
        return (self.details.causes or ()) if self.details else ()


_STATUS: Final = msgspec.json.Decoder(Status)


def status_in(body: bytes) -> Status | None:
    """Return the Status that a body is, if it is one."""
    try:
        status = _STATUS.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return status if status.kind == "Status" else None


def trouble_in(answer: Answer, situation: Situation) -> Trouble:
    """Return what an answer other than 2xx means."""
    status = status_in(answer.body)
    said = _said(answer, status)
    error = _error(answer.status, said, status, situation)
    return Trouble(error, _repeat(answer.status, status), _retry_after(answer, status))


def _error(code: int, said: str, status: Status | None, situation: Situation) -> ClusterError:
    user, sentence = situation.identity.user, situation.cannot(said)
    if code == HTTPStatus.UNAUTHORIZED:
        return CredentialError(
            situation.cannot("the server does not accept the credentials (401)"),
            remedy=f"Log in again as {user}, or choose another user with --context.",
            status=code,
        )
    if code == HTTPStatus.FORBIDDEN:
        return ForbiddenError(
            situation.cannot(said),
            situation.asked,
            remedy=f"Grant {user} the right to {situation.asked.right} "
            "(`kgpuctl rbac` prints what a command needs), or ask as somebody else.",
        )
    if code // 100 == 3:  # noqa: PLR2004
        sentence = situation.cannot(f"it is redirected elsewhere ({code}), which is not followed")
        return ClusterError(sentence, remedy=_NOT_ONE, status=code)
    kind, remedy = _KINDS.get(code, (ClusterError, _AGAIN if code >= _SERVER else _REQUEST))
    causes = [_clean(cause.message) for cause in (status.causes if status else ())]
    return kind(
        sentence,
        remedy=remedy,
        status=code,
        causes=tuple(text for text in causes if text),
    )


def _repeat(code: int, status: Status | None) -> Repeat:
    if code == HTTPStatus.TOO_MANY_REQUESTS:
        held = status is not None and any(cause.reason == _BUDGET for cause in status.causes)
        return Repeat.NEVER if held else Repeat.ALWAYS
    return Repeat.IF_SAFE if code in {500, 502, 503, 504} else Repeat.NEVER


def _said(answer: Answer, status: Status | None) -> str:
    """Return what the server says, in its own words where it has some."""
    number = answer.status
    text = answer.body[:4096].decode(errors="replace").strip()
    if status is not None:
        text = status.message or status.reason
    elif text.startswith("<"):
        return f"something answers {number} with a web page, which no API server does"
    words = _clean(text.splitlines()[0]).rstrip(".") if text else ""
    return f"the server answers {number}" + (f": {words}" if words else "")


def _clean(text: str) -> str:
    text = printable(redact(" ".join(text.split())))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _retry_after(answer: Answer, status: Status | None) -> float | None:
    """Return the seconds to wait; the header has a number or a date."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError, TypeError):
        pass
    asked = status.details.retry_after_seconds if status and status.details else 0
    return float(asked) if asked > 0 else None


def decoded(answer: Answer, decode: Callable[[bytes], T], situation: Situation) -> T | Trouble:
    """Return what the body says; a body that breaks off is asked for again."""
    try:
        return decode(answer.body)
    except msgspec.ValidationError as error:
        what, repeat = f"the answer has another shape than it should: {_clean(str(error))}", False
    except (msgspec.DecodeError, RecursionError):
        what, repeat = _no_json(answer)
    return Trouble(
        ClusterError(situation.cannot(what), remedy=_NOT_ONE, status=answer.status),
        Repeat.IF_SAFE if repeat else Repeat.NEVER,
    )


def _no_json(answer: Answer) -> tuple[str, bool]:
    start = answer.body[:64].lstrip()
    if start.startswith(b"{"):
        return "the answer is not complete JSON", True
    if start.startswith(b"<"):
        return "the answer is a web page, not JSON", False
    return ("the answer is not JSON", False) if start else ("the answer is empty", True)
