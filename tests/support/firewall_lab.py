"""A practice behind a firewall: the client, a gateway whose rules a test writes, and the real service behind it.

    client 10.91.1.2 -- gateway (nftables) -- server 10.91.2.2, video.example.org        (and fd91:1::/64, fd91:2::/64)

The names stand in the client's hosts file; nothing else is asked. The client trusts one authority, which signed the
service's certificate.
"""

import contextlib
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.lab import Lab, open_lab

ROOT: Final = Path(__file__).resolve().parents[2]
HOST: Final = "video.example.org"
DEAD: Final = "dead.example.org"  # an address that nobody has
DEAD_IP: Final = "10.91.2.99"
PAGES_PORT: Final = 443
CHECK_SECONDS: Final = 60.0  # how long a test waits for a check; what the check promises, it says itself
_PROXY_OFFSET: Final = 10_000  # the proxy listens on the port that it stands for and so many


class Authority:
    """Signs certificates for names, as a public authority does, or one that an inspecting proxy has made itself."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        root = self._builder(self._subject, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file = folder / f"{name.replace(' ', '-')}.pem"
        self.file.write_bytes(root.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def rename(self, name: str) -> None:
        """Call the issuer something else, whatever a certificate may contain, from the next one on."""
        self._subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])

    def issue(self, host: str, *addresses: str) -> tuple[Path, Path]:
        """A certificate for a name, and perhaps for IP addresses, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        names = [x509.DNSName(host), *(x509.IPAddress(ipaddress.ip_address(each)) for each in addresses)]
        leaf = self._builder(subject, key).add_extension(x509.SubjectAlternativeName(names), critical=False)
        stem = f"{self.file.stem}-{host}"
        certificate_file, key_file = self._folder / f"{stem}.crt", self._folder / f"{stem}.key"
        certificate_file.write_bytes(leaf.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        key_file.chmod(0o600)
        return certificate_file, key_file

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=90))
        )


@dataclass
class Checked:
    """How a check ended."""

    status: int
    report: dict[str, Any]

    @property
    def is_all_open(self) -> bool:
        """Whether nothing is closed, however good the lines are at the moment."""
        return (self.verdict, self.status) in {("all_open", 0), ("poor", 1)}

    @property
    def verdict(self) -> str:
        """The summary in one word."""
        return str(self.report["summary"]["code"])

    def verdicts(self, family: str = "ipv4") -> dict[str, str]:
        """The verdict of each row of a family, by transport or purpose and port: `udp 3478`, `pages 443`.

        A poor line counts as open: on a busy machine packets are late, and no firewall is to blame.
        """
        return {
            f"{row['purpose'] if row['purpose'] == 'pages' else row['transport']} {row['port']}": (
                "open" if row["verdict"] == "poor" else row["verdict"]
            )
            for row in self.report["rows"]
            if row["family"] == family
        }

    def row(self, transport: str, port: int, family: str = "ipv4") -> dict[str, Any]:
        """One row."""
        (found,) = [
            row
            for row in self.report["rows"]
            if (row["transport"], row["port"], row["family"]) == (transport, port, family)
        ]
        return dict(found)


class FirewallLab:
    """The three namespaces and the client's tools. Use `open_firewall_lab`."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.client, self.gateway, self.server = lab.alice, lab.server, lab.bob
        self.authority = Authority("Public Authority", folder)

    @property
    def settings(self) -> dict[str, Any]:
        """Of the service on the server: defaults, but for what makes it this lab's."""
        certificate_file, key_file = self.authority.issue(HOST)
        return {
            "signaling": {"port": PAGES_PORT, "https": True, "public_url": f"https://{HOST}"},
            "tls": {"certificate_file": str(certificate_file), "key_file": str(key_file)},
            "relay": {"peers": {"allow": [f"{self.lab.alice_ip}/32", "fd91:1::2/128"]}},
        }

    def check(self, *words: str, host: str = HOST, trusts: Sequence[Authority] = ()) -> Checked:
        """Run `redconnect check` at the client, with all that it printed as JSON."""
        result = self.run_check(host, "--json", *words, trusts=trusts)
        assert result.stdout, f"exit status {result.returncode}: {result.stderr[-2000:]}"
        return Checked(result.returncode, json.loads(result.stdout))

    def run_check(self, *words: str, trusts: Sequence[Authority] = ()) -> subprocess.CompletedProcess[str]:
        """Run `redconnect check` at the client, whatever it prints."""
        roots = self.folder / "roots.pem"
        roots.write_text("".join(each.file.read_text() for each in (self.authority, *trusts)))
        return subprocess.run(
            self.lab.command(self.client, sys.executable, "-m", "config", "check", *words),
            capture_output=True,
            text=True,
            timeout=CHECK_SECONDS,
            cwd=ROOT,
            env={**os.environ, "SSL_CERT_FILE": str(roots), "LANG": "de_DE.UTF-8"},
            check=False,
        )

    @contextlib.contextmanager
    def firewall(self, *rules: str, policy: str = "accept") -> Iterator[None]:
        """Have the gateway forward by these rules, then by the policy; the table is the one that most gateways have."""
        chain = f"type filter hook forward priority 0; policy {policy}; {'; '.join(rules)}"
        self.nft(f"table inet filter {{ chain forward {{ {chain}; }} ; }}")
        try:
            yield
        finally:
            self.nft("delete table inet filter")

    @contextlib.contextmanager
    def inspection(self, authority: Authority, ports: Sequence[int]) -> Iterator[None]:
        """Have the gateway break open whatever TLS goes to these ports."""
        certificate_file, key_file = authority.issue(HOST)
        words = [sys.executable, "-m", "tests.support.inspecting_proxy", str(certificate_file), str(key_file)]
        words += [f"{port + _PROXY_OFFSET}:{self.lab.bob_ip}:{port}" for port in ports]
        turned = "; ".join(f"tcp dport {port} redirect to :{port + _PROXY_OFFSET}" for port in ports)
        hook = f'type nat hook prerouting priority dstnat; iifname != "{self.lab.alice_link}" return'
        proxy = subprocess.Popen(self.lab.command(self.gateway, *words), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            _await_line(proxy)
            self.nft(f"table inet inspection {{ chain turn {{ {hook}; {turned}; }} ; }}")
            try:
                yield
            finally:
                self.nft("delete table inet inspection")
        finally:
            proxy.terminate()
            proxy.communicate(timeout=10)

    def nft(self, commands: str) -> None:
        """Have nftables of the gateway obey."""
        result = self.lab.run(self.gateway, "nft", commands)
        assert result.returncode == 0, result.stderr

    def shell(self, commands: str) -> None:
        """Run commands on the gateway, as somebody who has copied them would."""
        result = self.lab.run(self.gateway, "sh", "-e", "-c", commands)
        assert result.returncode == 0, result.stderr


@contextlib.contextmanager
def open_firewall_lab(folder: Path) -> Iterator[FirewallLab]:
    """Build the lab, hand it over, remove it."""
    with open_lab(routed=True) as lab:
        hosts = Path("/etc/netns") / lab.alice / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{lab.bob_ip} {HOST}\n{lab.bob_ipv6} {HOST}\n{DEAD_IP} {DEAD}\n")
        yield FirewallLab(lab, folder)


def _await_line(proxy: "subprocess.Popen[str]") -> None:
    """Wait until the proxy says that it listens."""
    assert proxy.stdout is not None
    assert proxy.stdout.readline() == "ready\n", "the proxy ended at its start"
