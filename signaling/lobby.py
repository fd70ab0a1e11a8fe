"""The lobby: every socket, room and deadline of the signaling endpoint, as one sans-IO state machine.

The shell calls in (`connect`, `receive_text`, `receive_binary`, `receive_control`, `finish_lookup`, `fail_lookup`,
`disconnect`, `handle_timeout`, `renew`, `tell`, `drain`), and after each call drains `poll_lookup`, `poll_renewal`,
`poll_transmit`, `poll_media`, `poll_event` and `poll_timeout`. `now` is monotonic time in seconds.
"""

import base64
import hashlib
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from signaling import events
from signaling.appointments import Appointment, EntryRefused, EntryWindow, Seat
from signaling.conference_desk import (
    ConferenceDesk,
    ConferencesEnding,
    Hall,
    NoConferences,
    TierMissing,
    show_seat,
)
from signaling.conference_media import Ending, MediaCommand, MediaMessage
from signaling.conference_messages import ConferenceRequest
from signaling.conference_room import ConferenceRoom, RoomFull, RoomLocked
from signaling.guess_limiter import MAX_PENDING, GuessLimiter, TooManyPending
from signaling.ice_servers import IceServer
from signaling.messages import (
    Drain,
    Error,
    ErrorCode,
    Ice,
    Join,
    Joined,
    Leave,
    MessageError,
    MessageFault,
    Paired,
    RelayFromPeer,
    RelayToPeer,
    ServerMessage,
    encode_server_message,
    parse_client_message,
)
from signaling.peer_news import announce
from signaling.rate_limiter import AddressLimiter, Pace, RateExceeded, TokenBucket
from signaling.refusals import explain_refusal
from signaling.renewals import Renewals
from signaling.room import Claim, ClaimRecord, Pairing, Room, SeatTaken
from signaling.settings import SignalingSettings
from signaling.transmit import CLOSE_GOING_AWAY, CLOSE_NORMAL, CLOSE_POLICY, Close, Forward, Lookup, Transmit

JOIN_DEADLINE_SECONDS = 10.0
OVERLOAD_RETRY_SECONDS = 5
MESSAGE_PACE = Pace(interval=1 / 50, burst=200)  # one client's messages: a burst of candidates passes
BLOB_PACE = Pace(interval=1 / 65_536, burst=524_288)  # bytes of one claim's blobs
JOIN_PACE = Pace(interval=2.0, burst=30)  # joins with one right code from one address: reloads, lost networks
FAILURE_PACE = Pace(interval=1.0, burst=60)  # joins of one address that fail because appointments or bus do
MAX_LIMITED_ADDRESSES = 65_536
LOCATOR_KEY_BYTES = 16
MAX_UNJOINED_PER_ADDRESS = 64  # a page joins at once: even a hospital behind one address stays far below
PID_BYTES = 9
# A credential is renewed after a share of its life: late enough to be worth it, early enough to be of use for a while
# longer. The share is drawn for each client, so that those who came at once, to a restarted server, part again.
RENEWAL_EARLIEST_SHARE = 1 / 2
RENEWAL_SPREAD_SHARE = 1 / 4
RENEWAL_DRAW_BYTES = 2
TOKEN_BYTES = 16


class _BothClocks(NamedTuple):
    now: float
    utc: datetime


class _Place(NamedTuple):
    room: Room
    claim: Claim


@dataclass(slots=True, eq=False)
class _Client:
    address: bytes
    messages: TokenBucket
    resume: str | None = None
    networks: tuple[bytes, ...] = ()  # around the address
    code: bytes = b""  # what it joins with, and where from, as the pace of joins names it
    looking_up: bool = False
    place: _Place | None = None
    unjoined: bool = True  # counts among the sockets of its address that have no seat
    lent: bool = False  # another lobby has its seat; its messages are checked here and handed on
    guest: bool = False  # another lobby has its socket, and counts it


class Joining(NamedTuple):
    """What another lobby must know of a client to seat it: whom to count it for, and its token."""

    address: bytes
    resume: str | None


