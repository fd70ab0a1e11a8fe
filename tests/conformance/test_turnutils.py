"""coturn's own clients against the running service, across namespaces: nothing lost, nobody in who should not be.

`turnutils_uclient` ends with status 0 even when everything was lost, so its output is what counts. It spends most of
its five seconds asleep, so the whole matrix runs at once, a few clients at a time, each as a user of its own.

Two services stand in the server's namespace: one with nothing but DTLS switched on, and one on two other addresses
with everything that is off by default.

What Debian's tools (4.6.1) do by themselves, whatever the server:

- `-t -S -y` loses every eighth packet, with Debian's coturn as with us; `-P -L own-ip` loses half of them; `-R` never
  ends.
- `-M` over TLS and DTLS mostly ends with "send: Success": having connected anew, the client says farewell on that
  connection and closes it, and the Refresh never leaves (seen by strace). `test_wire_rfc8016.py` moves clients over
  every transport.
- `turnutils_natdiscovery -H` misses MAPPED-ADDRESS: the answer to its 20 bytes would exceed three times the request.
"""

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from stun.credentials import issue_credential
from tests.support.lab import Lab, open_lab
from tests.support.samples import sample_sum
from tests.support.service import Service, run_service

PEER_PORT: Final = "3480"
LOAD: Final = ("-n", "8", "-m", "2", "-l", "170")
AT_ONCE: Final = 8  # clients that run side by side
SECONDS: Final = 60.0  # that a client may take
SECRET: Final = "a shared secret of thirty-two bytes, or more"
NEGATIVE_EXIT: Final = 255
NARROW: Final = ("10.91.1.1", "fd91:1::1")  # of the service with defaults
WIDE: Final = ("10.91.1.3", "10.91.1.4")  # of the service with everything

TRANSPORTS: Final = {"udp": (), "tcp": ("-t",), "tls": ("-t", "-S"), "dtls": ("-S",)}
FRAMINGS: Final = {
    "channels with EVEN-PORT and reservation": ("-X",),
    "channels": ("-X", "-c"),
    "indications": ("-X", "-c", "-s"),
    "indications with EVEN-PORT and reservation": ("-X", "-s"),
}
RELAYED: Final = {
    **{
        f"{transport}, {framing}": (*options, *words)
        for transport, options in TRANSPORTS.items()
        for framing, words in FRAMINGS.items()
    },
    "udp, channels, DONT-FRAGMENT": ("-X", "-c", "-g"),
    "udp, indications, DONT-FRAGMENT": ("-X", "-c", "-s", "-g"),
    "udp, padded channels": ("-X", "-c", "-D"),
    "udp, dual": ("-Z",),
    "udp, both relayed": ("-y",),
    "udp, both relayed, channels": ("-X", "-y", "-c"),
    "udp, IPv6 relay, channels": ("-x", "-c"),
    "udp, IPv6 relay, indications": ("-x", "-c", "-s"),
}
SWITCHED_ON: Final = {
    "TCP allocations": ("-T", "-X"),
    "TCP allocations over TLS": ("-T", "-S", "-X"),
    "mobility": ("-M", "-X"),
    "mobility with channels": ("-M", "-X", "-c"),
    "mobility over TCP": ("-M", "-X", "-c", "-t"),
}


class Printed(NamedTuple):
    """How a program ended."""

    status: int
    text: str


class Range:
    """A lab with both services in the middle and coturn's echo peer behind them."""

    def __init__(self, lab: Lab, narrow: Service, wide: Service, pool: ThreadPoolExecutor) -> None:
        self.lab = lab
        self.narrow = narrow
        self.wide = wide
        self._pool = pool
        self._users = iter(range(len(USERS)))
        self.running: dict[str, Future[Printed]] = {}

    def run(self, *words: str) -> Printed:
        """Run a program in alice's namespace to its end."""
        result = subprocess.run(
            self.lab.command(self.lab.alice, *words), capture_output=True, timeout=SECONDS, check=False
        )
        return Printed(result.returncode, (result.stdout + result.stderr).decode(errors="replace"))

    def uclient(self, *options: str, user: str = "", password: str = "secret", server: str = NARROW[0]) -> Printed:
        """Run the TURN client."""
        name = user or f"user{next(self._users)}"
        words = ["-p", "5349" if "-S" in options else "3478", "-u", name, *LOAD, *options]
        if "-W" not in options:
            words += ["-w", password]
        if not {"-y", "-T"} & set(options):
            words += ["-e", self.lab.bob_ipv6 if "-x" in options else self.lab.bob_ip, "-r", PEER_PORT]
        return self.run("turnutils_uclient", *words, server)

    def start(self) -> None:
        """Begin with all that must lose nothing."""
        for name, options in RELAYED.items():
            self.running[name] = self._pool.submit(self.uclient, *options)
        for name, options in SWITCHED_ON.items():
            self.running[name] = self._pool.submit(self.uclient, *options, server=WIDE[0])
        self.running["IPv6 client"] = self._pool.submit(self.uclient, "-X", "-c", server=NARROW[1])

    def printed(self, name: str) -> str:
        """What one of them printed."""
        return self.running[name].result().text


