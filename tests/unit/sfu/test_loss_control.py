import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.loss_control import LossControl

FLOOR = 30e3


def after(loss: float, *, seconds: float = 3.05, rate: float = 1e6, packets: int = 20, allowed: float = 5e6) -> float:
    """The rate after feedback every 50 ms about so many packets, of which a part was lost."""
    control = LossControl(rate, FLOOR)
    owed = 0.0
    for step in range(round(seconds / 0.05)):
        owed += packets * loss
        lost = int(owed)
        owed -= lost
        control.update(packets, lost, allowed, None, 10 + step * 0.05)
    return control.rate


def test_below_two_percent_the_rate_rises_by_eight_percent_a_second() -> None:
    assert after(0.01) == pytest.approx(1e6 * 1.08**3, rel=1e-6)


@pytest.mark.parametrize("loss", [0.025, 0.05, 0.095])
def test_between_two_and_ten_percent_the_rate_holds(loss: float) -> None:
    assert after(loss) == 1e6


def test_above_ten_percent_the_rate_falls_by_half_of_the_loss() -> None:
    assert after(0.15, seconds=1.05) == pytest.approx(1e6 * (1 - 0.075), rel=0.01)


def test_heavy_loss_is_judged_sooner_and_not_above_what_arrives() -> None:
    control = LossControl(1e6, FLOOR)
    lowered = [control.update(20, 10, 5e6, 400e3, 10 + step * 0.05) for step in range(7)]
    assert lowered == [False] * 6 + [True]
    assert control.rate == 400e3


def test_one_lost_packet_of_a_few_is_no_verdict() -> None:
    control = LossControl(1e6, FLOOR)
    for step in range(100):
        control.update(0, 0, 5e6, None, 10 + step)
    assert not control.update(5, 5, 5e6, None, 200.0)
    assert control.rate == 1e6


def test_packets_that_turned_up_after_all_are_no_loss() -> None:
    control = LossControl(1e6, FLOOR)
    control.update(100, 30, 5e6, None, 10.0)
    control.update(10, -25, 5e6, None, 10.2)
    control.update(0, 0, 5e6, None, 11.0)
    assert control.fraction_lost == pytest.approx(5 / 110)
    assert control.rate == 1e6


def test_the_rate_is_never_above_what_the_delay_allows() -> None:
    assert after(0.0, allowed=700e3) == 700e3


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(-50, 300), st.floats(0, 1e7), st.floats(0, 1e7), st.floats(0, 6)),
        max_size=60,
    )
)
def test_the_rate_never_falls_below_the_floor_nor_the_fraction_out_of_its_range(
    course: list[tuple[int, int, float, float, float]],
) -> None:
    control = LossControl(300e3, FLOOR)
    now = 1.0
    for packets, lost, allowed, acknowledged, wait in course:
        now += wait
        control.update(packets, min(lost, packets), allowed, acknowledged, now)
        assert control.rate >= FLOOR
        assert 0 <= control.fraction_lost <= 1
