"""`kgpuctl` and `python -m kgpuctl`."""

import sys

from kgpuctl import __version__
from kgpuctl.errors import StepError
from kgpuctl.stdout import INTERRUPTED, complain, write


def main() -> None:
    """Answer `--version` at once; everything else needs the command line's libraries."""
    try:
        if sys.argv[1:] != ["--version"]:
            from kgpuctl.cli.app import run  # noqa: PLC0415

            sys.exit(run())
        write(f"kgpuctl {__version__}\n")
    except StepError as error:
        complain(f"error: {error.message}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        complain(INTERRUPTED)
        sys.exit(130)


if __name__ == "__main__":
    main()
