"""What goes wrong between a request and its answer, and the sentence that says so."""

import gzip
import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest
import trustme

from cluster_api.fake_api import VERSION, FakeApi, Reply, Seen, ok, serving, status
from cluster_api.workstation import QUICK, TOKEN, Workstation, kubeconfig
from kgpuctl.cluster.access import Access
from kgpuctl.cluster.failures import ClusterError, CredentialError, ForbiddenError, NotFoundError
from kgpuctl.cluster.resources import DAEMON_SETS, NODES, PODS

WHOLE = json.dumps(VERSION).encode()


class Anything(msgspec.Struct, frozen=True):
    pass


def refusal(workstation: Workstation, access: Access | None = None) -> ClusterError:
    with pytest.raises(ClusterError) as caught:
        workstation.connect(access).version()
    assert TOKEN not in caught.value.message + caught.value.remedy + "".join(workstation.told)
    assert caught.value.__cause__ is None
    assert caught.value.exit_code == 4
    return caught.value


def raw(content: bytes, then: Callable[[socket.socket], object] = lambda _: None) -> Reply:
    def write(connection: socket.socket) -> None:
        connection.sendall(content)
        then(connection)

    return Reply(raw=write)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    socket.socket.close(connection)


def dripping(api: FakeApi) -> Callable[[socket.socket], None]:
    def drip(connection: socket.socket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b" " * 500:
            if api.closing.wait(0.05):
                return
            connection.sendall(bytes([byte]))

    return drip


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
PACKED = {"Content-Encoding": "gzip"}
REPEATED = " It was tried 5 times."


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (status(401, "Unauthorized"), "the server does not accept the credentials (401)."),
        (
            status(403, "Forbidden", 'User "alice" cannot get path "/version"'),
            'the server answers 403: User "alice" cannot get path "/version".',
        ),
        (status(404, "NotFound", "no such"), "the server answers 404: no such."),
        (status(429, "TooManyRequests", "wait"), "the server answers 429: wait." + REPEATED),
        (status(500, "InternalError", "etcd"), "the server answers 500: etcd." + REPEATED),
        (
            Reply(502, b"<html>bad gateway</html>"),
            "something answers 502 with a web page, which no API server does." + REPEATED,
        ),
        (Reply(503, b"starting\nup"), "the server answers 503: starting." + REPEATED),
        (Reply(504), "the server answers 504." + REPEATED),
        (Reply(418, b"tea"), "the server answers 418: tea."),
        (
            Reply(503, b"", {"Retry-After": "3600"}),
            "the server answers 503. The server asks to wait 3600.0 s, which is too long.",
        ),
        (
            Reply(429, b"", {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}),
            "the server answers 429. The server asks to wait more than a day, which is too long.",
        ),
        (
            Reply(200, b"<html>log in</html>", {"Content-Type": "text/html"}),
            "the answer is a web page, not JSON.",
        ),
        (Reply(200, b"hello"), "the answer is not JSON."),
        (Reply(200), "the answer is empty." + REPEATED),
        (Reply(200, WHOLE[:30]), "the answer is not complete JSON." + REPEATED),
        (
            ok({"gitVersion": 7}),
            (
                "the answer has another shape than it should: "
                "Expected `str`, got `int` - at `$.gitVersion`."
            ),
        ),
        (Reply(302, b"", {"Location": "/elsewhere"}), "it is redirected elsewhere (302), "),
        (raw(HEAD + b"{"), "the connection broke off: the answer is cut short." + REPEATED),
        (
            raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"),
            "the connection broke off: the answer is cut short." + REPEATED,
        ),
        (Reply(200, b"no gzip", PACKED), "the answer cannot be unpacked." + REPEATED),
        (
            Reply(200, gzip.compress(WHOLE)[:-9], PACKED),
            "the connection broke off: the answer is cut short." + REPEATED,
        ),
        (Reply(200, b"x", {"Content-Encoding": "br"}), "the answer cannot be unpacked."),
        (raw(b"SSH-2.0-OpenSSH\r\n\r\n"), "the connection broke off: the answer is not HTTP."),
        (raw(b"", reset), "the connection broke off: it was reset." + REPEATED),
    ],
)
def test_an_answer_that_is_none(
    reply: Reply, said: str, api: FakeApi, workstation: Workstation
) -> None:
    api.answer("/version", reply)
    workstation.log_in(api.url)

    error = refusal(workstation)

    assert error.message.startswith(
        f"Cannot get /version in cluster prod (context night, {api.url}) as alice: {said}"
    )
    assert error.remedy
    assert api.count("/version") == (5 if "tried 5 times" in error.message else 1)


