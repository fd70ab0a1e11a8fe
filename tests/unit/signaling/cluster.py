"""Several nodes and their bus, all made of dictionaries, for tests without any I/O."""

import itertools
import json
from collections import deque
from datetime import timedelta
from typing import Any

from signaling.appointments import Seat
from signaling.events import Event
from signaling.exchange import Command, Exchange, Place, Placement, Post, Release, Save
from signaling.ice_servers import IceServer
from signaling.lobby import Lobby
from signaling.node_messages import (
    NODE_ID_BYTES,
    NodeId,
    NodeMessage,
    encode_claims,
    encode_node_message,
    parse_claims,
    parse_node_message,
)
from signaling.rate_limiter import address_key
from signaling.settings import SignalingSettings
from signaling.transmit import Close
from tests.unit.signaling.harness import ICE, START, counting_entropy, with_credential

Client = tuple[NodeId, int]  # by the process that has the socket: it keeps its first id as a name


class Node:
    """One process: an exchange, and the sockets of its clients."""

    def __init__(self, name: NodeId, lobby: Lobby) -> None:
        self.name = name
        self.id: NodeId | None = None
        self.lobby = lobby
        self.exchange = Exchange(lobby)
        self.ids: set[NodeId] = set()


class Cluster:
    """Plays the shells, the bus and all clients. Every step is carried to its end before the next one."""

    def __init__(self, *, turn: bool = False, **settings: Any) -> None:  # noqa: ANN401
        self._has_turn = turn
        self.settings = SignalingSettings.model_validate(settings)
        self.now = 1_000_000.25
        self.utc = START
        self.seats: dict[str, Seat] = {}
        self.inbox: dict[Client, list[dict[str, Any]]] = {}
        self.closed: dict[Client, int] = {}
        self.events: list[Event] = []
        self.stored: dict[bytes, tuple[NodeId, bytes]] = {}
        self.unknown_messages = 0
        self._entropy = counting_entropy()
        self._ids = itertools.count(1)
        self._wire: deque[tuple[NodeId, NodeId, bytes]] = deque()
        self.nodes = [self.start(), self.start()]

    def start(self) -> Node:
        """Start one more process and let it join the bus."""
        lobby = Lobby(self.settings, self._entropy, note_changes=True)
        node = Node(self.draw_id(), lobby)
        self.join_bus(node, node.name)
        return node

    def draw_id(self) -> NodeId:
        return next(self._ids).to_bytes(NODE_ID_BYTES)

    def join_bus(self, node: Node, node_id: NodeId) -> None:
        node.id = node_id
        node.ids.add(node_id)
        node.exchange.join_bus(node_id, self.now)

    def connect(self, node: Node, address: str = "192.0.2.1") -> Client:
        client = (node.name, node.exchange.connect(address_key(address), self.now))
        self.inbox[client] = []
        self.settle()
        return client

    def join(self, node: Node, locator: str, resume: str | None = None, address: str = "192.0.2.1") -> Client:
        client = self.connect(node, address)
        self.send(client, type="join", loc=locator, **({"resume": resume} if resume else {}))
        return client

    def send(self, client: Client, **message: Any) -> None:  # noqa: ANN401 - JSON
        self.send_text(client, json.dumps(message))

    def send_text(self, client: Client, text: str) -> None:
        self.node_of(client).exchange.receive_text(client[1], text, self.now)
        self.settle()

    def disconnect(self, client: Client) -> None:
        self.closed.setdefault(client, 1006)
        self.node_of(client).exchange.disconnect(client[1], self.now)
        self.settle()

    def kill(self, node: Node) -> Node:
        """End a process without a word, and start another one in its place."""
        for client in self.open:
            if client[0] == node.name:
                self.closed[client] = 1006
        position = self.nodes.index(node)
        del self.nodes[position]
        self._wire = deque(sent for sent in self._wire if sent[0] not in node.ids)
        for other in self.nodes:
            for lost in node.ids & other.exchange.nodes():
                other.exchange.lose_node(lost, self.now)
        fresh = self.start()
        self.nodes.insert(position, fresh)
        self.settle()
        return fresh

    def lose_bus(self, node: Node) -> None:
        node.id = None
        node.exchange.lose_bus()
        self.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass, waking each lobby whenever it wants to be woken; stored rooms of dead owners are forgotten."""
        end = self.now + seconds
        self.utc += timedelta(seconds=seconds)
        while (due := min(filter(None, (node.exchange.poll_timeout() for node in self.nodes)), default=end)) < end:
            self.now = max(self.now, due)
            for node in self.nodes:
                node.exchange.handle_timeout(self.now)
            self.settle()
        self.now = end
        if seconds > 4 * self.settings.seat_hold_seconds / 3:
            for room_id in [room_id for room_id, (owner, _) in self.stored.items() if not self.alive(owner)]:
                del self.stored[room_id]

    @property
    def open(self) -> list[Client]:
        return [client for client in self.inbox if client not in self.closed]

    def alive(self, node_id: NodeId) -> bool:
        return any(node.id == node_id for node in self.nodes)

    def node_of(self, client: Client) -> Node:
        return next(node for node in self.nodes if node.name == client[0])

    def settle(self) -> None:
        """Carry everything to its end."""
        while True:
            moved = [self._drain(node) for node in self.nodes]
            if self._wire:
                self._deliver(*self._wire.popleft())
            elif not any(moved):
                return

    def ice(self) -> tuple[IceServer, ...]:
        return with_credential(self.now + self.settings.ice.credential_lifetime_seconds) if self._has_turn else ICE

    def claim(self, node: Node, room_id: bytes) -> Placement | None:
        """Do what the script does that claims a room; None without a bus."""
        if node.id is None:
            return None
        owner, claims = self.stored.get(room_id, (node.id, b"[]"))
        ours = owner in node.ids
        if not ours and self.alive(owner):
            return Placement(owner)
        self.stored[room_id] = (node.id, claims)
        return Placement(node.id, () if ours else parse_claims(claims))

    def _drain(self, node: Node) -> bool:
        moved = False
        exchange = node.exchange
        while (lookup := exchange.poll_lookup()) is not None:
            moved = True
            self._look_up(node, lookup.client, self.seats.get(lookup.locator))
        while (renewing := exchange.poll_renewal()) is not None:
            exchange.renew(renewing, self.ice(), self.now)
        while (output := exchange.poll_transmit()) is not None:
            client = (node.name, output.client)
            assert client not in self.closed, "something was delivered to a closed socket"
            if isinstance(output, Close):
                self.closed[client] = output.code
            else:
                self.inbox[client].append(json.loads(output.text))
        while (event := exchange.poll_event()) is not None:
            self.events.append(event)
        while (command := exchange.poll_command()) is not None:
            moved = True
            self._execute(node, command)
        return moved

    def _look_up(self, node: Node, client: int, seat: Seat | None) -> None:
        placement = None
        if seat is not None and node.exchange.wants_home(seat, self.utc):
            placement = self.claim(node, seat.appointment.room_id)
            if placement is None:
                node.exchange.fail_lookup(client, self.now)
                return
        ice = self.ice() if seat else ()
        node.exchange.finish_lookup(client, seat, ice, placement, now=self.now, utc=self.utc)

    def _execute(self, node: Node, command: Command) -> None:
        assert node.id is not None, "a command without a bus"
        match command:
            case Post(node=other, message=message) if self.alive(other):
                self._wire.append((node.id, other, encode_node_message(message)))
            case Post(node=other):
                node.exchange.lose_node(other, self.now)
            case Save(room_id=room_id, claims=claims):
                owner, _ = self.stored.get(room_id, (node.id, b""))
                if owner in node.ids:
                    self.stored[room_id] = (node.id, encode_claims(claims))
                else:
                    node.exchange.lose_room(room_id, self.now)
            case Release(room_id=room_id):
                if room_id in self.stored and self.stored[room_id][0] in node.ids:
                    del self.stored[room_id]
            case Place(client=client, room_id=room_id):
                placement = self.claim(node, room_id)
                node.exchange.finish_placement(client, room_id, placement, now=self.now, utc=self.utc)

    def _deliver(self, sender: NodeId, receiver: NodeId, data: bytes) -> None:
        message: NodeMessage = parse_node_message(data)
        for node in self.nodes:
            if node.id == receiver:
                known = node.exchange.receive(sender, message, now=self.now, utc=self.utc)
                self.unknown_messages += not known
