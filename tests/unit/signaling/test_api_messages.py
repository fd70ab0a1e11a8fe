import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.api_messages import (
    MAX_DETAIL_CHARACTERS,
    STATUS_OF,
    ApiFault,
    ApiRefused,
    AppointmentWish,
    parse_body,
    parse_position,
    write_position,
)
from signaling.appointments import PlannedAppointment, Tier


def refusal(body: bytes) -> str:
    with pytest.raises(ApiRefused) as caught:
        parse_body(AppointmentWish, body)
    assert caught.value.fault is ApiFault.BAD_REQUEST
    return str(caught.value)


def test_a_wish_names_start_and_tier() -> None:
    wish = parse_body(AppointmentWish, b'{"start": "now", "tier": "plus"}')
    assert (wish.start, wish.tier) == ("now", Tier.PLUS)
    wish = parse_body(AppointmentWish, b'{"start": "now"}')
    assert (wish.tier, wish.participants) == (None, 1)
    assert parse_body(AppointmentWish, b'{"start": "now", "participants": 19}').participants == 19


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[]", "object"),
        (b"{}", "start: Field required"),
        (b'{"start": 5}', "start: "),
        (b'{"start": ""}', "start: "),
        (b'{"start": "now", "tier": "gold"}', "tier: "),
        (b'{"start": "now", "secret": "XYZ45"}', "secret: "),
        (b'{"start": "now", "locators": {}}', "locators: "),
        (b'{"start": "now", "participants": 0}', "participants: "),
        (b'{"start": "now", "participants": 20}', "participants: "),
        (b'{"start": "now", "participants": "2"}', "participants: "),
        (b'{"start": "now", "participants": 2.0}', "participants: "),
        (b'{"start": "' + b"x" * 65 + b'"}', "at most 64"),
        (b'{"start": "\xff"}', "JSON"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, part: str) -> None:
    assert part in refusal(body)


def test_a_refusal_repeats_no_value_and_stays_short() -> None:
    assert "geheim" not in refusal(b'{"start": "now", "tier": "geheim", "name": "geheim"}')
    many = ",".join(f'"k{number}": 1' for number in range(200))
    assert len(refusal(f"{{{many}}}".encode())) <= MAX_DETAIL_CHARACTERS


def test_every_fault_has_a_status() -> None:
    assert set(STATUS_OF) == set(ApiFault)


def test_a_position_is_read_as_it_was_written() -> None:
    planned = PlannedAppointment(bytes(range(16)), Tier.BASIS, datetime(2026, 12, 1, 13, 30, tzinfo=UTC))
    assert parse_position(write_position(planned)) == (planned.start, planned.id)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_a_refusal(body: bytes) -> None:
    with contextlib.suppress(ApiRefused):
        parse_body(AppointmentWish, body)


@given(st.text(max_size=60) | st.from_regex(r"[0-9]{1,12}-[0-9a-f]{31,33}", fullmatch=True))
def test_arbitrary_positions_raise_nothing_but_a_refusal(text: str) -> None:
    with contextlib.suppress(ApiRefused):
        assert parse_position(text)[0].tzinfo is UTC
