"""A process that has the kernel program attached, with one flow, until it is killed; started in a namespace."""

import sys

from relay.datapath import Limits
from relay.io.datapath.bpf.program import Hook, KernelProgram, Kind, OffloadUnavailable, Onward, Way
from tests.support.program_bench import FAMILIES, NUMBER, SLOT, later


def main() -> None:
    """Attach to the interfaces that are named after the hook, say so, and wait for the end of standard input."""
    hook, *interfaces = sys.argv[1:]
    try:
        program = KernelProgram.load(interfaces, flows=64, slots=16, hook=Hook(hook))
    except OffloadUnavailable as reason:
        sys.exit(str(reason))
    who = FAMILIES["4"]
    program.open_slot(SLOT, Limits())
    way = Way(Kind.CHANNEL, who.client, who.listener, NUMBER)
    program.set_flow(way, Onward(who.relayed, who.peer, 0, SLOT, later()))
    sys.stdout.write("attached\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
