"""A media engine that forwards nothing: it authenticates what arrives, and counts."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import pylibsrtp

from sfu.media_engine import (
    DownTrack,
    DownTrackId,
    Extensions,
    MediaEvent,
    SessionId,
    SrtpKeys,
    SrtpProfile,
    TrackId,
    UpTrack,
)
from stun.address import TransportAddress

_PROFILES: Final = {
    SrtpProfile.AEAD_AES_256_GCM: pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    SrtpProfile.AES128_CM_SHA1_80: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
}
_RTCP_TYPES: Final = range(192, 224)  # the second byte (RFC 5761 §4)


def srtp(profile: SrtpProfile, key: bytes, direction: int) -> pylibsrtp.Session:
    return pylibsrtp.Session(pylibsrtp.Policy(key, direction, srtp_profile=_PROFILES[profile]))


class CountingEngine:
    """Remembers what it was told; `plain` holds the RTP packets of each session, decrypted but not decoded."""

    def __init__(self, send: Callable[[bytes | memoryview, TransportAddress], None]) -> None:
        self.send = send
        self.counts: Counter[str] = Counter()
        self.keys: dict[SessionId, SrtpKeys] = {}
        self.addresses: dict[SessionId, list[TransportAddress | None]] = {}
        self.extensions: dict[SessionId, Extensions] = {}
        self.removed: list[SessionId] = []
        self.plain: dict[SessionId, list[bytes]] = {}
        self.events: list[MediaEvent] = []
        self._inbound: dict[SessionId, pylibsrtp.Session] = {}

    def add_session(
        self, session: SessionId, keys: SrtpKeys, address: TransportAddress, extensions: Extensions
    ) -> None:
        self.keys[session] = keys
        self.addresses[session] = [address]
        self.extensions[session] = extensions
        self.plain[session] = []
        self._inbound[session] = srtp(keys.profile, keys.inbound, pylibsrtp.Policy.SSRC_ANY_INBOUND)

    def set_address(self, session: SessionId, address: TransportAddress | None) -> None:
        self.addresses[session].append(address)

    def set_extensions(self, session: SessionId, extensions: Extensions) -> None:
        self.extensions[session] = extensions

    def remove_session(self, session: SessionId) -> None:
        del self._inbound[session]
        self.removed.append(session)

    def add_up_track(self, session: SessionId, track: TrackId, announced: UpTrack) -> None:
        raise NotImplementedError

    def remove_up_track(self, track: TrackId) -> None:
        raise NotImplementedError

    def add_down_track(self, session: SessionId, down_track: DownTrackId, announced: DownTrack) -> None:
        raise NotImplementedError

    def remove_down_track(self, down_track: DownTrackId) -> None:
        raise NotImplementedError

    def route(self, down_track: DownTrackId, track: TrackId | None, layer: int = 0, max_temporal: int = 7) -> None:
        raise NotImplementedError

    def receive(self, session: SessionId, datagram: bytes | memoryview, now: float) -> None:  # noqa: ARG002
        raw = bytes(datagram)
        try:
            if raw[1] in _RTCP_TYPES:
                self._inbound[session].unprotect_rtcp(raw)
                self.counts["rtcp"] += 1
            else:
                self.plain[session].append(self._inbound[session].unprotect(raw))
                self.counts["rtp"] += 1
        except pylibsrtp.Error:
            self.counts["forged"] += 1

    def bitrates(self, track: TrackId, now: float) -> tuple[tuple[float, ...], ...]:
        raise NotImplementedError

    def want(self, session: SessionId, bits_per_second: float) -> None:
        raise NotImplementedError

    def request_key_frame(self, track: TrackId, layer: int, now: float) -> None:
        raise NotImplementedError

    def pump(self, now: float) -> Sequence[MediaEvent]:  # noqa: ARG002
        events, self.events = self.events, []
        return events

    def counters(self) -> Mapping[str, int]:
        return self.counts
