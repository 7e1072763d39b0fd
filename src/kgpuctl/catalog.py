"""The known versions of GPU Operator, kata-deploy and CoCo operator, and what works with what."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from kgpuctl.errors import shown
from kgpuctl.names import Stack

Numbers = tuple[int, int, int]

# What follows the three numbers is a build of the same version: v26.7.0-ubi8, 4.0.0+rke2r1.
_VERSION: Final = re.compile(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:[-+][\w.+-]*)?", re.ASCII)
_KUBERNETES: Final = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:[-+].*)?", re.ASCII)
_BOUND: Final = re.compile(r"(>=|<=|>|<|=)\s*(\S+)")


class Product(StrEnum):
    """What the catalogue has versions of, in its own words for it."""

    GPU_OPERATOR = "gpu-operator"
    KATA_DEPLOY = "kata-deploy"
    COCO_OPERATOR = "coco-operator"

    @property
    def words(self) -> str:
        """Return its name as people write it."""
        return _WORDS[self]


_WORDS: Final = {
    Product.GPU_OPERATOR: "GPU Operator",
    Product.KATA_DEPLOY: "kata-deploy",
    Product.COCO_OPERATOR: "CoCo operator",
}


class KataProvider(StrEnum):
    """What can bring Kata onto a cluster; the last is recognised, never installed."""

    KATA_DEPLOY = "kata-deploy"
    COCO_OPERATOR = "coco-operator"
    COCO_CHART = "coco-chart"


class TakesKataBy(StrEnum):
    """The value of the GPU Operator chart that turns Kata on."""

    KATA_MANAGER = "kataManager"
    MODE_KATA = "mode=kata"


class Severity(StrEnum):
    """Whether the cluster's objects can prove a defect, or it depends on what they do not show."""

    FAILS = "fails"
    WARNS = "warns"


class When(StrEnum):
    """When a defect bites."""

    INSTALL = "install"
    START = "start"
    UPGRADE = "upgrade"
    UNINSTALL = "uninstall"


class Sure(StrEnum):
    """How well a version is known."""

    KNOWN = "known"
    NEWER = "newer"
    UNKNOWN = "unknown"


class Decision(StrEnum):
    """What becomes of a pair of versions; the order is from good to bad."""

    WORKS = "works"
    WARNED = "warned"
    REFUSED = "refused"


_WORST_FIRST: Final = (Decision.REFUSED, Decision.WARNED, Decision.WORKS)


@dataclass(frozen=True, slots=True)
class Defect:
    """Something that is known to be wrong with some versions, and what to do about it."""

    id: str
    severity: Severity
    when: When
    what: str
    to_do: str
    images: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KubernetesRange:
    """Kubernetes versions, and who says so: the chart, which Helm enforces, or the docs."""

    text: str
    said_by: str

    def includes(self, version: str) -> bool | None:
        """Compare the three numbers of a server's version; None where it has none."""
        match = _KUBERNETES.fullmatch(version.strip())
        if match is None:
            return None
        numbers = _numbers(match)
        return all(_holds(numbers, sign, bound) for sign, bound in self.bounds)

    @property
    def bounds(self) -> tuple[tuple[str, Numbers], ...]:
        """Return the comparisons that all must hold."""
        parts = _BOUND.findall(self.text)
        found = ((sign, _KUBERNETES.fullmatch(bound.rstrip(","))) for sign, bound in parts)
        return tuple((sign, _numbers(match)) for sign, match in found if match)


