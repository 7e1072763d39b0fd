"""The catalogue against the charts and manifests that it speaks of, and against itself."""

import os
import re
import tarfile
import tomllib
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from kgpuctl import catalog as module
from kgpuctl.catalog import (
    Catalog,
    Decision,
    Entry,
    KataProvider,
    KubernetesRange,
    Product,
    Severity,
    Sure,
    TakesKataBy,
    When,
    load_catalog,
    parse_version,
)
from kgpuctl.names import Stack

SHARED: Final = Path(os.environ.get("KGPU_SHARED", Path(__file__).parents[2] / "shared"))
CATALOG: Final = load_catalog()

# chart: kata-manager, sandbox device plugin, sandbox device plugin for Kata, driver manager,
# cc-manager
MATRIX: Final[dict[str, tuple[str | None, str, str | None, str, str]]] = {
    "v23.6.0": ("v0.1.0", "v1.2.2", None, "v0.6.2", "v0.1.0"),
    "v23.6.1": ("v0.1.1", "v1.2.2", None, "v0.6.2", "v0.1.0"),
    "v23.6.2": ("v0.1.1", "v1.2.2", None, "v0.6.2", "v0.1.0"),
    "v23.9.0": ("v0.1.2", "v1.2.3", None, "v0.6.2", "v0.1.1"),
    "v23.9.1": ("v0.1.2", "v1.2.4", None, "v0.6.2", "v0.1.1"),
    "v23.9.2": ("v0.1.2", "v1.2.4", None, "v0.6.2", "v0.1.1"),
    "v24.3.0": ("v0.2.0", "v1.2.7", None, "v0.6.8", "v0.1.1"),
    "v24.6.0": ("v0.2.1", "v1.2.9", None, "v0.6.10", "v0.1.1"),
    "v24.6.1": ("v0.2.1", "v1.2.9", None, "v0.6.10", "v0.1.1"),
    "v24.6.2": ("v0.2.1", "v1.2.9", None, "v0.6.10", "v0.1.1"),
    "v24.9.0": ("v0.2.2", "v1.2.10", None, "v0.7.0", "v0.1.1"),
    "v24.9.1": ("v0.2.2", "v1.2.10", None, "v0.7.0", "v0.1.1"),
    "v24.9.2": ("v0.2.2", "v1.2.10", None, "v0.7.0", "v0.1.1"),
    "v25.3.0": ("v0.2.3", "v1.3.1", None, "v0.8.0", "v0.1.1"),
    "v25.3.1": ("v0.2.3", "v1.3.1", None, "v0.8.0", "v0.1.1"),
    "v25.3.2": ("v0.2.3", "v1.3.1", None, "v0.8.0", "v0.1.1"),
    "v25.3.3": ("v0.2.3", "v1.4.0", None, "v0.8.1", "v0.1.1"),
    "v25.3.4": ("v0.2.3", "v1.4.0", None, "v0.8.1", "v0.1.1"),
    "v25.10.0": ("v0.2.3", "v1.4.0", None, "v0.9.0", "v0.1.1"),
    "v25.10.1": ("v0.2.3", "v1.4.0", None, "v0.9.1", "v0.1.1"),
    "v26.3.0": (None, "v1.5.0", "v0.0.2", "v0.10.0", "v0.3.0"),
    "v26.3.1": (None, "v1.5.0", "v0.0.3", "v0.10.0", "v0.4.0"),
    "v26.3.2": (None, "v1.5.0", "v0.0.3", "v0.11.0", "v0.4.0"),
    "v26.3.3": (None, "v1.5.0", "v0.0.3", "v0.11.0", "v0.4.0"),
    "v26.7.0": (None, "v1.6.0", "v0.0.5", "v0.12.0", "v0.4.3"),
}
PARTS: Final = (
    ("kata-manager", "kataManager"),
    ("sandbox-device-plugin", "sandboxDevicePlugin"),
    ("kata-sandbox-device-plugin", "kataSandboxDevicePlugin"),
    ("driver-manager", "vfioManager"),
    ("cc-manager", "ccManager"),
)
PAYLOADS: Final = {
    "v0.9.0": "3.7.0",
    "v0.10.0": "3.9.0",
    "v0.11.0": "3.11.0",
    "v0.12.0": "3.13.0",
    "v0.13.0": "3.15.0",
    "v0.14.0": "3.17.0",
    "v0.15.0": "3.19.1",
    "v0.16.0": "3.21.0",
    "v0.17.0": "3.23.0",
}
COCO: Final = ["v0.5.0", "v0.6.0", "v0.7.0", "v0.8.0", *PAYLOADS]
KATA: Final = [
    "3.23",
    "3.24",
    "3.25",
    "3.26",
    "3.27",
    "3.28",
    "3.29",
    "3.30",
    "3.31",
    "3.32",
    "4.0",
    "4.1",
]
NO_VERSIONS: Final = [
    "",
    "v",
    "latest",
    "26.7",
    "v26",
    "26.7.0.1",
    "vv26.7.0",
    "26.7.0\n.1",
    "26.7.0 rc1",
    "-26.7.0",
    "1e9.0.0",
    "sha256:0a",
    "\u0662\u0666.\u0667.\u0660",  # digits, but not ours
    f"{'9' * 5000}.0.0",
    "26.7.0-" + "a.-+" * 9000 + "!",
]

