"""Lists in pages; a list that expires on the way is begun anew, never given in part."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from kgpuctl.cluster.decoding import decode
from kgpuctl.cluster.failures import ClusterError, ExpiredError
from kgpuctl.cluster.listing import Listing

T = TypeVar("T")
U = TypeVar("U")


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """Where a page stands in its list."""

    resource_version: str
    next: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A part of a list. What has no items and no version is no list, whatever it is."""

    kind: str
    metadata: Metadata
    items: list[T] | None


def page_decoder(item: type[T]) -> Callable[[bytes], Page[T]]:
    """Return what decodes a page of such objects, and refuses what is something else."""
    kind: type[Page[T]] = Page[item]  # type: ignore[valid-type]

    def decoded(body: bytes) -> Page[T]:
        page = decode(body, kind)
        if not page.kind.endswith("List"):
            raise msgspec.ValidationError(f"the answer is a {page.kind[:80]!r}, not a list")
        return page

    return decoded


def all_pages(
    get: "Callable[[Mapping[str, str]], Page[T]]",
    keep: Callable[[T], U | None],
    query: Mapping[str, str],
    restarts: int,
    tell: Callable[[str], None],
) -> Listing[U]:
    """Return what is kept of a whole list."""
    for attempt in range(restarts + 1):
        try:
            return _once(get, keep, query)
        except ExpiredError as error:
            if attempt == restarts:
                raise error.adding(f"The list was begun anew {restarts} times.") from None
            tell("the list expired while it was read and is begun anew")
    raise AssertionError("a list ends with its pages or with an error")


def _once(
    get: "Callable[[Mapping[str, str]], Page[T]]",
    keep: Callable[[T], U | None],
    query: Mapping[str, str],
) -> Listing[U]:
    kept: list[U] = []
    version = ""
    seen: set[str] = set()
    while True:
        page = get(query)
        version = version or page.metadata.resource_version
        kept.extend(value for item in page.items or () if (value := keep(item)) is not None)
        after = page.metadata.next
        if not after:
            return Listing(tuple(kept), version)
        if after in seen:
            raise ClusterError(
                "The API server gives the same part of a list again and again.",
                remedy="Look at what stands between this machine and the API server.",
            )
        seen.add(after)
        query = {**query, "continue": after}
