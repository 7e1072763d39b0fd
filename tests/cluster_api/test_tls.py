"""Loading a certificate and a key without a file, on systems with and without memory files."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from kgpuctl.cluster.wire.tls import Held, expiry, load_pair, memory_file, pipe_file


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize("held", [memory_file, pipe_file])
def test_a_pair_is_loaded(held: Held, authority: trustme.CA) -> None:
    leaf = authority.issue_cert("alice@example.org")
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    before = open_descriptors()

    load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), chain, leaf.private_key_pem.bytes(), held)

    assert open_descriptors() == before


@pytest.mark.parametrize("held", [memory_file, pipe_file])
def test_what_is_no_pair_leaves_nothing_open(held: Held, authority: trustme.CA) -> None:
    leaf = authority.issue_cert("alice@example.org")
    before = open_descriptors()

    with pytest.raises(OSError, match=r"."):
        load_pair(
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), leaf.cert_chain_pems[0].bytes(), b"x", held
        )
    assert open_descriptors() == before


def test_more_than_a_pipe_holds_is_refused(authority: trustme.CA) -> None:
    leaf = authority.issue_cert("alice@example.org")
    before = open_descriptors()

    with pytest.raises(ValueError, match="larger than any certificate"):
        load_pair(
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            leaf.cert_chain_pems[0].bytes(),
            b"x" * 100_000,
            pipe_file,
        )
    assert open_descriptors() == before


@pytest.mark.parametrize("year", [2031, 2077])
def test_until_when_a_certificate_is_good(year: int, authority: trustme.CA) -> None:
    until = datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)
    leaf = authority.issue_cert("alice@example.org", not_after=until)

    assert expiry(leaf.cert_chain_pems[0].bytes().decode()) == until


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----",
    ],
)
def test_what_is_no_certificate_has_no_end(text: str) -> None:
    assert expiry(text) is None
