"""One of several signaling nodes: which rooms are here, and how clients reach those that are not (docs/nodes.md).

A room is at one node at a time, its home; the lobby there decides about it as if it were alone. A client whose
room is elsewhere is **lent**: its socket stays here, its messages go to the home, and what the home says comes back. At
the home it is a **guest**: a client of the lobby like any other, whose socket is at another node.

The shell calls in, and after each call drains `poll_lookup`, `poll_renewal`, `poll_transmit`, `poll_event`,
`poll_command`, `poll_media` and `poll_timeout`. Without a bus (`join_bus` never called) every room is here. `now` is
monotonic time in seconds.
"""

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from signaling.appointments import Seat
from signaling.conference_media import MediaCommand, MediaMessage
from signaling.events import Event
from signaling.ice_servers import IceServer
from signaling.lobby import Joining, Lobby
from signaling.messages import MAX_MESSAGE_BYTES
from signaling.node_messages import Arrive, ClientText, Deliver, Gone, NodeId, NodeMessage, Shut, Stray
from signaling.room import ClaimRecord
from signaling.settings import SignalingSettings
from signaling.transmit import Close, Lookup, Transmit

MAX_STRAYS = 8  # a room that moves more often than this while somebody looks for it is told as overload


class Placement(NamedTuple):
    """Where a room is, as the bus has just decided: at `home`, with the claims that a node has left which is gone."""

    home: NodeId
    claims: tuple[ClaimRecord, ...] = ()


class Post(NamedTuple):
    """A message for another node is to be sent."""

    node: NodeId
    message: NodeMessage


class Save(NamedTuple):
    """The claims of a room that is here are to be kept for the node that has it next."""

    room_id: bytes
    claims: tuple[ClaimRecord, ...]


class Release(NamedTuple):
    """A room is no longer anywhere."""

    room_id: bytes


class Place(NamedTuple):
    """The home of a room is wanted, for a client that has strayed. The shell answers with `finish_placement`."""

    client: int
    room_id: bytes


Command = Post | Save | Release | Place


@dataclass(slots=True, eq=False)
class _Lent:
    home: NodeId
    joining: Joining
    seat: Seat
    ice: tuple[IceServer, ...]
    strays: int = 0
    seated: bool = False