@dataclass(frozen=True, slots=True)
class Entry:
    """One known version."""

    product: Product
    version: str
    stack: Stack
    takes_kata_by: TakesKataBy | None
    is_default: bool
    runtime_classes: tuple[str, ...]
    kubernetes: KubernetesRange | None
    images: Mapping[str, str]
    defects: tuple[Defect, ...]
    sources: tuple[str, ...]

    @property
    def title(self) -> str:
        """Return product and version in words."""
        return f"{self.product.words} {self.version}"

    @property
    def numbers(self) -> Numbers:
        """Return the version as it compares."""
        return parse_version(self.version) or (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalogue says of a version: of itself, of its newest relative, or nothing."""

    sure: Sure
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What is said of pairs: first to last version on each side, both included."""

    gpu_operator: tuple[str, str]
    kata_provider: KataProvider
    kata: tuple[str, str] | None
    decision: Decision
    reason: str
    defects: tuple[Defect, ...]
    sources: tuple[str, ...]

    def covers(self, gpu_operator: Entry, provider: KataProvider, kata: Entry | None) -> bool:
        """Say whether this rule speaks of the pair."""
        if provider is not self.kata_provider or not _within(gpu_operator, self.gpu_operator):
            return False
        return self.kata is None or (kata is not None and _within(kata, self.kata))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a pair of versions, and why."""

    decision: Decision
    reasons: tuple[str, ...]
    defects: tuple[Defect, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform on which no version is installed, and what there is instead."""

    name: str
    reason: str
    instead: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """All that is known of versions; entries of a product are in ascending order."""

    entries: Mapping[Product, tuple[Entry, ...]]
    defects: Mapping[str, Defect]
    rules: tuple[Rule, ...]
    platforms: tuple[Platform, ...]

    def gpu_operator(self, version: str) -> Known:
        """Look up a version of the GPU Operator, as its chart or image writes it."""
        return self.find(Product.GPU_OPERATOR, version)

    def kata_deploy(self, version: str) -> Known:
        """Look up a version of kata-deploy."""
        return self.find(Product.KATA_DEPLOY, version)

    def coco_operator(self, version: str) -> Known:
        """Look up a version of the CoCo operator."""
        return self.find(Product.COCO_OPERATOR, version)

    def find(self, product: Product, version: str) -> Known:
        """Look up a version; what is no version at all is unknown."""
        numbers = parse_version(version)
        if numbers is None:
            return Known(Sure.UNKNOWN)
        entries = self.entries[product]
        if numbers > entries[-1].numbers:
            return Known(Sure.NEWER, entries[-1])
        found = next((entry for entry in entries if entry.numbers == numbers), None)
        return Known(Sure.UNKNOWN if found is None else Sure.KNOWN, found)

    def default(self, product: Product, stack: Stack) -> Entry | None:
        """Return what is installed where nobody names a version; None if not part of the stack."""
        ours = (entry for entry in self.entries[product] if entry.stack is stack)
        return next((entry for entry in ours if entry.is_default), None)

    def image_defects(self, image: str) -> tuple[Defect, ...]:
        """Return the defects of an image by its name and tag, whatever registry it comes from."""
        name = image.rpartition("/")[2].partition("@")[0]
        return tuple(defect for defect in self.defects.values() if name in defect.images)

    def combination(
        self, gpu_operator: str, kata_provider: KataProvider, kata_version: str
    ) -> Verdict:
        """Judge a pair of versions: of all that is said of it, the worst counts."""
        operator = self.gpu_operator(gpu_operator)
        asked = [(Product.GPU_OPERATOR, gpu_operator, operator)]
        kata: Entry | None = None
        if kata_provider is not KataProvider.COCO_CHART:
            product = Product(kata_provider.value)
            known = self.find(product, kata_version)
            asked.append((product, kata_version, known))
            kata = known.entry
        strangers = tuple(
            f"{product.words} {shown(version)} is not in the catalogue"
            for product, version, known in asked
            if known.sure is Sure.UNKNOWN
        )
        if strangers or operator.entry is None:
            return Verdict(Decision.REFUSED, strangers)
        newer = tuple(
            f"{product.words} {shown(version)} is newer than any known version and is taken for "
            f"{known.entry.version}"
            for product, version, known in asked
            if known.sure is Sure.NEWER and known.entry
        )
        rules = [rule for rule in self.rules if rule.covers(operator.entry, kata_provider, kata)]
        return _worst(rules, newer)


def _worst(rules: Iterable[Rule], newer: tuple[str, ...]) -> Verdict:
    """Join the rules of the worst decision; a version newer than any known one is warned about."""
    by_decision = {
        decision: [rule for rule in rules if rule.decision is decision] for decision in _WORST_FIRST
    }
    decision = next((one for one in _WORST_FIRST if by_decision[one]), None)
    if decision is None:
        return Verdict(Decision.REFUSED, ("nobody says that they work together", *newer))
    told = by_decision[decision]
    if newer and decision is Decision.WORKS:
        decision = Decision.WARNED
    return Verdict(
        decision,
        (*newer, *(rule.reason for rule in told)),
        tuple({defect.id: defect for rule in told for defect in rule.defects}.values()),
        tuple(dict.fromkeys(source for rule in told for source in rule.sources)),
    )


def parse_version(text: str) -> Numbers | None:
    """Return the three numbers of v26.7.0, 26.7.0 or v26.7.0-ubi8; None for anything else."""
    match = _VERSION.fullmatch(text.strip())
    return _numbers(match) if match else None


def _numbers(match: re.Match[str]) -> Numbers:
    return int(match[1]), int(match[2]), int(match[3] or 0)


def _holds(numbers: Numbers, sign: str, bound: Numbers) -> bool:
    return {
        ">=": numbers >= bound,
        "<=": numbers <= bound,
        ">": numbers > bound,
        "<": numbers < bound,
        "=": numbers == bound,
    }[sign]


def _within(entry: Entry, ends: tuple[str, str]) -> bool:
    first, last = (parse_version(end) or (0, 0, 0) for end in ends)
    return first <= entry.numbers <= last


def load_catalog() -> Catalog:
    """Read the table that comes with kgpuctl."""
    path = Path(__file__).with_name("catalog.toml")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    defects = {id_: _defect(id_, row) for id_, row in table["defect"].items()}
    return Catalog(
        entries={
            product: tuple(
                _entry(product, version, row, defects) for version, row in table[product].items()
            )
            for product in Product
        },
        defects=defects,
        rules=tuple(_rule(row, defects) for row in table["works-with"]),
        platforms=tuple(
            Platform(name, row["reason"], _prose(row["instead"]), tuple(row["sources"]))
            for name, row in table["platform"].items()
        ),
    )


def _prose(text: str) -> str:
    """Return a text in one line: the table breaks it for its own readers."""
    return " ".join(text.split())


def _defect(id_: str, row: Mapping[str, Any]) -> Defect:
    return Defect(
        id=id_,
        severity=Severity(row["severity"]),
        when=When(row["when"]),
        what=_prose(row["what"]),
        to_do=_prose(row["to-do"]),
        images=tuple(row.get("images", ())),
        sources=tuple(row["sources"]),
    )


def _entry(
    product: Product, version: str, row: Mapping[str, Any], defects: Mapping[str, Defect]
) -> Entry:
    said = row.get("kubernetes")
    by = row.get("takes-kata-by")
    return Entry(
        product=product,
        version=version,
        stack=Stack(row["stack"]),
        takes_kata_by=TakesKataBy(by) if by else None,
        is_default=row.get("default", False),
        runtime_classes=tuple(row["runtime-classes"]),
        kubernetes=KubernetesRange(said["range"], said["said-by"]) if said else None,
        images=row["images"],
        defects=tuple(defects[id_] for id_ in row["defects"]),
        sources=tuple(row["sources"]),
    )


def _rule(row: Mapping[str, Any], defects: Mapping[str, Defect]) -> Rule:
    first, last = row["gpu-operator"]
    kata = row.get("kata")
    return Rule(
        gpu_operator=(first, last),
        kata_provider=KataProvider(row["kata-provider"]),
        kata=(kata[0], kata[1]) if kata else None,
        decision=Decision(row["verdict"]),
        reason=_prose(row["reason"]),
        defects=tuple(defects[id_] for id_ in row.get("defects", ())),
        sources=tuple(row["sources"]),
    )
