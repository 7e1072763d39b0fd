"""The catalogue of versions: as tables, all of one version, one defect, and as JSON."""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from kgpuctl.catalog import Catalog, Decision, Defect, Entry, KataProvider, Product, Rule
from kgpuctl.names import Stack
from kgpuctl.render.lines import wrap

WIDTH: Final = 80
_KATA_OF: Final = {
    Stack.KATA_DEPLOY: Product.KATA_DEPLOY,
    Stack.COCO_OPERATOR: Product.COCO_OPERATOR,
}


def entries(catalog: Catalog, stacks: Sequence[Stack]) -> tuple[Entry, ...]:
    """Return the versions of these stacks: GPU Operator first, newest first."""
    return tuple(
        entry
        for product in Product
        for entry in reversed(catalog.entries[product])
        if entry.stack in stacks
    )


def rules(catalog: Catalog, stacks: Sequence[Stack]) -> tuple[Rule, ...]:
    """Return what is said of pairs with these stacks' Kata, and with what belongs to none."""
    ours = {stack.value for stack in stacks} | {KataProvider.COCO_CHART.value}
    return tuple(rule for rule in catalog.rules if rule.kata_provider.value in ours)


def as_tables(catalog: Catalog, stacks: Sequence[Stack]) -> str:
    """Return the known versions of each stack, and what works with what."""
    lines = [line for stack in stacks for line in _stack(catalog, stack)]
    lines.append("What works with what")
    order = list(Decision)
    told = sorted(rules(catalog, stacks), key=lambda rule: order.index(rule.decision))
    lines += [line for rule in told for line in _rule(rule)]
    for platform in catalog.platforms:
        text = f"{platform.name}: {platform.reason}. {platform.instead}"
        lines += _hanging(f"{Decision.REFUSED:<8} ", text)
    lines += ["", "* what is installed where no version is named"]
    lines += ["`kgpuctl versions NAME` tells all of one version, or of one defect."]
    return "\n".join(lines) + "\n"


def _stack(catalog: Catalog, stack: Stack) -> list[str]:
    pair = [catalog.default(product, stack) for product in (_KATA_OF[stack], Product.GPU_OPERATOR)]
    titles = " with ".join(entry.title for entry in pair if entry)
    lines = [f"Stack {stack.value}: {titles}", ""]
    for product, listed in groupby(entries(catalog, [stack]), key=lambda entry: entry.product):
        by = "Kata by" if product is Product.GPU_OPERATOR else ""
        lines.append(_columns(" ", product.words, by, "Kubernetes", "RuntimeClasses", "defects"))
        lines += [_row(entry) for entry in listed]
        lines.append("")
    return lines


def _row(entry: Entry) -> str:
    mark = "*" if entry.is_default else " "
    by = entry.takes_kata_by.value if entry.takes_kata_by else ""
    names = entry.runtime_classes
    more = f" +{len(names) - 1}" if names[1:] else ""
    made = f"{names[0]}{more}" if names else "-"
    return _columns(mark, entry.version, by, _kubernetes(entry), made, str(len(entry.defects)))


def _columns(*words: str) -> str:
    mark, version, by, kubernetes, made, defects = words
    return f"{mark} {version:<14}{by:<12}{kubernetes:<20}{made:<25}{defects:>7}"


def _kubernetes(entry: Entry) -> str:
    said = entry.kubernetes
    return f"{said.text} ({said.said_by})" if said else "-"


def _rule(rule: Rule) -> list[str]:
    operator = f"GPU Operator {_span(rule.gpu_operator)}"
    kata = _span(rule.kata) if rule.kata else "of any version"
    head = f"{operator} with {rule.kata_provider.value} {kata}:"
    return _hanging(f"{rule.decision.value:<8} ", f"{head} {rule.reason}")


def _span(ends: tuple[str, str]) -> str:
    first, last = ends
    return first if first == last else f"{first} to {last}"


def _hanging(head: str, text: str) -> list[str]:
    lines = wrap(text, WIDTH - len(head))
    return [head + lines[0], *(" " * len(head) + line for line in lines[1:])]


def as_text(catalog: Catalog, entry: Entry) -> str:
    """Return all that is known of one version, for a terminal."""
    default = ", the default" if entry.is_default else ""
    takes = [("Takes Kata by", entry.takes_kata_by.value)] if entry.takes_kata_by else []
    facts = [
        *takes,
        ("Kubernetes", _kubernetes(entry)),
        ("RuntimeClasses", ", ".join(entry.runtime_classes) or "none: kata-deploy makes them"),
    ]
    lines = [f"{entry.title} (stack {entry.stack.value}{default})", ""]
    lines += [line for name, value in facts for line in _hanging(f"{name:<16}", value)]
    lines += ["", "Images", *(f"  {image}" for image in entry.images.values())]
    lines += ["", "Known defects"]
    lines += [line for defect in entry.defects for line in _defect(defect)]
    lines += ["What works with it"]
    lines += [line for rule in _of(catalog, entry) for line in _rule(rule)]
    lines += ["", "Sources", *(f"  {source}" for source in entry.sources)]
    return "\n".join(lines) + "\n"


