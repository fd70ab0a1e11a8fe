"""One row: connect, TLS, Binding, Allocate, echo. Each step is entered as it happens: a row cut short is true."""

import asyncio
import ipaddress
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from check.conversation import TRANSACTION_ID_BYTES, Answer, Conversation, PeerData
from check.echo import (
    PACKETS_PER_SECOND,
    PAYLOAD_BYTES,
    TOKEN_BYTES,
    EchoSeries,
)
from check.echo import SECONDS as ECHO_SECONDS
from check.findings import EchoFinding, EchoWay, Outcome, RelayedPort, Row, Step, TlsFinding
from check.io.dial import Streams, close, connect, outcome_of, secure
from check.io.links import Link, open_datagram_link, open_stream_link
from check.io.path_size import find_largest_packet
from check.io.peer import Peer
from check.plan import Family, Purpose, Transport
from stun.address import TransportAddress
from stun.credentials import Credential

MAX_ALLOCATIONS: Final = 4  # at a time and family: what a credential of a connection test may hold
OPENING_SECONDS: Final = 0.9  # for a first packet through the relay
OPENING_EVERY_SECONDS: Final = 0.15
LINGER_SECONDS: Final = 0.6  # for the last packets to come back
MIN_ECHO_SECONDS: Final = 1.0  # a shorter series says nothing
TURN_ALPN: Final = ("stun.turn",)
PAGES_ALPN: Final = ("http/1.1",)
_UNAUTHENTICATED: Final = 401
_STALE_NONCE: Final = 438
_FAMILY_NOT_SUPPORTED: Final = 440
_FAMILY_NUMBERS: Final = {Family.IPV4: 0x01, Family.IPV6: 0x02}


@dataclass
class Surroundings:
    """What the rows of one run share."""

    deadline: float  # of the monotonic clock, in seconds
    credentials: Mapping[Family, Credential] = field(default_factory=dict)
    fingerprints: frozenset[str] = frozenset()
    peers: dict[Family, Peer] = field(default_factory=dict)
    learning: dict[Family, "asyncio.Task[None]"] = field(default_factory=dict)
    slots: dict[Family, asyncio.Semaphore] = field(
        default_factory=lambda: {family: asyncio.Semaphore(MAX_ALLOCATIONS) for family in Family}
    )
    seen_as: dict[Family, str] = field(default_factory=dict)

    @property
    def remaining(self) -> float:
        """Seconds until all must have ended."""
        return self.deadline - time.monotonic()


async def probe(row: Row, around: Surroundings) -> None:
    """Try everything that a row of a STUN or TURN server has."""
    link = await _open(row, around)
    if link is None:
        return
    try:
        await _bind(row, link, around)
        if row.transport is Transport.UDP and row.binding is not None and row.binding.outcome is Outcome.OK:
            await _measure_and_relay(row, link, around)
        else:
            await _relay(row, link, around)
    finally:
        await link.close()


async def open_secured(row: Row, alpn: tuple[str, ...], fingerprints: frozenset[str]) -> Streams | None:
    """Connect a row by TCP, and by TLS where it says so; enters both. None if it cannot be used."""
    row.connect = Step(Outcome.TIMED_OUT)
    row.connect, streams = await connect(row.address, row.port)
    if streams is None or row.transport is not Transport.TLS:
        return streams
    is_usable = await _shake_hands(row, streams, alpn, verify=True)
    if row.tls is not None and row.tls.chain_problem:
        # Once more: whose certificate is it, and does the port work apart from it?
        problem = row.tls.chain_problem
        _, streams = await connect(row.address, row.port)
        if streams is None:
            return None
        is_usable = await _shake_hands(row, streams, alpn, verify=False)
        row.tls.chain_problem = problem
    if fingerprints and row.tls is not None and row.tls.sha256:
        row.tls.is_own = row.tls.sha256 in fingerprints
    return streams if is_usable else None


async def _shake_hands(row: Row, streams: Streams, alpn: tuple[str, ...], *, verify: bool) -> bool:
    """Enter a TLS handshake; whether the connection may be used. If not, or when cut short, it is closed."""
    row.tls, is_usable = TlsFinding(Outcome.TIMED_OUT), False
    try:
        row.tls, is_usable = await secure(streams, row.host, alpn, verify=verify)
    finally:
        if not is_usable:
            await close(streams)
    return is_usable


async def _open(row: Row, around: Surroundings) -> Link | None:
    conversation = Conversation(around.credentials.get(row.family))
    if row.transport is Transport.UDP:
        try:
            return await open_datagram_link(row.address, row.port, conversation)
        except OSError as error:
            row.binding = Step(outcome_of(error))
            return None
    streams = await open_secured(row, TURN_ALPN, around.fingerprints)
    return None if streams is None else open_stream_link(streams, conversation)


async def _measure_and_relay(row: Row, link: Link, around: Surroundings) -> None:
    """Over UDP the size of packets is measured besides; no task of it is left when the row is cut short."""
    measuring = asyncio.ensure_future(find_largest_packet(row.address, row.port, row.family))
    try:
        await _relay(row, link, around)
        row.largest_packet_bytes = await measuring
    finally:
        measuring.cancel()


async def _bind(row: Row, link: Link, around: Surroundings) -> None:
    """Binding, and the Allocate that must be challenged, side by side: a network may let only one of them through."""
    row.binding = Step(Outcome.TIMED_OUT)
    binding = link.step(link.conversation.binding)
    if row.purpose is Purpose.STUN:
        row.binding, answer = await binding
    else:
        row.challenge = Step(Outcome.TIMED_OUT)
        (row.binding, answer), (row.challenge, _) = await asyncio.gather(
            binding, link.step(_allocating(row, link), expected=_UNAUTHENTICATED)
        )
    if answer is not None and answer.mapped is not None:
        around.seen_as.setdefault(row.family, str(ipaddress.ip_address(answer.mapped.ip)))


