"""Doubles around the plain forwarding plane: a clock, links that are queues, and clients that speak through them."""

import asyncio

from relay.datapath import Drop, RelayAddress, Traffic
from relay.five_tuple import FiveTuple, Transport
from relay.io.clients import Buffer, ClientRelay
from relay.io.datapath.datagrams import MAX_DATAGRAM
from relay.io.datapath.indications import HEADROOM
from relay.io.datapath.plain import PlainDataPath
from relay.io.datapath.relayed_client import RelayedClient
from relay.io.datapath.segments import SocketAddress
from stun.address import TransportAddress
from stun.attributes import DATA, XOR_PEER_ADDRESS
from stun.demux import decode_channel_data, encode_channel_data
from stun.message import Message, decode_message
from stun.registry import MessageClass, Method
from tests.support.ports import free_port
from tests.support.turn_client import indication
from tests.support.udp_endpoint import PATIENCE

NUMBER = 0x4000
LONG = 10_000.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class QueueLink:
    """What a relay sends to a client waits in order."""

    def __init__(self, *, pads: bool = False) -> None:
        self.pads = pads
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.bursts: list[list[int]] = []  # sizes of the messages in each
        self.failure: OSError | None = None

    def send(self, message: Buffer) -> None:
        if self.failure is not None:
            raise self.failure
        self.inbox.put_nowait(bytes(message))

    def send_burst(self, messages: Buffer, size: int) -> None:
        if self.failure is not None:
            raise self.failure
        cut = [bytes(messages[at : at + size]) for at in range(0, len(messages), size)]
        self.bursts.append([len(message) for message in cut])
        for message in cut:
            self.inbox.put_nowait(message)


class Clients:
    """Plays the listeners."""

    def __init__(self) -> None:
        self.relays: dict[FiveTuple, ClientRelay] = {}
        self.links: dict[FiveTuple, QueueLink] = {}
        self.gone = False
        self.pads = False

    def link(self, path: FiveTuple) -> QueueLink:
        if self.gone:
            raise KeyError(path)
        return self.links.setdefault(path, QueueLink(pads=self.pads))

    def attach(self, path: FiveTuple, relay: ClientRelay) -> None:
        self.relays[path] = relay

    def detach(self, path: FiveTuple) -> None:
        del self.relays[path]


class Client:
    """One client of the plane, with an open relay."""

    def __init__(
        self,
        plane: PlainDataPath,
        clients: Clients,
        clock: Clock,
        host: str,
        port: int,
        path: FiveTuple | None = None,
        circle: str = "",
    ) -> None:
        self.plane, self.clock, self.clients = plane, clock, clients
        self.path = path or path_of(port)
        ip = TransportAddress.parse(host, 0).ip
        self.address = (host, free_port())
        self.handle = plane.open_relay(self.path, RelayAddress(ip, ip), self.address[1], clock.now + LONG, circle)

    @property
    def relay(self) -> ClientRelay:
        return self.clients.relays[self.path]

    @property
    def link(self) -> QueueLink:
        return self.clients.links[self.path]

    @property
    def traffic(self) -> Traffic:
        return self.plane.traffic(self.handle)

    def permit(self, peer: tuple[str, int], seconds: float = LONG) -> None:
        self.plane.allow_peer(self.handle, transport(peer).ip, self.clock.now + seconds)

    def bind(self, peer: tuple[str, int], number: int = NUMBER, seconds: float = LONG) -> None:
        self.permit(peer)
        self.plane.bind_channel(self.handle, number, transport(peer), self.clock.now + seconds)

    def send(self, *messages: bytes) -> list[bool]:
        """What a listener does with messages that came at once; says which of them the relay took."""
        buffer = memoryview(b"before it" + b"".join(messages) + b"behind it lies something else")
        at, taken = len(b"before it"), []
        for message in messages:
            taken.append(self.relay.from_client(buffer, at, at + len(message), self.clock.now))
            at += len(message)
        self.relay.flush()
        return taken

    def send_alone(self, message: bytes) -> bool:
        """What a listener does with a message that came alone."""
        relay, view = self.relay, memoryview(bytearray(message + b"behind it"))
        return relay.relay_one(view, len(message), int.from_bytes(view[:4]), self.clock.now)

    def hear(self, payload: bytes, sender: SocketAddress) -> None:
        """What a relay socket does with a payload, the sender's address being the very same object each time."""
        relay = self.plane._relays[self.handle]
        relay._board.views[0][HEADROOM : HEADROOM + len(payload)] = payload
        relay.deliver(0, len(payload), 0, sender, self.clock.now)

    def send_joined(self, *messages: bytes) -> bool:
        """What a listener does with messages of equal size, the last may be shorter, that the kernel has joined."""
        relay, run = self.relay, b"".join(messages)
        assert isinstance(relay, RelayedClient)
        view = memoryview(bytearray(run + b"\xff" * (MAX_DATAGRAM - len(run))))
        return relay.relay_run(view, len(run), len(messages[0]), int.from_bytes(run[:4]), self.clock.now)

    def send_channel(self, *payloads: bytes, number: int = NUMBER) -> None:
        assert all(self.send(*(encode_channel_data(number, data) for data in payloads)))

    def send_indication(self, data: bytes, peer: tuple[str, int]) -> bool:
        return self.send(send_to(peer, data))[0]

    async def receive(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.link.inbox.get()

    async def receive_channel(self) -> tuple[int, bytes]:
        return decode_channel_data(await self.receive())

    async def receive_message(self) -> Message:
        message = decode_message(await self.receive())
        assert (message.method, message.message_class) == (Method.DATA, MessageClass.INDICATION)
        return message

    async def receive_data(self) -> tuple[TransportAddress | None, bytes | None]:
        message = await self.receive_message()
        return message.get(XOR_PEER_ADDRESS), message.get(DATA)


class WatchedDrops(dict[Drop, int]):
    """The plane's counters of drops, which tell whoever waits for one."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(Drop, 0))
        self.changed = asyncio.Event()

    def __setitem__(self, reason: Drop, count: int) -> None:
        super().__setitem__(reason, count)
        self.changed.set()


def watch_drops(plane: PlainDataPath) -> None:
    """Replace the plane's counters by watched ones."""
    plane._board.drops = WatchedDrops()


async def until_dropped(plane: PlainDataPath, reason: Drop, count: int) -> None:
    """Wait until so many packets have been dropped for this reason."""
    drops = plane.drops
    assert isinstance(drops, WatchedDrops)
    async with asyncio.timeout(PATIENCE):
        while drops[reason] < count:
            drops.changed.clear()
            await drops.changed.wait()


def send_to(peer: tuple[str, int], data: bytes, *, fingerprint: bool = False) -> bytes:
    """A Send indication."""
    return indication(Method.SEND, (XOR_PEER_ADDRESS, transport(peer)), (DATA, data), fingerprint=fingerprint)


def transport(address: tuple[str, int]) -> TransportAddress:
    return TransportAddress.parse(*address)


def path_of(port: int, kind: Transport = Transport.UDP) -> FiveTuple:
    """A client's five-tuple."""
    return FiveTuple(kind, TransportAddress.parse("192.0.2.9", 3478), TransportAddress.parse("192.0.2.1", port))
