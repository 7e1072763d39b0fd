"""Every parser of foreign text gives a value or ValueError, soon, whatever it is given."""

import json
import shlex
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import KATA_FILES, KATA_TOML, KUBELET, cdi_spec, config_toml, gpu, handler, iort
from fuzz.bounded import bounded
from fuzz.mutations import Mutator
from kgpuctl.host import cdi, containerd, iommu, kubelet, live, modules, pci, procfs, text
from kgpuctl.host.facts import Holder, Kubelet, Node
from kgpuctl.host.tree import Keep
from kgpuctl.unread import Fact

Parser = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Answering:
    """A Tree that has the same content everywhere, or in only one file; and the same answer."""

    content: str
    only: str = ""

    def read(self, path: str, keep: Keep | None = None) -> Fact[bytes | None]:
        """Return the content."""
        del keep
        here = self.only in {"", path}
        return self.content.encode("utf-8", "surrogatepass") if here else None

    def names(self, path: str) -> Fact[tuple[str, ...] | None]:
        """Return the names of two files."""
        del path
        return () if self.only else ("a.conf", "b.yaml")

    def link(self, path: str) -> Fact[str | None]:
        """Return a target."""
        del path
        return self.content

    def node(self, path: str) -> Fact[Node | None]:
        """Return a directory, except for distributions that would be found first."""
        return None if "rancher" in path or "k0s" in path else Node("dir", 0o755)

    def ask(self, question: str) -> Fact[str | None]:
        """Return the answer."""
        return "no" if question == "root" else self.content


CPUINFO = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\nflags\t\t: lm vmx\n\n"
INTERRUPTS = "           CPU0\n  16:  12  IR-PCI-MSIX-0000:00:1f.2    0-edge\n"
OPTIONS = "".join(f"CONFIG_FILLER_{number}=y\n" for number in range(120)) + "CONFIG_VFIO_PCI=y\n"

# A parser, and a text that it takes.
PARSERS: Mapping[str, tuple[Parser, str]] = {
    "cpuinfo": (procfs.parse_cpuinfo, CPUINFO * 2),
    "cmdline": (procfs.parse_cmdline, 'ro intel_iommu=on x="a b" modprobe.blacklist=nouveau\n'),
    "render_cmdline": (procfs.render_cmdline, 'ro intel_iommu=on x="a b"\n'),
    "meminfo": (procfs.parse_meminfo, "MemTotal:  1000 kB\nMemAvailable: 900 kB\n"),
    "modules": (procfs.parse_modules, "vfio_pci 16384 0 - Live 0x0000000000000000\n"),
    "interrupts": (procfs.parse_interrupts, INTERRUPTS),
    "iomem": (procfs.parse_iomem, "00001000-0009ffff : System RAM\n  0-1 : x\n"),
    "kernel_config": (modules.parse_kernel_config, OPTIONS),
    "modules_dep": (modules.parse_modules_dep, "kernel/a/vfio-pci.ko.zst: kernel/b.ko.zst\n"),
    "modules_builtin": (modules.parse_modules_builtin, "kernel/drivers/net/tun.ko\n"),
    "modprobe": (modules.parse_modprobe, "# x\nblacklist nouveau\ninstall a-b /bin/false\n"),
    "render_modprobe": (modules.render_modprobe, "blacklist nouveau\noptions x token=1\n"),
    "hex": (pci.parse_hex, "0x10de\n"),
    "int": (pci.parse_int, "-1\n"),
    "power_state": (pci.parse_power_state, "D3cold\n"),
    "resource": (pci.parse_resource, gpu().resource()),
    "reserved_regions": (
        iommu.parse_reserved_regions,
        "0x00000000fee00000 0x00000000feefffff msi\n",
    ),
    "cdi": (cdi.parse_spec, cdi_spec({"0": "/dev/vfio/1"})),
    "render_cdi": (cdi.render_spec, cdi_spec({"0": "/dev/vfio/1"})),
    "duration": (kubelet.parse_duration, "1h20m0.5s"),
    "version": (containerd.parse_version, "containerd github.com/containerd v2.1.4 75cb2b7"),
    "render_config": (containerd.render_config, config_toml(3) + handler(3)),
    "kata": (containerd.parse_kata, str(KATA_FILES[KATA_TOML])),
    "render_kata": (containerd.render_kata, str(KATA_FILES[KATA_TOML])),
    "toml": (text.parse_toml, config_toml(3)),
    "yaml": (text.parse_yaml, KUBELET),
    "kubelet": (lambda told: _read(kubelet.read_kubelet, told), KUBELET),
    "kubelet flags": (lambda told: _read(kubelet.read_kubelet, told), '--feature-gates="A=true"\n'),
    "kvm answer": (lambda told: _read(live.read_kvm, told), "api=12 vm=yes error="),
    "holders answer": (
        lambda told: _read(live.read_holders, told),
        "partial\ta (pid 1)\n7\tqemu\t/dev/vfio/1\tkata",
    ),
    "space answer": (lambda told: live.read_space(Answering(told), "/opt"), "123456"),
    "kubelet version": (lambda told: _read(kubelet.read_kubelet_version, told), "v1.34.1"),
    "runtime": (lambda told: _read(containerd.read_runtime, told), config_toml(3)),
}