def test_a_server_that_never_answers(api: FakeApi, workstation: Workstation) -> None:
    api.answer("/version", raw(b"", lambda _: api.closing.wait(5)))
    workstation.log_in(api.url)

    assert "the connection is open, but nothing comes." in refusal(workstation).message
    assert api.count("/version") == QUICK.slow_tries


def test_a_server_that_stops_in_the_middle(api: FakeApi, workstation: Workstation) -> None:
    api.answer("/version", raw(HEAD + b"{", lambda _: api.closing.wait(5)))
    workstation.log_in(api.url)

    assert "the connection is open, but nothing comes." in refusal(workstation).message


def test_a_server_that_answers_byte_by_byte(api: FakeApi, workstation: Workstation) -> None:
    api.answer("/version", raw(b"", dripping(api)))
    workstation.log_in(api.url)

    with pytest.raises(ClusterError, match=r"no complete answer within 0\.4 s\. It was tried 3"):
        workstation.connect(patience=replace(QUICK, request=0.4)).version()


def test_a_server_that_takes_no_handshake(workstation: Workstation) -> None:
    with listening() as port:
        workstation.log_in(f"https://127.0.0.1:{port}")
        cluster = workstation.connect(patience=replace(QUICK, connect=0.1))

        with pytest.raises(ClusterError, match="is open, but nothing comes"):
            cluster.version()


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_time_of_the_whole_command_ends_a_request(
    api: FakeApi, workstation: Workstation
) -> None:
    api.answer("/version", raw(b"", dripping(api)))
    workstation.log_in(api.url)

    error = refusal(workstation, Access(timeout=0.3))

    assert error.message.endswith("the 0.3 s of --timeout are over.")


def test_the_time_of_the_whole_command_ends_a_wait(api: FakeApi, workstation: Workstation) -> None:
    api.answer("/version", Reply(429, b"", {"Retry-After": "30"}))
    workstation.log_in(api.url)

    error = refusal(workstation, Access(timeout=5))

    assert error.message.endswith("To try again in 30.0 s is beyond the 5 s of --timeout.")
    assert api.count("/version") == 1


def test_another_authority(workstation: Workstation) -> None:
    with serving(trustme.CA()) as api:
        workstation.log_in(api.url)

        error = refusal(workstation)

    assert error.message.endswith(
        f"the certificate of 127.0.0.1:{api.port} is not signed by the cluster's "
        "certificate-authority."
    )
    assert error.remedy.startswith("Take a kubeconfig of this cluster")


def test_a_certificate_for_another_name(authority: trustme.CA, workstation: Workstation) -> None:
    with serving(authority, "api.test") as api:
        api.answer("/version", ok(VERSION))
        workstation.log_in(api.url)

        error = refusal(workstation)
        assert error.message.endswith(
            f"the certificate of 127.0.0.1:{api.port} is not for the name 127.0.0.1."
        )

        workstation.log_in(api.url, cluster={"tls-server-name": "api.test"})
        assert workstation.connect().version().major == "1"


def test_certificates_are_not_looked_at_where_the_kubeconfig_says_so(
    workstation: Workstation,
) -> None:
    with serving(trustme.CA(), "api.test") as api:
        api.answer("/version", ok(VERSION))
        workstation.log_in(api.url, cluster={"insecure-skip-tls-verify": True})

        assert workstation.connect().version().major == "1"
    assert workstation.told[0] == "The certificate of the API server is not verified."


def test_a_certificate_that_has_expired(authority: trustme.CA, workstation: Workstation) -> None:
    with serving(authority, until=datetime(2020, 1, 1, tzinfo=UTC)) as api:
        workstation.log_in(api.url)

        assert refusal(workstation).message.endswith("has expired or is not valid yet.")


def test_a_ca_where_a_server_stands(authority: trustme.CA, workstation: Workstation) -> None:
    """Any other way in which a certificate is not trusted is said in the library's words."""
    with serving(authority.create_child_ca()) as api:
        workstation.write(kubeconfig(api.url, trustme.CA()))

        assert "the certificate of 127.0.0.1" in refusal(workstation).message


def test_an_answer_without_end(api: FakeApi, workstation: Workstation) -> None:
    workstation.log_in(api.url)
    cluster = workstation.connect(patience=replace(QUICK, largest=1000))
    for body, headers in ((b" " * 2000, {}), (gzip.compress(b" " * 2000), PACKED)):
        api.answer("/version", Reply(200, body, headers))

        with pytest.raises(ClusterError, match="the answer is larger than any that was asked for"):
            cluster.version()


