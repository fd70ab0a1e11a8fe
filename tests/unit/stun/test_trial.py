import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.trial import read_trial, trial_identity


@pytest.mark.parametrize(
    ("address", "identity"),
    [
        ("203.0.113.7", "test:203.0.113.7"),
        ("::ffff:203.0.113.7", "test:203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "test:2001:db8:1:2::/64"),
        ("fe80::1%eth0", "test:fe80::/64"),
    ],
)
def test_a_test_is_for_one_ipv4_address_or_one_ipv6_network(address: str, identity: str) -> None:
    assert trial_identity(address) == identity


@given(st.ip_addresses())
def test_whoever_asked_is_who_the_name_is_for(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    network = read_trial(f"1780000000:{trial_identity(str(address))}")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    assert network is not None
    assert (mapped or address) in network


@pytest.mark.parametrize(
    "username", ["alice", "1780000000", "1780000000:abcDEF_-", "test:203.0.113.7", "1780000000:testing:203.0.113.7"]
)
def test_other_names_are_no_tests(username: str) -> None:
    assert read_trial(username) is None


@pytest.mark.parametrize(
    "rest",
    ["", "alice", "203.0.113.0/24", "2001:db8::/48", "2001:db8::1", "203.0.113.7:1", "203.0.113.7\n", "0.0.0.0/0"],
)
def test_a_test_for_nobody_or_for_many_is_refused(rest: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_trial(f"1780000000:test:{rest}")


@given(st.text(max_size=64))
def test_a_name_from_outside_raises_nothing_but_its_own_error(rest: str) -> None:
    with contextlib.suppress(ValueError):
        read_trial(f"1780000000:test:{rest}")
