"""A cluster that fits what steps ask for, and keeps what they write."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

import msgspec

from kgpuctl.cluster.asked import asked
from kgpuctl.cluster.failures import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    TooManyRequestsError,
)
from kgpuctl.cluster.listing import Listing
from kgpuctl.cluster.resources import Resource
from steps.store import Answer, Store

T = TypeVar("T")
U = TypeVar("U")

NOTHING: Mapping[str, str] = MappingProxyType({})
KINDS = {404: NotFoundError, 409: ConflictError, 429: TooManyRequestsError}


class FakeCluster:
    """Requests without a network: to a store, or refused as the store says."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def read(self, path: str, kind: type[T], *, query: Mapping[str, str] = NOTHING) -> T:
        return msgspec.json.decode(self._ask("GET", path, query, None), type=kind)

    def list(  # noqa: PLR0913  # as the boundary has it
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
        query = {"labelSelector": selector, "fieldSelector": fields, "limit": str(limit)}
        body = self._ask("GET", resource.path(namespace=namespace), query, None)
        items = msgspec.json.decode(body, type=dict[str, msgspec.Raw])["items"]
        kept = [keep(one) for one in msgspec.json.decode(items, type=list[item])]  # type: ignore[valid-type]
        return Listing(tuple(one for one in kept if one is not None), "1")

    def send(  # noqa: PLR0913  # as the boundary has it
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, object] | None = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, str] = NOTHING,
        safe_to_repeat: bool = False,
        accept: str = "application/json",
    ) -> bytes:
        assert (method == "PATCH") == (content_type == "application/merge-patch+json")
        assert "application/json" in accept
        assert safe_to_repeat, "what is sent carries what makes it safe to repeat"
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self._ask(method, path, query, content)

    def _ask(self, method: str, path: str, query: Mapping[str, str], body: bytes | None) -> bytes:
        answer = self.store.handle(method, path, query, body)
        if answer.status < 300:
            return answer.body
        raise error_of(answer, method, path)


def error_of(answer: Answer, method: str, path: str) -> ClusterError:
    """Return what the boundary makes of a refusal."""
    message = f"the server answers {answer.status}: {answer.value['message']}."
    if answer.status == 403:
        return ForbiddenError(message, asked(method, path, {}), remedy="Grant it.")
    causes = answer.value["details"].get("causes", [])
    return KINDS.get(answer.status, ClusterError)(
        message,
        remedy="Try again.",
        status=answer.status,
        causes=tuple(cause["message"] for cause in causes),
        uncertain=answer.status >= 500,
    )
