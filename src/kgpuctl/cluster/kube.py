"""The boundary to Kubernetes: requests in, our own values or our own errors out.

Nothing else imports `kubernetes`, and of it only what opens connections: its kubeconfig loader goes
on without credentials where a plugin fails, and its models lose fields.
"""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import urllib3
from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import RESTClientObject, should_bypass_proxies

from kgpuctl.cluster.access import Access, Identity, Patience, Surroundings
from kgpuctl.cluster.asked import asked
from kgpuctl.cluster.deadline import Deadline
from kgpuctl.cluster.decoding import decode
from kgpuctl.cluster.kubeconfig.target import Target
from kgpuctl.cluster.kubeconfig.whom import Whom, find
from kgpuctl.cluster.listing import Change, Listing, Version
from kgpuctl.cluster.resources import ACCESS_REVIEWS, PODS, Call, Resource
from kgpuctl.cluster.wire.caller import Caller
from kgpuctl.cluster.wire.exchange import Request
from kgpuctl.cluster.wire.pages import Page, all_pages, page_decoder
from kgpuctl.cluster.wire.watching import Watch
from kgpuctl.errors import UsageError

T = TypeVar("T")
U = TypeVar("U")

# A kubelet that is down stays so, and there may be many logs on it.
_LOG_TRIES: Final = 2
_CONNECTIONS: Final = 32  # kept open; more than ever ask at once
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_PATIENCE: Final = Patience()


def ignore(_: str) -> None:
    """Tell nobody."""


class KubeCluster:
    """One cluster, as one user; any number of threads may ask it at once."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @classmethod
    def connect(
        cls,
        access: Access,
        tell: Callable[[str], None] = ignore,
        *,
        around: Surroundings | None = None,
        patience: Patience = _PATIENCE,
    ) -> "KubeCluster":
        """Return the cluster that the options mean, with a credential at hand, before any request.

        `tell` is given a line for each request and each retry; no secret is in any.
        """
        deadline = Deadline(access.timeout)
        whom = _on_its_way(find(access, around or Surroundings.here(), patience, deadline))
        caller = Caller(whom, _open_pool, patience, deadline, tell)
        if whom.target.is_encrypted and not whom.target.verify:
            tell("The certificate of the API server is not verified.")
        caller.open()
        return cls(caller)

    @property
    def identity(self) -> Identity:
        """Who asks whom."""
        return self._caller.whom.identity

    @property
    def retries(self) -> int:
        """How many requests were sent again so far."""
        return self._caller.retries

    def version(self) -> Version:
        """Return the API server's version."""
        return self.read("/version", Version)

    def read(self, path: str, kind: type[T], *, query: Mapping[str, str] = _NOTHING) -> T:
        """Return one object."""
        request = self._request("GET", path, query, is_safe=True)
        return self._caller.call(request, lambda body: decode(body, kind))

    def list(  # noqa: PLR0913  # the ways to narrow a list
        self,
        resource: Resource,
        item: type[T],
        keep: Callable[[T], U | None],
        *,
        namespace: str = "",
        selector: str = "",
        fields: str = "",
        limit: int = 500,
    ) -> Listing[U]:
        """Return what `keep` makes of each object of a whole list; None is left out."""
        decode_page = page_decoder(item)
        path = resource.path(namespace=namespace)

        def get(query: Mapping[str, str]) -> Page[T]:
            return self._caller.call(self._request("GET", path, query, is_safe=True), decode_page)

        query = {"limit": str(limit)} | _selection(selector, fields)
        restarts = self._caller.patience.restarts
        tell = self._caller.say
        return all_pages(get, keep, query, restarts, lambda text: tell(f"GET {path}: {text}"))

    def watch(  # noqa: PLR0913  # the ways to narrow a watch
        self,
        resource: Resource,
        item: type[T],
        since: str,
        *,
        stop: threading.Event,
        namespace: str = "",
        selector: str = "",
        fields: str = "",
    ) -> Iterator[Change[T]]:
        """Yield what changes after a version, until `stop` or the deadline.

        ExpiredError says that the version is too old: list anew.
        """
        path = resource.path(namespace=namespace)
        chosen = _selection(selector, fields)
        return Watch(
            self._caller,
            lambda query: self._request("GET", path, {**query, **chosen}, is_safe=True),
            item,
            stop,
        ).changes(since)

    def send(  # noqa: PLR0913  # the parts of a request
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, object] | None = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, str] = _NOTHING,
        safe_to_repeat: bool = False,
        accept: str = "application/json",
    ) -> bytes:
        """Change something; repeated only where that is safe or the server surely did not act."""
        content = json.dumps(body).encode() if isinstance(body, Mapping) else body
        request = self._request(
            method, path, query, is_safe=safe_to_repeat, body=content, content_type=content_type
        )
        request = replace(request, is_change=True, accept=accept)
        return self._caller.call(request, bytes)

    def may(self, call: Call) -> bool:
        """Whether the user may make a call."""
        attributes = {
            "verb": call.verb,
            "group": call.resource.group,
            "version": call.resource.version,
            "resource": call.resource.plural,
            "subresource": call.subresource,
            "namespace": call.namespace,
            "name": call.name,
        }
        review = {
            "apiVersion": ACCESS_REVIEWS.api_version,
            "kind": ACCESS_REVIEWS.kind,
            "spec": {
                "resourceAttributes": {key: value for key, value in attributes.items() if value}
            },
        }
        request = self._request(
            "POST",
            ACCESS_REVIEWS.path(),
            _NOTHING,
            is_safe=True,
            body=json.dumps(review).encode(),
            content_type="application/json",
        )
        return self._caller.call(request, msgspec.json.Decoder(_Review).decode).status.allowed

    def logs(self, namespace: str, pod: str, container: str, *, previous: bool, tail: int) -> bytes:
        """Return the end of a container's log, or of the log of the one before it."""
        query = {"container": container, "tailLines": str(tail)}
        query |= {"previous": "true"} if previous else {}
        request = replace(
            self._request(
                "GET", f"{PODS.path(pod, namespace)}/log", query, is_safe=True, accept="*/*"
            ),
            most_tries=_LOG_TRIES,
        )
        return self._caller.call(request, bytes)

    def _request(  # noqa: PLR0913  # the parts of a request
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        is_safe: bool,
        body: bytes | None = None,
        content_type: str = "",
        accept: str = "application/json",
    ) -> Request:
        if not path.startswith("/") or {".", ".."} & set(path.split("/")):
            raise UsageError(f"{path[:200]!r} is no path of an object.", remedy="Correct the name.")
        url = (
            self.identity.server
            + quote(path, safe="/:%")
            + (f"?{urlencode(query)}" if query else "")
        )
        return Request(
            method,
            url,
            asked(method, path, query),
            is_safe=is_safe,
            body=body,
            content_type=content_type,
            accept=accept,
        )


