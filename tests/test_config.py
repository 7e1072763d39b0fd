"""kgpuctl.toml and KGPUCTL_* variables: every mistake is told, none is passed over."""

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.bounded import bounded
from fuzz.mutations import Mutator
from kgpuctl.config import Config, Waiver, load_config, pci_address
from kgpuctl.errors import KgpuctlError, UsageError, nearest
from kgpuctl.names import Stack, Tee
from running import kgpuctl

WHOLE = """\
stack = "coco-operator"
confidential = "snp"
devices = ["65:00.0", "0000:CA:00.0"]

[[waive]]
id = "gpu.nvswitch"
reason = "  the switches stay  "
until = 2027-01-31

[[waive]]
id = "gpu.uniform"
reason = "known"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where the configuration is."""
    return tmp_path / "kgpuctl.toml"


def load(file: Path, content: str | bytes, **environment: str) -> Config:
    """Write a configuration and load it."""
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_config(file, environment)


def refusal(file: Path, content: str | bytes, **environment: str) -> str:
    """Return what is said of a configuration that is refused."""
    with pytest.raises(UsageError) as refused:
        load(file, content, **environment)
    told = str(refused.value)
    assert told[-1] in ".?"
    assert "\n" not in told
    assert len(told) < 500
    assert refused.value.remedy[-1] in ".)"
    return told


def test_everything_that_can_be_configured(file: Path) -> None:
    assert load(file, WHOLE) == Config(
        stack=Stack.COCO_OPERATOR,
        confidential=Tee.SNP,
        devices=("0000:65:00.0", "0000:ca:00.0"),
        waivers=(
            Waiver("gpu.nvswitch", "the switches stay", dt.date(2027, 1, 31)),
            Waiver("gpu.uniform", "known"),
        ),
    )


@pytest.mark.parametrize("content", ["", "# nothing\n", "\n\n", "waive = []\ndevices = []\n"])
def test_a_file_may_say_nothing(file: Path, content: str) -> None:
    assert load(file, content) == Config()


def test_variables_fill_what_the_file_leaves(file: Path) -> None:
    found = load(
        file, 'stack = "kata-deploy"', KGPUCTL_STACK="coco-operator", KGPUCTL_CONFIDENTIAL="tdx"
    )

    assert (found.stack, found.confidential) == (Stack.KATA_DEPLOY, Tee.TDX)


def test_a_variable_names_the_file(file: Path) -> None:
    file.write_text('stack = "coco-operator"')

    assert load_config(None, {"KGPUCTL_CONFIG": str(file)}).stack is Stack.COCO_OPERATOR


def test_an_option_wins_over_the_variable_that_names_the_file(file: Path) -> None:
    assert load(file, 'confidential = "snp"', KGPUCTL_CONFIG="/no/such").confidential is Tee.SNP


def test_an_empty_variable_says_nothing(file: Path) -> None:
    assert load(file, "", KGPUCTL_STACK="", KGPUCTL_CONFIDENTIAL="") == Config()


def test_without_a_file_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert load_config(None, {}) == Config()


