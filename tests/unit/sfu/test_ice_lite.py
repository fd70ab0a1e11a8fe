import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu import ice_lite
from sfu.ice_lite import (
    AddressChosen,
    AddressGone,
    AddressValid,
    CheckDue,
    ConsentLost,
    IceCount,
    IceCredentials,
    IceEvent,
    IceLite,
)
from sfu.media_engine import SessionId
from stun.address import TransportAddress
from stun.attributes import ERROR_CODE, UNKNOWN_ATTRIBUTES, USERNAME, XOR_MAPPED_ADDRESS, pack_attribute
from stun.integrity import IntegrityKey
from stun.message import decode_message, encode_message, encode_success
from stun.registry import IntegrityAlgorithm, MessageClass, Method
from tests.support.ice_client import CONTROLLED, REMOTE_UFRAG, check
from tests.support.mutations import messages, mutated

ANNA, BERT = SessionId(1), SessionId(2)
HOME = TransportAddress.parse("192.0.2.1", 5000)
MOBILE = TransportAddress.parse("2001:db8::7", 6000)
SECRET = bytes(range(32))
REMOTE = IceCredentials(REMOTE_UFRAG, "password of the client 24")
ANEW = IceCredentials("anew", "another one of the client")
entropy = (bytes([number]) * ice_lite.CREDENTIAL_ENTROPY_BYTES for number in itertools.cycle(range(256)))


def events(agents: IceLite) -> list[IceEvent]:
    return list(iter(agents.poll_event, None))


def begin(session: SessionId = ANNA, agents: IceLite | None = None) -> tuple[IceLite, IceCredentials]:
    agents = IceLite(SECRET) if agents is None else agents
    return agents, agents.add(session, next(entropy), 0.0)


def answered(due: IceEvent, remote: IceCredentials = REMOTE) -> bytes:
    """What a client says to a check of ours."""
    assert isinstance(due, CheckDue)
    return encode_success(decode_message(due.datagram), key=IntegrityKey(remote.password.encode()))


def prove(agents: IceLite, now: float, remote: IceCredentials = REMOTE) -> list[IceEvent]:
    """Answer what is asked, and tell everything else that happened."""
    told: list[IceEvent] = []
    while (event := agents.poll_event()) is not None:
        if isinstance(event, CheckDue):
            assert agents.receive(answered(event, remote), event.address, now) is None
        else:
            told.append(event)
    return told


def test_a_genuine_check_is_answered_with_the_address_it_came_from() -> None:
    agents, credentials = begin()
    for address in (HOME, MOBILE):
        request = check(credentials, transaction_id=b"twelve bytes")
        raw = agents.receive(request, address, 1.0)
        assert raw is not None
        response = decode_message(raw)
        assert response.message_class is MessageClass.SUCCESS
        assert response.transaction_id == b"twelve bytes"
        assert response.get(XOR_MAPPED_ADDRESS) == address
        assert response.has_fingerprint
        response.verify(IntegrityKey(credentials.password.encode()))
    assert agents.counts[IceCount.ANSWERED] == 2


def test_credentials_have_the_letters_and_the_lengths_that_ice_wants() -> None:
    _, credentials = begin()
    assert (len(credentials.ufrag), len(credentials.password)) == (8, 24)
    assert all(letter.isalnum() or letter in "+/" for letter in "".join(credentials))


@pytest.mark.parametrize("algorithm", IntegrityAlgorithm)
def test_the_answer_is_signed_as_the_check_was(algorithm: IntegrityAlgorithm) -> None:
    agents, credentials = begin()
    raw = agents.receive(check(credentials, algorithm=algorithm), HOME, 0.0)
    assert raw is not None
    assert decode_message(raw).integrity is algorithm


