"""Keys and certificates for servers and users of the tests, made with openssl.

openssl comes with nearly every machine; a library for this would be one more thing to lock.
"""

import re
import secrets
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_DAYS: Final = "30"
_NEW_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class NoOpensslError(Exception):
    """There is no openssl here; the sentence says what to install."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The two PEM files of one identity."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority whose files lie in one directory; threads may share it."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory / name
        self._directory.mkdir()
        self._lock = threading.Lock()
        self._issued: dict[tuple[str, tuple[str, ...]], Certificate] = {}
        self._own = self._files("ca")
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-days", _DAYS, "-subj", _subject(name, ())),
            *("-keyout", str(self._own.key), "-out", str(self._own.certificate)),
        )

    @property
    def certificate(self) -> Path:
        """What a client must trust."""
        return self._own.certificate

    def issue(self, name: str, groups: Sequence[str] = ()) -> Certificate:
        """Return a certificate for a user of these groups, or a server on the loopback.

        Kubernetes takes the common name for the user and each organization for a group.
        """
        with self._lock:
            known = self._issued.get((name, tuple(groups)))
            if known is None:
                known = self._sign(name, groups)
                self._issued[name, tuple(groups)] = known
            return known

    def _sign(self, name: str, groups: Sequence[str]) -> Certificate:
        files = self._files(f"{len(self._issued)}")
        request, names = files.key.with_suffix(".csr"), files.key.with_suffix(".ext")
        names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n", encoding="ascii")
        _openssl(
            *("req", "-new", "-utf8", *_NEW_KEY, "-subj", _subject(name, groups)),
            *("-keyout", str(files.key), "-out", str(request)),
        )
        _openssl(
            *("x509", "-req", "-in", str(request), "-days", _DAYS, "-extfile", str(names)),
            *("-CA", str(self._own.certificate), "-CAkey", str(self._own.key)),
            *("-set_serial", f"0x{secrets.token_hex(8)}", "-out", str(files.certificate)),
        )
        return files

    def _files(self, stem: str) -> Certificate:
        return Certificate(self._directory / f"{stem}.crt", self._directory / f"{stem}.key")


def _subject(name: str, groups: Sequence[str]) -> str:
    """Write a name as -subj wants it."""
    parts = [*(("O", group) for group in groups), ("CN", name)]
    return "".join(f"/{kind}=" + re.sub(r"([/\\+])", r"\\\1", value) for kind, value in parts)


def _openssl(*arguments: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        raise NoOpensslError("There is no openssl here: install it (sh install.sh --dev).")
    subprocess.run([program, *arguments], check=True, capture_output=True, text=True)
