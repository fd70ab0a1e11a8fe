import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.sequence import extend, is_newer


@pytest.mark.parametrize(
    ("value", "reference", "extended"),
    [
        (5, 3, 5),
        (3, 5, 3),
        (0, 0xFFFF, 0x10000),
        (0xFFFF, 0x10000, 0xFFFF),
        (0xFFFF, 0, -1),
        (0x8000, 0, -0x8000),
        (0x7FFF, 0, 0x7FFF),
    ],
)
def test_a_number_is_counted_on_by_the_shorter_way_round(value: int, reference: int, extended: int) -> None:
    assert extend(value, reference) == extended


@given(st.integers(0, 1 << 40), st.integers(-0x3FFF, 0x3FFF), st.sampled_from([15, 16, 32]))
def test_what_lies_within_a_quarter_of_a_cycle_is_found_again(reference: int, step: int, bits: int) -> None:
    actual = reference + step
    assert extend(actual & (1 << bits) - 1, reference, bits) == actual
    assert is_newer(actual & (1 << bits) - 1, reference & (1 << bits) - 1, bits) == (step > 0)


def test_of_two_numbers_half_a_cycle_apart_neither_is_newer() -> None:
    assert not is_newer(0x8000, 0)
    assert not is_newer(0, 0x8000)


@given(st.integers(-(1 << 40), 1 << 40), st.integers(-0x8000, 0x7FFF))
def test_the_nearest_number_is_meant_also_below_zero_and_half_a_cycle_behind(near: int, distance: int) -> None:
    assert extend(near + distance & 0xFFFF, near) == near + distance
