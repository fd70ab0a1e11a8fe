"""A small network of namespaces: two clients, each on its own link to a server between them.

    alice 10.91.1.2 -- 10.91.1.1 server 10.91.2.1 -- 10.91.2.2 bob       (and fd91:1::/64, fd91:2::/64)

Unless the lab is `routed`, the server does not forward: the clients reach it, but not each other, as behind two
strict firewalls. Everything that a lab creates carries its prefix and is removed when it closes.
"""

import contextlib
import ctypes
import itertools
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

SERVER_NAME: Final = "relay.example.org"  # resolves to the server inside the namespaces, and nowhere else
_NETNS_ETC = Path("/etc/netns")
_CLONE_NEWNET: Final = 0x40000000
_ANOTHER_HOST: Final = 77  # the last part of a client's address after `renumber`
_WALL: Final = """table inet wall {
    chain between_clients {
        type filter hook forward priority 0; policy drop;
    }
}
"""
_libc = ctypes.CDLL(None, use_errno=True)


class Lab:
    """Three joined namespaces. Use `open_lab`."""

    def __init__(self, prefix: str) -> None:
        self.alice = f"{prefix}a"
        self.server = f"{prefix}s"
        self.bob = f"{prefix}b"
        self.server_ip = "10.91.1.1"
        self.server_ip_for_bob = "10.91.2.1"
        self.server_ipv6 = "fd91:1::1"
        self.alice_link, self.bob_link = f"{self.alice}1", f"{self.bob}1"  # the server's ends
        self.alice_ip = "10.91.1.2"
        self.bob_ip = "10.91.2.2"
        self.bob_ipv6 = "fd91:2::2"
        self._numbers = {self.alice: 1, self.bob: 2}  # of the links
        self._filters = itertools.count(1)
        self.strayed: set[str] = set()  # clients that are unplugged or have another address

    def command(self, namespace: str, *words: str) -> list[str]:
        """The words of a command that runs inside a namespace."""
        return ["ip", "netns", "exec", namespace, *words]

    def run(self, namespace: str, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command inside a namespace to its end and return what it printed."""
        return subprocess.run(
            self.command(namespace, *words), capture_output=True, text=True, timeout=timeout, check=False
        )

    @contextlib.contextmanager
    def inside(self, namespace: str) -> Iterator[None]:
        """Make sockets of the calling thread inside a namespace; they stay there."""
        with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{namespace}").open() as target:
            _enter(target.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def wrapper(self, namespace: str, program: str, folder: Path) -> Path:
        """A script that starts a program inside a namespace, for callers that take nothing but a path."""
        script = folder / f"{namespace}-{Path(program).name}"
        script.write_text(f'#!/bin/sh\nexec ip netns exec {namespace} {program} "$@"\n')
        script.chmod(0o755)
        return script

    def build(self, *, routed: bool) -> None:
        """Create namespaces, links, addresses and routes."""
        for namespace in (self.alice, self.server, self.bob):
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        for client, number in self._numbers.items():
            outer, inner = f"{client}0", f"{client}1"
            _ip("link", "add", outer, "netns", client, "type", "veth", "peer", "name", inner, "netns", self.server)
            _set_up(self.server, inner, number, host=1)
            self.plug_in(client)
        forward = "1" if routed else "0"
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            _check(self.command(self.server, "sysctl", "-qw", f"{key}={forward}"))
        for namespace in (self.alice, self.server, self.bob):
            folder = _NETNS_ETC / namespace
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "hosts").write_text(f"127.0.0.1 localhost\n{self.server_ip} {SERVER_NAME}\n")
            (folder / "resolv.conf").write_text("")  # nothing outside the lab is asked

    def unplug(self, client: str) -> None:
        """Take a client's link down, and with it the client's routes and IPv6 addresses."""
        self.strayed.add(client)
        _ip("-n", client, "link", "set", f"{client}0", "down")

    def plug_in(self, client: str) -> None:
        """Bring a client's link up with its addresses and routes, the first time, or after `unplug` or `renumber`."""
        number = self._numbers[client]
        _ip("-n", client, "addr", "flush", "dev", f"{client}0", "scope", "global")
        _set_up(client, f"{client}0", number, host=2)
        _ip("-n", client, "route", "replace", "default", "via", f"10.91.{number}.1")
        _ip("-n", client, "-6", "route", "replace", "default", "via", f"fd91:{number}::1")
        self.strayed.discard(client)

    def renumber(self, client: str) -> None:
        """Give a client another address in place of its own, at once, as when a phone changes from WLAN to mobile data.

        Its old IPv4 and IPv6 addresses are gone; the new one is IPv4.
        """
        self.strayed.add(client)
        number, device = self._numbers[client], f"{client}0"
        _ip("-n", client, "addr", "flush", "dev", device, "scope", "global")
        _ip("-n", client, "addr", "add", f"10.91.{number}.{_ANOTHER_HOST}/24", "dev", device)
        _ip("-n", client, "route", "replace", "default", "via", f"10.91.{number}.1")

    @contextlib.contextmanager
    def wall(self) -> Iterator[None]:
        """Cut the way between the two clients; both still reach the server."""
        _check(self.command(self.server, "nft", "-f", "-"), given=_WALL)
        try:
            yield
        finally:
            _check(self.command(self.server, "nft", "delete", "table", "inet", "wall"))

    def lose(self, percent: int) -> None:
        """Drop so many of a hundred UDP datagrams between the clients of a routed lab, by chance; 0 ends it."""
        _check(self.command(self.server, "nft", "add table inet line; delete table inet line"))
        if percent == 0:
            return
        rule = f"meta l4proto udp numgen random mod 100 < {percent} drop"
        chain = f"chain poor {{ type filter hook forward priority 0; {rule}; }}"
        _check(self.command(self.server, "nft", f"table inet line {{ {chain} ; }}"))

    @contextlib.contextmanager
    def arriving(self, namespace: str, *rules: str) -> Iterator[Callable[[], int]]:
        """Have rules of nftables, such as `udp dport 7882 drop`, judge all that arrives for programs in a namespace.

        Nobody can tell such a drop from one on the way, as a sender can that is dropped in its own namespace. What is
        handed over tells how many packets rules with a `counter` have counted.
        """
        with contextlib.ExitStack() as stack:
            table = f"arriving{next(self._filters)}"
            hook = "type filter hook input priority 0"
            stack.callback(self._nft, namespace, f"add table inet {table}; delete table inet {table}")
            self._nft(namespace, f"table inet {table} {{ chain judge {{ {hook}; {'; '.join(rules)}; }}; }}")

            def counted() -> int:
                listed = self._nft(namespace, f"list table inet {table}")
                return sum(int(packets) for packets in re.findall(r"counter packets (\d+)", listed))

            yield counted

    def _nft(self, namespace: str, commands: str) -> str:
        return _check(self.command(namespace, "nft", commands))

    def remove(self) -> None:
        """Delete everything that `build` created, also after half a build."""
        for namespace in (self.alice, self.server, self.bob):
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)
            for name in ("hosts", "resolv.conf"):
                (_NETNS_ETC / namespace / name).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                (_NETNS_ETC / namespace).rmdir()


@contextlib.contextmanager
def open_lab(*, routed: bool = False) -> Iterator[Lab]:
    """Build a lab, hand it over, remove it."""
    lab = Lab(f"rc{os.getpid() % 100000}")
    lab.remove()
    try:
        lab.build(routed=routed)
        yield lab
    finally:
        lab.remove()


def _set_up(namespace: str, device: str, number: int, *, host: int) -> None:
    _ip("-n", namespace, "addr", "replace", f"10.91.{number}.{host}/24", "dev", device)
    _ip("-n", namespace, "addr", "replace", f"fd91:{number}::{host}/64", "dev", device, "nodad")
    _ip("-n", namespace, "link", "set", device, "up")


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*words: str) -> None:
    _check(["ip", *words])


def _check(words: list[str], *, given: str = "") -> str:
    result = subprocess.run(words, input=given, capture_output=True, text=True, timeout=20, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(words)}: {result.stderr.strip()}")
    return result.stdout
