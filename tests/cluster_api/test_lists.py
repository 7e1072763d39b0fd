"""Lists: whole or an error, never a part."""

from collections.abc import Sequence

import msgspec
import pytest

from cluster_api.fake_api import FakeApi, Reply, Seen, ok, status
from cluster_api.workstation import QUICK, Workstation
from kgpuctl.cluster.failures import ClusterError, ExpiredError
from kgpuctl.cluster.listing import Listing
from kgpuctl.cluster.resources import DAEMON_SETS, NODES, Call

PATH = "/api/v1/nodes"
EXPIRED = status(410, "Expired", "The provided continue parameter is too old")


class Named(msgspec.Struct, frozen=True):
    name: str


class Thing(msgspec.Struct, frozen=True):
    metadata: Named


def name_of(thing: Thing) -> str | None:
    return thing.metadata.name or None


def page(names: Sequence[str], after: str = "", version: str = "7", **more: object) -> Reply:
    items = [{"metadata": {"name": name, "labels": {}}, "spec": {}} for name in names]
    metadata = {"resourceVersion": version, "continue": after, "remainingItemCount": 3}
    return ok(
        {"kind": "NodeList", "apiVersion": "v1", "metadata": metadata, "items": items, **more}
    )


def nodes(workstation: Workstation, api: FakeApi) -> Listing[str]:
    workstation.log_in(api.url)
    return workstation.connect().list(NODES, Thing, name_of)


def test_pages_are_put_together_and_what_is_not_kept_is_left_out(
    api: FakeApi, workstation: Workstation
) -> None:
    api.answer(PATH, page(["a", ""], "x"), page(["b"], "y", "9"), page([], "", "9"))

    listing = nodes(workstation, api)

    assert listing == Listing(("a", "b"), "7")
    assert [(seen.query["limit"], seen.query.get("continue")) for seen in api.seen] == [
        ("500", None),
        ("500", "x"),
        ("500", "y"),
    ]


def test_what_is_asked_for_can_be_narrowed(api: FakeApi, workstation: Workstation) -> None:
    path = "/apis/apps/v1/namespaces/gpu-operator/daemonsets"
    api.answer(path, page(["a"]))
    workstation.log_in(api.url)

    workstation.connect().list(
        DAEMON_SETS,
        Thing,
        name_of,
        namespace="gpu-operator",
        selector="app in (a,b)",
        fields="metadata.name=a",
        limit=3,
    )

    assert api.seen[0].query == {
        "limit": "3",
        "labelSelector": "app in (a,b)",
        "fieldSelector": "metadata.name=a",
    }


def test_an_empty_list_may_have_no_items(api: FakeApi, workstation: Workstation) -> None:
    api.answer(PATH, page([], items=None))

    assert nodes(workstation, api).items == ()


def test_a_list_that_expires_is_begun_anew(api: FakeApi, workstation: Workstation) -> None:
    api.answer(PATH, page(["a"], "x"), EXPIRED, page(["b"], "y", "8"), page(["c"], "", "8"))

    listing = nodes(workstation, api)

    assert listing == Listing(("b", "c"), "8")
    assert f"GET {PATH}: the list expired while it was read and is begun anew" in workstation.told


def test_a_list_that_always_expires_is_an_error(api: FakeApi, workstation: Workstation) -> None:
    def answer(seen: Seen) -> Reply:
        return EXPIRED if "continue" in seen.query else page(["a"], "x")

    api.answer(PATH, answer)

    with pytest.raises(ExpiredError, match=r"too old.*\. The list was begun anew 3 times\."):
        nodes(workstation, api)
    assert len(api.seen) == 2 * (QUICK.restarts + 1)


def test_one_page_that_fails_fails_the_whole_list(api: FakeApi, workstation: Workstation) -> None:
    api.answer(PATH, page(["a"], "x"), status(500, "InternalError"))

    with pytest.raises(ClusterError, match="Cannot list nodes in cluster prod"):
        nodes(workstation, api)


def test_a_page_that_breaks_off_is_asked_for_again(api: FakeApi, workstation: Workstation) -> None:
    whole = page(["b"])
    api.answer(PATH, page(["a"], "x"), Reply(200, whole.body[:-20]), whole)

    assert nodes(workstation, api).items == ("a", "b")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "the answer has another shape than it should: Object missing required field `kind`"),
        ({"kind": "NodeList", "items": []}, "missing required field `metadata`"),
        ({"kind": "NodeList", "metadata": {}, "items": []}, "required field `resourceVersion`"),
        ({"kind": "NodeList", "metadata": {"resourceVersion": "1"}}, "required field `items`"),
        (
            {"kind": "Node", "metadata": {"resourceVersion": "1"}, "items": []},
            "the answer is a 'Node', not a list",
        ),
        (
            {"kind": "NodeList", "metadata": {"resourceVersion": "1"}, "items": [{"metadata": 1}]},
            "Expected `object`, got `int` - at `$.items[0].metadata`",
        ),
    ],
)
def test_what_is_no_list_is_no_empty_list(
    value: object, said: str, api: FakeApi, workstation: Workstation
) -> None:
    api.answer(PATH, ok(value))

    with pytest.raises(ClusterError) as caught:
        nodes(workstation, api)

    assert said in caught.value.message
    assert caught.value.message.startswith("Cannot list nodes in cluster prod ")


def test_a_server_that_goes_round_in_circles(api: FakeApi, workstation: Workstation) -> None:
    api.answer(PATH, page(["a"], "x"))

    with pytest.raises(ClusterError, match="gives the same part of a list again and again"):
        nodes(workstation, api)


def test_permissions_are_asked_for(api: FakeApi, workstation: Workstation) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    api.answer(path, *(ok({"kind": "x", "status": {"allowed": word}}) for word in (True, False)))
    workstation.log_in(api.url)
    cluster = workstation.connect()

    assert cluster.may(Call("create", NODES, "proxy", name="gpu-1"))
    assert not cluster.may(Call("list", DAEMON_SETS, namespace="gpu-operator"))

    attributes = [msgspec.json.decode(seen.body)["spec"]["resourceAttributes"] for seen in api.seen]
    assert attributes == [
        {
            "verb": "create",
            "version": "v1",
            "resource": "nodes",
            "subresource": "proxy",
            "name": "gpu-1",
        },
        {
            "verb": "list",
            "group": "apps",
            "version": "v1",
            "resource": "daemonsets",
            "namespace": "gpu-operator",
        },
    ]


def test_logs_are_bytes_as_they_are(api: FakeApi, workstation: Workstation) -> None:
    path = "/api/v1/namespaces/shop/pods/web-1/log"
    api.answer(path, Reply(200, b"\xff line\n"), Reply(200))
    workstation.log_in(api.url)
    cluster = workstation.connect()

    assert cluster.logs("shop", "web-1", "web", previous=True, tail=9) == b"\xff line\n"
    assert cluster.logs("shop", "web-1", "web", previous=False, tail=9) == b""
    assert api.seen[0].query == {"container": "web", "tailLines": "9", "previous": "true"}
    assert "previous" not in api.seen[1].query
