"""What the machine of two nodes does not come to: races, strangers among nodes, and a bus that is away."""

import json

import pytest

from signaling import events
from signaling.appointments import Appointment, Role, Seat, Tier
from signaling.exchange import MAX_STRAYS, Exchange, Place, Placement, Post, Release
from signaling.lobby import Lobby
from signaling.node_messages import Arrive, ClientText, Deliver, Gone, Shut, Stray
from signaling.room import ClaimRecord
from signaling.settings import SignalingSettings
from signaling.transmit import Transmit
from tests.unit.signaling.cluster import Client, Cluster, Node
from tests.unit.signaling.harness import ICE, START, Harness, counting_entropy, credential_expiry

STRANGER = b"s" * 12


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    planned = Harness()
    planned.plan(1)
    cluster.seats = planned.seats
    return cluster


def pair(cluster: Cluster) -> tuple[Node, Node, Client, Client]:
    home, other = cluster.nodes
    return home, other, cluster.join(home, "A00001"), cluster.join(other, "B00001")


def test_a_client_that_finds_no_room_at_its_home_looks_again_and_gives_up_at_last(cluster: Cluster) -> None:
    _, other, _, client = pair(cluster)
    exchange, number = other.exchange, client[1]
    home = exchange._lent[number].home
    for _ in range(MAX_STRAYS):
        assert exchange.receive(home, Stray(number), now=cluster.now, utc=cluster.utc)
        assert exchange.poll_command() == Place(number, bytes([1]) * 16)
    exchange.receive(home, Stray(number), now=cluster.now, utc=cluster.utc)
    cluster.settle()
    assert cluster.inbox[client][-1]["code"] == "overload"
    assert cluster.closed[client] == 1008


def test_a_room_that_comes_here_while_its_client_looks_for_it_seats_the_client(cluster: Cluster) -> None:
    _, other, _, client = pair(cluster)
    pid = cluster.inbox[client][0]["pid"]
    claims = cluster.nodes[0].lobby.snapshot(bytes([1]) * 16)
    assert other.id is not None
    room_id = bytes([1]) * 16
    other.exchange.finish_placement(client[1], room_id, Placement(other.id, claims), now=cluster.now, utc=cluster.utc)
    assert other.lobby.has_room(room_id)
    assert not other.exchange._lent
    assert {claim.pid for claim in other.lobby.snapshot(room_id)} > {pid}


