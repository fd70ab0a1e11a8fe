"""The long-term credential mechanism on the server's side (RFC 8489 §9.2.4)."""

from typing import Final, NamedTuple, final

from relay.allocation import holder_of
from relay.errors import BadRequest, StaleNonce, Unauthenticated
from relay.five_tuple import FiveTuple
from relay.realm import Realm, Realms
from relay.settings import MAX_REALM_WITH_ALGORITHMS
from relay.trial import Trial, trial_of
from stun.attributes import (
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    USERHASH,
    USERNAME,
    PasswordAlgorithmEntry,
)
from stun.credentials import Keys, credential_expiry
from stun.errors import CredentialError, IntegrityError, StaleNonceError
from stun.integrity import IntegrityKey
from stun.message import Message
from stun.nonce import NonceSealer, SecurityFeatures, security_features
from stun.registry import IntegrityAlgorithm, PasswordAlgorithm

_MD5: Final = PasswordAlgorithm.MD5
_OFFERED: Final = PASSWORD_ALGORITHMS.pack(
    (PasswordAlgorithmEntry(PasswordAlgorithm.SHA256), PasswordAlgorithmEntry(PasswordAlgorithm.MD5))
)
_OFFERED_VALUE: Final = _OFFERED[4:]
_ALGORITHMS: Final = {PASSWORD_ALGORITHM.pack(PasswordAlgorithmEntry(each))[4:]: each for each in PasswordAlgorithm}
_ALGORITHMS_BIT: Final = int(SecurityFeatures.PASSWORD_ALGORITHMS)
_ANONYMITY_BIT: Final = int(SecurityFeatures.USERNAME_ANONYMITY)


@final
class Identity:
    """Who sent a request, and the key that the response is signed with."""

    __slots__ = ("credentials", "holder", "key", "realm", "secret", "trial", "until", "username", "witness")

    def __init__(
        self,
        username: str,
        key: IntegrityKey,
        realm: Realm,
        secret: str,
        credentials: bytes,
        until: float,
        witness: "Authenticator",
        trial: Trial | None = None,
    ) -> None:
        self.username = username
        self.key = key
        self.realm = realm
        self.secret = secret  # name of the shared secret behind a time-limited credential, "" for a static user
        self.holder = holder_of(realm.name, username)  # for quotas and comparisons
        self.credentials = credentials  # what led here; the same bytes lead here again
        self.until = until  # Unix time from which nonce or credential are stale
        self.witness = witness  # the authenticator that says so
        self.trial = trial  # the connection test that the credential is for, which bounds all it may be used for


