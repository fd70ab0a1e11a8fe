import json
import random
from datetime import timedelta

import pytest

from signaling import events
from signaling.appointments import Role, Tier
from signaling.guess_limiter import MAX_PENDING
from signaling.lobby import (
    BLOB_PACE,
    FAILURE_PACE,
    JOIN_DEADLINE_SECONDS,
    JOIN_PACE,
    MAX_UNJOINED_PER_ADDRESS,
    OVERLOAD_RETRY_SECONDS,
    Lobby,
)
from signaling.messages import ErrorCode, MessageFault
from signaling.settings import SignalingSettings
from signaling.transmit import Transmit
from tests.unit.signaling.harness import START, Harness, credential_expiry


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_a_seat_is_described_as_the_protocol_says(harness: Harness) -> None:
    organiser, _ = harness.plan(1, Tier.PLUS)
    client = harness.join(organiser)
    joined = harness.joined(client)
    assert joined["room"] == "AQEBAQEBAQEBAQEBAQEBAQ"
    assert (joined["role"], joined["tier"], joined["features"]) == ("organiser", "plus", ["screen"])
    assert (joined["start"], joined["end"]) == ("2026-11-22T09:00:00Z", "2026-11-23T09:00:00Z")
    assert joined["ice"] == [{"urls": ["stun:example.org:3478"]}]
    assert len(harness.inbox[client]) == 1, "nobody else is there"


def test_the_features_of_a_tier_are_those_of_the_settings_at_the_join(harness: Harness) -> None:
    organiser, participant = harness.plan(1)
    assert harness.joined(harness.join(organiser))["features"] == []
    harness.lobby.configure(SignalingSettings.model_validate({"tiers": {"basis": {"features": ["screen"]}}}))
    assert harness.joined(harness.join(participant))["features"] == ["screen"]


def test_both_learn_of_each_other_whoever_comes_first(harness: Harness) -> None:
    organiser, participant = harness.plan(1)
    first, second = harness.join(participant), harness.join(organiser)
    assert harness.inbox[first][1:] == [
        {"type": "peer", "pid": harness.pid(second), "role": "organiser", "present": True}
    ]
    assert harness.inbox[second][1:] == [
        {"type": "peer", "pid": harness.pid(first), "role": "participant", "present": True}
    ]


def test_a_blob_reaches_the_peer_unopened(harness: Harness) -> None:
    organiser, participant = map(harness.join, harness.plan(1))
    harness.send(organiser, type="relay", to=harness.pid(participant), blob="aGVsbG8=")
    assert harness.inbox[participant][-1] == {"type": "relay", "from": harness.pid(organiser), "blob": "aGVsbG8="}
    assert events.BlobRelayed(8) in harness.events


def test_a_blob_reaches_no_other_room_no_own_role_and_nobody_absent(harness: Harness) -> None:
    locator, participant = harness.plan(1)
    organiser, same_seat, absent = harness.join(locator), harness.join(locator), harness.join(participant)
    stranger = harness.join(harness.plan(2)[1])
    harness.disconnect(absent)
    for client in (organiser, same_seat, absent, stranger):
        before = {other: len(messages) for other, messages in harness.inbox.items()}
        harness.send(organiser, type="relay", to=harness.pid(client), blob="x")
        assert before == {other: len(messages) for other, messages in harness.inbox.items()}
    assert harness.events.count(events.BlobDropped()) == 4
    assert organiser not in harness.closed


def test_a_confirmed_seat_refuses_a_second_client(harness: Harness) -> None:
    locators = harness.plan(1)
    organiser, participant = map(harness.join, locators)
    harness.pair(organiser, participant)
    late = harness.join(locators[0])
    assert harness.error(late) == {"type": "error", "code": "code_in_use"}
    assert harness.events[-2:] == [events.JoinRefused(ErrorCode.CODE_IN_USE), events.ClientDisconnected()]
    assert organiser not in harness.closed


def test_pairing_sends_the_guessers_away(harness: Harness) -> None:
    locators = harness.plan(1)
    guesser = harness.join(locators[1])
    organiser, participant = map(harness.join, locators)
    harness.pair(organiser, participant)
    assert harness.error(guesser)["code"] == "code_in_use"
    gone = {"type": "peer", "pid": harness.pid(guesser), "role": "participant", "present": False}
    assert harness.inbox[organiser][-1] == harness.inbox[participant][-1] == gone
    assert harness.events.count(events.PairingConfirmed(Tier.BASIS)) == 1
    assert events.ClaimEnded(events.Departure.EVICTED) in harness.events


