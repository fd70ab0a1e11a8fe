import pytest
from hypothesis import given
from hypothesis import strategies as st

from check.size_search import MAX_PACKET_BYTES, MIN_PACKET_BYTES, SizeSearch


def search(largest: int, low: int = 576, high: int = 1500) -> tuple[int | None, int]:
    """What a path that carries `largest` bytes is found to carry, and after how many sizes."""
    found, tried = SizeSearch(low, high), 0
    while (size := found.size) is not None:
        found.tell(passed=size <= largest)
        tried += 1
    return found.largest, tried


def test_a_whole_ethernet_path_takes_one_try() -> None:
    assert search(1500) == (1500, 1)


def test_a_path_that_carries_nothing_of_these_sizes_is_none() -> None:
    assert search(500)[0] is None


@pytest.mark.parametrize("low", MIN_PACKET_BYTES.values())
@given(largest=st.integers(0, 2000))
def test_the_largest_size_is_found_in_few_tries(low: int, largest: int) -> None:
    found, tried = search(largest, low, MAX_PACKET_BYTES)
    assert tried <= 9
    if largest < low:
        assert found is None
    else:
        assert found is not None and found <= largest and min(largest, 1500) - found < 4


def test_nothing_can_be_told_after_the_end() -> None:
    found = SizeSearch(576, 1500)
    found.tell(passed=True)
    with pytest.raises(ValueError, match="over"):
        found.tell(passed=True)
