"""The command `npllm`, and `python -m npllm`.

A signal during the imports, which take half a second, ends the process without a traceback.
"""

import os
import sys

from npllm.utils.signals import exit_on_signals


def main() -> int:
    """Import the command line and run it; return the exit status."""
    exit_on_signals()
    _open_closed_streams()
    from npllm.cli.main import main as run

    return run()


def _open_closed_streams() -> None:
    """Open /dev/null for each standard stream that is closed (`>&-`): the next file would get its descriptor."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