def test_a_guesser_cannot_keep_the_participant_out(harness: Harness) -> None:
    locators = harness.plan(1)
    guesser, organiser = harness.join(locators[1]), harness.join(locators[0])
    harness.send(guesser, type="paired", peer=harness.pid(organiser), ok=True)
    harness.send(organiser, type="paired", peer=harness.pid(guesser), ok=False)
    assert events.PairingFailed() in harness.events
    participant = harness.join(locators[1])
    assert {"type": "peer", "pid": harness.pid(guesser), "role": "participant", "present": True} in harness.inbox[
        participant
    ]
    harness.pair(organiser, participant)
    assert harness.error(guesser)["code"] == "code_in_use"


def test_one_address_cannot_crowd_the_rightful_participant_out(harness: Harness) -> None:
    locators = harness.plan(1)
    guessers = [harness.join(locators[1], address="198.51.100.7") for _ in range(4)]
    participant = harness.join(locators[1], address="192.0.2.9")
    assert harness.inbox[participant][0]["type"] == "joined"
    assert harness.error(guessers[0]) == {"type": "error", "code": "overload", "retry_after": OVERLOAD_RETRY_SECONDS}
    gone = {"type": "peer", "pid": harness.pid(guessers[0]), "role": "participant", "present": False}
    assert gone in harness.inbox[guessers[1]]
    assert gone not in harness.inbox[participant], "it never knew the one that made room"
    guessers += [harness.join(locators[1], address="198.51.100.7") for _ in range(9)]
    assert participant not in harness.closed
    assert [guesser in harness.closed for guesser in guessers] == [True] * 10 + [False] * 3
    assert harness.events.count(events.ClaimEnded(events.Departure.DISPLACED)) == 10


def test_a_resumed_claim_counts_for_the_address_it_came_back_from() -> None:
    harness = Harness(claims_per_seat=2)
    locator, _ = harness.plan(1)
    first = harness.join(locator, address="192.0.2.1")
    second = harness.join(locator, address="192.0.2.2")
    again = harness.join(locator, resume=harness.token(second), address="192.0.2.3")
    harness.join(locator, address="192.0.2.3")
    assert harness.error(again)["code"] == "overload"
    assert first not in harness.closed


def test_sockets_of_one_address_that_do_not_join_are_bounded(harness: Harness) -> None:
    waiting = [harness.connect() for _ in range(MAX_UNJOINED_PER_ADDRESS)]
    assert harness.error(harness.connect())["code"] == "overload"
    assert harness.connect("192.0.2.2") not in harness.closed, "another address is not concerned"
    harness.disconnect(waiting[0])
    last = harness.connect()
    assert last not in harness.closed
    harness.send(last, type="join", loc=harness.plan(1)[0])
    assert harness.connect() not in harness.closed, "whoever has a seat does not count"
    assert harness.error(harness.connect())["code"] == "overload"


def test_a_socket_counts_until_its_code_has_been_looked_up(harness: Harness) -> None:
    locator, _ = harness.plan(1)
    harness.answer_lookups = False
    looked_up = harness.join(locator)
    for _ in range(MAX_UNJOINED_PER_ADDRESS - 1):
        harness.connect()
    assert harness.error(harness.connect())["code"] == "overload"
    harness.answer_lookups = True
    harness.settle()
    assert harness.joined(looked_up)
    assert harness.connect() not in harness.closed


def test_a_token_takes_the_claim_back_with_the_same_pid(harness: Harness) -> None:
    locators = harness.plan(1)
    organiser, participant = map(harness.join, locators)
    harness.pair(organiser, participant)
    harness.disconnect(participant)
    assert harness.inbox[organiser][-1]["present"] is False
    harness.advance(29.9)
    again = harness.join(locators[1], resume=harness.token(participant))
    assert harness.pid(again) == harness.pid(participant)
    assert harness.token(again) == harness.token(participant)
    assert harness.inbox[organiser][-1] == {
        "type": "peer",
        "pid": harness.pid(participant),
        "role": "participant",
        "present": True,
    }
    assert harness.error(harness.join(locators[1]))["code"] == "code_in_use", "it is still confirmed"
    assert events.SeatClaimed(Role.PARTICIPANT, resumed=True) in harness.events


