"""Reading a host below a root directory: what is absent, what is unread, and where links end."""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from builders import (
    AUDIO,
    CONTAINERD,
    CONTAINERD_PROGRAM,
    DIRECTORY,
    GPU,
    KUBELET,
    KUBELET_FILE,
    SOCKET,
    Entry,
    Files,
    HostTree,
    Link,
    audio,
    gpu,
    open_tree,
    read_facts,
    verdict,
    vga_gpu,
    write_tree,
)
from kgpuctl.errors import UnreachableError, UsageError
from kgpuctl.host.distribution import UNKNOWN, Boot, Family
from kgpuctl.host.facts import HostFacts, Node
from kgpuctl.host.live import answer
from kgpuctl.host.tree import MAX_FILE, DirectoryTree, Keep, Tree
from kgpuctl.unread import Fact, Reason, Unread

Pick = Callable[[HostFacts], object]


def first_gpu(facts: HostFacts) -> object:
    assert isinstance(facts.devices, tuple)
    return facts.devices[0].driver


def bars(facts: HostFacts) -> object:
    return facts.details[GPU].bars


ABSENT: Final = [
    pytest.param(("/dev/kvm",), lambda host: host.nodes["/dev/kvm"], None, id="/dev/kvm"),
    pytest.param((SOCKET,), lambda host: host.nodes[SOCKET], None, id="the kubelet's socket"),
    pytest.param(
        ("/sys/module/kvm_intel",),
        lambda host: host.parameters["kvm_intel/tdx"],
        None,
        id="a module's parameter",
    ),
    pytest.param(("/sys/kernel/iommu_groups",), lambda host: host.groups, (), id="IOMMU groups"),
    pytest.param(("/sys/class/iommu",), lambda host: host.iommus, (), id="IOMMU units"),
    pytest.param((), first_gpu, None, id="a driver"),
    pytest.param(
        ("/etc/containerd", "/usr/bin/containerd"), lambda host: host.runtime, None, id="a runtime"
    ),
    pytest.param((), lambda host: host.cdi, (), id="CDI specs"),
    pytest.param(
        ("/var/lib/kubelet", "/usr/bin/kubelet"), lambda host: host.kubelet, None, id="a kubelet"
    ),
    pytest.param(("/etc/os-release",), lambda host: host.distribution, UNKNOWN, id="os-release"),
]


@pytest.mark.parametrize(("drop", "pick", "expected"), ABSENT)
def test_what_is_not_there_is_absent(
    drop: tuple[str, ...], pick: Pick, expected: object, tmp_path: Path
) -> None:
    host = HostTree(put={"/sys/kernel/mm": DIRECTORY}, drop=drop)

    assert pick(host.facts(tmp_path)) == expected


UNRECORDED: Final = [
    pytest.param(("/dev",), lambda host: host.nodes["/dev/kvm"], id="/dev"),
    pytest.param(("/sys/module",), lambda host: host.parameters["kvm_intel/tdx"], id="/sys/module"),
    pytest.param(("/sys/firmware",), lambda host: host.acpi_tables, id="/sys/firmware"),
    pytest.param(("/sys/firmware/acpi",), lambda host: host.acpi_tables, id="ACPI"),
    pytest.param(("/sys/class",), lambda host: host.iommus, id="/sys/class"),
    pytest.param(("/sys/bus/pci",), lambda host: host.devices, id="/sys/bus/pci"),
    pytest.param(("/sys/bus/pci/devices",), lambda host: host.devices, id="PCI devices"),
    pytest.param(("/sys/bus/pci/drivers",), first_gpu, id="PCI drivers"),
    pytest.param(
        (f"/sys/devices/pci0000:65/{GPU}/resource",), bars, id="a device's memory windows"
    ),
    pytest.param(("/proc",), lambda host: host.cmdline, id="/proc"),
    pytest.param(("/proc/cmdline",), lambda host: host.cmdline, id="/proc/cmdline"),
    pytest.param(("/proc/cpuinfo",), lambda host: host.cpu, id="/proc/cpuinfo"),
    pytest.param(("/proc/meminfo",), lambda host: host.memory, id="/proc/meminfo"),
    pytest.param(("/proc/interrupts",), lambda host: host.interrupts, id="/proc/interrupts"),
    pytest.param(("/proc/iomem",), lambda host: host.io_ranges, id="/proc/iomem"),
    pytest.param(("/proc/sys",), lambda host: host.kernel, id="the kernel's version"),
    pytest.param(("/proc/sys",), lambda host: host.module_index, id="modules of that kernel"),
    pytest.param(("/usr/lib/modules", "/lib"), lambda host: host.module_index, id="/lib/modules"),
    pytest.param(("/proc/modules", "/sys/module"), lambda host: host.modules, id="loaded modules"),
    pytest.param(("/etc", "/usr", "/run", "/lib"), lambda host: host.modprobe, id="modprobe.d"),
    pytest.param(("/etc", "/usr"), lambda host: host.distribution, id="/etc and /usr"),
    pytest.param(("/etc", "/usr", "/opt"), lambda host: host.runtime, id="where runtimes are"),
    pytest.param(("/etc",), lambda host: host.cdi, id="/etc/cdi"),
    pytest.param(("/var",), lambda host: host.cdi, id="/var/run/cdi"),
    pytest.param(("/var", "/usr"), lambda host: host.kubelet, id="where kubelets are"),
]


