import hashlib
from collections.abc import Callable
from pathlib import Path

import pylibsrtp
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1

from sfu.io import dtls
from sfu.io.dtls import (
    DtlsAssociation,
    DtlsCertificate,
    DtlsFault,
    DtlsRole,
    DtlsState,
    build_dtls_context,
    split_keying_material,
)
from sfu.media_engine import SrtpProfile

OURS, THEIRS = DtlsCertificate(), DtlsCertificate()
CONTEXT, THEIR_CONTEXT = build_dtls_context(OURS), build_dtls_context(THEIRS)
ACCEPT, CALL = DtlsRole.SERVER, DtlsRole.CLIENT
RTP = bytes.fromhex("806f0001000000000000002a") + b"payload"


def association(role: DtlsRole = ACCEPT, fingerprint: bytes = THEIRS.fingerprint) -> DtlsAssociation:
    return DtlsAssociation(CONTEXT, role, {fingerprint}, 0.0)


def remote(role: DtlsRole, context: SSL.Context = THEIR_CONTEXT) -> DtlsAssociation:
    return DtlsAssociation(context, role, {OURS.fingerprint}, 0.0)


def flight(sender: DtlsAssociation) -> list[bytes]:
    return list(iter(sender.poll_transmit, None))


def converse(one: DtlsAssociation, other: DtlsAssociation, pack: Callable[[list[bytes]], list[bytes]] = list) -> None:
    """Carry datagrams to and fro until nobody has anything to say."""
    speaking = True
    while speaking:
        speaking = False
        for sender, receiver in ((one, other), (other, one)):
            for datagram in pack(flight(sender)):
                receiver.receive(datagram)
                speaking = True


@pytest.mark.parametrize("role", DtlsRole)
def test_both_ends_get_the_same_keys_for_opposite_directions(role: DtlsRole) -> None:
    us, them = association(role), remote(CALL if role is ACCEPT else ACCEPT)
    converse(them, us)
    assert (us.state, them.state) == (DtlsState.CONNECTED, DtlsState.CONNECTED)
    assert us.keys is not None and them.keys is not None
    assert us.keys.profile is SrtpProfile.AEAD_AES_256_GCM
    assert (us.keys.inbound, us.keys.outbound) == (them.keys.outbound, them.keys.inbound)
    assert len(us.keys.inbound) == 32 + 12
    assert us.keys.inbound != us.keys.outbound


def test_what_one_end_protects_the_other_end_opens() -> None:
    us, them = association(), remote(CALL)
    converse(them, us)
    assert us.keys is not None and them.keys is not None
    profile = pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM
    sender = pylibsrtp.Session(
        pylibsrtp.Policy(them.keys.outbound, pylibsrtp.Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile)
    )
    receiver = pylibsrtp.Session(
        pylibsrtp.Policy(us.keys.inbound, pylibsrtp.Policy.SSRC_ANY_INBOUND, srtp_profile=profile)
    )
    assert receiver.unprotect(sender.protect(RTP)) == RTP


def context_with(profiles: bytes | None, certificate: DtlsCertificate | None = THEIRS) -> SSL.Context:
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    if profiles is not None:
        context.set_tlsext_use_srtp(profiles)
    if certificate is not None:
        context.use_certificate(certificate.certificate)
        context.use_privatekey(certificate.key)
    return context


def test_who_has_no_gcm_gets_counter_mode() -> None:
    us, them = association(), remote(CALL, context_with(b"SRTP_AES128_CM_SHA1_80"))
    converse(them, us)
    assert us.keys is not None
    assert us.keys.profile is SrtpProfile.AES128_CM_SHA1_80
    assert len(us.keys.outbound) == 16 + 14


def test_a_certificate_with_another_fingerprint_gives_no_keys() -> None:
    us, them = association(fingerprint=OURS.fingerprint), remote(CALL)
    converse(them, us)
    assert (us.state, us.fault, us.keys) == (DtlsState.FAILED, DtlsFault.FINGERPRINT, None)
    assert them.state is DtlsState.CLOSED  # it was told


def context_with_a_strange_certificate(folder: Path) -> tuple[SSL.Context, bytes]:
    """A client whose certificate names a version that there is not: OpenSSL takes it, stricter parsers do not."""
    version_3, version_8 = bytes.fromhex("a003020102"), bytes.fromhex("a003020107")
    strange = THEIRS.certificate.public_bytes(Encoding.DER).replace(version_3, version_8, 1)
    context = context_with(b"SRTP_AEAD_AES_256_GCM", certificate=None)
    file = folder / "certificate.der"
    file.write_bytes(strange)
    context.use_certificate_file(str(file), FILETYPE_ASN1)
    context.use_privatekey(THEIRS.key)
    return context, hashlib.sha256(strange).digest()


@pytest.mark.parametrize(("is_announced", "state"), [(True, DtlsState.CONNECTED), (False, DtlsState.FAILED)])
def test_of_a_certificate_nothing_counts_but_its_fingerprint(
    tmp_path: Path, *, is_announced: bool, state: DtlsState
) -> None:
    context, fingerprint = context_with_a_strange_certificate(tmp_path)
    us, them = association(fingerprint=fingerprint if is_announced else bytes(32)), remote(CALL, context)
    converse(them, us)
    assert us.state is state
    assert (us.keys is not None) is is_announced


def test_a_client_without_a_certificate_is_refused() -> None:
    us, them = association(), remote(CALL, context_with(b"SRTP_AEAD_AES_256_GCM", certificate=None))
    converse(them, us)
    assert (us.state, us.fault) == (DtlsState.FAILED, DtlsFault.PROTOCOL)