def test_nothing_comes_before_joined_when_a_confirmed_claim_sends_a_newcomer_away(harness: Harness) -> None:
    locators = harness.plan(1)
    organiser, participant = map(harness.join, locators)
    harness.pair(organiser, participant)
    harness.disconnect(participant)
    newcomer = harness.join(locators[1])
    again = harness.join(locators[1], resume=harness.token(participant))
    assert harness.error(newcomer)["code"] == "code_in_use"
    assert [message["type"] for message in harness.inbox[again]] == ["joined", "peer"]
    assert [message["present"] for message in harness.inbox[organiser][1:]] == [True, False, True, False, True]


def test_a_token_takes_over_from_a_socket_that_still_looks_open(harness: Harness) -> None:
    locators = harness.plan(1)
    organiser, participant = map(harness.join, locators)
    harness.pair(organiser, participant)
    again = harness.join(locators[1], resume=harness.token(participant))
    assert harness.pid(again) == harness.pid(participant)
    assert harness.error(participant)["code"] == "code_in_use"
    harness.disconnect(participant)
    assert harness.inbox[organiser][-1]["present"] is True, "the end of the old socket is no news"


def test_a_claim_is_forgotten_after_its_hold(harness: Harness) -> None:
    locators = harness.plan(1)
    client = harness.join(locators[0])
    harness.disconnect(client)
    harness.advance(30)
    assert events.ClaimEnded(events.Departure.HOLD_EXPIRED) in harness.events
    assert harness.events[-1] == events.RoomClosed(Tier.BASIS, 30.0, paired=False)
    again = harness.join(locators[0], resume=harness.token(client))
    assert harness.pid(again) != harness.pid(client), "an unknown token is an ordinary join"


def test_a_token_opens_no_other_seat_and_no_other_room(harness: Harness) -> None:
    locators = harness.plan(1)
    client = harness.join(locators[0])
    harness.disconnect(client)
    for locator in (locators[1], *harness.plan(2)):
        assert harness.pid(harness.join(locator, resume=harness.token(client))) != harness.pid(client)


def test_leaving_forgets_the_claim_at_once(harness: Harness) -> None:
    locators = harness.plan(1)
    organiser, participant = map(harness.join, locators)
    harness.pair(organiser, participant)
    harness.send(participant, type="leave")
    assert harness.closed[participant] == 1000
    assert harness.inbox[organiser][-1]["present"] is False
    again = harness.join(locators[1], resume=harness.token(participant))
    assert harness.pid(again) != harness.pid(participant)
    harness.send(again, type="leave")
    harness.send(organiser, type="leave")
    assert harness.events[-1] == events.RoomClosed(Tier.BASIS, 0.0, paired=True)


def test_leaving_before_joining_is_no_fault(harness: Harness) -> None:
    client = harness.connect()
    harness.send(client, type="leave")
    assert harness.closed[client] == 1000


def test_an_unknown_code_is_told(harness: Harness) -> None:
    client = harness.join("ZZZZZZ")
    assert harness.error(client) == {"type": "error", "code": "unknown_code"}


def test_the_eleventh_unknown_code_of_a_minute_is_not_looked_up(harness: Harness) -> None:
    organiser, _ = harness.plan(1)
    for _ in range(10):
        assert harness.error(harness.join("ZZZZZZ"))["code"] == "unknown_code"
    assert harness.error(harness.join(organiser)) == {"type": "error", "code": "rate_limited", "retry_after": 6}
    assert harness.joined(harness.join(organiser, address="192.0.2.2")), "another address is not concerned"
    harness.advance(6)
    assert harness.joined(harness.join(organiser))


def test_known_codes_are_not_limited(harness: Harness) -> None:
    for number in range(50):
        harness.send(harness.join(harness.plan(number)[0]), type="leave")
    assert not [event for event in harness.events if isinstance(event, events.JoinRefused)]


def test_joins_with_one_code_from_one_address_are_limited(harness: Harness) -> None:
    organiser, participant = harness.plan(1)
    for _ in range(JOIN_PACE.burst):
        harness.send(harness.join(organiser), type="leave")
    assert harness.error(harness.join(organiser)) == {"type": "error", "code": "rate_limited", "retry_after": 2}
    assert harness.joined(harness.join(organiser, address="192.0.2.2")), "nobody keeps somebody else out"
    assert harness.joined(harness.join(participant)), "another code of the same address is not concerned"
    harness.advance(2)
    assert harness.joined(harness.join(organiser))


