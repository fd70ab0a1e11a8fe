"""The running relay over loopback: real sockets, real clock, a client that speaks TURN."""

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry, generate_latest

from relay.datapath import Drop
from relay.events import AllocationDeleted, Ending, Event
from relay.io.addresses import own_addresses
from relay.io.listening import BindError
from relay.io.service import Certificates, Keys, RelayService
from relay.settings import PeerSettings, RelaySettings
from stun.address import TransportAddress
from stun.attributes import (
    CHANNEL_NUMBER,
    DATA,
    LIFETIME,
    REQUESTED_TRANSPORT,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
)
from stun.credentials import issue_credential
from stun.demux import StreamDecoder, decode_channel_data, encode_channel_data
from stun.message import decode_message
from stun.registry import Method
from tests.support.ports import free_port
from tests.support.turn_client import Field, Response, TurnClient, indication
from tests.support.udp_endpoint import PATIENCE, UdpEndpoint, udp_endpoint

HOST = "127.0.0.1"
USER, PASSWORD = "alice-of-the-test", "wonderland"  # exists here only


class Running:
    """A started service, and what it reported."""

    def __init__(
        self,
        settings: RelaySettings,
        tls: ssl.SSLContext | None = None,
        own_services: Sequence[TransportAddress] = (),
        secrets: Mapping[str, bytes] | None = None,
    ) -> None:
        self.settings = settings
        self.registry = CollectorRegistry()
        self.service = RelayService(
            settings,
            Keys(secrets or {}, [bytes(16)]),
            self.registry,
            certificates=Certificates(tls),
            own_services=own_services,
        )
        self.deleted: asyncio.Queue[AllocationDeleted] = asyncio.Queue()
        observe = self.service._counts.observe

        def watch(event: Event, received_at: float) -> None:
            observe(event, received_at)
            if isinstance(event, AllocationDeleted):
                self.deleted.put_nowait(event)

        self.service._counts.observe = watch  # type: ignore[method-assign]

    @property
    def udp(self) -> tuple[str, int]:
        return HOST, self.settings.udp_ports[0]

    @property
    def tcp(self) -> tuple[str, int]:
        return HOST, self.settings.tcp_ports[0]

    @property
    def tls(self) -> tuple[str, int]:
        return HOST, self.settings.tls_ports[0]

    @property
    def metrics(self) -> str:
        return generate_latest(self.registry).decode()

    def is_ready(self) -> bool:
        return self.service.ready

    async def ending(self) -> AllocationDeleted:
        async with asyncio.timeout(PATIENCE):
            return await self.deleted.get()


def settings(**changes: Any) -> RelaySettings:  # noqa: ANN401
    return RelaySettings.model_validate(
        {
            "listen_addresses": [HOST],
            "relay_addresses": [HOST],
            "udp_ports": [free_port()],
            "tcp_ports": [free_port()],
            "tls_ports": [],
            "users": {USER: PASSWORD},
            "peers": {"allow": ["127.0.0.1/32"]},
            **changes,
        }
    )


@contextlib.asynccontextmanager
async def running(
    own_services: Sequence[TransportAddress] = (),
    secrets: Mapping[str, bytes] | None = None,
    **changes: Any,  # noqa: ANN401
) -> AsyncIterator[Running]:
    relay = Running(settings(**changes), own_services=own_services, secrets=secrets)
    await relay.service.start()
    try:
        yield relay
    finally:
        await relay.service.stop()


@contextlib.asynccontextmanager
async def running_tls(folder: Path, **changes: Any) -> AsyncIterator[Running]:  # noqa: ANN401
    relay = Running(settings(tls_ports=[free_port()], **changes), self_signed(folder)[0])
    await relay.service.start()
    try:
        yield relay
    finally:
        await relay.service.stop()


@pytest.fixture
async def relay() -> AsyncIterator[Running]:
    async with running() as relay:
        yield relay


@pytest.fixture
async def peer() -> AsyncIterator[UdpEndpoint]:
    async with udp_endpoint() as endpoint:
        yield endpoint


