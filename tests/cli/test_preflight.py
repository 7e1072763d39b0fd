import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from jsonschema import Draft202012Validator

from builders import HostTree, audio, gpu, nic, vga_gpu
from running import kgpuctl

GOLDEN = Path(__file__).parent.parent / "golden"
SCHEMA = json.loads(
    (Path(__file__).parent.parent.parent / "docs/reference/report.schema.json").read_text()
)
SOUND = HostTree()
NOUVEAU = HostTree(
    quiet="",
    devices=(
        vga_gpu(driver="nouveau"),
        audio(),
        nic(group=0x65),
        *(gpu(f"0000:{bus:02x}:00.0", driver="nouveau") for bus in range(0x81, 0x86)),
    ),
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SOUND.write(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return NOUVEAU.write(tmp_path_factory.mktemp("bad"))


@pytest.fixture
def short(bad: Path) -> Iterator[Path]:
    """Give the tree a name of fixed length: it is part of the text, and of its line breaks."""
    link = Path(f"/tmp/kgpuctl-{os.getpid() % 10**6:06d}")
    link.symlink_to(bad)
    yield link
    link.unlink()


def timeless(text: str, root: Path) -> str:
    """Take out what differs from run to run: where the tree is, and when it was read."""
    text = re.sub(r'("time": )"[^"]*"', r'\1"TIME"', text)
    return text.replace(str(root), "ROOT")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("bad.txt", []),
        ("bad-verbose.txt", ["-v"]),
        ("bad-problems.txt", ["--only-problems"]),
        ("bad.json", ["-o", "json"]),
        ("bad.junit.xml", ["-o", "junit"]),
        ("bad.md", ["-o", "markdown"]),
    ],
)
def test_a_host_with_findings_reads_as_agreed(
    short: Path, tmp_path: Path, name: str, arguments: list[str]
) -> None:
    ended = kgpuctl("preflight", "--root", short, *arguments, cwd=tmp_path)
    told = timeless(ended.out, short)
    golden = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(told, encoding="utf-8")

    assert ended.exit_code == 3
    assert ended.err == ""
    assert told == golden.read_text(encoding="utf-8")


def test_a_sound_host_passes_and_says_so_last(sound: Path) -> None:
    ended = kgpuctl("preflight", "--root", sound)

    assert ended.exit_code == 0
    assert ended.out.splitlines()[-2] == "✓ Passed: this host can give its GPUs to Kata VMs."


@pytest.mark.parametrize("output", ["human", "json", "junit", "markdown"])
def test_the_exit_code_does_not_depend_on_the_output(bad: Path, sound: Path, output: str) -> None:
    assert kgpuctl("preflight", "--root", bad, "-o", output).exit_code == 3
    assert kgpuctl("preflight", "--root", sound, "-o", output).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="plain"),
        pytest.param(["--only-problems"], id="only problems"),
        pytest.param(["--confidential", "snp", "--after-install"], id="confidential"),
        pytest.param(["--device", "0000:66:00.0"], id="device"),
        pytest.param(["--waive", "gpu.driver"], id="waived"),
        pytest.param(["--stack", "coco-operator"], id="other stack"),
        pytest.param(["--bogus"], id="usage"),
    ],
)
def test_json_is_what_the_schema_says(bad: Path, arguments: list[str]) -> None:
    ended = kgpuctl("preflight", "--root", bad, "-o", "json", *arguments)
    told = json.loads(ended.out)

    Draft202012Validator(SCHEMA).validate(told)
    assert told["exitCode"] == ended.exit_code


def test_this_machine_is_judged_in_json_too() -> None:
    ended = kgpuctl("preflight", "-o", "json")

    Draft202012Validator(SCHEMA).validate(json.loads(ended.out))


def test_junit_counts_what_it_lists(bad: Path) -> None:
    suite = ET.fromstring(kgpuctl("preflight", "--root", bad, "-o", "junit").out)[0]  # noqa: S314

    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.get(attribute, "-1")) == len(suite.findall(f"testcase/{tag}"))
    assert int(suite.get("tests", "-1")) == len(suite.findall("testcase"))


def test_only_problems_lists_less_and_counts_the_same(bad: Path) -> None:
    whole = json.loads(kgpuctl("preflight", "--root", bad, "-o", "json").out)
    short = json.loads(kgpuctl("preflight", "--root", bad, "-o", "json", "--only-problems").out)

    assert short["summary"] == whole["summary"]
    assert {item["status"] for item in short["results"]} == {"failed", "warned"}


