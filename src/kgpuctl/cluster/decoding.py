"""From JSON to values, also where a server writes null for nothing."""

from collections.abc import Hashable
from functools import cache
from typing import TypeVar, cast

import msgspec

T = TypeVar("T")


@cache
def _decoder(kind: Hashable) -> msgspec.json.Decoder[object]:
    return msgspec.json.Decoder(kind)


def decode(content: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Decode JSON; raises msgspec's errors, which tell the place that is not as it should be.

    Servers and tools write null where others write nothing at all. That is rare, so it is only
    looked for where the plain way failed.
    """
    try:
        return cast("T", _decoder(cast("Hashable", kind)).decode(content))
    except msgspec.ValidationError:
        return msgspec.convert(_without_nulls(msgspec.json.decode(content)), kind)


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value if item is not None]
    return value