class Client:
    """A TURN client over whatever sends and receives whole messages."""

    def __init__(self, send: Callable[[bytes], None], receive: Callable[[], Awaitable[bytes]]) -> None:
        self.turn = TurnClient(USER, PASSWORD)
        self.send = send
        self.receive = receive

    async def ask(self, method: int, *fields: Field) -> Response:
        self.send(self.turn.build(method, *fields))
        return self.turn.read(await self.receive())

    async def allocate(self) -> TransportAddress:
        assert (await self.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))).code == 401
        response = await self.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
        assert response.code == 0
        return response.get(XOR_RELAYED_ADDRESS)

    async def permit(self, peer: TransportAddress) -> int:
        return (await self.ask(Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, peer))).code

    async def bind(self, number: int, peer: TransportAddress) -> int:
        return (await self.ask(Method.CHANNEL_BIND, (CHANNEL_NUMBER, number), (XOR_PEER_ADDRESS, peer))).code

    async def receive_data(self) -> tuple[TransportAddress | None, bytes | None]:
        message = decode_message(await self.receive())
        assert message.method == Method.DATA
        return message.get(XOR_PEER_ADDRESS), message.get(DATA)


class Connection:
    """A TCP connection that hands out whole frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._decoder = StreamDecoder()
        self._frames: list[bytes] = []

    async def receive(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            while not self._frames:
                data = await self.reader.read(65536)
                assert data, "the connection was closed"
                self._frames += self._decoder.receive(data)
        return self._frames.pop(0)

    async def is_closed_by_the_relay(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True


@contextlib.asynccontextmanager
async def tcp(relay: Running) -> AsyncIterator[tuple[Client, Connection]]:
    connection = Connection(*await asyncio.open_connection(*relay.tcp))
    try:
        yield Client(connection.writer.write, connection.receive), connection
    finally:
        connection.writer.transport.abort()


@contextlib.asynccontextmanager
async def udp(relay: Running) -> AsyncIterator[tuple[Client, UdpEndpoint]]:
    async with udp_endpoint() as endpoint:
        yield Client(lambda data: endpoint.send(data, relay.udp), endpoint.receive), endpoint


def address(endpoint: UdpEndpoint) -> TransportAddress:
    return TransportAddress.parse(*endpoint.address)


async def test_binding_tells_the_address_over_udp_and_tcp(relay: Running) -> None:
    async with udp(relay) as (client, endpoint):
        assert (await client.ask(Method.BINDING)).get(XOR_MAPPED_ADDRESS) == address(endpoint)
    async with tcp(relay) as (client, connection):
        name = connection.writer.get_extra_info("sockname")
        assert (await client.ask(Method.BINDING)).get(XOR_MAPPED_ADDRESS) == TransportAddress.parse(*name)


@pytest.mark.parametrize("link", [udp, tcp])
async def test_media_goes_both_ways_by_channel_and_by_indication(
    relay: Running, peer: UdpEndpoint, link: Callable[[Running], Any]
) -> None:
    async with link(relay) as (client, _):
        relayed = await client.allocate()
        assert await client.permit(address(peer)) == 0
        for data in (b"", b"12345", b"?" * 1400):
            client.send(indication(Method.SEND, (XOR_PEER_ADDRESS, address(peer)), (DATA, data)))
            assert await peer.receive_from() == (data, (HOST, relayed.port))
            peer.send(data, (HOST, relayed.port))
            assert await client.receive_data() == (address(peer), data)
        assert await client.bind(0x4001, address(peer)) == 0
        for data in (b"", b"12345", b"?" * 1400):
            frame = encode_channel_data(0x4001, data)
            client.send(frame + bytes(-len(frame) % 4 if link is tcp else 0))
            assert await peer.receive_from() == (data, (HOST, relayed.port))
            peer.send(data, (HOST, relayed.port))
            assert decode_channel_data(await client.receive()) == (0x4001, data)
        # An unusual shape goes through the control plane, and arrives all the same.
        client.send(indication(Method.SEND, (DATA, b"swapped"), (XOR_PEER_ADDRESS, address(peer))))
        assert await peer.receive() == b"swapped"
        assert (await client.ask(Method.REFRESH, (LIFETIME, 0))).code == 0
        ended = await relay.ending()
        assert ended.ending is Ending.REFRESH_ZERO
        assert ended.traffic == (7, 2 * 1405 + 7, 6, 2 * 1405)


async def test_a_stream_may_be_cut_anywhere(relay: Running, peer: UdpEndpoint) -> None:
    async with tcp(relay) as (client, connection):
        await client.allocate()
        await client.bind(0x4001, address(peer))
        stream = b"".join(encode_channel_data(0x4001, bytes([size]) * size) + bytes(-size % 4) for size in range(1, 40))
        for step in (1, 3, 7, 64):
            for at in range(0, len(stream), step):
                connection.writer.write(stream[at : at + step])
                await connection.writer.drain()
            for size in range(1, 40):
                assert await peer.receive() == bytes([size]) * size


async def test_junk_closes_the_connection(relay: Running) -> None:
    async with tcp(relay) as (client, connection):
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert await connection.is_closed_by_the_relay()
    assert 'redconnect_relay_packets_dropped_total{reason="malformed"} 1.0' in relay.metrics


async def test_a_lost_connection_ends_its_allocation(relay: Running) -> None:
    async with tcp(relay) as (client, _):
        relayed = await client.allocate()
    assert (await relay.ending()).ending is Ending.DISCONNECTED
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, relayed.port))  # the relayed port is free again


async def test_connections_beyond_the_limit_are_closed_at_once() -> None:
    async with running(quota={"stream_connections": 2}) as relay, tcp(relay) as (one, _), tcp(relay) as (other, _):
        assert (await one.ask(Method.BINDING)).code == (await other.ask(Method.BINDING)).code == 0
        async with tcp(relay) as (_, third):
            assert await third.is_closed_by_the_relay()
        assert (await one.ask(Method.BINDING)).code == 0


async def test_handshakes_that_do_not_come_to_an_end_count_as_connections(tmp_path: Path) -> None:
    async with running_tls(tmp_path, quota={"stream_connections": 2}) as relay:
        silent = [await asyncio.open_connection(*relay.tls) for _ in range(3)]
        async with asyncio.timeout(PATIENCE):
            assert await silent[2][0].read() == b""
        assert not silent[0][0].at_eof()
        for _, writer in silent:
            writer.close()


async def test_a_handshake_does_not_outlive_the_relay(tmp_path: Path) -> None:
    async with running_tls(tmp_path) as relay:
        reader, writer = await asyncio.open_connection(*relay.tls)
        async with asyncio.timeout(PATIENCE), tcp(relay) as (client, _):
            assert (await client.ask(Method.BINDING)).code == 0  # by now the silent one has been accepted, too
        await relay.service.stop()
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b""
        writer.close()


async def test_a_relay_address_of_another_machine_is_refused_at_the_start() -> None:
    with pytest.raises(BindError, match=r"cannot relay from 192\.0\.2\.99: .*relay\.external_addresses"):
        async with running(relay_addresses=["192.0.2.99"]):
            pass


async def test_a_silent_connection_is_closed(relay: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.io.stream.FIRST_MESSAGE_SECONDS", 0.01)
    async with tcp(relay) as (_, connection):
        assert await connection.is_closed_by_the_relay()


async def test_a_connection_without_allocation_is_closed(relay: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.io.stream.ALLOCATION_SECONDS", 0.01)
    async with tcp(relay) as (client, connection):
        assert (await client.ask(Method.BINDING)).code == 0
        assert await connection.is_closed_by_the_relay()


async def test_datagrams_that_are_nothing_get_no_answer(relay: Running) -> None:
    async with udp(relay) as (client, endpoint):
        for junk in (b"", b"x", b"\0\1", b"\x80" * 40, b"GET / HTTP/1.1\r\n\r\n", encode_channel_data(0x4000, b"x")):
            endpoint.send(junk, relay.udp)
        assert (await client.ask(Method.BINDING)).code == 0
        assert endpoint.is_silent
    assert 'packets_dropped_total{reason="malformed"} 3.0' in relay.metrics
    assert 'packets_dropped_total{reason="no_allocation"} 2.0' in relay.metrics


async def test_two_relayed_clients_meet_on_an_own_address_and_nobody_else_is_met() -> None:
    async with (
        running(peers={}) as relay,
        udp(relay) as (one, _),
        udp(relay) as (other, _),
        udp_endpoint() as service,
    ):
        first, second = await one.allocate(), await other.allocate()
        assert await one.permit(second) == await other.bind(0x4000, first) == 0
        one.send(indication(Method.SEND, (XOR_PEER_ADDRESS, address(service)), (DATA, b"to a service")))
        one.send(indication(Method.SEND, (XOR_PEER_ADDRESS, second), (DATA, b"hello")))
        assert decode_channel_data(await other.receive()) == (0x4000, b"hello")
        other.send(encode_channel_data(0x4000, b"and back"))
        assert await one.receive_data() == (second, b"and back")
        service.send(b"mark", service.address)
        assert await service.receive() == b"mark"  # and nothing before it
        assert 'packets_dropped_total{reason="own_address"} 1.0' in relay.metrics


@pytest.mark.parametrize("host", [HOST, "127.0.0.2"])
async def test_an_own_service_is_reached_and_no_other_port_of_its_address(host: str) -> None:
    async with udp_endpoint(host) as service, udp_endpoint(host) as other:
        named = TransportAddress.parse(*service.address)
        async with running([named], peers={}) as relay, udp(relay) as (client, _):
            await client.allocate()
            assert await client.bind(0x4000, named) == 0
            client.send(encode_channel_data(0x4000, b"hello"))
            data, relayed = await service.receive_from()
            assert data == b"hello"
            service.send(b"and back", relayed)
            assert decode_channel_data(await client.receive()) == (0x4000, b"and back")
            # The permission is for the address, but not for whatever else listens there.
            client.send(indication(Method.SEND, (XOR_PEER_ADDRESS, address(other)), (DATA, b"to another port")))
            assert (await client.ask(Method.BINDING)).code == 0
            assert other.is_silent
            assert 'packets_dropped_total{reason="own_address"} 1.0' in relay.metrics


async def test_what_peers_allow_says_of_an_own_address_holds_after_a_reload_for_those_who_are_there_already() -> None:
    async with (
        running(peers={}) as relay,
        udp(relay) as (client, _),
        udp_endpoint() as service,
    ):

        def reload(*allow: str) -> None:
            changed = relay.settings.model_copy(update={"peers": PeerSettings(allow=allow)})
            relay.service.configure(changed, Keys({}, [bytes(16)]))

        async def reached() -> bool:
            dropped = relay.service._plane.drops[Drop.OWN_ADDRESS]
            client.send(indication(Method.SEND, (XOR_PEER_ADDRESS, address(service)), (DATA, b"by indication")))
            client.send(encode_channel_data(0x4000, b"by channel"))
            assert (await client.ask(Method.BINDING)).code == 0  # both have been dealt with
            is_silent = service.is_silent
            if not is_silent:
                assert [await service.receive(), await service.receive()] == [b"by indication", b"by channel"]
            assert relay.service._plane.drops[Drop.OWN_ADDRESS] - dropped == (2 if is_silent else 0)
            return not is_silent

        await client.allocate()
        assert await client.bind(0x4000, address(service)) == 0
        assert not await reached()
        reload("127.0.0.1/32")
        assert await reached()
        reload()
        assert not await reached()


async def test_a_realm_does_not_open_an_own_address_to_another_realm() -> None:
    opened = {"allow": ["127.0.0.1/32"]}
    elsewhere = {"elsewhere": {"users": {"bob": "builder"}, "addresses": ["127.0.0.9"]}}
    async with running(peers=opened, realms=elsewhere) as relay, udp(relay) as (client, _), udp_endpoint() as service:
        await client.allocate()
        assert await client.bind(0x4000, address(service)) == 0
        client.send(encode_channel_data(0x4000, b"to a service"))
        assert (await client.ask(Method.BINDING)).code == 0
        assert service.is_silent


async def test_a_tcp_allocation_reaches_relayed_addresses_and_no_service_of_this_machine() -> None:
    async with (
        running(peers={}, tcp_allocations=True) as relay,
        tcp(relay) as (one, _),
        tcp(relay) as (other, _),
    ):
        met: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: met.append(writer), HOST, 0)
        await allocate_tcp(one)
        relayed = await allocate_tcp(other)
        assert await other.permit(TransportAddress.parse(HOST, 9)) == 0
        listening = TransportAddress.parse(*server.sockets[0].getsockname())
        assert (await one.ask(Method.CONNECT, (XOR_PEER_ADDRESS, listening))).code == 403
        assert (await one.ask(Method.CONNECT, (XOR_PEER_ADDRESS, relayed))).code == 0
        assert met == []
        server.close()


async def test_a_tcp_allocation_reaches_a_service_on_an_own_address_that_is_named() -> None:
    async with running(tcp_allocations=True) as relay, tcp(relay) as (client, _):
        server = await asyncio.start_server(lambda _, writer: writer.close(), HOST, 0)
        await allocate_tcp(client)
        listening = TransportAddress.parse(*server.sockets[0].getsockname())
        assert (await client.ask(Method.CONNECT, (XOR_PEER_ADDRESS, listening))).code == 0
        server.close()


async def allocate_tcp(client: Client) -> TransportAddress:
    assert (await client.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, 6))).code == 401
    return (await client.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, 6))).get(XOR_RELAYED_ADDRESS)


async def test_an_own_address_is_denied_although_its_network_is_allowed() -> None:
    own = [text for text in own_addresses() if ":" not in text and not text.startswith("127.")]
    if not own:
        pytest.skip("this machine has no address but loopback")
    network = str(ipaddress.ip_network(f"{own[0]}/24", strict=False))
    async with running(peers={"allow": [network]}) as relay, udp(relay) as (client, _):
        await client.allocate()
        neighbour = ipaddress.ip_network(network).broadcast_address
        assert await client.permit(TransportAddress(neighbour.packed, 9)) == 0
        assert await client.permit(TransportAddress.parse(own[0], 9)) == 403


def self_signed(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Server and client side of TLS, with a certificate that nobody else trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    chain, private = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(certificate.public_bytes(encoding))
    private.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, private)
    return server, ssl.create_default_context(cafile=str(chain))


async def test_media_goes_both_ways_over_tls(peer: UdpEndpoint, tmp_path: Path) -> None:
    server, trusting = self_signed(tmp_path)
    relay = Running(settings(tls_ports=[free_port()]), server)
    await relay.service.start()
    try:
        link = await asyncio.open_connection(*relay.tls, ssl=trusting, server_hostname="localhost")
        connection = Connection(*link)
        client = Client(connection.writer.write, connection.receive)
        relayed = await client.allocate()
        assert await client.bind(0x4001, address(peer)) == 0
        client.send(encode_channel_data(0x4001, b"12345") + bytes(3))
        assert await peer.receive() == b"12345"
        peer.send(b"and back", (HOST, relayed.port))
        assert decode_channel_data(await connection.receive()) == (0x4001, b"and back")
        assert 'redconnect_relay_connections{transport="tls"} 1.0' in relay.metrics
        assert 'redconnect_relay_payload_bytes_total{direction="to_peer",transport="tls"} 5.0' in relay.metrics
        connection.writer.transport.abort()
        assert (await relay.ending()).ending is Ending.DISCONNECTED
    finally:
        await relay.service.stop()


# Starting and stopping


async def test_what_was_bound_can_be_bound_again_after_a_stop() -> None:
    chosen = settings()
    for _ in range(2):
        relay = Running(chosen)
        assert not relay.is_ready()
        await relay.service.start()
        assert relay.is_ready()
        async with udp(relay) as (client, _), tcp(relay) as (other, connection):
            await client.allocate()
            await other.allocate()
            await relay.service.stop()
            assert await connection.is_closed_by_the_relay()
        assert not relay.is_ready()
        assert [(await relay.ending()).ending for _ in range(2)] == [Ending.SHUTDOWN] * 2


@pytest.mark.parametrize(("kind", "name"), [(socket.SOCK_DGRAM, "UDP"), (socket.SOCK_STREAM, "TCP")])
async def test_a_taken_port_is_named_and_nothing_stays_bound(kind: socket.SocketKind, name: str) -> None:
    chosen = settings()
    port = (chosen.udp_ports if name == "UDP" else chosen.tcp_ports)[0]
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind((HOST, port))
        if name == "TCP":
            holder.listen()
        relay = Running(chosen)
        with pytest.raises(
            BindError, match=re.escape(f"cannot listen on {name} {HOST}:{port}: Address already in use")
        ):
            await relay.service.start()
        assert not relay.is_ready()
    await relay.service.start()
    await relay.service.stop()


async def test_an_address_that_is_not_ours_is_named() -> None:
    relay = Running(settings(listen_addresses=["192.0.2.77"]))
    with pytest.raises(BindError, match=r"cannot listen on UDP 192\.0\.2\.77:\d+: Cannot assign requested address"):
        await relay.service.start()


# Metrics


async def test_metrics_count_and_tell_nothing_about_anybody(relay: Running, peer: UdpEndpoint) -> None:
    async with udp(relay) as (client, endpoint):
        relayed = await client.allocate()
        await client.permit(address(peer))
        assert await client.permit(TransportAddress.parse("10.11.12.13", 9)) == 403
        client.send(indication(Method.SEND, (XOR_PEER_ADDRESS, address(peer)), (DATA, b"12345")))
        assert await peer.receive() == b"12345"
        peer.send(b"123", (HOST, relayed.port))
        assert await client.receive_data() == (address(peer), b"123")
        text = relay.metrics
        secrets = (HOST, "10.11.12.13", USER, PASSWORD, str(relayed.port), str(endpoint.address[1]))
    for line in (
        'redconnect_relay_payload_bytes_total{direction="to_peer",transport="udp"} 5.0',
        'redconnect_relay_payload_bytes_total{direction="to_client",transport="udp"} 3.0',
        'redconnect_relay_packets_total{direction="to_peer",transport="udp"} 1.0',
        'redconnect_relay_allocations{family="ipv4",transport="udp"} 1.0',
        'redconnect_relay_streams_closed_total{reason="no_message"} 0.0',
        'redconnect_relay_ports_taken{family="ipv4"} 1.0',
        'redconnect_relay_allocations_created_total{family="ipv4",transport="udp"} 1.0',
        'redconnect_relay_requests_answered_total{method="allocate",transport="udp"} 1.0',
        'redconnect_relay_requests_refused_total{cause="no_credentials",code="401",method="allocate"} 1.0',
        'redconnect_relay_requests_refused_total{cause="peer_private",code="403",method="create_permission"} 1.0',
        'redconnect_relay_connections{transport="tcp"} 0.0',
    ):
        assert line in text
    without_times = "\n".join(line for line in text.splitlines() if "_created{" not in line)  # digits of any kind
    for secret in secrets:
        assert secret not in without_times


async def test_tests_of_anybody_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    secret = b"a shared secret of thirty-two bytes, or more"
    with caplog.at_level("INFO"):
        async with running(secrets={"shared": secret}) as relay:
            trial = issue_credential(secret, int(time.time()) + 60, f"test:{HOST}")
            other = issue_credential(secret, int(time.time()) + 60, "somebody")
            for credential in (trial, other):
                async with tcp(relay) as (client, _):
                    client.turn = TurnClient(*credential)
                    await client.allocate()
                    await client.ask(Method.REFRESH, (LIFETIME, 0))
    begun = [record for record in caplog.records if record.getMessage() == "allocation begins over tcp"]
    ended = [record for record in caplog.records if "refresh_zero" in record.getMessage()]
    assert (len(begun), len(ended)) == (1, 1)


async def test_logs_tell_nothing_about_anybody(peer: UdpEndpoint, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        async with running() as relay, tcp(relay) as (client, _):
            relayed = await client.allocate()
            await client.permit(address(peer))
            await client.ask(Method.REFRESH, (LIFETIME, 0))
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "allocation begins over tcp" in text
    assert "(refresh_zero)" in text
    for secret in (HOST, USER, PASSWORD, str(relayed.port), str(peer.address[1])):
        assert secret not in text
