import pytest

from relay.realm import Realms, realms_of
from relay.settings import RelaySettings
from stun.address import TransportAddress

SERVER = TransportAddress.parse("192.0.2.1", 3478)
SETTINGS = RelaySettings.model_validate(
    {
        "users": {"alice": "secret"},
        "realms": {
            "at-port": {"ports": [3479], "users": {"bob": "x"}, "allocations_per_user": 3, "max_allocations": 7},
            "at-address": {
                "addresses": ["192.0.2.2"],
                "secrets": {"main": "s" * 32},
                "peers": {"deny": ["8.8.8.8/32"]},
            },
            "at-both": {"addresses": ["192.0.2.3"], "ports": [3478], "users": {"bob": "x"}},
        },
    }
)
REALMS = realms_of(SETTINGS, {}, own=[], own_relays=[])


@pytest.mark.parametrize(
    ("ip", "port", "name"),
    [
        ("192.0.2.1", 3478, "redconnect"),
        ("192.0.2.1", 3479, "at-port"),
        ("192.0.2.2", 3478, "at-address"),
        ("192.0.2.2", 3479, "at-port"),  # the first that fits
        ("192.0.2.3", 3478, "at-both"),
        ("192.0.2.3", 5349, "redconnect"),
        ("2001:db8::1", 3478, "redconnect"),
    ],
)
def test_a_realm_is_offered_where_address_and_port_fit(ip: str, port: int, name: str) -> None:
    assert REALMS.offered_at(TransportAddress.parse(ip, port)).name == name


def test_a_client_may_name_any_realm_and_no_other() -> None:
    assert {name: REALMS.named(name).name for name in ("redconnect", "at-port") if REALMS.named(name)} == {  # type: ignore[union-attr]
        "redconnect": "redconnect",
        "at-port": "at-port",
    }
    assert REALMS.named("nowhere") is None


def test_a_realm_brings_its_own_limits_and_peers() -> None:
    port, address = REALMS.named("at-port"), REALMS.named("at-address")
    assert port and (port.allocations_per_user, port.max_allocations) == (3, 7)
    denied = TransportAddress.parse("8.8.8.8", 0).ip
    assert address and address.policy.verdict(denied) is not None
    assert port.policy.verdict(denied) is None


def test_realms_end_with_one_for_every_address() -> None:
    special = REALMS.named("at-port")
    assert special is not None
    with pytest.raises(ValueError, match="every address"):
        Realms([special])
    with pytest.raises(ValueError, match="every address"):
        Realms([])
    general = REALMS.offered_at(SERVER)
    with pytest.raises(ValueError, match="same name"):
        Realms([general, general])