def _read(reader: Callable[[Answering], object], told: str) -> object:
    return reader(Answering(told))


def gives_a_value_or_value_error(parse: Parser, told: str) -> None:
    """Parse; anything but a value or ValueError, or too long a time, is a failure."""
    with bounded():
        try:
            parse(told)
        except ValueError:
            return


FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# All of Unicode, and much of what the formats are made of.
TEXT = st.text(max_size=200) | st.text(
    st.sampled_from("0123456789abcdefx \t\n\r:=[]{}()\"'#,.-_/\\&*!|>%@\x00\x85\u2028\ufeff٣"),
    max_size=200,
)


@pytest.mark.parametrize("name", PARSERS)
def test_the_example_is_taken(name: str) -> None:
    parse, example = PARSERS[name]

    assert parse(example) is not None or name == "kubelet version"


@pytest.mark.parametrize("name", PARSERS)
@FUZZ
@given(told=TEXT)
def test_any_text_gives_a_value_or_value_error(name: str, told: str) -> None:
    gives_a_value_or_value_error(PARSERS[name][0], told)


@pytest.mark.parametrize("name", PARSERS)
@FUZZ
@given(seed=st.integers(0, 2**32))
def test_any_change_to_a_good_text_gives_a_value_or_value_error(name: str, seed: int) -> None:
    parse, example = PARSERS[name]
    changed = Mutator(seed).change(example.encode())

    gives_a_value_or_value_error(parse, changed.decode(errors="replace"))


# What a backtracking expression, a recursion or a square of the length would never finish.
LONG = {
    "letters": "a" * 100_000,
    "digits": "9" * 100_000,
    "spaces": " " * 100_000 + "x",
    "line feeds": "\n" * 100_000 + "x",
    "spaces and line feeds": " \n" * 50_000 + "x",
    "quotes": '"a' * 50_000,
    "single quotes": "'" * 100_000,
    "dots": "a." * 50_000 + "a=1",
    "versions": "1." * 50_000,
    "brackets": "[" * 100_000,
    "closed brackets": "[" * 33_000 + "]" * 33_000,
    "braces": "{a: " * 25_000,
    "dashes": "- " * 50_000,
    "rules": "-" * 100_000,
    "words": "token" * 20_000,
    "assignments": "a=" * 50_000,
    "colons": "a:" * 50_000,
    "commas": "a," * 50_000,
    "slashes": "/" * 100_000,
    "flags": "--feature-gates " * 6_000,
    "gates": "--feature-gates=" + "A=true," * 13_000,
    "durations": "1m" * 50_000 + "x",
    "modules": ".ko." * 25_000 + ":",
    "aliases": "a: &a [x]\nb: [" + "*a," * 30_000 + "]",
    "backslashes": "\\\n" * 50_000,
    "a long line": "install x " + "/true" * 20_000,
    "a long name": "NAME=" + " " * 100_000 + "x",
    "chips": "CPU0" + " IR-" * 25_000,
    "a table of tables": "[a.b.c]\n" * 13_000,
    "arrays of tables": "[[a]]\n" * 16_000,
    "keys": "".join(f"k{number} = 1\n" for number in range(6_000)),
}


