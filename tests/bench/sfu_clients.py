"""The clients that load an SFU: their session descriptions, ICE as controlling agents, and DTLS.

What comes after, SRTP in both directions, is done by `loadtest/sfubench`, which gets the sockets and the keys.
"""

import os
import re
import socket
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from sfu.io.dtls import DtlsAssociation, DtlsCertificate, DtlsRole, DtlsState, build_dtls_context
from sfu.media_engine import SrtpKeys
from stun.address import TransportAddress
from stun.attributes import USERNAME, XOR_MAPPED_ADDRESS, pack_attribute
from stun.integrity import IntegrityKey
from stun.message import decode_message, encode_message, encode_success
from stun.registry import MessageClass, Method

UFRAG: Final = "bench"
PASSWORD: Final = "p" * 24
AUDIO_PAYLOAD: Final = 111
VIDEO_PAYLOAD: Final = 96
PATIENCE_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 0.2
_AUDIO_MID, _VIDEO_MID = "0", "1"
_PRIORITY: Final = pack_attribute(0x0024, (1 << 24).to_bytes(4))
_USE_CANDIDATE: Final = pack_attribute(0x0025, b"")
_CONTROLLING: Final = pack_attribute(0x802A, bytes(8))
_BUFFER_BYTES: Final = 4096
_URIS: Final = {
    1: "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    3: "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    4: "urn:ietf:params:rtp-hdrext:sdes:mid",
    12: "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
}
_EXTENSIONS: Final = {"audio": (1, 3, 4), "video": (3, 4, 12)}


class Peer(NamedTuple):
    """One PeerConnection that stands: a connected socket, and the line that tells the generator of it."""

    sock: socket.socket
    plan: str


class Client:
    """One end of one PeerConnection, with a certificate of its own."""

    def __init__(self, number: int, sock: socket.socket) -> None:
        """Make one end.

        Args:
            number: makes its SSRCs.
            sock: bound to an address that the SFU can reach.
        """
        self._sock = sock
        self._certificate = DtlsCertificate()
        self._video_ssrc = 0x20000000 + number * 16
        self._audio_ssrc = 0x40000000 + number * 16

    def offer(self) -> str:
        """What a browser would offer that publishes a camera without simulcast, and a microphone."""
        head = ["v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1", "a=extmap-allow-mixed"]
        ssrc, rtx = self._video_ssrc, self._video_ssrc + 1
        video = [f"a=rtcp-fb:{VIDEO_PAYLOAD} {each}" for each in ("transport-cc", "nack", "nack pli", "ccm fir")]
        video += [f"a=rtpmap:{VIDEO_PAYLOAD} VP8/90000", "a=rtpmap:97 rtx/90000", f"a=fmtp:97 apt={VIDEO_PAYLOAD}"]
        video += [f"a=ssrc-group:FID {ssrc} {rtx}", f"a=ssrc:{ssrc} cname:bench", f"a=ssrc:{rtx} cname:bench"]
        audio = [f"a=rtpmap:{AUDIO_PAYLOAD} opus/48000/2", f"a=rtcp-fb:{AUDIO_PAYLOAD} transport-cc"]
        audio += [f"a=fmtp:{AUDIO_PAYLOAD} minptime=10;useinbandfec=1", f"a=ssrc:{self._audio_ssrc} cname:bench"]
        lines = [*head, *self._section("audio", _AUDIO_MID, f"{AUDIO_PAYLOAD}", audio)]
        lines += self._section("video", _VIDEO_MID, f"{VIDEO_PAYLOAD} 97", video)
        return "".join(f"{line}\r\n" for line in lines)

    def _section(self, kind: str, mid: str, formats: str, codec: list[str]) -> list[str]:
        lines = [f"m={kind} 9 UDP/TLS/RTP/SAVPF {formats}", "c=IN IP4 0.0.0.0", *self._transport("actpass")]
        lines += [f"a=mid:{mid}", "a=sendonly", f"a=msid:- {kind}", "a=rtcp-mux", "a=rtcp-rsize"]
        return [*lines, *(f"a=extmap:{number} {_URIS[number]}" for number in _EXTENSIONS[kind]), *codec]

    def _transport(self, setup: str) -> list[str]:
        fingerprint = ":".join(f"{byte:02X}" for byte in self._certificate.fingerprint)
        lines = [f"a=ice-ufrag:{UFRAG}", f"a=ice-pwd:{PASSWORD}", f"a=fingerprint:sha-256 {fingerprint}"]
        host, port = self._sock.getsockname()
        return [*lines, f"a=setup:{setup}", f"a=candidate:1 1 udp 2130706431 {host} {port} typ host"]

    def answer(self, offer: str) -> str:
        """An answer that takes all that an SFU offers."""
        theirs = ("a=candidate", "a=end-of-candidates", "a=ssrc", "a=msid", "a=ice-", "a=fingerprint", "a=setup")
        lines: list[str] = []
        for line in offer.splitlines():
            if not line.startswith(theirs):
                lines.append("a=recvonly" if line == "a=sendonly" else line)
            if line.startswith("a=mid:"):
                lines += self._transport("active")
        return "".join(f"{line}\r\n" for line in lines)

    def publisher(self, answer: str) -> Peer:
        """Connect as one that publishes."""
        keys, check = self._connect(answer)
        ids = _accepted(answer)
        head = _head("pub", self._sock, keys, check, ids)
        ssrcs = f"{self._video_ssrc} {VIDEO_PAYLOAD} {self._audio_ssrc} {AUDIO_PAYLOAD}"
        return Peer(self._sock, f"{head} {ids[4]} {ids[12]} {ids[1]} {_VIDEO_MID} {_AUDIO_MID} {ssrcs}")

    def subscriber(self, offer: str) -> Peer:
        """Connect as one that is sent to."""
        keys, check = self._connect(offer)
        number = next((number for number, uri in _extmaps(offer) if uri == _URIS[3]), 0)
        return Peer(self._sock, _head("sub", self._sock, keys, check, {3: number}))

    def _connect(self, description: str) -> tuple[SrtpKeys, bytes]:
        sock = self._sock
        sock.connect(_candidate(description))
        sock.settimeout(_RETRY_SECONDS)
        check = _check(_attribute(description, "ice-ufrag"), _attribute(description, "ice-pwd"))
        role = DtlsRole.SERVER if _attribute(description, "setup") == "active" else DtlsRole.CLIENT
        fingerprint = bytes.fromhex(_attribute(description, "fingerprint").partition(" ")[2].replace(":", ""))
        started_at = time.monotonic()
        association: DtlsAssociation | None = None
        sock.send(check)
        for datagram in _received(sock, started_at + PATIENCE_SECONDS):
            if not datagram:
                sock.send(check)
            elif datagram[0] < 4 and association is None and datagram[:2] == b"\x01\x01":
                association = DtlsAssociation(build_dtls_context(self._certificate), role, {fingerprint}, started_at)
            elif datagram[:2] == b"\x00\x01":  # libnice checks, too, lite or not
                sock.send(_confirm(datagram, sock))
            elif 20 <= datagram[0] < 64 and association is not None:
                association.receive(datagram)
            if association is not None:
                if not datagram:
                    association.handle_timeout(time.monotonic())
                while (flight := association.poll_transmit()) is not None:
                    sock.send(flight)
                if association.keys is not None:
                    return association.keys, check
                if association.state is not DtlsState.HANDSHAKE:
                    raise RuntimeError(f"DTLS ended as {association.state}: {association.fault}")
        raise TimeoutError(f"no PeerConnection within {PATIENCE_SECONDS} s")


def _received(sock: socket.socket, deadline: float) -> Iterator[bytes]:
    """Datagrams as they come, and nothing when none has come for a while."""
    while time.monotonic() < deadline:
        try:
            yield sock.recv(_BUFFER_BYTES)
        except TimeoutError:
            yield b""


def _head(role: str, sock: socket.socket, keys: SrtpKeys, check: bytes, ids: dict[int, int]) -> str:
    profile = keys.profile.openssl_name
    return f"{role} {sock.fileno()} {profile} {keys.outbound.hex()} {keys.inbound.hex()} {check.hex()} {ids[3]}"


def _check(ufrag: str, password: str) -> bytes:
    """A Binding request that nominates its pair."""
    attributes = [USERNAME.pack(f"{ufrag}:{UFRAG}"), _PRIORITY, _CONTROLLING, _USE_CANDIDATE]
    key = IntegrityKey(password.encode())
    return encode_message(Method.BINDING, MessageClass.REQUEST, os.urandom(12), attributes, key=key, fingerprint=True)


def _confirm(datagram: bytes, sock: socket.socket) -> bytes:
    """The answer to a Binding request; the namespace is ours alone, so it is not verified."""
    request = decode_message(datagram)
    host, port = sock.getpeername()
    mapped = XOR_MAPPED_ADDRESS.pack(TransportAddress.parse(host, port), request.transaction_id)
    return encode_success(request, (mapped,), key=IntegrityKey(PASSWORD.encode()))


def _attribute(text: str, name: str) -> str:
    match = re.search(rf"^a={name}:(.*?)\r?$", text, re.MULTILINE)
    if match is None:
        raise ValueError(f"no a={name}")
    return match[1]


def _candidate(text: str) -> tuple[str, int]:
    """Where the first candidate over UDP and IPv4 is."""
    match = re.search(
        r"^a=candidate:\S+ 1 udp \d+ (\d+\.\d+\.\d+\.\d+) (\d+) typ host", text, re.MULTILINE | re.IGNORECASE
    )
    if match is None:
        raise ValueError("no candidate")
    return match[1], int(match[2])


def _extmaps(text: str) -> list[tuple[int, str]]:
    found = re.findall(r"^a=extmap:(\d+)(?:/\w+)? (\S+)", text, re.MULTILINE)
    return [(int(number), uri) for number, uri in found]


def _accepted(answer: str) -> dict[int, int]:
    """The identifiers that we offered, each as itself if the answer has it, else as 0."""
    there = dict(_extmaps(answer))
    return {number: number if there.get(number) == uri else 0 for number, uri in _URIS.items()}
