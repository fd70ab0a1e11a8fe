"""Realms: who may use the relay, how much of it, and to reach whom (RFC 8489 §9.2)."""

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from pydantic import SecretStr

from relay.peer_policy import PeerPolicy
from relay.settings import PeerSettings, RealmSettings, RelaySettings
from stun.address import TransportAddress
from stun.credentials import CredentialBook

NO_LIMIT: Final = (1 << 31) - 1  # of allocations; the ports end before


class Realm(NamedTuple):
    """One realm with its credentials, its quota and its peer policy."""

    name: str
    credentials: CredentialBook
    policy: PeerPolicy
    allocations_per_user: int
    max_allocations: int  # of all users together
    addresses: frozenset[bytes] = frozenset()  # packed server addresses it is offered at; empty: at any
    ports: frozenset[int] = frozenset()  # server ports it is offered at; empty: at any

    def is_offered_at(self, server: TransportAddress) -> bool:
        """Whether a challenge sent from this address names this realm."""
        return (not self.addresses or server.ip in self.addresses) and (not self.ports or server.port in self.ports)


class Realms:
    """The realms of a server. The first that fits the server's address is offered; a client may name any."""

    def __init__(self, realms: Iterable[Realm]) -> None:
        """Build from the special ones to the general one, which must be offered everywhere.

        Raises:
            ValueError: there is none, a name comes twice, or the last one is not for every address.
        """
        self._realms = tuple(realms)
        self._by_name = {realm.name: realm for realm in self._realms}
        if not self._realms or self._realms[-1].addresses or self._realms[-1].ports:
            raise ValueError("the last realm is the one for every address")
        if len(self._by_name) != len(self._realms):
            raise ValueError("two realms have the same name")
        self._is_single = len(self._realms) == 1

    def __iter__(self) -> Iterator[Realm]:
        return iter(self._realms)

    def offered_at(self, server: TransportAddress) -> Realm:
        """The realm that a challenge from this address names."""
        if self._is_single:
            return self._realms[0]
        return next(realm for realm in self._realms if realm.is_offered_at(server))

    def named(self, name: str) -> Realm | None:
        """The realm that a request names, if there is such a one."""
        return self._by_name.get(name)


def realms_of(
    settings: RelaySettings,
    secrets: Mapping[str, bytes],
    own: Collection[bytes],
    own_relays: Collection[bytes],
    own_services: Collection[TransportAddress] = (),
) -> Realms:
    """The realms that the settings describe, the general one last.

    Args:
        settings: their names, users, quotas and peers.
        secrets: shared secrets of the general realm by name, besides those that the settings bring.
        own: packed addresses of this machine.
        own_relays: packed addresses that relayed transport addresses live on.
        own_services: what else of this installation clients may reach over UDP.
    """

    def policy(peers: PeerSettings) -> PeerPolicy:
        return PeerPolicy(allow=peers.allow, deny=peers.deny, own=own, own_relays=own_relays, own_services=own_services)

    def special(name: str, realm: RealmSettings) -> Realm:
        return Realm(
            name,
            CredentialBook(name, _plain(realm.users), _bytes(realm.secrets)),
            policy(realm.peers),
            realm.allocations_per_user,
            realm.max_allocations or NO_LIMIT,
            frozenset(ipaddress.ip_address(text).packed for text in realm.addresses),
            frozenset(realm.ports),
        )

    book = CredentialBook(settings.realm, _plain(settings.users), {**secrets, **_bytes(settings.secrets)})
    per_user = settings.quota.allocations_per_user
    general = Realm(settings.realm, book, policy(settings.peers), per_user, NO_LIMIT)
    return Realms([*(special(name, realm) for name, realm in settings.realms.items()), general])


def _plain(users: Mapping[str, SecretStr]) -> dict[str, str]:
    return {name: password.get_secret_value() for name, password in users.items()}


def _bytes(secrets: Mapping[str, SecretStr]) -> dict[str, bytes]:
    return {name: secret.get_secret_value().encode() for name, secret in secrets.items()}
