"""The desk of the conferences of a lobby: who is in charge decides at it, and everybody admitted asks for media at it.

It decides nothing that `ConferenceRoom` does not; it turns what clients say into calls of the room, what comes of them
into messages, and keeps the media server up to date about who is admitted (docs/conferences.md).
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from signaling import events
from signaling.appointments import Appointment, Role, Tier
from signaling.conference_media import (
    Answer,
    Ending,
    Enter,
    Layers,
    Leave,
    Look,
    MediaCommand,
    MediaMessage,
    MediaState,
    Offer,
    OfferAgain,
    Published,
    Source,
    Speakers,
    Subscribe,
    Wish,
)
from signaling.conference_messages import (
    Admit,
    Admitted,
    ConferenceNews,
    ConferenceRequest,
    ConferenceSeat,
    Lock,
    Locked,
    LoudestSpeakers,
    MediaRequest,
    OrganiserRequest,
    Publish,
    PublishAnswer,
    Remove,
    Restart,
    ServerEnding,
    SideState,
    StandIn,
    Subscribed,
    SubscribeOffer,
    Track,
    UnwantedLayers,
    Want,
)
from signaling.conference_room import ConferenceRoom, RoomFull
from signaling.events import Departure, MediaKind
from signaling.messages import Error, ErrorCode, MessageError, MessageFault, ServerMessage
from signaling.peer_news import announce
from signaling.rate_limiter import Pace, RateExceeded, TokenBucket
from signaling.room import Claim

MEDIA_PACE = Pace(interval=1 / 4, burst=8)  # of each kind of request of one participant
TALK_LIMIT = 2  # people who may meet where there are no conferences


class TierMissing(Exception):
    """A conference is planned for an organisation that has not booked them."""


class NoConferences(Exception):
    """There is no media server, or the settings allow only two people to meet."""


class ConferencesEnding(Exception):
    """No conference begins any more, because the server is about to stop."""


class Hall(NamedTuple):
    """What the desk asks of the lobby around it."""

    send: Callable[[int, ServerMessage], None]
    note: Callable[[ConferenceRoom], None]
    observe: Callable[[events.Event], None]
    evict: Callable[[ConferenceRoom, list[Claim], float], None]
    send_away: Callable[[ConferenceRoom, Claim, Error, Departure, float], None]


@dataclass(slots=True, eq=False)
class _Participant:
    """Somebody whom the media server knows.

    Attributes:
        paces: how fast it may go on asking.
        said: what it must hear again when it comes back by another socket, the newest of each kind.
    """

    paces: dict[MediaKind, TokenBucket] = field(default_factory=dict)
    said: dict[type[ConferenceNews], ConferenceNews] = field(default_factory=dict)


class ConferenceDesk:
    """Takes what is said in conferences; see `Lobby` for who calls it."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._has_media = False
        self._entered: dict[bytes, dict[str, _Participant]] = {}  # by room and pid: whom the media server knows
        self._commands: deque[MediaCommand] = deque()
        self._ends_at: float | None = None  # monotonic instant at which conferences break off; None: not known to

    def use_media(self) -> None:
        """Let conferences begin, because there is a media server."""
        self._has_media = True

    def open_room(self, appointment: Appointment, claims_per_seat: int, limit: int, opened_at: float) -> ConferenceRoom:
        """Make the room of a conference.

        Args:
            appointment: of more than two people.
            claims_per_seat: clients that may wait on one seat.
            limit: people who may meet, the organiser included.
            opened_at: monotonic instant.

        Raises:
            NoConferences: only two people may meet here.
            TierMissing: its organisation has not booked conferences.
            ConferencesEnding: none begins any more.
        """
        if appointment.tier is not Tier.PLUS:
            raise TierMissing
        if not self._has_media or limit <= TALK_LIMIT:
            raise NoConferences
        if self._ends_at is not None:
            raise ConferencesEnding
        return ConferenceRoom(appointment, claims_per_seat, opened_at, limit=limit)

    def announce_end(self, seconds: int, now: float) -> list[tuple[bytes, str]]:
        """Let no conference begin any more; returns room and pid of those who are to be told `Ending`.

        Args:
            seconds: how long those that have begun may go on.
            now: monotonic time, in seconds.
        """
        self._ends_at = now + seconds
        return [(room_id, pid) for room_id, entered in self._entered.items() for pid in entered]

    def settle(self, room: ConferenceRoom) -> None:
        """Let the media server know whoever is admitted now, and nobody else."""
        room_id = room.appointment.room_id
        entered = self._entered.setdefault(room_id, {})
        admitted = {claim.pid for claim in room.admitted()}
        for pid in [pid for pid in entered if pid not in admitted]:
            del entered[pid]
            self._commands.append(Leave(room_id, pid))
        for claim in room.admitted():
            if claim.pid not in entered:
                entered[claim.pid] = _Participant()
                self._commands.append(Enter(room_id, claim.pid))
        if not entered:
            del self._entered[room_id]

    def hand_over(self, room: ConferenceRoom) -> None:
        """Tell everybody whom it concerns that somebody else is in charge, if that is so.

        An organiser who takes the seat is not told anything here: it has not even heard `joined` yet.
        """
        change = room.pass_charge()
        if change is None:
            return
        before, after = change
        if any(claim is not None and claim.role is Role.PARTICIPANT for claim in change):
            for claim in room.admitted():
                if claim.client is not None and claim.role is Role.PARTICIPANT:
                    self._hall.send(claim.client, _stand_in(room))
        for waiting in [claim for claim in room.claims() if not claim.confirmed]:
            if before is not None and before.role is Role.PARTICIPANT and before.pid in room:
                self._introduce(room, before, waiting, present=False)
            if after is not None and after.role is Role.PARTICIPANT:
                self._introduce(room, after, waiting, present=True)

    def receive(self, room: ConferenceRoom, claim: Claim, message: ConferenceRequest, now: float) -> None:
        """Take what a client says to its conference.

        Raises:
            MessageError: it is not for this client to say, or it says it too often.
        """
        if isinstance(message, OrganiserRequest):
            self._decide(room, claim, message, now)
        else:
            self._ask_media(room, claim, message, now)

    def tell(self, room: ConferenceRoom, pid: str, said: MediaMessage) -> None:
        """Hand on what the media server says to a participant, who may have gone by now."""
        claim = room.find(pid)
        known = self._entered.get(room.appointment.room_id, {}).get(pid)
        if claim is None or known is None:
            return
        news = _word(said)
        if isinstance(news, SubscribeOffer | LoudestSpeakers | UnwantedLayers):
            known.said[type(news)] = news
        if claim.client is not None:
            self._hall.send(claim.client, news)

    def catch_up(self, room: ConferenceRoom, claim: Claim, now: float) -> Iterator[ConferenceNews]:
        """List what may have been lost with the socket before, and is to be said again.

        An answer to `publish` is not among it: whoever did not get it makes the offer anew.
        """
        known = self._entered.get(room.appointment.room_id, {}).get(claim.pid)
        if known is None:
            return
        if room.stand_in is not None:
            yield _stand_in(room)
        yield from known.said.values()
        if self._ends_at is not None:
            yield ServerEnding(seconds=max(0, round(self._ends_at - now)))  # not what was said first: time has passed

    def poll_command(self) -> MediaCommand | None:
        """Return the next thing to do at the media server."""
        return self._commands.popleft() if self._commands else None

    # --- what is decided by whom is in charge ---

    def _decide(self, room: ConferenceRoom, claim: Claim, message: OrganiserRequest, now: float) -> None:
        if not claim.confirmed:
            raise MessageError(MessageFault.UNEXPECTED, "not before admission")
        if room.in_charge is not claim:
            return  # it may just have been
        match message:
            case Admit(peer=peer, ok=True):
                self._admit(room, peer, now)
            case Admit(peer=peer):
                self._send_away(room, room.find_waiting(peer), ErrorCode.REFUSED, now)
            case Remove(peer=peer):
                self._send_away(room, room.find_participant(peer), ErrorCode.REMOVED, now)
            case Lock(locked=locked) if locked is not room.locked:
                room.locked = locked
                for other in room.admitted():
                    if other.client is not None:
                        self._hall.send(other.client, Locked(locked=locked))

    def _admit(self, room: ConferenceRoom, peer: str, now: float) -> None:
        waiting = room.find_waiting(peer)
        if waiting is None or waiting.client is None:
            return  # it may just have gone
        known = set(room.present_beside(waiting))
        try:
            admission = room.admit(peer)
        except RoomFull as full:
            error = Error(code=ErrorCode.ROOM_FULL, limit=full.limit)
            self._hall.send_away(room, waiting, error, Departure.REFUSED, now)
            return
        if admission is None:
            return
        claim, rivals = admission
        self._hall.evict(room, rivals, now)
        self._hall.note(room)
        self._hall.observe(events.AdmissionDecided(admitted=True))
        self._hall.send(waiting.client, Admitted())
        if room.locked:
            self._hall.send(waiting.client, Locked(locked=True))
        for news in self.catch_up(room, claim, now):
            self._hall.send(waiting.client, news)
        for other in room.present_beside(claim):
            if other not in known:
                self._hall.send(waiting.client, announce(room, other, claim))
            if other.client is not None:
                self._hall.send(other.client, announce(room, claim, other))

    def _introduce(self, room: ConferenceRoom, one: Claim, other: Claim, *, present: bool) -> None:
        """Tell two of each other, as long as both have a socket: who comes back hears of the others anyway."""
        if one.client is not None and other.client is not None:
            self._hall.send(one.client, announce(room, other, one, present=present))
            self._hall.send(other.client, announce(room, one, other, present=present))

    def _send_away(self, room: ConferenceRoom, claim: Claim | None, code: ErrorCode, now: float) -> None:
        if claim is None:
            return  # it may just have gone
        if code is ErrorCode.REFUSED:
            self._hall.observe(events.AdmissionDecided(admitted=False))
        departure = Departure.REFUSED if code is ErrorCode.REFUSED else Departure.REMOVED
        self._hall.send_away(room, claim, Error(code=code), departure, now)

    # --- what is asked of the media server ---

    def _ask_media(self, room: ConferenceRoom, claim: Claim, message: MediaRequest, now: float) -> None:
        room_id = room.appointment.room_id
        known = self._entered.get(room_id, {}).get(claim.pid)
        if known is None:
            raise MessageError(MessageFault.UNEXPECTED, "not before admission")
        kind = MediaKind(message.type)
        try:
            known.paces.setdefault(kind, TokenBucket(MEDIA_PACE, now)).take(now)
        except RateExceeded:
            raise MessageError(MessageFault.TOO_FAST, kind) from None
        self._hall.observe(events.MediaRequested(kind))
        match message:
            case Publish(sdp=sdp, version=version, sources=sources):
                self._commands.append(Offer(room_id, claim.pid, sdp, version, sources))
            case Subscribed(sdp=sdp, version=version):
                self._commands.append(Answer(room_id, claim.pid, sdp, version))
            case Want(tracks=tracks):
                others = {other.pid for other in room.admitted()} - {claim.pid}
                wishes = tuple(
                    Wish(wish.pid, wish.source, wish.visible, wish.width, wish.height, wish.pinned)
                    for wish in tracks
                    if wish.pid in others
                )
                self._commands.append(Look(room_id, claim.pid, wishes))
            case Restart():
                self._commands.append(OfferAgain(room_id, claim.pid))


def show_seat(room: ConferenceRoom, claim: Claim) -> ConferenceSeat:
    """Say what `joined` tells of a seat in a conference."""
    return ConferenceSeat(index=claim.number, limit=room.limit, admitted=claim.confirmed, locked=room.locked)


def _stand_in(room: ConferenceRoom) -> StandIn:
    return StandIn(pid=room.stand_in.pid if room.stand_in is not None else None)


def _word(said: MediaMessage) -> ConferenceNews:
    match said:
        case Published(sdp=sdp, version=version):
            return PublishAnswer(sdp=sdp, version=version)
        case Subscribe(sdp=sdp, version=version, tracks=tracks):
            named = {mid: Track(pid=pid, source=Source(source)) for mid, (pid, source) in tracks.items()}
            return SubscribeOffer(sdp=sdp, version=version, tracks=named)
        case Speakers(pids=pids):
            return LoudestSpeakers(pids=pids)
        case Layers(unwanted=unwanted):
            return UnwantedLayers(unwanted=unwanted)
        case MediaState(side=side, state=state, reason=reason):
            return SideState(side=side, state=state, reason=reason)
        case Ending(seconds=seconds):
            return ServerEnding(seconds=seconds)
