"""Where the API server is and how it proves itself, checked as far as that goes without it."""

import base64
import binascii
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from kgpuctl.cluster.access import Surroundings
from kgpuctl.cluster.failures import ClusterError
from kgpuctl.cluster.kubeconfig.choice import Choice
from kgpuctl.cluster.secret import Secret

_LARGEST: Final = 1024 * 1024  # bytes of a certificate, key or token file
_REMEDY: Final = "Correct the kubeconfig."


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy on the way; user and password are kept apart from the address."""

    url: str
    login: Secret
    source: str  # what names it: "proxy-url", "HTTPS_PROXY"
    exceptions: str = ""  # NO_PROXY

    def __str__(self) -> str:
        return f"the proxy {self.url} ({self.source})"


@dataclass(frozen=True, slots=True)
class Target:
    """An API server: address, trust, and the way to it."""

    server: str
    authorities: str = ""  # PEM; empty means those the system trusts
    verify: bool = True
    server_name: str = ""
    proxy: Proxy | None = None

    @property
    def is_encrypted(self) -> bool:
        """Whether credentials may be sent there."""
        return self.server.startswith("https://")


def target_of(choice: Choice, around: Surroundings) -> Target:
    """Return the cluster's target."""
    cluster = choice.cluster
    whose = f"the cluster {choice.cluster_name}"
    authorities = pem_of(
        "certificate-authority",
        cluster.certificate_authority,
        cluster.certificate_authority_data,
        whose,
        choice.cluster_directory,
    )
    if authorities:
        check_authorities(authorities, whose)
    tls = bool(authorities) or cluster.insecure_skip_tls_verify
    server = _server(cluster.server, whose, tls=tls)
    return Target(
        server,
        authorities,
        not cluster.insecure_skip_tls_verify,
        cluster.tls_server_name,
        _proxy(cluster.proxy_url, server, around),
    )


def pem_of(field: str, path: str, data: str, whose: str, directory: Path) -> str:
    """Return a certificate or key, from base64 data or from a file; data wins, as in kubectl."""
    if data:
        try:
            return base64.b64decode("".join(data.split()), validate=True).decode("ascii")
        except (binascii.Error, ValueError):
            raise ClusterError(
                f"{field}-data of {whose} is not base64 of a PEM text.", remedy=_REMEDY
            ) from None
    return read_small(field, directory / path, whose) if path else ""


def read_small(field: str, path: Path, whose: str) -> str:
    """Return the text of a file that a kubeconfig names."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            why = "it is larger than 1 MiB"
        else:
            return content.decode("ascii")
    except OSError as error:
        why = error.strerror or "it cannot be opened"
    except ValueError:
        why = "it is no text"
    raise ClusterError(
        f"{field} of {whose}, {path}, cannot be read: {why}.",
        remedy="Correct the file or its path in the kubeconfig.",
    ) from None


def check_authorities(authorities: str, whose: str) -> None:
    """Refuse what is no certificate before a connection is made."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=authorities)
    except (ssl.SSLError, ValueError):
        raise ClusterError(
            f"The certificate-authority of {whose} is no PEM certificate.", remedy=_REMEDY
        ) from None


def _server(server: str, whose: str, *, tls: bool) -> str:
    if not server:
        raise ClusterError(f"{whose.capitalize()} has no server address.", remedy=_REMEDY)
    address = server if "://" in server else f"{'https' if tls else 'http'}://{server}"
    parts = _split(address)
    if parts is None or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        raise ClusterError(
            f"The server address of {whose} is not like https://HOST:PORT.", remedy=_REMEDY
        )
    if parts.username is not None or parts.password is not None:
        raise ClusterError(
            f"The server address of {whose} holds a user or a password.",
            remedy="Put them into the user of the kubeconfig.",
        )
    return address.rstrip("/")


def _split(url: str) -> SplitResult | None:
    """Return the parts of an address, or None where it has no host or an impossible port."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0 and url.isascii() and url.isprintable()
    except ValueError:
        return None
    return parts if usable and " " not in url else None


def _proxy(of_cluster: Secret, server: str, around: Surroundings) -> Proxy | None:
    if of_cluster:
        return _parsed(of_cluster.reveal(), "proxy-url", "")
    if _is_here(server):
        return None
    word = "HTTPS_PROXY" if server.startswith("https://") else "HTTP_PROXY"
    for name in (word, word.lower()):
        if around.environment.get(name):
            exceptions = around.environment.get("NO_PROXY") or around.environment.get("no_proxy")
            return _parsed(around.environment[name], name, exceptions or "")
    return None


def _is_here(server: str) -> bool:
    """Whether it is this machine, which no variable's proxy is asked for."""
    host = urlsplit(server).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")


def _parsed(url: str, source: str, exceptions: str) -> Proxy:
    parts = _split(url if "://" in url else f"http://{url}")
    if parts is not None and parts.scheme.startswith("socks"):
        raise ClusterError(
            f"The proxy in {source} is a SOCKS proxy, which is not supported.",
            remedy="Name an HTTP proxy, or use `kubectl proxy` behind it.",
        )
    if parts is None or parts.scheme not in {"http", "https"}:
        raise ClusterError(
            f"The proxy address in {source} is not like http://HOST:PORT.",
            remedy=f"Correct {source}.",
        )
    login = ""
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    host = parts.netloc.rpartition("@")[2]
    return Proxy(f"{parts.scheme}://{host}", Secret(login), source, exceptions)
