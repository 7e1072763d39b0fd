"""What a TLS connection shows and trusts. Keys never touch the disk."""

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from kgpuctl.cluster.access import Identity
from kgpuctl.cluster.failures import CredentialError
from kgpuctl.cluster.kubeconfig.credential import Credential
from kgpuctl.cluster.kubeconfig.target import Target

_CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"
_KEY: Final = "PRIVATE KEY-----"
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17


def tls_context(target: Target, credential: Credential, identity: Identity) -> ssl.SSLContext:
    """Return what to speak TLS with: the cluster's authorities, else the system's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    if not target.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif target.authorities:
        context.load_verify_locations(cadata=target.authorities)
    else:
        context.load_default_certs()
    if credential.certificate:
        _show(context, credential, identity)
    return context


def _show(context: ssl.SSLContext, credential: Credential, identity: Identity) -> None:
    key = credential.key.reveal()
    if _CERTIFICATE not in credential.certificate:
        raise _unusable(identity, "the client certificate is no PEM certificate")
    if _KEY not in key:
        raise _unusable(identity, "the client key is missing or no PEM key")
    try:
        load_pair(context, credential.certificate.encode(), key.encode())
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _unusable(identity, "the client key does not belong to the certificate") from None
        raise _unusable(
            identity, "the client certificate or key is damaged, or the key is encrypted"
        ) from None
    except (OSError, ValueError):  # a pipe leaves its own error instead of the library's
        raise _unusable(
            identity, "the client certificate and key are damaged or not of one pair"
        ) from None


def memory_file(content: bytes) -> int:
    """Return a descriptor of a file that is in memory only (Linux)."""
    descriptor = os.memfd_create("credential")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def pipe_file(content: bytes) -> int:
    """Return a descriptor to read the content from once; 64 KiB at most, far more than a chain."""
    begin, end = os.pipe()
    try:
        os.set_blocking(end, False)
        if os.write(end, content) == len(content):
            return begin
    finally:
        os.close(end)
    os.close(begin)
    raise ValueError("larger than any certificate")


Held = Callable[[bytes], int]
_HELD: Final[Held] = memory_file if hasattr(os, "memfd_create") else pipe_file


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes, held: Held = _HELD) -> None:
    """Load a certificate and its key, although the library takes only names of files."""
    descriptors = [held(certificate)]
    try:
        descriptors.append(held(key))
        chain, secret = (f"/dev/fd/{descriptor}" for descriptor in descriptors)
        # Without a password of ours an encrypted key would be asked for on the terminal.
        context.load_cert_chain(chain, secret, password="")
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _unusable(identity: Identity, what: str) -> CredentialError:
    return CredentialError(
        f"The credentials of {identity.user} for {identity} cannot be used: {what}.",
        remedy="Correct the user in the kubeconfig, or get a new one.",
    )


def expiry(certificate: str) -> datetime | None:
    """Return until when a certificate (PEM) is good, or None where that cannot be told."""
    begin = certificate.find(_CERTIFICATE)
    end = certificate.find("-----END CERTIFICATE-----", begin)
    try:
        der = ssl.PEM_cert_to_DER_cert(certificate[begin:end] + "-----END CERTIFICATE-----")
        body = _inside(_inside(der, 0)[1], 0)[1]
        position = 0
        if body[0] == _VERSION:
            position = _inside(body, 0)[2]
        for _ in range(3):  # serial number, algorithm, issuer
            position = _inside(body, position)[2]
        validity = _inside(body, position)[1]
        kind, text, _ = _inside(validity, _inside(validity, 0)[2])
        form = "%y%m%d%H%M%SZ" if kind == _UTC_TIME else "%Y%m%d%H%M%SZ"
        return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC)
    except (ValueError, IndexError):
        return None


def _inside(der: bytes, position: int) -> tuple[int, bytes, int]:
    """Return tag and content of the DER element at a position, and where the next one begins."""
    tag, length, start = der[position], der[position + 1], position + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[start : start + size], "big")
        start += size
    return tag, der[start : start + length], start + length
