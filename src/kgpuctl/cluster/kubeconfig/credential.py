"""What proves who asks: fixed, read from a file again and again, or given by a program."""

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, Protocol

from kgpuctl.cluster.failures import CredentialError
from kgpuctl.cluster.kubeconfig.choice import Choice
from kgpuctl.cluster.kubeconfig.target import pem_of, read_small
from kgpuctl.cluster.secret import Secret

_FRESH: Final = 60.0  # seconds for which a token file is not read again


@dataclass(frozen=True, slots=True)
class Credential:
    """One proof; `expires` is in seconds since 1970, where it is known."""

    authorization: Secret = field(default_factory=lambda: Secret(""))
    certificate: str = ""
    key: Secret = field(default_factory=lambda: Secret(""))
    expires: float | None = None

    @property
    def is_none(self) -> bool:
        """Whether nothing is proved."""
        return not self.authorization and not self.certificate

    def is_expired(self, now: float) -> bool:
        """Whether the server will not take it any more."""
        return self.expires is not None and self.expires <= now


class Source(Protocol):
    """Where credentials come from."""

    renewable: ClassVar[bool]
    """Whether asking again can give another one."""

    def fetch(self) -> Credential:
        """Return a credential as it is now."""


class Fixed:
    """A credential that stands in the kubeconfig."""

    renewable: ClassVar[bool] = False

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def fetch(self) -> Credential:
        """Return it."""
        return self._credential


class TokenFile:
    """A token that somebody else keeps fresh in a file."""

    renewable: ClassVar[bool] = True

    def __init__(
        self, path: Path, whose: str, base: Credential, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._whose = whose
        self._base = base
        self._clock = clock

    def fetch(self) -> Credential:
        """Read the file."""
        token = read_small("tokenFile", self._path, self._whose).strip()
        if not token:
            raise CredentialError(
                f"tokenFile of {self._whose}, {self._path}, is empty.",
                remedy="Log in again, or correct the kubeconfig.",
            )
        return Credential(
            bearer(token, self._whose),
            self._base.certificate,
            self._base.key,
            self._clock() + _FRESH,
        )


class Keeper:
    """Gives the same credential to all threads until it expires or is refused."""

    def __init__(self, source: Source, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._current: Credential | None = None

    def current(self) -> Credential:
        """Return the credential; get a new one where it is about to expire."""
        with self._lock:
            if self._current is None or self._current.is_expired(self._clock()):
                self._current = self._source.fetch()
            return self._current

    def renewed(self, refused: Credential) -> Credential | None:
        """Return another one than the server refused, or None where there can be none.

        Where many threads are refused at once, the first gets it for all.
        """
        if not self._source.renewable:
            return None
        with self._lock:
            if self._current is refused:
                self._current = self._source.fetch()
            return self._current


def bearer(token: str, whose: str) -> Secret:
    """Return the header that shows a token, which must fit into a header."""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise CredentialError(
            f"The token of {whose} holds letters that no token has.",
            remedy="Log in again, or correct the kubeconfig.",
        )
    return Secret(f"Bearer {token}")


def written_credential(choice: Choice) -> Credential:
    """Return what stands in the kubeconfig itself: certificate and key, token, or password."""
    user = choice.user
    whose = f"the user {choice.user_name}"
    certificate = pem_of(
        "client-certificate",
        user.client_certificate,
        user.client_certificate_data,
        whose,
        choice.user_directory,
    )
    key = pem_of(
        "client-key", user.client_key, user.client_key_data.reveal(), whose, choice.user_directory
    )
    return Credential(_authorization(choice, whose), certificate, Secret(key))


def _authorization(choice: Choice, whose: str) -> Secret:
    user = choice.user
    if user.token:
        return bearer(user.token.reveal(), whose)
    if user.username:
        login = f"{user.username}:{user.password.reveal()}"
        return Secret(f"Basic {base64.b64encode(login.encode()).decode()}")
    return Secret("")
