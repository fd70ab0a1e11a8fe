import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.allocator import (
    NOTHING,
    Allocation,
    Allocator,
    Content,
    Hints,
    Layer,
    Offer,
    wanted_layer,
)
from sfu.media_engine import DownTrackId, TrackId

SMALL = Layer((60e3, 80e3, 100e3), 320, 180)
MIDDLE = Layer((180e3, 240e3, 300e3), 640, 360)
LARGE = Layer((600e3, 800e3, 1000e3), 1280, 720)
CAMERA = (SMALL, MIDDLE, LARGE)
SCREEN = (Layer((100e3, 150e3), 960, 540), Layer((300e3, 450e3), 1920, 1080))
FULL = Hints(width=1280, height=720)


def camera(number: int, hints: Hints = FULL, *, layers: tuple[Layer, ...] = CAMERA, recency: int = 0) -> Offer:
    return Offer(DownTrackId(number), TrackId(number), Content.CAMERA, layers, hints, recency)


def screen(number: int, hints: Hints = FULL) -> Offer:
    return Offer(DownTrackId(number), TrackId(number), Content.SCREEN, SCREEN, hints)


def audio(number: int, rate: float = 40e3) -> Offer:
    return Offer(DownTrackId(number), TrackId(number), Content.AUDIO, (Layer((rate,)),))


def first(offers: list[Offer], budget: float, last_n: int = 20) -> dict[int, Allocation]:
    """What somebody gets who has just come."""
    return {int(name): allocation for name, allocation in Allocator(last_n).allocate(offers, budget, 0.0).items()}


def layers(result: dict[int, Allocation]) -> dict[int, int | None]:
    return {number: allocation.layer for number, allocation in result.items()}


def test_with_room_for_all_everybody_gets_what_it_has_use_for() -> None:
    small = Hints(width=300, height=170)
    result = first([camera(1), camera(2, small), audio(3)], 5e6)
    assert result == {1: Allocation(2, 2, 1e6), 2: Allocation(0, 2, 100e3), 3: Allocation(0, 7, 40e3)}


def test_sound_is_reserved_before_any_picture() -> None:
    assert layers(first([camera(1), audio(2, 60e3), audio(3, 60e3)], 180e3)) == {1: None, 2: 0, 3: 0}


def test_sound_is_kept_however_little_the_path_carries() -> None:
    assert layers(first([audio(1), camera(2)], 10e3)) == {1: 0, 2: None}


@pytest.mark.parametrize(("budget", "shown"), [(149_999, None), (165_000, 0)])
def test_below_150_kbit_a_second_every_picture_is_paused(budget: float, shown: int | None) -> None:
    assert layers(first([camera(1)], budget)) == {1: shown}


def test_a_picture_that_nobody_sees_is_not_sent() -> None:
    assert first([camera(1, Hints(visible=False))], 5e6) == {1: NOTHING}


def test_a_screen_goes_before_cameras_and_prefers_pixels_to_motion() -> None:
    offers = [camera(1, Hints(width=1280, height=720, pinned=True)), screen(2)]
    assert first(offers, 400e3)[2] == Allocation(1, 0, 300e3)
    assert first(offers, 600e3)[2] == Allocation(1, 1, 450e3)


def test_a_pinned_camera_is_raised_before_a_larger_one() -> None:
    result = first([camera(1), camera(2, Hints(width=640, height=360, pinned=True))], 420e3)
    assert layers(result) == {1: 0, 2: 1}


def test_everybody_has_a_small_picture_before_anybody_has_a_large_one() -> None:
    assert layers(first([camera(number) for number in range(5)], 5 * 60e3 * 1.1 + 1)) == dict.fromkeys(range(5), 0)


def test_when_not_all_fit_the_largest_views_are_served() -> None:
    offers = [camera(number, Hints(width=100 + number, height=100)) for number in range(4)]
    assert layers(first(offers, 170e3)) == {0: None, 1: None, 2: 0, 3: 0}


def test_cameras_of_equal_rank_are_raised_side_by_side() -> None:
    assert layers(first([camera(1), camera(2)], 700e3)) == {1: 1, 2: 1}


def test_only_the_last_speakers_have_a_picture_and_who_is_pinned() -> None:
    offers = [camera(number, recency=number) for number in range(4)]
    offers.append(camera(4, Hints(pinned=True), recency=9))
    offers.append(screen(5))
    assert layers(first(offers, 50e6, last_n=2)) == {0: 2, 1: None, 2: None, 3: None, 4: 2, 5: 1}


def test_a_layer_that_is_not_sent_is_not_chosen() -> None:
    assert first([camera(1, layers=(SMALL, Layer(()), LARGE))], 800e3)[1] == Allocation(2, 0, 600e3)
    assert first([camera(1, layers=(Layer(()),))], 800e3) == {1: NOTHING}


