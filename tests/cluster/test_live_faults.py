"""A third of all requests going wrong: what is then told is right, or that it is not known."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from cluster.controlplane import Plane
from cluster.faults import Seeded
from cluster.large import load
from cluster.live import (
    BROKEN,
    COCO,
    HEALTHY,
    QUICK,
    WISHES,
    Kubelet,
    Told,
    content_of,
    judged_live,
    kubelet_of,
    lines,
    put,
    ran,
    results,
)
from cluster.proxy import Proxy, in_front_of
from kgpuctl.checks.check import run
from kgpuctl.checks.cluster.table import CLUSTER_CHECKS
from kgpuctl.checks.verify.subject import describe
from kgpuctl.cli.calls import install_calls
from kgpuctl.cli.cluster_run import case_of
from kgpuctl.cli.live import await_passed
from kgpuctl.cli.preflight_cluster import CLAIM
from kgpuctl.cluster.access import Access
from kgpuctl.cluster.kube import KubeCluster
from kgpuctl.cluster.reader import Reading, read_cluster, read_rights
from kgpuctl.errors import UnreachableError
from kgpuctl.report import Report

pytestmark = pytest.mark.cluster

SHARE: Final = 0.3
AT_ONCE: Final = 4
SEEDS: Final = 64  # of each cluster: 512 runs altogether
LARGE: Final = "large"  # more pods than a page holds, so that continue tokens can expire
CLUSTERS: Final = (HEALTHY, COCO, *BROKEN, "built-kata-deploy", "built-coco", LARGE)


class Endings(NamedTuple):
    """How many runs ended with the right report, unreachable, or with something not known."""

    right: int = 0
    unreachable: int = 0
    unknown: int = 0


@pytest.fixture
def kubelet(bare: Plane) -> Iterator[Kubelet]:
    with kubelet_of(bare) as started:
        yield started


@pytest.fixture
def proxies(bare: Plane) -> Iterator[list[Proxy]]:
    with ExitStack() as running:
        yield [running.enter_context(in_front_of(bare, longest_delay=0.05)) for _ in range(AT_ONCE)]


def ending(run: Callable[[], Report], right: list[Told]) -> str:
    """Run once; anything but the right report, or saying that it is not known, is an error."""
    try:
        report = run()
    except UnreachableError:
        return "unreachable"
    told = lines(report)
    if told == right:
        return "right"
    # A log that does not come leaves one check without an answer, and changes no other.
    assert [item[:2] for item in told] == [item[:2] for item in right]
    different = {
        status for item, (*_, status, _) in zip(right, told, strict=True) if item not in told
    }
    assert different == {"unknown"}, different
    assert report.exit_code in {3, 4}
    return "unknown"


def endings(proxies: list[Proxy], run: Callable[[Proxy], Report], runs: int) -> Endings:
    """Run so often with as many seeds, each proxy at its own pace; nothing else may come of it."""

    def some(number: int) -> Counter[str]:
        proxy = proxies[number]
        right = lines(run(proxy))
        seen: Counter[str] = Counter()
        for seed in range(number, runs, len(proxies)):
            proxy.begin(Seeded(seed, SHARE))
            seen[ending(lambda: run(proxy), right)] += 1
        return seen

    with ThreadPoolExecutor(len(proxies)) as pool:
        ended = Endings(**sum(pool.map(some, range(len(proxies))), Counter()))
    assert sum(ended) == runs
    return ended


def prepare(plane: Plane, name: str, kubelet: Kubelet) -> None:
    if name == LARGE:
        load(plane, nodes=120)
    else:
        put(plane, content_of(name), kubelet)


@pytest.mark.parametrize("name", CLUSTERS)
def test_verify_tells_the_truth_or_that_it_cannot(
    bare: Plane, kubelet: Kubelet, proxies: list[Proxy], name: str
) -> None:
    prepare(bare, name, kubelet)
    users = {proxy: bare.kubeconfig(server=proxy.url) for proxy in proxies}

    ended = endings(proxies, lambda proxy: judged_live(users[proxy]), SEEDS)

    assert ended.right > SEEDS / 4
    assert ended.unreachable > 0


@pytest.mark.parametrize("name", [HEALTHY, BROKEN[1]])
def test_preflight_tells_the_truth_or_that_it_cannot(
    bare: Plane, kubelet: Kubelet, proxies: list[Proxy], name: str
) -> None:
    prepare(bare, name, kubelet)
    users = {proxy: bare.kubeconfig(server=proxy.url) for proxy in proxies}

    ended = endings(proxies, lambda proxy: preflighted(users[proxy]), 30)

    assert ended.right > 0
    assert ended.unreachable > 0


def preflighted(kubeconfig: Path) -> Report:
    """Read and judge a cluster as preflight does it, in this process."""
    cluster = KubeCluster.connect(Access(kubeconfig=str(kubeconfig)), patience=QUICK)
    snapshot = read_cluster(cluster, Reading())
    case = case_of(snapshot, WISHES, read_rights(cluster, install_calls()))
    return Report("preflight", CLAIM, describe(case), run(CLUSTER_CHECKS, case))


@pytest.mark.parametrize(("name", "seconds"), [(HEALTHY, 60.0), (BROKEN[1], 1.0)])
def test_a_wait_ends_with_the_truth_or_says_that_it_cannot(
    bare: Plane, kubelet: Kubelet, proxies: list[Proxy], name: str, seconds: float
) -> None:
    prepare(bare, name, kubelet)
    users = {proxy: bare.kubeconfig(server=proxy.url) for proxy in proxies}

    def wait(proxy: Proxy) -> Report:
        wanted = Access(kubeconfig=str(users[proxy]), timeout=seconds)
        return await_passed(wanted, quickly, WISHES, kubelets=False)

    ended = endings(proxies, wait, 16)

    assert ended.right > 0
    assert ended.unreachable > 0


def quickly(wanted: Access) -> KubeCluster:
    return KubeCluster.connect(wanted, patience=QUICK)


@pytest.mark.parametrize("command", ["verify", "preflight --cluster"])
def test_whole_processes_end_so_too(
    bare: Plane, kubelet: Kubelet, proxies: list[Proxy], command: str
) -> None:
    prepare(bare, "built-kata-deploy", kubelet)
    words = (*command.split(), "-o", "json")
    user = bare.kubeconfig(server=proxies[0].url)
    whole = ran(*words, as_user=user)
    seen: Counter[int] = Counter()

    for seed in range(7):
        proxies[0].begin(Seeded(seed, SHARE))
        ended = ran(*words, as_user=user)
        seen[ended.exit_code] += 1
        if ended.exit_code == whole.exit_code:
            assert results(ended) == results(whole)
            continue
        assert ended.exit_code == 4
        assert ended.err.startswith("error: Cannot ")
        assert "Traceback" not in ended.err
        assert json.loads(ended.out)["results"] == []

    assert set(seen) <= {whole.exit_code, 4}