def test_strangers_hear_nothing() -> None:
    agents, credentials = begin()
    agents.set_remote(ANNA, REMOTE)
    attempts = {
        IceCount.UNAUTHENTICATED: check(credentials, password="another password of a client"),
        IceCount.UNKNOWN_USER: check(("nobody", credentials.password)),
        IceCount.MALFORMED: check(credentials, fingerprint=False),
        IceCount.NO_REQUEST: encode_message(Method.BINDING, MessageClass.INDICATION, bytes(12), fingerprint=True),
    }
    for count, datagram in attempts.items():
        assert agents.receive(datagram, HOME, 0.0) is None
        assert agents.counts[count] == 1
    assert agents.receive(check(credentials, remote_ufrag="else"), HOME, 0.0) is None
    assert agents.counts[IceCount.UNKNOWN_USER] == 2
    assert events(agents) == []


def test_a_check_without_integrity_is_not_answered() -> None:
    agents, credentials = begin()
    username = USERNAME.pack(f"{credentials.ufrag}:{REMOTE_UFRAG}")
    datagram = encode_message(Method.BINDING, MessageClass.REQUEST, bytes(12), [username], fingerprint=True)
    assert agents.receive(datagram, HOME, 0.0) is None
    assert agents.counts[IceCount.UNAUTHENTICATED] == 1


def test_an_attribute_that_must_be_understood_and_is_not_gets_a_signed_420_and_no_address() -> None:
    agents, credentials = begin()
    raw = agents.receive(check(credentials, more=pack_attribute(0x0033, b"")), HOME, 0.0)
    assert raw is not None
    response = decode_message(raw)
    error = response.get(ERROR_CODE)
    assert error is not None and error.code == 420
    assert response.get(UNKNOWN_ATTRIBUTES) == (0x0033,)
    response.verify(IntegrityKey(credentials.password.encode()))
    assert events(agents) == []


def test_the_first_address_is_used_until_another_is_nominated() -> None:
    agents, credentials = begin()
    agents.set_remote(ANNA, REMOTE)
    agents.receive(check(credentials), HOME, 0.0)
    agents.receive(check(credentials), MOBILE, 0.1)
    assert events(agents) == [AddressValid(ANNA, HOME), AddressChosen(ANNA, HOME), AddressValid(ANNA, MOBILE)]
    agents.receive(check(credentials, nominate=True), MOBILE, 0.2)
    agents.receive(check(credentials, nominate=True), MOBILE, 0.3)
    agents.receive(check(credentials), HOME, 0.4)
    assert prove(agents, 0.4) == [AddressChosen(ANNA, MOBILE)]
    agents.receive(check(credentials, nominate=True), HOME, 0.5)
    assert prove(agents, 0.5) == [AddressChosen(ANNA, HOME)]
    agents.receive(check(credentials, nominate=True), MOBILE, 0.6)
    assert events(agents) == [AddressChosen(ANNA, MOBILE)]  # it was proved before


def test_nothing_is_sent_to_an_address_that_a_client_names_and_does_not_receive_at() -> None:
    agents, credentials = begin()
    agents.set_remote(ANNA, REMOTE)
    agents.receive(check(credentials, nominate=True), HOME, 0.0)
    assert prove(agents, 0.0) == [AddressValid(ANNA, HOME), AddressChosen(ANNA, HOME)]
    for second in range(1, 100):  # forged, and answered to somebody else
        agents.receive(check(credentials, nominate=True), MOBILE, float(second))
        agents.receive(check(credentials), HOME, float(second))
    valid, *due = events(agents)
    assert valid == AddressValid(ANNA, MOBILE)
    assert len(due) == 99 and set(map(type, due)) == {CheckDue}
    guess = encode_success(decode_message(check(credentials)), key=IntegrityKey(REMOTE.password.encode()))
    unsigned = encode_success(decode_message(due[0].datagram))  # type: ignore[union-attr]  # a CheckDue, as was seen
    for datagram, count in (
        (guess, IceCount.NO_REQUEST),
        (unsigned, IceCount.UNAUTHENTICATED),
        (answered(due[0], ANEW), IceCount.UNAUTHENTICATED),
    ):
        before = agents.counts[count]
        assert agents.receive(datagram, MOBILE, 100.0) is None
        assert agents.counts[count] == before + 1
    assert agents.receive(answered(due[0]), HOME, 100.0) is None  # from where the client really is
    agents.handle_timeout(100.0)
    assert {type(event) for event in events(agents)} <= {CheckDue}


