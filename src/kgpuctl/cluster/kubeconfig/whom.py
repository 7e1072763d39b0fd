"""The whole answer to "which cluster, as whom, proved how": from a kubeconfig, or from a pod."""

import binascii
import json
import time
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kgpuctl.cluster.access import Access, Identity, Patience, Surroundings
from kgpuctl.cluster.deadline import Deadline
from kgpuctl.cluster.failures import ClusterError, CredentialError
from kgpuctl.cluster.kubeconfig.choice import Choice, choose
from kgpuctl.cluster.kubeconfig.credential import (
    Credential,
    Fixed,
    Source,
    TokenFile,
    bearer,
    written_credential,
)
from kgpuctl.cluster.kubeconfig.files import kubeconfig_paths, read_kubeconfig
from kgpuctl.cluster.kubeconfig.plugin import Plugin
from kgpuctl.cluster.kubeconfig.shapes import Provider
from kgpuctl.cluster.kubeconfig.target import (
    Target,
    check_authorities,
    read_small,
    target_of,
)
from kgpuctl.errors import UsageError

_MOVED: Final = {
    "gcp": "gke-gcloud-auth-plugin (`gcloud container clusters get-credentials NAME`)",
    "azure": "kubelogin (`kubelogin convert-kubeconfig`)",
    "oidc": "kubectl oidc-login",
}


@dataclass(frozen=True, slots=True)
class Whom:
    """A target, a source of credentials, and in whose place requests are made."""

    identity: Identity
    target: Target
    source: Source
    impersonation: tuple[tuple[str, str], ...] = ()


def find(access: Access, around: Surroundings, patience: Patience, deadline: Deadline) -> Whom:
    """Return whom to ask as what; a pod's service account where there is no kubeconfig."""
    if access.as_groups and not access.as_user:
        raise UsageError("--as-group is given without --as.", remedy="Name the user with --as.")
    config = read_kubeconfig(access.kubeconfig, around)
    if config is None:
        if access.context is None and around.environment.get("KUBERNETES_SERVICE_HOST"):
            return _in_cluster(access, around)
        paths = ", ".join(str(path) for path in kubeconfig_paths(None, around))
        raise ClusterError(
            f"There is no kubeconfig: {paths} is not there.",
            remedy="Name one with --kubeconfig or KUBECONFIG.",
        )
    choice = choose(config, access)
    target = target_of(choice, around)
    headers = _impersonation(choice, access)
    return Whom(
        Identity(
            choice.context, choice.cluster_name, target.server, _user(choice.user_name, headers)
        ),
        target,
        _guarded(_source(choice, target, around, patience, deadline), choice, target),
        headers,
    )


def _source(
    choice: Choice, target: Target, around: Surroundings, patience: Patience, deadline: Deadline
) -> Source:
    """Return the source in kubectl's order: a token or its file, then a plugin."""
    user = choice.user
    if user.exec is not None and not user.token and not user.token_file:
        return Plugin(choice, user.exec, target, around.environment, deadline, patience.plugin)
    if user.auth_provider is not None and not user.token and not user.token_file:
        return Fixed(_provided(choice, user.auth_provider))
    written = written_credential(choice)
    if user.token_file:
        path = choice.user_directory / user.token_file
        return TokenFile(path, f"the user {choice.user_name}", written)
    return Fixed(written)


def _guarded(source: Source, choice: Choice, target: Target) -> Source:
    """Refuse to send credentials where everybody can read them."""
    if target.is_encrypted or (not source.renewable and source.fetch().is_none):
        return source
    raise ClusterError(
        f"The server of the cluster {choice.cluster_name} is {target.server}: the credentials of "
        f"the user {choice.user_name} would be sent unencrypted.",
        remedy="Write its address with https:// in the kubeconfig.",
    )


def _provided(choice: Choice, provider: Provider) -> Credential:
    """Return the token of an auth-provider as long as it lasts; kubectl itself dropped most."""
    whose = f"the user {choice.user_name}"
    instead = _MOVED.get(provider.name, "a credential plugin (exec)")
    token = provider.config["id-token"].reveal() if "id-token" in provider.config else ""
    if provider.name != "oidc" or not token:
        raise CredentialError(
            f"The auth-provider {provider.name[:80]!r} of {whose} is not supported, as in kubectl.",
            remedy=f"Change the user to {instead}.",
        )
    expires = _expiry(token)
    if expires is None or expires <= time.time():
        raise CredentialError(
            f"The id-token of {whose} has expired or cannot be read.",
            remedy=f"Log in again (kubectl renews it), or change the user to {instead}.",
        )
    return Credential(bearer(token, whose))


def _expiry(token: str) -> float | None:
    """Return when a JWT expires."""
    try:
        claims = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
        return float(claims["exp"])
    except (binascii.Error, ValueError, LookupError, TypeError, RecursionError):
        return None


def _impersonation(choice: Choice | None, access: Access) -> tuple[tuple[str, str], ...]:
    """Return the headers; what the options say stands for all that the kubeconfig says."""
    if access.as_user:
        headers = [("Impersonate-User", access.as_user)]
        headers += [("Impersonate-Group", group) for group in access.as_groups]
    elif choice is not None and choice.user.impersonate:
        user = choice.user
        headers = [("Impersonate-User", user.impersonate)]
        headers += [("Impersonate-Uid", user.impersonate_uid)] if user.impersonate_uid else []
        headers += [("Impersonate-Group", group) for group in user.impersonate_groups]
        headers += [
            (f"Impersonate-Extra-{key}", value)
            for key, values in user.impersonate_extra.items()
            for value in values
        ]
    else:
        return ()
    for key, value in headers:
        if not (key + value).isprintable() or not key.isascii() or {" ", ":"} & set(key):
            raise UsageError(
                f"{value[:80]!r} cannot be the name of a user or group.",
                remedy="Correct --as and --as-group.",
            )
    # A header is Latin-1 on its way; the server reads UTF-8.
    return tuple((key, value.encode().decode("latin-1")) for key, value in headers)


def _user(name: str, headers: tuple[tuple[str, str], ...]) -> str:
    mine = name or "an anonymous user"
    if not headers:
        return mine
    return f"{mine} (as {headers[0][1].encode('latin-1').decode()})"


def _in_cluster(access: Access, around: Surroundings) -> Whom:
    """Return the API server of the cluster whose pod this runs in, as its service account."""
    whose = "the service account of this pod"
    host = around.environment["KUBERNETES_SERVICE_HOST"]
    port = around.environment.get("KUBERNETES_SERVICE_PORT", "443")
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    authorities = read_small("ca.crt", around.service_account / "ca.crt", whose)
    check_authorities(authorities, "this pod")
    token: Path = around.service_account / "token"
    headers = _impersonation(None, access)
    return Whom(
        Identity("in-cluster", "of this pod", server, _user(whose, headers)),
        Target(server, authorities),
        TokenFile(token, whose, Credential()),
        headers,
    )
