"""Mobility tickets (RFC 8016): an allocation that survives a change of the client's address.

What the server does with MOBILITY-TICKET, all of it after the request has been authenticated:

Allocate
    - With an empty value the client asks for a ticket. Switched off, or forbidden to this user: 405
      (`MobilityForbidden`), and nothing is allocated. Otherwise the success response carries the ticket of `issue`.
    - With a value that is not empty: 400 (`check_request`).
    - A retransmission is answered alike, with `current`, and not with a new ticket.
    - Without the attribute the allocation is not mobile, and none of its responses carries a ticket.

Refresh from the five-tuple that the allocation belongs to
    - Without MOBILITY-TICKET: an ordinary Refresh, and the ticket stays.
    - With a ticket of this very allocation: a Refresh with LIFETIME other than 0 rotates it, and the response carries
      the new one. With a ticket of another allocation: 400, for a five-tuple holds one allocation.

Refresh from a five-tuple without an allocation
    - Without MOBILITY-TICKET: 437, as ever.
    - Switched off: 405. `redeem` names the allocation, or raises: 400 for a ticket that is not ours, worn out, or of
      an allocation that has ended; 441 for another user's, which stays valid for its owner.
    - The caller moves the allocation: it belongs to the new five-tuple from now on (`DataPath.move_client`), keeps its
      relayed transport address, permissions and channels, and LIFETIME is treated as ever. The old five-tuple has lost
      it: what still comes from there gets 437. (RFC 8016 §3.2.2 would let the old path carry data until the first data
      on the new one; a client of ours sends the Refresh when it has changed over.)
    - The response goes to the new five-tuple and carries the ticket of `rotate`.
    - A retransmission of that Refresh comes from the five-tuple that owns the allocation by then, with the previous
      ticket. `redeem` takes it until the current one has been seen, so that a lost response costs nothing; `rotate`
      with the same transaction ID returns the same ticket.
    - LIFETIME 0: the allocation is deleted from wherever its owner is, `forget` is called, the response has no ticket.

The allocation's end, for whatever reason: `forget`. TCP, TLS and DTLS clients are treated alike, except that a
connection which ends must not end its mobile allocation at once: the caller keeps it until it expires, its ticket
comes, or another allocation needs that five-tuple, which until then is as one without. A TCP allocation (RFC 6062)
moves to TCP and TLS clients only: 400 for others.

Tickets are random, so there is nothing in them to be decrypted or forged, and whoever holds one still needs the
password of its user.
"""

import base64
from collections.abc import Callable
from typing import ClassVar, Final, NamedTuple

from relay.errors import BadRequest, RequestRejected, WrongCredentials
from stun.registry import ErrorCode

TICKET_BYTES: Final = 24  # as text; a multiple of four needs no padding
_RANDOM_BYTES: Final = 18


class MobilityForbidden(RequestRejected):
    """405: mobility is switched off, or not for this user (RFC 8016 §3.4)."""

    code: ClassVar[ErrorCode] = ErrorCode.MOBILITY_FORBIDDEN


class TicketRefused(BadRequest):
    """400: a ticket that was never issued, is worn out, or belonged to an allocation that has ended."""


class Owner(NamedTuple):
    """Who may move an allocation: the user of the realm that made it."""

    username: str
    realm: str


class _Mobile:
    """The tickets of one allocation. `previous` counts until `current` has come back."""

    __slots__ = ("current", "owner", "previous", "transaction_id")

    def __init__(self, owner: Owner, current: bytes) -> None:
        self.owner = owner
        self.current = current
        self.previous: bytes | None = None
        self.transaction_id: bytes | None = None  # of the Refresh that `current` was made for