def test_what_was_claimed_for_a_client_that_has_gone_is_released(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    assert node.id is not None
    room_id = bytes([1]) * 16
    node.exchange.finish_placement(4711, room_id, Placement(node.id), now=cluster.now, utc=cluster.utc)
    assert node.exchange.poll_command() == Release(room_id)
    seat = cluster.seats["A00001"]
    node.exchange.finish_lookup(4711, seat, ICE, Placement(node.id), now=cluster.now, utc=cluster.utc)
    assert node.exchange.poll_command() == Release(room_id)


def test_a_stranger_among_the_nodes_reaches_nobody(cluster: Cluster) -> None:
    home, other, organiser, participant = pair(cluster)
    before = {client: list(messages) for client, messages in cluster.inbox.items()}
    guest_number = participant[1]
    for node, message in (
        (other, Deliver(participant[1], '{"type":"drain"}')),
        (other, Shut(participant[1], 1000)),
        (other, Stray(participant[1])),
        (home, ClientText(guest_number, '{"type":"leave"}')),
        (home, Gone(guest_number)),
    ):
        assert not node.exchange.receive(STRANGER, message, now=cluster.now, utc=cluster.utc)
    cluster.settle()
    assert cluster.inbox == before
    assert cluster.open == [organiser, participant]


def test_a_client_cannot_arrive_twice(cluster: Cluster) -> None:
    home, other, _, participant = pair(cluster)
    assert other.id is not None
    again = Arrive(participant[1], b"x", None, cluster.seats["B00001"], ())
    assert not home.exchange.receive(other.id, again, now=cluster.now, utc=cluster.utc)
    assert len(home.exchange._guests) == 1


def test_a_guest_without_a_room_here_is_told_to_look_again(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    arrival = Arrive(5, b"x", None, cluster.seats["B00001"], ())
    assert node.exchange.receive(STRANGER, arrival, now=cluster.now, utc=cluster.utc)
    assert node.exchange.poll_command() == Post(STRANGER, Stray(5))
    assert not node.lobby.has_room(bytes([1]) * 16)


def test_without_a_bus_a_room_here_goes_on_and_any_other_is_overload(cluster: Cluster) -> None:
    home, other, organiser, participant = pair(cluster)
    for node in (home, other):
        cluster.lose_bus(node)
    cluster.send(participant, type="relay", to=cluster.inbox[organiser][0]["pid"], blob="x")
    assert organiser in cluster.open
    assert participant in cluster.open
    resumed = cluster.join(home, "A00001", resume=cluster.inbox[organiser][0]["resume"])
    assert cluster.inbox[resumed][0]["pid"] == cluster.inbox[organiser][0]["pid"]
    elsewhere = cluster.join(other, "B00001", resume=cluster.inbox[participant][0]["resume"])
    assert cluster.inbox[elsewhere][0]["code"] == "overload"


def test_claims_of_guests_wait_for_the_bus_however_long_it_takes(cluster: Cluster) -> None:
    home, other, _, participant = pair(cluster)
    for node in (home, other):
        cluster.lose_bus(node)
    cluster.advance(35)
    for node in (home, other):
        cluster.join_bus(node, cluster.draw_id())
    cluster.settle()
    assert cluster.inbox[participant][-1] == {"type": "drain"}
    assert cluster.closed[participant] == 1001
    back = cluster.join(other, "B00001", resume=cluster.inbox[participant][0]["resume"])
    assert cluster.inbox[back][0]["pid"] == cluster.inbox[participant][0]["pid"]


def test_a_home_that_was_cut_off_gives_its_room_up_to_who_has_taken_it_over(cluster: Cluster) -> None:
    home, other, organiser, participant = pair(cluster)
    cluster.lose_bus(home)
    for lost in home.ids:
        other.exchange.lose_node(lost, cluster.now)
    cluster.settle()
    back = cluster.join(other, "B00001", resume=cluster.inbox[participant][0]["resume"])
    assert cluster.inbox[back][0]["pid"] == cluster.inbox[participant][0]["pid"]
    assert organiser in cluster.open
    cluster.join_bus(home, cluster.draw_id())
    cluster.settle()
    assert cluster.inbox[organiser][-1] == {"type": "drain"}
    assert events.ClaimEnded(events.Departure.MOVED) in cluster.events
    again = cluster.join(home, "A00001", resume=cluster.inbox[organiser][0]["resume"])
    assert cluster.inbox[again][0]["pid"] == cluster.inbox[organiser][0]["pid"]


def test_a_node_that_stops_leaves_its_claims_to_the_next(cluster: Cluster) -> None:
    home, other, organiser, participant = pair(cluster)
    home.exchange.leave_bus()
    home.exchange.drain(cluster.now)
    cluster.settle()
    assert cluster.closed == {organiser: 1001, participant: 1001}
    assert bytes([1]) * 16 in cluster.stored
    cluster.kill(home)
    back = cluster.join(other, "A00001", resume=cluster.inbox[organiser][0]["resume"])
    assert cluster.inbox[back][0]["pid"] == cluster.inbox[organiser][0]["pid"]


def test_stored_claims_beyond_what_a_room_can_have_are_left_out(cluster: Cluster) -> None:
    seat = cluster.seats["A00001"]
    lobby = Lobby(cluster.settings, bytes, note_changes=True)
    records = [ClaimRecord(f"pid{number}", seat.role, b"", f"token{number}", confirmed=True) for number in range(3)]
    twice = ClaimRecord("pid0", seat.role, b"", "other", confirmed=False)
    many = [ClaimRecord(f"more{number}", seat.role, b"", f"m{number}", confirmed=False) for number in range(9)]
    lobby.restore(seat.appointment, (*records, twice, *many), now=cluster.now, utc=cluster.utc)
    restored = lobby.snapshot(seat.appointment.room_id)
    assert [claim.pid for claim in restored] == ["pid0", "more0", "more1", "more2"]
    assert lobby.poll_change() == seat.appointment.room_id
    lobby.handle_timeout(cluster.now + cluster.settings.seat_hold_seconds)
    assert not lobby.has_room(seat.appointment.room_id)


def test_the_node_of_the_socket_renews_credentials_and_the_home_of_the_room_does_not() -> None:
    cluster = Cluster(turn=True, ice={"credential_lifetime_seconds": 100})
    planned = Harness()
    planned.plan(1)
    cluster.seats = planned.seats
    home, other, organiser, participant = pair(cluster)
    assert [len(node.lobby._renewals) for node in (home, other)] == [1, 1]
    cluster.advance(80)
    for client in (organiser, participant):
        assert [message["type"] for message in cluster.inbox[client] if "ice" in message] == ["joined", "ice"]
        assert credential_expiry(cluster.inbox[client]) > cluster.now + 50


def test_a_client_that_its_home_has_not_seated_is_told_no_fresh_credential() -> None:
    cluster = Cluster(turn=True)
    planned = Harness()
    planned.plan(1)
    cluster.seats = planned.seats
    node = cluster.nodes[0]
    client = node.exchange.connect(b"", cluster.now)
    node.exchange.receive_text(client, '{"type": "join", "loc": "A00001"}', cluster.now)
    assert node.exchange.poll_lookup() is not None
    seat = cluster.seats["A00001"]
    node.exchange.finish_lookup(client, seat, cluster.ice(), Placement(STRANGER), now=cluster.now, utc=cluster.utc)
    assert client in node.exchange._lent
    assert len(node.lobby._renewals) == 0
    node.exchange.receive(STRANGER, Deliver(client, '{"type":"joined"}'), now=cluster.now, utc=cluster.utc)
    assert len(node.lobby._renewals) == 1


def test_a_wait_is_known_at_every_node_and_survives_the_one_that_has_the_room(cluster: Cluster) -> None:
    home, other = cluster.nodes
    waiting = cluster.join(home, "B00001")
    cluster.advance(60)
    cluster.kill(home)
    cluster.advance(5)
    back = cluster.join(other, "B00001", resume=cluster.inbox[waiting][0]["resume"])
    cluster.advance(60)
    organiser = cluster.join(cluster.nodes[0], "A00001")
    assert cluster.inbox[organiser][1]["pid"] == cluster.inbox[back][0]["pid"]
    assert cluster.inbox[organiser][1]["since"] == "2026-11-22T09:00:00Z"


def test_guests_have_a_bound_of_their_own_and_take_no_room_from_sockets() -> None:
    cluster = Cluster(max_clients=2)
    planned = Harness()
    for number in range(2):
        planned.plan(number)
    cluster.seats = planned.seats
    home, other = cluster.nodes
    organisers = [cluster.join(home, f"A{number:05d}") for number in range(2)]
    guests = [cluster.join(other, f"B{number:05d}") for number in range(2)]
    assert not cluster.closed, "guests count among the sockets of the home"
    cluster.disconnect(guests[0])
    again = cluster.join(other, "B00000")
    assert again not in cluster.closed
    assert len(organisers) == home.lobby._guests == 2
    assert cluster.inbox[cluster.join(home, "A00000")][-1]["code"] == "overload"


def test_more_guests_than_sockets_are_allowed_are_told_overload() -> None:
    cluster = Cluster(max_clients=2)
    planned = Harness()
    planned.plan(1)
    cluster.seats = planned.seats
    home, other = cluster.nodes
    third = cluster.start()
    cluster.nodes.append(third)
    cluster.join(home, "A00001")
    for node in (other, third):
        cluster.join(node, "B00001")
    refused = cluster.join(other, "B00001")
    assert cluster.inbox[refused][-1]["code"] == "overload"


def test_a_strangers_blob_may_be_dropped_at_another_node_too(cluster: Cluster) -> None:
    home, other, organiser, participant = pair(cluster)
    pid = cluster.inbox[participant][0]["pid"]
    home.exchange.receive_text(organiser[1], json.dumps({"type": "relay", "to": pid, "blob": "x"}), cluster.now)
    post = home.exchange.poll_command()
    assert isinstance(post, Post)
    assert isinstance(post.message, Deliver)
    assert home.id is not None
    other.exchange.receive(home.id, post.message, now=cluster.now, utc=cluster.utc)
    output = other.exchange.poll_transmit()
    assert isinstance(output, Transmit)
    assert output.droppable


def test_a_conference_is_never_looked_for_at_another_node() -> None:
    exchange = Exchange(Lobby(SignalingSettings(), counting_entropy(), note_changes=True))
    exchange.join_bus(b"n" * 12, 0.0)
    conference = Appointment(bytes(16), Tier.PLUS, START, participants=2)
    assert not exchange.wants_home(Seat(conference, Role.ORGANISER, 0), START)
    assert exchange.wants_home(Seat(Appointment(bytes(16), Tier.PLUS, START), Role.ORGANISER, 0), START)
