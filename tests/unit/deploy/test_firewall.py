import re
from pathlib import Path

from config.schema import Settings
from tests.support.service import ROOT

RULES = ROOT / "deploy" / "nftables" / "redconnect.nft"
SYSCTL = ROOT / "deploy" / "sysctl" / "90-redconnect.conf"


def defined(name: str) -> set[int]:
    """The ports behind a name of the rules."""
    found = re.search(rf"^define {name} = (.+?)(?: #|$)", RULES.read_text(), re.MULTILINE)
    assert found is not None, name
    ports: set[int] = set()
    for part in found[1].strip("{} ").split(","):
        first, _, last = part.strip().partition("-")
        ports |= set(range(int(first), int(last or first) + 1))
    return ports


def kernel_settings() -> dict[str, str]:
    lines = [line for line in SYSCTL.read_text().splitlines() if line and not line.startswith("#")]
    return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}


def test_the_rules_let_in_what_the_service_listens_on_by_default() -> None:
    relay, signaling, sfu = Settings().relay, Settings().signaling, Settings().sfu
    assert defined("turn_udp") == set(relay.udp_ports)
    assert defined("turn_tcp") == {*relay.tcp_ports, *relay.tls_ports}
    assert defined("relayed") == set(range(relay.port_min, relay.port_max + 1))
    assert signaling.port in defined("pages")
    assert sfu.udp_port in defined("conferences")


def test_the_admin_port_is_let_in_nowhere() -> None:
    admin = Settings().admin.port
    assert not any(admin in defined(name) for name in ("pages", "turn_udp", "turn_tcp", "relayed", "conferences"))


def test_every_kernel_setting_exists() -> None:
    assert kernel_settings()
    for name in kernel_settings():
        assert (Path("/proc/sys") / name.replace(".", "/")).exists(), name


def test_outgoing_connections_keep_out_of_the_relayed_ports() -> None:
    first, last = map(int, kernel_settings()["net.ipv4.ip_local_port_range"].split())
    assert not set(range(first, last + 1)) & defined("relayed")
