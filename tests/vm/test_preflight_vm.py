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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

import pytest

import kgpuctl
from vm.hostvm import OUTBOX, CannotBootError, Iommu, run_in_vm

pytestmark = pytest.mark.vm

HERE: Final = Path(__file__).parent
SOURCE: Final = Path(kgpuctl.__file__).parents[1]

ALONE: Final = "0000:00:05.0"
DISPLAY: Final = "0000:00:07.0"
TWIN, OTHER_TWIN = "0000:01:01.0", "0000:01:02.0"  # one group, for their bridge has no ACS
ISA_BRIDGE, SATA, SMBUS = "0000:00:1f.0", "0000:00:1f.2", "0000:00:1f.3"  # q35's own, one group
DEVICES: Final = (
    "e1000,addr=5",
    "pcie-pci-bridge,id=bridge,addr=6",
    "e1000,bus=bridge,addr=1",
    "e1000,bus=bridge,addr=2",
    "VGA,addr=7",
)
NAMES: Final = {
    "ALONE": ALONE,
    "DISPLAY": DISPLAY,
    "TWIN": TWIN,
    "OTHER_TWIN": OTHER_TWIN,
    "ISA_BRIDGE": ISA_BRIDGE,
    "SATA": SATA,
    "SMBUS": SMBUS,
}

# One device that nothing is wrong with, before an install, where nouveau is blacklisted.
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
    "gpu.power-state": "passed",
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