def test_a_step_that_costs_no_less_and_shows_less_is_passed_over() -> None:
    lean = Layer((90e3, 120e3, 150e3), 640, 360)
    assert first([camera(1, layers=(SMALL, lean))], 175e3 * 1.1)[1] == Allocation(1, 2, 150e3)
    assert first([camera(1, layers=(SMALL, lean))], 166e3)[1].layer == 1


@pytest.mark.parametrize(
    ("hints", "layer"),
    [
        (Hints(), 2),
        (Hints(visible=False), None),
        (Hints(width=320, height=180), 0),
        (Hints(width=370, height=200), 0),
        (Hints(width=400, height=225), 1),
        (Hints(width=1000, height=562), 2),
        (Hints(width=4000, height=3000), 2),
    ],
)
def test_a_view_has_use_for_the_smallest_layer_that_fills_it(hints: Hints, layer: int | None) -> None:
    assert wanted_layer(camera(1, hints)) == layer


@dataclass
class Subscriber:
    allocator: Allocator = field(default_factory=Allocator)
    now: float = 100.0

    def get(self, offers: list[Offer], budget: float, seconds: float = 0.0) -> dict[int, int | None]:
        """Decide after some seconds."""
        self.now += seconds
        result = self.allocator.allocate(offers, budget, self.now)
        return {int(name): allocation.layer for name, allocation in result.items()}


def test_a_layer_is_raised_only_after_there_was_room_to_spare_for_seconds() -> None:
    subscriber = Subscriber()
    offers = [camera(1)]
    assert subscriber.get(offers, 180e3) == {1: 0}
    assert subscriber.get(offers, 1.2e6, 1.0) == {1: 0}
    assert subscriber.allocator.poll_timeout() == subscriber.now + 3.0
    assert subscriber.get(offers, 1.2e6, 2.9) == {1: 0}
    assert subscriber.get(offers, 1.2e6, 0.1) == {1: 2}
    assert subscriber.allocator.poll_timeout() is None


def test_room_without_a_tenth_to_spare_raises_nothing() -> None:
    subscriber = Subscriber()
    offers = [camera(1, layers=(SMALL, Layer((300e3,), 640, 360)))]
    subscriber.get(offers, 170e3)
    for _ in range(10):
        assert subscriber.get(offers, 325e3, 1.0) == {1: 0}
    assert subscriber.allocator.poll_timeout() is None


def test_a_break_in_the_room_begins_the_wait_anew() -> None:
    subscriber = Subscriber()
    offers = [camera(1)]
    subscriber.get(offers, 180e3)
    subscriber.get(offers, 1.2e6, 1.0)
    assert subscriber.get(offers, 160e3, 2.0) == {1: 0}
    assert subscriber.get(offers, 1.2e6, 1.5) == {1: 0}
    assert subscriber.get(offers, 1.2e6, 3.0) == {1: 2}


def test_a_layer_is_lowered_at_once() -> None:
    subscriber = Subscriber()
    assert subscriber.get([camera(1)], 2e6) == {1: 2}
    assert subscriber.get([camera(1)], 400e3, 0.01) == {1: 1}


def test_what_was_given_is_kept_down_to_its_last_bit() -> None:
    subscriber = Subscriber()
    assert subscriber.get([camera(1)], 1.2e6) == {1: 2}
    assert subscriber.get([camera(1)], 1.0e6, 5.0) == {1: 2}


def test_a_budget_that_swings_around_a_step_does_not_make_it_flap() -> None:
    subscriber = Subscriber()
    shown = [
        subscriber.get([camera(1, layers=(SMALL, Layer((300e3,), 640, 360)))], budget, 1.0)[1]
        for budget in itertools.islice(itertools.cycle([290e3, 340e3]), 40)
    ]
    assert set(shown) == {0}


def test_a_measured_rate_that_swings_does_not_make_a_layer_flap() -> None:
    subscriber = Subscriber()
    shown = [
        subscriber.get([camera(1, layers=(Layer((100e3, 200e3)), Layer((rate,))))], 250e3, 1.0)[1]
        for rate in itertools.islice(itertools.cycle([195e3, 205e3]), 20)
    ]
    assert shown[4:] == [1] * 16


def test_after_raises_in_vain_the_wait_grows_until_one_lasts() -> None:
    subscriber = Subscriber()
    offers = [camera(1)]
    subscriber.get(offers, 180e3)
    waits = []
    for _ in range(6):
        began = subscriber.now
        while subscriber.get(offers, 1.2e6, 0.5) != {1: 2}:
            pass
        waits.append(subscriber.now - began)
        subscriber.get(offers, 180e3, 0.5)
    assert waits == [3.5, 6.5, 12.5, 24.5, 48.5, 48.5]
    subscriber.get(offers, 1.2e6, 1.0)
    assert subscriber.get(offers, 1.2e6, 48.0) == {1: 2}
    subscriber.get(offers, 1.2e6, 31.0)
    subscriber.get(offers, 180e3, 1.0)
    subscriber.get(offers, 1.2e6, 1.0)
    assert subscriber.get(offers, 1.2e6, 3.0) == {1: 2}