@pytest.mark.parametrize("long", LONG)
def test_no_long_text_takes_more_than_its_share_of_time(long: str) -> None:
    slow = []
    for name, (parse, example) in PARSERS.items():
        for told in (LONG[long], example + LONG[long]):
            try:
                gives_a_value_or_value_error(parse, told)
            except Exception as error:  # noqa: BLE001  # all of them are told at once
                slow.append(f"{name}: {type(error).__name__}")

    assert slow == []


NUMBERS = (
    "9" * 5000,
    "-" + "9" * 5000,
    "0x" + "f" * 5000,
    "1e999",
    "٣",
    "²",
    "1_000",
    "nan",
    "inf",
)


@pytest.mark.parametrize("number", NUMBERS)
def test_odd_numbers_give_a_value_or_value_error(number: str) -> None:
    for parse, example in PARSERS.values():
        for digit in "0123456789":
            gives_a_value_or_value_error(parse, example.replace(digit, number, 1))
        gives_a_value_or_value_error(parse, number)
        gives_a_value_or_value_error(parse, f"version = {number}\n")
        gives_a_value_or_value_error(parse, f"runtimeRequestTimeout: {number}\n")


TAGS = (
    *("!!bool foo", '!!int ""', '!!float ""', "!!timestamp foo", "!!binary é", "!!set x"),
    *("!!omap x", "!!python/object:os.system x", "2001-99-99", "1:" * 300 + "1.5", "=", "<<: x"),
    *("&a [*a]", "*b", "!<x> a", '"\\ud800"', "? [a]: b", "&a {<<: *a}", "%YAML 9.9\n---\na"),
    "---\na\n---\nb",
)


@pytest.mark.parametrize("value", TAGS)
def test_odd_yaml_gives_a_value_or_value_error(value: str) -> None:
    for parse, _ in PARSERS.values():
        for told in (value, f"a: {value}\n", f"- {value}", f"? {value}\n: b", f"kind: {value}\n"):
            gives_a_value_or_value_error(parse, told)


def test_a_bomb_of_yaml_does_not_go_off() -> None:
    levels = [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 20)]
    merges = [f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 20)]
    for bomb in ("a0: &a0 [x]\n" + "".join(levels), "a0: &a0 {k: v}\n" + "".join(merges)):
        for parse, _ in PARSERS.values():
            gives_a_value_or_value_error(parse, f"{bomb}runtimeRequestTimeout: *a19\n")


@FUZZ
@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda rest: iort(4)[:40] + rest))
def test_any_acpi_table_gives_a_value_or_value_error(table: bytes) -> None:
    with bounded():
        try:
            iommu.parse_iort(table)
        except ValueError:
            return


@FUZZ
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_an_iort_table_may_lie_about_its_nodes(count: int, offset: int) -> None:
    table = iort(2, 4)
    lying = table[:36] + struct.pack("<II", count, offset) + table[44:]

    with bounded():
        try:
            assert iommu.parse_iort(lying) <= {*range(256)}
        except ValueError:
            return


# Round trips


@FUZZ
@given(st.lists(st.integers(0, 255), max_size=20))
def test_an_iort_table_gives_back_its_node_types(kinds: list[int]) -> None:
    assert iommu.parse_iort(iort(*kinds)) == frozenset(kinds)


@FUZZ
@given(
    st.lists(
        st.tuples(st.integers(1, 2**60), st.integers(1, 2**60), st.booleans(), st.booleans()),
        min_size=6,
        max_size=6,
    )
)
def test_a_resource_file_gives_back_its_windows(
    windows: list[tuple[int, int, bool, bool]],
) -> None:
    lines = []
    for start, size, prefetch, unset in windows:
        flags = 0x200 | 0x2000 * prefetch | 0x20000000 * unset
        lines.append(f"0x{start:016x} 0x{start + size - 1:016x} 0x{flags:016x}\n")

    bars = pci.parse_resource("".join(lines))

    assert [(bar.start, bar.size, bar.prefetchable, not bar.assigned) for bar in bars] == windows
    assert [bar.number for bar in bars] == [*range(6)]


@FUZZ
@given(st.integers(0, 0xFFFF))
def test_a_hexadecimal_number_is_given_back(number: int) -> None:
    assert pci.parse_hex(f"0x{number:04x}\n") == number


