"""The room of a conference: who waits, who is admitted, and who may hear of whom (docs/conferences.md)."""

from collections.abc import Iterator
from datetime import datetime

from signaling.appointments import Appointment, Role
from signaling.room import Claim, Pairing, Room


class RoomLocked(Exception):
    """An organiser lets nobody else come."""


class RoomFull(Exception):
    """As many people as may meet have been admitted.

    Attributes:
        limit: how many that is, the organiser included.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} people")
        self.limit = limit


class ConferenceRoom(Room):
    """The claims of one conference. A claim is `confirmed` when it was admitted.

    A seat has at most one admitted claim; others may wait beside it only while that one has no socket. The organiser's
    place is never given away: participants are admitted up to one less than `limit`.

    Attributes:
        limit: people who may meet, the organiser included.
        locked: no participant can come who has no claim.
        in_charge: who decides about the others, and whom those who wait may meet: the organiser, or who stands in.
            It may have gone, until `pass_charge` was called.
    """

    def __init__(self, appointment: Appointment, claims_per_seat: int, opened_at: float, *, limit: int) -> None:
        super().__init__(appointment, claims_per_seat, opened_at)
        self.limit = min(limit, appointment.participants + 1)
        self.locked = False
        self.in_charge: Claim | None = None
        self._was_in_charge: Claim | None = None  # at the last `pass_charge`

    def add(self, claim: Claim) -> Claim | None:
        """Put a new claim on its seat. An organiser is admitted by that; an earlier one without a socket no longer is.

        Returns:
            The claim that made room, if one had to; see `Room.add`.

        Raises:
            RoomFull: nobody can be admitted to this seat at the moment.
            RoomLocked: a participant comes although the room is locked.
            SeatTaken: an admitted claim with an open socket is there.
        """
        if claim.role is Role.PARTICIPANT:
            if self.locked:
                raise RoomLocked
            self._check_place(claim)
        displaced = super().add(claim)
        if claim.role is Role.ORGANISER:
            self._put_in_charge(claim)
        return displaced

    def reclaim(self, claim: Claim) -> list[Claim]:
        """Take a claim from its socket for the next that showed its token; see `Room.reclaim`.

        An organiser's claim is in charge again, whoever came to its seat meanwhile. Those must go, and stay admitted
        until they have gone: whoever knew of them hears that.
        """
        if claim.role is Role.ORGANISER:
            claim.confirmed = True
        return super().reclaim(claim)

    def remove(self, claim: Claim, utc: datetime) -> None:
        """Forget a claim. Nobody waits because of that."""
        del utc
        self._forget(claim)

    def report(self, claim: Claim, peer: str, *, ok: bool) -> tuple[Pairing, list[Claim]]:
        """Take a client's word about a peer: failures are counted, and nobody is admitted by it."""
        del claim, peer
        return (Pairing.NOTED if ok else Pairing.FAILED), []

    def admit(self, peer: str) -> tuple[Claim, list[Claim]] | None:
        """Admit a participant who waits.

        Returns:
            Its claim, and those that must go because their seat is now taken. None: nobody waits here under this id,
            or not at the moment.

        Raises:
            RoomFull: there is no place left.
        """
        claim = self.find_waiting(peer)
        if claim is None:
            return None
        self._check_place(claim)
        claim.confirmed = self.paired = True
        claim.waiting_since = None
        return claim, self._evict_rivals(claim)

    def pass_charge(self) -> tuple[Claim | None, Claim | None] | None:
        """Give the charge to the organiser, and without one to a participant: of those admitted to the lowest number.

        Who is in charge stays so without a socket, for as long as it has its claim; and no participant who is let in
        later takes the charge from another one.

        Returns:
            Who was in charge at the last call and who is now, if these are two.
        """
        first = min(self.admitted(), key=lambda claim: claim.number, default=None)
        if self.stand_in is None or self.stand_in.pid not in self or (first and first.role is Role.ORGANISER):
            self.in_charge = first
        before, self._was_in_charge = self._was_in_charge, self.in_charge
        return None if before is self.in_charge else (before, self.in_charge)

    @property
    def stand_in(self) -> Claim | None:
        """Who decides in place of the organiser, if somebody does."""
        return self.in_charge if self.in_charge is not None and self.in_charge.role is Role.PARTICIPANT else None

    def find(self, pid: str) -> Claim | None:
        """Find a claim, whoever has it, with a socket or without."""
        return self._claims.get(pid)

    def find_participant(self, pid: str) -> Claim | None:
        """Find a claim that is no organiser's."""
        claim = self.find(pid)
        return claim if claim is not None and claim.role is Role.PARTICIPANT else None

    def find_waiting(self, pid: str) -> Claim | None:
        """Find a participant who is here, and waits."""
        claim = self.find_participant(pid)
        return claim if claim is not None and claim.client is not None and not claim.confirmed else None

    def admitted(self) -> Iterator[Claim]:
        """List the admitted claims, those without a socket too."""
        return (claim for claim in self._claims.values() if claim.confirmed)

    def reachable(self, claim: Claim, peer: str) -> Claim | None:
        """Find the client that `claim` may speak to under this id: present, and not hidden from it."""
        other = self._claims.get(peer)
        if other is None or other is claim or other.client is None or not self._may_meet(claim, other):
            return None
        return other

    def present_beside(self, claim: Claim) -> Iterator[Claim]:
        """List the other claims that have a socket and hear of this one, as it does of them."""
        return (other for other in super().present_beside(claim) if self._may_meet(claim, other))

    def trusts(self, claim: Claim) -> bool:
        """Tell whether an organiser has let the claim in. An organiser itself has shown no more than a locator."""
        return claim.confirmed and claim.role is Role.PARTICIPANT

    def _seat(self, role: Role, number: int) -> Iterator[Claim]:
        return (claim for claim in super()._seat(role, number) if claim.number == number)

    def _put_in_charge(self, claim: Claim) -> None:
        for other in self._seat(claim.role, claim.number):
            other.confirmed = other is claim
        self.in_charge = claim

    def _check_place(self, claim: Claim) -> None:
        taken = {other.number for other in self.admitted() if other.role is Role.PARTICIPANT}
        if len(taken - {claim.number}) >= self.limit - 1:
            raise RoomFull(self.limit)

    def _may_meet(self, claim: Claim, other: Claim) -> bool:
        """Admitted people meet each other; who waits meets whoever is in charge, and nobody else."""
        return (claim.confirmed and other.confirmed) or self.in_charge in (claim, other)
