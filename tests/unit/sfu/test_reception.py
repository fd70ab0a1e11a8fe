import pytest

from sfu.reception import Reception
from sfu.rtcp import ReportBlock


@pytest.fixture
def reception() -> Reception:
    return Reception(7, 90_000)


def test_before_the_first_packet_there_is_nothing_to_report(reception: Reception) -> None:
    assert reception.report(0.0) is None


def test_loss_is_what_did_not_come_of_what_was_expected_since_the_last_report(reception: Reception) -> None:
    for number in (0xFFFE, 0xFFFF, 0x10002, 0x10003):
        reception.receive(number, 0, 0.0)
    assert reception.report(0.0) == ReportBlock(7, 2 * 256 // 6, 2, 0x10003, 0, 0, 0)
    reception.receive(0x10004, 0, 0.0)
    assert reception.report(0.0) == ReportBlock(7, 0, 2, 0x10004, 0, 0, 0)


def test_what_comes_late_or_by_retransmission_is_not_lost(reception: Reception) -> None:
    for number in (1, 3, 2, 2):
        reception.receive(number, 0, 0.0)
    block = reception.report(0.0)
    assert block is not None
    assert (block.fraction_lost, block.cumulative_lost) == (0, -1)


def test_jitter_is_how_unevenly_packets_come(reception: Reception) -> None:
    for number in range(100):
        reception.receive(number, number * 3000, number / 30)
    block = reception.report(0.0)
    assert block is not None and block.jitter == 0
    reception.receive(100, 100 * 3000, 100 / 30 + 0.016)
    block = reception.report(0.0)
    assert block is not None and block.jitter == 90


def test_packets_of_one_picture_are_no_jitter(reception: Reception) -> None:
    for number in range(100):
        reception.receive(number, 1000, number / 10)
    block = reception.report(0.0)
    assert block is not None and block.jitter == 0


def test_the_last_sender_report_is_named_with_the_delay_since_then(reception: Reception) -> None:
    reception.receive(1, 0, 0.0)
    reception.receive_sender_report(0x1234_5678_9ABC_DEF0, 10.0)
    block = reception.report(10.5)
    assert block is not None
    assert (block.last_sender_report, block.delay) == (0x5678_9ABC, 32768)