def test_who_is_named_but_not_reached_is_not_sent_to_either_when_the_proved_address_falls_silent() -> None:
    agents, credentials = begin()
    agents.set_remote(ANNA, REMOTE)
    agents.receive(check(credentials, nominate=True), HOME, 0.0)
    agents.receive(check(credentials, nominate=True), MOBILE, 20.0)
    agents.receive(check(credentials, nominate=True), MOBILE, 40.0)
    events(agents)
    agents.handle_timeout(40.0)
    assert events(agents) == [AddressGone(ANNA, HOME)]


def test_a_check_of_ours_is_one_that_the_client_can_tell_from_a_forged_one() -> None:
    agents, credentials = begin()
    agents.set_remote(ANNA, REMOTE)
    theirs = check(credentials, nominate=True)
    agents.receive(theirs, HOME, 0.0)
    agents.receive(theirs, MOBILE, 0.0)
    due = events(agents)[-1]
    assert isinstance(due, CheckDue) and due.address == MOBILE
    ours = decode_message(due.datagram)
    assert (ours.method, ours.message_class) == (Method.BINDING, MessageClass.REQUEST)
    assert ours.get(USERNAME) == f"{REMOTE.ufrag}:{credentials.ufrag}"
    assert ours.has_fingerprint
    ours.verify(IntegrityKey(REMOTE.password.encode()))
    assert ice_lite.ICE_CONTROLLED in ours.values
    assert len(due.datagram) <= len(theirs)


def test_an_address_that_was_nominated_before_the_description_came_is_asked_when_it_comes() -> None:
    agents, old = begin()
    agents.set_remote(ANNA, REMOTE)
    agents.receive(check(old, nominate=True), HOME, 0.0)
    new = agents.restart(ANNA, next(entropy), 1.0)
    agents.receive(check(new, remote_ufrag="anew", nominate=True), MOBILE, 1.1)
    assert prove(agents, 1.1)[-1] == AddressValid(ANNA, MOBILE)
    agents.set_remote(ANNA, ANEW)
    agents.handle_timeout(1.2)
    assert prove(agents, 1.3, ANEW) == [AddressChosen(ANNA, MOBILE), AddressGone(ANNA, HOME)]


def test_a_check_of_ours_that_is_not_answered_is_repeated_some_times_and_no_longer() -> None:
    agents, credentials = begin()
    agents.set_remote(ANNA, REMOTE)
    for address in (HOME, MOBILE):
        agents.receive(check(credentials, nominate=True), address, 0.0)
    for tick in range(200):
        agents.handle_timeout(tick / 10)
    due = [event for event in events(agents) if isinstance(event, CheckDue)]
    assert len(due) == ice_lite.MAX_ASKS
    agents.receive(check(credentials), MOBILE, 20.0)
    assert len(events(agents)) == 1
    agents.receive(answered(due[0]), MOBILE, 20.1)
    agents.handle_timeout(20.0 + ice_lite.ASK_SECONDS)
    assert events(agents) == [AddressChosen(ANNA, MOBILE)]


def test_an_answer_that_nobody_has_asked_for_is_dropped() -> None:
    agents, credentials = begin()
    guess = encode_success(decode_message(check(credentials)), key=IntegrityKey(REMOTE.password.encode()))
    assert agents.receive(guess, HOME, 0.0) is None
    assert agents.counts[IceCount.NO_REQUEST] == 1
    with pytest.raises(ValueError, match="a secret"):
        IceLite(b"short")


def test_a_client_that_claims_to_be_controlled_is_answered_and_nominates_nothing() -> None:
    agents, credentials = begin()
    agents.receive(check(credentials), HOME, 0.0)
    assert agents.receive(check(credentials, nominate=True, role=CONTROLLED), MOBILE, 0.0) is not None
    assert AddressChosen(ANNA, MOBILE) not in events(agents)


