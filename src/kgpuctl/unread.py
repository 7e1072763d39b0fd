"""A fact that could not be had: of a host or of a cluster. "Could not look" is never "no"."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, TypeVar

T = TypeVar("T")


class Reason(StrEnum):
    """Why a fact could not be had."""

    NOT_PERMITTED = "permission denied"
    NOT_RECORDED = "not recorded"
    UNUSABLE = "not usable"
    NOT_OFFERED = "not offered"  # this kind of source never has it: the check is skipped


@dataclass(frozen=True, slots=True)
class Unread:
    """A fact that could not be had; `detail` says what was wrong with an unusable one.

    `path` names what was to be read: a file, or a resource. `remedy` says how to get to see it,
    where that is not the same for every fact of its kind.
    """

    path: str
    reason: Reason
    detail: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.detail or self.reason}"


Fact: TypeAlias = T | Unread
