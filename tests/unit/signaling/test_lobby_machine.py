"""The lobby under every order of joins, reports, losses and returns that Hypothesis can think of."""

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from signaling import events
from tests.unit.signaling.harness import Harness, credential_expiry

CLAIMS_PER_SEAT = 3
MAX_CLIENTS = 8
PUBLISH = '{"type":"publish","sdp":"v=0","sources":{"0":"camera"}}'


class LobbyMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.harness = Harness(
            turn=True,
            media=True,
            claims_per_seat=CLAIMS_PER_SEAT,
            max_clients=MAX_CLIENTS,
            unknown_codes_per_minute=1000,
            ice={"credential_lifetime_seconds": 20},
        )
        self.rooms = [self.harness.plan(number) for number in range(2)]
        self.seat_of: dict[int, tuple[int, int]] = {}  # client to (room, role), for every client ever seated
        self.identity: dict[int, tuple[str, str]] = {}  # client to (pid, token)
        self.blobs = 0

    @property
    def open(self) -> list[int]:
        return [client for client in self.harness.inbox if client not in self.harness.closed]

    @property
    def seated(self) -> list[int]:
        return [client for client in self.open if client in self.seat_of]

    def seat(self, client: int, room: int, role: int) -> None:
        inbox = self.harness.inbox[client]
        if any(message["type"] == "joined" for message in inbox):
            assert inbox[0]["type"] == "joined", "something came before `joined`"
            self.seat_of[client] = (room, role)
            self.identity[client] = (inbox[0]["pid"], inbox[0]["resume"])

    @rule()
    def connect_only(self) -> None:
        self.harness.connect()

    @rule(room=st.integers(0, 1), role=st.integers(0, 1), address=st.sampled_from(["192.0.2.1", "192.0.2.2"]))
    def join(self, room: int, role: int, address: str) -> None:
        self.seat(self.harness.join(self.rooms[room][role], address=address), room, role)

    @precondition(lambda self: self.seat_of)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(sorted(self.seat_of)))
        room, role = self.seat_of[old]
        held = self.identity[old][0] in self.claims(room)
        client = self.harness.join(self.rooms[room][role], resume=self.identity[old][1])
        self.seat(client, room, role)
        if held and client in self.identity:
            assert self.identity[client] == self.identity[old], "the token did not take the claim back"

    @precondition(lambda self: self.seated)
    @rule(data=st.data(), ok=st.booleans())
    def report(self, data: st.DataObject, ok: bool) -> None:  # noqa: FBT001
        client, peer = self.draw_two(data)
        self.harness.send(client, type="paired", peer=self.identity[peer][0], ok=ok)

    @precondition(lambda self: self.seated)
    @rule(data=st.data())
    def pair(self, data: st.DataObject) -> None:
        client, peer = self.draw_two(data)
        for one, other in ((client, peer), (peer, client)):
            if one in self.open:
                self.harness.send(one, type="paired", peer=self.identity[other][0], ok=True)

    @precondition(lambda self: self.seated)
    @rule(data=st.data())
    def relay(self, data: st.DataObject) -> None:
        client, peer = self.draw_two(data)
        self.blobs += 1
        blob = f"blob{self.blobs}"
        self.harness.send(client, type="relay", to=self.identity[peer][0], blob=blob)
        room, role = self.seat_of[client]
        for receiver, messages in self.harness.inbox.items():
            if any(message.get("blob") == blob for message in messages):
                assert self.seat_of[receiver] == (room, 1 - role), "a blob left its room"

    @precondition(lambda self: self.open)
    @rule(data=st.data(), polite=st.booleans())
    def go(self, data: st.DataObject, polite: bool) -> None:  # noqa: FBT001
        client = data.draw(st.sampled_from(self.open))
        if polite:
            self.harness.send(client, type="leave")
            assert self.harness.closed[client] == 1000
        else:
            self.harness.disconnect(client)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), text=st.sampled_from(["", "{}", '{"type":"join","loc":"A00000"}', PUBLISH, "x" * 70_000]))
    def misbehave(self, data: st.DataObject, text: str) -> None:
        client = data.draw(st.sampled_from(self.open))
        self.harness.send_text(client, text)
        if client in self.open:
            self.seat(client, 0, 0)

    @rule(seconds=st.sampled_from([0.5, 5.0, 15.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.harness.advance(seconds)

    @invariant()
    def at_most_one_confirmed_claim_holds_a_seat(self) -> None:
        for room in self.harness.lobby._rooms.values():
            confirmed = Counter(claim.role for claim in room.claims() if claim.confirmed)
            assert all(count == 1 for count in confirmed.values())
            for role in confirmed:
                holder = next(claim for claim in room.claims() if claim.confirmed and claim.role is role)
                if holder.client is not None:
                    assert [claim for claim in room.claims() if claim.role is role] == [holder]

    @invariant()
    def tables_are_bounded(self) -> None:
        lobby = self.harness.lobby
        assert len(lobby._clients) <= MAX_CLIENTS
        assert len(lobby._holds) <= MAX_CLIENTS
        assert sum(lobby._unjoined.values()) == sum(client.place is None for client in lobby._clients.values())
        assert 0 not in lobby._unjoined.values(), "an address was kept without a socket"
        for room in lobby._rooms.values():
            assert len(room) > 0, "an empty room was kept"
            assert max(Counter(claim.role for claim in room.claims()).values()) <= CLAIMS_PER_SEAT

    @invariant()
    def no_talk_of_two_reaches_the_media_server(self) -> None:
        assert self.harness.media == []

    @invariant()
    def the_lobby_knows_the_open_sockets_and_no_other(self) -> None:
        assert sorted(self.harness.lobby._clients) == sorted(self.open)

    @invariant()
    def events_count_what_there_is(self) -> None:
        kinds = Counter(type(event) for event in self.harness.events)
        assert kinds[events.ClientConnected] - kinds[events.ClientDisconnected] == len(self.open)
        assert kinds[events.RoomOpened] - kinds[events.RoomClosed] == len(self.harness.lobby._rooms)

    @invariant()
    def every_client_knows_who_is_present(self) -> None:
        for client in self.seated:
            known: set[str] = set()
            for message in self.harness.inbox[client]:
                if message["type"] == "peer":
                    known.add(message["pid"]) if message["present"] else known.discard(message["pid"])
            room = self.seat_of[client][0]
            present = {
                self.identity[other][0] for other in self.seated if self.seat_of[other][0] == room and other != client
            }
            assert known == present

    @invariant()
    def every_seated_client_has_a_credential_for_a_while_longer(self) -> None:
        for client in self.seated:
            assert credential_expiry(self.harness.inbox[client]) >= self.harness.now + 20 / 4

    def teardown(self) -> None:
        for client in self.open:
            self.harness.disconnect(client)
        self.harness.advance(200)
        lobby = self.harness.lobby
        assert lobby.poll_timeout() is None
        deadlines = (lobby._holds, lobby._join_deadlines)
        for table in (lobby._clients, lobby._rooms, lobby._unjoined, lobby._guessing, lobby._renewals, *deadlines):
            assert len(table) == 0, "something is left when all have gone"

    def draw_two(self, data: st.DataObject) -> tuple[int, int]:
        seated = st.sampled_from(self.seated)
        return data.draw(seated), data.draw(st.sampled_from(sorted(self.seat_of)))

    def claims(self, room: int) -> set[str]:
        room_id = self.harness.seats[self.rooms[room][0]].appointment.room_id
        known = self.harness.lobby._rooms.get(room_id)
        return {claim.pid for claim in known.claims()} if known else set()


TestLobby: Any = LobbyMachine.TestCase
TestLobby.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
