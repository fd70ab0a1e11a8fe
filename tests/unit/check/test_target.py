import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check.target import Target, TargetError, check_host, parse_target

READ = {
    "video.example.org": Target("video.example.org", 443),
    "video.example.org.": Target("video.example.org", 443),
    "video.example.org:8443": Target("video.example.org", 8443),
    "https://video.example.org/": Target("video.example.org", 443),
    "http://localhost:8080": Target("localhost", 8080, is_https=False),
    "http://localhost": Target("localhost", 80, is_https=False),
    "203.0.113.7": Target("203.0.113.7", 443),
    "203.0.113.7:8080": Target("203.0.113.7", 8080),
    "2001:db8::7": Target("2001:db8::7", 443),
    "[2001:db8::7]:8443": Target("2001:db8::7", 8443),
    "prüfung.example.org": Target("xn--prfung-4ya.example.org", 443),
}
REFUSED = [
    "",
    " ",
    "-x.example.org",
    "a..b",
    "video.example.org/room",
    "ftp://video.example.org",
    "user@video.example.org",
    "video.example.org:0",
    "video.example.org:70000",
    "video.example.org:ssh",
    "fe80::1%eth0",
    "video.example.org?x",
    "a" * 64,
    ".".join(["abcdefgh"] * 32),
    "vi\x1bdeo",
]


@pytest.mark.parametrize(("text", "target"), READ.items(), ids=READ)
def test_a_host_is_read(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_host_is_refused_in_one_harmless_line(text: str) -> None:
    with pytest.raises(TargetError) as refused:
        parse_target(text)
    assert str(refused.value).isprintable()


def test_an_origin_puts_brackets_around_ipv6() -> None:
    assert parse_target("[2001:db8::7]:8443").origin == "https://[2001:db8::7]:8443"
    assert parse_target("http://localhost:8080").origin == "http://localhost:8080"


@given(st.text(max_size=300))
def test_anything_typed_is_a_host_or_a_mistake(text: str) -> None:
    with contextlib.suppress(TargetError):
        target = parse_target(text)
        assert 1 <= target.port <= 65535
        assert target.host


@given(st.text(max_size=300))
def test_any_name_of_a_stranger_is_a_host_or_a_mistake(text: str) -> None:
    with contextlib.suppress(TargetError):
        assert check_host(text).isascii()
