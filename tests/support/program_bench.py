"""A kernel program that frames are put through one by one, in a network namespace with real routes and neighbours."""

import contextlib
import struct
import time
from collections.abc import Iterator
from typing import Final

from relay.datapath import Drop, Limits
from relay.io.datapath.bpf.program import Hook, KernelProgram, Kind, Onward, Passed, Way
from stun import attributes
from stun.address import TransportAddress
from stun.message import decode_message, encode_message
from stun.registry import MessageClass, Method
from tests.support.frames import Datagram, decode_frame, encode_frame
from tests.support.lab import open_lab
from tests.support.program_run import Outcome, Verdict, run

SLOT: Final = 3
OTHER_SLOT: Final = 5
NUMBER: Final = 0x4001
OTHER_NUMBER: Final = 0x4ABC
ID: Final = bytes(range(12))
MOST_FLOWS: Final = 64
SIZES: Final = (0, 1, 2, 3, 4, 5, 6, 7, 160, 1100)
MTU: Final = 1500


def address(ip: str, port: int) -> TransportAddress:
    """A transport address out of its text."""
    return TransportAddress.parse(ip, port)


class Addresses:
    """Who talks to whom, in one family on each side of the relay."""

    def __init__(self, client_side: int, peer_side: int) -> None:
        client, listener = {4: ("10.91.1.2", "10.91.1.1"), 6: ("fd91:1::2", "fd91:1::1")}[client_side]
        peer, relay = {4: ("10.91.2.2", "10.91.2.1"), 6: ("fd91:2::2", "fd91:2::1")}[peer_side]
        self.client, self.listener = address(client, 1111), address(listener, 3478)
        self.peer, self.relayed = address(peer, 2222), address(relay, 50000)
        # Another client, on the peers' side, and its relayed transport address.
        self.other_relayed = address(relay, 50001)
        self.other_client, self.other_listener = address(peer, 4444), address(relay, 3478)


FAMILIES: Final = {"4": Addresses(4, 4), "6": Addresses(6, 6), "4to6": Addresses(4, 6), "6to4": Addresses(6, 4)}


class Bench:
    """A program that no interface is attached to, and its flows."""

    def __init__(self, program: KernelProgram) -> None:
        self.program = program
        self.is_tcx = program.hook is Hook.TCX
        self._dropped = program.drops()

    def run(self, datagram: Datagram) -> Outcome:
        """Put a datagram through."""
        return run(self.program, encode_frame(datagram))

    def relays(self, datagram: Datagram) -> Datagram:
        """What leaves when this comes in; it has to leave."""
        outcome = self.run(datagram)
        assert outcome.verdict is Verdict.ON
        return decode_frame(outcome.frame)

    def count_relayed(self, datagram: Datagram, count: int) -> int:
        """How many of so many leave; the others have to be dropped."""
        verdicts = [self.run(datagram).verdict for _ in range(count)]
        assert set(verdicts) <= {Verdict.ON, Verdict.DROPPED}
        return verdicts.count(Verdict.ON)

    def passes_up(self, frame: bytes, reason: Passed | None, *, gso_size: int = 0) -> None:
        """Assert that the frame goes up unchanged, and that this reason is counted; None: nothing is."""
        before = self.program.passed()
        outcome = run(self.program, frame, gso_size=gso_size)
        assert outcome == (Verdict.UP, frame)
        after = self.program.passed()
        assert {key for key in after if after[key] != before[key]} == ({reason.value} if reason else set())

    def drops(self) -> dict[Drop, int]:
        """What was dropped since the bench was made."""
        return {drop: count - self._dropped[drop] for drop, count in self.program.drops().items()}

    def call(self, who: Addresses, *, number: int = NUMBER, until: int | None = None) -> None:
        """Set all flows between a client and a peer; with number 0 the client gets Data indications."""
        until = later() if until is None else until
        to_peer = Onward(who.relayed, who.peer, 0, SLOT, until)
        to_client = Onward(who.listener, who.client, number, SLOT, until)
        self.program.set_flow(Way(Kind.CHANNEL, who.client, who.listener, NUMBER), to_peer)
        self.program.set_flow(Way(Kind.SEND, who.client, who.listener, peer=who.peer), to_peer)
        self.program.set_flow(Way(Kind.PEER, who.peer, who.relayed), to_client)

    def clear(self) -> None:
        """Remove all flows and zero the slots."""
        for way in self.program.flows():
            self.program.remove_flow(way)
        for slot in (SLOT, OTHER_SLOT):
            self.program.open_slot(slot, Limits())


@contextlib.contextmanager
def open_benches() -> Iterator[dict[Hook, Bench]]:
    """A bench for each hook. The calling thread is in the namespace of a lab's server meanwhile."""
    with open_lab() as lab, contextlib.ExitStack() as opened:
        for family in ("ipv4", "ipv6"):  # for XDP, whose frames come in over the loopback interface here
            lab.run(lab.server, "sysctl", "-qw", f"net.{family}.conf.lo.forwarding=1")
        for link, number in ((lab.alice_link, 1), (lab.bob_link, 2)):
            for ip in (f"10.91.{number}.2", f"fd91:{number}::2"):
                words = ("ip", "neigh", "replace", ip, "lladdr", "02:00:00:00:00:02", "dev", link, "nud", "permanent")
                assert lab.run(lab.server, *words).returncode == 0
        opened.enter_context(lab.inside(lab.server))
        benches = {}
        for hook in Hook:
            program = KernelProgram.load([], flows=MOST_FLOWS, slots=16, hook=hook)
            opened.callback(program.close)
            benches[hook] = Bench(program)
        yield benches


def later() -> int:
    """An expiry that no test lives to see."""
    return time.monotonic_ns() + 3600 * 10**9


def pattern(size: int) -> bytes:
    """Data, for each size another."""
    return bytes((7 * at + size) & 0xFF for at in range(size))


def channel_data(data: bytes, *, number: int = NUMBER, padding: bytes = b"") -> bytes:
    """A ChannelData message, and what may lie behind it."""
    return struct.pack("!HH", number, len(data)) + data + padding


def send_indication(data: bytes, peer: TransportAddress, *, padding: int = 0, fingerprint: bool = False) -> bytes:
    """A Send indication as browsers send it; each byte of padding is `padding`."""
    packed = (attributes.XOR_PEER_ADDRESS.pack(peer, ID), attributes.DATA.pack(data))
    message = encode_message(Method.SEND, MessageClass.INDICATION, ID, packed, fingerprint=fingerprint)
    filling = -len(data) & 3
    return message[: len(message) - filling] + bytes([padding]) * filling if filling and not fingerprint else message


def data_of(message: bytes) -> tuple[bytes, TransportAddress, bytes]:
    """Data, peer and transaction ID of a Data indication that is exactly as our own codec writes it."""
    decoded = decode_message(message)
    data, peer = decoded.get(attributes.DATA), decoded.get(attributes.XOR_PEER_ADDRESS)
    assert data is not None
    assert peer is not None
    packed = (attributes.XOR_PEER_ADDRESS.pack(peer, decoded.transaction_id), attributes.DATA.pack(data))
    assert message == encode_message(Method.DATA, MessageClass.INDICATION, decoded.transaction_id, packed)
    return data, peer, decoded.transaction_id
