"""The example of a scheduled verify, as it stands, on a real API server."""

import datetime as dt
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest
import yaml

from cluster import programs
from cluster.api import ApiError, Object, path_of
from cluster.controlplane import Plane
from cluster.replay import replay
from kgpuctl.cli.cluster_run import Wishes
from kgpuctl.cli.live import verify_now
from kgpuctl.cluster.access import Access, Surroundings
from kgpuctl.cluster.kube import KubeCluster
from kgpuctl.cluster.resources import READS
from kgpuctl.report import Status
from running import Ended, kgpuctl

pytestmark = pytest.mark.cluster

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
SCHEDULED: Final = EXAMPLES / "scheduled-verify"
SPACE: Final = "kgpuctl"
_DEADLINE: Final = 30.0


def kubectl(plane: Plane, *arguments: str) -> str:
    """Run kubectl as the administrator."""
    program = programs.find(("kubectl",)).path("kubectl")
    done = subprocess.run(
        [program, f"--kubeconfig={plane.kubeconfig()}", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(plane.directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def apply_example(plane: Plane) -> str:
    """Apply the directory as the documentation says: all of it, in one go."""
    return kubectl(plane, "apply", "--server-side", "-f", str(SCHEDULED))


def recorded(name: str) -> Object:
    """Return an example cluster with what a server needs of CRDs and a snapshot does not keep."""
    found: Object = json.loads((EXAMPLES / "clusters" / f"{name}.json").read_bytes())
    items = [item for item in found["items"] if item["kind"] != "Snapshot"]
    for item in items:
        if item["kind"] == "CustomResourceDefinition":
            names = item["spec"]["names"]
            kind = names["kind"]
            names |= {"listKind": f"{kind}List", "singular": kind.lower()}
            item["status"] |= {"acceptedNames": names, "storedVersions": ["v1"]}
            for version in item["spec"]["versions"]:
                version.pop("schema", None)
    return found | {"items": items}


def token(plane: Plane) -> str:
    """Ask for a token of the service account, as the kubelet does for its pod."""
    path = path_of("v1/serviceaccounts", SPACE, "verify")
    wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = plane.api.create(f"{path}/token", wanted)
    return str(answer["status"]["token"])


def in_a_pod(plane: Plane, directory: Path) -> Surroundings:
    """Give what a pod of the service account has: two variables and three files."""
    folder = directory / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text(token(plane))
    (folder / "ca.crt").write_bytes(plane.authority.certificate.read_bytes())
    (folder / "namespace").write_text(SPACE)
    host, _, port = plane.server.removeprefix("https://").partition(":")
    variables = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    return Surroundings(variables, directory, folder)


def verify_with_token(plane: Plane, directory: Path) -> Ended:
    """Run the command of the CronJob; a kubeconfig with the token stands for the pod's files."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "here",
                "cluster": {
                    "server": plane.server,
                    "certificate-authority": str(plane.authority.certificate),
                },
            }
        ],
        "users": [{"name": "verify", "user": {"token": token(plane)}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "verify"}}],
        "current-context": "here",
    }
    path = directory / "kubeconfig"
    path.write_text(json.dumps(content), encoding="utf-8")
    path.chmod(0o600)
    container = pod_of(cron_job())["containers"][0]
    return kgpuctl(*container["args"], cwd=directory, environment={"KUBECONFIG": str(path)})


def cron_job() -> Object:
    """Return the CronJob of the example."""
    found: Object = yaml.safe_load((SCHEDULED / "3-cronjob.yaml").read_text(encoding="utf-8"))
    return found


def pod_of(cron: Object) -> Object:
    spec: Object = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize(
    ("cluster", "code", "verdict"),
    [
        ("healthy", 0, "✓ Passed: GPU passthrough into Kata VMs is set up on every target."),
        ("broken", 3, "✗ Failed: GPU passthrough into Kata VMs does not work yet."),
    ],
)
def test_the_command_of_the_cronjob_ends_its_job_well_or_not(
    bare: Plane, tmp_path: Path, cluster: str, code: int, verdict: str
) -> None:
    replay(bare, recorded(cluster))
    apply_example(bare)

    ended = verify_with_token(bare, tmp_path)

    assert (ended.exit_code, ended.err) == (code, "")
    assert verdict in ended.out.splitlines()


def test_in_its_pod_every_request_is_allowed(bare: Plane, tmp_path: Path) -> None:
    replay(bare, recorded("broken"))
    apply_example(bare)
    around = in_a_pod(bare, tmp_path)
    told: list[str] = []

    def connect(access: Access) -> KubeCluster:
        return KubeCluster.connect(access, told.append, around=around)

    report = verify_now(
        Access(timeout=300),
        connect,
        Wishes(None, (), (), only_problems=True, today=dt.datetime.now(dt.UTC).date()),
        kubelets=False,
    )

    assert report.exit_code == 3
    assert Status.UNKNOWN not in {result.status for result in report.results}
    assert report.subject.data["user"] == "the service account of this pod"
    paths = {resource.path() for resource in READS}
    assert {line.split()[1].rstrip(":") for line in told} == {"/version", *paths}
    assert [line for line in told if ": 200," not in line] == [
        line
        for line in told
        if "/ccruntimes: 404," in line  # the cluster does not have this kind
    ]


def test_without_its_binding_it_says_what_is_missing(bare: Plane, tmp_path: Path) -> None:
    replay(bare, recorded("healthy"))
    apply_example(bare)
    bare.api.delete(
        path_of("rbac.authorization.k8s.io/v1/clusterrolebindings", name="kgpuctl-verify")
    )

    ended = verify_with_token(bare, tmp_path)

    assert ended.exit_code == 4
    assert "you may not list nodes" in ended.out


def test_its_pods_pass_under_pod_security_restricted(plane: Plane) -> None:
    applied = apply_example(plane)

    kubectl(plane, "-n", SPACE, "create", "job", "now", "--from=cronjob/verify")

    pod = wait_for_pod(plane)
    assert "Warning" not in applied
    assert pod["spec"]["serviceAccountName"] == "verify"
    mounted = [volume for volume in pod["spec"]["volumes"] if "projected" in volume]
    assert len(mounted) == 1  # the token, which its service account alone would not give
    with pytest.raises(ApiError, match="violates PodSecurity"):
        plane.api.create(path_of("v1/pods", SPACE), privileged(pod))


def wait_for_pod(plane: Plane) -> Object:
    """Wait until the Job's controller has made its pod."""
    deadline = time.monotonic() + _DEADLINE
    while time.monotonic() < deadline:
        for pod in plane.api.items(path_of("v1/pods", SPACE)):
            return pod
        time.sleep(0.05)
    events = [event["message"] for event in plane.api.items(path_of("v1/events", SPACE))]
    raise AssertionError(f"the Job has no pod: {events}")


def privileged(pod: Object) -> Object:
    """Return the same pod with a container that the namespace must refuse."""
    account = pod["spec"]["serviceAccountName"]
    container = pod_of(cron_job())["containers"][0] | {"securityContext": {"privileged": True}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "privileged"},
        "spec": {"containers": [container], "serviceAccountName": account},
    }
