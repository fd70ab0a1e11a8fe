"""A forwarding plane between two network namespaces: real listener, real relay sockets, real links at both ends.

Everything runs in one process. What the kernel relays arrives although no event loop runs; what user space relays waits
until `quiet` lets it run.
"""

import asyncio
import contextlib
import os
import select
import socket
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.datapath import Limits, RelayAddress
from relay.five_tuple import FiveTuple, Transport
from relay.io.clients import ClientLink, ClientRelay
from relay.io.datapath.bpf.program import KernelProgram
from relay.io.datapath.choice import Offer
from relay.io.datapath.kernel import Kernel, KernelDataPath
from relay.io.datapath.plain import PlainDataPath
from relay.io.datapath.switchboard import BUSY_PACKETS
from relay.io.poller import Poller
from relay.io.udp import UdpListener
from stun.address import TransportAddress
from stun.demux import encode_channel_data
from tests.support.lab import Lab, open_lab
from tests.support.plane import send_to
from tests.support.ports import free_port

LIVES: Final = 600.0  # seconds
NUMBER: Final = 0x4001
PATIENCE: Final = 20.0  # seconds; what takes longer is lost
# Packets after which a flow has been busy, whatever else the relay carries: one of a peer only after its client's.
WARMING: Final = 3 * BUSY_PACKETS
SPARE: Final = 1 << 12  # bytes beyond what any datagram of a test has

Address = tuple[str, int]


class Ends(NamedTuple):
    """Addresses of one family in the lab."""

    server: str  # where clients reach it
    relay: str  # where peers do
    client: str
    peer: str


IPV4: Final = Ends("10.91.1.1", "10.91.2.1", "10.91.1.2", "10.91.2.2")
IPV6: Final = Ends("fd91:1::1", "fd91:2::1", "fd91:1::2", "fd91:2::2")


@contextlib.contextmanager
def open_wire() -> Iterator[Lab]:
    """A lab whose ends send finished checksums, as on a wire; this process stays on one CPU, so order is kept."""
    before = os.sched_getaffinity(0)
    with open_lab() as lab:
        for namespace, device in ((lab.alice, f"{lab.alice}0"), (lab.bob, f"{lab.bob}0")):
            done = lab.run(namespace, "ethtool", "-K", device, "tx", "off")
            assert done.returncode == 0, done.stderr
        os.sched_setaffinity(0, {min(before)})
        try:
            yield lab
        finally:
            os.sched_setaffinity(0, before)


class Client:
    """A client's socket, and its allocation."""

    def __init__(self, rig: "Rig", circle: str = "") -> None:
        self.rig = rig
        self.socket = rig.at_client()
        self.path = rig.path_of(self.socket)
        ip = TransportAddress.parse(rig.ends.relay, 0).ip
        with rig.lab.inside(rig.lab.server):
            self.relayed = (rig.ends.relay, free_port())
            expires_at = time.monotonic() + LIVES
            self.handle = rig.plane.open_relay(self.path, RelayAddress(ip, ip), self.relayed[1], expires_at, circle)

    def permit(self, peer: Address, seconds: float = LIVES) -> None:
        self.rig.plane.allow_peer(self.handle, TransportAddress.parse(*peer).ip, time.monotonic() + seconds)

    def bind(self, peer: Address, number: int = NUMBER, seconds: float = LIVES) -> None:
        self.permit(peer)
        self.rig.plane.bind_channel(self.handle, number, TransportAddress.parse(*peer), time.monotonic() + seconds)

    def send(self, message: bytes) -> None:
        self.socket.sendto(message, self.rig.listening)

    def send_channel(self, data: bytes, number: int = NUMBER) -> None:
        self.send(encode_channel_data(number, data))

    def send_indication(self, data: bytes, peer: Address) -> None:
        self.send(send_to(peer, data))