def boot(iommu: Iommu, kernel_args: str, script: str) -> Boot:
    """Run a script with the functions of inside.sh; the machine's lacks are a reason to skip."""
    variables = {
        "PYTHON": sys.executable,
        "PYTHONPATH": str(SOURCE),
        "OUTBOX": OUTBOX,
        **NAMES,
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    command = "\n".join([*lines, f". {shlex.quote(str(HERE / 'inside.sh'))}", script])
    try:
        done = run_in_vm(command, iommu=iommu, kernel_args=kernel_args, devices=DEVICES)
    except CannotBootError as error:
        pytest.skip(str(error))
    assert done.exit_code == 0, done.output
    return Boot(done.files)


class TestIntel:
    @pytest.fixture(scope="class")
    def machine(self) -> Boot:
        return boot(
            "intel",
            "intel_iommu=on iommu=pt modprobe.blacklist=nouveau",
            """
            preflight free --device $ALONE
            preflight twins --device $TWIN --device $OTHER_TWIN --device $DISPLAY

            modprobe --all vfio-pci e1000 lpc_ich ahci
            bind e1000 $ALONE $OTHER_TWIN
            bind lpc_ich $ISA_BRIDGE
            bind vfio-pci $TWIN $SATA
            say_viable twin.viable $TWIN
            say_viable sata.viable $SATA
            preflight held --device $ALONE --device $TWIN --device $SATA

            bind vfio-pci $ALONE $OTHER_TWIN
            say_viable twins.viable $TWIN
            sleep 1000 3<>"/dev/vfio/$(group_of $ALONE)" &
            echo $! >$OUTBOX/sleep.pid
            preflight bound --after-install --record /run/recording.tgz \
                --device $ALONE --device $TWIN --device $OTHER_TWIN --device $DISPLAY
            cp /run/recording.tgz $OUTBOX/
            kill $!
            "$PYTHON" -m kgpuctl preflight --device $ALONE >$OUTBOX/human || true
            """,
        )

    def test_a_free_device_alone_in_its_group_is_sound(self, machine: Boot) -> None:
        assert machine.statuses("free", ALONE) == SOUND

    def test_two_free_devices_of_one_group_are_viable_but_not_isolated(self, machine: Boot) -> None:
        for twin, other in ((TWIN, OTHER_TWIN), (OTHER_TWIN, TWIN)):
            expected = SOUND | {"gpu.group-isolated": "warned", "gpu.uniform": "warned"}

            assert machine.statuses("twins", twin) == expected
            assert other in machine.message("twins", "gpu.group-isolated", twin)

    def test_the_boot_display_is_recognised(self, machine: Boot) -> None:
        expected = SOUND | {"gpu.boot-display": "warned", "gpu.uniform": "warned"}

        assert machine.statuses("twins", DISPLAY) == expected

    def test_a_device_of_a_host_driver_is_not_free(self, machine: Boot) -> None:
        expected = SOUND | VFIO_LOADED | {"gpu.driver": "failed", "gpu.uniform": "warned"}

        assert machine.statuses("held", ALONE) == expected
        assert "e1000" in machine.message("held", "gpu.driver", ALONE)

    def test_a_sibling_of_a_host_driver_makes_the_group_not_viable(self, machine: Boot) -> None:
        assert machine.text("twin.viable") == "0"
        assert machine.statuses("held", TWIN)["gpu.group-viable"] == "failed"
        assert OTHER_TWIN in machine.message("held", "gpu.group-viable", TWIN)

    def test_an_isa_bridge_is_a_sibling_like_any_other(self, machine: Boot) -> None:
        assert machine.text("sata.viable") == "0"
        assert machine.statuses("held", SATA)["gpu.group-viable"] == "failed"
        assert ISA_BRIDGE in machine.message("held", "gpu.group-viable", SATA)
        assert SMBUS not in machine.message("held", "gpu.group-viable", SATA)

    def test_a_device_on_vfio_pci_is_sound_after_the_install(self, machine: Boot) -> None:
        expected = SOUND | VFIO_LOADED | {"gpu.uniform": "warned", "driver.users": "warned"}

        assert machine.statuses("bound", ALONE) == expected

    def test_two_devices_of_one_group_on_vfio_pci_are_viable(self, machine: Boot) -> None:
        assert machine.text("twins.viable") == "1"
        for twin in (TWIN, OTHER_TWIN):
            statuses = machine.statuses("bound", twin)

            assert (statuses["gpu.driver"], statuses["gpu.group-viable"]) == ("passed", "passed")

    def test_a_device_on_no_driver_is_wrong_after_the_install(self, machine: Boot) -> None:
        assert machine.statuses("bound", DISPLAY)["gpu.driver"] == "failed"

    def test_who_holds_a_vfio_group_is_named(self, machine: Boot) -> None:
        message = machine.message("bound", "driver.users")

        assert "sleep" in message
        assert re.search(rf"\b{machine.text('sleep.pid')}\b", message)

    def test_a_recording_replays_the_same_results_elsewhere(
        self, machine: Boot, tmp_path: Path
    ) -> None:
        recording = tmp_path / "recording.tgz"
        recording.write_bytes(machine.files["recording.tgz"])
        devices = [ALONE, TWIN, OTHER_TWIN, DISPLAY]
        options = [word for device in devices for word in ("--device", device)]

        replayed = preflight("--from", str(recording), "--after-install", *options)

        assert replayed == machine.results("bound")

    def test_the_report_for_people_ends_with_a_verdict(self, machine: Boot) -> None:
        assert machine.text("human")


def preflight(*options: str) -> list[Result]:
    """Run preflight on this machine."""
    done = subprocess.run(  # noqa: S603  # a list, no shell
        [sys.executable, "-m", "kgpuctl", "preflight", "--output", "json", *options],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        check=False,
    )
    results: list[Result] = json.loads(done.stdout)["results"]
    return results


class TestAmd:
    @pytest.fixture(scope="class")
    def machine(self) -> Boot:
        return boot(
            "amd",
            "",
            """
            preflight free --device $ALONE
            modprobe --all vfio-pci e1000
            bind vfio-pci $ALONE $TWIN
            bind e1000 $OTHER_TWIN
            preflight bound --after-install --device $ALONE --device $TWIN
            """,
        )

    def test_a_free_device_alone_in_its_group_is_sound(self, machine: Boot) -> None:
        assert machine.statuses("free", ALONE) == SOUND | {"driver.nouveau-blocked": "warned"}

    def test_a_device_on_vfio_pci_is_sound_after_the_install(self, machine: Boot) -> None:
        expected = (
            SOUND
            | VFIO_LOADED
            | {
                "driver.nouveau-blocked": "warned",
                "gpu.uniform": "passed",
            }
        )

        assert machine.statuses("bound", ALONE) == expected

    def test_a_sibling_of_a_host_driver_makes_the_group_not_viable(self, machine: Boot) -> None:
        assert machine.statuses("bound", TWIN)["gpu.group-viable"] == "failed"
        assert OTHER_TWIN in machine.message("bound", "gpu.group-viable", TWIN)


class TestNone:
    @pytest.fixture(scope="class")
    def machine(self) -> Boot:
        return boot(
            "none",
            "modprobe.blacklist=nouveau",
            """
            preflight plain --device $ALONE
            modprobe vfio enable_unsafe_noiommu_mode=1
            modprobe vfio-pci
            bind vfio-pci $ALONE
            group_of $ALONE >$OUTBOX/group
            preflight unsafe --after-install --device $ALONE
            """,
        )

    def test_without_a_table_nothing_that_follows_is_judged(self, machine: Boot) -> None:
        expected = (
            SOUND
            | NO_GROUPS
            | {
                "iommu.firmware": "failed",
                "iommu.enabled": "skipped",
                "iommu.interrupt-remapping": "skipped",
            }
        )

        assert machine.statuses("plain", ALONE) == expected

    def test_the_group_of_the_no_iommu_mode_is_not_taken_for_one(self, machine: Boot) -> None:
        expected = (
            SOUND
            | VFIO_LOADED
            | NO_GROUPS
            | {
                "iommu.firmware": "failed",
                "iommu.kernel-arguments": "failed",
                "iommu.enabled": "skipped",
                "iommu.interrupt-remapping": "skipped",
            }
        )

        assert machine.text("group") == "0"  # the kernel makes one up
        assert machine.statuses("unsafe", ALONE) == expected


SWITCHED_OFF: Final = (
    SOUND
    | NO_GROUPS
    | {
        "iommu.kernel-arguments": "failed",
        "iommu.enabled": "skipped",
        "iommu.interrupt-remapping": "skipped",
        "driver.nouveau-blocked": "warned",
    }
)


class TestSwitchedOff:
    @pytest.mark.parametrize(
        ("iommu", "argument"), [("intel", "intel_iommu=off"), ("amd", "amd_iommu=off")]
    )
    def test_the_argument_is_named(self, iommu: Iommu, argument: str) -> None:
        machine = boot(iommu, argument, "preflight off --device $ALONE")

        assert machine.statuses("off", ALONE) == SWITCHED_OFF
        assert argument in machine.message("off", "iommu.kernel-arguments")


class TestNotSwitchedOn:
    def test_an_intel_iommu_that_debian_leaves_off_is_not_enabled(self) -> None:
        machine = boot("intel", "", "preflight idle --device $ALONE")

        assert machine.statuses("idle", ALONE) == SWITCHED_OFF | {
            "iommu.kernel-arguments": "passed",
            "iommu.enabled": "failed",
        }


class TestNoInterruptRemapping:
    @pytest.fixture(scope="class")
    def machine(self) -> Boot:
        return boot(
            "intel",
            "intel_iommu=on intremap=off modprobe.blacklist=nouveau",
            """
            preflight safe --device $ALONE
            modprobe vfio_iommu_type1 allow_unsafe_interrupts=1
            preflight unsafe --device $ALONE
            """,
        )

    def test_vfio_would_refuse_the_device(self, machine: Boot) -> None:
        expected = SOUND | {"iommu.interrupt-remapping": "failed"}

        assert machine.statuses("safe", ALONE) == expected

    def test_vfio_may_be_told_to_go_on(self, machine: Boot) -> None:
        expected = SOUND | VFIO_LOADED | {"iommu.interrupt-remapping": "warned"}

        assert machine.statuses("unsafe", ALONE) == expected