def test_a_join_that_the_store_fails_does_not_count_against_its_code(harness: Harness) -> None:
    organiser, _ = harness.plan(1)
    harness.answer_lookups = False
    for _ in range(JOIN_PACE.burst):
        harness.join(organiser)
        lookup = harness.lobby.poll_lookup()
        assert lookup is not None
        harness.lobby.fail_lookup(lookup.client, harness.now)
        harness.settle()
    harness.answer_lookups = True
    assert harness.joined(harness.join(organiser))


def test_joins_with_one_code_that_are_looked_up_at_once_count_all_the_same(harness: Harness) -> None:
    organiser, _ = harness.plan(1)
    harness.answer_lookups = False
    for _ in range(JOIN_PACE.burst + 5):
        harness.join(organiser)
    harness.answer_lookups = True
    harness.settle()
    assert harness.error(harness.join(organiser))["retry_after"] == 12


def test_while_the_store_fails_an_address_asks_it_so_often_and_no_more(harness: Harness) -> None:
    harness.answer_lookups = False
    for number in range(FAILURE_PACE.burst):
        harness.join(f"C{number:05d}")
        lookup = harness.lobby.poll_lookup()
        assert lookup is not None
        harness.lobby.fail_lookup(lookup.client, harness.now)
        harness.settle()
    assert harness.error(harness.join("DDDDDD"))["code"] == "overload"
    assert harness.lobby.poll_lookup() is None
    harness.join("DDDDDD", address="192.0.2.2")
    assert harness.lobby.poll_lookup() is not None
    harness.advance(1)
    harness.join("DDDDDD")
    assert harness.lobby.poll_lookup() is not None


def test_codes_that_are_looked_up_at_once_do_not_limit_each_other(harness: Harness) -> None:
    locators = [locator for number in range(15) for locator in harness.plan(number)]
    harness.answer_lookups = False
    clients = [harness.join(locator) for locator in locators]
    harness.answer_lookups = True
    harness.settle()
    assert all(harness.joined(client) for client in clients)


def test_wrong_codes_that_are_looked_up_at_once_count_all_the_same(harness: Harness) -> None:
    harness.answer_lookups = False
    clients = [harness.join("ZZZZZZ") for _ in range(15)]
    harness.answer_lookups = True
    harness.settle()
    assert {harness.error(client)["code"] for client in clients} == {"unknown_code"}
    assert harness.error(harness.join("ZZZZZZ")) == {"type": "error", "code": "rate_limited", "retry_after": 36}


def test_more_lookups_of_one_address_than_its_sockets_are_told_overload(harness: Harness) -> None:
    harness.answer_lookups = False
    for number in range(MAX_PENDING):
        harness.disconnect(harness.join(f"Z{number:05d}"))
    assert harness.error(harness.join("ZZZZZZ"))["code"] == "overload"
    assert harness.join("ZZZZZZ", address="192.0.2.2") not in harness.closed


def test_wrong_codes_of_one_48_are_limited_together(harness: Harness) -> None:
    for number in range(160):
        client = harness.join("ZZZZZZ", address=f"2001:db8:0:{number:x}00::1")
        assert harness.error(client)["code"] == "unknown_code"
    assert harness.error(harness.join("ZZZZZZ", address="2001:db8::1:1:1:1"))["code"] == "rate_limited"
    assert harness.error(harness.join("ZZZZZZ", address="2001:db8:1::1"))["code"] == "unknown_code"


def test_too_early_names_the_start(harness: Harness) -> None:
    organiser, _ = harness.plan(1, start=START + timedelta(minutes=30, seconds=1))
    assert harness.error(harness.join(organiser)) == {
        "type": "error",
        "code": "too_early",
        "start": "2026-11-22T09:30:01Z",
    }


def test_an_ended_code_is_expired(harness: Harness) -> None:
    organiser, _ = harness.plan(1, start=START - timedelta(hours=24))
    assert harness.error(harness.join(organiser)) == {"type": "error", "code": "expired"}


def test_more_clients_than_allowed_are_told_overload() -> None:
    harness = Harness(max_clients=2)
    first, _ = harness.connect(), harness.connect()
    assert harness.error(harness.connect())["code"] == "overload"
    harness.disconnect(first)
    assert harness.connect() not in harness.closed


