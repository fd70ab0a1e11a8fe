"""Judges the machine: clock, buffers, descriptors, connection tracking, offloads, and as whom we run."""

from collections.abc import Iterator
from typing import Final

from config.doctor.facts import Buffers, Clock, Conntrack, Datapath, Descriptors, Identity, Offload
from config.doctor.findings import Finding, fault, ok, warning

MAX_CLOCK_ERROR_SECONDS: Final = 5.0  # credentials are good for minutes, and other nodes compare
MIN_DESCRIPTORS: Final = 1024
MAX_LOST_SHARE: Final = 1e-4  # of all UDP datagrams; some are lost on every machine that is ever busy
FULL_TABLE: Final = 0.9  # of the connection tracking table: soon new flows are dropped


def check_identity(facts: Identity) -> Finding:
    """Nothing that we do needs root."""
    who = "the service runs" if facts.is_service else "the doctor runs"
    if facts.user:
        return ok("user", f"{who} as user {facts.user}")
    if not facts.is_service:
        return ok("user", "the doctor runs as root, and the service does not run")
    mend = "run it as a user of its own; a port below 1024 needs CAP_NET_BIND_SERVICE only"
    return warning("user", "the service runs as root, which it does not need", mend)


def check_clock(facts: Clock) -> Finding:
    """Credentials and codes end at an instant, and other nodes have clocks, too."""
    mend = "timedatectl set-ntp true, or install chrony"
    if facts.is_synchronised and facts.max_error_seconds > MAX_CLOCK_ERROR_SECONDS:
        return warning("clock", f"the clock may be {facts.max_error_seconds:.0f} s wrong", mend)
    if facts.is_synchronised:
        return ok("clock", f"synchronised, at most {facts.max_error_seconds * 1000:.0f} ms wrong")
    return warning("clock", "the kernel does not know that its clock is right", mend)


def check_buffers(facts: Buffers) -> Iterator[Finding]:
    """A burst of all clients waits in the receive buffer, or is lost."""
    mend = f"sysctl -w net.core.rmem_max={2 * facts.wanted} net.core.wmem_max={2 * facts.wanted}"
    if facts.allowed >= facts.wanted or facts.can_force:
        how = "CAP_NET_ADMIN" if facts.allowed < facts.wanted else f"net.core.rmem_max is {facts.allowed}"
        yield ok("receive buffers", f"{facts.wanted} bytes are granted: {how}")
    else:
        found = f"net.core.rmem_max is {facts.allowed}, and the relay asks for {facts.wanted} bytes"
        yield warning("receive buffers", found, mend)
    if facts.lost > MAX_LOST_SHARE * facts.received:
        found = f"{facts.lost} of {facts.received} UDP datagrams were lost to full buffers since the machine started"
        yield warning("receive buffers", found, "watch redconnect_host_udp_receive_buffer_errors_total; add workers")


def check_descriptors(facts: Descriptors) -> Finding:
    """Every allocation and every connection is a descriptor."""
    found = f"{facts.limit} may be open in a process, {facts.needed} at most are needed in each of {facts.workers}"
    mend = f"LimitNOFILE={max(facts.needed, MIN_DESCRIPTORS)} in the unit, or ulimit -Hn"
    if facts.limit < MIN_DESCRIPTORS:
        return fault("descriptors", found, mend)
    return warning("descriptors", found, mend) if facts.limit < facts.needed else ok("descriptors", found)


def check_conntrack(facts: Conntrack) -> Finding:
    """A firewall that follows every relayed flow fills its table, and drops what comes then."""
    if not facts.is_loaded:
        return ok("conntrack", "connections are not followed")
    mend = (
        f"nft add table inet redconnect; nft 'add chain inet redconnect in {{ type filter hook prerouting priority raw;"
        f" }}'; nft 'add rule inet redconnect in udp dport {{ {facts.ports} }} notrack' (and the same for output and"
        f" sport), or sysctl -w net.netfilter.nf_conntrack_max={4 * facts.expected}"
    )
    if facts.size and facts.used > FULL_TABLE * facts.size:
        return fault("conntrack", f"the table is nearly full: {facts.used} of {facts.size}", mend)
    found = f"{facts.used} of {facts.size} entries are used, {facts.expected} more flows at full load"
    if facts.size - facts.used < facts.expected:
        return warning("conntrack", found, mend)
    return ok("conntrack", found)


def check_offload(facts: Offload) -> Iterator[Finding]:
    """Joined datagrams and compiled code: half the CPU."""
    missing = [name for name, there in (("UDP_GRO", facts.joins), ("UDP_SEGMENT", facts.cuts)) if not there]
    if missing:
        found = f"this kernel has no {' and no '.join(missing)}: each datagram is a system call"
        yield warning("datagrams", found, "use Linux 5.0 or newer")
    else:
        yield ok("datagrams", "the kernel joins and cuts runs of datagrams (UDP_GRO, UDP_SEGMENT)")
    if facts.is_compiled:
        yield ok("compiled code", "the packet paths are compiled")
    else:
        why = "was made of other sources" if facts.compiled_is_stale else "was not built"
        yield warning("compiled code", f"the compiled twin {why}: allocations take twice the CPU", "make native")


def check_datapath(facts: Datapath) -> Finding:
    """Who relays, and what it would take to have the kernel do it. Without it all works, only dearer."""
    if facts.wish == "plain":
        return ok("datapath", "user space relays, as relay.datapath says")
    if facts.is_on:
        return ok("datapath", f"the kernel relays busy flows of UDP clients on {', '.join(facts.interfaces)}")
    reason, mend = _obstacle(facts)
    if not reason and facts.is_on is None:
        return ok("datapath", f"the kernel can relay busy flows of UDP clients on {', '.join(facts.interfaces)}")
    if not reason:
        reason, mend = "the service has given it up, or began before it could", "look at its log, and restart it"
    if facts.wish == "kernel":
        return fault("datapath", f"relay.datapath is kernel, but {reason}", mend)
    return ok("datapath", f"user space relays: {reason} (to change that: {mend})")


def _obstacle(facts: Datapath) -> tuple[str, str]:
    """What keeps the kernel from relaying, and the mend; empty if nothing does."""
    if not facts.interfaces:
        return (
            "no Ethernet interface has an address of the relay",
            "name others in relay.listen_addresses and relay.relay_addresses",
        )
    if facts.missing:
        mend = "the drop-in deploy/systemd/kernel-datapath.conf, or cap_add in a container"
        return f"{' and '.join(facts.missing)} {'is' if len(facts.missing) == 1 else 'are'} missing", mend
    if facts.trouble:
        return facts.trouble, "docs/forwarding.md says what it needs"
    return "", ""