@pytest.mark.parametrize(("drop", "pick"), UNRECORDED)
def test_what_was_not_recorded_is_not_taken_for_absent(
    drop: tuple[str, ...], pick: Pick, tmp_path: Path
) -> None:
    fact = pick(HostTree(drop=drop).facts(tmp_path))

    assert isinstance(fact, Unread)
    assert fact.reason is Reason.NOT_RECORDED


def test_an_empty_directory_tells_nothing(tmp_path: Path) -> None:
    judged = verdict(open_tree(tmp_path))

    assert {item.status.value for item in judged.results} == {"unknown", "skipped"}
    assert judged.exit_code == 4
    assert judged.silent == ()


def test_groups_are_seen_by_the_devices_links_alone(tmp_path: Path) -> None:
    host = HostTree(drop=("/sys/kernel",))

    groups = host.facts(tmp_path).groups

    assert isinstance(groups, tuple)
    assert [(group.number, group.members) for group in groups] == [(0x65, (GPU,))]


def test_without_a_single_link_groups_are_not_known(tmp_path: Path) -> None:
    host = HostTree(groups=False, drop=("/sys/kernel",))

    assert isinstance(host.facts(tmp_path).groups, Unread)


@dataclass(frozen=True, slots=True)
class DenyingTree:
    """A host of which some paths, with all below them, are not ours to read."""

    tree: Tree
    denied: Collection[str]

    def _refusal(self, path: str) -> Unread | None:
        hit = any(path == prefix or path.startswith(f"{prefix}/") for prefix in self.denied)
        return Unread(path, Reason.NOT_PERMITTED) if hit else None

    def read(self, path: str, keep: Keep | None = None) -> Fact[bytes | None]:
        return self._refusal(path) or self.tree.read(path, keep)

    def names(self, path: str) -> Fact[tuple[str, ...] | None]:
        return self._refusal(path) or self.tree.names(path)

    def link(self, path: str) -> Fact[str | None]:
        return self._refusal(path) or self.tree.link(path)

    def node(self, path: str) -> Fact[Node | None]:
        return self._refusal(path) or self.tree.node(path)

    def ask(self, question: str) -> Fact[str | None]:
        return self.tree.ask(question)


DENIED: Final = [
    pytest.param(CONTAINERD, {"runtime.containerd", "runtime.config"}, id="containerd's file"),
    pytest.param("/etc/containerd/conf.d", {"runtime.imports"}, id="a directory of imports"),
    pytest.param(
        "/var/lib/kubelet",
        {"kubelet.present", "kubelet.pod-resources", "kubelet.request-timeout"},
        id="the kubelet's directory",
    ),
    pytest.param("/etc/cdi", {"runtime.cdi"}, id="a directory of CDI specs"),
    pytest.param("/sys/firmware/acpi", {"iommu.firmware"}, id="ACPI tables"),
    pytest.param("/proc/iomem", {"gpu.boot-display"}, id="/proc/iomem"),
    pytest.param("/dev/kvm", {"host.kvm-device"}, id="/dev/kvm"),
    pytest.param("/etc/modprobe.d/local.conf", {"driver.nouveau-blocked"}, id="modprobe.d"),
]


