"""A value that no message, no repr and no traceback may show."""

from typing import Final

HIDDEN: Final = "[hidden]"


class Secret:
    """Hold a credential; only `reveal` gives it, and only what sends it calls that."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return HIDDEN

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is neither copied nor written anywhere")

    def reveal(self) -> str:
        """Return the credential."""
        return self._value
