"""SRTP (RFC 3711, RFC 7714) by libsrtp: one context per session and direction, and bounds around it."""

from collections.abc import Callable
from typing import Final

from pylibsrtp import ERRORS, Policy, Session

# The wrapper of these two copies each packet twice, and makes an object for its length.
from pylibsrtp._binding import ffi, lib  # type: ignore[import-not-found]

from sfu.media_engine import SrtpKeys, SrtpProfile

MAX_RTP: Final = 1356  # bytes in the clear: with 16 bytes of authentication, UDP and IPv4 it fits 1400
MAX_RTCP: Final = 1352
MAX_PROTECTED: Final = 1500  # bytes of a datagram that is taken in
REPLAY_WINDOW: Final = 1024  # packets: what a cache holds may be repaired, and may then go out late
BUFFER_BYTES: Final = 2048  # a packet with what libsrtp adds to it
MAX_INBOUND_SSRCS: Final = 256  # of one session; libsrtp keeps state for each that it has authenticated

_PROFILES: Final = {
    SrtpProfile.AEAD_AES_256_GCM: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    SrtpProfile.AEAD_AES_128_GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    SrtpProfile.AES128_CM_SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
}


_protect: Final = lib.srtp_protect


class SrtpError(ValueError):
    """A packet that cannot be authenticated, was there before, or is too long: it is dropped and counted."""


class PacketBuffer:
    """Where packets are encrypted and decrypted in place. What lies in it is good until the next one."""

    __slots__ = ("length", "pointer", "view")

    def __init__(self) -> None:
        data = bytearray(BUFFER_BYTES)
        self.view: Final = memoryview(data)
        self.pointer: Final = ffi.from_buffer("char[]", data)
        self.length: Final = ffi.new("int *")


class SrtpSession:
    """Both directions of one session.

    A context never forgets an SSRC: if it did, packets from before could be played again, and, worse, a number that
    was used would be used again under the same key, which gives the authentication key of AES-GCM away.
    """

    __slots__ = ("_inbound", "_known", "_outbound", "_receive", "_send", "buffer")

    def __init__(self, keys: SrtpKeys, buffer: PacketBuffer | None = None) -> None:
        """Set up both directions.

        Args:
            keys: of both directions.
            buffer: what it works in, alone or with others; by default one of its own.

        Raises:
            ValueError: a key has another length than its profile wants.
        """
        length = keys.profile.key_length + keys.profile.salt_length
        if len(keys.inbound) != length or len(keys.outbound) != length:
            raise ValueError(f"keys of {keys.profile.openssl_name} have {length} bytes")
        profile = _PROFILES[keys.profile]
        self._inbound = _session(keys.inbound, Policy.SSRC_ANY_INBOUND, profile)
        self._outbound = _session(keys.outbound, Policy.SSRC_ANY_OUTBOUND, profile)
        self._receive = self._inbound._srtp[0]  # noqa: SLF001  # freed when the session is
        self._send = self._outbound._srtp[0]  # noqa: SLF001
        self._known: set[bytes] = set()
        self.buffer: Final = buffer or PacketBuffer()

    def sender(self) -> tuple[object, int, int]:
        """For C: what keeps the sending context alive, its address, and that of the function that encrypts with it."""
        function = ffi.addressof(lib, "srtp_protect")
        return self._outbound, int(ffi.cast("uintptr_t", self._send)), int(ffi.cast("uintptr_t", function))

    def unprotect_rtp(self, datagram: bytes | memoryview) -> bytes:
        """Authenticate and decrypt an SRTP packet.

        Raises:
            SrtpError: see there.
        """
        if not 12 <= len(datagram) <= MAX_PROTECTED:
            raise SrtpError(f"{len(datagram)} bytes")
        return self._unprotect(lib.srtp_unprotect, datagram, bytes(datagram[8:12]))

    def unprotect_rtcp(self, datagram: bytes | memoryview) -> bytes:
        """Authenticate and decrypt an SRTCP packet.

        Raises:
            SrtpError: see there.
        """
        if not 8 <= len(datagram) <= MAX_PROTECTED:
            raise SrtpError(f"{len(datagram)} bytes")
        return self._unprotect(lib.srtp_unprotect_rtcp, datagram, bytes(datagram[4:8]))

    def _unprotect(
        self, unprotect: Callable[[object, object, object], int], datagram: bytes | memoryview, ssrc: bytes
    ) -> bytes:
        known, buffer = self._known, self.buffer
        if ssrc not in known and len(known) >= MAX_INBOUND_SSRCS:
            raise SrtpError("too many sources")
        size = len(datagram)
        length, view = buffer.length, buffer.view
        view[:size] = datagram
        length[0] = size
        if fault := unprotect(self._receive, buffer.pointer, length):
            raise SrtpError(ERRORS[fault])
        known.add(ssrc)
        return view[: length[0]].tobytes()

    def protect_in_place(self, size: int) -> memoryview:
        """Encrypt the RTP packet of so many bytes, at most MAX_RTP, that lies in the buffer.

        Returns:
            the datagram, which lies in the buffer, too.

        Raises:
            SrtpError: it is longer, or its sequence number was used, or is older than the window.
        """
        if size > MAX_RTP:
            raise SrtpError(f"{size} bytes")
        buffer = self.buffer
        length = buffer.length
        length[0] = size
        if fault := _protect(self._send, buffer.pointer, length):
            raise SrtpError(ERRORS[fault])
        return buffer.view[: length[0]]

    def protect_rtp(self, packet: bytes) -> bytes:
        """Encrypt an RTP packet of at most MAX_RTP bytes.

        Raises:
            SrtpError: see `protect_in_place`.
        """
        size = len(packet)
        if size > MAX_RTP:
            raise SrtpError(f"{size} bytes")
        self.buffer.view[:size] = packet
        return self.protect_in_place(size).tobytes()

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Encrypt an RTCP packet of at most MAX_RTCP bytes.

        Raises:
            SrtpError: it is longer.
        """
        size = len(packet)
        if size > MAX_RTCP:
            raise SrtpError(f"{size} bytes")
        buffer = self.buffer
        buffer.view[:size] = packet
        buffer.length[0] = size
        if fault := lib.srtp_protect_rtcp(self._send, buffer.pointer, buffer.length):
            raise SrtpError(ERRORS[fault])
        return buffer.view[: buffer.length[0]].tobytes()


def _session(key: bytes, direction: int, profile: int) -> Session:
    policy = Policy(key, direction, 0, profile)
    policy.window_size = REPLAY_WINDOW
    return Session(policy)
