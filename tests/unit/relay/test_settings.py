from typing import Any

import pytest
from pydantic import ValidationError

from relay.settings import RelaySettings


def test_the_defaults_are_those_of_the_rfc_and_closed() -> None:
    settings = RelaySettings()
    assert (settings.port_min, settings.port_max) == (49152, 65535)
    assert (settings.default_lifetime_seconds, settings.max_lifetime_seconds) == (600, 3600)
    assert settings.udp_ports == settings.tcp_ports == (3478, 3479)
    assert settings.tls_ports == (5349, 5350)
    assert settings.peers.allow == settings.peers.deny == ()
    assert settings.users == {}


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"port_min": 60_000, "port_max": 50_000}, "port_min must not lie above port_max"),
        ({"port_min": 1023}, "greater than or equal to 1024"),
        ({"port_max": 65_536}, "less than or equal to 65535"),
        ({"relay_addresses": ["192.0.2.1", "192.0.2.2"]}, "one address per family"),
        ({"relay_addresses": ["192.0.2.1", "::1", "::2"]}, "at most 2"),
        ({"relay_addresses": ["example.org"]}, "does not appear to be"),
        ({"external_addresses": {"192.0.2.1": "2001:db8::1"}}, "maps 192.0.2.1 to another family"),
        ({"tcp_ports": [443, 3478], "tls_ports": [443]}, r"both name \[443\]"),
        ({"udp_ports": [0]}, "greater than or equal to 1"),
        ({"default_lifetime_seconds": 1200, "max_lifetime_seconds": 600}, "must not lie above max_lifetime_seconds"),
        ({"default_lifetime_seconds": 59}, "greater than or equal to 60"),
        ({"realm": ""}, "at least 1 character"),
        ({"realm": "r" * 25}, "at most 24 characters"),
        ({"realm": "two words"}, "match pattern"),
        ({"peers": {"allow": ["10.0.0.0/33"]}}, "does not appear to be"),
        ({"quota": {"total_share_percent": 101}}, "less than or equal to 100"),
        ({"quota": {"allocations_per_user": 0}}, "greater than or equal to 1"),
        ({"port_mni": 50_000}, "Extra inputs"),
    ],
)
def test_a_mistake_is_refused_with_its_reason(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        RelaySettings.model_validate(values)


def test_addresses_and_networks_get_one_form() -> None:
    settings = RelaySettings.model_validate(
        {
            "listen_addresses": ["2001:DB8:0::1"],
            "peers": {"allow": ["10.0.0.0/8", "192.0.2.1"]},
            "external_addresses": {"2001:DB8::1": "2001:db8:0:0::2"},
        }
    )
    assert settings.listen_addresses == ("2001:db8::1",)
    assert settings.peers.allow == ("10.0.0.0/8", "192.0.2.1/32")
    assert settings.external_addresses == {"2001:db8::1": "2001:db8::2"}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"peers": {"allow": ["10.1.2.3/8"]}}, "has host bits set"),
        ({"udp_ports": [3478, 3478]}, "udp_ports names a port twice"),
        ({"relay_addresses": ["::"]}, "not the address of a machine"),
        ({"relay_addresses": ["ff02::1"]}, "not the address of a machine"),
        (
            {"relay_addresses": ["10.0.0.5"], "external_addresses": {"10.0.0.6": "203.0.113.7"}},
            "which relay_addresses does not",
        ),
        ({"workers": 2, "tcp_allocations": True}, "tcp_allocations needs workers: 1"),
        (
            {
                "workers": 2,
                "behaviour_discovery": True,
                "listen_addresses": ["192.0.2.1", "192.0.2.2"],
            },
            "behaviour_discovery needs workers: 1",
        ),
    ],
)
def test_what_can_only_be_a_slip_is_a_mistake(wrong: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        RelaySettings.model_validate(wrong)


def test_passwords_do_not_show() -> None:
    settings = RelaySettings.model_validate({"users": {"alice": "wonderland"}})
    assert "wonderland" not in repr(settings)
