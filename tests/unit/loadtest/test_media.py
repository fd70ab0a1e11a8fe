"""When media is due, what arrives, and what is lost."""

import pytest

from loadtest.media import (
    AUDIO_BYTES,
    MAX_LATE_TICKS,
    PACKET_PATIENCE_SECONDS,
    PICTURE_PACKETS,
    TICK_SECONDS,
    VIDEO_BYTES,
    Flow,
    Schedule,
    StrayPacket,
)

NOW = 1000.0


def test_a_second_of_sound_is_fifty_packets() -> None:
    schedule = Schedule(NOW, video=False)
    sizes = [size for tick in range(50) for size in schedule.due(NOW + (tick + 0.5) * TICK_SECONDS)]
    assert sizes == [AUDIO_BYTES] * 50


def test_a_second_with_pictures_has_twenty_five_of_them() -> None:
    schedule = Schedule(NOW, video=True)
    sizes = [size for tick in range(50) for size in schedule.due(NOW + (tick + 0.5) * TICK_SECONDS)]
    assert (sizes.count(AUDIO_BYTES), sizes.count(VIDEO_BYTES)) == (50, 25 * PICTURE_PACKETS)


def test_nothing_is_due_twice() -> None:
    schedule = Schedule(NOW, video=True)
    assert schedule.due(NOW)
    assert schedule.due(NOW) == []


def test_a_sender_that_is_a_little_late_makes_up_for_it() -> None:
    schedule = Schedule(NOW, video=False)
    assert len(schedule.due(NOW + (MAX_LATE_TICKS - 0.5) * TICK_SECONDS)) == MAX_LATE_TICKS
    assert schedule.skipped == 0


def test_a_sender_that_is_far_too_late_gives_up_what_is_old_and_says_how_much() -> None:
    schedule = Schedule(NOW, video=False)
    sizes = schedule.due(NOW + 99.5 * TICK_SECONDS)
    assert len(sizes) + schedule.skipped == 100
    assert len(sizes) == MAX_LATE_TICKS + 1


def test_a_packet_that_arrives_says_how_long_it_was_on_its_way() -> None:
    flow = Flow(7)
    packet = flow.packet(AUDIO_BYTES, NOW)
    assert len(packet) == AUDIO_BYTES
    assert flow.receive(packet, NOW + 0.25) == 0.25
    assert flow.under_way == 0


def test_packets_may_overtake_each_other() -> None:
    flow = Flow(7)
    first, second = flow.packet(AUDIO_BYTES, NOW), flow.packet(AUDIO_BYTES, NOW + 1)
    assert flow.receive(second, NOW + 1.5) == 0.5
    assert flow.receive(first, NOW + 1.5) == 1.5


def test_a_packet_that_comes_twice_is_a_stray_one() -> None:
    flow = Flow(7)
    packet = flow.packet(AUDIO_BYTES, NOW)
    flow.receive(packet, NOW)
    with pytest.raises(StrayPacket):
        flow.receive(packet, NOW)


@pytest.mark.parametrize("data", [b"", bytes(15), bytes(16), Flow(8).packet(AUDIO_BYTES, NOW)])
def test_what_this_flow_has_not_sent_is_a_stray_packet(data: bytes) -> None:
    flow = Flow(7)
    flow.packet(AUDIO_BYTES, NOW)
    with pytest.raises(StrayPacket):
        flow.receive(data, NOW)
    assert flow.under_way == 1


def test_a_packet_counts_as_lost_when_its_time_is_over_and_not_before() -> None:
    flow = Flow(7)
    flow.packet(AUDIO_BYTES, NOW)
    packet = flow.packet(AUDIO_BYTES, NOW + 1)
    flow.give_up(NOW + PACKET_PATIENCE_SECONDS - 0.01)
    assert flow.lost == 0
    flow.give_up(NOW + PACKET_PATIENCE_SECONDS)
    assert (flow.lost, flow.under_way) == (1, 1)
    flow.give_up(NOW + PACKET_PATIENCE_SECONDS + 1)
    with pytest.raises(StrayPacket):
        flow.receive(packet, NOW + PACKET_PATIENCE_SECONDS + 1)
    assert (flow.lost, flow.under_way) == (2, 0)
