"""What a cluster answers: whole lists, and changes since then."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")


class Version(Struct, frozen=True, rename="camel"):
    """What the API server says of itself."""

    git_version: str
    major: str = ""
    minor: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A whole list, never a part of one, and the resourceVersion that a watch goes on from."""

    items: tuple[T, ...]
    version: str


class ChangeKind(StrEnum):
    """What happened to an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One event of a watch; a bookmark has no object and only says how far the watch has come."""

    kind: ChangeKind
    object: T | None
    version: str