def test_a_store_that_fails_is_told_as_overload(harness: Harness) -> None:
    harness.answer_lookups = False
    client = harness.join("ZZZZZZ")
    lookup = harness.lobby.poll_lookup()
    assert lookup is not None
    harness.lobby.fail_lookup(lookup.client, harness.now)
    harness.settle()
    assert harness.error(client)["code"] == "overload"
    harness.answer_lookups = True
    for _ in range(10):
        assert harness.error(harness.join("ZZZZZZ"))["code"] == "unknown_code", "the failed attempt did not count"


def test_a_client_that_is_gone_before_its_lookup_is_not_seated(harness: Harness) -> None:
    organiser, _ = harness.plan(1)
    harness.answer_lookups = False
    client = harness.join(organiser)
    harness.disconnect(client)
    harness.answer_lookups = True
    harness.settle()
    assert not [event for event in harness.events if isinstance(event, events.SeatClaimed)]


def test_who_does_not_join_in_time_is_closed(harness: Harness) -> None:
    client = harness.connect()
    harness.advance(JOIN_DEADLINE_SECONDS - 0.1)
    assert client not in harness.closed
    harness.advance(0.1)
    assert harness.error(client)["code"] == "bad_message"
    assert events.MessageRefused(MessageFault.NO_JOIN) in harness.events


def test_who_has_joined_may_be_silent(harness: Harness) -> None:
    client = harness.join(harness.plan(1)[0])
    harness.advance(3600)
    assert client not in harness.closed


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("no json", MessageFault.MALFORMED),
        ('{"type":"relay","to":"x","blob":"y"}', MessageFault.UNEXPECTED),
        ('{"type":"paired","peer":"x","ok":true}', MessageFault.UNEXPECTED),
        (" " * 65_537, MessageFault.TOO_LONG),
    ],
)
def test_a_first_message_that_is_no_join_ends_the_attempt(harness: Harness, text: str, fault: MessageFault) -> None:
    client = harness.connect()
    harness.send_text(client, text)
    assert harness.error(client) == {"type": "error", "code": "bad_message"}
    assert events.MessageRefused(fault) in harness.events


def test_a_second_join_is_a_bad_message_and_the_seat_is_held(harness: Harness) -> None:
    organiser, participant = harness.plan(1)
    client, partner = harness.join(organiser), harness.join(participant)
    harness.send(client, type="join", loc=organiser)
    assert harness.error(client)["code"] == "bad_message"
    assert harness.inbox[partner][-1]["present"] is False
    assert harness.pid(harness.join(organiser, resume=harness.token(client))) == harness.pid(client)


def test_a_join_while_the_first_is_looked_up_is_a_bad_message(harness: Harness) -> None:
    harness.answer_lookups = False
    client = harness.join("ZZZZZZ")
    harness.send(client, type="join", loc="ZZZZZZ")
    assert harness.error(client)["code"] == "bad_message"


def test_a_binary_message_is_a_bad_message(harness: Harness) -> None:
    client = harness.connect()
    for _ in range(2):
        harness.lobby.receive_binary(client, harness.now)
        harness.settle()
    assert harness.error(client)["code"] == "bad_message"
    assert harness.events.count(events.MessageRefused(MessageFault.NOT_TEXT)) == 1


def test_a_flood_of_messages_is_closed(harness: Harness) -> None:
    organiser, participant = map(harness.join, harness.plan(1))
    for _ in range(199):  # and the join
        harness.send(organiser, type="relay", to=harness.pid(participant), blob="x")
    assert organiser not in harness.closed
    harness.send(organiser, type="relay", to=harness.pid(participant), blob="x")
    assert harness.error(organiser)["code"] == "bad_message"
    assert events.MessageRefused(MessageFault.TOO_FAST) in harness.events


def test_draining_sends_everybody_away_and_lets_nobody_in(harness: Harness) -> None:
    clients = [*map(harness.join, harness.plan(1)), harness.connect()]
    harness.lobby.drain(harness.now)
    harness.settle()
    clients.append(harness.connect())
    for client in clients:
        assert harness.inbox[client][-1] == {"type": "drain"}
        assert harness.closed[client] == 1001
    assert harness.events.count(events.ClaimEnded(events.Departure.DRAINED)) == 2
    assert [event for event in harness.events if isinstance(event, events.RoomClosed)]
    harness.advance(JOIN_PACE.window + MAX_PENDING * JOIN_PACE.interval)
    assert harness.lobby.poll_timeout() is None