class Authenticator:
    """Verifies requests without remembering anything about those who have not proved who they are."""

    def __init__(self, realms: Realms, nonces: NonceSealer, *, offers_algorithms: bool) -> None:
        """Put the parts together.

        Args:
            realms: with their credentials.
            nonces: issues and verifies nonces.
            offers_algorithms: whether challenges carry PASSWORD-ALGORITHMS, where the realm leaves room for it.
        """
        self._realms = realms
        self._nonces = nonces
        self._offers_algorithms = offers_algorithms
        self._offers: dict[str, _Offer] = {}  # by name of the realm

    def authenticate(
        self,
        request: Message,
        path: FiveTuple,
        unix_time: float,
        known: Identity | None = None,
        *,
        holder: str | None = None,
        grace_seconds: int = 0,
    ) -> Identity:
        """Verify a request in the order that RFC 8489 §9.2.4 demands, with one thing made explicit.

        The nonce comes last, as there, but its cookie is believed before it is verified: it decides which checks of
        the password algorithm follow. Whoever changed the cookie gets 438 in the end, if nothing worse.

        Args:
            request: any request.
            path: where it came from, and where to.
            unix_time: seconds since 1970.
            known: who was authenticated on this path before. With the same values only the integrity is verified.
            holder: whose allocation the request keeps alive (`holder_of`), None if it keeps none. Only that user's
                time-limited name goes on to count after its expiry (docs/decisions/0022-expired-names.md), unless
                it is that of a connection test.
            grace_seconds: for how long it does.

        Raises:
            Unauthenticated: there are no credentials, or they are unknown, expired or wrong.
            BadRequest: integrity without user, REALM or NONCE; password algorithms that were not offered.
            StaleNonce: the nonce has expired or was made for another address.
            MessageParseError: one of the attributes is malformed.
        """
        if request.integrity is None:
            raise Unauthenticated("no_credentials")
        shown = request.credentials
        if known is not None and known.witness is self and known.credentials == shown and unix_time < known.until:
            _fitting_key(request, request.integrity, (("", known.key),))
            return known
        username, name, nonce = request.get(USERNAME), request.get(REALM), request.get(NONCE)
        userhash = request.get(USERHASH) if username is None else None
        if (username is None and userhash is None) or name is None or nonce is None:
            raise BadRequest("incomplete_credentials")
        algorithm = _password_algorithm(request, nonce)
        realm = self._realms.named(name)
        if realm is None:
            raise Unauthenticated("wrong_realm")
        credentials = realm.credentials
        try:
            if username is None:
                username = credentials.by_userhash(userhash or b"")
            trial = trial_of(username)
            is_kept = trial is None and holder is not None and holder == holder_of(realm.name, username)
            grace = grace_seconds if is_kept else 0
            keys = credentials.keys(username, unix_time - grace, algorithm)
        except CredentialError as error:
            raise Unauthenticated(error.reason.value) from error
        except ValueError as error:
            raise Unauthenticated("trial_name") from error
        secret, key = _fitting_key(request, request.integrity, keys)
        try:  # last: whoever does not know the password learns nothing from an old nonce, and gets 401
            until = float(self._nonces.verify(nonce, path.client, unix_time))
        except StaleNonceError as error:
            raise StaleNonce("stale_nonce") from error
        if secret:  # without the grace: within it every request is looked at anew, for it may be another kind
            until = min(until, credential_expiry(username))
        return Identity(username, key, realm, secret, shown, until, self, trial)

    def challenge(self, path: FiveTuple, unix_time: float) -> tuple[bytes, ...]:
        """REALM, a fresh NONCE and, where offered, PASSWORD-ALGORITHMS, as 401 and 438 carry them."""
        realm = self._realms.offered_at(path.server)
        offer = self._offers.get(realm.name)
        if offer is None:
            offer = self._offers[realm.name] = _make_offer(realm, offers_algorithms=self._offers_algorithms)
        nonce = NONCE.pack(self._nonces.issue(path.client, unix_time, offer.features))
        return (offer.realm, nonce, *offer.algorithms)


class _Offer(NamedTuple):
    """The parts of a challenge that stay the same."""

    realm: bytes
    features: int
    algorithms: tuple[bytes, ...]


def _make_offer(realm: Realm, *, offers_algorithms: bool) -> _Offer:
    features = 0
    algorithms: tuple[bytes, ...] = ()
    if offers_algorithms and len(realm.name.encode()) <= MAX_REALM_WITH_ALGORITHMS:
        features |= _ALGORITHMS_BIT
        algorithms = (_OFFERED,)
    if realm.credentials.has_anonymous_users:
        features |= _ANONYMITY_BIT
    return _Offer(REALM.pack(realm.name), features, algorithms)


def _password_algorithm(request: Message, nonce: str) -> PasswordAlgorithm:
    """The algorithm that the client made its key with; refuses what a man in the middle changed (RFC 8489 §9.2.4).

    A client without these attributes, as every browser, is one of MD5. Entries have no parameters and hence no
    padding, so that their bytes can be compared.
    """
    values = request.values
    chosen, echoed = values.get(PASSWORD_ALGORITHM.type), values.get(PASSWORD_ALGORITHMS.type)
    if chosen is None and echoed is None:
        return _MD5
    if security_features(nonce) & _ALGORITHMS_BIT and (chosen is None or echoed != _OFFERED_VALUE):
        raise BadRequest("password_algorithms")
    if chosen is None:
        return _MD5
    algorithm = _ALGORITHMS.get(chosen)
    if algorithm is None:
        raise BadRequest("password_algorithm")
    return algorithm


def _fitting_key(request: Message, integrity: IntegrityAlgorithm, keys: Keys) -> tuple[str, IntegrityKey]:
    raw, at = request.raw, request.integrity_at
    for fitting in keys:
        try:
            fitting[1].verify(raw, at, integrity)
        except IntegrityError:
            continue  # another of the shared secrets may fit
        return fitting
    raise Unauthenticated("wrong_password")
