"""What a script can do of a report's remedies, as a POSIX shell script for a human to read and run.

kgpuctl never runs it. Nothing of a report is ever code in it: texts lose their control characters
and stand in comments or quoted, and a fix with a value that is not plainly a word is left to the
reader. The functions that the steps call are in fix_script.sh.
"""

import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

from kgpuctl import __version__
from kgpuctl.host.distribution import BOOT_EDITS, INITRAMFS, Boot, Distribution, Family
from kgpuctl.render.lines import wrap
from kgpuctl.report import (
    Fix,
    KernelArguments,
    LoadModules,
    ModuleConfig,
    Remedy,
    Report,
    StopUnit,
)

_WIDTH: Final = 96
_WORD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:=/@%+-]*")
_MODULE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LINE: Final = re.compile(r"[!-~][ -~]*")
_UNIT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@\\-]*")

# The kernel takes only the last word of these, so there must be one word with all the values.
_ONE_WORD: Final = ("vfio-pci.ids", "module_blacklist")
# grubby itself keeps only one word of each parameter; this one must not lose its values either.
_ONE_WORD_FOR_GRUBBY: Final = (*_ONE_WORD, "modprobe.blacklist")

_COMMANDS: Final = frozenset({Boot.GRUBBY, Boot.KERNELSTUB, Boot.RPM_OSTREE})
_ORDER: Final = (KernelArguments, ModuleConfig, StopUnit, LoadModules)
_BLOCK_NAME: Final = re.compile(r"^(\w+)(?:\(\) \{(?: # (\S+))?|=)", re.MULTILINE)
_SETTINGS: Final = """\
set -euf
LC_ALL=C PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL PATH"""
_USAGE: Final = """\
*)
    printf '%s\\n' "usage: sh $0 [apply | undo]" >&2
    exit 2
    ;;
esac"""

_Asked = Mapping[Remedy, tuple[str, ...]]
_Texts = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Step:
    """One change: which checks ask for it, and the shell lines that do it and take it back."""

    asked: _Asked
    title: str
    apply: tuple[str, ...]
    undo: str
    waits_for: str = "none"  # the word that fix_script.sh's wait_for takes

    @property
    def needs_reboot(self) -> bool:
        """Whether it takes effect only at boot."""
        return self.waits_for != "none"

    @property
    def words(self) -> str:
        """Say what it does, and whether it needs a reboot."""
        return f"{self.title} (needs a reboot)" if self.needs_reboot else self.title