class _Permission(msgspec.Struct, frozen=True):
    allowed: bool


class _Review(msgspec.Struct, frozen=True):
    status: _Permission


def _selection(selector: str, fields: str) -> dict[str, str]:
    chosen = {"labelSelector": selector, "fieldSelector": fields}
    return {key: value for key, value in chosen.items() if value}


def _on_its_way(whom: Whom) -> Whom:
    """Leave the proxy out where NO_PROXY excepts the server, as messages must not name it then."""
    target = whom.target
    if target.proxy is None or not should_bypass_proxies(target.server, target.proxy.exceptions):
        return whom
    return replace(whom, target=replace(target, proxy=None))


def _open_pool(target: Target, context: ssl.SSLContext | None) -> urllib3.PoolManager:
    """Return connections by the library's own rules for proxies, without its retries.

    It takes certificates and keys as files only, and reads them at each connection; its pool takes
    a finished context.
    """
    proxy = target.proxy
    configuration = Configuration(
        host=target.server,
        proxy=proxy.url if proxy else "",
        no_proxy="",  # exceptions were made before
        proxy_headers=_proxy_headers(proxy.login.reveal()) if proxy else None,
        verify_ssl=target.verify,
        tls_server_name=target.server_name or None,
        connection_pool_maxsize=_CONNECTIONS,
    )
    pool: urllib3.PoolManager = RESTClientObject(configuration).pool_manager
    if context is not None:
        pool.connection_pool_kw["ssl_context"] = context
    if not target.verify:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return pool


def _proxy_headers(login: str) -> dict[str, str]:
    return urllib3.make_headers(proxy_basic_auth=login) if login else {}
