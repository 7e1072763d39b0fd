"""`kgpuctl` and `python -m kgpuctl`."""

import sys

from kgpuctl import __version__


def main() -> None:
    """Answer `--version` at once; everything else needs the command line's libraries."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"kgpuctl {__version__}\n")
        return
    from kgpuctl.cli.app import run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