class Rig:
    """A plane with its listener in the server's namespace."""

    def __init__(self, lab: Lab, kind: str, ends: Ends, *, limits: Limits = Limits(), flows: int = 256) -> None:  # noqa: B008
        """Build it.

        Args:
            lab: of `open_wire`.
            kind: plain or kernel.
            ends: whose family is relayed.
            limits: of each allocation.
            flows: that the kernel has room for.
        """
        self.lab, self.ends = lab, ends
        self.poller = Poller(asyncio.get_running_loop())
        self.passed_up: list[bytes] = []
        self._opened = contextlib.ExitStack()
        own = frozenset({TransportAddress.parse(ends.relay, 0).ip})
        self.kernel: KernelDataPath | None = None
        with lab.inside(lab.server):
            if kind == "kernel":
                offer = Offer((lab.alice_link, lab.bob_link), flows)
                program = KernelProgram.load(offer.interfaces, flows=flows, slots=offer.slots)
                local = own | {TransportAddress.parse(ends.server, 0).ip}
                kernel = Kernel(program, offer, frozenset(local))
                self.plane: PlainDataPath = KernelDataPath(self.poller, own, self, kernel=kernel, limits=limits)
                assert isinstance(self.plane, KernelDataPath)
                self.kernel = self.plane
            else:
                self.plane = PlainDataPath(self.poller, own, self, limits=limits)
            sock = _open(ends.server)
            sock.setblocking(False)  # noqa: FBT003  # its only argument
            self.listening: Address = sock.getsockname()[:2]
            self._sock = sock
            self.listener = UdpListener(
                self.poller,
                TransportAddress.parse(*self.listening),
                sock,
                self.plane.drops,
                lambda data, _path: self.passed_up.append(data),
                joins_runs=self.plane.joins_runs,
            )
        self._witness = self.client()
        self._witness_peer = self.peer()
        self._witness.permit(self.address_of(self._witness_peer))
        self._marks = 0

    # As `relay.io.clients.Links`

    def link(self, path: FiveTuple) -> ClientLink:
        return self.listener.link(path.client)

    def attach(self, path: FiveTuple, relay: ClientRelay) -> None:
        self.listener.attach(path, relay)

    def detach(self, path: FiveTuple) -> None:
        self.listener.detach(path.client)

    def client(self, circle: str = "") -> Client:
        return Client(self, circle)

    def peer(self) -> socket.socket:
        """Another peer's socket."""
        with self.lab.inside(self.lab.bob):
            return self._opened.enter_context(_open(self.ends.peer))

    def at_client(self) -> socket.socket:
        """Another socket where clients are."""
        with self.lab.inside(self.lab.alice):
            return self._opened.enter_context(_open(self.ends.client))

    def path_of(self, client: socket.socket) -> FiveTuple:
        return FiveTuple(
            Transport.UDP, TransportAddress.parse(*self.listening), TransportAddress.parse(*self.address_of(client))
        )

    @staticmethod
    def address_of(sock: socket.socket) -> Address:
        name: Address = sock.getsockname()[:2]
        return name

    async def quiet(self) -> None:
        """Let user space relay all that has been sent so far, in both directions."""
        if self.kernel is not None:  # marks have to wait behind what user space still has to do
            self.kernel.offload.release(self.plane._relays[self._witness.handle], time.monotonic())
        self._marks += 1
        mark = b"mark %d" % self._marks
        self._witness.send_indication(mark, self.address_of(self._witness_peer))
        self._witness_peer.sendto(mark, self._witness.relayed)
        for sock in (self._witness_peer, self._witness.socket):
            await _until_readable(sock)
            while sock not in select.select([sock], [], [], 0)[0] or mark not in sock.recv(SPARE):
                await _until_readable(sock)
        sockets = [self._sock, *(relay.sock for relay in self.plane._relays.values())]
        while select.select(sockets, [], [], 0)[0]:
            await _turn()

    async def turn(self) -> None:
        """Let user space serve what is ready, once."""
        await _turn()

    async def warm(self, client: Client, peer: socket.socket, *, channel: bool) -> None:
        """Make the flows between a client and a peer busy, and forget the packets."""
        address = self.address_of(peer)
        for _ in range(WARMING):
            if channel:
                client.send_channel(b"warming")
            else:
                client.send_indication(b"warming", address)
            peer.sendto(b"warming", client.relayed)
            await self.quiet()
        heard(client.socket), heard(peer)

    def carried(self, *clients: Client) -> int:
        """Packets that the kernel has relayed for these clients; 0 without it."""
        if self.kernel is None:
            return 0
        offload = self.kernel.offload
        offload.settle_all(time.monotonic())
        found = [offload._carried[client.handle].counted for client in clients if client.handle in offload._carried]
        return sum(traffic.packets_to_client + traffic.packets_to_peer for traffic in found)

    def close(self) -> None:
        for handle in list(self.plane._relays):
            self.plane.close_relay(handle)
        if self.kernel is not None:
            assert list(self.kernel.offload._program.flows()) == [], "flows were left in the kernel"
            self.kernel.close()
        self.listener.close()
        assert len(self.poller) == 0
        self.poller.close()
        self._opened.close()


def heard(sock: socket.socket) -> list[tuple[bytes, Address]]:
    """All that has arrived at a socket, and from where."""
    found = []
    while select.select([sock], [], [], 0)[0]:
        data, sender = sock.recvfrom(1 << 16)
        found.append((data, sender[:2]))
    return found


def await_one(sock: socket.socket) -> tuple[bytes, Address]:
    """What arrives next, without any event loop: user space relays nothing meanwhile."""
    sock.settimeout(PATIENCE)
    data, sender = sock.recvfrom(1 << 16)
    return data, sender[:2]


async def _turn() -> None:
    """Let the loop serve what is ready, once."""
    await asyncio.sleep(0)


async def _until_readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, tell)
    try:
        async with asyncio.timeout(PATIENCE):
            await ready
    finally:
        loop.remove_reader(sock)


def _open(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock
