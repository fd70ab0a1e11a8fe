import pytest

from relay.authenticator import Authenticator, Identity
from relay.errors import BadRequest, RequestRejected, StaleNonce, Unauthenticated
from stun.address import TransportAddress
from stun.attributes import NONCE, REALM, USERNAME, Attribute, pack_attribute
from stun.credentials import CredentialBook, issue_credential, long_term_key
from stun.errors import MessageParseError
from stun.integrity import IntegrityAlgorithm
from stun.message import Message, decode_message, encode_message
from stun.nonce import NonceSealer
from stun.registry import MessageClass, Method

CLIENT = TransportAddress.parse("192.0.2.1", 5000)
SECRETS = [b"s" * 32, b"t" * 32]
NOW = 1_763_800_000.0
REALM_TEXT = "redconnect"
WRONG = "looking-glass"
SEALER = NonceSealer([bytes(16)], 3600)
GOOD = {USERNAME: "alice", REALM: REALM_TEXT, NONCE: SEALER.issue(CLIENT, NOW)}


@pytest.fixture
def authenticator() -> Authenticator:
    return Authenticator(CredentialBook(REALM_TEXT, {"alice": "wonderland"}, SECRETS), SEALER)


def request(
    values: dict[Attribute[str], str],
    password: str | None = "wonderland",  # of a user that exists here only
    algorithm: IntegrityAlgorithm = IntegrityAlgorithm.SHA1,
) -> Message:
    key = None if password is None else long_term_key(values.get(USERNAME, ""), REALM_TEXT, password)
    packed = [attribute.pack(value) for attribute, value in values.items()]
    raw = encode_message(Method.REFRESH, MessageClass.REQUEST, bytes(12), packed, key=key, algorithm=algorithm)
    return decode_message(raw)


@pytest.mark.parametrize("algorithm", IntegrityAlgorithm)
def test_the_right_password_proves_the_identity(authenticator: Authenticator, algorithm: IntegrityAlgorithm) -> None:
    identity = authenticator.authenticate(request(GOOD, algorithm=algorithm), CLIENT, NOW)
    assert identity == Identity("alice", long_term_key("alice", REALM_TEXT, "wonderland"))


@pytest.mark.parametrize("secret", SECRETS)
def test_any_of_the_shared_secrets_will_do(authenticator: Authenticator, secret: bytes) -> None:
    username, password = issue_credential(secret, int(NOW) + 60)
    identity = authenticator.authenticate(request(GOOD | {USERNAME: username}, password), CLIENT, NOW)
    assert identity == Identity(username, long_term_key(username, REALM_TEXT, password))


@pytest.mark.parametrize(
    ("values", "password", "refusal", "cause"),
    [
        (GOOD, None, Unauthenticated, "no_credentials"),
        ({}, None, Unauthenticated, "no_credentials"),
        ({}, WRONG, BadRequest, "incomplete_credentials"),
        ({USERNAME: "alice", REALM: REALM_TEXT}, WRONG, BadRequest, "incomplete_credentials"),
        (GOOD | {REALM: "elsewhere"}, "wonderland", Unauthenticated, "wrong_realm"),
        (GOOD | {USERNAME: "mallory"}, "wonderland", Unauthenticated, "unknown_user"),
        (GOOD | {USERNAME: "1000:x"}, "wonderland", Unauthenticated, "expired"),
        (GOOD | {USERNAME: "1999999999"}, WRONG, Unauthenticated, "wrong_password"),
        (GOOD, WRONG, Unauthenticated, "wrong_password"),
        (GOOD | {NONCE: "x"}, WRONG, Unauthenticated, "wrong_password"),
        (GOOD | {NONCE: "x"}, "wonderland", StaleNonce, "stale_nonce"),
        (GOOD | {NONCE: SEALER.issue(CLIENT, NOW - 3600)}, "wonderland", StaleNonce, "stale_nonce"),
        (GOOD | {NONCE: SEALER.issue(CLIENT._replace(port=1), NOW)}, "wonderland", StaleNonce, "stale_nonce"),
    ],
)
def test_every_refusal_names_its_cause(
    authenticator: Authenticator,
    values: dict[Attribute[str], str],
    password: str | None,
    refusal: type[RequestRejected],
    cause: str,
) -> None:
    with pytest.raises(refusal) as caught:
        authenticator.authenticate(request(values, password), CLIENT, NOW)
    assert caught.value.cause == cause


def test_a_malformed_credential_is_a_parse_error(authenticator: Authenticator) -> None:
    raw = encode_message(
        Method.REFRESH, MessageClass.REQUEST, bytes(12), (pack_attribute(USERNAME.type, b"\xff"),), key=b"key"
    )
    with pytest.raises(MessageParseError):
        authenticator.authenticate(decode_message(raw), CLIENT, NOW)


def test_a_challenge_is_accepted_when_it_comes_back(authenticator: Authenticator) -> None:
    realm, nonce = authenticator.challenge(CLIENT, NOW)
    assert realm == REALM.pack(REALM_TEXT)
    text = NONCE.decode(nonce[4:], b"")
    assert authenticator.authenticate(request(GOOD | {NONCE: text}), CLIENT, NOW + 3599)
