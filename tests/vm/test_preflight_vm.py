"""preflight in real kernels: what it says must be what the kernel does.

Each class is one boot, so that `pytest -n 2 --dist loadscope` boots no machine twice. Ordinary
devices stand for GPUs (`--device`), since no emulator has NVIDIA's.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypedDict

import pytest

import kgpuctl
from vm.hostvm import OUTBOX, CannotBootError, Iommu, run_in_vm

pytestmark = pytest.mark.vm

HERE: Final = Path(__file__).parent
SOURCE: Final = Path(kgpuctl.__file__).parents[1]

ALONE: Final = "0000:01:00.0"  # behind a root port of its own
TWIN, OTHER_TWIN = "0000:02:01.0", "0000:02:02.0"  # one group, for their bridge has no ACS
DISPLAY: Final = "0000:00:07.0"
ISA_BRIDGE, SATA = "0000:00:1f.0", "0000:00:1f.2"  # the board's own, one group
DEVICES: Final = (
    "pcie-root-port,id=root-port,addr=5",
    "e1000e,bus=root-port",
    "pcie-pci-bridge,id=bridge,addr=6",
    "e1000,bus=bridge,addr=1",
    "e1000,bus=bridge,addr=2",
    "VGA,addr=7",
)
# A free device that nothing is wrong with, before an install, where nouveau is blacklisted.
SOUND: Final = {
    "iommu.firmware": "passed",
    "iommu.kernel-arguments": "passed",
    "iommu.enabled": "passed",
    "iommu.interrupt-remapping": "passed",
    "iommu.acs-override": "passed",
    "gpu.present": "passed",
    "gpu.iommu-group": "passed",
    "gpu.reserved-regions": "passed",
    "gpu.group-viable": "passed",
    "gpu.group-isolated": "passed",
    "gpu.driver": "passed",
    "gpu.boot-display": "passed",
    "gpu.bars": "passed",
    "gpu.sriov": "passed",
    "gpu.power-state": "skipped",  # the kernel says "unknown" until a driver has asked
    "gpu.uniform": "skipped",
    "gpu.nvswitch": "skipped",
    "driver.nvidia-unloaded": "passed",
    "driver.nvidia-absent": "passed",
    "driver.nouveau-blocked": "passed",
    "driver.vfio-pci": "passed",
    "driver.vfio-backend": "skipped",
    "driver.users": "passed",
}
NO_GROUPS: Final = dict.fromkeys(
    ["gpu.iommu-group", "gpu.reserved-regions", "gpu.group-viable", "gpu.group-isolated"], "skipped"
)
VFIO_LOADED: Final = {"driver.vfio-backend": "passed"}
DRIVEN: Final = {"gpu.power-state": "passed"}

Step: TypeAlias = tuple[str, ...]  # a function of inside.py and its arguments


class Result(TypedDict):
    """One entry of a report's `results`."""

    id: str
    title: str
    status: str
    subject: str
    message: str
    remedy: str
    docs: str
    waived: bool


@dataclass(frozen=True, slots=True)
class Boot:
    """What was brought out of one boot."""

    files: Mapping[str, bytes]

    def text(self, name: str) -> str:
        """Return a small file's text."""
        return self.files[name].decode().strip()

    def results(self, name: str) -> list[Result]:
        """Return a report's results; its own exit code must be the one of the process."""
        report = json.loads(self.files[f"{name}.json"])
        assert str(report["exitCode"]) == self.text(f"{name}.exit")
        results: list[Result] = report["results"]
        return results

    def statuses(self, name: str, device: str) -> dict[str, str]:
        """Return the statuses that concern this device and the machine under it."""
        return {
            result["id"]: result["status"]
            for result in self.results(name)
            if result["id"].partition(".")[0] in {"iommu", "gpu", "driver"}
            and result["subject"] in {"", device}
        }

    def message(self, name: str, check: str, device: str = "") -> str:
        """Return what one check said of one device, or of the machine."""
        (message,) = (
            result["message"]
            for result in self.results(name)
            if (result["id"], result["subject"]) == (check, device)
        )
        return message


def boot(iommu: Iommu, kernel_args: str, steps: Sequence[Step]) -> Boot:
    """Do the steps in a VM; what this machine lacks for one is a reason to skip."""
    preflight()  # here Python compiles quickly, and keeps it for the VM to load
    words = [
        *("env", f"PYTHONPATH={SOURCE}", f"OUTBOX={OUTBOX}", "NO_COLOR=1"),
        *(sys.executable, str(HERE / "inside.py"), json.dumps(steps)),
    ]
    try:
        done = run_in_vm(shlex.join(words), iommu=iommu, kernel_args=kernel_args, devices=DEVICES)
    except CannotBootError as error:
        pytest.skip(str(error))
    assert done.exit_code == 0, done.output
    return Boot(done.files)


