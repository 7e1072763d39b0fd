"""`kgpuctl` and `python -m kgpuctl`."""

import gc
import os
import signal
import sys

from kgpuctl import __version__
from kgpuctl.errors import StepError
from kgpuctl.stdout import INTERRUPTED, complain, write


def main() -> None:
    """Answer `--version` at once; everything else needs the command line's libraries."""
    gc.set_threshold(200_000)  # collecting at Python's default of 700 costs a sixth of a run
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored: nohup
        signal.signal(signal.SIGINT, _leave)
    try:
        if sys.argv[1:] != ["--version"]:
            from kgpuctl.cli.app import run  # noqa: PLC0415

            sys.exit(run())
        write(f"kgpuctl {__version__}\n")
    except StepError as error:
        complain(f"error: {error.message}\n")
        sys.exit(error.exit_code)


def _leave(*_: object) -> None:
    """End at once: while nothing is being written there is nothing to clean up.

    A KeyboardInterrupt in the middle of an import would come out as any other exception.
    """
    complain(INTERRUPTED)
    os._exit(130)


if __name__ == "__main__":
    main()
