"""Runs every check, each by itself: one that breaks or may not look ends no other."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from config.crash import name_error
from config.doctor.facts import Service, StateDirectory
from config.doctor.findings import Finding, fault, ok, warning
from config.doctor.host import (
    check_buffers,
    check_clock,
    check_conntrack,
    check_datapath,
    check_descriptors,
    check_identity,
    check_offload,
)
from config.doctor.installation import (
    check_certificate,
    check_database,
    check_redis,
    check_service,
    check_settings_file,
    check_state_directory,
)
from config.doctor.io import host, installation, network
from config.doctor.io.proc import bound_sockets
from config.doctor.network import check_addresses, check_ports, check_relay_range
from config.schema import Settings
from config.settings_file import SettingsFile

Examine = Callable[[], Finding | Iterable[Finding]]


def diagnose(settings: Settings, look_at_file: Callable[[], SettingsFile | None]) -> list[Finding]:
    """Collect and judge everything; takes some seconds where something does not answer.

    Args:
        settings: of the service.
        look_at_file: at the file that they were read from.
    """
    service, pid = Service(is_running=False), 0
    try:
        service, pid = installation.collect_service(settings)
        found = list(check_service(service))
    except Exception as error:  # noqa: BLE001  # the other checks do not need it
        found = [fault("service", f"the check is broken: {name_error(error)}", "tell it to the makers")]
    found += examine_one("settings", lambda: check_settings_file(look_at_file()))
    for name, examine in _examinations(settings, service, pid):
        found += examine_one(name, examine)
    return found


def examine_one(name: str, examine: Examine) -> list[Finding]:
    """The findings of a check, or that it could not be made."""
    try:
        found = examine()
        return [found] if isinstance(found, Finding) else list(found)
    except OSError as error:
        return [warning(name, f"it cannot be looked at: {name_error(error)}", "run the doctor as root")]
    except Exception as error:  # noqa: BLE001  # the others shall be made
        return [fault(name, f"the check is broken: {name_error(error)}", "tell it to the makers")]


def _examinations(settings: Settings, service: Service, pid: int) -> Iterator[tuple[str, Examine]]:
    has_relay = "relay" in settings.services
    yield "user", lambda: check_identity(host.collect_identity(pid))
    yield "address", lambda: check_addresses(network.collect_addresses(settings, service))
    yield "ports", lambda: check_ports(network.wanted_endpoints(settings), bound_sockets(), service)
    if has_relay:
        yield (
            "relay range",
            lambda: check_relay_range(network.collect_relay_range(settings, bound_sockets(), service)),
        )
    yield "certificate", lambda: _certificate(settings)
    yield "clock", lambda: check_clock(host.collect_clock())
    yield "receive buffers", lambda: check_buffers(host.collect_buffers(pid))
    yield "descriptors", lambda: check_descriptors(host.collect_descriptors(settings, pid))
    yield "conntrack", lambda: check_conntrack(host.collect_conntrack(settings))
    yield "datagrams", lambda: check_offload(host.collect_offload())
    if has_relay:
        yield "datapath", lambda: check_datapath(host.collect_datapath(settings, pid, service.datapath))
    yield "database", lambda: check_database(installation.collect_database(settings))
    yield "Redis", lambda: check_redis(installation.collect_redis(settings))
    yield "state_dir", lambda: check_state_directory(_state_directory(settings, pid))


def _certificate(settings: Settings) -> Iterable[Finding]:
    try:
        facts = installation.collect_certificate(settings, datetime.now(UTC))
    except ValueError:
        return [fault("certificate", "certificate or key is none", "check tls.certificate_file and tls.key_file")]
    if facts is None:
        return [ok("certificate", "a self-signed one will be made at the first start")]
    return check_certificate(facts)


def _state_directory(settings: Settings, pid: int) -> StateDirectory:
    owner = host.collect_identity(pid).user if pid else None
    return installation.collect_state_directory(settings, owner)
