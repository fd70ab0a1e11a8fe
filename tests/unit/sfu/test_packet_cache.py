import pytest

from sfu.packet_cache import CACHE_SIZE, MAX_AGE, PacketCache


@pytest.fixture
def cache() -> PacketCache:
    return PacketCache()


def test_a_packet_is_found_by_its_extended_number(cache: PacketCache) -> None:
    assert cache.put(0xFFFF, b"last", 0.0) == 0xFFFF
    assert cache.put(0, b"first", 0.0) == 0x10000
    assert cache.get(0x10000, 0.0) == b"first"
    assert cache.get(0xFFFF, 0.0) == b"last"
    assert cache.get(0, 0.0) is None


def test_a_packet_that_comes_twice_is_taken_once(cache: PacketCache) -> None:
    assert cache.put(5, b"one", 0.0) == 5
    assert cache.put(5, b"two", 0.0) is None
    assert cache.get(5, 0.0) == b"one"


def test_a_late_packet_is_taken_if_there_is_a_slot_for_it(cache: PacketCache) -> None:
    cache.put(2000, b"new", 0.0)
    assert cache.put(2000 - CACHE_SIZE, b"too late", 0.0) is None
    assert cache.put(2001 - CACHE_SIZE, b"just in time", 0.0) == 2001 - CACHE_SIZE
    assert cache.get(2000, 0.0) == b"new"


def test_a_new_packet_takes_the_slot_of_the_oldest(cache: PacketCache) -> None:
    cache.put(1, b"old", 0.0)
    cache.put(1 + CACHE_SIZE, b"new", 0.0)
    assert cache.get(1, 0.0) is None
    assert cache.get(1 + CACHE_SIZE, 0.0) == b"new"


def test_a_packet_is_not_given_out_when_it_is_too_old(cache: PacketCache) -> None:
    cache.put(1, b"old", 10.0)
    assert cache.get(1, 10.0 + MAX_AGE) == b"old"
    assert cache.get(1, 10.001 + MAX_AGE) is None


@pytest.mark.parametrize("size", [0, 3, -4])
def test_only_a_power_of_two_is_a_number_of_slots(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        PacketCache(size)


def test_a_cleared_cache_has_no_packet(cache: PacketCache) -> None:
    cache.put(1, b"old", 0.0)
    cache.clear()
    assert cache.get(1, 0.0) is None
