import pytest
from hypothesis import given
from hypothesis import strategies as st

from check.echo import MIN_PAYLOAD_BYTES, PAYLOAD_BYTES, EchoSeries, jitter, percentile

TOKEN = b"12345678"


def test_loss_and_round_trips_are_of_this_series() -> None:
    series = EchoSeries(TOKEN)
    packets = [series.send(number / 50) for number in range(4)]
    for number in (0, 1, 3):
        assert series.receive(packets[number], number / 50 + 0.010 * (number + 1))
    sent, received, loss, p50, p95, spread = series.result()
    assert (sent, received, loss) == (4, 3, 25.0)
    assert (p50, p95) == (20.0, 40.0)
    assert spread == 15.0  # 10 to 20, 20 to 40


def test_copies_count_once() -> None:
    series = EchoSeries(TOKEN)
    packet = series.send(0.0)
    assert series.receive(packet, 0.1)
    assert not series.receive(packet, 0.2)
    assert series.result().p95_ms == 100.0


def test_numbers_never_sent_do_not_count() -> None:
    series = EchoSeries(TOKEN)
    series.send(0.0)
    assert not series.receive(TOKEN + (1).to_bytes(4), 0.1)
    assert series.result().received == 0


def test_packets_of_others_do_not_count() -> None:
    series, other = EchoSeries(TOKEN), EchoSeries(b"87654321")
    series.send(0.0)
    assert not series.receive(other.send(0.0), 0.1)
    assert not series.owns(TOKEN)


def test_packets_are_as_long_as_wished() -> None:
    series = EchoSeries(TOKEN)
    assert len(series.send(0.0)) == PAYLOAD_BYTES
    assert len(series.send(0.0, MIN_PAYLOAD_BYTES)) == MIN_PAYLOAD_BYTES


def test_a_series_of_nothing_lost_nothing() -> None:
    assert EchoSeries(TOKEN).result() == (0, 0, 0.0, None, None, None)


def test_a_token_has_eight_bytes() -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        EchoSeries(b"short")


def test_percentiles_are_values_that_occurred() -> None:
    seconds = [number / 1000 for number in range(1, 101)]
    assert (percentile(seconds, 50), percentile(seconds, 95)) == (50.0, 95.0)
    assert percentile([0.007], 95) == 7.0


@given(st.lists(st.floats(0, 10), min_size=2))
def test_no_percentile_leaves_the_values_and_no_jitter_exceeds_their_span(seconds: list[float]) -> None:
    low, high = round(1000 * min(seconds), 1), round(1000 * max(seconds), 1)
    for percent in (1, 50, 95, 100):
        found = percentile(seconds, percent)
        assert found is not None and low <= found <= high
    spread = jitter(seconds)
    assert spread is not None and 0 <= spread <= high - low + 0.2


@given(st.binary(max_size=40))
def test_strange_bytes_do_no_harm(packet: bytes) -> None:
    series = EchoSeries(TOKEN)
    series.send(0.0)
    series.receive(packet, 1.0)
    assert series.result().received == (packet[:12] == TOKEN + bytes(4))