def test_the_silent_claims_are_bounded() -> None:
    harness = Harness(max_clients=2)
    for number in range(5):
        harness.disconnect(harness.join(harness.plan(number)[0]))
    assert harness.events.count(events.ClaimEnded(events.Departure.DISPLACED)) == 3


def test_no_event_carries_a_locator_pid_token_or_room(harness: Harness) -> None:
    organiser, participant = map(harness.join, harness.plan(1))
    harness.pair(organiser, participant)
    harness.disconnect(organiser)
    harness.send(participant, type="leave")
    harness.advance(60)
    told = json.dumps([repr(event) for event in harness.events])
    for private in ("A00001", "B00001", *(harness.joined(organiser)[key] for key in ("pid", "resume", "room"))):
        assert private not in told


def test_a_credential_is_renewed_again_and_again_between_a_half_and_three_quarters_of_its_life() -> None:
    harness = Harness(turn=True, ice={"credential_lifetime_seconds": 100})
    client = harness.join(harness.plan(1)[0])
    for _ in range(20):
        harness.take(client)
        due = harness.lobby._renewals.next_at()  # other deadlines are not asked about
        assert due is not None
        assert 50 <= due - harness.now <= 75
        harness.advance(due - harness.now)
        (told,) = harness.inbox[client]
        assert told["type"] == "ice"
        assert told["ice"][1]["credential"] == "password"
        assert credential_expiry([told]) == due + 100


def test_those_who_came_together_are_renewed_apart() -> None:
    harness = Harness(turn=True, ice={"credential_lifetime_seconds": 1000})
    harness.lobby = Lobby(harness.settings, random.Random(1).randbytes)  # noqa: S311 - the same draws each time
    clients = [harness.join(harness.plan(number)[0], address=f"192.0.2.{number}") for number in range(1, 201)]
    harness.advance(499)
    renewed_within = []
    for _ in range(25):
        before = sum(len(harness.inbox[client]) for client in clients)
        harness.advance(10.1)
        renewed_within.append(sum(len(harness.inbox[client]) for client in clients) - before)
    assert sum(renewed_within) == 200
    assert max(renewed_within) <= 20, "no twentieth part of the time sees more than a tenth of them"


def test_nobody_is_renewed_without_a_seat_after_it_or_without_a_credential() -> None:
    harness = Harness(turn=True, ice={"credential_lifetime_seconds": 10})
    locator, _ = harness.plan(1)
    harness.answer_lookups = False
    waiting = harness.join(locator)
    harness.advance(60)
    assert harness.inbox[waiting] == []
    harness.answer_lookups = True
    left, lost = harness.join(locator), harness.join(locator)
    harness.send(left, type="leave")
    harness.disconnect(lost)
    harness.advance(20)
    assert "ice" not in {message["type"] for client in (left, lost) for message in harness.inbox[client]}
    direct = Harness(ice={"credential_lifetime_seconds": 10})
    client = direct.join(direct.plan(1)[0])
    direct.advance(3600)
    assert [message["type"] for message in direct.inbox[client]] == ["joined"]


def test_whoever_goes_while_its_credential_is_made_is_sent_nothing() -> None:
    harness = Harness(turn=True)
    client = harness.join(harness.plan(1)[0])
    harness.now += harness.settings.ice.credential_lifetime_seconds
    harness.lobby.handle_timeout(harness.now)
    harness.lobby.disconnect(client, harness.now)
    assert harness.lobby.poll_renewal() == client
    harness.lobby.renew(client, harness.ice(), harness.now)
    assert harness.lobby.poll_transmit() is None


def told_since(harness: Harness, client: int) -> list[str | None]:
    """What each announcement of a peer told this client about the time of waiting."""
    return [each.get("since") for each in harness.inbox[client] if each["type"] == "peer" and each["present"]]


def test_the_organiser_is_told_since_when_the_participant_waits_and_the_participant_nothing(harness: Harness) -> None:
    organiser, participant = harness.plan(1)
    harness.utc -= timedelta(minutes=2)
    first = harness.join(participant)
    harness.advance(300)
    second = harness.join(organiser)
    assert told_since(harness, second) == ["2026-11-22T08:58:00Z"]
    assert told_since(harness, first) == [None]