def test_checks_may_be_faster_than_the_description_but_those_of_another_agent_do_not_count() -> None:
    agents, credentials = begin()
    agents.receive(check(credentials, remote_ufrag="else"), HOME, 0.0)
    agents.receive(check(credentials), MOBILE, 0.0)
    events(agents)
    agents.set_remote(ANNA, REMOTE)
    assert events(agents) == [AddressGone(ANNA, HOME)]
    agents.receive(check(credentials, nominate=True), MOBILE, 0.1)
    assert prove(agents, 0.2) == [AddressChosen(ANNA, MOBILE)]


def test_consent_ends_thirty_seconds_after_the_last_check() -> None:
    agents, credentials = begin()
    agents.set_remote(ANNA, REMOTE)
    for address in (HOME, MOBILE, HOME):
        agents.receive(check(credentials, nominate=True), address, 0.0)
        prove(agents, 0.0)
    agents.receive(check(credentials), MOBILE, 10.0)
    agents.handle_timeout(29.9)
    assert events(agents) == []
    agents.handle_timeout(30.0)
    assert events(agents) == [AddressGone(ANNA, HOME), AddressChosen(ANNA, MOBILE)]
    agents.handle_timeout(40.0)
    assert events(agents) == [AddressGone(ANNA, MOBILE), ConsentLost(ANNA)]
    agents.handle_timeout(50.0)
    assert events(agents) == []


def test_a_client_that_never_comes_is_told_of_after_thirty_seconds() -> None:
    agents, _ = begin()
    agents.handle_timeout(29.9)
    assert events(agents) == []
    agents.handle_timeout(30.0)
    assert events(agents) == [ConsentLost(ANNA)]


def test_a_client_may_come_back_after_its_consent_was_lost() -> None:
    agents, credentials = begin()
    agents.handle_timeout(30.0)
    events(agents)
    agents.receive(check(credentials), HOME, 31.0)
    assert events(agents) == [AddressValid(ANNA, HOME), AddressChosen(ANNA, HOME)]
    agents.handle_timeout(61.0)
    assert events(agents) == [AddressGone(ANNA, HOME), ConsentLost(ANNA)]


def test_a_restart_keeps_the_old_address_until_the_new_credentials_have_nominated() -> None:
    agents, old = begin()
    agents.set_remote(ANNA, REMOTE)
    agents.receive(check(old, nominate=True), HOME, 0.0)
    prove(agents, 0.1)
    new = agents.restart(ANNA, next(entropy), 1.0)
    agents.set_remote(ANNA, ANEW)
    assert agents.receive(check(old), HOME, 2.0) is not None
    assert agents.receive(check(new, remote_ufrag="anew"), MOBILE, 2.0) is not None
    assert events(agents) == [AddressValid(ANNA, MOBILE)]
    agents.receive(check(new, remote_ufrag="anew", nominate=True), MOBILE, 3.0)
    assert agents.receive(check(old), HOME, 3.0) is not None  # until it is proved
    assert prove(agents, 3.1, ANEW) == [AddressChosen(ANNA, MOBILE), AddressGone(ANNA, HOME)]
    assert agents.receive(check(old), HOME, 4.0) is None


def test_a_restart_at_the_same_address_keeps_it() -> None:
    agents, old = begin()
    agents.receive(check(old, nominate=True), HOME, 0.0)
    new = agents.restart(ANNA, next(entropy), 1.0)
    events(agents)
    agents.receive(check(new, remote_ufrag="anew"), HOME, 2.0)
    agents.receive(check(old), HOME, 2.0)
    agents.set_remote(ANNA, ANEW)
    agents.receive(check(new, remote_ufrag="anew", nominate=True), HOME, 3.0)
    assert prove(agents, 3.0, ANEW) == []
    assert agents.receive(check(old), HOME, 4.0) is None


def test_of_many_restarts_the_credentials_that_work_and_the_latest_count() -> None:
    agents, first = begin()
    agents.receive(check(first, nominate=True), HOME, 0.0)
    second = agents.restart(ANNA, next(entropy), 0.0)
    agents.receive(check(second), MOBILE, 0.5)
    third = agents.restart(ANNA, next(entropy), 1.0)
    answers = [agents.receive(check(each), HOME, 1.0) for each in (first, second, third)]
    assert [answer is not None for answer in answers] == [True, False, True]
    events(agents)
    agents.receive(check(third, nominate=True), HOME, 2.0)
    assert events(agents) == [AddressGone(ANNA, MOBILE)]  # only the second ones had proved it


