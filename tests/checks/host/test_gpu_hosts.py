"""Hosts whose GPUs or drivers are not ready: exactly what preflight says of each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from builders import (
    A6000,
    AFTER,
    AUDIO,
    COCO_BEFORE,
    GH200,
    GIB,
    GPU,
    H100,
    MIB,
    NIC,
    QUADRO,
    UCSI,
    UNSET,
    USB,
    Aims,
    HostTree,
    Region,
    audio,
    bmc_display,
    containerd_1_7,
    function,
    gpu,
    hgx,
    isa_bridge,
    nic,
    nvswitch,
    root_port,
    ucsi,
    usb,
    verdict,
    vga_gpu,
)
from exactly import assert_exactly, bad
from kgpuctl.names import Stack
from kgpuctl.unread import Reason, Unread

FAILED, WARNED, UNKNOWN = "failed", "warned", "unknown"
OTHER: Final = "0000:ca:00.0"
NODES: Final = HostTree().nodes
CONSUMER: Final = (AUDIO,)
A10_REGIONS: Final = gpu().regions
NVIDIA_LOADED: Final = ("kvm", "nvidia", "nvidia_uvm", "nvidia_modeset", "nvidia_drm")
XFS: Final = ("kernel/fs/xfs/xfs.ko.zst",)
VFS: Final = tuple(
    gpu(f"0000:65:00.{number}", physfn=GPU, group=0x70 + number, files={"numa_node": "0\n"})
    for number in range(4, 8)
)
WINDOW: Final = A10_REGIONS[1].start


PRESENT: Final = [
    bad("no GPU", HostTree(devices=(bmc_display(), nic())), {"gpu.present": FAILED}),
    bad(
        "only virtual functions of a GPU",
        HostTree(devices=tuple(gpu(vf.address, physfn=GPU, group=vf.group) for vf in VFS)),
        {"gpu.present": FAILED},
    ),
    bad(
        "only NVIDIA's audio",
        HostTree(devices=(audio(),)),
        {"gpu.present": FAILED},
    ),
    bad(
        "a named device that is not there",
        HostTree(),
        {"gpu.present": FAILED},
        aims=Aims(devices=(OTHER,)),
    ),
    bad(
        "a named device with its driver",
        HostTree(devices=(nic(),)),
        {"gpu.driver": FAILED},
        aims=Aims(devices=(NIC,)),
    ),
]
GROUPS: Final = [
    bad(
        "a VGA card whose audio nothing links",
        HostTree(devices=(vga_gpu(), audio())),
        {"gpu.group-viable": FAILED},
    ),
    bad(
        "a 3D card with audio, whose link vfio-manager does not follow",
        HostTree(devices=(gpu(consumers=CONSUMER), audio())),
        {"gpu.group-viable": FAILED},
    ),
    bad(
        "audio, USB and UCSI, of which vfio-manager binds one",
        HostTree(devices=(vga_gpu(consumers=(AUDIO, USB, UCSI)), audio(), usb(), ucsi())),
        {"gpu.group-viable": FAILED},
    ),
    bad(
        "a link to one function, and another one that is driven too",
        HostTree(devices=(vga_gpu(consumers=CONSUMER), audio(), usb())),
        {"gpu.group-viable": FAILED},
    ),
    bad(
        "audio that was left behind by the install",
        HostTree(devices=(vga_gpu(consumers=CONSUMER), audio()))
        .installed()
        .but(devices=(vga_gpu(driver="vfio-pci", consumers=CONSUMER), audio())),
        {"gpu.group-viable": FAILED},
        aims=AFTER,
    ),
    bad(
        "a driven network adapter in the group",
        HostTree(devices=(gpu(), nic(group=0x65))),
        {"gpu.group-viable": FAILED, "gpu.group-isolated": WARNED},
    ),
    bad(
        "a driven network adapter, for the stack that binds NVIDIA's functions",
        HostTree(devices=(gpu(), nic(group=0x65)), kube=containerd_1_7()),
        {"gpu.group-viable": FAILED, "gpu.group-isolated": WARNED},
        aims=COCO_BEFORE,
    ),
    bad(
        "a free network adapter in the group",
        HostTree(devices=(root_port(group=0x65), gpu(), nic(None, group=0x65))),
        {"gpu.group-isolated": WARNED},
        0,
    ),
    bad(
        "an ISA bridge, which VFIO does not exempt",
        HostTree(devices=(gpu(), isa_bridge("lpc_ich", 0x65))),
        {"gpu.group-viable": FAILED, "gpu.group-isolated": WARNED},
    ),
    bad(
        "two GPUs in one group",
        HostTree(devices=(gpu(), gpu(OTHER, group=0x65))),
        {"gpu.group-isolated": WARNED},
        0,
    ),
    bad(
        "an NVSwitch in the group, which vfio-manager does not bind",
        HostTree(devices=(gpu(), nvswitch("0000:05:00.0", "nvidia-nvswitch", group=0x65))),
        {
            "gpu.group-viable": FAILED,
            "gpu.group-isolated": WARNED,
            "gpu.nvswitch": WARNED,
        },
    ),
    bad(
        "a GPU of the group that the install left with its driver",
        HostTree(devices=(gpu(),))
        .installed()
        .but(devices=(gpu(driver="vfio-pci"), gpu(OTHER, group=0x65, driver="nouveau"))),
        {"gpu.driver": FAILED, "gpu.group-viable": FAILED, "gpu.group-isolated": WARNED},
        aims=AFTER,
    ),
    bad(
        "a member of the group that is not told of",
        HostTree(
            put={
                "/sys/kernel/iommu_groups/101/devices/0000:66:00.0": "",
            }
        ),
        {"gpu.group-viable": UNKNOWN, "gpu.group-isolated": UNKNOWN},
        4,
    ),
]
DRIVERS: Final = [
    bad(
        "nouveau holds the GPU",
        HostTree(devices=(gpu(driver="nouveau"),), modules=("kvm", "nouveau"), quiet=""),
        {"gpu.driver": FAILED, "driver.nouveau-blocked": WARNED},
    ),
    bad(
        "nova_core holds the GPU",
        HostTree(devices=(gpu(driver="nova-core"),)),
        {"gpu.driver": FAILED},
    ),
    bad(
        "a driver that nobody expects holds the GPU",
        HostTree(devices=(gpu(driver="uio_pci_generic"),)),
        {"gpu.driver": FAILED},
    ),
    bad(
        "NVIDIA's driver holds the GPU, and a process that",
        HostTree(
            devices=(gpu(driver="nvidia"),),
            modules=NVIDIA_LOADED,
            put={"/usr/bin/nvidia-smi": "", "/proc/driver/nvidia/version": "NVRM\n"},
            answers={"holders": "complete\n4321\tpython3\t/dev/nvidia0\t-"},
        ),
        {
            "gpu.driver": FAILED,
            "driver.nvidia-unloaded": FAILED,
            "driver.users": WARNED,
        },
    ),
    bad(
        "NVIDIA's module without a device",
        HostTree(modules=NVIDIA_LOADED),
        {"driver.nvidia-unloaded": FAILED},
    ),
    bad(
        "nvidia-smi without a module",
        HostTree(put={"/usr/bin/nvidia-smi": ""}),
        {"driver.nvidia-absent": WARNED},
        0,
    ),
    bad(
        "NVIDIA's module on the disk",
        HostTree(loadable=(*HostTree().loadable, "updates/dkms/nvidia.ko.zst")),
        {"driver.nvidia-absent": WARNED},
        0,
    ),
    bad(
        "NVIDIA's driver after the install",
        HostTree().installed().but(devices=(gpu(driver="nvidia"),), modules=NVIDIA_LOADED),
        {
            "gpu.driver": FAILED,
            "driver.nvidia-unloaded": FAILED,
            "driver.vfio-pci": FAILED,
            "runtime.cdi": FAILED,
        },
        aims=AFTER,
    ),
    bad(
        "no driver after the install",
        HostTree().installed().but(devices=(gpu(),)),
        {"gpu.driver": FAILED, "runtime.cdi": FAILED},
        aims=AFTER,
    ),
    bad(
        "a variant driver",
        HostTree(devices=(gpu(device=GH200),)).bound("nvgrace_gpu_vfio_pci"),
        {"gpu.driver": WARNED},
        0,
    ),
    bad(
        "nouveau is not kept away",
        HostTree(quiet=""),
        {"driver.nouveau-blocked": WARNED},
        0,
    ),
    bad(
        "nouveau is kept out of the initramfs only",
        HostTree(quiet="rd.driver.blacklist=nouveau"),
        {"driver.nouveau-blocked": WARNED},
        0,
    ),
    bad(
        "nouveau is blacklisted in a file that modprobe does not read",
        HostTree(quiet="", put={"/etc/modprobe.d/nouveau.conf.dpkg-old": "blacklist nouveau\n"}),
        {"driver.nouveau-blocked": WARNED},
        0,
    ),
    bad(
        "an empty file hides the one that blacklists nouveau",
        HostTree(
            quiet="",
            put={
                "/etc/modprobe.d/gpu.conf": "",
                "/usr/lib/modprobe.d/gpu.conf": "blacklist nouveau\n",
            },
        ),
        {"driver.nouveau-blocked": WARNED},
        0,
    ),
    bad(
        "nouveau is blacklisted in a comment",
        HostTree(quiet="", modprobe="# blacklist nouveau\nblacklist pcspkr\n"),
        {"driver.nouveau-blocked": WARNED},
        0,
    ),
    bad(
        "nouveau is built in",
        HostTree(quiet="", builtin=("kernel/drivers/gpu/drm/nouveau/nouveau.ko",)),
        {"driver.nouveau-blocked": WARNED},
        0,
    ),
    bad(
        "a blacklist does not stop a nouveau that is built in",
        HostTree(builtin=("kernel/drivers/gpu/drm/nouveau/nouveau.ko",), loadable=XFS).but(
            quiet="modprobe.blacklist=nouveau",
            loadable=tuple(name for name in HostTree().loadable if "nouveau" not in name),
        ),
        {"driver.nouveau-blocked": WARNED},
        0,
    ),
    bad(
        "vfio-pci is not in the kernel",
        HostTree(loadable=tuple(name for name in HostTree().loadable if "vfio" not in name)),
        {"driver.vfio-pci": FAILED},
    ),
    bad(
        "vfio-pci is kept from loading",
        HostTree(modprobe="install vfio-pci /bin/false\n"),
        {"driver.vfio-pci": FAILED},
    ),
    bad(
        "vfio-pci is kept out on the command line",
        HostTree(cmdline="module_blacklist=pcspkr,vfio_pci"),
        {"driver.vfio-pci": FAILED},
    ),
    bad(
        "vfio-pci is not loaded after the install",
        HostTree().installed().but(modules=("kvm",)),
        {"driver.vfio-pci": FAILED},
        aims=AFTER,
    ),
    bad(
        "no VFIO device after the install",
        HostTree().installed().but(nodes=(*NODES, "vfio/101")),
        {"driver.vfio-backend": FAILED},
        aims=AFTER,
    ),
    bad(
        "iommufd without a device of its own",
        HostTree().installed().but(nodes=(*NODES, "iommu", "vfio/101")),
        {"driver.vfio-backend": FAILED},
        aims=AFTER,
    ),
    bad(
        "a QEMU that was left behind",
        HostTree(answers={"holders": "complete\n77\tqemu-system-x86\t/dev/vfio/101\t-"}).bound(),
        {"driver.users": WARNED},
        0,
    ),
    bad(
        "a QEMU that was left behind beside one at work",
        HostTree(
            answers={
                "holders": "complete\n77\tqemu-system-x86\t/dev/vfio/101\t-\n"
                "78\tqemu-system-x86\t/dev/vfio/202\tkata"
            }
        ).bound(),
        {"driver.users": WARNED},
        0,
    ),
    bad(
        "processes that root may not look at",
        HostTree(answers={"holders": "partial\tgvfsd (pid 9)"}),
        {"driver.users": UNKNOWN},
        4,
    ),
    bad(
        "processes that an ordinary user may not look at",
        HostTree(answers={"holders": "partial\tsystemd (pid 1)", "root": "no"}),
        {"driver.users": UNKNOWN},
        4,
    ),
]
MEMORY: Final = [
    bad(
        "the framebuffer's window has no address",
        HostTree(devices=(gpu(regions={**A10_REGIONS, 1: Region(0, 32 * GIB, 0x14220C | UNSET)}),)),
        {"gpu.bars": FAILED},
    ),
    bad(
        "the framebuffer's window is gone",
        HostTree(devices=(gpu(regions={0: A10_REGIONS[0], 3: A10_REGIONS[3]}),)),
        {"gpu.bars": FAILED},
    ),
    bad(
        "a window starts at zero",
        HostTree(devices=(gpu(regions={**A10_REGIONS, 1: Region(0, 32 * GIB, 0x14220C)}),)),
        {"gpu.bars": FAILED},
    ),
    bad(
        "no window has an address",
        HostTree(devices=(gpu(regions={}),)),
        {"gpu.bars": FAILED},
    ),
    bad(
        "virtual functions are enabled",
        HostTree(devices=(gpu(files={"sriov_numvfs": "4\n"}), *VFS)),
        {"gpu.sriov": FAILED},
    ),
    bad(
        "the GPU is off",
        HostTree(devices=(gpu(files={"power_state": "D3cold\n"}),)),
        {"gpu.power-state": WARNED},
        0,
    ),
    bad(
        "the GPU's power state is an error",
        HostTree(devices=(gpu(files={"power_state": "error\n"}),)),
        {"gpu.power-state": WARNED},
        0,
    ),
    bad(
        "the host booted with the GPU's display",
        HostTree(devices=(vga_gpu(files={"boot_vga": "1\n"}),)),
        {"gpu.boot-display": WARNED},
        0,
    ),
    *(
        bad(
            f"{name} lies in the GPU's memory",
            HostTree(devices=(gpu(),), iomem=f"  {WINDOW:x}-{WINDOW + 8 * MIB - 1:x} : {name}\n"),
            {"gpu.boot-display": WARNED},
            0,
        )
        for name in ("BOOTFB", "efifb", "simple-framebuffer", "simpledrm")
    ),
    bad(
        "an ordinary user sees no address",
        HostTree(
            put={"/proc/iomem": "00000000-00000000 : System RAM\n00000000-00000000 : BOOTFB\n"}
        ),
        {"gpu.boot-display": UNKNOWN},
        4,
    ),
]
SETS: Final = [
    bad(
        "two models",
        HostTree(devices=(gpu(), gpu(OTHER, device=A6000))),
        {"gpu.uniform": WARNED},
        0,
    ),
    bad("an HGX board", HostTree(devices=hgx()), {"gpu.nvswitch": WARNED}, 0),
    bad(
        "an HGX board whose switches were left out",
        HostTree(devices=hgx())
        .installed()
        .but(
            devices=tuple(
                nvswitch(device.address) if device.pci_class == 0x068000 else device
                for device in hgx("vfio-pci")
            )
        ),
        {"gpu.nvswitch": WARNED},
        0,
        aims=AFTER,
    ),
    bad(
        "an HGX board for the stack that gives one GPU to a pod",
        HostTree(devices=hgx(), kube=containerd_1_7()),
        {"gpu.nvswitch": WARNED},
        0,
        aims=COCO_BEFORE,
    ),
]
HOSTS: Final = [*PRESENT, *GROUPS, *DRIVERS, *MEMORY, *SETS]


@pytest.mark.parametrize(("host", "aims", "expected", "code"), HOSTS)
def test_exactly_what_is_wrong_is_said(
    host: HostTree, aims: Aims, expected: Mapping[str, str], code: int, tmp_path: Path
) -> None:
    assert_exactly(host, aims, expected, code, tmp_path)


def test_an_hgx_board_is_ready_after_the_install(tmp_path: Path) -> None:
    judged = verdict(HostTree(devices=hgx()).installed().tree(tmp_path), AFTER)

    assert judged.problems == {}
    assert judged.message("gpu.present") == "8 x NVIDIA H100 SXM5 80GB"
    assert judged.status("gpu.nvswitch") == "passed"


def test_all_that_must_be_bound_is_named(tmp_path: Path) -> None:
    devices = (vga_gpu(device=QUADRO, consumers=(AUDIO, USB, UCSI)), audio(), usb(), ucsi())

    judged = verdict(HostTree(devices=devices).tree(tmp_path))

    message = judged.message("gpu.group-viable", GPU)
    assert [address in message for address in (AUDIO, USB, UCSI)] == [True, True, True]
    assert "vfio-pci.ids=10de:1ad6,10de:1ad7,10de:1aef" in judged.remedy("gpu.group-viable")


def test_another_card_in_the_group_is_not_to_be_taken_from_the_host(tmp_path: Path) -> None:
    host = HostTree(devices=(gpu(), nic(group=0x65)))

    judged = verdict(host.tree(tmp_path))

    assert NIC in judged.message("gpu.group-viable", GPU)
    assert "ACS" in judged.remedy("gpu.group-viable")
    assert "vfio-pci.ids=" not in judged.remedy("gpu.group-viable")


def test_each_gpu_has_its_own_result(tmp_path: Path) -> None:
    host = HostTree(devices=(gpu(), gpu(OTHER, driver="nvidia")), modules=NVIDIA_LOADED)

    judged = verdict(host.tree(tmp_path))

    assert judged.status("gpu.driver", GPU) == "passed"
    assert judged.status("gpu.driver", OTHER) == "failed"


def test_a_virtual_function_is_not_judged_as_a_gpu(tmp_path: Path) -> None:
    host = HostTree(devices=(gpu(), *VFS))

    subjects = {item.subject for item in verdict(host.tree(tmp_path)).results}

    assert subjects == {"", GPU}


def test_who_holds_the_gpu_is_named(tmp_path: Path) -> None:
    holders = "complete\n4321\tpython3\t/dev/nvidia0\t-\n4321\tpython3\t/dev/nvidiactl\t-"

    message = verdict(HostTree(answers={"holders": holders}).tree(tmp_path)).message("driver.users")

    assert message == "python3 (pid 4321) holds /dev/nvidia0, /dev/nvidiactl"


def test_of_many_processes_some_are_named(tmp_path: Path) -> None:
    lines = [f"{pid}\tpython3\t/dev/nvidia{pid}\t-" for pid in range(10, 40)]
    host = HostTree(answers={"holders": "\n".join(["complete", *lines])})

    message = verdict(host.tree(tmp_path)).message("driver.users")

    assert "python3 (pid 10)" in message
    assert "and 22 more hold" in message
    assert len(message) < 400


def test_a_daemon_is_stopped_by_its_unit(tmp_path: Path) -> None:
    host = HostTree(answers={"holders": "complete\n800\tnvidia-persiste\t/dev/nvidia0\t-"})

    remedy = verdict(host.tree(tmp_path)).remedy("driver.users")

    assert remedy == "Run `sudo systemctl disable --now nvidia-persistenced.service`."


def test_an_ordinary_user_is_told_to_become_root(tmp_path: Path) -> None:
    zeros = "00000000-00000000 : System RAM\n00000000-00000000 : BOOTFB\n"
    host = HostTree(
        put={"/proc/iomem": zeros},
        answers={
            "root": "no",
            "kvm": Unread("/dev/kvm", Reason.NOT_PERMITTED),
            "holders": "partial\tsystemd (pid 1)",
        },
    )

    judged = verdict(host.tree(tmp_path))

    for id_ in ("gpu.boot-display", "host.kvm-usable", "driver.users"):
        assert "sudo" in judged.remedy(id_), id_


def test_the_windows_size_and_place_are_told(tmp_path: Path) -> None:
    regions = {0: Region(0xC0000000, 16 * MIB, 0x40200), 2: Region(2**45, 128 * GIB, 0x14220C)}
    host = HostTree(devices=(gpu(device=H100, regions=regions),))

    message = verdict(host.tree(tmp_path)).message("gpu.bars", GPU)

    assert message == "BAR 2 of 128 GiB, above 4 GiB"


def test_an_unknown_device_is_judged_by_its_ids(tmp_path: Path) -> None:
    judged = verdict(HostTree(devices=(gpu(device=0xFFF0),)).tree(tmp_path))

    assert judged.problems == {}
    assert judged.message("gpu.present") == "1 x NVIDIA device 10de:fff0"


def test_the_stack_that_binds_every_function_leaves_other_vendors_alone(tmp_path: Path) -> None:
    foreign = function("0000:65:00.1", 0x1234, 0x040300, "snd_hda_intel", vendor=0x1002)
    host = HostTree(devices=(vga_gpu(), foreign), kube=containerd_1_7())

    judged = verdict(host.tree(tmp_path), Aims(stack=Stack.COCO_OPERATOR))

    assert judged.problems == {"gpu.group-viable": FAILED}