def test_whoever_is_pinned_or_comes_into_sight_does_not_wait() -> None:
    subscriber = Subscriber()
    offers = [camera(1), camera(2, Hints(visible=False))]
    assert subscriber.get(offers, 330e3) == {1: 1, 2: None}
    assert subscriber.get([camera(1), camera(2)], 330e3, 0.1) == {1: 1, 2: 0}
    pinned = camera(2, Hints(width=1280, height=720, pinned=True))
    assert subscriber.get([camera(1), pinned], 330e3, 0.1) == {1: 0, 2: 1}


def test_pictures_come_back_after_seconds_with_room_to_spare() -> None:
    subscriber = Subscriber()
    assert subscriber.get([camera(1)], 100e3) == {1: None}
    assert subscriber.allocator.paused
    assert subscriber.get([camera(1)], 160e3, 10.0) == {1: None}
    assert subscriber.get([camera(1)], 170e3, 10.0) == {1: None}
    assert subscriber.allocator.poll_timeout() == subscriber.now + 3.0
    assert subscriber.get([camera(1)], 170e3, 3.0) == {1: 0}


def test_what_is_worth_probing_for_is_what_would_be_shown_with_room_for_all() -> None:
    allocator = Allocator()
    offers = [camera(1), camera(2, Hints(visible=False)), screen(3), audio(4)]
    allocator.allocate(offers, 50e3, 0.0)
    assert allocator.wanted == 1000e3 + 450e3 + 40e3


def test_offers_beyond_the_bound_get_nothing() -> None:
    offers = [audio(number, 1.0) for number in range(Allocator.MAX_TRACKS + 1)]
    result = first(offers, 1e6)
    assert [number for number, allocation in result.items() if allocation is NOTHING] == [Allocator.MAX_TRACKS]


rates = st.lists(st.floats(1e3, 2e6), max_size=3).map(lambda parts: tuple(itertools.accumulate(parts)))
hints = st.builds(Hints, st.booleans(), st.integers(0, 2000), st.integers(0, 2000), st.booleans())


@st.composite
def rooms(draw: st.DrawFn) -> list[Offer]:
    sizes = st.integers(0, 2000)
    count = draw(st.integers(0, 5))
    return [
        Offer(
            DownTrackId(number),
            TrackId(draw(st.integers(0, 3))),
            draw(st.sampled_from(Content)),
            tuple(draw(st.lists(st.builds(Layer, rates, sizes, sizes), max_size=3))),
            draw(hints),
            draw(st.integers(0, 5)),
        )
        for number in range(count)
    ]


courses = st.lists(st.tuples(rooms(), st.floats(0, 6e6), st.floats(0, 5)), max_size=5)


@given(courses, st.integers(0, 4))
def test_pictures_never_cost_more_than_is_left_and_only_what_is_sent_is_chosen(
    course: list[tuple[list[Offer], float, float]], last_n: int
) -> None:
    allocator = Allocator(last_n)
    now = 0.0
    for offers, budget, wait in course:
        now += wait
        result = allocator.allocate(offers, budget, now)
        assert result.keys() == {offer.down_track for offer in offers}
        sound = sum(result[offer.down_track].bits_per_second for offer in offers if offer.content is Content.AUDIO)
        pictures = [
            (offer, result[offer.down_track])
            for offer in offers
            if offer.content is not Content.AUDIO and result[offer.down_track].layer is not None
        ]
        cost = sum(allocation.bits_per_second for _, allocation in pictures)
        assert not pictures or cost <= budget - sound + 1e-3
        assert sum(offer.content is Content.CAMERA for offer, _ in pictures) <= last_n
        for offer, (layer, temporal, rate) in pictures:
            assert layer is not None and layer <= (wanted_layer(offer) or 0)
            assert offer.layers[layer].bitrates[temporal] == rate
        due_at = allocator.poll_timeout()
        assert due_at is None or now < due_at <= now + Allocator.MAX_HOLD_SECONDS


@given(courses)
def test_the_same_course_is_decided_alike(course: list[tuple[list[Offer], float, float]]) -> None:
    one, other = Allocator(), Allocator()
    for step, (offers, budget, _) in enumerate(course):
        assert one.allocate(offers, budget, step) == other.allocate(offers, budget, step)


@given(rooms(), st.floats(0, 6e6))
def test_with_nothing_changing_a_decision_comes_to_rest(offers: list[Offer], budget: float) -> None:
    allocator = Allocator()
    for step in range(4):
        allocator.allocate(offers, budget, step * 4.0)
    assert allocator.allocate(offers, budget, 20.0) == allocator.allocate(offers, budget, 40.0)