def _of(catalog: Catalog, entry: Entry) -> Iterable[Rule]:
    """Return the rules that speak of a version on either side."""
    operators = catalog.entries[Product.GPU_OPERATOR]
    is_operator = entry.product is Product.GPU_OPERATOR
    for rule in catalog.rules:
        if is_operator:
            katas: tuple[Entry | None, ...] = (None,)
            if rule.kata:
                katas = catalog.entries[Product(rule.kata_provider.value)]
            pairs = [(entry, kata) for kata in katas]
        else:
            pairs = [(operator, entry) for operator in operators]
        provider = rule.kata_provider
        if not is_operator and provider.value != entry.product.value:
            continue
        if any(rule.covers(operator, provider, kata) for operator, kata in pairs):
            yield rule


def _defect(defect: Defect) -> list[str]:
    return [
        f"  {defect.id} ({defect.severity.value}, at {defect.when.value})",
        *(f"    {line}" for line in wrap(defect.what, WIDTH - 4)),
        *(f"    {line}" for line in wrap(f"To do: {defect.to_do}", WIDTH - 4)),
        "",
    ]


def as_defect(catalog: Catalog, defect: Defect) -> str:
    """Return all that is known of one defect, for a terminal."""
    has = [
        entry.title
        for product in Product
        for entry in catalog.entries[product]
        if defect in entry.defects
    ]
    carriers = ", ".join([*has, *defect.images])
    lines = [
        f"{defect.id}: {defect.severity.value}, at {defect.when.value}",
        "",
        *wrap(defect.what, WIDTH),
        "\nWhat to do",
        *(f"  {line}" for line in wrap(defect.to_do, WIDTH - 2)),
        "\nWhere",
        *(f"  {line}" for line in wrap(carriers, WIDTH - 2)),
        "\nSources",
        *(f"  {source}" for source in defect.sources),
    ]
    return "\n".join(lines) + "\n"


def as_json(catalog: Catalog, stacks: Sequence[Stack]) -> str:
    """Return the catalogue for programs."""
    listed, told = entries(catalog, stacks), rules(catalog, stacks)
    used = {defect.id for entry in listed for defect in entry.defects}
    used |= {defect.id for rule in told for defect in rule.defects}
    envelope = {
        "apiVersion": "kgpuctl/v1",
        "kind": "Versions",
        "versions": [_entry_data(entry) for entry in listed],
        "defects": [_defect_data(one) for one in catalog.defects.values() if one.id in used],
        "worksWith": [_rule_data(rule) for rule in told],
        "platforms": [
            {
                "name": platform.name,
                "verdict": Decision.REFUSED.value,
                "reason": platform.reason,
                "instead": platform.instead,
                "sources": platform.sources,
            }
            for platform in catalog.platforms
        ],
    }
    return json.dumps(envelope, indent=2, ensure_ascii=False) + "\n"


def _entry_data(entry: Entry) -> dict[str, object]:
    said = entry.kubernetes
    return {
        "product": entry.product.value,
        "version": entry.version,
        "stack": entry.stack.value,
        "default": entry.is_default,
        "takesKataBy": entry.takes_kata_by,
        "runtimeClasses": entry.runtime_classes,
        "kubernetes": {"range": said.text, "saidBy": said.said_by} if said else None,
        "images": entry.images,
        "defects": [defect.id for defect in entry.defects],
        "sources": entry.sources,
    }


def _defect_data(defect: Defect) -> dict[str, object]:
    return {
        "id": defect.id,
        "severity": defect.severity.value,
        "when": defect.when.value,
        "what": defect.what,
        "toDo": defect.to_do,
        "images": defect.images,
        "sources": defect.sources,
    }


def _rule_data(rule: Rule) -> dict[str, object]:
    return {
        "gpuOperator": {"from": rule.gpu_operator[0], "to": rule.gpu_operator[1]},
        "kataProvider": rule.kata_provider.value,
        "kata": {"from": rule.kata[0], "to": rule.kata[1]} if rule.kata else None,
        "verdict": rule.decision.value,
        "reason": rule.reason,
        "defects": [defect.id for defect in rule.defects],
        "sources": rule.sources,
    }
