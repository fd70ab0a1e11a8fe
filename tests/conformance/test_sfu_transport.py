"""The port of the SFU against other people's STUN codec and DTLS, over real sockets on loopback."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aioice import stun
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sfu.io.dtls import split_keying_material
from sfu.io.mux import bind_udp
from sfu.io.peer_connections import Connected, PeerConnections, PeerEvent
from sfu.media_engine import SrtpProfile
from stun.address import TransportAddress
from tests.support.counting_engine import CountingEngine
from tests.support.peer_client import PASSWORD, PeerClient, credentials_of
from tests.support.udp_endpoint import PATIENCE, udp_endpoint

HOSTS = ["127.0.0.1", "::1"]


class Port:
    """A port with its events."""

    def __init__(self, host: str) -> None:
        self.events: asyncio.Queue[PeerEvent] = asyncio.Queue()
        sock = bind_udp(TransportAddress.parse(host, 0))
        self.where: tuple[str, int] = sock.getsockname()[:2]
        self.candidates = [TransportAddress.parse(*self.where)]
        self.peers = PeerConnections(CountingEngine, [sock], self.candidates, self.events.put_nowait, print)


@asynccontextmanager
async def port_on(host: str) -> AsyncIterator[Port]:
    port = Port(host)
    yield port
    port.peers.stop()


def request_for(answer: str, change: Callable[[stun.Message], None] = lambda _message: None) -> tuple[bytes, bytes]:
    """A check as aioice's agents send it, and its transaction ID."""
    ufrag, password = credentials_of(answer)
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{ufrag}:them"
    request.attributes["PRIORITY"] = 1853824767
    request.attributes["ICE-CONTROLLING"] = 0x0123456789ABCDEF
    request.attributes["USE-CANDIDATE"] = None
    change(request)
    request.add_message_integrity(password.encode())
    request.add_fingerprint()
    return bytes(request), request.transaction_id


@pytest.mark.parametrize("host", HOSTS)
async def test_aioice_reads_and_believes_the_answer_to_its_check(host: str) -> None:
    async with port_on(host) as port, udp_endpoint(host) as endpoint:
        answer = port.peers.publish(PeerClient(endpoint, port.where).offer()).answer
        request, transaction_id = request_for(answer)
        endpoint.send(request, port.where)
        response = stun.parse_message(await endpoint.receive())
        assert (response.message_method, response.message_class) == (stun.Method.BINDING, stun.Class.RESPONSE)
        assert response.transaction_id == transaction_id
        assert response.attributes["XOR-MAPPED-ADDRESS"] == endpoint.address
        assert list(response.attributes)[-2:] == ["MESSAGE-INTEGRITY", "FINGERPRINT"]
        assert response.check_message_integrity(credentials_of(answer)[1].encode())


async def test_aioice_believes_the_check_that_an_address_has_to_answer_before_anything_is_sent_there() -> None:
    async with port_on("127.0.0.1") as port, udp_endpoint() as home, udp_endpoint() as elsewhere:
        answer = port.peers.publish(PeerClient(home, port.where).offer()).answer
        for endpoint in (home, elsewhere):
            endpoint.send(request_for(answer)[0], port.where)
        check = stun.parse_message(await elsewhere.receive())
        assert check.check_message_integrity(PASSWORD.encode())
        assert (check.message_method, check.message_class) == (stun.Method.BINDING, stun.Class.REQUEST)
        assert check.attributes["USERNAME"] == f"them:{credentials_of(answer)[0]}"
        assert {"PRIORITY", "ICE-CONTROLLED"} <= check.attributes.keys()
        assert list(check.attributes)[-2:] == ["MESSAGE-INTEGRITY", "FINGERPRINT"]
        response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, check.transaction_id)
        response.attributes["XOR-MAPPED-ADDRESS"] = port.where
        response.add_message_integrity(PASSWORD.encode())
        response.add_fingerprint()
        elsewhere.send(bytes(response), port.where)
        async with asyncio.timeout(PATIENCE):
            while not port.peers.counters()["ice_proved"]:  # noqa: ASYNC110  # what arrives gives no other sign
                await asyncio.sleep(0.005)


async def test_a_check_with_another_key_gets_no_answer_and_a_right_one_after_it_does() -> None:
    async with port_on("127.0.0.1") as port, udp_endpoint() as endpoint:
        answer = port.peers.publish(PeerClient(endpoint, port.where).offer()).answer
        ufrag, password = credentials_of(answer)
        wrong, _ = request_for(f"a=ice-ufrag:{ufrag}\na=ice-pwd:{password[::-1]}\n")
        right, transaction_id = request_for(answer)
        endpoint.send(wrong, port.where)
        endpoint.send(right, port.where)
        assert stun.parse_message(await endpoint.receive()).transaction_id == transaction_id
        assert endpoint.is_silent


def credentials_files(client: PeerClient, folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(client.certificate.certificate.public_bytes(Encoding.PEM))
    key.write_bytes(client.certificate.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key


@pytest.mark.parametrize("profile", [SrtpProfile.AEAD_AES_256_GCM, SrtpProfile.AES128_CM_SHA1_80])
async def test_openssl_exports_the_keys_that_the_engine_gets(profile: SrtpProfile, tmp_path: Path) -> None:
    async with port_on("127.0.0.1") as port:
        async with udp_endpoint() as endpoint:
            client = PeerClient(endpoint, port.where)
            publication = port.peers.publish(client.offer())
            await client.check(publication.answer)
            address = endpoint.address
        certificate, key = credentials_files(client, tmp_path)
        length = 2 * (profile.key_length + profile.salt_length)
        process = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-dtls1_2", "-bind", f"{address[0]}:{address[1]}"),
            *("-connect", f"{port.where[0]}:{port.where[1]}", "-cert", certificate, "-key", key),
            *("-use_srtp", profile.openssl_name, "-keymatexport", "EXTRACTOR-dtls_srtp"),
            *("-keymatexportlen", str(length)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(2 * PATIENCE):
            assert await port.events.get() == Connected(publication.session)
            output, _ = await process.communicate(b"Q\n")
        exported = re.search(rb"Keying material: ([0-9A-F]+)", output)
        assert exported is not None, output.decode()
        engine = port.peers.engine
        assert isinstance(engine, CountingEngine)
        keys = engine.keys[publication.session]
        inbound, outbound = split_keying_material(profile, bytes.fromhex(exported[1].decode()))
        assert (keys.profile, keys.inbound, keys.outbound) == (profile, inbound, outbound)


def test_the_port_is_free_again_when_it_is_stopped() -> None:
    async def stop_at_once() -> tuple[str, int]:
        async with port_on("127.0.0.1") as port:
            return port.where

    where = asyncio.run(stop_at_once())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(where)
