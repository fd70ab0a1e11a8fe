from hypothesis import given
from hypothesis import strategies as st

from sfu.allocator import Content, Hints, Layer, Offer
from sfu.layer_demand import LayerDemand
from sfu.media_engine import DownTrackId, TrackId

CAMERA = (Layer((100e3,), 320, 180), Layer((300e3,), 640, 360), Layer((1e6,), 1280, 720))
TINY, MIDDLE, LARGE = Hints(width=100, height=60), Hints(width=600, height=340), Hints(width=1280, height=720)
HIDDEN = Hints(visible=False)


def view(track: int, hints: Hints, subscriber: int = 0) -> Offer:
    return Offer(DownTrackId(100 * subscriber + track), TrackId(track), Content.CAMERA, CAMERA, hints)


def told(demand: LayerDemand, now: float, *hints: Hints) -> int | None:
    """What the publisher of track 1 is told when its subscribers see it like this."""
    offers = [view(1, each, subscriber) for subscriber, each in enumerate(hints)]
    return demand.update([TrackId(1)], offers, now)[TrackId(1)]


def test_the_largest_view_of_each_track_counts_and_sound_is_always_wanted() -> None:
    offers = [
        view(1, TINY),
        view(1, MIDDLE, subscriber=1),
        view(2, HIDDEN),
        view(3, LARGE),
        Offer(DownTrackId(4), TrackId(4), Content.AUDIO, (Layer((40e3,)),), HIDDEN),
        view(6, LARGE),  # it is not published any more
    ]
    published = [TrackId(number) for number in range(1, 6)]
    assert LayerDemand().update(published, offers, 1.0) == {1: 1, 2: None, 3: 2, 4: 0, 5: None}


def test_more_is_told_at_once() -> None:
    demand = LayerDemand()
    assert [told(demand, 1.0, HIDDEN), told(demand, 1.1, TINY), told(demand, 1.2, TINY, LARGE)] == [None, 0, 2]


def test_less_is_told_after_five_seconds() -> None:
    demand = LayerDemand()
    told(demand, 1.0, LARGE)
    assert told(demand, 2.0, TINY) == 2
    assert demand.poll_timeout() == 7.0
    assert told(demand, 6.9, TINY) == 2
    assert told(demand, 7.0, TINY) == 0
    assert demand.poll_timeout() is None


def test_a_look_in_between_begins_the_wait_anew() -> None:
    demand = LayerDemand()
    told(demand, 1.0, LARGE)
    told(demand, 2.0, HIDDEN)
    told(demand, 5.0, LARGE)
    told(demand, 6.0, HIDDEN)
    assert [told(demand, 10.9, HIDDEN), told(demand, 11.0, HIDDEN)] == [2, None]


def test_a_track_that_is_not_published_any_more_is_forgotten() -> None:
    demand = LayerDemand()
    told(demand, 1.0, LARGE)
    told(demand, 2.0, TINY)
    assert demand.update([], [], 3.0) == {}
    assert demand.poll_timeout() is None
    assert told(demand, 4.0, TINY) == 0


views = st.lists(st.sampled_from([HIDDEN, TINY, MIDDLE, LARGE]), max_size=3)


@given(st.lists(st.tuples(views, st.floats(0, 4)), max_size=30))
def test_never_less_is_told_than_somebody_has_use_for(course: list[tuple[list[Hints], float]]) -> None:
    demand, now = LayerDemand(), 0.0
    uses = {HIDDEN: -1, TINY: 0, MIDDLE: 1, LARGE: 2}
    for hints, wait in course:
        now += wait
        layer = told(demand, now, *hints)
        assert (-1 if layer is None else layer) >= max((uses[each] for each in hints), default=-1)
        due_at = demand.poll_timeout()
        assert due_at is None or now < due_at <= now + LayerDemand.STOP_AFTER
