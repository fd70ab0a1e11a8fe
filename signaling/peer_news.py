"""What a client is told about another one of its room."""

from signaling.appointments import Role
from signaling.conference_room import ConferenceRoom
from signaling.messages import Peer
from signaling.room import Claim, Room


def announce(room: Room, claim: Claim, to: Claim, *, present: bool = True) -> Peer:
    """Tell a client about another one; an organiser also since when a participant waits, and nobody else."""
    told = present and claim.role is Role.PARTICIPANT and to.role is Role.ORGANISER
    since = Room.waiting_before(claim, to) if told else None
    if not isinstance(room, ConferenceRoom):
        return Peer(pid=claim.pid, role=claim.role, present=present, since=since)
    return Peer(
        pid=claim.pid,
        role=claim.role,
        present=present,
        since=since,
        index=claim.number,
        admitted=claim.confirmed,
    )
