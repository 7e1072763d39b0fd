"""How a cluster is reached, as the options say it, and who asks whom, as messages say it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Access:
    """What the options say; `timeout` bounds the whole command, in seconds."""

    kubeconfig: str | None = None
    context: str | None = None
    as_user: str | None = None
    as_groups: tuple[str, ...] = ()
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks whom, for messages and reports; nothing in it is secret."""

    context: str
    cluster: str
    server: str
    user: str

    def __str__(self) -> str:
        return f"cluster {self.cluster} (context {self.context}, {self.server})"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of the process and its machine decides which cluster is meant."""

    environment: Mapping[str, str]
    home: Path
    service_account: Path = SERVICE_ACCOUNT

    @classmethod
    def here(cls) -> "Surroundings":
        """Return those of this process."""
        return cls(os.environ, Path(os.path.expanduser("~")))  # noqa: PTH111  # never raises


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, and how often; the whole command is bounded by Access.timeout."""

    connect: float = 10.0
    silence: float = 20.0  # between two bytes of an answer
    request: float = 90.0  # a request with its whole answer; the server gives up after 60
    plugin: float = 30.0
    watch: float = 60.0  # after which a watch is begun anew
    tries: int = 5
    slow_tries: int = 3  # where each try takes its whole time
    pause: float = 0.5  # before the second try; each further one doubles it
    longest_pause: float = 8.0
    longest_wait: float = 60.0  # that a server may ask for, where there is no --timeout
    largest: int = 256 * 1024 * 1024  # bytes of an answer, unpacked; a page has a few MB
    restarts: int = 3  # of a list that expired while it was read
