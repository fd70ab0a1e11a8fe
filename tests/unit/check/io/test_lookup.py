import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from check.findings import MAX_ADDRESSES, Outcome
from check.io import lookup
from check.io.lookup import look_up, own_address
from check.plan import Family


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    found = [
        (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in addresses
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)


async def test_an_address_is_its_own_answer() -> None:
    name = await look_up("127.0.0.1")
    assert (name.lookup.outcome, name.ipv4, name.ipv6) == (Outcome.OK, ["127.0.0.1"], [])


async def test_addresses_of_both_families_are_told_apart_and_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "2001:db8::7", "203.0.113.7", "203.0.113.7")
    name = await look_up("relay.example.org")
    assert (name.ipv4, name.ipv6) == (["203.0.113.7"], ["2001:db8::7"])


async def test_a_name_with_any_number_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, *(f"203.0.113.{number}" for number in range(100)))
    assert len((await look_up("relay.example.org")).ipv4) == MAX_ADDRESSES


async def test_an_unknown_name_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    name = await look_up("nowhere.example.org")
    assert (name.lookup.outcome, name.lookup.detail) == (Outcome.REJECTED, "Name or service not known")


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A resolver that answers when it is released."""
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: released.wait() and [])
    monkeypatch.setattr(lookup, "LOOKUP_SECONDS", 0.05)
    yield released
    released.set()


async def test_a_resolver_that_says_nothing_is_given_up(silence: threading.Event) -> None:
    name = await look_up("relay.example.org")
    assert name.lookup.outcome is Outcome.TIMED_OUT
    assert not silence.is_set()


def test_the_end_does_not_wait_for_a_resolver_that_says_nothing(silence: threading.Event) -> None:
    asyncio.run(look_up("relay.example.org"))  # would hang here, if the loop joined the thread
    (left,) = [thread for thread in threading.enumerate() if thread.name == "lookup"]
    assert left.daemon
    silence.set()
    left.join()


def test_this_machine_has_an_address_towards_itself_and_none_without_a_way() -> None:
    assert own_address(Family.IPV4, "127.0.0.1", 9) == "127.0.0.1"
    assert own_address(Family.IPV6, "127.0.0.1", 9) is None
