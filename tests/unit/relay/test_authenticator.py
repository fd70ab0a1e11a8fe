from typing import Any

import pytest

from relay.allocation import holder_of
from relay.authenticator import Authenticator
from relay.errors import BadRequest, RequestRejected, StaleNonce, Unauthenticated
from relay.five_tuple import FiveTuple, Transport
from relay.peer_policy import PeerPolicy
from relay.realm import Realm, Realms
from relay.settings import MAX_REALM_WITH_ALGORITHMS
from stun.address import TransportAddress
from stun.attributes import (
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    USERHASH,
    USERNAME,
    Attribute,
    PasswordAlgorithmEntry,
    pack_attribute,
)
from stun.credentials import CredentialBook, issue_credential, long_term_key, userhash
from stun.errors import MessageParseError
from stun.integrity import IntegrityKey
from stun.message import Message, decode_message, encode_message
from stun.nonce import NonceSealer, SecurityFeatures, security_features
from stun.registry import IntegrityAlgorithm, MessageClass, Method, PasswordAlgorithm

CLIENT = TransportAddress.parse("192.0.2.1", 5000)
SERVER = TransportAddress.parse("198.51.100.1", 3478)
PATH = FiveTuple(Transport.UDP, SERVER, CLIENT)
SECRETS = {"new": b"s" * 32, "old": b"t" * 32}
NOW = 1_763_800_000.0
REALM_TEXT = "redconnect"
WRONG = "looking-glass"
SEALER = NonceSealer([bytes(16)], 3600)
MD5, SHA256 = PasswordAlgorithmEntry(1), PasswordAlgorithmEntry(2)
OFFERED = (SHA256, MD5)
COOKIE = SecurityFeatures.PASSWORD_ALGORITHMS
Values = dict[Attribute[Any], Any]
PLAIN: Values = {USERNAME: "alice", REALM: REALM_TEXT, NONCE: SEALER.issue(CLIENT, NOW)}
GOOD: Values = PLAIN | {NONCE: SEALER.issue(CLIENT, NOW, COOKIE)}
MODERN: Values = GOOD | {PASSWORD_ALGORITHMS: OFFERED, PASSWORD_ALGORITHM: SHA256}
ANONYMOUS: Values = {USERHASH: userhash("alice", REALM_TEXT)} | {
    attribute: value for attribute, value in MODERN.items() if attribute is not USERNAME
}


def realm(name: str = REALM_TEXT, secrets: dict[str, bytes] = SECRETS, **fields: Any) -> Realm:  # noqa: ANN401
    book = CredentialBook(name, {"alice": "wonderland"}, secrets)
    return Realm(name, book, PeerPolicy(), 24, 100, **fields)


def authenticator_of(*realms: Realm, offers_algorithms: bool = True) -> Authenticator:
    return Authenticator(Realms(realms), SEALER, offers_algorithms=offers_algorithms)


@pytest.fixture
def authenticator() -> Authenticator:
    return authenticator_of(realm())


def request(
    values: Values,
    password: str | None = "wonderland",  # of a user that exists here only
    algorithm: IntegrityAlgorithm = IntegrityAlgorithm.SHA1,
    password_algorithm: PasswordAlgorithm = PasswordAlgorithm.MD5,
) -> Message:
    key = None
    if password is not None:
        username = values.get(USERNAME, "alice")
        key = IntegrityKey(long_term_key(username, values.get(REALM, REALM_TEXT), password, password_algorithm))
    packed = [attribute.pack(value) for attribute, value in values.items()]
    raw = encode_message(Method.REFRESH, MessageClass.REQUEST, bytes(12), packed, key=key, algorithm=algorithm)
    return decode_message(raw)


def modern_request(values: Values, password: str = "wonderland") -> Message:
    return request(values, password, IntegrityAlgorithm.SHA256, PasswordAlgorithm.SHA256)


