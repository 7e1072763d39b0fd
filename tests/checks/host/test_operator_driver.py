from pathlib import Path

from builders import AFTER, BEFORE, DIRECTORY, HostTree, gpu, verdict
from kgpuctl.report import Status

# A node that serves containers today: the GPU Operator's driver container has loaded the driver.
SERVING = HostTree(
    devices=(gpu(driver="nvidia"),),
    modules=("kvm", "nvidia", "nvidia_uvm"),
    put={"/run/nvidia/driver/.keep": "", "/run/nvidia": DIRECTORY},
)


def test_a_driver_that_the_operator_will_unload_is_no_failure(tmp_path: Path) -> None:
    judged = verdict(SERVING.tree(tmp_path), BEFORE)

    assert judged.problems == {
        "driver.nvidia-unloaded": Status.WARNED,
        "gpu.driver": Status.WARNED,
    }
    assert "vm-passthrough" in judged.remedy("gpu.driver")


def test_after_the_install_it_should_have_gone(tmp_path: Path) -> None:
    judged = verdict(SERVING.tree(tmp_path), AFTER)

    assert judged.problems["gpu.driver"] == Status.FAILED
    assert judged.problems["driver.nvidia-unloaded"] == Status.FAILED


def test_a_driver_of_the_host_itself_is_a_failure_all_the_same(tmp_path: Path) -> None:
    judged = verdict(SERVING.adding({"/usr/bin/nvidia-smi": ""}).tree(tmp_path), BEFORE)

    assert judged.problems["gpu.driver"] == Status.FAILED
