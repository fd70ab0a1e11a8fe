import math

from hypothesis import given
from hypothesis import strategies as st

from relay.timers import Timers


class Item:
    def __init__(self) -> None:
        self.bucket: int | None = None


def test_an_item_wakes_at_most_one_second_late_and_never_early() -> None:
    timers: Timers[Item] = Timers()
    item = Item()
    timers.schedule(item, 10.25)
    assert timers.next_at() == 11.0
    assert timers.due(10.9) == []
    assert timers.due(11.0) == [item]
    assert item.bucket is None
    assert timers.next_at() is None


def test_a_later_wish_replaces_an_earlier_one() -> None:
    timers: Timers[Item] = Timers()
    item = Item()
    timers.schedule(item, 10.0)
    timers.schedule(item, 5.0)
    assert timers.next_at() == 5.0
    timers.schedule(item, 20.0)
    assert timers.next_at() == 20.0
    assert timers.due(19.0) == []
    assert timers.due(20.0) == [item]


def test_a_cancelled_item_does_not_wake() -> None:
    timers: Timers[Item] = Timers()
    one, other = Item(), Item()
    timers.schedule(one, 10.0)
    timers.schedule(other, 10.0)
    timers.cancel(one)
    timers.cancel(one)
    assert timers.due(10.0) == [other]


def test_a_cancelled_second_can_be_used_again() -> None:
    timers: Timers[Item] = Timers()
    item = Item()
    timers.schedule(item, 10.0)
    timers.cancel(item)
    assert timers.next_at() is None
    timers.schedule(item, 10.0)
    assert timers.due(10.0) == [item]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("schedule"), st.integers(0, 4), st.floats(0, 60)),
            st.tuples(st.just("cancel"), st.integers(0, 4), st.just(0.0)),
            st.tuples(st.just("pass"), st.just(0), st.floats(0, 10)),
        ),
        max_size=40,
    )
)
def test_timers_do_what_a_plain_dictionary_would(steps: list[tuple[str, int, float]]) -> None:
    timers: Timers[Item] = Timers()
    items = [Item() for _ in range(5)]
    wishes: dict[int, int] = {}
    now = 0.0
    for action, number, amount in steps:
        if action == "schedule":
            timers.schedule(items[number], now + amount)
            wishes[number] = math.ceil(now + amount)
        elif action == "cancel":
            timers.cancel(items[number])
            wishes.pop(number, None)
        else:
            now += amount
            due = {number for number, second in wishes.items() if second <= now}
            assert {items.index(item) for item in timers.due(now)} == due
            wishes = {number: second for number, second in wishes.items() if number not in due}
        assert timers.next_at() == min(wishes.values(), default=None)
        assert len(timers._order) == len(set(timers._order)) == len(timers._buckets)
