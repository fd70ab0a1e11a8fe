"""What `redconnect ctl status` tells: figures out of the same metrics that an operator scrapes, and who runs."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from config.crew import Crew, Place
from config.metrics_sum import Snapshot
from config.readiness import Validity
from config.reload import Outcome
from config.schema import Settings
from config.version import current_version

_ALLOCATIONS: Final = "redconnect_relay_allocations"
_KERNEL: Final = "redconnect_relay_kernel_active"
_FLOWS: Final = "redconnect_relay_kernel_flows"
_ROOMS: Final = "redconnect_signaling_rooms"
_CONFERENCES: Final = "redconnect_sfu_rooms"

Values = dict[str, Any]


class Draining(NamedTuple):
    """Whether the service is about to end, and when it does so at the latest."""

    is_draining: bool = False
    ends_at_latest: datetime | None = None


def describe_status(
    settings: Settings,
    snapshot: Snapshot,
    crews: Mapping[str, Crew[Any]],
    *,
    since: datetime,
    draining: Draining,
    certificate: Validity | None,
    last_reload: Outcome | None,
    now: datetime,
) -> Values:
    """The status as JSON values.

    Args:
        settings: that hold.
        snapshot: of all metrics.
        crews: worker processes, by what they do.
        since: when the service started.
        draining: how it ends.
        certificate: that is served; None without TLS.
        last_reload: and what came of it; None: there was none.
        now: aware time.
    """
    return {
        "version": current_version(),
        "pid": os.getpid(),
        "since": _instant(since),
        "services": list(settings.services),
        "listeners": list(_listeners(settings)),
        "workers": [_worker(kind, place) for kind, crew in crews.items() for place in crew.places],
        "allocations": _total(snapshot, _ALLOCATIONS),
        "datapath": "kernel" if _total(snapshot, _KERNEL) else "plain",
        "kernel_flows": _total(snapshot, _FLOWS),
        "rooms": _total(snapshot, _ROOMS),
        "conferences": _total(snapshot, _CONFERENCES),
        "drain": {
            "draining": draining.is_draining,
            "ends_at_latest": None if draining.ends_at_latest is None else _instant(draining.ends_at_latest),
        },
        "certificate": None if certificate is None else _certificate(certificate, now),
        "last_reload": None if last_reload is None else describe_outcome(last_reload),
    }


def describe_outcome(outcome: Outcome) -> Values:
    """What came of a reload, as JSON values."""
    return {"at": _instant(outcome.at), "reloaded": outcome.succeeded, "lines": list(outcome.lines)}


def status_lines(status: Values) -> Iterator[str]:
    """The status for people."""
    yield f"redconnect {status['version']}, PID {status['pid']}, since {status['since']}"
    yield f"services     {', '.join(status['services'])}"
    for listener in status["listeners"]:
        where = ", ".join(listener["addresses"]) or "every address"
        yield f"listens      {listener['what']}: {listener['protocol']} {_ports(listener['ports'])} on {where}"
    for worker in status["workers"]:
        state = "ready" if worker["ready"] else "up" if worker["up"] else "down"
        yield (
            f"worker       {worker['kind']} {worker['number']}: {state}, PID {worker['pid'] or 'none'},"
            f" load {worker['load']}, {worker['restarts']} restarts"
        )
    yield f"allocations  {status['allocations']}"
    if "relay" in status["services"]:
        flows = f", which relays {status['kernel_flows']} flows" if status["datapath"] == "kernel" else ""
        yield f"datapath     {status['datapath']}{flows}"
    yield f"rooms        {status['rooms']}"
    yield f"conferences  {status['conferences']}"
    drain, certificate, reload = status["drain"], status["certificate"], status["last_reload"]
    yield f"draining     {'until ' + (drain['ends_at_latest'] or 'now') if drain['draining'] else 'no'}"
    if certificate is not None:
        yield f"certificate  {certificate['days_left']} days left, until {certificate['expires']}"
    if reload is not None:
        what = "done" if reload["reloaded"] else "refused"
        yield f"last reload  {reload['at']}: {what}" + "".join(f"\n             {line}" for line in reload["lines"])


def _listeners(settings: Settings) -> Iterator[Values]:
    relay, signaling, sfu, admin = settings.relay, settings.signaling, settings.sfu, settings.admin
    if "relay" in settings.services:
        for what, protocol, ports in (
            ("TURN", "UDP", relay.udp_ports),
            ("TURN", "TCP", relay.tcp_ports),
            ("TURN over TLS", "TCP", relay.tls_ports),
            ("TURN over DTLS", "UDP", relay.dtls_ports),
        ):
            if ports:
                yield _listener(what, protocol, ports, relay.listen_addresses)
    if "signaling" in settings.services:
        what = "pages over TLS" if signaling.https else "pages"
        yield _listener(what, "TCP", [signaling.port], signaling.listen_addresses)
    if "sfu" in settings.services:
        yield _listener("conferences", "UDP", sfu.udp_ports, sfu.listen_addresses)
    yield _listener("admin", "TCP", [admin.port], [admin.address])


def _listener(what: str, protocol: str, ports: Iterable[int], addresses: Iterable[str]) -> Values:
    return {"what": what, "protocol": protocol, "ports": list(ports), "addresses": list(addresses)}


def _worker(kind: str, place: Place) -> Values:
    return {
        "kind": kind,
        "number": place.number,
        "pid": None if place.process is None else place.process.pid,
        "up": place.is_up,
        "ready": place.is_ready,
        "load": place.load,
        "restarts": place.restarts,
    }


def _total(snapshot: Snapshot, name: str) -> int:
    family = snapshot.get(name)
    return 0 if family is None else round(sum(family.series.values()))


def _certificate(validity: Validity, now: datetime) -> Values:
    return {"expires": _instant(validity.ends), "days_left": validity.days_left(now)}


def _ports(ports: Sequence[int]) -> str:
    return ", ".join(map(str, ports))


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