def test_an_address_of_a_live_client_cannot_be_claimed_by_another_one() -> None:
    agents, anna = begin()
    _, bert = begin(BERT, agents)
    agents.receive(check(anna), HOME, 0.0)
    events(agents)
    late = ice_lite.ADDRESS_HOLD_SECONDS
    assert agents.receive(check(bert, nominate=True), HOME, late - 0.1) is None
    assert agents.counts[IceCount.ADDRESS_TAKEN] == 1
    assert events(agents) == []
    assert agents.receive(check(bert), HOME, late) is not None
    assert events(agents) == [AddressGone(ANNA, HOME), AddressValid(BERT, HOME), AddressChosen(BERT, HOME)]


def test_an_address_is_free_when_its_session_has_ended() -> None:
    agents, anna = begin()
    agents.receive(check(anna), HOME, 0.0)
    agents.remove(ANNA)
    _, bert = begin(BERT, agents)
    assert agents.receive(check(bert), HOME, 0.0) is not None
    assert events(agents)[2:] == [AddressGone(ANNA, HOME), AddressValid(BERT, HOME), AddressChosen(BERT, HOME)]
    assert agents.receive(check(anna), MOBILE, 0.0) is None


def test_a_client_has_only_so_many_addresses_and_the_stalest_goes_first() -> None:
    agents, credentials = begin()
    addresses = [HOME._replace(port=port) for port in range(ice_lite.MAX_PAIRS + 1)]
    for at, address in enumerate(addresses):
        agents.receive(check(credentials), address, float(at))
    told = events(agents)
    assert [event.address for event in told if isinstance(event, AddressValid)] == addresses
    assert [event.address for event in told if isinstance(event, AddressGone)] == [addresses[1]]  # 0 is in use


def test_one_ip_address_cannot_keep_the_agents_busy() -> None:
    agents, credentials = begin()
    for port in range(ice_lite.STRANGERS_AT_ONCE + 10):
        agents.receive(b"", HOME._replace(port=port), 0.0)
    assert agents.counts[IceCount.LIMITED] == 10
    unnamed = check(("nobody00", credentials.password))
    assert agents.receive(unnamed, HOME, 0.0) is None
    assert agents.counts[IceCount.LIMITED] == 11
    assert agents.receive(unnamed, MOBILE, 0.0) is None
    assert agents.counts[IceCount.UNKNOWN_USER] == 1


def test_a_flood_in_the_name_of_an_address_neither_silences_a_client_there_nor_keeps_others_from_coming() -> None:
    agents, anna = begin()
    _, bert = begin(BERT, agents)
    agents.receive(check(anna), HOME, 0.0)
    for _ in range(ice_lite.STRANGERS_AT_ONCE + 10):
        for port in (HOME.port, 1):
            agents.receive(b"", HOME._replace(port=port), 0.0)
    heard = ice_lite.STRANGERS_AT_ONCE + ice_lite.CHECKS_AT_ONCE
    assert agents.counts[IceCount.LIMITED] == 2 * (ice_lite.STRANGERS_AT_ONCE + 10) - heard
    assert agents.receive(check(anna), HOME, 0.0) is not None
    assert agents.receive(check(bert), HOME._replace(port=2), 0.0) is not None


def test_a_client_cannot_keep_the_agents_busy_either_however_many_addresses_it_has() -> None:
    agents, credentials = begin()
    addresses = [HOME._replace(port=port) for port in range(ice_lite.CHECKS_AT_ONCE + 5)]
    answers = [agents.receive(check(credentials), address, 0.0) for address in addresses]
    assert answers.count(None) == 5
    assert agents.counts[IceCount.LIMITED] == 5
    assert agents.receive(check(credentials), HOME, 1.0) is not None


