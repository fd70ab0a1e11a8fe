import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from relay.errors import BadRequest, WrongCredentials
from relay.mobility import (
    TICKET_BYTES,
    MobilityForbidden,
    MobilityTickets,
    Owner,
    TicketRefused,
    check_request,
)

ALICE, BOB = Owner("alice", "clinic"), Owner("bob", "clinic")
FIRST, SECOND = b"transaction1", b"transaction2"


def entropy() -> Callable[[int], bytes]:
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size)


@pytest.fixture
def tickets() -> MobilityTickets:
    return MobilityTickets(entropy())


def test_a_ticket_names_its_allocation(tickets: MobilityTickets) -> None:
    ticket = tickets.issue(7, ALICE)
    other = tickets.issue(8, ALICE)
    assert len(ticket) == TICKET_BYTES
    assert ticket.isascii()
    assert b"\0" not in ticket, "clients that keep it as a string of C would cut it there"
    assert (tickets.redeem(ticket, ALICE), tickets.redeem(other, ALICE)) == (7, 8)


@pytest.mark.parametrize("owner", [BOB, Owner("alice", "other realm")], ids=["user", "realm"])
def test_the_ticket_of_another_user_is_refused_and_stays_valid_for_its_owner(
    tickets: MobilityTickets, owner: Owner
) -> None:
    ticket = tickets.issue(7, ALICE)
    with pytest.raises(WrongCredentials) as refusal:
        tickets.redeem(ticket, owner)
    assert refusal.value.code == 441
    assert tickets.redeem(ticket, ALICE) == 7


@given(st.binary(max_size=40))
def test_a_ticket_that_was_never_issued_is_a_bad_request(ticket: bytes) -> None:
    tickets = MobilityTickets(lambda size: b"\xaa" * size)
    issued = tickets.issue(7, ALICE)
    if ticket != issued:
        with pytest.raises(TicketRefused) as refusal:
            tickets.redeem(ticket, ALICE)
        assert refusal.value.code == 400


def test_a_refresh_wears_the_old_ticket_out_once_the_new_one_has_come_back(tickets: MobilityTickets) -> None:
    old = tickets.issue(7, ALICE)
    tickets.redeem(old, ALICE)
    new = tickets.rotate(7, FIRST)
    assert new != old
    assert tickets.redeem(old, ALICE) == 7, "the response may have been lost"
    assert tickets.redeem(new, ALICE) == 7
    with pytest.raises(TicketRefused):
        tickets.redeem(old, ALICE)


def test_somebody_else_s_try_does_not_wear_the_previous_ticket_out(tickets: MobilityTickets) -> None:
    old = tickets.issue(7, ALICE)
    new = tickets.rotate(7, FIRST)
    with pytest.raises(WrongCredentials):
        tickets.redeem(new, BOB)
    assert tickets.redeem(old, ALICE) == 7


def test_a_retransmitted_refresh_gets_the_same_ticket(tickets: MobilityTickets) -> None:
    old = tickets.issue(7, ALICE)
    new = tickets.rotate(7, FIRST)
    assert tickets.redeem(old, ALICE) == 7
    assert tickets.rotate(7, FIRST) == new
    assert tickets.current(7) == new


def test_a_client_that_never_saw_the_new_ticket_moves_again_with_the_old_one(tickets: MobilityTickets) -> None:
    old = tickets.issue(7, ALICE)
    lost = tickets.rotate(7, FIRST)
    assert tickets.redeem(old, ALICE) == 7
    newest = tickets.rotate(7, SECOND)
    with pytest.raises(TicketRefused):
        tickets.redeem(lost, ALICE)
    assert tickets.redeem(old, ALICE) == tickets.redeem(newest, ALICE) == 7
    assert len(tickets) == 1


def test_no_ticket_outlives_its_allocation(tickets: MobilityTickets) -> None:
    issued = [tickets.issue(7, ALICE), tickets.rotate(7, FIRST)]
    tickets.forget(7)
    for ticket in issued:
        with pytest.raises(TicketRefused):
            tickets.redeem(ticket, ALICE)
    assert len(tickets) == 0
    assert tickets.current(7) is None


def test_an_allocation_without_tickets_can_be_forgotten_but_not_rotated(tickets: MobilityTickets) -> None:
    tickets.forget(7)
    with pytest.raises(KeyError):
        tickets.rotate(7, FIRST)


def test_a_second_first_ticket_is_a_bug(tickets: MobilityTickets) -> None:
    tickets.issue(7, ALICE)
    with pytest.raises(ValueError, match="already"):
        tickets.issue(7, ALICE)


def test_a_ticket_in_use_is_not_given_twice() -> None:
    drawn = iter([b"same", b"same", b"other"])
    tickets = MobilityTickets(lambda _size: next(drawn))
    assert tickets.issue(7, ALICE) != tickets.issue(8, ALICE)


def test_allocate_asks_for_a_ticket_with_an_empty_value() -> None:
    assert check_request(b"", is_allowed=True)
    assert not check_request(None, is_allowed=True)
    assert not check_request(None, is_allowed=False)


def test_allocate_is_refused_where_mobility_is_off() -> None:
    with pytest.raises(MobilityForbidden) as refusal:
        check_request(b"", is_allowed=False)
    assert refusal.value.code == 405


@pytest.mark.parametrize("is_allowed", [True, False])
def test_allocate_with_a_ticket_is_a_bad_request(*, is_allowed: bool) -> None:
    with pytest.raises(BadRequest):
        check_request(b"ticket", is_allowed=is_allowed)


class TicketMachine(RuleBasedStateMachine):
    """Clients that move, lose responses and use any ticket they ever saw."""

    allocations: Bundle[int] = Bundle("allocations")

    def __init__(self) -> None:
        super().__init__()
        self.tickets = MobilityTickets(entropy())
        self.numbers = itertools.count(1)
        self.latest: dict[int, bytes] = {}
        self.allocation_of: dict[bytes, int] = {}

    def remember(self, allocation: int, ticket: bytes) -> None:
        assert self.allocation_of.setdefault(ticket, allocation) == allocation, "a ticket was issued twice"
        self.latest[allocation] = ticket

    @rule(target=allocations)
    def allocate(self) -> int:
        allocation = next(self.numbers)
        self.remember(allocation, self.tickets.issue(allocation, ALICE))
        return allocation

    @rule(allocation=allocations, transaction=st.sampled_from([FIRST, SECOND, b"transaction3"]))
    def refresh(self, allocation: int, transaction: bytes) -> None:
        self.remember(allocation, self.tickets.rotate(allocation, transaction))

    @rule(data=st.data())
    def use_any_ticket(self, data: st.DataObject) -> None:
        if not self.allocation_of:
            return
        ticket = data.draw(st.sampled_from(sorted(self.allocation_of)))
        allocation = self.allocation_of[ticket]
        try:
            assert self.tickets.redeem(ticket, ALICE) == allocation
        except TicketRefused:
            assert self.latest.get(allocation) != ticket, "the latest ticket of a live allocation was refused"
        else:
            assert allocation in self.latest, "the ticket of an ended allocation was accepted"

    @rule(allocation=consumes(allocations))
    def end(self, allocation: int) -> None:
        self.tickets.forget(allocation)
        del self.latest[allocation]

    @invariant()
    def no_more_than_two_tickets_for_each_allocation(self) -> None:
        assert len(self.latest) <= len(self.tickets) <= 2 * len(self.latest)


TestTicketMachine = TicketMachine.TestCase