class Lobby:
    """Seats clients, tells them about each other, and hands blobs from one to the other."""

    def __init__(
        self, settings: SignalingSettings, entropy: Callable[[int], bytes], *, note_changes: bool = False
    ) -> None:
        """Set an empty lobby up.

        Args:
            settings: the bounds.
            entropy: returns so many unpredictable bytes.
            note_changes: whether `poll_change` names rooms whose claims have changed. Then it must be drained.
        """
        self._entropy = entropy
        self._draining = False
        self._next_client = 1
        self._clients: dict[int, _Client] = {}
        self._guests = 0  # clients whose sockets other lobbies have
        self._rooms: dict[bytes, Room] = {}
        # Both deadlines lie a constant time after their entry: insertion order is expiry order. While a shorter
        # `seat_hold_seconds` is new, a seat may be held as long as the old one said.
        self._join_deadlines: OrderedDict[int, float] = OrderedDict()
        self._holds: OrderedDict[str, tuple[float, _Place]] = OrderedDict()
        self._renewals = Renewals()
        self._unjoined: Counter[bytes] = Counter()  # clients without a seat, by address
        self._lookups: deque[Lookup] = deque()
        self._renewing: deque[int] = deque()
        self._outbox: deque[Transmit | Close] = deque()
        self._events: deque[events.Event] = deque()
        self._changes: dict[bytes, None] | None = {} if note_changes else None
        self._forwards: deque[Forward] = deque()
        # Whoever takes a seat is told to us with both clocks; what follows from it is dated by the distance to that.
        self._clocks: _BothClocks | None = None
        self._pace = _guess_pace(settings)
        self._guesses = GuessLimiter(self._pace)
        self._joins = AddressLimiter(JOIN_PACE, MAX_LIMITED_ADDRESSES, max_debt=MAX_PENDING)
        self._failures = AddressLimiter(FAILURE_PACE, MAX_LIMITED_ADDRESSES)
        self._locator_key = entropy(LOCATOR_KEY_BYTES)
        hall = Hall(self._send, self._note, self._events.append, self._evict, self._send_away)
        self._desk = ConferenceDesk(hall)
        self._guessing: dict[int, tuple[bytes, ...]] = {}  # whom a lookup counts for, by client, be it gone or not
        self.configure(settings)

    def configure(self, settings: SignalingSettings) -> None:
        """Take other bounds into use; seats and rooms stay as they are."""
        self._settings = settings
        pace = _guess_pace(settings)
        if pace != self._pace:  # else whoever guesses codes would begin anew with every reload
            self._pace = pace
            self._guesses.configure(pace)

    # --- what comes in ---

    def connect(self, address: bytes, now: float, networks: tuple[bytes, ...] = ()) -> int:
        """Count a new socket in and name it.

        Args:
            address: whom to count sockets, claims and unknown codes for, from `address_key`.
            now: monotonic time, in seconds.
            networks: whom else to count unknown codes for, from `networks_around`.
        """
        client = self._next_client
        self._next_client += 1
        if self._draining:
            self._send(client, Drain())
            self._outbox.append(Close(client, CLOSE_GOING_AWAY))
        elif (
            len(self._clients) - self._guests >= self._settings.max_clients
            or self._unjoined[address] >= MAX_UNJOINED_PER_ADDRESS
        ):
            self._refuse_join(client, _overload())
        else:
            self._unjoined[address] += 1
            self._clients[client] = _Client(address, TokenBucket(MESSAGE_PACE, now), networks=networks)
            self._join_deadlines[client] = now + JOIN_DEADLINE_SECONDS
            self._events.append(events.ClientConnected())
        return client

    def receive_text(self, client: int, text: str, now: float) -> None:
        """Take one text message of a client."""
        record = self._clients.get(client)
        if record is None:
            return
        try:
            record.messages.take(now)
            message = parse_client_message(text)
        except RateExceeded:
            self._refuse_message(client, MessageFault.TOO_FAST, now)
            return
        except MessageError as error:
            self._refuse_message(client, error.fault, now)
            return
        place = record.place
        match message:
            case Leave() | RelayToPeer() | Paired() if record.lent:
                self._forwards.append(Forward(client, text))
            case Leave():
                self._leave(client, place, now)
            case Join() if place is None and not record.looking_up and not record.lent:
                self._start_lookup(client, record, message, now)
            case RelayToPeer() if place is not None:
                self._relay(client, place, message, now)
            case Paired() if place is not None:
                self._report(place, message, now)
            case _ if place is not None and isinstance(message, ConferenceRequest):
                self._confer(client, place.room, place.claim, message, now)
            case _:
                self._refuse_message(client, MessageFault.UNEXPECTED, now)

    def receive_binary(self, client: int, now: float) -> None:
        """Take a binary message, which this protocol does not have."""
        if client in self._clients:
            self._refuse_message(client, MessageFault.NOT_TEXT, now)

    def receive_control(self, client: int, now: float) -> None:
        """Count a ping or pong of a client among its messages; the shell answers it."""
        record = self._clients.get(client)
        if record is None:
            return
        try:
            record.messages.take(now)
        except RateExceeded:
            self._refuse_message(client, MessageFault.TOO_FAST, now)

    def has_client(self, client: int) -> bool:
        """Tell whether a client is still counted in: neither its socket nor the lobby has ended it."""
        return client in self._clients

    def finish_lookup(
        self, client: int, seat: Seat | None, ice: tuple[IceServer, ...], *, now: float, utc: datetime
    ) -> None:
        """Seat a client whose locator has been looked up, or tell it why not.

        Args:
            client: as the `Lookup` named it. It may be gone by now.
            seat: what the locator leads to, or None if it is unknown.
            ice: the servers to tell if there is a seat.
            now: monotonic time, in seconds.
            utc: wall-clock time, aware.
        """
        record = self._end_lookup(client, now, good=seat is not None)
        if record is None:
            return
        if seat is None:
            self._refuse_join(client, Error(code=ErrorCode.UNKNOWN_CODE))
            return
        self._joins.charge(record.code, now)
        self._admit(client, record, seat, ice, now=now, utc=utc)

    def _admit(
        self, client: int, record: _Client, seat: Seat, ice: tuple[IceServer, ...], *, now: float, utc: datetime
    ) -> None:
        self._clocks = _BothClocks(now, utc)
        window = self._settings.window(seat.appointment.start)
        try:
            window.admit(utc)
            record.place = self._take_seat(client, record, seat, now)
        except (
            EntryRefused,
            SeatTaken,
            RoomFull,
            RoomLocked,
            TierMissing,
            NoConferences,
            ConferencesEnding,
        ) as refusal:
            self._refuse_join(client, explain_refusal(refusal, seat.appointment))
        else:
            self._count_out(record)
            self._welcome(client, record.place, seat.appointment, window, ice, now)
            if not record.guest:  # the lobby of its socket renews, which knows the host that the client asked for
                self.expect_renewal(client, ice, now)

    def fail_lookup(self, client: int, now: float) -> None:
        """Tell a client to come again, because the appointments cannot be read."""
        record = self._end_lookup(client, now, good=True)
        if record is not None:
            self._failures.charge(record.address, now)
            self._refuse_join(client, _overload())

    def disconnect(self, client: int, now: float) -> None:
        """Count a socket out that has closed without `leave`: its claim is held for a while."""
        record = self._drop(client)
        if record is not None and record.place is not None:
            self._hold(record.place, now)

    def handle_timeout(self, now: float) -> None:
        """Do what is due: close who has not joined, forget silent claims and old attempts, renew credentials."""
        while self._join_deadlines and next(iter(self._join_deadlines.values())) <= now:
            self._refuse_message(next(iter(self._join_deadlines)), MessageFault.NO_JOIN, now)
        while self._holds and next(iter(self._holds.values()))[0] <= now:
            self._end_oldest_hold(events.Departure.HOLD_EXPIRED, now)
        for limiter in (self._guesses, self._joins, self._failures):
            limiter.expire(now)
        self._renewing.extend(self._renewals.take(now))

    def renew(self, client: int, ice: tuple[IceServer, ...], now: float) -> None:
        """Tell a client its servers with a fresh credential, because `poll_renewal` has named it. It may be gone."""
        if client in self._clients:
            self._send(client, Ice(ice=ice))
            self.expect_renewal(client, ice, now)

    def use_media(self) -> None:
        """Let conferences begin: whoever calls carries out what `poll_media` returns."""
        self._desk.use_media()

    def tell(self, room_id: bytes, pid: str, said: MediaMessage) -> None:
        """Hand on what the media server says to a participant of a conference. It may be gone."""
        room = self._rooms.get(room_id)
        if isinstance(room, ConferenceRoom):
            self._desk.tell(room, pid, said)

    def end_conferences(self, seconds: int, now: float) -> None:
        """Let no conference begin any more, and tell those that have begun how long they may go on."""
        for room_id, pid in self._desk.announce_end(seconds, now):
            self.tell(room_id, pid, Ending(seconds))

    def drain(self, now: float) -> None:
        """Send every client away, because the server is about to stop. Nobody is let in again."""
        self._draining = True
        for client in list(self._clients):
            self._send_elsewhere(client)
        for room in list(self._rooms.values()):
            for claim in room.claims():
                room.remove(claim, self._date(now))
                self._end_claim(room, claim, events.Departure.DRAINED, now)

    # --- what comes from other lobbies, and goes to them (docs/nodes.md) ---

    def has_room(self, room_id: bytes) -> bool:
        """Tell whether there is a claim on this room here."""
        return room_id in self._rooms

    def room_ids(self) -> list[bytes]:
        """List the rooms that are here."""
        return list(self._rooms)

    def is_open(self, seat: Seat, utc: datetime) -> bool:
        """Tell whether the code of this seat opens its room at `utc` (an aware instant)."""
        try:
            self._settings.window(seat.appointment.start).admit(utc)
        except EntryRefused:
            return False
        return True

    def lend(self, client: int, now: float) -> Joining | None:
        """Let another lobby seat a client that has been looked up; its socket goes on to count here.

        Returns:
            What the other lobby must know; None if the client has gone meanwhile.
        """
        record = self._end_lookup(client, now, good=True)
        if record is None:
            return None
        self._joins.charge(record.code, now)
        self._count_out(record)
        record.lent = True
        return Joining(record.address, record.resume)

    def expect_renewal(self, client: int, ice: tuple[IceServer, ...], now: float) -> None:
        """Renew what a client was told just now before it ends, if there is a credential in it.

        The lobby calls this itself for its own seats; for a client that was lent, whoever sees it get its seat.
        """
        if any(server.credential is not None for server in ice):
            draw = int.from_bytes(self._entropy(RENEWAL_DRAW_BYTES)) / 256**RENEWAL_DRAW_BYTES
            share = RENEWAL_EARLIEST_SHARE + RENEWAL_SPREAD_SHARE * draw
            self._renewals.schedule(client, now + share * self._settings.ice.credential_lifetime_seconds)

    def arrive(self, joining: Joining, seat: Seat, ice: tuple[IceServer, ...], *, now: float, utc: datetime) -> int:
        """Seat a client whose socket another lobby has, or tell it why not.

        Args:
            joining: as the other lobby's `lend` returned it.
            seat: what its locator led to there.
            ice: the servers to tell.
            now: monotonic time, in seconds.
            utc: wall-clock time, aware.

        Returns:
            The name of the client in this lobby.
        """
        client = self._next_client
        self._next_client += 1
        if self._draining:
            self._send_elsewhere(client)
        elif self._guests >= self._settings.max_clients:
            self._refuse_join(client, _overload())
        else:
            self._guests += 1
            messages = TokenBucket(MESSAGE_PACE, now)
            record = _Client(joining.address, messages, joining.resume, unjoined=False, guest=True)
            self._clients[client] = record
            self._admit(client, record, seat, ice, now=now, utc=utc)
        return client

    def take_back(self, client: int, seat: Seat, ice: tuple[IceServer, ...], *, now: float, utc: datetime) -> None:
        """Seat a client here that was lent to a lobby which did not have its room any more."""
        record = self._clients.get(client)
        if record is not None and record.lent:
            record.lent = False
            self._admit(client, record, seat, ice, now=now, utc=utc)

    def refuse_lent(self, client: int) -> None:
        """Tell a client that was lent to come again, because no lobby could be found for it."""
        if client in self._clients:
            self._refuse_join(client, _overload())

    def send_elsewhere(self, client: int, now: float) -> None:
        """Tell a client to connect again with its token; its claim, if it has one here, is held."""
        if client in self._clients:
            record = self._send_elsewhere(client)
            if record is not None and record.place is not None:
                self._hold(record.place, now)

    def snapshot(self, room_id: bytes) -> tuple[ClaimRecord, ...]:
        """Describe the claims on a room, for whichever lobby has it next. Empty: there is no such room.

        Those without a socket come first, as they will have been silent for longest.
        """
        room = self._rooms.get(room_id)
        claims = sorted(room.claims(), key=lambda claim: claim.client is not None) if room is not None else ()
        return tuple(ClaimRecord.of(claim) for claim in claims)

    def restore(self, appointment: Appointment, claims: tuple[ClaimRecord, ...], *, now: float, utc: datetime) -> None:
        """Take over a room that is not here, with every claim held from now on.

        Claims beyond `claims_per_seat` are left out.
        """
        self._clocks = _BothClocks(now, utc)
        room = Room(appointment, self._settings.claims_per_seat, now)
        for claim in room.restore(claims):
            if appointment.room_id not in self._rooms:
                self._rooms[appointment.room_id] = room
                self._events.append(events.RoomOpened(appointment.tier))
            self._holds[claim.pid] = (now + self._settings.seat_hold_seconds, _Place(room, claim))
            self._note(room)
            if len(self._holds) > self._settings.max_clients:
                self._end_oldest_hold(events.Departure.DISPLACED, now)

    def give_up(self, room_id: bytes, now: float) -> None:
        """Forget a room that another lobby has taken over, and send its clients there."""
        room = self._rooms.get(room_id)
        if room is None:
            return
        for claim in room.claims():
            if claim.client is not None:
                self._send_elsewhere(claim.client)
            room.remove(claim, self._date(now))
            self._end_claim(room, claim, events.Departure.MOVED, now)

    def poll_forward(self) -> Forward | None:
        """Return the next message of a client that was lent."""
        return self._forwards.popleft() if self._forwards else None

    def poll_change(self) -> bytes | None:
        """Return the id of the next room whose claims have changed since it was last returned here."""
        if not self._changes:
            return None
        room_id = next(iter(self._changes))
        del self._changes[room_id]
        return room_id

    # --- what comes out ---

    def poll_lookup(self) -> Lookup | None:
        """Return the next locator to look up. The shell answers each within a bounded time."""
        return self._lookups.popleft() if self._lookups else None

    def poll_renewal(self) -> int | None:
        """Return the next client whose credential ends soon. The shell answers with `renew`."""
        return self._renewing.popleft() if self._renewing else None

    def poll_transmit(self) -> Transmit | Close | None:
        """Return the next thing to do to a socket."""
        return self._outbox.popleft() if self._outbox else None

    def poll_media(self) -> MediaCommand | None:
        """Return the next thing to do at the media server; the order matters."""
        return self._desk.poll_command()

    def poll_event(self) -> events.Event | None:
        """Return the next event for metrics and log."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> float | None:
        """Return the instant at which `handle_timeout` has something to do."""
        due = [next(iter(self._join_deadlines.values()))] if self._join_deadlines else []
        if self._holds:
            due.append(next(iter(self._holds.values()))[0])
        limiters = (self._guesses, self._joins, self._failures)
        expiries = [limiter.next_expiry() for limiter in limiters]
        due += [at for at in (*expiries, self._renewals.next_at()) if at is not None]
        return min(due, default=None)

    # --- joining and leaving ---

    def _start_lookup(self, client: int, record: _Client, message: Join, now: float) -> None:
        networks = (record.address, *record.networks)
        try:
            self._failures.check(record.address, now)
        except RateExceeded:
            self._refuse_join(client, _overload())  # what the lookup would tell, too
            return
        code = self._name_locator(message.loc) + record.address
        try:
            self._joins.check(code, now)
            self._guesses.begin(networks, now)
        except RateExceeded as error:
            retry_after = max(1, math.ceil(error.retry_after))
            self._refuse_join(client, Error(code=ErrorCode.RATE_LIMITED, retry_after=retry_after))
            return
        except TooManyPending:
            self._refuse_join(client, _overload())
            return
        self._guessing[client] = networks
        del self._join_deadlines[client]
        record.code = code
        record.resume = message.resume
        record.looking_up = True
        self._lookups.append(Lookup(client, message.loc))

    def _name_locator(self, locator: str) -> bytes:
        """Name a locator for counting; what is remembered for a minute is no locator."""
        return hashlib.blake2b(locator.encode(), key=self._locator_key, digest_size=LOCATOR_KEY_BYTES).digest()

    def _end_lookup(self, client: int, now: float, *, good: bool) -> _Client | None:
        networks = self._guessing.pop(client, None)
        if networks is None:
            return None
        record = self._clients.get(client)
        # Of a client that went away meanwhile the attempt counts in any case.
        self._guesses.end(networks, now, wrong=not good or record is None)
        if record is not None:
            record.looking_up = False
        return record

    def _take_seat(self, client: int, record: _Client, seat: Seat, now: float) -> _Place:
        """Seat the client: on the claim of its token if there is one, else on a new claim."""
        room = self._rooms.get(seat.appointment.room_id)
        if room is not None and record.resume is not None:
            claim = room.find_by_token(seat.role, seat.number, record.resume)
            if claim is not None:
                self._resume(room, claim, now)
                claim.address, claim.client = record.address, client
                self._note(room)
                return _Place(room, claim)
        if room is None:
            room = self._make_room(seat.appointment, now)
        pid, token = _opaque(self._entropy(PID_BYTES)), _opaque(self._entropy(TOKEN_BYTES))
        claim = Claim(
            pid, seat.role, record.address, token, client=None, waiting_since=self._date(now), number=seat.number
        )
        displaced = room.add(claim)
        if displaced is not None:
            self._dismiss(room, displaced, _overload(), events.Departure.DISPLACED, now)
        claim.client = client  # only now: nothing may reach this socket before its `joined`
        if seat.appointment.room_id not in self._rooms:
            self._rooms[seat.appointment.room_id] = room
            self._events.append(events.RoomOpened(seat.appointment.tier, seat.appointment.is_conference))
        self._events.append(events.SeatClaimed(seat.role, resumed=False))
        self._note(room)
        return _Place(room, claim)

    def _make_room(self, appointment: Appointment, now: float) -> Room:
        claims_per_seat = self._settings.claims_per_seat
        if appointment.is_conference:
            return self._desk.open_room(appointment, claims_per_seat, self._settings.conference_limit, now)
        return Room(appointment, claims_per_seat, now)

    def _resume(self, room: Room, claim: Claim, now: float) -> None:
        """Free a claim for its next socket, which may hear nothing before its `joined`."""
        self._holds.pop(claim.pid, None)
        if claim.client is not None:
            # A duplicated tab has the same token. The older one must not come back by itself.
            self._close_with_error(claim.client, Error(code=ErrorCode.CODE_IN_USE))
        self._events.append(events.SeatClaimed(claim.role, resumed=True))
        self._evict(room, room.reclaim(claim), now)

    def _welcome(
        self,
        client: int,
        place: _Place,
        appointment: Appointment,
        window: EntryWindow,
        ice: tuple[IceServer, ...],
        now: float,
    ) -> None:
        """Tell a client its seat. The appointment is as it was looked up: the room may be older than its last move."""
        room, claim = place
        joined = Joined(
            room=_opaque(appointment.room_id),
            pid=claim.pid,
            role=claim.role,
            tier=appointment.tier,
            features=self._settings.tiers.features_of(appointment.tier),
            start=appointment.start,
            end=window.closes_at,
            resume=claim.token,
            ice=ice,
            conference=show_seat(room, claim) if isinstance(room, ConferenceRoom) else None,
        )
        self._send(client, joined)
        for other in room.present_beside(claim):
            self._send(client, announce(room, other, claim))
        self._tell_others(place, present=True)
        if isinstance(room, ConferenceRoom):
            for news in self._desk.catch_up(room, claim, now):
                self._send(client, news)

    def _leave(self, client: int, place: _Place | None, now: float) -> None:
        self._outbox.append(Close(client, CLOSE_NORMAL))
        self._drop(client)
        if place is not None:
            place.room.remove(place.claim, self._date(now))
            self._tell_others(place, present=False)
            self._end_claim(place.room, place.claim, events.Departure.LEFT, now)

    def _hold(self, place: _Place, now: float) -> None:
        place.room.detach(place.claim)
        self._note(place.room)
        self._holds[place.claim.pid] = (now + self._settings.seat_hold_seconds, place)
        self._tell_others(place, present=False)
        if len(self._holds) > self._settings.max_clients:
            self._end_oldest_hold(events.Departure.DISPLACED, now)

    def _end_oldest_hold(self, departure: events.Departure, now: float) -> None:
        _, (room, claim) = next(iter(self._holds.values()))
        room.remove(claim, self._date(now))
        self._end_claim(room, claim, departure, now)

    # --- pairing and relaying ---

    def _relay(self, client: int, place: _Place, message: RelayToPeer, now: float) -> None:
        room, claim = place
        if claim.blob_bytes is None:
            claim.blob_bytes = TokenBucket(BLOB_PACE, now)
        try:
            claim.blob_bytes.take(now, len(message.blob))
        except RateExceeded:
            self._refuse_message(client, MessageFault.TOO_FAST, now)
            return
        other = room.reachable(claim, message.to)
        if other is None or other.client is None:
            self._events.append(events.BlobDropped())  # the peer may just have gone: no fault of the sender
            return
        # Whoever has the locator but not the secret may speak, and must not be able to end whom it speaks to.
        self._send(other.client, RelayFromPeer(sender=claim.pid, blob=message.blob), droppable=not room.trusts(claim))
        self._events.append(events.BlobRelayed(len(message.blob)))

    def _report(self, place: _Place, message: Paired, now: float) -> None:
        pairing, rivals = place.room.report(place.claim, message.peer, ok=message.ok)
        if pairing is Pairing.CONFIRMED:
            self._note(place.room)
            self._events.append(events.PairingConfirmed(place.room.appointment.tier))
        elif pairing is Pairing.FAILED:
            self._events.append(events.PairingFailed())
        self._evict(place.room, rivals, now)

    def _confer(self, client: int, room: Room, claim: Claim, message: ConferenceRequest, now: float) -> None:
        if not isinstance(room, ConferenceRoom):
            self._refuse_message(client, MessageFault.UNEXPECTED, now)
            return
        try:
            self._desk.receive(room, claim, message, now)
        except MessageError as error:
            self._refuse_message(client, error.fault, now)

    def _send_away(self, room: Room, claim: Claim, error: Error, departure: events.Departure, now: float) -> None:
        room.remove(claim, self._date(now))
        self._dismiss(room, claim, error, departure, now)

    def _evict(self, room: Room, rivals: list[Claim], now: float) -> None:
        """Send the claims away that the room has just removed from a confirmed seat."""
        for rival in rivals:
            self._dismiss(room, rival, Error(code=ErrorCode.CODE_IN_USE), events.Departure.EVICTED, now)

    def _dismiss(self, room: Room, claim: Claim, error: Error, departure: events.Departure, now: float) -> None:
        """Tell a claim that its room has removed why it must go, and the others that it is gone."""
        if claim.client is not None:
            self._close_with_error(claim.client, error)
            self._tell_others(_Place(room, claim), present=False)
        self._end_claim(room, claim, departure, now)

    # --- sending and forgetting ---

    def _end_claim(self, room: Room, claim: Claim, departure: events.Departure, now: float) -> None:
        """Forget what the lobby knows of a claim that its room has removed."""
        self._holds.pop(claim.pid, None)
        self._note(room)
        self._events.append(events.ClaimEnded(departure))
        if len(room) == 0 and self._rooms.pop(room.appointment.room_id, None) is not None:
            appointment, seconds = room.appointment, now - room.opened_at
            closed = events.RoomClosed(appointment.tier, seconds, room.paired, appointment.is_conference)
            self._events.append(closed)

    def _refuse_join(self, client: int, error: Error) -> None:
        self._events.append(events.JoinRefused(error.code))
        self._close_with_error(client, error)

    def _refuse_message(self, client: int, fault: MessageFault, now: float) -> None:
        self._events.append(events.MessageRefused(fault))
        self._send(client, Error(code=ErrorCode.BAD_MESSAGE))
        self._outbox.append(Close(client, CLOSE_POLICY))
        self.disconnect(client, now)

    def _send_elsewhere(self, client: int) -> _Client | None:
        self._send(client, Drain())
        self._outbox.append(Close(client, CLOSE_GOING_AWAY))
        return self._drop(client)

    def _note(self, room: Room) -> None:
        """Take down that the claims of a room have changed."""
        if isinstance(room, ConferenceRoom):
            self._desk.settle(room)
            if not self._draining:  # else everybody has been sent away
                self._desk.hand_over(room)
        if self._changes is not None:
            self._changes[room.appointment.room_id] = None

    def _close_with_error(self, client: int, error: Error) -> None:
        self._send(client, error)
        self._outbox.append(Close(client, CLOSE_POLICY))
        self._drop(client)

    def _drop(self, client: int) -> _Client | None:
        self._join_deadlines.pop(client, None)
        self._renewals.forget(client)
        record = self._clients.pop(client, None)
        if record is not None:
            self._count_out(record)
            if record.guest:
                self._guests -= 1
            else:
                self._events.append(events.ClientDisconnected())
        return record

    def _count_out(self, record: _Client) -> None:
        """Take a client that has a seat, or has gone without one, out of the count of its address."""
        if not record.unjoined:
            return
        record.unjoined = False
        self._unjoined[record.address] -= 1
        if self._unjoined[record.address] == 0:
            del self._unjoined[record.address]

    def _tell_others(self, place: _Place, *, present: bool) -> None:
        for other in place.room.present_beside(place.claim):
            if other.client is not None:
                self._send(other.client, announce(place.room, place.claim, other, present=present))

    def _date(self, now: float) -> datetime:
        """Say what the wall clock shows at `now`: there is no claim to date before a seat was taken."""
        if self._clocks is None:
            raise RuntimeError("a claim has ended before there was one")
        return self._clocks.utc + timedelta(seconds=now - self._clocks.now)

    def _send(self, client: int, message: ServerMessage, *, droppable: bool = False) -> None:
        self._outbox.append(Transmit(client, encode_server_message(message), droppable))


def _guess_pace(settings: SignalingSettings) -> Pace:
    return Pace(60 / settings.unknown_codes_per_minute, settings.unknown_codes_per_minute)


def _overload() -> Error:
    return Error(code=ErrorCode.OVERLOAD, retry_after=OVERLOAD_RETRY_SECONDS)


def _opaque(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
