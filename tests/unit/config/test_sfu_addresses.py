from typing import Any

from config.schema import Settings
from config.sfu_addresses import reachable_services, sfu_addresses
from sfu.settings import SfuSettings
from stun.address import TransportAddress

OWN, SEEN = TransportAddress.parse("10.0.0.5", 7000), TransportAddress.parse("192.0.2.5", 7000)
NAT: dict[str, Any] = {
    "udp_port": 7000,
    "listen_addresses": ["10.0.0.5"],
    "external_addresses": {"10.0.0.5": "192.0.2.5"},
}


def test_clients_are_told_the_external_address_before_the_own_one() -> None:
    ((bound, advertised),) = sfu_addresses(SfuSettings.model_validate(NAT))
    assert (bound, advertised) == (OWN, (SEEN, OWN))


def test_without_a_nat_there_is_one_address_to_tell() -> None:
    ((bound, advertised),) = sfu_addresses(SfuSettings(udp_port=7000, listen_addresses=("10.0.0.5",)))
    assert advertised == (bound,) == (OWN,)


def test_without_settings_it_listens_where_the_machine_would_send_from() -> None:
    addresses = sfu_addresses(SfuSettings())
    assert 1 <= len(addresses) <= 2
    assert {bound.port for bound, _ in addresses} == {7882}


def test_each_worker_has_a_port_of_its_own_and_the_relay_admits_all_of_them() -> None:
    sfu = {**NAT, "workers": 2}
    ((bound, _),) = sfu_addresses(SfuSettings.model_validate(sfu), 1)
    assert bound == TransportAddress.parse("10.0.0.5", 7001)
    settings = Settings.model_validate({"services": ("relay", "signaling", "sfu"), "sfu": sfu})
    assert {(told.port, told.ip[0]) for told in reachable_services(settings)} == {
        (7000, 192),
        (7000, 10),
        (7001, 192),
        (7001, 10),
    }


def test_the_relay_admits_the_sfu_only_where_it_runs() -> None:
    assert reachable_services(Settings.model_validate({"sfu": NAT})) == []
    services = ("relay", "signaling", "sfu")
    assert reachable_services(Settings.model_validate({"services": services, "sfu": NAT})) == [SEEN, OWN]
