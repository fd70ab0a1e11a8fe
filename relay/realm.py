"""Realms: who may use the relay, how much of it, and to reach whom (RFC 8489 §9.2)."""

from collections.abc import Iterable
from typing import NamedTuple

from relay.peer_policy import PeerPolicy
from stun.address import TransportAddress
from stun.credentials import CredentialBook


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

    def offered_at(self, server: TransportAddress) -> Realm:
        """The realm that a challenge from this address names."""
        if self._is_single:
            return self._realms[0]
        return next(realm for realm in self._realms if realm.is_offered_at(server))

    def named(self, name: str) -> Realm | None:
        """The realm that a request names, if there is such a one."""
        return self._by_name.get(name)