@FUZZ
@given(st.integers(-999_999_999, 999_999_999))
def test_a_decimal_number_is_given_back(number: int) -> None:
    assert pci.parse_int(f"{number}\n") == number


@FUZZ
@given(st.integers(0, 999), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_duration_is_given_back(hours: int, minutes: int, seconds: int, millis: int) -> None:
    told = f"{hours}h{minutes}m{seconds}s{millis}ms"

    expected = hours * 3600 + minutes * 60 + seconds + millis / 1000
    assert kubelet.parse_duration(told) == pytest.approx(expected)


@FUZZ
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(procfs.CMDLINE_NAMES)), st.from_regex(r"\A[\w,.:-]*\Z"))
    )
)
def test_the_words_of_a_command_line_are_given_back(words: list[tuple[str, str]]) -> None:
    told = [f"{name}={value}" for name, value in words if value.isascii()]

    assert list(procfs.parse_cmdline(" ".join(["quiet", *told, "ro"]) + "\n")) == told


@FUZZ
@given(st.lists(st.from_regex(r"\A[a-z][a-z0-9_-]{0,20}\Z"), min_size=1))
def test_the_names_of_modules_are_given_back(names: list[str]) -> None:
    expected = frozenset(name.replace("-", "_") for name in names)
    dep = "".join(f"kernel/x/{name}.ko.xz: kernel/y.ko.xz\n" for name in names)
    builtin = "".join(f"kernel/x/{name}.ko\n" for name in names)
    loaded = "".join(f"{name} 1 0 - Live 0x0000\n" for name in names)
    blacklist = "".join(f"blacklist {name}\n" for name in names)

    assert modules.parse_modules_dep(dep) == expected
    assert modules.parse_modules_builtin(builtin) == expected
    assert procfs.parse_modules(loaded) == expected
    assert modules.parse_modprobe(blacklist).blacklisted == expected


@FUZZ
@given(st.lists(st.tuples(st.integers(0, 2**48), st.integers(1, 2**48), st.sampled_from("ABC"))))
def test_iomem_is_given_back(ranges: list[tuple[int, int, str]]) -> None:
    lines = "".join(f"  {start:08x}-{end:08x} : {name}\n" for start, end, name in ranges)
    if not ranges:
        return

    found = procfs.parse_iomem(lines)

    assert [(item.start, item.end, item.name) for item in found] == ranges


SIMPLE = st.recursive(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.from_regex(r"\A[a-z]{1,8}\Z"), inner, max_size=4)
    ),
    max_leaves=12,
)


@FUZZ
@given(SIMPLE)
def test_json_is_yaml_and_is_given_back(value: object) -> None:
    assert text.parse_yaml(json.dumps(value, ensure_ascii=False)) == value


@FUZZ
@given(SIMPLE)
def test_yaml_as_others_write_it_is_given_back(value: object) -> None:
    assert text.parse_yaml(yaml.safe_dump(value)) == value


@FUZZ
@given(st.lists(st.tuples(st.integers(1, 2**22), st.from_regex(r"\A[\x20-\x7e]{0,15}\Z"))))
def test_holders_are_given_back(processes: list[tuple[int, str]]) -> None:
    holders = tuple(Holder(pid, name, "/dev/vfio/7") for pid, name in processes)
    lines = [f"{item.pid}\t{item.command}\t{item.path}\t-" for item in holders]

    assert live.read_holders(Answering("\n".join(["complete", *lines]))) == holders


@FUZZ
@given(st.dictionaries(st.from_regex(r"\A[A-Z][A-Za-z]{0,20}\Z"), st.booleans(), max_size=6))
def test_gates_are_given_back_from_flags_and_files(gates: dict[str, bool]) -> None:
    words = ",".join(f"{name}={str(value).lower()}" for name, value in gates.items())
    flags = shlex.join([f"--feature-gates={words}"]) if gates else "--v=2"

    for told in (json.dumps({"featureGates": gates}), yaml.safe_dump({"featureGates": gates})):
        assert _gates("/var/lib/kubelet/config.yaml", told) == gates
    assert _gates("/var/lib/kubelet/kubeadm-flags.env", f'X="{flags}"\n') == gates


def _gates(path: str, told: str) -> Mapping[str, bool]:
    found = kubelet.read_kubelet(Answering(told, path))
    assert isinstance(found, Kubelet), found
    return found.gates