def test_an_answer_in_chunks(api: FakeApi, workstation: Workstation) -> None:
    parts = [b"%x\r\n%s\r\n" % (len(part), part) for part in (WHOLE[:9], WHOLE[9:])]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    api.answer("/version", raw(head + b"".join(parts) + b"0\r\n\r\n"))
    workstation.log_in(api.url)

    assert workstation.connect().version().major == "1"


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..test"])
def test_an_address_that_no_name_can_have(host: str, workstation: Workstation) -> None:
    workstation.log_in(f"https://{host}:6443")

    assert f"{host}:6443 is no usable address" in refusal(workstation).message


def test_a_server_without_tls(authority: trustme.CA, workstation: Workstation) -> None:
    with serving(authority, tls=False) as api:
        workstation.log_in(api.url)

        assert refusal(workstation).message.endswith("does not speak TLS.")


def test_nobody_listens(workstation: Workstation) -> None:
    with listening() as port:
        pass
    workstation.log_in(f"https://127.0.0.1:{port}")

    assert refusal(workstation).message.endswith(
        f"127.0.0.1:{port} refused the connection. It was tried 5 times."
    )


def test_a_name_that_is_none(workstation: Workstation) -> None:
    workstation.log_in("https://no-such-host.invalid:6443")

    assert "no-such-host.invalid:6443 is not known to DNS." in refusal(workstation).message


def test_a_network_that_is_not_there(workstation: Workstation) -> None:
    # A multicast address: nothing can connect to one, and nothing is sent.
    workstation.log_in("https://224.0.0.1:6443")

    assert "there is no way to 224.0.0.1:6443 in the network." in refusal(workstation).message


def test_a_redirect_takes_no_credential_elsewhere(
    api: FakeApi, authority: trustme.CA, workstation: Workstation
) -> None:
    with serving(authority) as other:
        other.answer("/version", ok(VERSION))
        api.answer("/version", Reply(307, b"", {"Location": f"{other.url}/version"}))
        workstation.log_in(api.url)

        error = refusal(workstation)

        assert other.seen == []
    assert error.status == 307


def test_a_lacking_right_is_named(api: FakeApi, workstation: Workstation) -> None:
    workstation.log_in(api.url)
    cluster = workstation.connect(Access(as_user="bob"))
    path = "/apis/apps/v1/daemonsets"
    api.answer(path, status(403, "Forbidden", "no"))

    with pytest.raises(ForbiddenError) as caught:
        cluster.list(DAEMON_SETS, Anything, str)

    error = caught.value
    assert (error.verb, error.resource, error.subresource, error.namespace) == (
        "list",
        "daemonsets",
        "",
        "",
    )
    assert error.message == (
        f"Cannot list daemonsets.apps in cluster prod (context night, {api.url}) "
        "as alice (as bob): the server answers 403: no."
    )
    assert error.remedy == (
        "Grant alice (as bob) the right to list daemonsets.apps (`kgpuctl rbac` prints what a "
        "command needs), or ask as somebody else."
    )


def test_a_lacking_right_to_a_subresource_is_named(api: FakeApi, workstation: Workstation) -> None:
    workstation.log_in(api.url)
    path = PODS.path("web-1", "shop") + "/log"
    api.answer(path, status(403, "Forbidden", "no"))

    with pytest.raises(ForbiddenError) as caught:
        workstation.connect().logs("shop", "web-1", "web", previous=False, tail=5)

    error = caught.value
    assert (error.verb, error.resource, error.subresource, error.namespace) == (
        "get",
        "pods",
        "log",
        "shop",
    )
    assert error.message.startswith("Cannot get pods/log web-1 in namespace shop in cluster prod ")


def test_an_object_that_is_not_there(api: FakeApi, workstation: Workstation) -> None:
    workstation.log_in(api.url)

    with pytest.raises(NotFoundError, match="Cannot get nodes gone in cluster prod") as caught:
        workstation.connect().read(NODES.path("gone"), Anything)
    assert caught.value.status == 404


def test_a_credential_in_the_words_of_a_server_is_taken_out(
    api: FakeApi, workstation: Workstation
) -> None:
    def echo(seen: Seen) -> Reply:
        return status(400, "BadRequest", f"bad header {seen.headers['authorization'][0]}")

    api.answer("/version", echo)
    workstation.log_in(api.url)

    assert ": bad header Bearer [redacted]." in refusal(workstation).message


def test_401_is_an_error_of_its_own(api: FakeApi, workstation: Workstation) -> None:
    api.answer("/version", status(401, "Unauthorized"))
    workstation.log_in(api.url)

    assert isinstance(refusal(workstation), CredentialError)
    assert workstation.told[0].startswith("GET /version: 401, ")