@pytest.mark.parametrize(("denied", "expected"), DENIED)
def test_what_is_not_permitted_is_unknown_and_asks_for_root(
    denied: str, expected: set[str], tmp_path: Path
) -> None:
    host = HostTree(quiet="", modprobe="blacklist nouveau\n")

    judged = verdict(DenyingTree(host.tree(tmp_path), {denied}))

    assert judged.exit_code == 4
    assert set(judged.problems.values()) == {"unknown"}
    assert expected & set(judged.problems)
    assert all("sudo" in judged.remedy(id_) for id_ in judged.problems)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_another_user_is_not_permitted(tmp_path: Path) -> None:
    root = HostTree().write(tmp_path)
    (root / "etc/containerd").chmod(0)

    config = open_tree(root).read(CONTAINERD)

    (root / "etc/containerd").chmod(0o755)
    assert config == Unread(CONTAINERD, Reason.NOT_PERMITTED)


def tree_of(root: Path, files: Files) -> DirectoryTree:
    """Make a root directory beside a secret that nothing in it may reach."""
    (root.parent / "secret").write_text("outside\n")
    return open_tree(write_tree(root, files))


@pytest.mark.parametrize(
    "target",
    [
        "../secret",
        "../../secret",
        "../../../../../../../../../../secret",
        "/secret",
        "/../secret",
        "a/../../secret",
        "./././../secret",
    ],
)
def test_a_link_does_not_leave_the_root(target: str, tmp_path: Path) -> None:
    files: Files = {"/etc/os-release": Link(target), "/etc/a/b": "", "/etc/up": Link("../..")}
    tree = tree_of(tmp_path / "root", files)

    assert tree.read("/etc/os-release") != b"outside\n"
    assert tree.read("/etc/up/secret") != b"outside\n"


def test_the_hosts_own_files_are_not_reached(tmp_path: Path) -> None:
    files: Files = {"/etc/os-release": Link("/etc/passwd"), "/proc": Link("/proc"), "/x": Link("/")}
    tree = tree_of(tmp_path / "root", files)

    assert isinstance(tree.read("/etc/os-release"), Unread | None)
    assert not isinstance(tree.read("/proc/cmdline"), bytes)
    assert not isinstance(tree.read("/x/etc/passwd"), bytes)


def test_a_link_is_followed_inside_the_root(tmp_path: Path) -> None:
    files: Files = {
        "/etc/os-release": Link("../usr/lib/os-release"),
        "/usr/lib/os-release": "ID=x\n",
        "/var/run": Link("/run"),
        "/run/cdi/a.yaml": "kind: a/b\n",
        "/lib": Link("usr/lib"),
    }
    tree = tree_of(tmp_path / "root", files)

    assert tree.read("/etc/os-release") == b"ID=x\n"
    assert tree.names("/var/run/cdi") == ("a.yaml",)
    assert tree.read("/lib/os-release") == b"ID=x\n"
    assert tree.link("/var/run") == "/run"
    assert tree.node("/lib") == Node("dir", 0o755)


@pytest.mark.parametrize("links", [{"/a": Link("a")}, {"/a": Link("b"), "/b": Link("/a/c")}])
def test_links_in_a_circle_are_unusable(links: dict[str, Entry], tmp_path: Path) -> None:
    tree = tree_of(tmp_path / "root", links)

    for answered in (tree.read("/a"), tree.names("/a"), tree.node("/a"), tree.read("/a/x")):
        assert isinstance(answered, Unread)
        assert answered.reason is Reason.UNUSABLE


def test_a_file_where_a_directory_should_be_is_unusable(tmp_path: Path) -> None:
    tree = tree_of(tmp_path / "root", {"/etc/cdi": "", "/etc/os-release": DIRECTORY})

    assert tree.names("/etc/cdi") == Unread("/etc/cdi", Reason.UNUSABLE, "not a directory")
    unusable = tree.read("/etc/os-release")
    assert unusable == Unread("/etc/os-release", Reason.UNUSABLE, "not a regular file")


