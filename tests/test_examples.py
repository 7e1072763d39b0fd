"""The examples, and what the documentation shows of them, are what kgpuctl does."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from kgpuctl.cluster.recording import dump, open_snapshot
from running import kgpuctl

ROOT = Path(__file__).parent.parent
CLUSTERS = ROOT / "examples" / "clusters"
SCHEDULED = ROOT / "examples" / "scheduled-verify"
FORMS = ("human", "json", "junit", "markdown")


def test_pages_show_what_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "write_examples.py", "--check"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_page_that_shows_something_else_is_found(tmp_path: Path) -> None:
    for name in ("docs", "src", "examples"):
        (tmp_path / name).mkdir()
    script = (ROOT / "docs" / "write_examples.py").read_text(encoding="utf-8")
    (tmp_path / "docs" / "write_examples.py").write_text(script, encoding="utf-8")
    page = "<!-- printed -->\n```console\n$ echo 'it''s'; false; echo $?\n{}```\n"
    (tmp_path / "README.md").write_text(page.format("something else\n"), encoding="utf-8")
    program = [sys.executable, str(tmp_path / "docs" / "write_examples.py")]

    codes = [
        subprocess.run([*program, *words], capture_output=True, check=False).returncode
        for words in (["--check"], [], ["--check"])
    ]

    assert codes == [1, 0, 0]
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == page.format("its\n1\n")


@pytest.mark.parametrize(("name", "code"), [("healthy", 0), ("broken", 3)])
def test_an_example_cluster_is_judged_alike_in_every_form(name: str, code: int) -> None:
    file = CLUSTERS / f"{name}.json"

    codes = {form: kgpuctl("verify", "--from", file, "-o", form).exit_code for form in FORMS}

    assert codes == dict.fromkeys(FORMS, code)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["verify", "--from", CLUSTERS / "broken.json"], id="verify"),
        pytest.param(["verify", "--from", CLUSTERS / "none.json"], id="error"),
        pytest.param(["preflight", "--cluster", "--from", CLUSTERS / "broken.json"], id="before"),
    ],
)
def test_json_is_what_the_schema_says(arguments: list[str | Path]) -> None:
    schema = json.loads((ROOT / "docs/reference/report.schema.json").read_text(encoding="utf-8"))
    ended = kgpuctl(*arguments, "-o", "json")
    told = json.loads(ended.out)

    Draft202012Validator(schema).validate(told)
    assert told["exitCode"] == ended.exit_code


@pytest.mark.parametrize("name", ["healthy", "broken"])
def test_an_example_cluster_is_a_whole_snapshot(name: str) -> None:
    content = (CLUSTERS / f"{name}.json").read_bytes()

    found = open_snapshot(str(CLUSTERS / f"{name}.json"))

    assert found.missed == ()
    assert objects(b"".join(dump(found))) == objects(content)


def objects(content: bytes) -> list[Any]:
    """Return the objects of a List, without what it says of itself."""
    return [item for item in json.loads(content)["items"] if item["kind"] != "Snapshot"]


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/first-verify.md"])
def test_what_is_shown_fits_a_terminal(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = re.findall(r"```console\n(.*?)```", text, re.DOTALL)

    printed = [line for block in shown for line in block.splitlines() if line[:2] != "$ "]
    assert printed
    # A command that is to be copied stays in one line, however long it is.
    assert [line for line in printed if len(line) > 80 and "`" not in line] == []


def test_the_rights_of_the_scheduled_verify_are_those_that_it_needs() -> None:
    ended = kgpuctl("rbac", "--command", "verify", "--serviceaccount", "kgpuctl:verify")

    assert ended.out == (SCHEDULED / "2-rights.yaml").read_text(encoding="utf-8")


def documents() -> dict[str, dict[str, Any]]:
    return {
        item["kind"]: item
        for path in sorted(SCHEDULED.glob("*.yaml"))
        for item in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    }


def test_the_manifests_belong_together() -> None:
    found = documents()
    subject = {"kind": "ServiceAccount", "name": "verify", "namespace": "kgpuctl"}
    pod = found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]

    assert [*found] == [
        "Namespace",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "CronJob",
    ]
    assert found["Namespace"]["metadata"]["name"] == "kgpuctl"
    assert found["ServiceAccount"]["metadata"] == {"name": "verify", "namespace": "kgpuctl"}
    assert found["CronJob"]["metadata"]["namespace"] == "kgpuctl"
    assert pod["serviceAccountName"] == "verify"
    assert found["ClusterRoleBinding"]["subjects"] == [subject]


def test_a_failed_verify_is_one_failed_job() -> None:
    cron = documents()["CronJob"]["spec"]
    job = cron["jobTemplate"]["spec"]

    assert cron["concurrencyPolicy"] == "Forbid"
    assert job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["activeDeadlineSeconds"] > 5 * 60  # the command ends first, and says why


def test_the_image_runs_the_command_as_an_ordinary_user() -> None:
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line.split(maxsplit=1) for line in joined.splitlines() if line[:1] not in ("", "#")]
    pod = documents()["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    copied = [
        source
        for word, rest in lines
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]

    assert ["USER", user] in lines
    assert ["ENTRYPOINT", '["/opt/kgpuctl/bin/kgpuctl"]'] in lines
    assert copied
    assert all((ROOT / source).exists() for source in copied)
