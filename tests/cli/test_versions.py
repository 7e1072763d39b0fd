"""`kgpuctl versions`, asked as its users ask it."""

import json
from typing import Any, Final

import pytest
import typer
from typer.testing import CliRunner

from kgpuctl.catalog import Product, load_catalog
from kgpuctl.cli.versions import versions
from kgpuctl.errors import UsageError
from kgpuctl.names import Stack

CATALOG: Final = load_catalog()
APP: Final = typer.Typer()
APP.command()(versions)


def asked(*arguments: str) -> str:
    return CliRunner().invoke(APP, arguments, catch_exceptions=False).stdout


def told(*arguments: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(asked(*arguments, "-o", "json"))
    return data


def test_every_version_is_listed_newest_first_with_the_defaults_marked() -> None:
    rows = [line[2:].split(" ")[0] for line in asked().splitlines() if line[:2] in {"  ", "* "}]
    marked = [line.split(" ")[1] for line in asked().splitlines() if line.startswith("* v")]
    expected = {entry.version for of in CATALOG.entries.values() for entry in of}

    assert expected <= set(rows)
    assert rows.index("v26.7.0") < rows.index("v26.3.3") < rows.index("v26.3.0")
    assert marked == ["v26.7.0", "v23.6.2", "v0.7.0"]
    assert "\n* 4.0.0 " in asked()


def test_what_works_with_what_is_told_from_good_to_bad() -> None:
    after = asked().partition("What works with what")[2].splitlines()
    heads = [line.split(" ")[0] for line in after if line[:1] in {"w", "r"}]

    assert len(heads) == len(CATALOG.rules) + len(CATALOG.platforms)
    assert heads == sorted(heads, key=["works", "warned", "refused"].index)
    assert "openshift" in "\n".join(after)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--stack", "kata-deploy"], ["--stack", "coco-operator"]]
    + [[id_] for id_ in CATALOG.defects]
    + [[entry.version] for of in CATALOG.entries.values() for entry in of],
    ids="-".join,
)
def test_it_fits_into_80_columns_but_for_what_must_stay_in_one_piece(arguments: list[str]) -> None:
    told_, _, sources = asked(*arguments).partition("\nSources\n")
    for line in told_.splitlines():
        whole = line.strip()
        assert len(line) <= 80 or " " not in whole or whole.startswith("`"), line
        assert line == line.rstrip()
    assert all(line.startswith("  ") for line in sources.splitlines())


def test_one_stack_is_told_alone() -> None:
    text = asked("--stack", "kata-deploy")

    assert "Stack kata-deploy" in text
    assert "CoCo operator v0.7.0" not in text
    assert "v25.10.1 " not in text.partition("What works")[0]
    assert "coco-system" in text


def test_a_version_tells_its_images_defects_and_partners() -> None:
    text = asked("25.10.1")

    assert "GPU Operator v25.10.1 (stack coco-operator)" in text
    assert "RuntimeClasses  kata-nvidia-gpu, kata-nvidia-gpu-snp" in text
    assert "nvcr.io/nvidia/kubevirt-gpu-device-plugin:v1.4.0" in text
    assert "device-plugin-attaches-twice (warns, at start)" in text
    assert "interim mix" in text.replace("\n         ", " ")
    assert "ignore kataManager.enabled" not in text


@pytest.mark.parametrize(
    ("version", "partner", "stranger"),
    [
        ("4.0.0", "NVIDIA documents", "published way"),
        ("v0.7.0", "published way", "NVIDIA documents"),
        ("v26.7.0", "NVIDIA documents", "published way"),
    ],
)
def test_only_what_speaks_of_a_version_is_told_of_it(
    version: str, partner: str, stranger: str
) -> None:
    text = " ".join(asked(version).split())

    assert partner in text
    assert stranger not in text


def test_a_defect_tells_where_it_is_and_what_to_do() -> None:
    text = asked("device-plugin-glibc")

    assert "device-plugin-glibc: fails, at install" in text
    assert "GPU Operator v23.9.0, kubevirt-gpu-device-plugin:v1.2.3" in text
    assert "sandboxDevicePlugin.version=v1.2.4" in text
    assert "NVIDIA/gpu-operator#627" in text


def test_programs_get_the_whole_catalogue() -> None:
    data = told()

    assert (data["apiVersion"], data["kind"]) == ("kgpuctl/v1", "Versions")
    assert len(data["versions"]) == sum(len(entries) for entries in CATALOG.entries.values())
    assert {row["id"] for row in data["defects"]} == set(CATALOG.defects)
    assert len(data["worksWith"]) == len(CATALOG.rules)
    assert data["platforms"][0]["name"] == "openshift"
    (default,) = [
        row
        for row in data["versions"]
        if row["default"] and row["product"] == Product.KATA_DEPLOY.value
    ]
    assert default["version"] == "4.0.0"
    assert default["kubernetes"] == {"range": ">= 1.32", "saidBy": "docs"}


@pytest.mark.parametrize("stack", Stack)
def test_json_of_one_stack_names_no_defect_that_it_does_not_tell(stack: Stack) -> None:
    data = told("--stack", stack.value)
    ids = {row["id"] for row in data["defects"]}
    used = {defect for row in [*data["versions"], *data["worksWith"]] for defect in row["defects"]}

    assert {row["stack"] for row in data["versions"]} == {stack.value}
    assert used == ids


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["v26.3.4"], "v26.3.3"),
        (["device-plugin-attach-twice"], "device-plugin-attaches-twice"),
        (["nonsense"], "'nonsense'."),
        (["4.0.0", "--stack", "coco-operator"], "'4.0.0'"),
        (["4.0.0", "-o", "json"], "whole catalogue"),
    ],
)
def test_bad_usage_says_what_there_is(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words.replace(".", r"\.")) as caught:
        asked(*arguments)

    assert caught.value.remedy