def test_a_pipe_does_not_keep_the_reader_waiting(tmp_path: Path) -> None:
    tree = tree_of(tmp_path / "root", {"/etc/os-release": "ID=x\n"})
    os.mkfifo(tmp_path / "root/etc/pipe")

    answered = tree.read("/etc/pipe")

    assert answered == Unread("/etc/pipe", Reason.UNUSABLE, "not a regular file")
    node = tree.node("/etc/pipe")
    assert isinstance(node, Node)
    assert node.kind == "fifo"


def test_a_file_of_any_size_is_not_swallowed(tmp_path: Path) -> None:
    tree = tree_of(tmp_path / "root", {"/etc/os-release": ""})
    os.truncate(tmp_path / "root/etc/os-release", MAX_FILE + 1)

    answered = tree.read("/etc/os-release")

    assert isinstance(answered, Unread)
    assert answered.reason is Reason.UNUSABLE


def test_a_masked_modprobe_file_is_an_empty_one(tmp_path: Path) -> None:
    host = HostTree(
        quiet="",
        modprobe="blacklist nouveau\n",
        put={"/etc/modprobe.d/nouveau.conf": Link("/dev/null")},
        drop=("/dev/null",),
    )
    root = host.write(tmp_path)
    try:
        os.mknod(root / "dev/null", 0o20666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no device file can be made here")

    assert verdict(open_tree(root)).problems == {}


def test_odd_names_are_passed_over(tmp_path: Path) -> None:
    host = HostTree(
        put={
            "/sys/bus/pci/devices/not-an-address": "",
            "/sys/bus/pci/devices/0000:65:00.9": "",
            "/sys/kernel/iommu_groups/x": "",
            "/etc/modprobe.d/README": "\0binary",
        }
    )

    assert verdict(host.tree(tmp_path)).problems == {}


@pytest.mark.parametrize(
    ("path", "content", "pick"),
    [
        ("/proc/cmdline", "BOOT_IMAGE=/vmlinuz", lambda host: host.cmdline),
        ("/proc/cmdline", "", lambda host: host.cmdline),
        ("/proc/cpuinfo", "model name\t: x\n", lambda host: host.cpu),
        ("/proc/meminfo", "MemFree: 1 kB\n", lambda host: host.memory),
        ("/proc/interrupts", "", lambda host: host.interrupts),
        ("/proc/iomem", "", lambda host: host.io_ranges),
        ("/proc/iomem", "what\n", lambda host: host.io_ranges),
        ("/proc/sys/kernel/osrelease", "6.8.0; rm -rf /\n", lambda host: host.kernel),
        ("/proc/sys/kernel/hostname", "\x1b[2Jgpu-1\n", lambda host: host.hostname),
        (f"/sys/devices/pci0000:65/{GPU}/resource", "0x0 0x0 0x0\n", bars),
        (f"/sys/devices/pci0000:65/{GPU}/vendor", "10de\n", lambda host: host.devices),
        (f"/sys/devices/pci0000:65/{GPU}/class", "", lambda host: host.devices),
        (KUBELET_FILE, "- a list\n", lambda host: host.kubelet),
        (KUBELET_FILE, "a: [\n", lambda host: host.kubelet),
        ("/usr/lib/modules/6.8.0-45-generic/modules.dep", "", lambda host: host.module_index),
        ("/usr/lib/modules/6.8.0-45-generic/modules.dep", "x\n", lambda host: host.module_index),
        ("/etc/modprobe.d/local.conf", "<html>\n", lambda host: host.modprobe),
        ("/etc/modprobe.d/local.conf", b"\xff\xfe", lambda host: host.modprobe),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_unusable(
    path: str, content: str | bytes, pick: Pick, tmp_path: Path
) -> None:
    fact = pick(HostTree(put={path: content}).facts(tmp_path))

    assert isinstance(fact, Unread)
    assert fact.reason is Reason.UNUSABLE
    assert fact.detail


def test_a_distribution_is_told_by_its_files(tmp_path: Path) -> None:
    found = HostTree().facts(tmp_path).distribution

    assert not isinstance(found, Unread)
    assert (found.id, found.version) == ("ubuntu", "24.04")
    assert (found.family, found.boot) == (Family.DEBIAN, Boot.UPDATE_GRUB)


def test_devices_are_read_whole(tmp_path: Path) -> None:
    host = HostTree(devices=(vga_gpu(consumers=(AUDIO,), driver="vfio-pci"), audio()))

    facts = host.facts(tmp_path)

    assert isinstance(facts.devices, tuple)
    card, sound = facts.devices
    assert (card.id, card.pci_class, card.driver) == ("10de:2230", 0x0300, "vfio-pci")
    assert (card.iommu_group, card.is_vf) == (0x65, False)
    assert (sound.id, sound.driver) == ("10de:1aef", "snd_hda_intel")
    details = facts.details[GPU]
    assert (details.power_state, details.numa_node, details.consumers) == ("D0", 0, (AUDIO,))
    assert isinstance(details.bars, tuple)
    assert [bar.number for bar in details.bars] == [0, 1, 3]
    assert facts.groups[0].members == (GPU, AUDIO) if isinstance(facts.groups, tuple) else False


def test_a_virtual_function_is_known_by_its_link(tmp_path: Path) -> None:
    facts = HostTree(devices=(gpu(), gpu("0000:65:00.4", physfn=GPU))).facts(tmp_path)

    assert isinstance(facts.devices, tuple)
    assert [device.is_vf for device in facts.devices] == [False, True]


def test_only_devices_that_matter_are_looked_into(tmp_path: Path) -> None:
    host = HostTree(devices=(gpu(), audio(vendor=0x8086)))

    assert set(host.facts(tmp_path).details) == {GPU}


def test_named_devices_are_looked_into(tmp_path: Path) -> None:
    host = HostTree(devices=(gpu(), audio(vendor=0x8086)))

    assert set(host.facts(tmp_path, AUDIO).details) == {GPU, AUDIO}


def test_what_a_directory_cannot_tell_is_not_offered(tmp_path: Path) -> None:
    facts = read_facts(open_tree(HostTree().write(tmp_path)))

    for fact in (facts.kvm, facts.holders, facts.kubelet_version, facts.space["/opt"]):
        assert isinstance(fact, Unread)
        assert fact.reason is Reason.NOT_OFFERED


def test_space_is_that_of_the_nearest_parent(tmp_path: Path) -> None:
    host = HostTree(answers={"space /opt": None, "space /": "5"})

    assert host.facts(tmp_path).space["/opt"] == 5


def test_settings_of_the_kubelet_pile_up(tmp_path: Path) -> None:
    host = HostTree(
        put={
            KUBELET_FILE: KUBELET,
            "/etc/kubernetes/kubelet.conf.d/10-a.conf": "runtimeRequestTimeout: 5m\n",
            "/etc/kubernetes/kubelet.conf.d/20-b.conf": "featureGates:\n  Other: true\n",
            "/etc/default/kubelet": "# --runtime-request-timeout=1m\n"
            'KUBELET_EXTRA_ARGS="--runtime-request-timeout=30m"\n',
        }
    )

    kubelet = host.facts(tmp_path).kubelet

    assert kubelet is not None
    assert not isinstance(kubelet, Unread)
    assert kubelet.request_timeout == 30 * 60
    assert kubelet.gates["Other"]
    assert kubelet.gates["KubeletPodResourcesGet"]


def test_a_root_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for name in ("file", "nothing"):
        with pytest.raises(UsageError):
            DirectoryTree.open(str(tmp_path / name), answer)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_root_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)

    with pytest.raises(UnreachableError):
        DirectoryTree.open(str(tmp_path / "closed"), answer)


def test_only_the_real_root_is_live(tmp_path: Path) -> None:
    assert not open_tree(tmp_path).live
    assert DirectoryTree.open("/", answer).live
    assert DirectoryTree.open("/etc/..", answer).live


def test_the_version_is_that_of_the_first_program_there(tmp_path: Path) -> None:
    host = HostTree(
        answers={
            "version /usr/local/bin/containerd": "containerd containerd.io v1.7.3 abc",
            f"version {CONTAINERD_PROGRAM}": "containerd containerd.io 2.0.0 abc",
        }
    )

    runtime = host.facts(tmp_path).runtime

    assert runtime is not None
    assert not isinstance(runtime, Unread)
    assert runtime.version == "1.7.3"