@pytest.mark.parametrize("algorithm", IntegrityAlgorithm)
@pytest.mark.parametrize("values", [PLAIN, GOOD])
def test_the_right_password_proves_the_identity(
    authenticator: Authenticator, values: Values, algorithm: IntegrityAlgorithm
) -> None:
    message = request(values, algorithm=algorithm)
    identity = authenticator.authenticate(message, PATH, NOW)
    assert (identity.username, identity.realm.name, identity.secret) == ("alice", REALM_TEXT, "")
    message.verify(identity.key)


@pytest.mark.parametrize("name", SECRETS)
def test_any_of_the_shared_secrets_will_do_and_is_named(authenticator: Authenticator, name: str) -> None:
    username, password = issue_credential(SECRETS[name], int(NOW) + 60)
    message = request(GOOD | {USERNAME: username}, password)
    identity = authenticator.authenticate(message, PATH, NOW)
    assert (identity.username, identity.secret) == (username, name)
    message.verify(identity.key)


@pytest.mark.parametrize("values", [MODERN, ANONYMOUS])
def test_a_modern_request_proves_the_identity_with_sha256_all_over(
    authenticator: Authenticator, values: Values
) -> None:
    message = modern_request(values)
    identity = authenticator.authenticate(message, PATH, NOW)
    assert identity.username == "alice"
    message.verify(identity.key)


def test_a_time_limited_user_may_use_sha256_too(authenticator: Authenticator) -> None:
    username, password = issue_credential(SECRETS["old"], int(NOW) + 60)
    identity = authenticator.authenticate(modern_request(MODERN | {USERNAME: username}, password), PATH, NOW)
    assert identity.secret == "old"


def test_md5_may_be_chosen_explicitly_from_the_list(authenticator: Authenticator) -> None:
    message = request(MODERN | {PASSWORD_ALGORITHM: MD5}, algorithm=IntegrityAlgorithm.SHA256)
    assert authenticator.authenticate(message, PATH, NOW).username == "alice"


def without(values: Values, *attributes: Attribute[Any]) -> Values:
    return {attribute: value for attribute, value in values.items() if attribute not in attributes}


