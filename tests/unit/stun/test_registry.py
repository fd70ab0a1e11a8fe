import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.registry import REASONS, ErrorCode, MessageClass, Method, message_type, split_message_type


@pytest.mark.parametrize(
    ("method", "message_class", "value"),
    [
        (Method.BINDING, MessageClass.REQUEST, 0x0001),
        (Method.BINDING, MessageClass.INDICATION, 0x0011),
        (Method.BINDING, MessageClass.SUCCESS, 0x0101),
        (Method.BINDING, MessageClass.ERROR, 0x0111),
        (Method.ALLOCATE, MessageClass.REQUEST, 0x0003),
        (Method.SEND, MessageClass.INDICATION, 0x0016),
        (Method.DATA, MessageClass.INDICATION, 0x0017),
        (Method.CHANNEL_BIND, MessageClass.ERROR, 0x0119),
        (0xFFF, MessageClass.REQUEST, 0x3EEF),
        (0xFFF, MessageClass.ERROR, 0x3FFF),
    ],
)
def test_a_message_type_is_the_published_number(method: int, message_class: MessageClass, value: int) -> None:
    assert message_type(method, message_class) == value
    assert split_message_type(value) == (method, message_class)


@given(st.integers(0, 0x3FFF))
def test_every_message_type_is_woven_as_it_was_split(value: int) -> None:
    assert message_type(*split_message_type(value)) == value


@given(st.integers(0, 0xFFF), st.sampled_from(MessageClass))
def test_every_method_survives_the_weaving(method: int, message_class: MessageClass) -> None:
    assert split_message_type(message_type(method, message_class)) == (method, message_class)


def test_every_error_code_has_a_reason() -> None:
    assert set(REASONS) == set(ErrorCode)