# Each defect with the versions that have it: first and last, or none where only an image has.
AFFECTED: Final = {
    "runtime-class-renamed": ("v24.3.0", "v25.10.1"),
    "kata-manager-empty-pull-secret": ("v23.6.0", "v23.6.0"),
    "kata-manager-containerd-2": ("v23.6.0", "v25.10.1"),
    "kata-manager-ready-too-early": ("v23.6.0", "v25.10.1"),
    "cdi-index-mismatch": ("v23.6.0", "v25.10.1"),
    "device-plugin-glibc": ("v23.9.0", "v23.9.0"),
    "device-plugin-attaches-twice": ("v25.3.3", "v25.10.1"),
    "vfio-manager-binds-every-function": ("v23.6.0", "v23.9.1"),
    "vfio-manager-leaves-companions": ("v23.9.2", "v24.3.0"),
    "vfio-manager-binds-one-companion": ("v24.6.0", "v26.7.0"),
    "no-conditions": ("v23.6.0", "v23.6.2"),
    "kata-manager-ignored": ("v26.3.0", "v26.7.0"),
    "cc-manager-on-by-default": ("v26.3.0", "v26.7.0"),
    "cc-capable-unlabelled": ("v26.3.0", "v26.7.0"),
    "gfd-pod-takes-a-gpu": ("v26.3.0", "v26.3.0"),
    "device-plugin-cdi-names": None,
    "variant-driver-skipped": ("v26.3.0", "v26.7.0"),
    "vfio-manager-hides-failed-bind": ("v26.3.0", "v26.7.0"),
    "nvswitch-not-bound": ("v26.3.0", "v26.7.0"),
    "host-driver-blocks-binding": ("v23.6.0", "v26.7.0"),
    "vfio-manager-restart-takes-gpus": ("v23.6.0", "v26.7.0"),
    "gpus-stay-on-vfio-pci": ("v26.3.0", "v26.3.3"),
    "artifacts-left-behind": ("v23.6.0", "v25.10.1"),
    "kube-rbac-proxy-gone": ("v0.5.0", "v0.11.0"),
    "worker-label-undocumented": ("v0.7.0", "v0.17.0"),
    "containerd-replaced": ("v0.7.0", "v0.7.0"),
    "qemu-path-missing": ("v0.8.0", "v0.17.0"),
    "guest-cdi-timeout": ("v0.16.0", "v0.16.0"),
    "containerd-imports-race": ("v0.8.0", "v0.11.0"),
    "uninstall-skips-cleanup": ("v0.7.0", "v0.11.0"),
    "stale-containerd-backup": ("v0.7.0", "v0.7.0"),
    "stale-finalizer": ("v0.5.0", "v0.17.0"),
    "pod-resources-get-off": ("3.24.0", "4.1.0"),
    "cc-ready-state-selector": ("3.29.0", "4.1.0"),
    "instance-marker-label": ("4.1.0", "4.1.0"),
    "containerd-config-4": ("3.23.0", "3.29.0"),
    "nfd-key": ("3.25.0", "4.1.0"),
    "shared-kata-label": ("3.23.0", "4.0.0"),
    "cleanup-on-one-node": ("3.23.0", "3.26.0"),
    "stale-imports-after-upgrade": ("3.30.0", "3.30.0"),
}