async def _relay(row: Row, link: Link, around: Surroundings) -> None:
    """Allocate, send packets through the relay and back, and give the allocation back."""
    if row.challenge is None or row.challenge.outcome is not Outcome.OK or not link.conversation.is_challenged:
        return
    async with around.slots[row.family]:
        try:
            answer = await _allocate(row, link)
            if answer is None or answer.relayed is None or answer.mapped is None:
                return
            await _echo(row, link, answer.relayed, answer.mapped, around)
        finally:
            link.send(link.conversation.refresh(os.urandom(TRANSACTION_ID_BYTES), 0))


async def _allocate(row: Row, link: Link) -> Answer | None:
    row.allocate = Step(Outcome.TIMED_OUT)
    step, answer = await link.step(_allocating(row, link))
    if step.code == _STALE_NONCE:  # the challenge has given the next nonce
        step, answer = await link.step(_allocating(row, link))
    if step.code == _FAMILY_NOT_SUPPORTED:  # then what browsers ask for: an IPv4 address, whatever they come by
        step, answer = await link.step(_allocating(row, link, Family.IPV4))
    if step.milliseconds is not None and row.challenge is not None and row.challenge.milliseconds is not None:
        step.milliseconds = round(step.milliseconds + row.challenge.milliseconds, 1)
    row.allocate = step
    return answer


async def _echo(
    row: Row, link: Link, relayed: TransportAddress, mapped: TransportAddress, around: Surroundings
) -> None:
    row.relayed_port = RelayedPort(str(ipaddress.ip_address(relayed.ip)), relayed.port)
    family = Family.IPV4 if len(relayed.ip) == 4 else Family.IPV6
    peer = around.peers.get(family)
    if peer is None or not _may_be_relayed(relayed):
        return
    if family in around.learning:
        await asyncio.wait([around.learning[family]])
    row.permission = Step(Outcome.TIMED_OUT)
    row.permission, _ = await link.step(lambda it: link.conversation.create_permission(it, peer.mapped or mapped))
    is_open = row.permission.outcome is Outcome.OK and await _open_relayed(link, row.relayed_port, peer)
    seconds = min(ECHO_SECONDS, around.remaining - LINGER_SECONDS)
    if seconds < MIN_ECHO_SECONDS:
        return
    if is_open:
        row.echo = await _echo_through(link, row.relayed_port, peer, seconds)
    else:
        row.echo = await _echo_of_refreshes(link, seconds)


async def _echo_through(link: Link, relayed: RelayedPort, peer: Peer, seconds: float) -> EchoFinding:
    """From the peer to the relayed address, through the relay to the link, and all the way back."""
    series = EchoSeries(os.urandom(TOKEN_BYTES))
    _return_what_belongs_to(series, link)
    peer.add(series)
    to = (relayed.address, relayed.port)
    await _run(seconds, lambda: peer.send(series.send(time.monotonic(), PAYLOAD_BYTES), to))
    return EchoFinding(EchoWay.RELAYED, *series.result())


async def _echo_of_refreshes(link: Link, seconds: float) -> EchoFinding:
    """Requests to the relay and its answers, where the range cannot be reached; their ids are the labels."""
    series = EchoSeries(os.urandom(TOKEN_BYTES))

    def count(answer: Answer, now: float) -> None:
        series.receive(answer.transaction_id, now)

    def send() -> None:
        link.send(link.conversation.refresh(series.send(time.monotonic(), TRANSACTION_ID_BYTES)))

    link.on_answer = count
    await _run(seconds, send)
    return EchoFinding(EchoWay.CONTROL, *series.result())


async def _open_relayed(link: Link, relayed: RelayedPort, peer: Peer) -> bool:
    """Whether packets go to the relayed address and come back. Few are sent until one has: it may be anybody's."""
    series = EchoSeries(os.urandom(TOKEN_BYTES))
    arrived = _return_what_belongs_to(series, link)
    peer.add(series)
    until = time.monotonic() + OPENING_SECONDS
    while time.monotonic() < until and not series.result().received:
        peer.send(series.send(time.monotonic()), (relayed.address, relayed.port))
        await asyncio.sleep(OPENING_EVERY_SECONDS)
    relayed.reached = arrived.is_set()
    return series.result().received > 0


def _return_what_belongs_to(series: EchoSeries, link: Link) -> asyncio.Event:
    """Send every packet of the series that comes out of the relay back to where it came from; set at the first one."""
    arrived = asyncio.Event()

    def turn_back(data: PeerData, _now: float) -> None:
        if series.owns(data.data):
            arrived.set()
            link.send_to_peer(data.peer, data.data)

    link.on_data = turn_back
    return arrived


async def _run(seconds: float, send: Callable[[], None]) -> None:
    """Send at an even pace, whatever the loop's delays, and wait for the last to come back."""
    began = time.monotonic()
    for number in range(round(seconds * PACKETS_PER_SECOND)):
        await asyncio.sleep(began + number / PACKETS_PER_SECOND - time.monotonic())
        send()
    await asyncio.sleep(LINGER_SECONDS)


def _allocating(row: Row, link: Link, family: Family | None = None) -> Callable[[bytes], bytes]:
    number = _FAMILY_NUMBERS[family or row.family]
    return lambda transaction_id: link.conversation.allocate(transaction_id, number)


def _may_be_relayed(relayed: TransportAddress) -> bool:
    """Whether something may be sent there: a hostile server could name any address as relayed."""
    ip = ipaddress.ip_address(relayed.ip)
    return relayed.port > 0 and not (ip.is_multicast or ip.is_unspecified)