class MobilityTickets:
    """The tickets of all mobile allocations of a server: at most two for each, and none after its end."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        """Begin without tickets.

        Args:
            entropy: cryptographically strong random bytes of the given number.
        """
        self._entropy = entropy
        self._mobiles: dict[int, _Mobile] = {}  # by allocation
        self._by_ticket: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Tickets that would be accepted."""
        return len(self._by_ticket)

    def issue(self, allocation: int, owner: Owner) -> bytes:
        """The first ticket of a new allocation.

        Args:
            allocation: what the caller knows it by, for instance its handle; no other mobile one has it.
            owner: the user that the Allocate request authenticated.

        Raises:
            ValueError: the allocation has one already; that is a bug of the caller.
        """
        if allocation in self._mobiles:
            raise ValueError(f"allocation {allocation} has a ticket already")
        ticket = self._new_ticket(allocation)
        self._mobiles[allocation] = _Mobile(owner, ticket)
        return ticket

    def current(self, allocation: int) -> bytes | None:
        """The latest ticket, for the response to a retransmitted Allocate; None if the allocation is not mobile."""
        mobile = self._mobiles.get(allocation)
        return None if mobile is None else mobile.current

    def redeem(self, ticket: bytes, owner: Owner) -> int:
        """The allocation that this ticket stands for. The ticket is worn out by `rotate`, not by this.

        Args:
            ticket: value of MOBILITY-TICKET.
            owner: the user that the Refresh request authenticated.

        Raises:
            TicketRefused: there is no such ticket (any more).
            WrongCredentials: it belongs to another user.
        """
        allocation = self._by_ticket.get(ticket)
        if allocation is None:
            raise TicketRefused("mobility_ticket")
        mobile = self._mobiles[allocation]
        if mobile.owner != owner:
            raise WrongCredentials("mobility_ticket_of_other_user")
        if ticket == mobile.current and mobile.previous is not None:
            del self._by_ticket[mobile.previous]  # the client has the current one, so it needs the previous no more
            mobile.previous = None
        return allocation

    def rotate(self, allocation: int, transaction_id: bytes) -> bytes:
        """A new ticket, for the response to a Refresh whose ticket was redeemed; the same one for a retransmission.

        Raises:
            KeyError: the allocation is not mobile; that is a bug of the caller.
        """
        mobile = self._mobiles[allocation]
        if mobile.transaction_id == transaction_id:
            return mobile.current
        if mobile.previous is None:
            mobile.previous = mobile.current
        else:
            # The response with `current` never arrived, since the client came with the previous ticket once more.
            del self._by_ticket[mobile.current]
        mobile.current = self._new_ticket(allocation)
        mobile.transaction_id = transaction_id
        return mobile.current

    def forget(self, allocation: int) -> None:
        """The allocation has ended, and with it all of its tickets. One that is not mobile is let pass."""
        mobile = self._mobiles.pop(allocation, None)
        if mobile is None:
            return
        del self._by_ticket[mobile.current]
        if mobile.previous is not None:
            del self._by_ticket[mobile.previous]

    def _new_ticket(self, allocation: int) -> bytes:
        # As text: coturn's client keeps it as a string, and would send no more than what comes before a zero byte.
        ticket = base64.urlsafe_b64encode(self._entropy(_RANDOM_BYTES))
        while ticket in self._by_ticket:
            ticket = base64.urlsafe_b64encode(self._entropy(_RANDOM_BYTES))
        self._by_ticket[ticket] = allocation
        return ticket


def check_request(ticket: bytes | None, *, is_allowed: bool) -> bool:
    """Whether an Allocate request asks for a mobile allocation (RFC 8016 §3.1.2).

    Args:
        ticket: value of MOBILITY-TICKET, None without the attribute.
        is_allowed: whether mobility is switched on for this user.

    Raises:
        BadRequest: the value is not empty.
        MobilityForbidden: it asks, but may not.
    """
    if ticket is None:
        return False
    if ticket:
        raise BadRequest("mobility_ticket_in_allocate")
    if not is_allowed:
        raise MobilityForbidden("mobility_off")
    return True