def test_what_is_waived_does_not_count(bad: Path) -> None:
    failing = ("gpu.driver", "gpu.group-viable")
    waivers = [word for id_ in failing for word in ("--waive", id_)]
    ended = kgpuctl("preflight", "--root", bad, *waivers)

    assert ended.exit_code == 0
    assert "2 waived" in ended.out


@pytest.mark.parametrize(
    ("until", "code", "told"),
    [("2999-01-01", 0, "waived: on the bench"), ("2020-01-31", 3, "waiver ended 2020-01-31")],
)
def test_a_waiver_holds_until_its_day(
    bad: Path, tmp_path: Path, until: str, code: int, told: str
) -> None:
    tables = "".join(
        f'[[waive]]\nid = "{id_}"\nreason = "on the bench"\nuntil = {until}\n'
        for id_ in ("gpu.driver", "gpu.group-viable")
    )
    (tmp_path / "kgpuctl.toml").write_text(tables)
    ended = kgpuctl("preflight", "--root", bad, "-v", cwd=tmp_path)

    assert ended.exit_code == code
    assert told in " ".join(ended.out.split())


def test_flags_win_over_the_file_and_the_file_over_the_environment(
    sound: Path, tmp_path: Path
) -> None:
    def stack(*arguments: str) -> object:
        environment = {"KGPUCTL_STACK": "coco-operator", "KGPUCTL_CONFIDENTIAL": "tdx"}
        ended = kgpuctl(
            "preflight", "--root", sound, "-o", "json", *arguments,
            cwd=tmp_path, environment=environment,
        )  # fmt: skip
        subject = json.loads(ended.out)["subject"]
        return subject["stack"], subject["confidential"]

    assert stack() == ("coco-operator", "tdx")
    (tmp_path / "kgpuctl.toml").write_text('stack = "kata-deploy"\n')
    assert stack() == ("kata-deploy", "tdx")
    assert stack("--stack", "coco-operator", "--confidential", "snp") == ("coco-operator", "snp")


def test_the_fix_script_is_written_and_never_run(bad: Path, tmp_path: Path) -> None:
    script = tmp_path / "fix.sh"
    before = sorted(path for path in bad.rglob("*"))
    ended = kgpuctl("preflight", "--root", bad, "--fix-script", script)
    text = script.read_text()

    assert ended.exit_code == 3
    assert text.startswith("#!/bin/sh")
    assert "modprobe.blacklist=nouveau" in text
    assert script.stat().st_mode & 0o777 == 0o700
    assert sorted(path for path in bad.rglob("*")) == before


def test_devices_that_are_named_are_judged_as_the_gpus(bad: Path) -> None:
    ended = kgpuctl("preflight", "--root", bad, "-o", "json", "--device", "66:00.0")
    told = json.loads(ended.out)

    assert [item["address"] for item in told["subject"]["gpus"]] == ["0000:66:00.0"]
    assert {item["subject"] for item in told["results"] if item["id"] == "gpu.driver"} == {
        "0000:66:00.0"
    }


def test_an_ordinary_user_is_told_what_was_not_seen() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # loaded as root, for the interpreter may lie where nobody else may look
        _judge_as_nobody(write)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        told = json.loads(pipe.read())
    os.waitpid(child, 0)

    assert told["exitCode"] in {3, 4}
    assert told["subject"]["asRoot"] is False
    kvm = next(item for item in told["results"] if item["id"] == "host.kvm-usable")
    assert kvm["status"] in {"unknown", "skipped"}


def _judge_as_nobody(descriptor: int) -> None:
    import datetime as dt  # noqa: PLC0415

    from kgpuctl.cli.preflight_run import Wishes, judge  # noqa: PLC0415
    from kgpuctl.names import Stack  # noqa: PLC0415
    from kgpuctl.render.json import dumps  # noqa: PLC0415

    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    now = dt.datetime.now(dt.UTC)
    wishes = Wishes("/", None, (), Stack.KATA_DEPLOY, None, after_install=False, waivers=(),
                    only_problems=False, now=now)  # fmt: skip
    os.write(descriptor, dumps(judge(wishes).report).encode())
    os._exit(0)
