"""Figures of the relay beside Debian's coturn, measured in the same run with the same generator.

    make bench                                   # everything, about 25 minutes; --rounds 1 takes ten
    .venv/bin/python -m tests.bench.compare_with_coturn --rounds 1 --only packets --allocations 1,100,1000,5000
    .venv/bin/python -m tests.bench.compare_with_coturn --rounds 1 --only packets --framing Send/Data
    .venv/bin/python -m tests.bench.compare_with_coturn --only packets --datapath plain kernel

Three namespaces joined by veth; generator, servers and the threaded receive processing of the network interfaces share
one CPU under real-time scheduling, so that other load moves away and nothing is done for free in another context; for
lossless rates and latency the generator and its interfaces have the other CPU. CPU per packet = run time of the
server's threads plus that of its interfaces' kernel threads. Compare ratios, not figures: the machines that this runs
on are noisy.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.bench.control import allocations, control, start
from tests.bench.memory import memory
from tests.bench.packets import COUNTS, FRAMINGS, packets, streams
from tests.bench.rate import latency, rate
from tests.bench.round_trip import round_trip
from tests.bench.servers import coturn, make_certificate, redconnect, version_of_coturn
from tests.bench.stage import TURNBENCH, Stage
from tests.support.lab import open_lab

GROUPS: Final[dict[str, Callable[[Stage], None]]] = {
    "start": start,
    "packets": packets,
    "tls": streams,
    "control": control,
    "allocations": allocations,
    "rate": rate,
    "latency": latency,
    "round-trip": round_trip,
    "memory": memory,
}


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved repetitions; medians are printed")
    parser.add_argument("--only", choices=GROUPS, help="one group of figures")
    parser.add_argument(
        "--allocations", type=_counts, default=COUNTS, metavar="N,…", help="how many carry the packets over UDP"
    )
    parser.add_argument(
        "--framing", choices=FRAMINGS, nargs="+", default=list(FRAMINGS), help="of the packets over UDP"
    )
    parser.add_argument(
        "--datapath",
        choices=("plain", "kernel"),
        nargs="+",
        default=["plain"],
        help="who relays in redconnect; each is measured beside coturn, one after the other",
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("make bench needs root: it builds network namespaces")
    subprocess.run(["make", "-s", "-C", str(TURNBENCH)], check=True)
    reference = version_of_coturn()
    with tempfile.TemporaryDirectory() as name, open_lab() as lab:
        folder = Path(name)
        make_certificate(folder)
        print(f"reference: {reference}; rounds: {options.rounds}; kernel {os.uname().release}; {_processor()}")
        for datapath in options.datapath:
            print(f"\n## redconnect with relay.datapath: {datapath}")
            targets = (coturn(lab, folder), redconnect(lab, folder, datapath))
            stage = Stage(lab, targets, options.rounds, reference, options.allocations, options.framing)
            for group, measure in GROUPS.items():
                if options.only in (None, group):
                    measure(stage)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine


if __name__ == "__main__":
    main()