def test_a_session_is_added_once_and_with_fresh_entropy() -> None:
    agents, _ = begin()
    with pytest.raises(ValueError, match="known already"):
        agents.add(ANNA, next(entropy), 0.0)
    used = next(entropy)
    agents.add(BERT, used, 0.0)
    with pytest.raises(ValueError, match="used before"):
        agents.restart(ANNA, used, 0.0)
    with pytest.raises(ValueError, match="23 bytes"):
        agents.restart(ANNA, bytes(23), 0.0)


@given(mutated(messages))
def test_nothing_unsigned_is_answered_or_remembered(datagram: bytes) -> None:
    agents, _ = begin()
    assert agents.receive(datagram, HOME, 0.0) is None
    assert events(agents) == []


@given(st.data())
def test_a_mutated_check_is_dropped_or_answered_with_less_than_twice_its_size(data: st.DataObject) -> None:
    agents, credentials = begin()
    datagram = data.draw(mutated(st.just(check(credentials, nominate=True))))
    address = data.draw(st.sampled_from([HOME, MOBILE]))
    response = agents.receive(datagram, address, 0.0)
    if response is not None:
        assert len(response) < 2 * len(datagram)
        decode_message(response).verify(IntegrityKey(credentials.password.encode()))


steps = st.lists(
    st.tuples(
        st.sampled_from(["check", "nominate", "prove", "old", "restart", "remove", "timeout"]),
        st.sampled_from([ANNA, BERT]),
        st.integers(0, 20),
        st.floats(0, 12),
    ),
    max_size=80,
)


class Watcher:
    """Believes what the agents tell, and checks that it fits together."""

    def __init__(self) -> None:
        self.valid: dict[TransportAddress, SessionId] = {}
        self.chosen: dict[SessionId, TransportAddress] = {}
        self.first: dict[SessionId, TransportAddress] = {}
        self.proved: set[TransportAddress] = set()
        self.due: CheckDue | None = None

    def take(self, event: IceEvent) -> None:
        match event:
            case AddressValid():
                assert event.address not in self.valid
                self.valid[event.address] = event.session
            case AddressGone():
                assert self.valid.pop(event.address) == event.session
                self.proved.discard(event.address)
                if self.chosen.get(event.session) == event.address:
                    del self.chosen[event.session]
            case AddressChosen():
                self.chosen[event.session] = event.address
                assert event.address in {self.first.setdefault(event.session, event.address), *self.proved}
            case CheckDue():
                assert self.valid[event.address] == event.session
                self.due = event
            case ConsentLost():
                assert event.session not in self.valid.values()

    def check(self) -> None:
        for owner, address in self.chosen.items():
            assert self.valid[address] == owner
        for owner in set(self.valid.values()):
            assert sum(each == owner for each in self.valid.values()) <= ice_lite.MAX_PAIRS


@given(steps)
def test_whatever_happens_an_address_has_one_owner_and_media_goes_only_to_valid_addresses(
    script: list[tuple[str, SessionId, int, float]],
) -> None:
    agents, watcher, now = IceLite(SECRET), Watcher(), 0.0
    live: dict[SessionId, list[IceCredentials]] = {}
    for action, session, port, pause in script:
        now += pause
        if session not in live:
            live[session] = [agents.add(session, next(entropy), now)]
            watcher.first.pop(session, None)
            agents.set_remote(session, REMOTE)
        elif action == "restart":
            live[session].append(agents.restart(session, next(entropy), now))
            agents.set_remote(session, REMOTE)
        elif action == "prove":
            if watcher.due is not None:
                before = agents.counts[IceCount.PROVED]
                assert agents.receive(answered(watcher.due), watcher.due.address, now) is None
                if agents.counts[IceCount.PROVED] > before:
                    watcher.proved.add(watcher.due.address)
        elif action == "remove":
            agents.remove(session)
            del live[session]
        elif action == "timeout":
            agents.handle_timeout(now)
        else:
            credentials = live[session][-2 if action == "old" and len(live[session]) > 1 else -1]
            agents.receive(check(credentials, nominate=action == "nominate"), HOME._replace(port=port), now)
        for event in events(agents):
            watcher.take(event)
        watcher.check()