class Exchange:
    """Joins the lobby of this node to those of the others."""

    def __init__(self, lobby: Lobby) -> None:
        """Set up beside a lobby that notes changes, if there is to be a bus."""
        self._lobby = lobby
        self._id: NodeId | None = None
        self._leaving = False
        self._lent: dict[int, _Lent] = {}
        self._guests: dict[int, tuple[NodeId, int]] = {}
        self._guest_of: dict[tuple[NodeId, int], int] = {}
        self._outbox: deque[Transmit | Close] = deque()
        self._commands: deque[Command] = deque()

    @property
    def lobby(self) -> Lobby:
        """The lobby of this node."""
        return self._lobby

    def configure(self, settings: SignalingSettings) -> None:
        """Take other bounds into use."""
        self._lobby.configure(settings)

    # --- sockets of this node ---

    def connect(self, address: bytes, now: float, networks: tuple[bytes, ...] = ()) -> int:
        """Count a new socket in and name it; see `Lobby.connect`."""
        client = self._lobby.connect(address, now, networks)
        self._route()
        return client

    def receive_text(self, client: int, text: str, now: float) -> None:
        """Take one text message of a client."""
        self._lobby.receive_text(client, text, now)
        self._route()

    def receive_binary(self, client: int, now: float) -> None:
        """Take a binary message, which this protocol does not have."""
        self._lobby.receive_binary(client, now)
        self._route()

    def receive_control(self, client: int, now: float) -> None:
        """Count a ping or pong of a client, which the shell answers."""
        self._lobby.receive_control(client, now)
        self._route()

    def disconnect(self, client: int, now: float) -> None:
        """Count a socket out that has closed without `leave`."""
        self._lobby.disconnect(client, now)
        self._return(client)
        self._route()

    def wants_home(self, seat: Seat, utc: datetime) -> bool:
        """Tell whether the bus must be asked where the room of a seat is, before `finish_lookup`.

        It never is for a conference, which a node refuses that is not alone.
        """
        room_id, is_conference = seat.appointment.room_id, seat.appointment.is_conference
        return not is_conference and not self._lobby.has_room(room_id) and self._lobby.is_open(seat, utc)

    def finish_lookup(
        self,
        client: int,
        seat: Seat | None,
        ice: tuple[IceServer, ...],
        placement: Placement | None = None,
        *,
        now: float,
        utc: datetime,
    ) -> None:
        """Seat a client whose locator has been looked up, here or at the home of its room, or tell it why not.

        Args:
            client: as the `Lookup` named it. It may be gone by now.
            seat: what the locator leads to, or None if it is unknown.
            ice: the servers to tell if there is a seat.
            placement: the home of the room, if the bus had to be asked.
            now: monotonic time, in seconds.
            utc: wall-clock time, aware.
        """
        if seat is not None and placement is not None and self._is_elsewhere(seat, placement):
            joining = self._lobby.lend(client, now)
            if joining is not None:
                lent = self._lent[client] = _Lent(placement.home, joining, seat, ice)
                self._announce(client, lent)
        else:
            if seat is not None and placement is not None:
                self._settle(seat, placement, now=now, utc=utc)
            self._lobby.finish_lookup(client, seat, ice, now=now, utc=utc)
            if seat is not None and placement is not None:
                self._release_if_empty(seat.appointment.room_id)
        self._route()

    def fail_lookup(self, client: int, now: float) -> None:
        """Tell a client to come again, because the appointments or the bus cannot be read."""
        self._lobby.fail_lookup(client, now)
        self._route()

    def finish_placement(
        self, client: int, room_id: bytes, placement: Placement | None, *, now: float, utc: datetime
    ) -> None:
        """Seat a client that has strayed at the home of its room; None: the bus cannot tell it."""
        lent = self._lent.get(client)
        if lent is None:
            if placement is not None and placement.home == self._id:
                self._release_if_empty(room_id)
            return
        if placement is None:
            del self._lent[client]
            self._lobby.refuse_lent(client)
        elif self._is_elsewhere(lent.seat, placement):
            lent.home = placement.home
            self._announce(client, lent)
        else:
            del self._lent[client]
            self._settle(lent.seat, placement, now=now, utc=utc)
            self._lobby.take_back(client, lent.seat, lent.ice, now=now, utc=utc)
            self._release_if_empty(room_id)
        self._route()

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        self._lobby.handle_timeout(now)
        self._route()

    def renew(self, client: int, ice: tuple[IceServer, ...], now: float) -> None:
        """Tell a client of this node its servers with a fresh credential; see `Lobby.renew`."""
        self._lobby.renew(client, ice, now)
        self._route()

    def tell(self, room_id: bytes, pid: str, said: MediaMessage) -> None:
        """Hand on what the media server says to a participant of a conference; see `Lobby.tell`."""
        self._lobby.tell(room_id, pid, said)
        self._route()

    def end_conferences(self, seconds: int, now: float) -> None:
        """Let no conference begin any more; see `Lobby.end_conferences`."""
        self._lobby.end_conferences(seconds, now)
        self._route()

    def leave_bus(self) -> None:
        """Keep what is stored of the rooms here as it is: this node is about to stop, and another one has them next."""
        self._leaving = True

    def drain(self, now: float) -> None:
        """Send every client away, because the server is about to stop. Nobody is let in again."""
        self._lobby.drain(now)
        self._route()

    # --- the bus ---

    def join_bus(self, node: NodeId, now: float) -> None:
        """Begin anew on the bus under an id that was never used before.

        What was said meanwhile is lost. So whoever was lent joins again by its token, the claims of guests are held
        until they do, and every room here is claimed anew.
        """
        self._id = node
        self._unlink(None, now)
        for room_id in self._lobby.room_ids():
            self._save(room_id)
        self._route()

    def lose_bus(self) -> None:
        """Go on with what is here. Whoever is lent or a guest is kept, and hears nothing for now."""
        self._id = None
        self._commands.clear()

    def lose_node(self, node: NodeId, now: float) -> None:
        """Note that another node is gone: its guests' claims are held, and who was lent to it joins again."""
        self._unlink(node, now)
        self._route()

    def lose_room(self, room_id: bytes, now: float) -> None:
        """Give a room up that the bus says is somebody else's."""
        self._lobby.give_up(room_id, now)
        self._route()

    def save_again(self, room_id: bytes) -> None:
        """Claim a room anew that the bus has forgotten, if it is still here."""
        if self._lobby.has_room(room_id):
            self._save(room_id)

    def nodes(self) -> set[NodeId]:
        """Name the nodes that somebody is lent to, or a guest of: their end matters here."""
        return {lent.home for lent in self._lent.values()} | {node for node, _ in self._guests.values()}

    def receive(self, sender: NodeId, message: NodeMessage, *, now: float, utc: datetime) -> bool:
        """Take a message of another node.

        Returns:
            Whether it was about anything that is here; one that has just ended is no fault.
        """
        known = False
        match message:
            case Arrive():
                known = self._receive_arrival(sender, message, now=now, utc=utc)
            case ClientText() | Gone():
                known = self._receive_from_guest(sender, message, now)
            case Deliver() | Shut() | Stray():
                known = self._receive_from_home(sender, message, now)
        self._route()
        return known

    # --- what comes out ---

    def poll_lookup(self) -> Lookup | None:
        """Return the next locator to look up."""
        return self._lobby.poll_lookup()

    def poll_renewal(self) -> int | None:
        """Return the next client whose credential ends soon."""
        return self._lobby.poll_renewal()

    def poll_transmit(self) -> Transmit | Close | None:
        """Return the next thing to do to a socket of this node."""
        return self._outbox.popleft() if self._outbox else None

    def poll_media(self) -> MediaCommand | None:
        """Return the next thing to do at the media server; the order matters."""
        return self._lobby.poll_media()

    def poll_event(self) -> Event | None:
        """Return the next event for metrics and log."""
        return self._lobby.poll_event()

    def poll_command(self) -> Command | None:
        """Return the next thing to do on the bus; the order matters."""
        return self._commands.popleft() if self._commands else None

    def poll_timeout(self) -> float | None:
        """Return the instant at which `handle_timeout` has something to do."""
        return self._lobby.poll_timeout()

    # --- inside ---

    def _receive_arrival(self, sender: NodeId, message: Arrive, *, now: float, utc: datetime) -> bool:
        if (sender, message.client) in self._guest_of:
            return False
        if not self._lobby.has_room(message.seat.appointment.room_id):
            self._command(Post(sender, Stray(message.client)))
            return True
        joining = Joining(message.address, message.resume)
        guest = self._lobby.arrive(joining, message.seat, message.ice, now=now, utc=utc)
        self._guests[guest] = (sender, message.client)
        self._guest_of[sender, message.client] = guest
        return True

    def _receive_from_guest(self, sender: NodeId, message: ClientText | Gone, now: float) -> bool:
        guest = self._guest_of.get((sender, message.client))
        if guest is None:
            return False
        if isinstance(message, ClientText):
            self._lobby.receive_text(guest, message.text, now)
        else:
            self._lobby.disconnect(guest, now)
            self._route()
            self._forget_guest(guest)
        return True

    def _receive_from_home(self, sender: NodeId, message: Deliver | Shut | Stray, now: float) -> bool:
        client = message.client
        lent = self._lent.get(client)
        if lent is None or lent.home != sender:
            return False
        match message:
            case Deliver(text=text, droppable=droppable):
                if len(text) > MAX_MESSAGE_BYTES:
                    return False
                self._outbox.append(Transmit(client, text, droppable))
                if not lent.seated:  # the first word of a home is `joined`, or why not: then `Shut` follows
                    lent.seated = True
                    self._lobby.expect_renewal(client, lent.ice, now)
            case Shut(code=code):
                del self._lent[client]
                self._outbox.append(Close(client, code))
                self._lobby.disconnect(client, now)
            case Stray():
                lent.strays += 1
                if lent.strays > MAX_STRAYS:
                    del self._lent[client]
                    self._lobby.refuse_lent(client)
                else:
                    self._command(Place(client, lent.seat.appointment.room_id))
        return True

    def _is_elsewhere(self, seat: Seat, placement: Placement) -> bool:
        return placement.home != self._id and not self._lobby.has_room(seat.appointment.room_id)

    def _settle(self, seat: Seat, placement: Placement, *, now: float, utc: datetime) -> None:
        """Take a room over that has just come here."""
        if placement.claims and not self._lobby.has_room(seat.appointment.room_id):
            self._lobby.restore(seat.appointment, placement.claims, now=now, utc=utc)

    def _release_if_empty(self, room_id: bytes) -> None:
        """Take back what was claimed on the bus for a client that was not seated after all."""
        if not self._lobby.has_room(room_id):
            self._command(Release(room_id))

    def _announce(self, client: int, lent: _Lent) -> None:
        arrival = Arrive(client, lent.joining.address, lent.joining.resume, lent.seat, lent.ice)
        self._command(Post(lent.home, arrival))

    def _return(self, client: int) -> None:
        """Tell the home of a client that its socket has ended."""
        lent = self._lent.pop(client, None)
        if lent is not None:
            self._command(Post(lent.home, Gone(client)))

    def _unlink(self, node: NodeId | None, now: float) -> None:
        """End what goes through one other node, or through all of them."""
        for client, lent in list(self._lent.items()):
            if node is None or lent.home == node:
                del self._lent[client]
                self._lobby.send_elsewhere(client, now)
        for guest, (sender, _) in list(self._guests.items()):
            if node is None or sender == node:
                self._lobby.disconnect(guest, now)
                self._route()
                self._forget_guest(guest)

    def _forget_guest(self, guest: int) -> None:
        key = self._guests.pop(guest, None)
        if key is not None:
            del self._guest_of[key]

    def _route(self) -> None:
        """Hand what the lobby says to the sockets here or to the nodes that have them."""
        while (room_id := self._lobby.poll_change()) is not None:
            self._save(room_id)
        while (output := self._lobby.poll_transmit()) is not None:
            self._route_output(output)
        while (forward := self._lobby.poll_forward()) is not None:
            lent = self._lent.get(forward.client)
            if lent is not None:
                self._command(Post(lent.home, ClientText(forward.client, forward.text)))

    def _route_output(self, output: Transmit | Close) -> None:
        guest = self._guests.get(output.client)
        if guest is None:
            if isinstance(output, Close):
                self._return(output.client)
            self._outbox.append(output)
            return
        node, number = guest
        if isinstance(output, Close):
            self._command(Post(node, Shut(number, output.code)))
            self._forget_guest(output.client)
        else:
            self._command(Post(node, Deliver(number, output.text, output.droppable)))

    def _save(self, room_id: bytes) -> None:
        if self._leaving:
            return
        claims = self._lobby.snapshot(room_id)
        self._command(Save(room_id, claims) if claims else Release(room_id))

    def _command(self, command: Command) -> None:
        """Hand a command to the bus, if there is one; `join_bus` makes up for what is dropped here."""
        if self._id is not None:
            self._commands.append(command)