def dumps(report: Report, distribution: Distribution) -> str:
    """Return the script; equal reports give equal scripts."""
    asked = _asked(report)
    steps = _steps(asked, distribution)
    by_hand = _by_hand(asked, distribution)
    finishing = _finishing(steps, distribution)
    parts = [
        _header(report, by_hand),
        [_SETTINGS],
        _plan(report, steps, by_hand),
        *([_apply(steps, finishing), _undo(steps, finishing)] if steps else []),
        *_library(steps, distribution.boot),
        _main(steps, by_hand),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _asked(report: Report) -> _Asked:
    """Return each remedy once, with the ids of the checks that ask for it."""
    found: dict[Remedy, dict[str, None]] = {}
    for result in report.results:
        if result.is_problem and result.remedy:
            found.setdefault(result.remedy, {})[_plain(result.id)] = None
    return {remedy: tuple(ids) for remedy, ids in found.items()}


def _is_doable(fix: Fix, distribution: Distribution) -> bool:
    """Say whether the script can do it here: there is a way to, and each value is plain."""
    if distribution.is_image:
        return False
    match fix:
        case KernelArguments(add, remove):
            boot = distribution.boot
            wanted = add if boot is Boot.FLATCAR_OEM else add + remove
            known = boot in BOOT_EDITS or boot in _COMMANDS or boot is Boot.FLATCAR_OEM
            return known and _all_match(_WORD, wanted)
        case ModuleConfig(name, lines):
            return _all_match(_FILE, (name,)) and _all_match(_LINE, lines)
        case LoadModules(modules):
            return _all_match(_MODULE, modules)
        case StopUnit(unit):
            return _all_match(_UNIT, (unit,))


def _all_match(pattern: re.Pattern[str], values: tuple[str, ...]) -> bool:
    return bool(values) and all(pattern.fullmatch(value) for value in values)


def _leaves_work(fix: Fix, distribution: Distribution) -> bool:
    """Say whether the script, doing it, leaves a part of it to a person."""
    match fix:
        case KernelArguments(_, remove):
            return bool(remove) and distribution.boot is Boot.FLATCAR_OEM
        case ModuleConfig():
            return distribution.family is Family.OTHER  # nobody knows its initramfs command
        case _:
            return False


def _by_hand(asked: _Asked, distribution: Distribution) -> _Texts:
    """Return what a person must do, each text once, with the ids of the checks that ask for it."""
    found: dict[str, tuple[str, ...]] = {}
    for remedy, ids in asked.items():
        doable = [fix for fix in remedy.fixes if _is_doable(fix, distribution)]
        left = [fix for fix in doable if _leaves_work(fix, distribution)]
        if left or not doable or len(doable) < len(remedy.fixes):
            part = "(The script does only a part of this.) " if doable else ""
            text = part + _plain(remedy.text)
        elif remedy.by_hand:
            text = _plain(remedy.by_hand)
        else:
            continue
        found[text] = _union(found.get(text, ()), ids)
    return found


def _steps(asked: _Asked, distribution: Distribution) -> tuple[_Step, ...]:
    """Make one step of all fixes that change the same; first those that wait for a reboot."""
    merged: dict[tuple[int, str], tuple[Fix, dict[Remedy, tuple[str, ...]]]] = {}
    for remedy, ids in asked.items():
        for fix in remedy.fixes:
            if _is_doable(fix, distribution):
                before, who = merged.get(_place(fix), (fix, {}))
                merged[_place(fix)] = _merge(before, fix), who | {remedy: ids}
    ordered = sorted(merged.items(), key=lambda item: item[0][0])
    return tuple(_step(fix, who, distribution) for _, (fix, who) in ordered)


def _place(fix: Fix) -> tuple[int, str]:
    """Return what a fix changes: its kind in the order of doing, and the file or unit."""
    kind = _ORDER.index(type(fix))
    match fix:
        case ModuleConfig(name):
            return kind, name
        case LoadModules(modules):
            return kind, modules[0]
        case StopUnit(unit):
            return kind, unit
        case KernelArguments():
            return kind, ""


def _merge(one: Fix, other: Fix) -> Fix:
    match one, other:
        case KernelArguments(), KernelArguments():
            return KernelArguments(_union(one.add, other.add), _union(one.remove, other.remove))
        case ModuleConfig(), ModuleConfig():
            return ModuleConfig(one.name, _union(one.lines, other.lines))
        case LoadModules(), LoadModules():
            return LoadModules(_union(one.modules, other.modules))
        case _:
            return one


def _union(one: Iterable[str], other: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))


def _step(fix: Fix, asked: _Asked, distribution: Distribution) -> _Step:
    match fix:
        case KernelArguments():
            return _kernel_step(fix, asked, distribution.boot)
        case ModuleConfig(name, lines):
            return _config_step(
                f"/etc/modprobe.d/{name}.conf", lines, asked, _rebuild(distribution)
            )
        case LoadModules(modules):
            file = f"/etc/modules-load.d/kgpuctl-{modules[0]}.conf"
            return _Step(
                asked,
                f"Load now, and through {file} at each boot: {' '.join(modules)}",
                (_call("load_modules", file, *modules),),
                _call("take_back", file, "none"),
            )
        case StopUnit(unit):
            title = f"Stop {unit} and keep it from starting again"
            return _Step(asked, title, (_call("stop_unit", unit),), _call("restore_unit", unit))


def _config_step(file: str, lines: tuple[str, ...], asked: _Asked, rebuild: str) -> _Step:
    waiting = "initramfs" if rebuild else "reboot"
    return _Step(
        asked,
        f"Write into {file}: {'; '.join(lines)}" + (f"; then run {rebuild}" if rebuild else ""),
        (_call("add_lines", file, waiting, *lines),),
        _call("take_back", file, waiting),
        waiting,
    )


