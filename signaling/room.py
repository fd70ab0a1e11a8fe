"""One room: claims on its seats, and how those of a two-party talk become confirmed (docs/signaling.md)."""

import hmac
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import NamedTuple, Self

from signaling.appointments import Appointment, Role
from signaling.rate_limiter import TokenBucket


class SeatTaken(Exception):
    """A confirmed claim with an open socket holds the seat."""


class Pairing(Enum):
    """What a report about a peer has led to."""

    IGNORED = auto()  # the peer is gone, or sits on the same seat
    NOTED = auto()
    CONFIRMED = auto()
    FAILED = auto()


@dataclass(slots=True, eq=False)
class Claim:
    """A client's claim on a seat. It outlives its socket for the time of the hold.

    Attributes:
        pid: names the participant to the others of the room.
        role: the seat.
        address: whose it is, as far as a key from `address_key` can tell.
        token: takes the claim over from another socket.
        client: the open socket, or None while the claim is held.
        confirmed: it and a client of the other role have verified each other; in a conference: it was admitted.
        waiting_since: UTC instant from which it has had nobody to talk to; None while it has. A socket that comes and
            goes changes nothing about it.
        number: which seat of the role, as `Seat` counts; it matters in conferences only.
        blob_bytes: how much it may still say; None before it has said anything.
    """

    pid: str
    role: Role
    address: bytes = field(repr=False)
    token: str = field(repr=False)
    client: int | None
    confirmed: bool = False
    waiting_since: datetime | None = None
    number: int = 0
    verified: set[str] = field(default_factory=set)  # pids in this room: bounded by its claims
    blob_bytes: TokenBucket | None = field(default=None, repr=False)


class ClaimRecord(NamedTuple):
    """A claim as it is handed to another lobby: without its socket, and without reports about peers."""

    pid: str
    role: Role
    address: bytes
    token: str
    confirmed: bool
    waiting_since: datetime | None = None

    @classmethod
    def of(cls, claim: Claim) -> Self:
        """Describe a claim."""
        return cls(claim.pid, claim.role, claim.address, claim.token, claim.confirmed, claim.waiting_since)


