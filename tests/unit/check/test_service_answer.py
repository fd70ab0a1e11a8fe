import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check.plan import Purpose
from check.service_answer import MAX_ANSWER_BYTES, ServiceAnswerError, read_answer

ANSWER: dict[str, Any] = {
    "username": "1780000060:test:203.0.113.7",
    "credential": "pass",
    "ttl_seconds": 60,
    "address": "203.0.113.7",
    "stun_host": "stun.example.org",
    "relay_host": "relay.example.org",
    "urls": ["stun:stun.example.org:3478", "turn:relay.example.org:3478?transport=udp"],
    "certificate_sha256": ["AB:" * 31 + "AB"],
    "relay_port_min": 49152,
    "relay_port_max": 65535,
}


def read(**changes: object) -> object:
    return read_answer(json.dumps({**ANSWER, **changes}).encode())


def test_an_answer_names_points_credentials_range_and_certificates() -> None:
    answer = read_answer(json.dumps(ANSWER).encode())
    assert [point.purpose for point in answer.points] == [Purpose.TURN, Purpose.STUN]
    assert answer.turn == (ANSWER["username"], "pass")
    assert answer.relay_ports == (49152, 65535)
    assert answer.fingerprints == {"ab" * 32}


def test_keys_of_later_versions_are_passed_over() -> None:
    read(more="than we know")


def test_a_service_that_names_no_range_has_the_documented_one() -> None:
    answer = read_answer(json.dumps({**ANSWER, "relay_port_min": None, "relay_port_max": None}).encode())
    assert answer.relay_ports == (49152, 65535)


@pytest.mark.parametrize(
    "changes",
    [
        {"urls": []},
        {"urls": ["http://relay.example.org"]},
        {"urls": [f"turn:relay.example.org:{port}" for port in range(1, 70)]},
        {"username": ""},
        {"username": "u" * 509},
        {"relay_host": "\x1b[2J"},
        {"certificate_sha256": ["short"]},
        {"certificate_sha256": ["00" * 32] * 9},
        {"relay_port_min": 0},
        {"relay_port_min": 65535, "relay_port_max": 49152},
    ],
)
def test_an_answer_that_cannot_be_is_refused_without_a_word_of_it(changes: dict[str, Any]) -> None:
    with pytest.raises(ServiceAnswerError) as refused:
        read(**changes)
    assert str(refused.value) == "not the answer of a connection test"


def test_an_endless_answer_is_refused() -> None:
    with pytest.raises(ServiceAnswerError, match=f"more than {MAX_ANSWER_BYTES} bytes"):
        read_answer(b" " * (MAX_ANSWER_BYTES + 1))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_mistake(body: bytes) -> None:
    with contextlib.suppress(ServiceAnswerError):
        read_answer(body)


@given(
    st.fixed_dictionaries(
        {
            key: st.none() | st.text(max_size=9) | st.integers() | st.lists(st.text(max_size=9), max_size=3)
            for key in ANSWER
        }
    )
)
def test_any_values_are_an_answer_or_a_mistake(values: dict[str, Any]) -> None:
    with contextlib.suppress(ServiceAnswerError):
        read_answer(json.dumps(values).encode())