def _kernel_step(fix: KernelArguments, asked: _Asked, boot: Boot) -> _Step:
    add = " ".join(_one_word_each(fix.add, boot))
    remove = " ".join(word for word in fix.remove if word not in fix.add)
    wishes = (("add", add), ("take off", remove))
    wish = "; ".join(f"{verb} {words}" for verb, words in wishes if words)
    before = (
        "# In this step, one word must hold all values of:",
        f"one_word={shlex.quote(' '.join(_single(boot)))}",
    )
    if boot in _COMMANDS:
        title = f"With {boot}, on the kernel command line: {wish}"
        lines: tuple[str, ...] = (_call("kernel_command", add, remove),)
        return _Step(asked, title, before + lines, "undo_command", "reboot")
    if boot is Boot.FLATCAR_OEM:
        title = f"In /oem/grub.cfg, linux_append: add {add}"
        undo = 'take_back "$(oem_file)" reboot'
        return _Step(asked, title, (*before, _call("oem_words", add)), undo, "reboot")
    edit = BOOT_EDITS[boot]
    where = f"{edit.file}, {edit.variable}" if edit.variable else edit.file
    lines = (_call("kernel_file", edit.file, edit.variable, add, remove),)
    if edit.variable:
        lines += (_call("check_drop_ins", edit.variable, add, remove, edit.command),)
    title = f"In {where}: {wish}; then run {edit.command}"
    return _Step(asked, title, before + lines, _call("take_back", edit.file, "boot"), "boot")


def _one_word_each(words: tuple[str, ...], boot: Boot) -> tuple[str, ...]:
    """Join the values of several checks where only one word of a parameter counts."""
    joined: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in _single(boot):
            joined[word] = word
        elif name in joined:
            values = joined[name].partition("=")[2].split(",")
            joined[name] = f"{name}={','.join(_union(values, value.split(',')))}"
        else:
            joined[name] = word
    return tuple(joined.values())


def _single(boot: Boot) -> tuple[str, ...]:
    return _ONE_WORD_FOR_GRUBBY if boot is Boot.GRUBBY else _ONE_WORD


def _rebuild(distribution: Distribution) -> str:
    """Return the command that rebuilds the initramfs; a read-only root has its own."""
    if distribution.boot is Boot.TRANSACTIONAL:
        return "transactional-update --continue initrd"
    return INITRAMFS.get(distribution.family, "")


def _finishing(steps: tuple[_Step, ...], distribution: Distribution) -> tuple[str, ...]:
    """Return the commands that make changed files count, each once."""
    edit = BOOT_EDITS.get(distribution.boot)
    commands = {"boot": edit.command if edit else "", "initramfs": _rebuild(distribution)}
    waiting = dict.fromkeys(step.waits_for for step in steps)
    return tuple(
        _call("finish", what, *shlex.split(commands[what])) for what in waiting if what in commands
    )


def _header(report: Report, by_hand: _Texts) -> list[str]:
    lines = [
        "#!/bin/sh",
        f"# What kgpuctl {_plain(report.command)} asks for on this host, and on no other:",
        *_wrap(_host(report), "#   "),
        f"# Written by kgpuctl {__version__}, which never runs it. Read it before you do.",
        "#",
        "#   sh FILE         says what it would do, and changes nothing",
        "#   sh FILE apply   does it (as root); a second time it does only what is still to do",
        "#   sh FILE undo    takes it back (as root)",
    ]
    return [*lines, *(["#"] if by_hand else []), *_listed(by_hand, "# ")]


def _listed(by_hand: _Texts, prefix: str) -> list[str]:
    lines = [f"{prefix}To do by hand:"] if by_hand else []
    for text, ids in by_hand.items():
        lines += _wrap(_item(text, ids), f"{prefix}- ", f"{prefix}  ")
    return lines


def _host(report: Report) -> str:
    return _plain(report.subject.lines[0]) if report.subject.lines else "a host without a name"


