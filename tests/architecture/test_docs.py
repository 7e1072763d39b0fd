import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from kgpuctl import errors
from kgpuctl.checks.host.table import HOST_CHECKS
from kgpuctl.explained import load_explained
from kgpuctl.render.reference import as_page, entries

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


def test_every_check_is_explained_and_nothing_else_is() -> None:
    assert sorted(load_explained()) == sorted(check.id for check in HOST_CHECKS)


def test_no_explanation_is_a_placeholder() -> None:
    for id_, told in load_explained().items():
        assert len(told.why) > 40, id_
        assert len(told.fix) > 20, id_
        assert told.reads, id_
        assert told.sources, id_


def test_the_reference_page_is_what_the_tables_say() -> None:
    page = as_page(entries(((check.id, check.title) for check in HOST_CHECKS), load_explained()))

    assert (DOCS / "reference/checks.md").read_text(encoding="utf-8") == page


def test_check_ids_are_unique_and_spelled_alike() -> None:
    ids = [check.id for check in HOST_CHECKS]

    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+\.[a-z]+(-[a-z]+)*", id_) for id_ in ids)


def test_what_a_check_requires_is_asked_before_it() -> None:
    asked: set[str] = set()
    for check in HOST_CHECKS:
        assert asked.issuperset(check.requires), check.id
        asked.add(check.id)


def test_every_error_has_an_exit_code_of_its_own_and_the_docs_tell_it() -> None:
    children = errors.KgpuctlError.__subclasses__()
    codes = [child.exit_code for child in children]
    page = (DOCS / "reference/exit-codes.md").read_text(encoding="utf-8")

    assert len(set(codes)) == len(codes)
    for code in (0, 1, *codes, 3, 130):
        assert re.search(rf"\| `?{code}`? ", page), code


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
