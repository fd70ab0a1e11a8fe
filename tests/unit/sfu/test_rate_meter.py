import pytest

from sfu.rate_meter import INTERVAL, SILENCE, RateMeter


@pytest.fixture
def meter() -> RateMeter:
    return RateMeter()


def _send(meter: RateMeter, begin: float, seconds: float, size: int, temporal_layers: int = 1) -> float:
    """A packet every 10 ms, in turn of each temporal layer; when the last one came."""
    turns = round(seconds * 100)
    for turn in range(turns + 1):
        meter.add(size, turn % temporal_layers, begin + turn / 100)
    return begin + turns / 100


def test_a_layer_that_was_never_sent_has_no_rate(meter: RateMeter) -> None:
    assert meter.rates(0.0) == ()


def test_the_first_measurement_takes_its_time(meter: RateMeter) -> None:
    _send(meter, 0.0, INTERVAL - 0.02, 1000)
    assert meter.rates(INTERVAL - 0.01) == ()
    assert meter.rates(INTERVAL) != ()


def test_a_steady_layer_is_measured_as_it_is(meter: RateMeter) -> None:
    end = _send(meter, 0.0, 5.0, 1000)
    assert meter.rates(end) == pytest.approx((800_000,), rel=0.03)


def test_the_rate_up_to_a_temporal_layer_includes_those_below(meter: RateMeter) -> None:
    end = _send(meter, 0.0, 5.0, 1000, temporal_layers=2)
    assert meter.rates(end) == pytest.approx((400_000, 800_000), rel=0.03)


def test_a_change_is_followed_within_seconds(meter: RateMeter) -> None:
    end = _send(meter, 0.0, 3.0, 1000)
    end = _send(meter, end + 0.01, 3.0, 100)
    assert meter.rates(end) == pytest.approx((80_000,), rel=0.3)


def test_a_layer_that_is_not_sent_any_more_has_no_rate_and_begins_anew(meter: RateMeter) -> None:
    end = _send(meter, 0.0, 3.0, 1000)
    assert meter.rates(end + SILENCE) == ()
    begin = end + 60.0
    meter.add(1000, 0, begin)
    assert meter.rates(begin + INTERVAL / 2) == ()
    end = _send(meter, begin, 1.0, 100)
    assert meter.rates(end) == pytest.approx((80_000,), rel=0.3)