def _item(text: str, ids: tuple[str, ...]) -> str:
    return f"{', '.join(ids)}: {text}"


def _plain(text: str) -> str:
    """Return the text on one line, without anything that a terminal or an editor would obey."""
    words = " ".join(text.split())
    return "".join("?" if unicodedata.category(sign)[0] == "C" else sign for sign in words)


def _wrap(text: str, first: str, rest: str | None = None) -> list[str]:
    """Break a text into lines that all begin with a prefix: whatever it says stays behind it."""
    head, *tail = wrap(text, _WIDTH - len(first))
    return [f"{first}{head}", *(f"{first if rest is None else rest}{line}" for line in tail)]


def _plan(report: Report, steps: tuple[_Step, ...], by_hand: _Texts) -> list[str]:
    lines = [f"On {_host(report)}, this script would:"]
    if not steps:
        lines = [f"There is nothing that a script can do on {_host(report)}."]
    for number, step in enumerate(steps, 1):
        ids = dict.fromkeys(each for ids in step.asked.values() for each in ids)
        lines += _wrap(f"{step.words}, for {', '.join(ids)}", f"  {number}. ", "     ")
    return ["plan() {", "    cat <<'END'", *lines, *_listed(by_hand, ""), "END", "}"]


def _apply(steps: tuple[_Step, ...], finishing: tuple[str, ...]) -> list[str]:
    """Return the function that does the steps, each below the words of those who ask for it."""
    lines = ["apply() {"]
    for number, step in enumerate(steps, 1):
        lines += _wrap(f"{number}. {step.words}", "    # ", "    #    ")
        for remedy, ids in step.asked.items():
            lines += _wrap(_item(_plain(remedy.text), ids), "    #    ", "    #      ")
        lines += _indent(step.apply)
        if step.needs_reboot and not any(later.needs_reboot for later in steps[number:]):
            lines += _indent(finishing)
    return [*lines, "}"]


def _undo(steps: tuple[_Step, ...], finishing: tuple[str, ...]) -> list[str]:
    return ["undo() {", *_indent(step.undo for step in reversed(steps)), *_indent(finishing), "}"]


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _library(steps: tuple[_Step, ...], boot: Boot) -> Iterator[list[str]]:
    """Yield the blocks of fix_script.sh that the steps use, directly or through one another."""
    text = resources.files("kgpuctl.render").joinpath("fix_script.sh").read_text("utf-8")
    blocks: dict[str, str] = {}
    for block in text.strip().split("\n\n"):
        name = _BLOCK_NAME.search(block)
        if name and name[2] in {None, boot.value}:
            blocks[name[1]] = block
    todo = ["say", *(["needs_root", "conclude"] if steps else [])]
    todo += [line for step in steps for line in (*step.apply, step.undo)]
    todo += ["finish"] if {"boot", "initramfs"} & {step.waits_for for step in steps} else []
    used: set[str] = set()
    while todo:
        new = set(re.findall(r"\w+", todo.pop())) & blocks.keys() - used
        used |= new
        todo += [re.sub(r"(?m)^\s*#.*", "", blocks[name]) for name in new]
    return ([blocks[name]] for name in blocks if name in used)


def _main(steps: tuple[_Step, ...], by_hand: _Texts) -> list[str]:
    if not steps:
        return ['case "$#,${1-}" in', "0, | 1,apply | 1,undo) plan ;;", _USAGE]
    told = ["    say 'What is to be done by hand stands at the top of this script.'"]
    return [
        "changed=no reboot=no left=no",
        'case "$#,${1-}" in',
        "0,)",
        "    plan",
        '    say "Nothing was changed. As root, sh $0 apply does it; sh $0 undo takes it back." ;;',
        *("1,apply)", "    needs_root", "    apply", *(told if by_hand else []), "    conclude ;;"),
        *("1,undo)", "    needs_root", "    undo", "    conclude ;;"),
        _USAGE,
    ]


def _call(*words: str) -> str:
    """Return a shell command of words that are taken as they are."""
    return shlex.join(words)
