"""The other end of a PeerConnection over a real UDP socket: checks, DTLS and SRTP as a browser would send them."""

import asyncio
import re
from collections.abc import Callable
from typing import Final

import pylibsrtp

from sfu.io.dtls import DtlsAssociation, DtlsCertificate, DtlsRole, DtlsState, build_dtls_context
from stun.integrity import IntegrityKey
from stun.message import Message, decode_message, encode_success
from stun.registry import MessageClass
from tests.support.counting_engine import srtp
from tests.support.ice_client import check
from tests.support.sdp import captured
from tests.support.udp_endpoint import PATIENCE, UdpEndpoint

RTP: Final = bytes.fromhex("806f0001000000000000002a") + b"payload"
PASSWORD: Final = "p" * 24
_DTLS: Final = range(20, 64)
_TICK_SECONDS: Final = 0.1  # how often retransmissions are looked after


def attribute(text: str, name: str) -> str:
    match = re.search(rf"^a={name}:(.*?)\r?$", text, re.MULTILINE)
    assert match is not None, name
    return match[1]


def credentials_of(text: str) -> tuple[str, str]:
    return attribute(text, "ice-ufrag"), attribute(text, "ice-pwd")


def fingerprint_of(text: str) -> bytes:
    return bytes.fromhex(attribute(text, "fingerprint").removeprefix("sha-256 ").replace(":", ""))


class PeerClient:
    """One client; `ufrag` may change between an offer and the next, as a restart of ICE demands."""

    def __init__(
        self, endpoint: UdpEndpoint, server: tuple[str, int], *, loses: Callable[[int], bool] | None = None
    ) -> None:
        self.endpoint = endpoint
        self.server = server
        self.ufrag = "them"
        self.certificate = DtlsCertificate()
        self.association: DtlsAssociation | None = None
        self.sent_dtls = 0
        self._loses = loses or (lambda _number: False)

    def _with_identity(self, text: str) -> str:
        fingerprint = ":".join(f"{byte:02X}" for byte in self.certificate.fingerprint)
        text = re.sub(r"a=fingerprint:\S+ \S+", f"a=fingerprint:sha-256 {fingerprint}", text)
        text = re.sub(r"a=ice-ufrag:\S+", f"a=ice-ufrag:{self.ufrag}", text)
        return re.sub(r"a=ice-pwd:\S+", f"a=ice-pwd:{PASSWORD}", text)

    def offer(self, name: str = "chromium-publish-offer-simulcast") -> str:
        return self._with_identity(captured(name))

    def answer(self, offer: str, *, setup: str = "active") -> str:
        text = offer.replace("a=sendonly", "a=recvonly").replace("setup:actpass", f"setup:{setup}")
        return self._with_identity(text.replace("a=ice-lite\r\n", ""))

    def send_check(self, description: str, *, nominate: bool = True) -> None:
        request = check(credentials_of(description), nominate=nominate, remote_ufrag=self.ufrag)
        self.endpoint.send(request, self.server)

    async def check(self, description: str, *, nominate: bool = True, proves: bool = True) -> Message:
        """Send a check and return the answer to it; those of the server are answered meanwhile, if `proves`."""
        self.send_check(description, nominate=nominate)
        while True:
            datagram = await self.endpoint.receive()
            if datagram[0] >= 4:
                continue
            message = decode_message(datagram)
            if message.message_class is not MessageClass.REQUEST:
                return message
            if proves:
                self.endpoint.send(encode_success(message, key=IntegrityKey(PASSWORD.encode())), self.server)

    def begin_dtls(self, description: str, role: DtlsRole = DtlsRole.CLIENT) -> None:
        now = asyncio.get_running_loop().time()
        self.association = DtlsAssociation(
            build_dtls_context(self.certificate), role, {fingerprint_of(description)}, now
        )
        self.send_dtls()

    def send_dtls(self) -> None:
        assert self.association is not None
        while (datagram := self.association.poll_transmit()) is not None:
            self.sent_dtls += 1
            if not self._loses(self.sent_dtls):
                self.endpoint.send(datagram, self.server)

    async def finish_dtls(self) -> None:
        """Go on until the handshake has ended, this way or that."""
        assert self.association is not None
        async with asyncio.timeout(3 * PATIENCE):
            while self.association.state is DtlsState.HANDSHAKE:
                try:
                    async with asyncio.timeout(_TICK_SECONDS):
                        datagram = await self.endpoint.receive()
                except TimeoutError:
                    self.association.handle_timeout(asyncio.get_running_loop().time())
                else:
                    if datagram[0] in _DTLS:
                        self.association.receive(datagram)
                self.send_dtls()

    async def connect(self, description: str) -> None:
        """Check, nominate, and shake hands."""
        await self.check(description)
        self.begin_dtls(description)
        await self.finish_dtls()

    def protect(self, packet: bytes = RTP) -> bytes:
        """An SRTP packet of this client."""
        assert self.association is not None and self.association.keys is not None
        keys = self.association.keys
        return srtp(keys.profile, keys.outbound, pylibsrtp.Policy.SSRC_ANY_OUTBOUND).protect(packet)

    def say_farewell(self) -> None:
        assert self.association is not None
        self.association.close()
        self.send_dtls()

    async def hear_farewell(self) -> None:
        assert self.association is not None
        while self.association.state is DtlsState.CONNECTED:
            datagram = await self.endpoint.receive()
            if datagram[0] in _DTLS:
                self.association.receive(datagram)