def judged(*devices: str) -> list[str]:
    """Return the options that name the devices to judge."""
    return [word for device in devices for word in ("--device", device)]


AFTER_INSTALL: Final = ("--after-install", *judged(ALONE, TWIN, OTHER_TWIN, DISPLAY))


@pytest.fixture(scope="class")
def intel() -> Boot:
    return boot(
        "intel",
        "intel_iommu=off intel_iommu=on iommu=pt modprobe.blacklist=nouveau",
        [
            ("preflight", "free", *judged(ALONE)),
            ("preflight", "twins", *judged(TWIN, OTHER_TWIN, DISPLAY)),
            ("modprobe", "--all", "vfio-pci", "e1000", "e1000e", "lpc_ich", "ahci"),
            ("bind", "e1000e", ALONE),
            ("bind", "e1000", OTHER_TWIN),
            ("bind", "lpc_ich", ISA_BRIDGE),
            ("bind", "vfio-pci", TWIN, SATA),
            ("ask_whether_viable", "twin.viable", TWIN),
            ("ask_whether_viable", "sata.viable", SATA),
            ("preflight", "held", *judged(ALONE, TWIN, SATA)),
            ("bind", "vfio-pci", ALONE, OTHER_TWIN),
            ("ask_whether_viable", "twins.viable", TWIN),
            ("hold_group", "holder", ALONE),
            ("preflight", "bound", *AFTER_INSTALL, "--record", f"{OUTBOX}/recording.tgz"),
        ],
    )


class TestIntel:
    def test_a_free_device_alone_in_its_group_is_sound(self, intel: Boot) -> None:
        assert intel.statuses("free", ALONE) == SOUND

    def test_two_free_devices_of_one_group_are_viable_but_not_isolated(self, intel: Boot) -> None:
        for twin, other in ((TWIN, OTHER_TWIN), (OTHER_TWIN, TWIN)):
            expected = SOUND | {"gpu.group-isolated": "warned", "gpu.uniform": "warned"}

            assert intel.statuses("twins", twin) == expected
            assert other in intel.message("twins", "gpu.group-isolated", twin)

    def test_the_boot_display_is_recognised(self, intel: Boot) -> None:
        expected = SOUND | {"gpu.boot-display": "warned", "gpu.uniform": "warned"}

        assert intel.statuses("twins", DISPLAY) == expected

    def test_a_device_of_a_host_driver_is_not_free(self, intel: Boot) -> None:
        expected = SOUND | VFIO_LOADED | DRIVEN | {"gpu.driver": "failed", "gpu.uniform": "warned"}

        assert intel.statuses("held", ALONE) == expected
        assert "e1000" in intel.message("held", "gpu.driver", ALONE)

    def test_a_sibling_of_a_host_driver_makes_the_group_not_viable(self, intel: Boot) -> None:
        assert intel.text("twin.viable") == "no"
        assert intel.statuses("held", TWIN)["gpu.group-viable"] == "failed"
        assert OTHER_TWIN in intel.message("held", "gpu.group-viable", TWIN)

    def test_an_isa_bridge_is_a_sibling_like_any_other(self, intel: Boot) -> None:
        assert intel.text("sata.viable") == "no"
        assert intel.statuses("held", SATA)["gpu.group-viable"] == "failed"
        assert ISA_BRIDGE in intel.message("held", "gpu.group-viable", SATA)

    def test_a_device_on_vfio_pci_is_sound_after_the_install(self, intel: Boot) -> None:
        expected = (
            SOUND | VFIO_LOADED | DRIVEN | {"gpu.uniform": "warned", "driver.users": "warned"}
        )

        assert intel.statuses("bound", ALONE) == expected

    def test_two_devices_of_one_group_on_vfio_pci_are_viable(self, intel: Boot) -> None:
        assert intel.text("twins.viable") == "yes"
        for twin in (TWIN, OTHER_TWIN):
            statuses = intel.statuses("bound", twin)

            assert (statuses["gpu.driver"], statuses["gpu.group-viable"]) == ("passed", "passed")

    def test_a_device_on_no_driver_is_wrong_after_the_install(self, intel: Boot) -> None:
        assert intel.statuses("bound", DISPLAY)["gpu.driver"] == "failed"

    def test_who_holds_a_vfio_group_is_named(self, intel: Boot) -> None:
        message = intel.message("bound", "driver.users")

        assert "sleep" in message
        assert re.search(rf"\b{intel.text('holder')}\b", message)

    def test_a_recording_replays_the_same_results_elsewhere(
        self, intel: Boot, tmp_path: Path
    ) -> None:
        recording = tmp_path / "recording.tgz"
        recording.write_bytes(intel.files["recording.tgz"])

        replayed = preflight("--from", str(recording), *AFTER_INSTALL)

        assert replayed == intel.results("bound")


