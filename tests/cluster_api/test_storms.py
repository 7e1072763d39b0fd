"""Three of ten requests fail in some way: what comes out is all that is there, or an error."""

import random
import threading
from collections.abc import Callable
from dataclasses import replace

from cluster_api.fake_api import FakeApi, Reply, Seen, status
from cluster_api.test_lists import EXPIRED, Thing, name_of, page
from cluster_api.test_refusals import raw, reset
from cluster_api.workstation import QUICK, TOKEN, Workstation
from kgpuctl.cluster.deadline import side_by_side
from kgpuctl.cluster.failures import ClusterError
from kgpuctl.cluster.listing import Listing
from kgpuctl.cluster.resources import DAEMON_SETS, NODES, PODS, Resource

RUNS = 25
PAGES = 4
KINDS = (NODES, PODS, DAEMON_SETS)


def storm(chance: random.Random) -> Callable[[Seen], Reply]:
    """Return a server of lists of four pages whose every third answer or so is bad."""
    lock = threading.Lock()
    bad = [
        status(429, "TooManyRequests"),
        status(500, "InternalError"),
        status(401, "Unauthorized"),
        Reply(502, b"<html>"),
        Reply(503, b"", {"Retry-After": "0"}),
        raw(b""),
        raw(b"", reset),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
    ]

    def answer(seen: Seen) -> Reply:
        number = int(seen.query.get("continue", "0"))
        right = page([f"n{number}"], str(number + 1) if number + 1 < PAGES else "")
        with lock:
            if chance.random() > 0.3:
                return right
            expired = [EXPIRED] if number else []
            return chance.choice([*bad, Reply(200, right.body[: -1 - number]), *expired])

    return answer


def test_never_half_a_list(api: FakeApi, workstation: Workstation) -> None:
    token = workstation.home / "token"
    token.write_text(TOKEN)
    workstation.log_in(api.url, {"tokenFile": str(token)})
    chance = random.Random(5)  # noqa: S311  # the same storm each time
    for kind in KINDS:
        api.answer(kind.path(), storm(chance))
    cluster = workstation.connect(patience=replace(QUICK, pause=0.001, longest_pause=0.002))

    def reading(kind: Resource) -> Callable[[], Listing[str] | ClusterError]:
        def read() -> Listing[str] | ClusterError:
            try:
                return cluster.list(kind, Thing, name_of)
            except ClusterError as error:
                return error

        return read

    outcomes = [
        outcome for _ in range(RUNS) for outcome in side_by_side([reading(kind) for kind in KINDS])
    ]

    whole = Listing(tuple(f"n{number}" for number in range(PAGES)), "7")
    lists = [outcome for outcome in outcomes if isinstance(outcome, Listing)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, ClusterError)]
    assert set(lists) == {whole}
    assert len(lists) > len(outcomes) / 2
    assert all(error.exit_code == 4 and error.remedy for error in errors)
    assert TOKEN not in "".join(workstation.told)
    assert cluster.retries > RUNS