USERS: Final = {f"user{number}": "secret" for number in range(60)}


@pytest.fixture(scope="module")
def shooting_range(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    with open_lab() as lab, ThreadPoolExecutor(AT_ONCE) as pool:
        for address in WIDE:
            lab.run(lab.server, "ip", "addr", "add", f"{address}/24", "dev", lab.alice_link)
        relay = {
            "realm": "example.org",
            "users": USERS,
            "secrets": {"fleet": SECRET},
            "relay_addresses": [lab.server_ip_for_bob, lab.server_ipv6],
            "dtls_ports": [5349, 5350],
            "peers": {"allow": [f"{lab.bob_ip}/32", f"{lab.bob_ipv6}/128"]},
        }
        wishes = {"tcp_allocations": True, "mobility": True, "behaviour_discovery": True}
        narrow = {"services": ["relay"], "relay": {**relay, "listen_addresses": list(NARROW)}}
        wide = {"services": ["relay"], "relay": {**relay, "listen_addresses": list(WIDE), **wishes}}
        make = tmp_path_factory.mktemp
        with (
            run_service(make("narrow"), narrow, lab.server) as one,
            run_service(make("wide"), wide, lab.server) as two,
        ):
            words = lab.command(lab.bob, "turnutils_peer", "-p", PEER_PORT, "-L", lab.bob_ip, "-L", lab.bob_ipv6)
            peer = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                opened = Range(lab, one, two, pool)
                opened.start()
                yield opened
            finally:
                pool.shutdown(cancel_futures=True)
                peer.terminate()
                peer.wait(timeout=10)


def sent_and_received(printed: str) -> tuple[int, int]:
    """Bytes of all sessions of a client."""
    totals = re.findall(r"tot_send_bytes ~ (\d+), tot_recv_bytes ~ (\d+)", printed)
    assert totals, printed[-1500:]
    sent, received = totals[-1]
    return int(sent), int(received)


def assert_nothing_lost(printed: str) -> None:
    sent, received = sent_and_received(printed)
    assert sent == received != 0, printed[-1500:]
    assert re.search(r"Total lost packets 0 \(", printed), printed[-1500:]


@pytest.mark.parametrize("name", RELAYED)
def test_every_packet_comes_back(shooting_range: Range, name: str) -> None:
    assert_nothing_lost(shooting_range.printed(name))


def test_the_dual_clients_were_given_both_families(shooting_range: Range) -> None:
    for name in RELAYED:
        shooting_range.printed(name)
    created = sample_sum(shooting_range.narrow, "redconnect_relay_allocations_created_total", family="ipv6")
    clients = sum("IPv6" in name or "dual" in name for name in RELAYED)
    assert created >= 2 * clients  # two sessions of each client


@pytest.mark.parametrize("name", SWITCHED_ON)
def test_every_packet_comes_back_with_what_is_off_by_default(shooting_range: Range, name: str) -> None:
    assert_nothing_lost(shooting_range.printed(name))


def test_every_packet_of_a_client_on_ipv6_comes_back(shooting_range: Range) -> None:
    assert_nothing_lost(shooting_range.printed("IPv6 client"))


def test_clients_with_mobility_did_move(shooting_range: Range) -> None:
    for name in SWITCHED_ON:
        shooting_range.printed(name)
    moved = sample_sum(shooting_range.wide, "redconnect_relay_allocations_deleted_total", ending="moved")
    assert moved >= 2 * sum("mobility" in name for name in SWITCHED_ON)  # two sessions of each client


def test_time_limited_credentials_that_the_client_makes_from_the_secret_work(shooting_range: Range) -> None:
    assert_nothing_lost(shooting_range.uclient("-X", "-c", "-W", SECRET, user="somebody").text)
    assert sample_sum(shooting_range.narrow, "redconnect_relay_allocations_authenticated_total", secret="fleet") >= 2


def test_time_limited_credentials_of_the_command_line_work(shooting_range: Range) -> None:
    result = shooting_range.narrow.command("credential", "--ttl-seconds", "600")
    user = re.search(r"user name +(\S+)", result.stdout)
    password = re.search(r"password +(\S+)", result.stdout)
    assert user and password, result.stdout + result.stderr
    assert_nothing_lost(shooting_range.uclient("-X", "-c", user=user[1], password=password[1]).text)


def test_a_wrong_password_is_refused(shooting_range: Range) -> None:
    assert_refused(shooting_range, shooting_range.uclient("-X", "-c", password="wrong"), cause="wrong_password")


def test_an_expired_user_name_is_refused(shooting_range: Range) -> None:
    secret = (Path(shooting_range.narrow.config).parent / "var" / "turn-secret").read_bytes().strip()
    expired = issue_credential(secret, 1_700_000_000, "somebody")
    ended = shooting_range.uclient("-X", "-c", user=expired.username, password=expired.password)
    assert_refused(shooting_range, ended, cause="expired")


def assert_refused(shooting_range: Range, ended: Printed, cause: str) -> None:
    assert ended.status == NEGATIVE_EXIT
    assert "tot_send_bytes" not in ended.text
    assert re.search(r"error 401|Cannot complete Allocation", ended.text), ended.text[-1500:]
    refused = sample_sum(
        shooting_range.narrow, "redconnect_relay_requests_refused_total", cause=cause, code="401", method="allocate"
    )
    assert refused >= 1


def test_the_negative_test_of_the_client_ends_with_the_refusal_of_its_channel(shooting_range: Range) -> None:
    ended = shooting_range.uclient("-c", "-N", "-X")
    assert ended.status == NEGATIVE_EXIT
    assert "channel bind: error 400" in ended.text


def test_what_is_off_by_default_is_refused_by_its_own_code(shooting_range: Range) -> None:
    for options, error in ((("-T", "-X"), "error 442"), (("-M", "-X"), "error 405")):
        ended = shooting_range.uclient(*options)
        assert ended.status == NEGATIVE_EXIT
        assert error in ended.text


@pytest.mark.parametrize("transport", ["tls", "dtls"])
def test_the_metrics_count_what_the_clients_sent(shooting_range: Range, transport: str) -> None:
    texts = [shooting_range.printed(name) for name in RELAYED if name.startswith(f"{transport}, ")]
    sent = sum(sent_and_received(text)[0] for text in texts)
    for direction in ("to_peer", "to_client"):
        counted = sample_sum(
            shooting_range.narrow, "redconnect_relay_payload_bytes_total", direction=direction, transport=transport
        )
        assert counted == sent


# NAT behaviour discovery (RFC 5780)


@pytest.mark.parametrize(
    ("option", "verdict"),
    [
        ("-m", "NAT with Endpoint Independent Mapping!"),
        ("-f", "NAT with Endpoint Independent Filtering!"),
        ("-H", r"maybe a successful hairpinning"),
    ],
)
def test_natdiscovery_sees_that_there_is_no_nat(shooting_range: Range, option: str, verdict: str) -> None:
    ended = shooting_range.run("turnutils_natdiscovery", option, WIDE[0])
    assert ended.status == 0
    assert verdict in ended.text
    assert f"Response origin: : {WIDE[0]}:3478" in ended.text
    assert f"Other addr: : {WIDE[1]}:3479" in ended.text


@pytest.mark.parametrize("options", [(), ("-f",)], ids=["as it is", "forced"])
def test_stunclient_is_answered_from_the_opposite_corner(shooting_range: Range, options: tuple[str, ...]) -> None:
    ended = shooting_range.run("turnutils_stunclient", *options, WIDE[0])
    assert ended.status == 0
    assert "RFC 5780 response 3" in ended.text
    assert ended.text.count(f"Response origin: : {WIDE[1]}:3479") >= 2


def test_stunclient_learns_nothing_but_its_address_where_discovery_is_off(shooting_range: Range) -> None:
    ended = shooting_range.run("turnutils_stunclient", NARROW[0])
    assert ended.status == 0
    assert f"UDP reflexive addr: {shooting_range.lab.alice_ip}:" in ended.text
    assert "RFC 5780" not in ended.text
