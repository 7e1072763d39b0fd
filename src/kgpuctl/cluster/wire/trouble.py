"""What a failure below HTTP means: names, connections, TLS, proxies, answers that break off."""

import errno
import re
import socket
import ssl
from dataclasses import dataclass
from enum import Enum
from http.client import BadStatusLine, IncompleteRead
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from urllib3 import exceptions

from kgpuctl.cluster.access import Identity, Patience
from kgpuctl.cluster.asked import Asked
from kgpuctl.cluster.failures import ClusterError
from kgpuctl.cluster.kubeconfig.target import Proxy
from kgpuctl.cluster.wire.exchange import CutError, TooLargeError
from kgpuctl.report import printable


class Repeat(Enum):
    """When a failed request may be sent again."""

    NEVER = 0
    IF_SAFE = 1  # the server may have acted
    ALWAYS = 2  # the server surely has not


@dataclass(frozen=True, slots=True)
class Trouble:
    """A request that failed: the error it will be, and whether to try again before."""

    error: ClusterError
    repeat: Repeat = Repeat.NEVER
    after: float | None = None  # seconds that the server asks to wait
    is_slow: bool = False  # it already cost much time


@dataclass(frozen=True, slots=True)
class Situation:
    """Who asked what of whom, over which proxy: the begin of each sentence."""

    identity: Identity
    asked: Asked
    proxy: Proxy | None
    patience: Patience

    def cannot(self, what: str) -> str:
        """Return the sentence."""
        return f"Cannot {self.asked} in {self.identity} as {self.identity.user}: {what}."

    @property
    def server(self) -> str:
        """Return host and port."""
        return urlsplit(self.identity.server).netloc


class _Meaning(NamedTuple):
    what: str
    remedy: str
    repeat: Repeat = Repeat.NEVER


_ADDRESS: Final = "Check the server address in the kubeconfig, and that the API server is up."
_NETWORK: Final = "Check the network, the VPN and the server address in the kubeconfig."
_AGAIN: Final = "Try again; if it stays so, look at the API server or what stands before it."
_TRUST: Final = (
    "Take a kubeconfig of this cluster: certificate-authority must be the one that signed its "
    "certificate."
)
_ISSUERS: Final = {2, 18, 19, 20, 21}  # OpenSSL's numbers for "not signed by whom we trust"
_OUTDATED: Final = {9, 10}
_NAMES: Final = {62, 64}


def trouble_of(error: Exception, situation: Situation) -> Trouble:
    """Return what an exception of the transport means."""
    meaning = _meaning(error, situation)
    proxy = situation.proxy
    way = "" if proxy is None or proxy.url in meaning.what else f", on the way through {proxy}"
    return Trouble(
        ClusterError(situation.cannot(f"{meaning.what}{way}"), remedy=meaning.remedy),
        meaning.repeat,
        is_slow=isinstance(error, TimeoutError | exceptions.TimeoutError)
        and not isinstance(error, exceptions.NewConnectionError),
    )


def _meaning(error: Exception, situation: Situation) -> _Meaning:
    """Return what it means: first what keeps a connection from coming to be."""
    target = _target(situation)
    match error:
        case exceptions.ProxyError():
            return _of_proxy(error, situation)
        case exceptions.NameResolutionError():
            return _Meaning(f"{target} is not known to DNS", _NETWORK, Repeat.ALWAYS)
        case exceptions.NewConnectionError():
            return _of_connection(error, situation)
        case exceptions.ConnectTimeoutError():
            what = f"{target} did not take the connection within {situation.patience.connect:g} s"
            return _Meaning(what, _NETWORK, Repeat.ALWAYS)
        case exceptions.SSLError():
            return _of_tls(_cause(error), situation)
    return _of_answer(error, situation)


def _of_answer(error: Exception, situation: Situation) -> _Meaning:
    patience = situation.patience
    match error:
        case TimeoutError():  # of the whole request; urllib3's own are none
            what = f"no complete answer within {patience.request:g} s"
        case exceptions.ReadTimeoutError():
            what = "the connection is open, but nothing comes"
        case exceptions.DecodeError():
            what = "the answer cannot be unpacked"
        case TooLargeError():
            return _Meaning("the answer is larger than any that was asked for", _AGAIN)
        case exceptions.LocationValueError():
            return _Meaning(f"{situation.server} is no usable address", _ADDRESS)
        case _:
            what = f"the connection broke off: {_detail(error)}"
    return _Meaning(what, _AGAIN, Repeat.IF_SAFE)