def every_entry() -> list[Entry]:
    return [entry for entries in CATALOG.entries.values() for entry in entries]


def known(product_: Product, version: str) -> Entry:
    entry = CATALOG.find(product_, version).entry
    assert entry is not None
    return entry


def tag(image: str | None) -> str | None:
    return image and image.rpartition(":")[2]


@pytest.mark.parametrize("version", MATRIX)
def test_every_chart_has_its_images(version: str) -> None:
    entry = known(Product.GPU_OPERATOR, version)
    found = tuple(tag(entry.images.get(part)) for part, _ in PARTS)

    assert found == MATRIX[version]
    assert entry.images["operator"] == f"nvcr.io/nvidia/gpu-operator:{version}"


def test_no_version_is_missing_and_none_is_made_up() -> None:
    versions = {name: [entry.version for entry in all_] for name, all_ in CATALOG.entries.items()}

    assert versions == {
        Product.GPU_OPERATOR: list(MATRIX),
        Product.KATA_DEPLOY: [f"{version}.0" for version in KATA],
        Product.COCO_OPERATOR: COCO,
    }


@pytest.mark.parametrize("version", PAYLOADS)
def test_each_coco_operator_has_its_payload(version: str) -> None:
    images = known(Product.COCO_OPERATOR, version).images

    assert images["payload"] == f"quay.io/kata-containers/kata-deploy:{PAYLOADS[version]}"
    assert images["operator"] == f"quay.io/confidential-containers/operator:{version}"


def test_versions_stand_in_ascending_order() -> None:
    for entries in CATALOG.entries.values():
        assert all(older.numbers < newer.numbers for older, newer in pairwise(entries))


def test_how_a_chart_takes_kata_decides_its_stack_and_runtime_classes() -> None:
    for entry in CATALOG.entries[Product.GPU_OPERATOR]:
        if entry.numbers >= (26, 3, 0):
            assert entry.takes_kata_by is TakesKataBy.MODE_KATA
            assert entry.stack is Stack.KATA_DEPLOY
            assert entry.runtime_classes == ()
        else:
            name = "kata-nvidia-gpu" if entry.numbers >= (24, 3, 0) else "kata-qemu-nvidia-gpu"
            assert entry.takes_kata_by is TakesKataBy.KATA_MANAGER
            assert entry.stack is Stack.COCO_OPERATOR
            assert entry.runtime_classes == (name, f"{name}-snp")


def test_the_defaults_are_the_published_pairs() -> None:
    defaults = {
        (product_, stack): CATALOG.default(product_, stack)
        for product_, stack in product(Product, Stack)
    }

    assert {pair: entry.version for pair, entry in defaults.items() if entry} == {
        (Product.GPU_OPERATOR, Stack.KATA_DEPLOY): "v26.7.0",
        (Product.KATA_DEPLOY, Stack.KATA_DEPLOY): "4.0.0",
        (Product.GPU_OPERATOR, Stack.COCO_OPERATOR): "v23.6.2",
        (Product.COCO_OPERATOR, Stack.COCO_OPERATOR): "v0.7.0",
    }
    assert sum(entry.is_default for entry in every_entry()) == 4


@pytest.mark.parametrize("id_", AFFECTED)
def test_a_defect_is_listed_with_exactly_the_versions_that_have_it(id_: str) -> None:
    having = [entry for entry in every_entry() if CATALOG.defects[id_] in entry.defects]
    ends = AFFECTED[id_]
    if ends is None:
        assert having == []
        return
    entries = CATALOG.entries[having[0].product]
    versions = [entry.version for entry in entries]
    expected = entries[versions.index(ends[0]) : versions.index(ends[1]) + 1]

    assert having == list(expected)


