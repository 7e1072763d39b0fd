"""What can go wrong with a cluster; all of it is UnreachableError, so the exit code is 4."""

from typing import Self

from kgpuctl.cluster.asked import Asked
from kgpuctl.errors import UnreachableError


class ClusterError(UnreachableError):
    """A cluster was not reached, or did not do what was asked.

    `status` is the HTTP status, 0 where there was no answer. `causes` are the server's own
    details. `uncertain` says that a change may have been made all the same.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str,
        status: int = 0,
        causes: tuple[str, ...] = (),
        uncertain: bool = False,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.causes = causes
        self.uncertain = uncertain

    def ending(self, sentence: str) -> Self:
        """Return it as the last word on a request, with why it is not tried again."""
        doubt = "Whether it was done all the same is not known." if self.uncertain else ""
        return self.adding(" ".join(part for part in (sentence, doubt) if part))

    def adding(self, sentence: str) -> Self:
        """Return it with one more sentence, said by who knows more than who made it."""
        self.message = f"{self.message} {sentence}".strip()
        self.args = (self.message,)
        return self


class CredentialError(ClusterError):
    """There is no credential to show, or the server does not take it (401)."""


class NotFoundError(ClusterError):
    """The object, or the whole kind of object, is not there (404)."""


class ConflictError(ClusterError):
    """Somebody else changed or owns it (409)."""


class ExpiredError(ClusterError):
    """What a list or watch goes on from is too old (410): list anew."""


class TooManyRequestsError(ClusterError):
    """Refused for now (429): by a PodDisruptionBudget, or because the server is busy."""


class ForbiddenError(ClusterError):
    """The user lacks a right (403)."""

    def __init__(self, message: str, asked: Asked, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy, status=403)
        self.verb = asked.verb
        self.resource = asked.resource
        self.subresource = asked.subresource
        self.namespace = asked.namespace
