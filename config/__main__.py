"""The entry: `redconnect …` or `python -m config …`; and what a relay worker's process begins with.

Nothing of `stun` and `relay` may be imported here before it is known which of the two trees they come from.
"""

import sys
from typing import Final

from config import native

RELAY_WORKER: Final = "--relay-worker"  # NUMBER DESCRIPTOR: for the supervisor, not for people


def main() -> None:
    """Run the command line, or the worker that it names."""
    native.prefer()
    if sys.argv[1:2] == [RELAY_WORKER]:
        from config import worker

        worker.main(*map(int, sys.argv[2:]))
    else:
        from config import cli

        cli.main()


if __name__ == "__main__":
    main()