def test_every_defect_is_used_and_none_is_named_that_is_not_there() -> None:
    named = {defect.id for entry in every_entry() for defect in entry.defects}
    named |= {defect.id for rule in CATALOG.rules for defect in rule.defects}

    assert named == set(CATALOG.defects) == set(AFFECTED)


def test_a_defect_says_what_it_is_and_what_to_do() -> None:
    for defect in CATALOG.defects.values():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", defect.id)
        assert len(defect.what) > 60, defect.id
        assert len(defect.to_do) > 20, defect.id
        assert "  " not in defect.what + defect.to_do, defect.id
        assert "\n" not in defect.what + defect.to_do, defect.id
        assert defect.to_do.count("`") % 2 == 0, defect.id
        assert isinstance(defect.severity, Severity)
        assert isinstance(defect.when, When)


def test_everything_says_who_says_so() -> None:
    listed = [
        *(one.sources for one in every_entry()),
        *(one.sources for one in CATALOG.defects.values()),
        *(one.sources for one in CATALOG.rules),
        *(one.sources for one in CATALOG.platforms),
    ]
    for sources in listed:
        assert sources
        for source in sources:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+(#\d+|@[0-9a-f]{7,40}|: \S+@\S+)", source), source


def test_an_image_that_carries_a_defect_is_one_that_a_chart_has_or_had() -> None:
    defects = CATALOG.defects.values()
    carried = {
        entry.images[part].rpartition("/")[2]
        for entry in every_entry()
        for part in entry.images
        if any(entry.images[part].endswith(f"/{image}") for one in defects for image in one.images)
    }
    # v0.0.1 came with the interim early access only.
    named = {image for one in defects for image in one.images}

    assert named - carried == {"nvidia-sandbox-device-plugin:v0.0.1"}
    for entry in every_entry():
        of_images = {one.id for i in entry.images.values() for one in CATALOG.image_defects(i)}
        assert of_images <= {defect.id for defect in entry.defects}, entry.title


@pytest.mark.parametrize(
    ("image", "ids"),
    [
        ("nvcr.io/nvidia/kubevirt-gpu-device-plugin:v1.4.0", ["device-plugin-attaches-twice"]),
        ("mirror:5000/a/b/kubevirt-gpu-device-plugin:v1.4.0", ["device-plugin-attaches-twice"]),
        ("kubevirt-gpu-device-plugin:v1.4.0@sha256:00", ["device-plugin-attaches-twice"]),
        ("nvcr.io/nvidia/kubevirt-gpu-device-plugin:v1.3.1", []),
        ("kubevirt-gpu-device-plugin", []),
        ("", []),
    ],
)
def test_an_image_tells_its_defects_from_whatever_registry_it_comes(
    image: str, ids: list[str]
) -> None:
    assert [defect.id for defect in CATALOG.image_defects(image)] == ids


@pytest.mark.parametrize(
    "version", ["v26.7.0", "26.7.0", "v26.7.0-ubi8", "26.7.0+k3s1", " v26.7.0"]
)
def test_a_version_is_found_however_it_is_written(version: str) -> None:
    found = CATALOG.gpu_operator(version)

    assert found.sure is Sure.KNOWN
    assert found.entry is known(Product.GPU_OPERATOR, "v26.7.0")


@pytest.mark.parametrize(
    ("version", "sure", "entry"),
    [
        ("v26.7.1", Sure.NEWER, "v26.7.0"),
        ("v27.1.0", Sure.NEWER, "v26.7.0"),
        ("v26.3.4", Sure.UNKNOWN, None),
        ("v25.10.2", Sure.UNKNOWN, None),
        ("v22.9.0", Sure.UNKNOWN, None),
    ],
)
def test_only_a_version_newer_than_all_is_taken_for_the_newest(
    version: str, sure: Sure, entry: str | None
) -> None:
    found = CATALOG.gpu_operator(version)

    assert (found.sure, found.entry and found.entry.version) == (sure, entry)


def test_each_product_has_a_question_of_its_own() -> None:
    assert CATALOG.kata_deploy("4.0.0").entry is known(Product.KATA_DEPLOY, "4.0.0")
    assert CATALOG.coco_operator("0.7.0").entry is known(Product.COCO_OPERATOR, "v0.7.0")
    assert CATALOG.kata_deploy("v0.7.0").sure is Sure.UNKNOWN


@pytest.mark.parametrize("text", NO_VERSIONS)
def test_what_is_no_version_is_unknown_and_no_error(text: str) -> None:
    assert parse_version(text) is None
    assert all(CATALOG.find(product_, text).sure is Sure.UNKNOWN for product_ in Product)
    assert CATALOG.combination(text, KataProvider.KATA_DEPLOY, text).decision is Decision.REFUSED


def pairs() -> list[tuple[str, KataProvider, str]]:
    return [
        *product(MATRIX, [KataProvider.KATA_DEPLOY], [f"{version}.0" for version in KATA]),
        *product(MATRIX, [KataProvider.COCO_OPERATOR], COCO),
        *product(MATRIX, [KataProvider.COCO_CHART], ["0.18.0"]),
    ]


def test_something_is_said_of_every_pair_and_every_rule_speaks_of_one() -> None:
    speaking = set()
    for operator, provider, kata in pairs():
        verdict = CATALOG.combination(operator, provider, kata)
        assert verdict.sources, (operator, provider, kata)
        speaking |= set(verdict.reasons)

    assert speaking == {rule.reason for rule in CATALOG.rules}


def test_every_rule_names_known_versions() -> None:
    for rule in CATALOG.rules:
        assert {CATALOG.gpu_operator(end).sure for end in rule.gpu_operator} == {Sure.KNOWN}
        if rule.kata:
            of = Product(rule.kata_provider.value)
            assert {CATALOG.find(of, end).sure for end in rule.kata} == {Sure.KNOWN}


@pytest.mark.parametrize(
    ("operator", "provider", "kata", "decision", "words"),
    [
        ("v26.7.0", "kata-deploy", "4.0.0", "works", "NVIDIA documents"),
        ("v26.7.0", "kata-deploy", "4.1.0", "works", "NVIDIA documents"),
        ("v26.3.0", "kata-deploy", "4.0.0", "warned", "takes a GPU"),
        ("v26.3.1", "kata-deploy", "3.29.0", "warned", "3.29.0 as the least"),
        ("v26.3.1", "kata-deploy", "3.24.0", "warned", "older than 3.29.0"),
        ("v23.6.2", "coco-operator", "v0.7.0", "works", "published"),
        ("v24.3.0", "coco-operator", "v0.7.0", "works", "published"),
        ("v23.6.2", "coco-operator", "v0.8.0", "warned", "QEMU"),
        ("v23.9.0", "coco-operator", "v0.7.0", "warned", "GLIBC"),
        ("v25.3.3", "coco-operator", "v0.7.0", "warned", "twice"),
        ("v25.10.1", "coco-operator", "v0.17.0", "warned", "twice"),
        ("v25.10.1", "coco-operator", "v0.17.0", "warned", "QEMU"),
        ("v23.6.2", "coco-operator", "v0.6.0", "refused", "older than v0.7.0"),
        ("v26.3.0", "coco-operator", "v0.7.0", "refused", "ignore kataManager.enabled"),
        ("v25.10.0", "kata-deploy", "3.24.0", "refused", "does not install it"),
        ("v25.10.1", "kata-deploy", "4.0.0", "refused", "do not know mode=kata"),
        ("v26.7.0", "coco-chart", "0.18.0", "refused", "coco-system"),
        ("v26.7.1", "kata-deploy", "4.0.0", "warned", "newer than any known"),
        ("v26.7.0", "kata-deploy", "4.2.0", "warned", "newer than any known"),
        ("v26.7.1", "coco-operator", "v0.7.0", "refused", "ignore kataManager.enabled"),
        ("v26.3.4", "kata-deploy", "4.0.0", "refused", "'v26.3.4' is not in the catalogue"),
        ("v26.7.0", "kata-deploy", "3.28.1", "refused", "'3.28.1' is not in the catalogue"),
        ("nonsense", "coco-chart", "0.18.0", "refused", "'nonsense' is not in the catalogue"),
    ],
)
def test_what_works_with_what(
    operator: str, provider: str, kata: str, decision: str, words: str
) -> None:
    verdict = CATALOG.combination(operator, KataProvider(provider), kata)

    assert verdict.decision == decision
    assert words in "; ".join(verdict.reasons)


def test_the_defaults_work_together() -> None:
    assert CATALOG.combination("v26.7.0", KataProvider.KATA_DEPLOY, "4.0.0").decision == "works"
    assert CATALOG.combination("v23.6.2", KataProvider.COCO_OPERATOR, "v0.7.0").decision == "works"


def test_a_pair_of_which_nothing_is_said_is_refused() -> None:
    silent = Catalog(CATALOG.entries, CATALOG.defects, (), ())
    verdict = silent.combination("v26.7.0", KataProvider.KATA_DEPLOY, "4.0.0")

    assert (verdict.decision, verdict.reasons) == (
        Decision.REFUSED,
        ("nobody says that they work together",),
    )


def test_openshift_is_refused_with_what_there_is_instead() -> None:
    (openshift,) = CATALOG.platforms

    assert openshift.name == "openshift"
    assert "OpenShift Sandboxed Containers" in openshift.instead


def test_every_range_of_kubernetes_can_be_compared() -> None:
    ranges = [entry.kubernetes for entry in every_entry() if entry.kubernetes]

    assert {one.said_by for one in ranges} == {"chart", "docs"}
    for one in ranges:
        assert one.bounds, one.text
        assert one.includes("v1.33.4") is True, one.text
        assert one.includes("v1.15.0") is False, one.text


@pytest.mark.parametrize(
    ("text", "version", "inside"),
    [
        (">= 1.16.0-0", "v1.37.2", True),
        (">= 1.16.0-0", "v1.16.0", True),
        (">= 1.16.0-0", "v1.31.5+k3s1", True),
        (">= 1.16.0-0", "v1.30.1-gke.100", True),
        (">= 1.32", "v1.31.9", False),
        (">= 1.32", "1.32", True),
        (">=1.24, <1.30", "v1.29.9", True),
        (">=1.24 <1.30", "v1.30.0", False),
        ("> 1.24 <= 1.30", "v1.24.0", False),
        ("= 1.30", "v1.30.0", True),
        (">= 1.16.0-0", "unknown", None),
        (">= 1.16.0-0", "", None),
    ],
)
def test_kubernetes_versions_are_compared_by_their_numbers(
    text: str,
    version: str,
    inside: bool | None,  # noqa: FBT001  # what is expected
) -> None:
    assert KubernetesRange(text, "chart").includes(version) is inside


def test_the_table_has_no_key_that_nothing_reads() -> None:
    table = tomllib.loads(Path(module.__file__).with_name("catalog.toml").read_text("utf-8"))
    entries = {"stack", "takes-kata-by", "default", "runtime-classes", "kubernetes", "images"}
    entries |= {"defects", "sources"}
    rules = {"gpu-operator", "kata-provider", "kata", "verdict", "reason", "defects", "sources"}

    assert set(table) == {*Product, "defect", "works-with", "platform"}
    for product_ in Product:
        assert all(set(row) <= entries for row in table[product_].values())
    for row in table["defect"].values():
        assert set(row) <= {"severity", "when", "what", "to-do", "images", "sources"}
    assert all(set(row) <= rules for row in table["works-with"])


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"no {name} in the shared data")
    return path


