"""The VM itself, without kgpuctl: what the other tests here rely on."""

import tempfile
from pathlib import Path

import pytest

from vm.hostvm import OUTBOX, CannotBootError, CompletedVm, VmError, run_in_vm

pytestmark = pytest.mark.vm


def run(command: str, timeout: float = 120) -> CompletedVm:
    try:
        return run_in_vm(command, iommu="none", timeout=timeout)
    except CannotBootError as error:
        pytest.skip(str(error))


def test_status_output_and_files_come_out_unchanged() -> None:
    done = run(
        f"""
        printf 'a\\0\\r\\n\\377' >{OUTBOX}/bytes
        echo '<6>not the kernel'; echo wrong >&2; touch /usr/written /tmp/written
        test -e "/lib/modules/$(uname -r)/modules.dep" && exit 7
        """
    )

    assert done.exit_code == 7
    assert done.output == "<6>not the kernel\nwrong\n"
    assert done.files == {"bytes": b"a\0\r\n\xff"}
    assert not Path("/usr/written").exists()
    assert not Path("/tmp/written").exists()  # the VM's, not ours


def test_a_vm_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    with pytest.raises(VmError, match=r"not powered off after 1 s"):
        run("sleep 1000", timeout=1)

    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_the_programs_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CannotBootError, match=r"^There is no \S+ here: install \S+\.$"):
        run_in_vm("true", iommu="none")