class Room:
    """The claims of one appointment for two; `ConferenceRoom` decides otherwise where more people may meet.

    Attributes:
        opened_at: monotonic instant of the first join.
        paired: a pair has been confirmed at least once.
    """

    def __init__(self, appointment: Appointment, claims_per_seat: int, opened_at: float) -> None:
        self.appointment = appointment
        self.opened_at = opened_at
        self.paired = False
        self._claims_per_seat = claims_per_seat
        self._claims: dict[str, Claim] = {}

    def __len__(self) -> int:
        return len(self._claims)

    def __contains__(self, pid: str) -> bool:
        return pid in self._claims

    def find_by_token(self, role: Role, number: int, token: str) -> Claim | None:
        """Find the claim on a seat that a resume token belongs to."""
        found = None
        for claim in self._seat(role, number):  # no early exit: the time tells nothing about which one matched
            if hmac.compare_digest(claim.token.encode(), token.encode()):
                found = claim
        return found

    def add(self, claim: Claim) -> Claim | None:
        """Put a new claim on its seat.

        On a full seat the address with most unconfirmed claims makes room, the new one included: many sockets
        of one address cannot keep anybody of another address out, nor send them away.

        Returns:
            The claim that made room, if one had to: the longest without a socket, else the oldest.

        Raises:
            SeatTaken: a confirmed claim with an open socket is there.
        """
        seat = list(self._seat(claim.role, claim.number))
        if any(other.confirmed and other.client is not None for other in seat):
            raise SeatTaken
        displaced = None
        if len(seat) >= self._claims_per_seat:
            displaced = self._choose_displaced(claim, [other for other in seat if not other.confirmed])
            self._forget(displaced)
        self._claims[claim.pid] = claim
        return displaced

    def restore(self, records: Iterable[ClaimRecord]) -> list[Claim]:
        """Put claims on the seats of an empty room, none of them with a socket.

        What no room could hold is left out: a pid or token twice, too many claims on a seat, two confirmed ones.

        Returns:
            The claims that are there now, in the order of their silence.
        """
        tokens: set[str] = set()
        for record in records:
            seat = list(self._seat(record.role, 0))
            crowded = len(seat) >= self._claims_per_seat
            rivals = record.confirmed and any(other.confirmed for other in seat)
            if crowded or rivals or record.pid in self._claims or record.token in tokens:
                continue
            tokens.add(record.token)
            pid, role, address, token, confirmed, since = record
            self._claims[pid] = Claim(pid, role, address, token, client=None, confirmed=confirmed, waiting_since=since)
        self.paired = any(claim.confirmed for claim in self._claims.values())
        return self.claims()

    def reclaim(self, claim: Claim) -> list[Claim]:
        """Take a claim from its socket, if it has one, for the next that showed its token.

        Returns:
            The claims that must go, because this one is confirmed and is about to be in use again.
        """
        self._forget_reports(claim)
        claim.client = None
        return self._evict_rivals(claim) if claim.confirmed else []

    def detach(self, claim: Claim) -> None:
        """Note that a claim has lost its socket. Reports by and about it must be made anew."""
        self._forget_reports(claim)
        claim.client = None
        # The order of the dict is the order of silence, which decides whom `add` displaces.
        self._claims[claim.pid] = self._claims.pop(claim.pid)

    def remove(self, claim: Claim, utc: datetime) -> None:
        """Forget a claim at `utc`. Whoever talked to it waits from now on."""
        self._forget(claim)
        if not claim.confirmed:
            return
        for other in self._claims.values():
            if other.role is not claim.role and other.confirmed and other.waiting_since is None:
                other.waiting_since = utc

    def report(self, claim: Claim, peer: str, *, ok: bool) -> tuple[Pairing, list[Claim]]:
        """Take a client's word about a peer.

        A failure counts also when the peer has gone meanwhile: whoever guesses leaves before the answer.

        Returns:
            What it has led to, and the claims that must go because their seat is now confirmed.
        """
        if not ok:
            claim.verified.discard(peer)
            return Pairing.FAILED, []
        other = self.reachable(claim, peer)
        if other is None:
            return Pairing.IGNORED, []
        claim.verified.add(peer)
        if claim.pid not in other.verified or (claim.confirmed and other.confirmed):
            return Pairing.NOTED, []
        claim.confirmed = other.confirmed = self.paired = True
        claim.waiting_since = other.waiting_since = None
        return Pairing.CONFIRMED, self._evict_rivals(claim) + self._evict_rivals(other)

    def reachable(self, claim: Claim, peer: str) -> Claim | None:
        """Find the client that `claim` may speak to under this id: present, and of the other role."""
        other = self._claims.get(peer)
        if other is None or other.client is None or other.role is claim.role:
            return None
        return other

    def present_beside(self, claim: Claim) -> Iterator[Claim]:
        """List the other claims that have a socket, of both roles."""
        return (other for other in self._claims.values() if other is not claim and other.client is not None)

    @staticmethod
    def waiting_before(claim: Claim, other: Claim) -> datetime | None:
        """Since when `claim` has been waiting, if `other` came later and they have not talked yet."""
        if claim.waiting_since is None or other.waiting_since is None or other.waiting_since <= claim.waiting_since:
            return None
        return claim.waiting_since

    def claims(self) -> list[Claim]:
        """List every claim, held ones too."""
        return list(self._claims.values())

    def trusts(self, claim: Claim) -> bool:
        """Tell whether what a claim says was asked for by somebody who knows the secret of the appointment."""
        return claim.confirmed

    def _seat(self, role: Role, number: int) -> Iterator[Claim]:
        """List the claims on one seat; of two seats, the role alone names one."""
        del number
        return (claim for claim in self._claims.values() if claim.role is role)

    @staticmethod
    def _choose_displaced(newcomer: Claim, unconfirmed: list[Claim]) -> Claim:
        holding = Counter(claim.address for claim in [*unconfirmed, newcomer])
        return min(unconfirmed, key=lambda claim: (-holding[claim.address], claim.client is not None))

    def _evict_rivals(self, claim: Claim) -> list[Claim]:
        rivals = [other for other in self._seat(claim.role, claim.number) if other is not claim]
        for rival in rivals:
            self._forget(rival)
        return rivals

    def _forget(self, claim: Claim) -> None:
        self._forget_reports(claim)
        del self._claims[claim.pid]

    def _forget_reports(self, claim: Claim) -> None:
        claim.verified.clear()
        for other in self._claims.values():
            other.verified.discard(claim.pid)
