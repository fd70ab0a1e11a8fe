"""The entry: `redconnect …` or `python -m config …`; and what a worker's process begins with.

Nothing of `stun`, `relay` and `sfu` may be imported here before it is known which of the two trees they come from.
"""

import sys
from typing import Final

from config import native

# KIND NUMBER DESCRIPTOR: for the supervisors, not for people
RELAY_WORKER: Final = "--relay-worker"
SFU_WORKER: Final = "--sfu-worker"


def main() -> None:
    """Run the command line, or the worker that it names."""
    native.prefer()
    kind = sys.argv[1] if len(sys.argv) > 1 else ""
    if kind == RELAY_WORKER:
        from config import relay_worker

        relay_worker.main(*map(int, sys.argv[2:]))
    elif kind == SFU_WORKER:
        from config import sfu_worker

        sfu_worker.main(*map(int, sys.argv[2:]))
    else:
        from config import cli

        cli.main()


if __name__ == "__main__":
    main()