@pytest.mark.parametrize(
    ("values", "password", "refusal", "cause"),
    [
        (GOOD, None, Unauthenticated, "no_credentials"),
        ({}, None, Unauthenticated, "no_credentials"),
        ({}, WRONG, BadRequest, "incomplete_credentials"),
        (without(GOOD, NONCE), WRONG, BadRequest, "incomplete_credentials"),
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
    values: Values,
    password: str | None,
    refusal: type[RequestRejected],
    cause: str,
) -> None:
    with pytest.raises(refusal) as caught:
        authenticator.authenticate(request(values, password), PATH, NOW)
    assert caught.value.cause == cause


@pytest.mark.parametrize(
    ("values", "refusal", "cause"),
    [
        (without(MODERN, PASSWORD_ALGORITHMS), BadRequest, "password_algorithms"),
        (without(MODERN, PASSWORD_ALGORITHM), BadRequest, "password_algorithms"),
        (MODERN | {PASSWORD_ALGORITHMS: (MD5,)}, BadRequest, "password_algorithms"),
        (MODERN | {PASSWORD_ALGORITHMS: (MD5, SHA256)}, BadRequest, "password_algorithms"),
        (MODERN | {PASSWORD_ALGORITHMS: ()}, BadRequest, "password_algorithms"),
        (MODERN | {PASSWORD_ALGORITHM: PasswordAlgorithmEntry(3)}, BadRequest, "password_algorithm"),
        (MODERN | {PASSWORD_ALGORITHM: PasswordAlgorithmEntry(2, b"p")}, BadRequest, "password_algorithm"),
        (MODERN | {PASSWORD_ALGORITHM: MD5}, Unauthenticated, "wrong_password"),
        (MODERN | {NONCE: MODERN[NONCE].replace("gAAA", "AAAA")}, StaleNonce, "stale_nonce"),
        (MODERN | {NONCE: MODERN[NONCE].replace("gAAA", "wAAA")}, StaleNonce, "stale_nonce"),
        (ANONYMOUS | {USERHASH: bytes(32)}, Unauthenticated, "unknown_user"),
        (ANONYMOUS | {USERHASH: userhash("bob", REALM_TEXT)}, Unauthenticated, "unknown_user"),
    ],
)
def test_what_was_changed_between_challenge_and_request_is_refused(
    authenticator: Authenticator, values: Values, refusal: type[RequestRejected], cause: str
) -> None:
    with pytest.raises(refusal) as caught:
        authenticator.authenticate(modern_request(values), PATH, NOW)
    assert caught.value.cause == cause


def test_without_a_cookie_the_algorithm_that_the_client_names_is_taken_at_its_word() -> None:
    # As in the sample message of RFC 8489 appendix B.1 (erratum 6268): PASSWORD-ALGORITHM alone.
    message = modern_request(PLAIN | {PASSWORD_ALGORITHM: SHA256})
    assert authenticator_of(realm(), offers_algorithms=False).authenticate(message, PATH, NOW).username == "alice"


@pytest.mark.parametrize("value", [PasswordAlgorithmEntry(0), PasswordAlgorithmEntry(3)])
def test_an_algorithm_that_nobody_knows_is_a_bad_request_without_a_cookie_too(
    authenticator: Authenticator, value: PasswordAlgorithmEntry
) -> None:
    with pytest.raises(BadRequest):
        authenticator.authenticate(request(PLAIN | {PASSWORD_ALGORITHM: value}), PATH, NOW)


@pytest.mark.parametrize(
    "malformed",
    [pack_attribute(USERNAME.type, b"\xff"), pack_attribute(USERHASH.type, bytes(31))],
    ids=["name", "hash"],
)
def test_a_malformed_credential_is_a_parse_error(authenticator: Authenticator, malformed: bytes) -> None:
    key = IntegrityKey(b"key")
    raw = encode_message(Method.REFRESH, MessageClass.REQUEST, bytes(12), (malformed,), key=key)
    with pytest.raises(MessageParseError):
        authenticator.authenticate(decode_message(raw), PATH, NOW)


def parts(challenge: tuple[bytes, ...]) -> tuple[str, str, tuple[bytes, ...]]:
    name, nonce, *rest = challenge
    text = REALM.decode(name[4 : 4 + int.from_bytes(name[2:4])], b"")
    return text, NONCE.decode(nonce[4:], b""), tuple(rest)


@pytest.mark.parametrize("offers_algorithms", [False, True])
def test_a_challenge_is_accepted_when_it_comes_back(*, offers_algorithms: bool) -> None:
    authenticator = authenticator_of(realm(), offers_algorithms=offers_algorithms)
    name, nonce, algorithms = parts(authenticator.challenge(PATH, NOW))
    assert name == REALM_TEXT
    assert algorithms == ((PASSWORD_ALGORITHMS.pack(OFFERED),) if offers_algorithms else ())
    assert bool(security_features(nonce) & COOKIE) is offers_algorithms
    assert authenticator.authenticate(request(GOOD | {NONCE: nonce}), PATH, NOW + 3599).username == "alice"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("r" * MAX_REALM_WITH_ALGORITHMS, True),
        ("r" * (MAX_REALM_WITH_ALGORITHMS + 1), False),
        ("\u00e4" * MAX_REALM_WITH_ALGORITHMS, False),
    ],
)
def test_algorithms_are_offered_only_where_the_realm_leaves_room(name: str, *, expected: bool) -> None:
    _, nonce, algorithms = parts(authenticator_of(realm(name)).challenge(PATH, NOW))
    assert bool(algorithms) is expected
    assert bool(security_features(nonce) & COOKIE) is expected


