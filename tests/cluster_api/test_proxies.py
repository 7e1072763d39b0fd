"""Proxies on the way, by kubeconfig or environment, and what is said when they fail."""

import base64
from collections.abc import Iterator
from dataclasses import replace

import pytest
import trustme

from cluster_api.fake_api import VERSION, FakeApi, ok, serving
from cluster_api.proxy import Proxy, proxying
from cluster_api.test_refusals import listening
from cluster_api.workstation import QUICK, TOKEN, Workstation
from kgpuctl.cluster.failures import ClusterError

SERVER = "https://api.test:6443"


@pytest.fixture
def named(authority: trustme.CA) -> Iterator[FakeApi]:
    with serving(authority, "api.test") as server:
        server.answer("/version", ok(VERSION))
        yield server


@pytest.fixture
def proxy(named: FakeApi) -> Iterator[Proxy]:
    with proxying(named.port) as server:
        yield server


def refusal(workstation: Workstation) -> str:
    with pytest.raises(ClusterError) as caught:
        workstation.connect().version()
    error = caught.value
    assert TOKEN not in error.message + error.remedy + "".join(workstation.told)
    return error.message


def test_a_proxy_of_the_kubeconfig_is_used(proxy: Proxy, workstation: Workstation) -> None:
    workstation.environment["NO_PROXY"] = "*"
    workstation.log_in(SERVER, cluster={"proxy-url": f"http://bob:{TOKEN}@127.0.0.1:{proxy.port}"})

    assert workstation.connect().version().major == "1"

    [request] = proxy.seen
    login = base64.b64encode(f"bob:{TOKEN}".encode())
    assert request.startswith(b"CONNECT api.test:6443 HTTP/1.")
    assert b"Basic " + login in request


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_a_proxy_of_the_environment_is_used(
    name: str, proxy: Proxy, workstation: Workstation
) -> None:
    workstation.environment[name] = f"127.0.0.1:{proxy.port}"
    workstation.log_in(SERVER)

    assert workstation.connect().version().major == "1"
    assert len(proxy.seen) == 1


def test_exceptions_are_not_sent_to_the_proxy(proxy: Proxy, workstation: Workstation) -> None:
    workstation.environment |= {
        "HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}",
        "NO_PROXY": "example.org,.test",
    }
    workstation.log_in("https://no-such-host.test:6443")

    assert "no-such-host.test:6443 is not known to DNS" in refusal(workstation)
    assert proxy.seen == []


def test_this_machine_is_never_asked_through_a_proxy_of_the_environment(
    api: FakeApi, workstation: Workstation
) -> None:
    api.answer("/version", ok(VERSION))
    workstation.environment["HTTPS_PROXY"] = "http://127.0.0.1:1"
    workstation.log_in(api.url)

    assert workstation.connect().version().major == "1"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"407 Proxy Authentication Required", "wants a login (407)."),
        (b"403 Forbidden", "refused to connect to api.test:6443 (403)."),
        (b"503 Busy", "refused to connect to api.test:6443 (503). It was tried 5 times."),
    ],
)
def test_a_proxy_that_refuses(
    answer: bytes, said: str, proxy: Proxy, workstation: Workstation
) -> None:
    proxy.answer = b"HTTP/1.1 " + answer + b"\r\nContent-Length: 6\r\n\r\n<html>"
    url = f"http://127.0.0.1:{proxy.port}"
    workstation.log_in(SERVER, cluster={"proxy-url": f"http://bob:{TOKEN}@127.0.0.1:{proxy.port}"})

    assert refusal(workstation) == (
        f"Cannot get /version in cluster prod (context night, {SERVER}) as alice: "
        f"the proxy {url} (proxy-url) {said}"
    )


def test_a_proxy_that_answers_with_a_page_of_its_own(
    proxy: Proxy, workstation: Workstation
) -> None:
    proxy.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n<html>log in</"
    workstation.log_in(SERVER, cluster={"proxy-url": f"http://127.0.0.1:{proxy.port}"})

    assert f"on the way through the proxy http://127.0.0.1:{proxy.port} (proxy-url)" in refusal(
        workstation
    )


def test_a_proxy_that_speaks_no_http(proxy: Proxy, workstation: Workstation) -> None:
    proxy.answer = b"SSH-2.0-OpenSSH\r\n"
    workstation.log_in(SERVER, cluster={"proxy-url": f"http://127.0.0.1:{proxy.port}"})

    assert (
        "the answer is not HTTP, on the way through "
        f"the proxy http://127.0.0.1:{proxy.port} (proxy-url)"
    ) in refusal(workstation)


def test_a_proxy_that_never_answers(proxy: Proxy, workstation: Workstation) -> None:
    proxy.silent = True
    workstation.log_in(SERVER, cluster={"proxy-url": f"http://127.0.0.1:{proxy.port}"})
    cluster = workstation.connect(patience=replace(QUICK, connect=0.2))

    with pytest.raises(ClusterError) as caught:
        cluster.version()

    assert f"the proxy http://127.0.0.1:{proxy.port} (proxy-url)" in caught.value.message
    assert len(proxy.seen) == QUICK.slow_tries


def test_a_proxy_that_is_not_there(workstation: Workstation) -> None:
    with listening() as port:
        pass
    workstation.environment["HTTPS_PROXY"] = f"http://bob:{TOKEN}@127.0.0.1:{port}"
    workstation.log_in(SERVER)

    assert f"the proxy http://127.0.0.1:{port} (HTTPS_PROXY) refused the connection" in refusal(
        workstation
    )


def test_a_proxy_that_is_no_name(workstation: Workstation) -> None:
    workstation.log_in(SERVER, cluster={"proxy-url": "http://no-such-host.invalid:8080"})

    assert "the proxy http://no-such-host.invalid:8080 (proxy-url) is not known to DNS" in refusal(
        workstation
    )