def member(archive: Path, name: str) -> Any:  # noqa: ANN401  # YAML is what it is
    with tarfile.open(archive) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return yaml.safe_load(file)


CHARTS: Final = ("v23.6.0", "v23.6.2", "v24.9.2", "v25.3.4", "v25.10.1", "v26.3.3", "v26.7.0")


@pytest.mark.parametrize("version", CHARTS)
def test_a_gpu_operator_chart_is_as_the_catalogue_says(version: str) -> None:
    archive = shared(f"charts/gpu-operator-{version}.tgz")
    chart = member(archive, "gpu-operator/Chart.yaml")
    values = member(archive, "gpu-operator/values.yaml")
    entry = known(Product.GPU_OPERATOR, version)
    expected = {
        "operator": f"{values['operator']['repository']}/gpu-operator:{chart['appVersion']}"
    }
    for part, key in PARTS:
        told = values.get(key, {})
        told = told.get("driverManager", told)
        if told.get("image"):
            expected[part] = f"{told['repository']}/{told['image']}:{told['version']}"
    classes = values["kataManager"]["config"].get("runtimeClasses", [])

    assert entry.images == expected
    assert entry.kubernetes == KubernetesRange(chart["kubeVersion"], "chart")
    assert entry.runtime_classes == tuple(row["name"] for row in classes)
    knows_mode = "mode" in values["sandboxWorkloads"]
    assert (entry.takes_kata_by is TakesKataBy.MODE_KATA) is knows_mode


