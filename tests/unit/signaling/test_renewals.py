from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from signaling.renewals import MAX_RENEWALS_AT_ONCE, RENEWAL_PAUSE_SECONDS, SPARE_ENTRIES, Renewals


def test_nobody_is_due_before_the_instant_and_the_first_comes_first() -> None:
    renewals = Renewals()
    renewals.schedule(1, 20.0)
    renewals.schedule(2, 10.0)
    assert renewals.next_at() == 10.0
    assert renewals.take(9.9) == []
    assert renewals.take(10.0) == [2]
    assert renewals.next_at() == 20.0
    assert renewals.take(99.0) == [1]
    assert renewals.next_at() is None


def test_the_last_wish_counts_and_who_has_gone_is_never_due() -> None:
    renewals = Renewals()
    renewals.schedule(1, 10.0)
    renewals.schedule(1, 30.0)
    renewals.schedule(2, 20.0)
    renewals.forget(2)
    renewals.forget(3)
    assert renewals.take(29.0) == []
    assert renewals.take(30.0) == [1]
    assert len(renewals) == 0


def test_a_thousand_that_are_due_together_come_in_bounded_steps() -> None:
    renewals = Renewals()
    for client in range(1000):
        renewals.schedule(client, 10.0)
    steps: list[tuple[float, list[int]]] = []
    while (at := renewals.next_at()) is not None:
        steps.append((at, renewals.take(at)))
    assert {len(taken) for _, taken in steps[:-1]} == {MAX_RENEWALS_AT_ONCE}
    assert [client for _, taken in steps for client in taken] == list(range(1000))
    assert all(later - earlier >= RENEWAL_PAUSE_SECONDS - 1e-9 for (earlier, _), (later, _) in pairwise(steps))


def test_clients_that_come_and_go_leave_nothing_behind() -> None:
    renewals = Renewals()
    renewals.schedule(0, 1e9)
    for client in range(1, 10_000):
        renewals.schedule(client, 1e6 + client)
        renewals.forget(client)
        assert len(renewals._order) <= 2 * len(renewals) + SPARE_ENTRIES + 2
    assert renewals.next_at() == 1e9


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 20)), max_size=60), st.integers(0, 20))
def test_it_says_what_a_plain_table_says(steps: list[tuple[int, int | None]], now: int) -> None:
    renewals, table = Renewals(), dict[int, int]()
    for client, at in steps:
        if at is None:
            renewals.forget(client)
            table.pop(client, None)
        else:
            renewals.schedule(client, at)
            table[client] = at
    assert renewals.next_at() == min(table.values(), default=None)
    due = [client for client, at in table.items() if at <= now]
    assert sorted(renewals.take(now)) == sorted(due)
    assert len(renewals) == len(table) - len(due)
