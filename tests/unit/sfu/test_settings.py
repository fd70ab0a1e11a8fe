from typing import Any

import pytest
from pydantic import ValidationError

from sfu.settings import SfuSettings


def test_the_defaults_are_right_for_one_machine() -> None:
    settings = SfuSettings()
    assert (settings.udp_port, settings.listen_addresses, settings.max_members) == (7882, (), 20)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"listen_addresses": ["192.0.2.1", "192.0.2.2"]}, "one address per family"),
        ({"listen_addresses": ["::"]}, "not the address of a machine"),
        ({"listen_addresses": ["224.0.0.1"]}, "not the address of a machine"),
        ({"external_addresses": {"10.0.0.1": "2001:db8::1"}}, "another family"),
        ({"listen_addresses": ["10.0.0.1"], "external_addresses": {"10.0.0.2": "192.0.2.1"}}, "does not"),
        ({"start_bits_per_second": 400_000, "max_bits_per_second": 300_000}, "must not lie above"),
        ({"max_members": 21}, "less than or equal to 20"),
        ({"max_members_in_all": 501}, "less than or equal to 500"),
        ({"udp_port": 0}, "greater than or equal to 1"),
        ({"workers": 0}, "greater than or equal to 1"),
        ({"workers": 3, "udp_port": 65534}, "3 workers need the ports up to 65536"),
        ({"recording": True}, "Extra inputs"),
    ],
)
def test_what_cannot_work_is_refused(keys: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        SfuSettings.model_validate(keys)


def test_each_worker_has_a_port_and_a_single_one_has_the_one_that_is_named() -> None:
    assert list(SfuSettings(udp_port=7000).udp_ports) == [7000]
    assert list(SfuSettings(udp_port=65533, workers=3).udp_ports) == [65533, 65534, 65535]


def test_both_families_and_a_nat_are_accepted() -> None:
    settings = SfuSettings.model_validate(
        {"listen_addresses": ["10.0.0.1", "2001:DB8::1"], "external_addresses": {"10.0.0.1": "192.0.2.1"}}
    )
    assert settings.listen_addresses == ("10.0.0.1", "2001:db8::1")