def test_an_organiser_who_was_here_first_is_told_nothing_about_waiting(harness: Harness) -> None:
    organiser, participant = harness.plan(1)
    first = harness.join(organiser)
    harness.advance(60)
    harness.join(participant)
    assert told_since(harness, first) == [None]


def test_a_wait_survives_the_reloads_of_both(harness: Harness) -> None:
    organiser, participant = harness.plan(1)
    waiting = harness.join(participant)
    harness.advance(60)
    harness.disconnect(waiting)
    harness.advance(5)
    waiting = harness.join(participant, resume=harness.token(waiting))
    harness.advance(60)
    first = harness.join(organiser)
    harness.disconnect(first)
    second = harness.join(organiser, resume=harness.token(first))
    harness.disconnect(waiting)
    harness.join(participant, resume=harness.token(waiting))
    assert told_since(harness, second) == ["2026-11-22T09:00:00Z"] * 2


def test_after_a_talk_that_broke_off_nobody_has_waited(harness: Harness) -> None:
    organiser, participant = harness.plan(1)
    waiting = harness.join(participant)
    harness.advance(60)
    first = harness.join(organiser)
    harness.pair(first, waiting)
    harness.advance(600)
    harness.disconnect(first)
    harness.advance(3)
    assert told_since(harness, harness.join(organiser, resume=harness.token(first))) == [None]


def test_whoever_stays_when_the_other_has_gone_for_good_waits_from_then_on(harness: Harness) -> None:
    organiser, participant = harness.plan(1)
    first, waiting = harness.join(organiser), harness.join(participant)
    harness.pair(first, waiting)
    harness.advance(600)
    harness.send(first, type="leave")
    harness.advance(600)
    assert told_since(harness, harness.join(organiser)) == ["2026-11-22T09:10:00Z"]


def test_no_event_tells_since_when_anybody_waits(harness: Harness) -> None:
    organiser, participant = harness.plan(1)
    harness.join(participant)
    harness.advance(60)
    harness.join(organiser)
    assert "2026" not in repr(harness.events)


def flood(harness: Harness, client: int, peer: int) -> int:
    """Speak until the lobby has had enough; returns how many bytes it took."""
    said = 0
    while client not in harness.closed:
        harness.send(client, type="relay", to=harness.pid(peer), blob="x" * 32_768)
        said += 32_768
        assert said <= 2 * BLOB_PACE.burst, "nothing stops it"
    return said - 32_768


def test_the_blobs_of_a_claim_are_paced_by_their_bytes(harness: Harness) -> None:
    locators = harness.plan(1)
    organiser, participant = map(harness.join, locators)
    assert flood(harness, organiser, participant) == BLOB_PACE.burst
    assert harness.error(organiser)["code"] == "bad_message"
    assert events.MessageRefused(MessageFault.TOO_FAST) in harness.events
    assert participant not in harness.closed


def test_whoever_comes_back_has_no_fresh_pace_for_its_blobs(harness: Harness) -> None:
    locators = harness.plan(1)
    organiser, participant = map(harness.join, locators)
    flood(harness, organiser, participant)
    again = harness.join(locators[0], resume=harness.token(organiser))
    assert flood(harness, again, participant) == 0
    harness.advance(1)
    once_more = harness.join(locators[0], resume=harness.token(organiser))
    assert flood(harness, once_more, participant) == 65_536


def test_blobs_may_be_dropped_until_their_sender_is_confirmed(harness: Harness) -> None:
    organiser, participant = map(harness.join, harness.plan(1))
    relay = json.dumps({"type": "relay", "to": harness.pid(participant), "blob": "x"})

    def speak() -> bool:
        harness.lobby.receive_text(organiser, relay, harness.now)
        output = harness.lobby.poll_transmit()
        assert isinstance(output, Transmit)
        return output.droppable

    assert speak()
    harness.pair(organiser, participant)
    assert not speak()


def test_joined_tells_the_appointment_as_it_was_looked_up_after_a_move(harness: Harness) -> None:
    organiser, participant = harness.plan(1)
    harness.join(organiser)
    harness.plan(1, tier=Tier.PLUS, start=START + timedelta(minutes=10))
    joined = harness.joined(harness.join(participant))
    assert (joined["start"], joined["end"]) == ("2026-11-22T09:10:00Z", "2026-11-23T09:10:00Z")
    assert (joined["tier"], joined["features"]) == ("plus", ["screen"])
