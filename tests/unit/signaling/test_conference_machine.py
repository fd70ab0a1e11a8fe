"""A conference under every order of joins, decisions, losses and returns that Hypothesis can think of."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from signaling.appointments import Role
from signaling.conference_media import Enter, Leave, Published
from signaling.conference_room import ConferenceRoom
from tests.unit.signaling.harness import Harness

PARTICIPANTS = 4
LIMIT = 3  # fewer than have codes
CLAIMS_PER_SEAT = 3
SDP = "v=0\r\n"


class ConferenceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.harness = Harness(
            media=True, claims_per_seat=CLAIMS_PER_SEAT, max_participants=LIMIT, unknown_codes_per_minute=1000
        )
        self.locators = self.harness.plan_conference(1, PARTICIPANTS)
        self.seat_of: dict[int, int] = {}  # the number, for every client ever seated
        self.identity: dict[int, tuple[str, str]] = {}  # pid and token of each
        self.let_in: set[str] = set()  # pids that an organiser has admitted
        self.seen_commands = 0
        self.entered: set[str] = set()  # whom the media server knows
        self.blobs = 0
        self.locked = False

    @property
    def open(self) -> list[int]:
        return [client for client in self.harness.inbox if client not in self.harness.closed]

    @property
    def seated(self) -> list[int]:
        return [client for client in self.open if client in self.seat_of]

    def is_organiser(self, client: int) -> bool:
        return self.seat_of[client] == 0

    def is_admitted(self, client: int) -> bool:
        """As the client itself has heard."""
        inbox = self.harness.inbox[client]
        return bool(inbox[0]["conference"]["admitted"]) or any(message["type"] == "admitted" for message in inbox)

    @property
    def in_charge(self) -> str | None:
        """The pid of who decides."""
        room = next(iter(self.harness.lobby._rooms.values()), None)
        return room.in_charge.pid if isinstance(room, ConferenceRoom) and room.in_charge is not None else None

    @property
    def deciders(self) -> list[int]:
        """Who decides, unless it has no socket."""
        return [client for client in self.seated if self.identity[client][0] == self.in_charge]

    def may_meet(self, client: int, other: int) -> bool:
        if client == other:
            return False
        both = self.is_admitted(client) and self.is_admitted(other)
        return both or self.in_charge in (self.identity[client][0], self.identity[other][0])

    def known_peers(self, client: int) -> dict[str, dict[str, Any]]:
        known: dict[str, dict[str, Any]] = {}
        for message in self.harness.inbox[client]:
            if message["type"] == "peer":
                known[message["pid"]] = message
        return {pid: message for pid, message in known.items() if message["present"]}

    def seat(self, client: int, number: int) -> None:
        inbox = self.harness.inbox[client]
        if any(message["type"] == "joined" for message in inbox):
            assert inbox[0]["type"] == "joined", "something came before `joined`"
            self.seat_of[client] = number
            self.identity[client] = (inbox[0]["pid"], inbox[0]["resume"])
            assert inbox[0]["conference"]["index"] == number

    def draw_peer(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.seat_of)))

    @rule(number=st.integers(0, PARTICIPANTS), address=st.sampled_from(["192.0.2.1", "192.0.2.2"]))
    def join(self, number: int, address: str) -> None:
        client = self.harness.join(self.locators[number], address=address)
        self.seat(client, number)
        if self.locked and number > 0 and self.exists:
            assert client not in self.seat_of, "somebody came into a locked room"

    @precondition(lambda self: self.seat_of)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        old = self.draw_peer(data)
        pid, token = self.identity[old]
        held, was_in = pid in self.claims(), pid in self.entered
        client = self.harness.join(self.locators[self.seat_of[old]], resume=token)
        self.seat(client, self.seat_of[old])
        if held:
            assert self.identity[client] == (pid, token), "the token did not take the claim back"
            assert self.is_admitted(client) == (was_in or self.is_organiser(client))

    @precondition(lambda self: self.seated)
    @rule(data=st.data(), ok=st.sampled_from([True, True, True, False]))
    def decide(self, data: st.DataObject, ok: bool) -> None:  # noqa: FBT001
        client, peer = data.draw(st.sampled_from(self.seated)), self.draw_peer(data)
        pid = self.identity[peer][0]
        if ok and client in self.deciders:
            self.let_in.add(pid)
        self.harness.send(client, type="admit", peer=pid, ok=ok)
        assert self.is_admitted(client) or client in self.harness.closed

    @precondition(lambda self: self.deciders)
    @rule(data=st.data())
    def let_all_in(self, data: st.DataObject) -> None:
        (organiser,) = self.deciders
        for client in data.draw(st.permutations([client for client in self.seated if not self.is_organiser(client)])):
            if client in self.open:
                self.let_in.add(self.identity[client][0])
                self.harness.send(organiser, type="admit", peer=self.identity[client][0], ok=True)

    @precondition(lambda self: self.seated)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        client, peer = data.draw(st.sampled_from(self.seated)), self.draw_peer(data)
        pid = self.identity[peer][0]
        decides = client in self.deciders
        self.harness.send(client, type="remove", peer=pid)
        if decides and not self.is_organiser(peer):
            assert pid not in self.claims(), "a removed claim is still there"
            self.let_in.discard(pid)

    @precondition(lambda self: self.deciders)
    @rule(locked=st.booleans())
    def lock(self, locked: bool) -> None:  # noqa: FBT001
        self.harness.send(self.deciders[0], type="lock", locked=locked)
        self.locked = locked

    @precondition(lambda self: self.seated)
    @rule(data=st.data())
    def relay(self, data: st.DataObject) -> None:
        client, peer = data.draw(st.sampled_from(self.seated)), self.draw_peer(data)
        self.blobs += 1
        blob = f"blob{self.blobs}"
        self.harness.send(client, type="relay", to=self.identity[peer][0], blob=blob)
        for receiver in self.seated:
            if any(message.get("blob") == blob for message in self.harness.inbox[receiver]):
                assert self.identity[receiver][0] == self.identity[peer][0]
                assert self.may_meet(client, receiver), "somebody was heard who must not be"

    @precondition(lambda self: self.seated)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.seated))
        self.harness.send(client, type="publish", sdp=SDP, sources={"0": "camera"})

    @precondition(lambda self: self.seat_of)
    @rule(data=st.data())
    def tell(self, data: st.DataObject) -> None:
        client = self.draw_peer(data)
        pid = self.identity[client][0]
        heard = {other: len(self.harness.inbox[other]) for other in self.seated}
        self.harness.tell(client, Published(SDP, 0))
        for other, count in heard.items():
            hears = self.identity[other][0] == pid and pid in self.entered
            assert len(self.harness.inbox[other]) == count + hears

    @precondition(lambda self: self.open)
    @rule(data=st.data(), polite=st.booleans())
    def go(self, data: st.DataObject, polite: bool) -> None:  # noqa: FBT001
        client = data.draw(st.sampled_from(self.open))
        self.harness.send(client, type="leave") if polite else self.harness.disconnect(client)

    @precondition(lambda self: any(map(self.is_organiser, self.seated)))
    @rule()
    def another_organiser_comes(self) -> None:
        old = next(filter(self.is_organiser, self.seated))
        self.harness.disconnect(old)
        self.seat(self.harness.join(self.locators[0], address="192.0.2.3"), 0)

    @rule(seconds=st.sampled_from([0.5, 5.0, 15.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.harness.advance(seconds)

    @invariant()
    def the_media_server_is_told_in_order_and_of_nobody_else(self) -> None:
        if not self.exists:
            self.locked = False
        for command in self.harness.media[self.seen_commands :]:
            if isinstance(command, Enter):
                assert command.pid not in self.entered, "somebody entered twice"
                self.entered.add(command.pid)
                number = next(
                    self.seat_of[client] for client in self.seat_of if self.identity[client][0] == command.pid
                )
                assert number == 0 or command.pid in self.let_in, "somebody entered whom nobody let in"
            elif isinstance(command, Leave):
                assert command.pid in self.entered, "somebody left who had not entered"
                self.entered.remove(command.pid)
            else:
                assert command.pid in self.entered, "somebody spoke who had not entered"
        self.seen_commands = len(self.harness.media)
        room = next(iter(self.harness.lobby._rooms.values()), None)
        assert self.entered == {claim.pid for claim in room.claims() if claim.confirmed} if room else not self.entered

    @invariant()
    def no_more_people_than_the_limit_are_admitted_and_one_for_each_seat(self) -> None:
        seats = {self.identity[client][0]: number for client, number in self.seat_of.items()}
        taken = [seats[pid] for pid in self.entered]
        assert len(taken) <= LIMIT
        assert len(set(taken)) == len(taken)

    @invariant()
    def everybody_knows_exactly_those_present_whom_it_may_meet(self) -> None:
        for client in self.seated:
            known = self.known_peers(client)
            expected = {self.identity[other][0]: other for other in self.seated if self.may_meet(client, other)}
            assert set(known) == set(expected)
            for pid, message in known.items():
                assert message["admitted"] is self.is_admitted(expected[pid])
                assert message["index"] == self.seat_of[expected[pid]]

    @invariant()
    def nobody_unadmitted_hears_of_anybody_else_who_waits(self) -> None:
        for client in self.seated:
            for message in self.harness.inbox[client]:
                if message["type"] == "peer" and not self.is_admitted(client):
                    assert message["admitted"]

    @invariant()
    def somebody_admitted_is_in_charge_and_everybody_admitted_has_heard_who_stands_in(self) -> None:
        room = next(iter(self.harness.lobby._rooms.values()), None)
        admitted = {claim.pid: claim.role for claim in room.claims() if claim.confirmed} if room else {}
        organisers = [pid for pid, role in admitted.items() if role is Role.ORGANISER]
        assert self.in_charge in (organisers or admitted) if admitted else self.in_charge is None
        stand_in = None if organisers else self.in_charge
        for client in filter(self.is_admitted, self.seated):
            heard = [message for message in self.harness.inbox[client] if message["type"] == "stand_in"]
            assert (heard[-1].get("pid") if heard else None) == stand_in

    @invariant()
    def an_admitted_client_shares_its_seat_with_nobody(self) -> None:
        for client in self.seated:
            if self.is_admitted(client):
                beside = [other for other in self.seated if self.seat_of[other] == self.seat_of[client]]
                assert beside == [client]

    @invariant()
    def tables_are_bounded(self) -> None:
        for room in self.harness.lobby._rooms.values():
            assert 0 < len(room) <= CLAIMS_PER_SEAT * (PARTICIPANTS + 1)

    @property
    def exists(self) -> bool:
        return bool(self.harness.lobby._rooms)

    def claims(self) -> set[str]:
        return {claim.pid for room in self.harness.lobby._rooms.values() for claim in room.claims()}

    def teardown(self) -> None:
        for client in self.open:
            self.harness.disconnect(client)
        self.harness.advance(200)
        self.the_media_server_is_told_in_order_and_of_nobody_else()
        assert self.entered == set(), "somebody is left at the media server when all have gone"
        lobby = self.harness.lobby
        assert lobby.poll_timeout() is None
        for table in (lobby._clients, lobby._rooms, lobby._holds, lobby._desk._entered):
            assert len(table) == 0, "something is left when all have gone"


TestConference: Any = ConferenceMachine.TestCase
TestConference.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