def test_a_client_without_srtp_is_refused() -> None:
    us, them = association(), remote(CALL, context_with(None))
    converse(them, us)
    assert (us.state, us.fault, us.keys) == (DtlsState.FAILED, DtlsFault.NO_SRTP, None)


def test_a_farewell_of_the_client_ends_the_association() -> None:
    us, them = association(), remote(CALL)
    converse(them, us)
    them.close()
    converse(them, us)
    assert us.state is DtlsState.CLOSED
    assert not us.receive(bytes(20))


def test_our_farewell_ends_that_of_the_client() -> None:
    us, them = association(), remote(CALL)
    converse(them, us)
    us.close()
    converse(us, them)
    assert them.state is DtlsState.CLOSED


def test_no_datagram_is_longer_than_the_mtu() -> None:
    us, them = association(), remote(CALL)
    sizes: list[int] = []

    def measure(datagrams: list[bytes]) -> list[bytes]:
        sizes.extend(map(len, datagrams))
        return datagrams

    converse(them, us, measure)
    assert us.state is DtlsState.CONNECTED
    assert max(sizes) <= dtls.MTU_BYTES


def cut_records(datagrams: list[bytes]) -> list[bytes]:
    """Every record in a datagram of its own."""
    records = []
    for datagram in datagrams:
        rest = datagram
        while rest:
            end = 13 + int.from_bytes(rest[11:13])
            records.append(rest[:end])
            rest = rest[end:]
    return records


@pytest.mark.parametrize(
    "pack",
    [
        cut_records,
        lambda datagrams: [b"".join(datagrams)] if datagrams else [],
        lambda datagrams: [each for each in datagrams for _ in range(2)],
        lambda datagrams: [each for datagram in datagrams for each in (b"\x16\xfe\xfd" + bytes(40), datagram)],
        lambda datagrams: [each + b"\x16junk" for each in datagrams],
    ],
    ids=["apart", "glued together", "doubled", "junk between", "junk behind"],
)
def test_the_handshake_succeeds_however_records_arrive(pack: Callable[[list[bytes]], list[bytes]]) -> None:
    us, them = association(), remote(CALL)
    converse(them, us, pack)
    assert us.state is DtlsState.CONNECTED
    assert them.state is DtlsState.CONNECTED


@pytest.mark.parametrize("size", [0, 1, 13, dtls.MAX_DATAGRAM_BYTES + 1, 65507])
def test_what_is_too_short_or_too_long_is_not_looked_at(size: int) -> None:
    us = association()
    assert not us.receive(bytes([22]) * size)
    assert us.state is DtlsState.HANDSHAKE


def test_junk_ends_no_association() -> None:
    us, them = association(), remote(CALL)
    converse(them, us)
    for first in range(20, 64):
        us.receive(bytes([first, 0xFE, 0xFD]) + bytes(60))
        us.receive(bytes([first]) + b"\xff" * 60)
    assert us.state is DtlsState.CONNECTED
    assert flight(us) == []


# Drawn before the handshake, whose bytes are never the same twice.
harms = st.tuples(st.sampled_from(["none", "flip", "cut", "double", "junk"]), st.integers(0, 2000), st.integers(1, 255))


def harmed(datagram: bytes, kind: str, at: int, value: int) -> list[bytes]:
    at %= len(datagram)
    match kind:
        case "flip":
            return [datagram[:at] + bytes([datagram[at] ^ value]) + datagram[at + 1 :]]
        case "cut":
            return [datagram[:at]]
        case "double":
            return [datagram, datagram[at:] + datagram]
        case "junk":
            return [bytes([20 + value % 44, 0xFE, 0xFD]) + bytes([value]) * at, datagram]
        case _:
            return [datagram]


@given(st.lists(harms, max_size=8))
def test_whatever_arrives_an_association_raises_nothing_and_both_ends_have_the_same_keys_or_one_has_none(
    script: list[tuple[str, int, int]],
) -> None:
    us, them = association(), remote(CALL)
    steps = iter(script)

    def harm(datagrams: list[bytes]) -> list[bytes]:
        return [piece for each in datagrams for piece in harmed(each, *next(steps, ("none", 0, 0)))]

    converse(them, us, harm)
    us.handle_timeout(0.0)
    us.close()
    flight(us)
    if us.keys is not None and them.keys is not None:
        assert (us.keys.inbound, us.keys.outbound) == (them.keys.outbound, them.keys.inbound)


def test_a_handshake_without_an_answer_ends_in_time() -> None:
    us = association(CALL)
    assert flight(us)
    us.handle_timeout(dtls.HANDSHAKE_SECONDS - 0.1)
    assert us.state is DtlsState.HANDSHAKE
    us.handle_timeout(dtls.HANDSHAKE_SECONDS)
    assert (us.state, us.fault) == (DtlsState.FAILED, DtlsFault.TIMEOUT)


def test_a_connected_association_has_no_deadline() -> None:
    us, them = association(), remote(CALL)
    converse(them, us)
    us.handle_timeout(10 * dtls.HANDSHAKE_SECONDS)
    assert us.state is DtlsState.CONNECTED


def test_keying_material_is_cut_as_the_rfc_says() -> None:
    material = b"c" * 32 + b"s" * 32 + b"1" * 12 + b"2" * 12
    assert split_keying_material(SrtpProfile.AEAD_AES_256_GCM, material) == (
        b"c" * 32 + b"1" * 12,
        b"s" * 32 + b"2" * 12,
    )
    with pytest.raises(ValueError, match="87 bytes"):
        split_keying_material(SrtpProfile.AEAD_AES_256_GCM, material[1:])


def test_the_fingerprint_is_that_of_the_certificate() -> None:
    assert len(OURS.fingerprint) == 32
    assert OURS.fingerprint != THEIRS.fingerprint
