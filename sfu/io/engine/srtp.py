"""SRTP (RFC 3711, RFC 7714) by libsrtp: one context per session and direction, and bounds around it."""

from typing import Final

from pylibsrtp import Error, Policy, Session

from sfu.media_engine import SrtpKeys, SrtpProfile

MAX_RTP: Final = 1356  # bytes in the clear: pylibsrtp keeps 144 of its 1500 for what is added; with UDP it fits 1400
MAX_RTCP: Final = 1352
MAX_PROTECTED: Final = 1500  # bytes of a datagram that is taken in
REPLAY_WINDOW: Final = 1024  # packets: what a cache holds may be repaired, and may then go out late
MAX_INBOUND_SSRCS: Final = 256  # of one session; libsrtp keeps state for each that it has authenticated

_PROFILES: Final = {
    SrtpProfile.AEAD_AES_256_GCM: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    SrtpProfile.AEAD_AES_128_GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    SrtpProfile.AES128_CM_SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
}


class SrtpError(ValueError):
    """A packet that cannot be authenticated, was there before, or is too long: it is dropped and counted."""


class SrtpSession:
    """Both directions of one session.

    A context never forgets an SSRC: if it did, packets from before could be played again, and, worse, a number that
    was used would be used again under the same key, which gives the authentication key of AES-GCM away.
    """

    def __init__(self, keys: SrtpKeys) -> None:
        """Set up both directions.

        Raises:
            ValueError: a key has another length than its profile wants.
        """
        length = keys.profile.key_length + keys.profile.salt_length
        if len(keys.inbound) != length or len(keys.outbound) != length:
            raise ValueError(f"keys of {keys.profile.openssl_name} have {length} bytes")
        profile = _PROFILES[keys.profile]
        self._inbound = _session(keys.inbound, Policy.SSRC_ANY_INBOUND, profile)
        self._outbound = _session(keys.outbound, Policy.SSRC_ANY_OUTBOUND, profile)
        self._known: set[int] = set()

    def unprotect_rtp(self, datagram: bytes) -> bytes:
        """Authenticate and decrypt an SRTP packet.

        Raises:
            SrtpError: see there.
        """
        if not 12 <= len(datagram) <= MAX_PROTECTED:
            raise SrtpError(f"{len(datagram)} bytes")
        ssrc = int.from_bytes(datagram[8:12])
        if ssrc not in self._known and len(self._known) >= MAX_INBOUND_SSRCS:
            raise SrtpError("too many sources")
        try:
            packet: bytes = self._inbound.unprotect(datagram)
        except Error as error:
            raise SrtpError(str(error)) from error
        self._known.add(ssrc)
        return packet

    def unprotect_rtcp(self, datagram: bytes) -> bytes:
        """Authenticate and decrypt an SRTCP packet.

        Raises:
            SrtpError: see there.
        """
        if not 8 <= len(datagram) <= MAX_PROTECTED:
            raise SrtpError(f"{len(datagram)} bytes")
        ssrc = int.from_bytes(datagram[4:8])
        if ssrc not in self._known and len(self._known) >= MAX_INBOUND_SSRCS:
            raise SrtpError("too many sources")
        try:
            packet: bytes = self._inbound.unprotect_rtcp(datagram)
        except Error as error:
            raise SrtpError(str(error)) from error
        self._known.add(ssrc)
        return packet

    def protect_rtp(self, packet: bytes) -> bytes:
        """Encrypt an RTP packet of at most MAX_RTP bytes.

        Raises:
            SrtpError: it is longer, or its sequence number was used, or is older than the window.
        """
        if len(packet) > MAX_RTP:
            raise SrtpError(f"{len(packet)} bytes")
        try:
            datagram: bytes = self._outbound.protect(packet)
        except Error as error:
            raise SrtpError(str(error)) from error
        return datagram

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Encrypt an RTCP packet of at most MAX_RTCP bytes.

        Raises:
            SrtpError: it is longer.
        """
        if len(packet) > MAX_RTCP:
            raise SrtpError(f"{len(packet)} bytes")
        try:
            datagram: bytes = self._outbound.protect_rtcp(packet)
        except Error as error:
            raise SrtpError(str(error)) from error
        return datagram


def _session(key: bytes, direction: int, profile: int) -> Session:
    policy = Policy(key, direction, 0, profile)
    policy.window_size = REPLAY_WINDOW
    return Session(policy)