def preflight(*options: str) -> list[Result]:
    """Run preflight on this machine."""
    done = subprocess.run(
        [sys.executable, "-m", "kgpuctl", "preflight", "--output", "json", *options],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        check=False,
    )
    results: list[Result] = json.loads(done.stdout)["results"]
    return results


@pytest.fixture(scope="class")
def amd() -> Boot:
    return boot(
        "amd",
        "",
        [
            ("preflight", "free", *judged(ALONE)),
            ("modprobe", "--all", "vfio-pci", "e1000"),
            ("bind", "vfio-pci", ALONE, TWIN),
            ("bind", "e1000", OTHER_TWIN),
            ("ask_whether_viable", "twin.viable", TWIN),
            ("preflight", "bound", "--after-install", *judged(ALONE, TWIN)),
        ],
    )


class TestAmd:
    def test_a_free_device_alone_in_its_group_is_sound(self, amd: Boot) -> None:
        assert amd.statuses("free", ALONE) == SOUND | {"driver.nouveau-blocked": "warned"}

    def test_a_device_on_vfio_pci_is_sound_after_the_install(self, amd: Boot) -> None:
        expected = (
            SOUND
            | VFIO_LOADED
            | DRIVEN
            | {"driver.nouveau-blocked": "warned", "gpu.uniform": "warned"}
        )

        assert amd.statuses("bound", ALONE) == expected

    def test_a_sibling_of_a_host_driver_makes_the_group_not_viable(self, amd: Boot) -> None:
        assert amd.text("twin.viable") == "no"
        assert amd.statuses("bound", TWIN)["gpu.group-viable"] == "failed"
        assert OTHER_TWIN in amd.message("bound", "gpu.group-viable", TWIN)


@pytest.fixture(scope="class")
def no_iommu() -> Boot:
    return boot(
        "none",
        "modprobe.blacklist=nouveau",
        [
            ("preflight", "free", *judged(ALONE)),
            ("preflight_for_people", "printed", *judged(ALONE)),
        ],
    )


class TestNoIommu:
    def test_without_a_table_nothing_that_follows_is_judged(self, no_iommu: Boot) -> None:
        expected = (
            SOUND
            | NO_GROUPS
            | {
                "iommu.firmware": "failed",
                "iommu.enabled": "skipped",
                "iommu.interrupt-remapping": "skipped",
            }
        )

        assert no_iommu.statuses("free", ALONE) == expected

    def test_the_report_for_people_names_the_cause_and_the_verdict(self, no_iommu: Boot) -> None:
        lines = no_iommu.text("printed").splitlines()

        assert "  ✗ The firmware describes an IOMMU  [iommu.firmware]" in lines
        assert "✗ Failed: this host cannot give its GPUs to Kata VMs yet." in lines


class TestSwitchedOff:
    @pytest.mark.parametrize(
        ("iommu", "arguments"),
        [
            ("intel", "intel_iommu=off"),
            ("intel", "iommu=off iommu=on"),  # x86 kernels know no iommu=on
            ("amd", "amd_iommu=off amd_iommu=on"),  # nor amd_iommu=on
        ],
    )
    def test_the_argument_is_named(self, iommu: Iommu, arguments: str) -> None:
        machine = boot(
            iommu,
            f"{arguments} modprobe.blacklist=nouveau",
            [("count_groups", "groups"), ("preflight", "off", *judged(ALONE))],
        )
        expected = (
            SOUND
            | NO_GROUPS
            | {
                "iommu.kernel-arguments": "failed",
                "iommu.enabled": "skipped",
                "iommu.interrupt-remapping": "skipped",
            }
        )

        assert machine.text("groups") == "0"
        assert machine.statuses("off", ALONE) == expected
        assert arguments.partition(" ")[0] in machine.message("off", "iommu.kernel-arguments")


@pytest.fixture(scope="class")
def no_remapping() -> Boot:
    return boot(
        "intel",
        "intremap=off modprobe.blacklist=nouveau",
        [
            ("preflight", "safe", *judged(ALONE)),
            ("modprobe", "vfio_iommu_type1", "allow_unsafe_interrupts=1"),
            ("preflight", "unsafe", *judged(ALONE)),
        ],
    )


class TestNoInterruptRemapping:
    def test_vfio_would_refuse_the_device(self, no_remapping: Boot) -> None:
        expected = SOUND | {"iommu.interrupt-remapping": "failed"}

        assert no_remapping.statuses("safe", ALONE) == expected

    def test_vfio_may_be_told_to_go_on(self, no_remapping: Boot) -> None:
        expected = SOUND | VFIO_LOADED | {"iommu.interrupt-remapping": "warned"}

        assert no_remapping.statuses("unsafe", ALONE) == expected
