"""Two nodes that die and lose each other must look to their clients like one lobby that never does."""

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from signaling.node_messages import parse_claims
from tests.unit.signaling.cluster import Client, Cluster, Node
from tests.unit.signaling.harness import Harness, credential_expiry

CLAIMS_PER_SEAT = 3
LONG_SECONDS = 61.0  # beyond every hold, also of a claim that has just been taken over
SETTINGS: dict[str, Any] = {
    "claims_per_seat": CLAIMS_PER_SEAT,
    "unknown_codes_per_minute": 1000,
    "ice": {"credential_lifetime_seconds": 40},
}


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what may differ between cluster and model.

    Servers are renewed at drawn instants. A claim that a dead node had is held from when somebody takes its room over,
    so that whoever waits after it waits a little later.
    """
    kept = {key: value for key, value in message.items() if key != "ice"}
    return kept | ({"since": "told"} if "since" in kept else {})


class NodesMachine(RuleBasedStateMachine):
    """Every client is there twice: at one of two nodes, and at a model of one lobby."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(turn=True, **SETTINGS)
        self.model = Harness(**SETTINGS)
        self.rooms = [self.model.plan(number) for number in range(2)]
        self.cluster.seats = self.model.seats
        self.twin: dict[Client, int] = {}
        self.seat_of: dict[Client, tuple[int, int]] = {}  # for every client ever seated, in the order of their joins
        self.said: dict[str, str] = {}  # pids and tokens of the cluster, and what the model calls them

    # --- what clients do ---

    @rule(node=st.integers(0, 1), room=st.integers(0, 1), role=st.integers(0, 1), address=st.integers(1, 2))
    def join(self, node: int, room: int, role: int, address: int) -> None:
        self.do_join(self.cluster.nodes[node], room, role, f"192.0.2.{address}")

    @precondition(lambda self: self.seat_of)
    @rule(data=st.data(), node=st.integers(0, 1))
    def resume(self, data: st.DataObject, node: int) -> None:
        old = data.draw(st.sampled_from(list(self.seat_of)))
        self.do_join(self.cluster.nodes[node], *self.seat_of[old], "192.0.2.3", resumed=old)

    @rule(node=st.integers(0, 1))
    def connect_only(self, node: int) -> None:
        self.twin[self.cluster.connect(self.cluster.nodes[node])] = self.model.connect()

    @precondition(lambda self: self.seated)
    @rule(data=st.data(), ok=st.booleans())
    def report(self, data: st.DataObject, ok: bool) -> None:  # noqa: FBT001
        client, peer = self.draw_two(data)
        self.say(client, type="paired", peer=self.pid(peer), ok=ok)

    @precondition(lambda self: self.seated)
    @rule(data=st.data())
    def pair(self, data: st.DataObject) -> None:
        client, peer = self.draw_two(data)
        for one, other in ((client, peer), (peer, client)):
            if one in self.seated:
                self.say(one, type="paired", peer=self.pid(other), ok=True)

    @precondition(lambda self: self.seated)
    @rule(data=st.data(), size=st.sampled_from([1, 65_000]))
    def relay(self, data: st.DataObject, size: int) -> None:
        client, peer = self.draw_two(data)
        self.say(client, type="relay", to=self.pid(peer), blob="x" * size)

    @precondition(lambda self: self.cluster.open)
    @rule(data=st.data(), polite=st.booleans())
    def go(self, data: st.DataObject, polite: bool) -> None:  # noqa: FBT001
        client = data.draw(st.sampled_from(self.cluster.open))
        if polite:
            self.say(client, type="leave")
        else:
            self.cluster.disconnect(client)
            self.model.disconnect(self.twin[client])

    @precondition(lambda self: self.cluster.open)
    @rule(data=st.data(), text=st.sampled_from(["", "{}", '{"type":"join","loc":"ZZZZZZ"}', "x" * 70_000]))
    def misbehave(self, data: st.DataObject, text: str) -> None:
        client = data.draw(st.sampled_from(self.cluster.open))
        self.cluster.send_text(client, text)
        self.model.send_text(self.twin[client], text)

    # --- what happens to nodes ---

    @rule(which=st.integers(0, 1))
    def kill(self, which: int) -> None:
        node = self.cluster.nodes[which]
        at_home = node.lobby.room_ids()
        gone = [client for client in self.seat_of if client in self.cluster.open and client[0] == node.name]
        unseated = [client for client in self.cluster.open if client[0] == node.name and client not in self.seat_of]
        self.cluster.kill(node)
        for room_id in at_home:  # all of its clients have lost their home, in the order in which it would hold them
            for claim in self.model.lobby._rooms[room_id].claims():
                if claim.client is not None:
                    self.model.disconnect(claim.client)
        for client in gone + unseated:
            if self.twin[client] not in self.model.closed:
                self.model.disconnect(self.twin[client])

    @rule(forgets=st.booleans())
    def restart_redis(self, forgets: bool) -> None:  # noqa: FBT001
        lent = [
            client
            for client in self.seat_of
            if client in self.cluster.open and client[1] in self.cluster.node_of(client).exchange._lent
        ]
        for node in self.cluster.nodes:
            self.cluster.lose_bus(node)
        if forgets:
            # The rooms of dead nodes are lost with it for good, which the model cannot follow.
            for room_id in [each for node in self.cluster.nodes for each in node.lobby.room_ids()]:
                del self.cluster.stored[room_id]
        for node in self.cluster.nodes:
            self.cluster.join_bus(node, self.cluster.draw_id())
        self.cluster.settle()
        for client in lent:
            assert self.cluster.closed[client] == 1001
            self.model.disconnect(self.twin[client])

    @rule(seconds=st.sampled_from([0.05, LONG_SECONDS]))
    def wait(self, seconds: float) -> None:
        self.cluster.advance(seconds)
        self.model.advance(seconds)

    # --- what must hold ---

    @invariant()
    def every_client_hears_what_the_model_says(self) -> None:
        model_open = {client for client in self.model.inbox if client not in self.model.closed}
        assert {self.twin[client] for client in self.cluster.open} == model_open
        for client in self.cluster.open:
            heard = map(self.translated, self.cluster.inbox[client])
            said = map(comparable, self.model.inbox[self.twin[client]])
            assert [message for message in heard if message["type"] != "ice"] == list(said)

    @invariant()
    def every_seated_client_has_a_credential_for_a_while_longer(self) -> None:
        for client in self.seated:
            assert credential_expiry(self.cluster.inbox[client]) >= self.cluster.now + 40 / 4

    @invariant()
    def a_room_is_at_one_node_and_stored_as_it_is(self) -> None:
        homes = Counter(room_id for node in self.cluster.nodes for room_id in node.lobby.room_ids())
        assert not homes or max(homes.values()) == 1
        for node in self.cluster.nodes:
            for room_id in node.lobby.room_ids():
                owner, claims = self.cluster.stored[room_id]
                assert owner == node.id
                assert parse_claims(claims) == node.lobby.snapshot(room_id)
        for room_id, (owner, _) in self.cluster.stored.items():
            assert room_id in homes or not self.cluster.alive(owner), "an empty room was kept"

    @invariant()
    def who_is_lent_here_is_a_guest_there(self) -> None:
        lent = {
            (node.id, client, lent.home) for node in self.cluster.nodes for client, lent in node.exchange._lent.items()
        }
        guests = {
            (sender, number, node.id)
            for node in self.cluster.nodes
            for sender, number in node.exchange._guests.values()
        }
        assert lent == guests
        for node in self.cluster.nodes:
            assert node.exchange._guest_of == {key: guest for guest, key in node.exchange._guests.items()}

    def teardown(self) -> None:
        for client in self.cluster.open:
            self.cluster.disconnect(client)
        self.cluster.advance(LONG_SECONDS)
        self.cluster.advance(LONG_SECONDS)
        assert self.cluster.stored == {}
        for node in self.cluster.nodes:
            for table in (
                node.lobby._clients,
                node.lobby._rooms,
                node.lobby._unjoined,
                node.lobby._holds,
                node.lobby._renewals,
            ):
                assert len(table) == 0, "something is left when all have gone"
            assert not node.exchange.nodes()

    # --- helpers ---

    @property
    def seated(self) -> list[Client]:
        return [client for client in self.cluster.open if client in self.seat_of]

    def do_join(self, node: Node, room: int, role: int, address: str, resumed: Client | None = None) -> None:
        locator = self.rooms[room][role]
        token = None if resumed is None else self.cluster.inbox[resumed][0]["resume"]
        client = self.cluster.join(node, locator, token, address)
        twin = self.twin[client] = self.model.join(locator, token and self.said[token], address)
        first, model_first = self.cluster.inbox[client][0], self.model.inbox[twin][0]
        if first["type"] == model_first["type"] == "joined":
            self.seat_of[client] = (room, role)
            for key in ("pid", "resume"):
                assert self.said.setdefault(first[key], model_first[key]) == model_first[key]

    def translated(self, message: dict[str, Any]) -> dict[str, Any]:
        return comparable(
            {key: self.said.get(value, value) if isinstance(value, str) else value for key, value in message.items()}
        )

    def pid(self, client: Client) -> str:
        return str(self.cluster.inbox[client][0]["pid"])

    def say(self, client: Client, **message: Any) -> None:  # noqa: ANN401 - JSON
        self.cluster.send(client, **message)
        self.model.send(self.twin[client], **{k: self.said.get(v, v) for k, v in message.items()})

    def draw_two(self, data: st.DataObject) -> tuple[Client, Client]:
        return data.draw(st.sampled_from(self.seated)), data.draw(st.sampled_from(list(self.seat_of)))


TestNodes: Any = NodesMachine.TestCase
TestNodes.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
