import pytest

from sfu.io.engine.srtp import (
    MAX_INBOUND_SSRCS,
    MAX_PROTECTED,
    MAX_RTCP,
    MAX_RTP,
    REPLAY_WINDOW,
    PacketBuffer,
    SrtpError,
    SrtpSession,
)
from sfu.media_engine import SrtpKeys, SrtpProfile
from sfu.rtcp import encode_picture_loss
from sfu.rtp import encode_packet
from tests.support.srtp_peer import derive, protect_cm, protect_gcm

PACKET = encode_packet(15, 0x1234, 0xDECAFBAD, 0xCAFEBABE, b"\xab" * 16)


def _keys(profile: SrtpProfile, inbound: int = 1, outbound: int = 2) -> SrtpKeys:
    length = profile.key_length + profile.salt_length
    return SrtpKeys(profile, bytes([inbound]) * length, bytes([outbound]) * length)


def _pair(profile: SrtpProfile) -> tuple[SrtpSession, SrtpSession]:
    return SrtpSession(_keys(profile)), SrtpSession(_keys(profile, 2, 1))


@pytest.fixture(params=list(SrtpProfile), ids=lambda profile: profile.name)
def profile(request: pytest.FixtureRequest) -> SrtpProfile:
    value = request.param
    assert isinstance(value, SrtpProfile)
    return value


def test_the_other_end_derives_keys_as_the_rfc_publishes() -> None:
    """RFC 3711 §B.3."""
    key = bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139")
    salt = bytes.fromhex("0EC675AD498AFEEBB6960B3AABE6")
    assert derive(key, salt, 0, 16) == bytes.fromhex("C61E7A93744F39EE10734AFE3FF7A087")
    assert derive(key, salt, 2, 14) == bytes.fromhex("30CBBC08863D8C85D49DB34A9AE1")
    assert derive(key, salt, 1, 20).hex().upper().startswith("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4")


def test_what_is_protected_reads_as_the_rfcs_say(profile: SrtpProfile) -> None:
    keys = _keys(profile)
    if profile is SrtpProfile.AES128_CM_SHA1_80:
        expected = protect_cm(keys.outbound, PACKET)
    else:
        expected = protect_gcm(keys.outbound, profile.key_length, PACKET)
    assert SrtpSession(keys).protect_rtp(PACKET) == expected


def test_a_packet_comes_out_at_the_other_end_as_it_was(profile: SrtpProfile) -> None:
    here, there = _pair(profile)
    assert there.unprotect_rtp(here.protect_rtp(PACKET)) == PACKET
    report = encode_picture_loss(1, 2)
    assert there.unprotect_rtcp(here.protect_rtcp(report)) == report


def test_a_packet_in_the_buffer_becomes_what_a_packet_that_is_given_becomes(profile: SrtpProfile) -> None:
    session = SrtpSession(_keys(profile))
    session.buffer.view[: len(PACKET)] = PACKET
    assert session.protect_in_place(len(PACKET)) == SrtpSession(_keys(profile)).protect_rtp(PACKET)


def test_sessions_that_share_a_buffer_do_not_disturb_each_other(profile: SrtpProfile) -> None:
    buffer = PacketBuffer()
    first, second = SrtpSession(_keys(profile), buffer), SrtpSession(_keys(profile, 3, 4), buffer)
    longer = encode_packet(96, 1, 2, 3, b"a longer packet than the other one, so that something could be left of it")
    datagrams = first.protect_rtp(longer), second.protect_rtp(PACKET)
    assert SrtpSession(_keys(profile, 2, 1)).unprotect_rtp(memoryview(datagrams[0])) == longer
    assert SrtpSession(_keys(profile, 4, 3)).unprotect_rtp(memoryview(datagrams[1])) == PACKET


def test_what_is_longer_than_a_packet_may_be_is_not_encrypted_in_place(profile: SrtpProfile) -> None:
    with pytest.raises(SrtpError, match="bytes"):
        SrtpSession(_keys(profile)).protect_in_place(MAX_RTP + 1)


def test_a_packet_that_comes_twice_is_refused(profile: SrtpProfile) -> None:
    here, there = _pair(profile)
    datagram, report = here.protect_rtp(PACKET), here.protect_rtcp(encode_picture_loss(1, 2))
    there.unprotect_rtp(datagram)
    there.unprotect_rtcp(report)
    with pytest.raises(SrtpError, match="replay"):
        there.unprotect_rtp(datagram)
    with pytest.raises(SrtpError, match="replay"):
        there.unprotect_rtcp(report)


