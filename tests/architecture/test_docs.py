import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from jsonschema import Draft202012Validator
from typer.main import get_command

from kgpuctl import errors
from kgpuctl.checks.check import Check
from kgpuctl.checks.cluster.table import CLUSTER_CHECKS
from kgpuctl.checks.host.table import HOST_CHECKS
from kgpuctl.checks.verify.table import VERIFY_CHECKS
from kgpuctl.cli.app import app
from kgpuctl.cli.tables import all_checks
from kgpuctl.cluster.objects import KubeletConfig, PodLog
from kgpuctl.cluster.snapshot import LISTS
from kgpuctl.explained import load_explained
from kgpuctl.render.reference import as_page, entries

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *DOCS.rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
    ]
)


def test_every_check_is_explained_and_nothing_else_is() -> None:
    assert sorted(load_explained()) == sorted(check.id for check in all_checks())


def test_no_explanation_names_a_path_of_this_project() -> None:
    for id_, told in load_explained().items():
        assert not [text for text in told.sources if re.match(r"(src|tests|docs)/", text)], id_


def test_the_runbook_says_of_every_finding_of_verify_what_to_type() -> None:
    page = (DOCS / "how-to/runbook.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### `([a-z.-]+)`$", page, re.MULTILINE)

    assert headings == [check.id for check in VERIFY_CHECKS]


def test_no_explanation_is_a_placeholder() -> None:
    for id_, told in load_explained().items():
        assert len(told.why) > 40, id_
        assert len(told.fix) > 20, id_
        assert told.reads, id_
        assert told.sources, id_


def test_the_reference_page_is_what_the_tables_say() -> None:
    page = as_page(entries(((check.id, check.title) for check in all_checks()), load_explained()))

    assert (DOCS / "reference/checks.md").read_text(encoding="utf-8") == page


def test_check_ids_are_unique_and_spelled_alike() -> None:
    ids = [check.id for check in all_checks()]

    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+\.[a-z]+(-[a-z]+)*", id_) for id_ in ids)


@pytest.mark.parametrize("table", [HOST_CHECKS, CLUSTER_CHECKS, VERIFY_CHECKS])
def test_what_a_check_requires_is_asked_before_it(table: Sequence[Check[Any]]) -> None:
    asked: set[str] = set()
    for check in table:
        assert asked.issuperset(check.requires), check.id
        asked.add(check.id)


def test_every_error_has_an_exit_code_of_its_own_and_the_docs_tell_it() -> None:
    children = errors.KgpuctlError.__subclasses__()
    codes = [child.exit_code for child in children]
    page = (DOCS / "reference/exit-codes.md").read_text(encoding="utf-8")

    assert len(set(codes)) == len(codes)
    for code in (0, 1, *codes, 3, 130):
        assert re.search(rf"\| `?{code}`? ", page), code


def test_the_command_line_page_has_every_command_with_all_of_its_options() -> None:
    page = (DOCS / "reference/cli.md").read_text(encoding="utf-8")
    titled = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    sections = dict(zip(titled[1::2], titled[2::2], strict=True))
    shared = sections["Options of all commands that ask a cluster"]

    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        told = shared + "".join(
            text for title, text in sections.items() if title.startswith(f"kgpuctl {name}")
        )
        options = {it.opts[0] for it in command.params if it.param_type_name == "option"}
        assert f"kgpuctl {name}" in sections
        assert [it for it in sorted(options) if f"`{it}" not in told] == [], name


def test_the_snapshot_page_names_every_field_that_is_kept_and_no_other() -> None:
    page = (DOCS / "reference/snapshot-format.md").read_text(encoding="utf-8")
    objects = page[page.index("## The objects") : page.index("## Lists of kubectl")]
    told = {word for word in re.findall(r"`([^`\s]+)`", objects) if "." not in word}

    kept = {name for shape in SHAPES for name in fields(shape)}
    assert {name for name in kept if "/" not in name} - {"resourceVersion"} <= told
    assert told - kept == {*KINDS, "kgpuctl/v1", "--kubelet-config"}
    assert all(f"`{name}`" in objects for name in kept if "/" in name)


SHAPES: tuple[type[msgspec.Struct], ...] = (
    *(listed.shape for listed in LISTS),
    PodLog,
    KubeletConfig,
)
KINDS = {*(listed.resource.kind for listed in LISTS), "PodLog", "KubeletConfig"}


def fields(shape: type[msgspec.Struct], seen: tuple[type, ...] = ()) -> Iterator[str]:
    """Yield the names of all fields in a shape, and in those inside of it, as JSON has them."""
    hints = get_type_hints(shape)
    for field in msgspec.structs.fields(shape):
        yield field.encode_name
        for inner in structs(hints[field.name]):
            if inner not in seen:
                yield from fields(inner, (*seen, inner))


def structs(annotation: object) -> Iterator[type[msgspec.Struct]]:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for argument in get_args(annotation):
        yield from structs(argument)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_docs_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file) if file else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor and found.suffix == ".md":
            content = found.read_text(encoding="utf-8")
            titles = {
                re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
                for title in re.findall(r"^#+ (.+)$", content, re.MULTILINE)
            }
            assert anchor in titles or f'id="{anchor}"' in content, f"{page.name}: {target}"


def test_the_json_schema_is_one() -> None:
    schema = json.loads((DOCS / "reference/report.schema.json").read_text(encoding="utf-8"))

    Draft202012Validator.check_schema(schema)