@pytest.mark.parametrize("name", ["redconnect", "r" * 12, "r" * 13, "r" * 24])
def test_a_challenge_to_a_browser_stays_within_three_times_its_request(name: str) -> None:
    challenge = authenticator_of(realm(name)).challenge(PATH, NOW)
    assert 20 + 8 + sum(map(len, challenge)) <= 3 * 28


@pytest.mark.parametrize(("secrets", "expected"), [({}, True), (SECRETS, False)])
def test_anonymity_is_asked_for_only_where_every_user_is_static(secrets: dict[str, bytes], *, expected: bool) -> None:
    _, nonce, _ = parts(authenticator_of(realm(secrets=secrets)).challenge(PATH, NOW))
    assert bool(security_features(nonce) & SecurityFeatures.USERNAME_ANONYMITY) is expected


def test_every_realm_has_its_own_challenge_and_its_own_users() -> None:
    special = Realm(
        "special", CredentialBook("special", {"bob": "b"}, {}), PeerPolicy(), 24, 100, ports=frozenset({5349})
    )
    authenticator = authenticator_of(special, realm())
    there = PATH._replace(server=SERVER._replace(port=5349))
    assert parts(authenticator.challenge(there, NOW))[0] == "special"
    assert parts(authenticator.challenge(PATH, NOW))[0] == REALM_TEXT
    bob = {USERNAME: "bob", REALM: "special", NONCE: SEALER.issue(CLIENT, NOW)}
    assert authenticator.authenticate(request(bob, "b"), there, NOW).realm is special
    with pytest.raises(Unauthenticated):
        authenticator.authenticate(request(bob | {REALM: REALM_TEXT}, "b"), there, NOW)
    with pytest.raises(Unauthenticated):
        authenticator.authenticate(request(PLAIN | {REALM: "special"}), there, NOW)


def expired(seconds: int, secret: str = "new") -> tuple[str, Message]:
    """Who holds the name that expired so many seconds ago, and a request with it."""
    username, password = issue_credential(SECRETS[secret], int(NOW) - seconds, "seat")
    return holder_of(REALM_TEXT, username), request(GOOD | {USERNAME: username}, password)


def test_an_expired_name_counts_for_its_holder_up_to_the_last_second_of_the_grace(authenticator: Authenticator) -> None:
    for seconds in (0, 1, 99):
        holder, message = expired(seconds)
        assert authenticator.authenticate(message, PATH, NOW, holder=holder, grace_seconds=100).holder == holder
    holder, message = expired(100)
    with pytest.raises(Unauthenticated, match="expired"):
        authenticator.authenticate(message, PATH, NOW, holder=holder, grace_seconds=100)


@pytest.mark.parametrize("holder", [None, holder_of(REALM_TEXT, "alice"), "seat"])
def test_the_grace_is_for_nobody_but_the_holder(authenticator: Authenticator, holder: str | None) -> None:
    _, message = expired(1)
    with pytest.raises(Unauthenticated, match="expired"):
        authenticator.authenticate(message, PATH, NOW, holder=holder, grace_seconds=100)


def test_the_grace_excuses_no_wrong_password(authenticator: Authenticator) -> None:
    username, _ = issue_credential(SECRETS["new"], int(NOW) - 1, "seat")
    forged = request(GOOD | {USERNAME: username}, WRONG)
    with pytest.raises(Unauthenticated, match="wrong_password"):
        authenticator.authenticate(forged, PATH, NOW, holder=holder_of(REALM_TEXT, username), grace_seconds=100)


def test_who_was_known_within_the_grace_is_not_known_without_it(authenticator: Authenticator) -> None:
    holder, message = expired(1)
    known = authenticator.authenticate(message, PATH, NOW, holder=holder, grace_seconds=100)
    with pytest.raises(Unauthenticated, match="expired"):
        authenticator.authenticate(message, PATH, NOW, known)