def _target(situation: Situation) -> str:
    """Return whom the connection goes to first."""
    return str(situation.proxy or situation.server)


def _of_connection(error: exceptions.NewConnectionError, situation: Situation) -> _Meaning:
    cause, target = _cause(error), _target(situation)
    number = getattr(cause, "errno", None)
    if isinstance(cause, ConnectionRefusedError):
        return _Meaning(f"{target} refused the connection", _ADDRESS, Repeat.ALWAYS)
    if number in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL}:
        return _Meaning(f"there is no way to {target} in the network", _NETWORK, Repeat.ALWAYS)
    return _Meaning(f"{target} cannot be connected to: {_detail(error)}", _NETWORK, Repeat.ALWAYS)


def _of_tls(cause: BaseException, situation: Situation) -> _Meaning:
    server = situation.server
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _of_certificate(cause, situation)
    reason = str(getattr(cause, "reason", None) or "")
    if "ALERT" in reason:
        alert = reason.rpartition("ALERT_")[2].replace("_", " ").lower()
        return _Meaning(
            f"{server} refused the TLS connection ({alert or 'no reason given'})",
            "Check that the client certificate is of this cluster and has not expired.",
        )
    if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"}:
        return _Meaning(f"{server} does not speak TLS", _ADDRESS)
    if isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return _Meaning("the TLS connection broke off", _AGAIN, Repeat.IF_SAFE)
    return _Meaning(f"TLS with {server} failed: {_detail(cause)}", _TRUST, Repeat.IF_SAFE)


def _of_certificate(cause: ssl.SSLCertVerificationError, situation: Situation) -> _Meaning:
    whose = f"the certificate of {situation.server}"
    if cause.verify_code in _NAMES:
        return _Meaning(
            f"{whose} is not for the name {urlsplit(situation.identity.server).hostname}",
            "Use a name that the certificate has, or set tls-server-name in the kubeconfig.",
        )
    if cause.verify_code in _OUTDATED:
        return _Meaning(
            f"{whose} has expired or is not valid yet",
            "Check this machine's clock, and renew the API server's certificate.",
        )
    if cause.verify_code in _ISSUERS:
        return _Meaning(f"{whose} is not signed by the cluster's certificate-authority", _TRUST)
    return _Meaning(
        f"{whose} is not trusted: {printable(cause.verify_message or '')[:100]}", _TRUST
    )


def _of_proxy(error: exceptions.ProxyError, situation: Situation) -> _Meaning:
    cause = _cause(error)
    proxy = situation.proxy
    name = str(proxy or "the proxy")
    remedy = f"Check {proxy.source if proxy else 'the proxy'}, and NO_PROXY."
    refusal = re.search(r"Tunnel connection failed: (\d{3})", str(cause))
    if refusal is not None:
        status = int(refusal[1])
        if status == 407:  # noqa: PLR2004
            return _Meaning(
                f"{name} wants a login (407)", f"Put user and password into {remedy[6:]}"
            )
        again = Repeat.ALWAYS if status in {429, 502, 503, 504} else Repeat.NEVER
        return _Meaning(
            f"{name} refused to connect to {situation.server} ({status})", remedy, again
        )
    if isinstance(cause, socket.gaierror):
        return _Meaning(f"{name} is not known to DNS", remedy, Repeat.ALWAYS)
    if isinstance(cause, ConnectionRefusedError):
        return _Meaning(f"{name} refused the connection", remedy, Repeat.ALWAYS)
    return _Meaning(f"{name} does not work: {_detail(cause)}", remedy, Repeat.ALWAYS)


def _cause(error: BaseException) -> BaseException:
    """Return the exception of the standard library that one of urllib3 stands for."""
    for inner in (error.__cause__, error.__context__, *error.args):
        if isinstance(inner, BaseException):
            return _cause(inner) if isinstance(inner, exceptions.HTTPError) else inner
    return error


def _detail(error: BaseException) -> str:
    """Return a few words on an exception, never its own text, which may quote anything."""
    cause = _cause(error)
    if isinstance(cause, ConnectionResetError):
        return "it was reset"
    if isinstance(cause, OSError) and cause.strerror:
        return printable(cause.strerror)[:100].lower()
    if isinstance(cause, IncompleteRead) or isinstance(error, CutError):
        return "the answer is cut short"
    if isinstance(cause, BadStatusLine):
        return "the answer is not HTTP"
    return type(cause).__name__