def test_the_file_of_the_current_directory_is_taken(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    file.write_text('confidential = "tdx"')

    assert load_config(None, {"HOME": "/", "KGPUCTL_CONFIG": ""}).confidential is Tee.TDX


# Words that are not known


@pytest.mark.parametrize(
    ("content", "near"),
    [
        ('stak = "kata-deploy"', "stack"),
        ('Stack = "kata-deploy"', "stack"),
        ("waiver = []", "waive"),
        ("device = []", "devices"),
        ('confidental = "snp"', "confidential"),
        ('[[waive]]\nid = "a"\nreasons = "b"', "reason"),
        ('[[waive]]\nid = "a"\nreason = "b"\nuntill = 2027-01-01', "until"),
        ('stack = "kata-deplo"', "kata-deploy"),
        ('stack = "coco"', "coco-operator"),
    ],
)
def test_an_unknown_word_names_the_nearest(file: Path, content: str, near: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(file, content)

    assert near in str(refused.value) + refused.value.remedy
    assert str(file) in str(refused.value)


@pytest.mark.parametrize("content", ["[gpu]\nx = 1", "q = 1", '"" = 1', '"\\u001b[2J" = 1'])
def test_an_unknown_key_near_nothing_names_all(file: Path, content: str) -> None:
    told = refusal(file, content)

    assert "unknown key" in told
    assert "did you mean" not in told
    assert told.isprintable()


@pytest.mark.parametrize("name", ["KGPUCTL_STAK", "KGPUCTL_", "KGPUCTL_TIMEOUT"])
def test_an_unknown_variable_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        load_config(None, {name: "x"})

    assert name in str(refused.value)
    assert "KGPUCTL_STACK" in refused.value.remedy


def test_the_nearest_of_nothing_is_nothing() -> None:
    assert nearest("stak", []) == "."
    assert nearest("stak", ["stack"]) == "; did you mean stack?"


# Values of a wrong kind


@pytest.mark.parametrize(
    "value",
    ["1", "true", '"kata"', '["kata-deploy"]', "{}", "2027-01-31", "1e3", "nan", '""', '"Snp"'],
)
@pytest.mark.parametrize("key", ["stack", "confidential"])
def test_a_choice_of_a_wrong_kind_is_refused(file: Path, key: str, value: str) -> None:
    assert key in refusal(file, f"{key} = {value}")


@pytest.mark.parametrize("value", ["1", '"65:00.0"', "[1]", '["65:00.0", 1]', "{}", "[[]]", "[{}]"])
def test_devices_of_a_wrong_kind_are_refused(file: Path, value: str) -> None:
    assert "devices" in refusal(file, f"devices = {value}")


@pytest.mark.parametrize("value", ["1", '"gpu.driver"', '["gpu.driver"]', "[1]", "{}", "[[]]"])
def test_waivers_of_a_wrong_kind_are_refused(file: Path, value: str) -> None:
    assert "waive" in refusal(file, f"waive = {value}")


@pytest.mark.parametrize(
    "table",
    [
        "",
        'id = "a"',
        'reason = "a"',
        'id = "a"\nreason = ""',
        'id = "a"\nreason = "  \\t"',
        'id = 1\nreason = "a"',
        'id = ["a"]\nreason = "a"',
        'id = "a"\nreason = 1',
        'id = "a"\nreason = true',
    ],
)
def test_a_waiver_needs_an_id_and_a_reason(file: Path, table: str) -> None:
    assert "waive" in refusal(file, f"[[waive]]\n{table}")


@pytest.mark.parametrize(
    "until", ['"2027-01-31"', "2027", "2027-01-31T00:00:00Z", "2027-01-31 10:00:00", "10:00:00"]
)
def test_a_date_of_a_wrong_kind_is_refused_with_how_to_write_it(file: Path, until: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(file, f'[[waive]]\nid = "gpu.driver"\nreason = "x"\nuntil = {until}')

    assert "gpu.driver" in str(refused.value)
    assert "until = 2027-01-31" in refused.value.remedy


@pytest.mark.parametrize("until", ["2027-02-30", "2027-13-01", "27-01-01", "2027-1-1"])
def test_a_date_that_does_not_exist_is_refused(file: Path, until: str) -> None:
    refusal(file, f'[[waive]]\nid = "a"\nreason = "x"\nuntil = {until}')


# Addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0000:65:00.0", "0000:65:00.0"),
        ("65:00.0", "0000:65:00.0"),
        (" 65:00.0\n", "0000:65:00.0"),
        ("0000:CA:00.7", "0000:ca:00.7"),
        ("10000:01:00.0", "10000:01:00.0"),
    ],
)
def test_an_address_is_completed(text: str, address: str) -> None:
    assert pci_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "65", "65:00", "65:00.8", "g5:00.0", "65:00.0.0", "0000:65:00.0 x", "../65:00.0"),
        *("٦٥:00.0", "65:00.0\0", "0000:0000:65:00.0", "x" * 100_000, "65.00.0", "\udcff"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused, bounded():
        pci_address(text)

    assert len(str(refused.value)) < 200
    assert "lspci -D" in refused.value.remedy


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = pci_address(text)
    except UsageError:
        return

    assert pci_address(address) == address


# Files that are none


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x7fELF\x02\x01\x01\0", id="binary"),
        pytest.param(b"stack = 'caf\xe9'", id="latin-1"),
        pytest.param(b"\xff\xfes\0t\0", id="utf-16"),
        pytest.param(b"stack: kata-deploy\n", id="yaml"),
        pytest.param(b"stack = ", id="cut off"),
        pytest.param(b"stack = 'a'\nstack = 'b'\n", id="twice"),
        pytest.param(b"[" * 5000, id="brackets"),
        pytest.param(b"a = " + b"[" * 5000, id="nested"),
        pytest.param(b"stack = " + b"9" * 5000, id="digits"),
        pytest.param(b"stack = 0x" + b"f" * 50_000, id="hexadecimal digits"),
        pytest.param(b"a." * 2000 + b"b = 1", id="dots"),
        pytest.param(b"# " + b"x" * 1_000_000, id="a megabyte"),
        pytest.param(b"stack = '" + b"x" * 60_000 + b"'", id="a long value"),
        pytest.param(b"'" + b"x" * 60_000 + b"' = 1", id="a long key"),
        pytest.param(b"\0" * 1000, id="zeros"),
    ],
)
def test_what_is_no_configuration_is_refused(file: Path, content: bytes) -> None:
    with bounded():
        assert str(file) in refusal(file, content)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda _: None, id="nothing"),
        pytest.param(lambda path: path.mkdir(), id="directory"),
        pytest.param(os.mkfifo, id="fifo"),
        pytest.param(lambda path: path.symlink_to(path), id="loop"),
        pytest.param(lambda path: path.symlink_to("nowhere"), id="dangling link"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), id="device"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(file: Path, make: Callable[[Path], object]) -> None:
    make(file)

    with pytest.raises(UsageError) as refused, bounded():
        load_config(file, {})

    assert str(file) in str(refused.value)


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo], ids=["directory", "fifo"])
def test_an_odd_file_in_the_current_directory_is_told(
    file: Path, make: Callable[[Path], object]
) -> None:
    make(file)

    ended = kgpuctl("preflight", cwd=file.parent)

    assert (ended.exit_code, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 2


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32))
def test_any_change_to_a_good_file_is_taken_or_refused(file: Path, seed: int) -> None:
    with bounded():
        try:
            load(file, Mutator(seed).change(WHOLE.encode()))
        except KgpuctlError as error:
            assert error.exit_code == 2  # noqa: PT017  # most changes are refused, some are not


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_content_is_taken_or_refused(file: Path, content: bytes) -> None:
    with bounded():
        try:
            load(file, content)
        except KgpuctlError as error:
            assert error.exit_code == 2  # noqa: PT017  # nearly all of it is refused


# Waivers from the command line


def test_an_unknown_id_of_a_waiver_names_the_nearest() -> None:
    ended = kgpuctl("preflight", "--waive", "gpu.drvier")

    assert (ended.exit_code, ended.out) == (2, "")
    assert "gpu.driver" in ended.err


def test_an_unknown_id_in_the_file_names_the_nearest(file: Path) -> None:
    file.write_text('[[waive]]\nid = "iommu.enable"\nreason = "x"\n')

    ended = kgpuctl("preflight", "--config", file)

    assert (ended.exit_code, ended.out) == (2, "")
    assert "iommu.enabled" in ended.err


@pytest.mark.parametrize("word", ["", " ", "x" * 100_000, "\x1b[2J", "gpu.driver "])
def test_no_unknown_id_makes_a_mess(word: str) -> None:
    ended = kgpuctl("preflight", "--waive", word)

    assert (ended.exit_code, ended.out) == (2, "")
    assert len(ended.err) < 500
    assert "\x1b" not in ended.err
    assert len(ended.err.splitlines()) == 2