@pytest.mark.parametrize("version", ["3.24.0", "4.0.0", "4.1.0"])
def test_a_kata_deploy_chart_is_as_the_catalogue_says(version: str) -> None:
    archive = shared(f"charts/kata-deploy-{version}.tgz")
    chart = member(archive, "kata-deploy/Chart.yaml")
    values = member(archive, "kata-deploy/values.yaml")
    entry = known(Product.KATA_DEPLOY, version)
    expected = {"kata-deploy": f"{values['image']['reference']}:{chart['appVersion']}"}
    if "job" in values:
        dispatcher = values["job"]["dispatcherImage"]["reference"]
        expected["job-dispatcher"] = f"{dispatcher}:{chart['appVersion']}"
    shims = [name for name in values["shims"] if "nvidia-gpu" in name]

    assert entry.images == expected
    assert entry.runtime_classes == tuple(f"kata-{shim}" for shim in shims)
    assert "kubeVersion" not in chart
    selects = any("cc.ready.state" in str(values["shims"][shim]) for shim in shims)
    assert selects is ("cc-ready-state-selector" in {defect.id for defect in entry.defects})


@pytest.mark.parametrize("version", ["v0.7.0", "v0.8.0", "v0.11.0", "v0.12.0", "v0.17.0"])
def test_a_coco_operator_is_as_the_catalogue_says(version: str) -> None:
    root = f"operator-{version[1:]}"
    archive = shared(f"coco-operator/{root}.tar.gz")
    overlay = member(archive, f"{root}/config/samples/ccruntime/default/kustomization.yaml")
    release = member(archive, f"{root}/config/release/kustomization.yaml")
    entry = known(Product.COCO_OPERATOR, version)
    rows = overlay.get("patches") or overlay["patchesJson6902"]
    operations = [step for row in rows for step in yaml.safe_load(row["patch"])]
    classes = next(
        step["value"] for step in operations if step["path"].startswith("/spec/config/runtimeClass")
    )
    names = {row if isinstance(row, str) else row["name"] for row in classes}
    alias = {"kata"} if version == "v0.8.0" else set()
    payload = next(
        f"{image.get('newName', image['name'])}:{image['newTag']}"
        for image in overlay["images"]
        if "runtime-payload" in image["name"] or "kata-deploy" in image["name"]
    )
    with tarfile.open(archive) as tar:
        has_proxy = any(name.endswith("manager_auth_proxy_patch.yaml") for name in tar.getnames())

    assert set(entry.runtime_classes) == names | alias
    assert entry.images["payload"] == payload
    assert entry.images["operator"].endswith(f":{release['images'][0]['newTag']}")
    assert ("kube-rbac-proxy" in entry.images) is has_proxy
