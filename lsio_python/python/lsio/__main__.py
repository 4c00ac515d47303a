"""The command line: ``python -m lsio`` is the program ``lsio``."""

from __future__ import annotations

import signal
import sys

from . import _lsio


def main() -> int:
    """Run the command line with the arguments of the process, and return its exit code."""
    # The command line takes over Ctrl-C, as where there is no Python, and would pass it on to Python's handler.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _lsio.command_line(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
