#!/bin/sh
# Install kgpuctl for the user who runs this, or with --dev what its tests need.
#
#   sh install.sh         a virtual environment in ~/.local/share/kgpuctl, a link in ~/.local/bin
#   sh install.sh --dev   .venv in this directory, as uv.lock says, and the programs of the tests
#   sh install.sh --ci    what `nox -s vm`, `nox -s bench` and `nox -s cluster` need on top: QEMU,
#                         parts of a small initramfs, kubectl, setpriv. Go is not installed: where
#                         there is none, `nox -s cluster` says so and skips
#
# It asks the distribution's package manager only for what is missing, and says so.
set -eu

cd "$(dirname "$0")"

say() { printf 'install.sh: %s\n' "$*" >&2; }

die() {
    say "$1"
    say "try: $2"
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        say "running with sudo: $*"
        sudo "$@"
    else
        return 1
    fi
}

# packages DEBIAN-NAMES FEDORA-NAMES: install distribution packages, by their names on each.
packages() {
    if command -v apt-get >/dev/null; then
        say "installing Debian packages: $1"
        # shellcheck disable=SC2086  # a list of names
        as_root sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null' sh $1
    elif command -v dnf >/dev/null; then
        say "installing Fedora packages: $2"
        # shellcheck disable=SC2086
        as_root dnf install -y -q $2
    else
        return 1
    fi
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$python" >/dev/null && is_new_enough "$python"; then
            command -v "$python"
            return
        fi
    done
    return 1
}

# make_venv DIR: make a virtual environment with pip in it.
make_venv() {
    if ! python=$(find_python); then
        packages "python3.11 python3.11-venv" "python3" || true
        python=$(find_python) || die "there is no Python 3.11 or later." "install one."
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        packages "$(basename "$(readlink -f "$python")")-venv" "python3" ||
            die "this Python cannot make virtual environments." "install its venv package."
    fi
    "$python" -m venv "$1"
}

# need PROGRAM DEBIAN-PACKAGE FEDORA-PACKAGE: collect the packages of missing programs.
debian=
fedora=
need() {
    command -v "$1" >/dev/null && return
    debian="$debian $2"
    fedora="$fedora $3"
}

install_needed() {
    [ -n "$debian" ] || return 0
    packages "$debian" "$fedora" || say "could not install$debian: the tests that need them are skipped."
}

install_user() {
    home=${XDG_DATA_HOME:-$HOME/.local/share}/kgpuctl
    bin=$HOME/.local/bin
    make_venv "$home"
    "$home/bin/python" -m pip install -q --disable-pip-version-check --upgrade . ||
        die "pip could not install kgpuctl." "see what it says above."
    mkdir -p "$bin"
    ln -sf "$home/bin/kgpuctl" "$bin/kgpuctl"
    say "installed $("$bin/kgpuctl" --version) as $bin/kgpuctl"
}

install_dev() {
    need shellcheck shellcheck ShellCheck
    need busybox busybox-static busybox
    need openssl openssl openssl
    install_needed
    [ -x .venv/bin/python ] || make_venv .venv
    [ -x .venv/bin/uv ] || .venv/bin/python -m pip install -q --disable-pip-version-check uv
    VIRTUAL_ENV='' .venv/bin/uv sync -q --locked --compile-bytecode
    say "installed the development environment in .venv"
}

install_ci() {
    need qemu-system-x86_64 qemu-system-x86 qemu-system-x86-core
    need busybox busybox-static busybox
    need depmod kmod kmod
    need kubectl kubernetes-client kubernetes-client
    need setpriv util-linux util-linux
    install_needed
}

case ${1-} in
'') install_user ;;
--dev) install_dev ;;
--ci) install_ci ;;
*) die "there is no option $1." "sh install.sh, sh install.sh --dev, or sh install.sh --ci" ;;
esac
