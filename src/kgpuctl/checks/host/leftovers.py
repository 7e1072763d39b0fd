"""Whether anything of another stack lies around that an install would stumble over."""

from kgpuctl.checks.check import Outcome, check, passed, skipped, warned
from kgpuctl.checks.host.case import HostCase
from kgpuctl.names import ARTIFACTS_DIR, COCO_DIR, COCO_DROP_IN, KATA_DIR, Stack

_OF_OTHERS = {
    Stack.KATA_DEPLOY: (ARTIFACTS_DIR, COCO_DIR),
    Stack.COCO_OPERATOR: (KATA_DIR,),
}


@check("leftovers.artifacts", "No files of another stack are left")
def artifacts(case: HostCase) -> Outcome:
    """Uninstalling leaves files behind, and mixed generations of Kata pick up the wrong ones."""
    if case.after_install and case.stack is Stack.COCO_OPERATOR:
        return skipped(f"from v0.8 on this stack uses {KATA_DIR} itself")
    found = [path for path in _OF_OTHERS[case.stack] if case.is_there(path)]
    if not found:
        return passed()
    return warned(
        f"there is {' and '.join(found)}",
        f"If no other stack is in use here, remove it: `sudo rm -r {' '.join(found)}`.",
    )


@check("leftovers.containerd-override", "systemd starts the distribution's own containerd")
def containerd_override(case: HostCase) -> Outcome:
    """The CoCo operator v0.7.0 puts a containerd 1.6 fork in its place by a drop-in."""
    if not case.is_there(COCO_DROP_IN):
        return passed()
    if case.stack is Stack.COCO_OPERATOR and case.after_install:
        return skipped("it belongs to this stack")
    return warned(
        f"there is {COCO_DROP_IN}",
        f"Run `sudo rm {COCO_DROP_IN} && sudo systemctl daemon-reload && "
        "sudo systemctl restart containerd` (every container's shim stays; the kubelet "
        "reconnects).",
    )


@check("leftovers.config-backup", "No old backup of containerd's configuration is left")
def config_backup(case: HostCase) -> Outcome:
    """Kata's installers never overwrite config.toml.bak, and put it back when they go."""
    path = "/etc/containerd/config.toml.bak"
    if case.after_install:
        return skipped("asked before an install")
    if not case.is_there(path):
        return passed()
    return warned(
        f"there is {path}: uninstalling would bring it back, however old it is",
        f"Compare it (`diff {path} /etc/containerd/config.toml`) and move it away: "
        f"`sudo mv {path} /root/`.",
    )


CHECKS = (artifacts, containerd_override, config_backup)
