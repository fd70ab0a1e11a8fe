"""Figures of the signaling service and its page: CPU, memory, and how long people wait for each other.

    make bench-signaling                         # everything; --only talks takes some minutes
    .venv/bin/python -m tests.bench.signaling --rounds 1 --only seats

Everything runs on loopback, needs no root, and ends by itself.
"""

import argparse
import os
from pathlib import Path
from typing import Final

from tests.bench.first_frame import TALKS, print_first_frame
from tests.bench.seats import print_memory
from tests.bench.talks import print_talks

GROUPS: Final = ("talks", "seats", "first-frame")


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of talks and seats; medians are printed")
    parser.add_argument("--pictures", type=int, default=TALKS, help="talks until the first picture, by each path")
    parser.add_argument("--only", choices=GROUPS, help="one group of figures")
    options = parser.parse_args()
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(
        f"rounds: {options.rounds}; kernel {os.uname().release}; {_processor()}, {os.cpu_count()} cores; load {loads}"
    )
    if options.only in (None, "talks"):
        print_talks(options.rounds)
    if options.only in (None, "seats"):
        print_memory(options.rounds)
    if options.only in (None, "first-frame"):
        print_first_frame(options.pictures)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine


if __name__ == "__main__":
    main()
