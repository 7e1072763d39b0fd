import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kgpuctl import __version__
from running import SRC, kgpuctl


def test_version_is_one_line() -> None:
    assert kgpuctl("--version").out == f"kgpuctl {__version__}\n"


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["preflight", "-h"], ["checks", "-h"]])
def test_help_fits_into_80_columns_and_succeeds(arguments: list[str]) -> None:
    ended = kgpuctl(*arguments)

    assert ended.exit_code == 0
    assert max(map(len, ended.out.splitlines())) <= 80


def test_help_of_each_command_has_an_example() -> None:
    for command in ("preflight", "checks"):
        assert "Example: " in kgpuctl(command, "--help").out


def test_no_command_at_all_shows_the_help_as_kubectl_does() -> None:
    ended = kgpuctl()

    assert ended.exit_code == 0
    assert ended.out == kgpuctl("--help").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["bogus"], "bogus", id="command"),
        pytest.param(["preflight", "--bogus"], "--bogus", id="option"),
        pytest.param(["preflight", "--stack", "kata"], "kata-deploy", id="stack"),
        pytest.param(["preflight", "--confidential", "sgx"], "snp", id="tee"),
        pytest.param(["preflight", "-o", "yaml"], "junit", id="output"),
        pytest.param(["preflight", "--device", "gpu0"], "gpu0", id="address"),
        pytest.param(["preflight", "--waive", "gpu.drivr"], "gpu.driver", id="waived id"),
        pytest.param(["preflight", "--root", "/no/such"], "/no/such", id="root"),
        pytest.param(["preflight", "--from", "/no/such"], "/no/such", id="recording"),
        pytest.param(["preflight", "--from", "x", "--root", "/tmp"], "--root", id="two sources"),
        pytest.param(["preflight", "--from", "x", "--record", "y"], "--record", id="copying"),
        pytest.param(["preflight", "--config", "/no/such"], "/no/such", id="config"),
        pytest.param(["checks", "gpu.drivr"], "gpu.driver", id="check"),
        pytest.param(["checks", "-o", "text"], "json", id="output of checks"),
    ],
)
def test_bad_usage_is_told_in_two_lines(arguments: list[str], words: str) -> None:
    ended = kgpuctl(*arguments)

    assert ended.exit_code == 2
    assert ended.out == ""
    assert words in ended.err
    first, second = ended.err.strip().split("\n")
    assert first.startswith("error: ")
    assert second.startswith("  try: ")


def test_a_program_gets_the_error_in_the_envelope_that_it_asked_for() -> None:
    ended = kgpuctl("preflight", "--root", "/no/such", "-o", "json")
    told = json.loads(ended.out)

    assert ended.exit_code == told["exitCode"] == 2
    assert told["error"]["message"] == "There is no directory /no/such."
    assert told["results"] == []


@pytest.mark.parametrize("spelled", [["-ojson"], ["--output=json"], ["--output", "json"]])
def test_every_spelling_of_the_output_is_understood_in_an_error(spelled: list[str]) -> None:
    assert json.loads(kgpuctl("preflight", "--bogus", *spelled).out)["exitCode"] == 2


def test_a_reader_that_goes_away_is_no_error() -> None:
    shell = f"{sys.executable} -m kgpuctl checks | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell],
        env=os.environ | {"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_checks_lists_all_and_explains_one() -> None:
    listed = kgpuctl("checks").out
    told = kgpuctl("checks", "iommu.enabled").out

    assert "iommu.enabled" in listed
    for heading in ("What is read", "Why it matters", "How to put it right", "Sources"):
        assert heading in told


def test_checks_as_json_has_all_that_the_page_has() -> None:
    checks = json.loads(kgpuctl("checks", "-o", "json").out)["checks"]

    assert {"id", "title", "severity", "reads", "why", "fix", "sources"} == set(checks[0])


def test_a_directory_without_anything_is_unknown_not_sound(tmp_path: Path) -> None:
    ended = kgpuctl("preflight", "--root", tmp_path)

    assert ended.exit_code == 4
    assert "Not known" in ended.out