def test_a_packet_that_was_touched_is_refused(profile: SrtpProfile) -> None:
    here, there = _pair(profile)
    for touched in (here.protect_rtp(PACKET), here.protect_rtcp(encode_picture_loss(1, 2))):
        broken = touched[:-1] + bytes((touched[-1] ^ 1,))
        with pytest.raises(SrtpError):
            there.unprotect_rtp(broken)
        with pytest.raises(SrtpError):
            there.unprotect_rtcp(broken)


def _numbered(number: int) -> bytes:
    return encode_packet(96, number, 0, 7, b"payload")


def test_a_late_packet_goes_out_and_comes_in_while_it_lies_in_the_window(profile: SrtpProfile) -> None:
    here, there = _pair(profile)
    there.unprotect_rtp(here.protect_rtp(_numbered(2000)))
    assert there.unprotect_rtp(here.protect_rtp(_numbered(2001 - REPLAY_WINDOW))) == _numbered(2001 - REPLAY_WINDOW)
    with pytest.raises(SrtpError, match="old"):
        here.protect_rtp(_numbered(2000 - REPLAY_WINDOW - 64))


def test_a_number_is_never_used_twice(profile: SrtpProfile) -> None:
    here, _ = _pair(profile)
    here.protect_rtp(_numbered(1))
    with pytest.raises(SrtpError, match="replay"):
        here.protect_rtp(_numbered(1)[:-1] + b"!")


def test_sequence_numbers_wrap_under_the_same_key(profile: SrtpProfile) -> None:
    here, there = _pair(profile)
    for number in (0xFFFE, 0xFFFF, 0, 1):
        assert there.unprotect_rtp(here.protect_rtp(_numbered(number))) == _numbered(number)


def test_the_longest_packet_passes_and_a_longer_one_is_refused(profile: SrtpProfile) -> None:
    here, there = _pair(profile)
    longest = encode_packet(96, 1, 2, 3, bytes(MAX_RTP - 12))
    assert there.unprotect_rtp(here.protect_rtp(longest)) == longest
    with pytest.raises(SrtpError, match="bytes"):
        here.protect_rtp(encode_packet(96, 2, 2, 3, bytes(MAX_RTP - 11)))
    report = bytes.fromhex("80cc") + (MAX_RTCP // 4 - 1).to_bytes(2) + bytes(MAX_RTCP - 4)
    assert there.unprotect_rtcp(here.protect_rtcp(report)) == report
    with pytest.raises(SrtpError, match="bytes"):
        here.protect_rtcp(report + bytes(4))


@pytest.mark.parametrize("size", [0, 7, 11, MAX_PROTECTED + 1])
def test_a_datagram_of_an_impossible_length_is_refused(size: int, profile: SrtpProfile) -> None:
    session, _ = _pair(profile)
    with pytest.raises(SrtpError):
        session.unprotect_rtp(bytes(size))
    with pytest.raises(SrtpError):
        session.unprotect_rtcp(bytes(size))


def test_a_session_has_a_bounded_number_of_sources() -> None:
    here, there = _pair(SrtpProfile.AEAD_AES_256_GCM)
    for ssrc in range(MAX_INBOUND_SSRCS):
        there.unprotect_rtp(here.protect_rtp(encode_packet(96, 1, 2, ssrc, b"")))
    with pytest.raises(SrtpError, match="sources"):
        there.unprotect_rtp(here.protect_rtp(encode_packet(96, 1, 2, MAX_INBOUND_SSRCS, b"")))
    with pytest.raises(SrtpError, match="sources"):
        there.unprotect_rtcp(here.protect_rtcp(encode_picture_loss(MAX_INBOUND_SSRCS, 1)))
    assert there.unprotect_rtp(here.protect_rtp(encode_packet(96, 2, 2, 0, b"")))


def test_what_cannot_be_authenticated_takes_no_place_among_the_sources() -> None:
    here, there = _pair(SrtpProfile.AEAD_AES_256_GCM)
    for ssrc in range(2 * MAX_INBOUND_SSRCS):
        with pytest.raises(SrtpError):
            there.unprotect_rtp(encode_packet(96, 1, 2, ssrc, bytes(40)))
    assert there.unprotect_rtp(here.protect_rtp(PACKET)) == PACKET


def test_keys_of_another_length_are_refused(profile: SrtpProfile) -> None:
    keys = _keys(profile)
    with pytest.raises(ValueError, match="bytes"):
        SrtpSession(keys._replace(inbound=keys.inbound + b"x"))
    with pytest.raises(ValueError, match="bytes"):
        SrtpSession(keys._replace(outbound=keys.outbound[:-1]))
