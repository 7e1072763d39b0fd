"""Credential plugins: programs that a kubeconfig names and that print an ExecCredential.

The kubernetes library only logs when one fails, and goes on without a credential; here each way
of failing is an error, and nothing that a plugin printed is ever shown but its last complaint.
"""

import base64
import json
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from kgpuctl.cluster.deadline import Deadline
from kgpuctl.cluster.failures import CredentialError
from kgpuctl.cluster.kubeconfig.choice import Choice
from kgpuctl.cluster.kubeconfig.credential import Credential, bearer
from kgpuctl.cluster.kubeconfig.running import Done, run
from kgpuctl.cluster.kubeconfig.shapes import Exec
from kgpuctl.cluster.kubeconfig.target import Target
from kgpuctl.cluster.redact import redact
from kgpuctl.cluster.secret import HIDDEN, Secret
from kgpuctl.report import printable

_VERSIONS: Final = (
    "client.authentication.k8s.io/v1",
    "client.authentication.k8s.io/v1beta1",
)
_LONGEST: Final = 200  # of its last line in a message
_SHORTEST: Final = 4  # of a value that is taken out of its last line


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """The credential in an answer."""

    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: str = ""


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """What a plugin prints."""

    api_version: str
    kind: str
    status: Status | None = None


@dataclass(frozen=True, slots=True)
class Plugin:
    """A source of credentials that is a program."""

    renewable: ClassVar[bool] = True

    choice: Choice
    exec: Exec
    target: Target
    environment: Mapping[str, str]
    deadline: Deadline
    seconds: float

    def fetch(self) -> Credential:
        """Run the program; whatever is wrong with it or its answer is an error."""
        plugin = self.exec
        if plugin.api_version not in _VERSIONS:
            raise self._error(
                f"is declared for apiVersion {plugin.api_version or 'none'}",
                f"Set its apiVersion to {' or '.join(_VERSIONS)}.",
            )
        if plugin.interactive_mode == "Always":
            raise self._error(
                'wants a terminal (interactiveMode "Always"), which it is not given here',
                "Log in with kubectl and use a kubeconfig with a token or a certificate, "
                "or set interactiveMode to IfAvailable.",
            )
        return self._credential(self._answer(self._run()))

    def _run(self) -> Done:
        plugin = self.exec
        environment = dict(self.environment)
        environment |= {item.name: item.value.reveal() for item in plugin.env}
        environment["KUBERNETES_EXEC_INFO"] = json.dumps(self._information())
        seconds = min(self.seconds, self.deadline.left)
        try:
            done = run(
                [self._program(environment), *(word.reveal() for word in plugin.args)],
                environment,
                Path.cwd(),
                seconds,
            )
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "its command line is not usable"
            raise self._error(f"cannot be started: {why}", self._install()) from None
        if done.code is None:
            raise self._error(
                f"had not ended after {seconds:g} s and was killed{self._complaint(done)}",
                "Run `kubectl get --raw /version` to see what it waits for; it may want a login.",
            )
        if done.code != 0:
            raise self._error(f"{_ended(done.code)}{self._complaint(done)}", self._login())
        return done

    def _program(self, environment: Mapping[str, str]) -> str:
        """Return what to run: a bare name from PATH, a path from the kubeconfig's directory."""
        command = self.exec.command
        if not command:
            raise self._error("has no command", "Correct the kubeconfig.")
        if "/" in command:
            return str(self.choice.user_directory / command)
        found = shutil.which(command, path=environment.get("PATH"))
        if found is None:
            raise self._error("is not installed: it is not in PATH", self._install())
        return found

    def _information(self) -> dict[str, object]:
        spec: dict[str, object] = {"interactive": False}
        if self.exec.provide_cluster_info:
            target = self.target
            cluster: dict[str, object] = {"server": target.server}
            if target.authorities:
                cluster["certificate-authority-data"] = _base64(target.authorities)
            if target.server_name:
                cluster["tls-server-name"] = target.server_name
            if not target.verify:
                cluster["insecure-skip-tls-verify"] = True
            spec["cluster"] = cluster
        return {"apiVersion": self.exec.api_version, "kind": "ExecCredential", "spec": spec}

    def _answer(self, done: Done) -> Answer:
        try:
            answer = msgspec.json.decode(done.stdout, type=Answer)
        except (msgspec.DecodeError, RecursionError):
            what = "nothing" if not done.stdout.strip() else "something that is no ExecCredential"
            raise self._error(f"printed {what}", self._login()) from None
        if answer.kind != "ExecCredential":
            raise self._error("printed something that is no ExecCredential", self._login())
        if answer.api_version != self.exec.api_version:
            raise self._error(
                f"answered in apiVersion {printable(answer.api_version)[:80]}, but the kubeconfig "
                f"says {self.exec.api_version}",
                "Set the apiVersion in the kubeconfig to what this version of the plugin speaks.",
            )
        return answer

    def _credential(self, answer: Answer) -> Credential:
        status = answer.status or Status()
        has_key = bool(status.client_certificate_data and status.client_key_data)
        if not status.token and not has_key:
            raise self._error("gave an empty credential", self._login())
        expires = self._expiry(status.expiration_timestamp)
        if expires is not None and expires <= datetime.now(UTC):
            raise self._error(f"gave a credential that expired at {expires:%F %T}Z", self._login())
        whose = f"the user {self.choice.user_name}"
        return Credential(
            bearer(status.token, whose) if status.token else Secret(""),
            status.client_certificate_data,
            Secret(status.client_key_data),
            None if expires is None else expires.timestamp(),
        )

    def _expiry(self, text: str) -> datetime | None:
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise self._error("gave a credential with an expirationTimestamp that is no time", "")
        return moment

    def _complaint(self, done: Done) -> str:
        """Return its last line on stderr, without what was given to it or printed as a secret."""
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        if not lines:
            return ""
        line = lines[-1].strip()
        for secret in self._secrets(done.stdout):
            line = line.replace(secret, HIDDEN)
        line = printable(redact(line))
        return f': "{line[:_LONGEST]}{"…" if len(line) > _LONGEST else ""}"'

    def _secrets(self, stdout: bytes) -> list[str]:
        """Return what is known to be secret, the longest first."""
        values = [item.value.reveal() for item in self.exec.env]
        values += [word.reveal() for word in self.exec.args if not word.reveal().startswith("-")]
        values += [value.partition("=")[2] for value in values]
        try:
            status = msgspec.json.decode(stdout, type=Answer).status or Status()
            values += [status.token, status.client_key_data]
        except msgspec.DecodeError:
            values += stdout.decode(errors="replace").split()
        return sorted({value for value in values if len(value) >= _SHORTEST}, key=len, reverse=True)

    def _install(self) -> str:
        hint = printable(self.exec.install_hint.strip().replace("\n", " "))[:400]
        return hint or "Install it, or correct the kubeconfig."

    def _login(self) -> str:
        return "Log in again as for kubectl; `kubectl get --raw /version` must work."

    def _error(self, what: str, remedy: str) -> CredentialError:
        name = printable(Path(self.exec.command).name)[:80]
        return CredentialError(
            f"The credential plugin {name} of the user {self.choice.user_name} "
            f"(context {self.choice.context}) {what}.",
            remedy=remedy or self._login(),
        )


def _ended(code: int) -> str:
    if code > 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
