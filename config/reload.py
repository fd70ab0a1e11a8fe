"""What SIGHUP changes: the settings anew, what differs, and what has to wait for a restart."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, ClassVar, Final, NamedTuple, TypeVar

from pydantic import BaseModel, SecretStr

from config.keys import is_secret, leaves, show
from config.schema import Settings

Model = TypeVar("Model", bound=BaseModel)
Key = tuple[str, ...]

# Sockets, processes and files that are open stay as they are.
_NEEDS_RESTART: Final[frozenset[Key]] = frozenset(
    tuple(key.split("."))
    for key in (
        "services",
        "state_dir",
        "database_url",
        "admin.address",
        "admin.port",
        "secrets.locator_key",
        "relay.workers",
        "relay.listen_addresses",
        "relay.udp_ports",
        "relay.tcp_ports",
        "relay.tls_ports",
        "relay.dtls_ports",
        "relay.share_with_pages",
        "relay.relay_addresses",
        "relay.external_addresses",
        "relay.external_address_from",
        "relay.datapath",
        "relay.port_min",
        "relay.port_max",
        "relay.tcp_allocations",
        "relay.mobility",
        "relay.behaviour_discovery",
        "relay.quota.total_share_percent",
        "sfu.udp_port",
        "sfu.workers",
        "sfu.listen_addresses",
        "sfu.external_addresses",
        "sfu.max_rooms",
        "sfu.max_members",
        "sfu.max_members_in_all",
        "sfu.audio_places",
        "sfu.cameras",
        "sfu.start_bits_per_second",
        "sfu.max_bits_per_second",
        "signaling.listen_addresses",
        "signaling.port",
        "signaling.https",
        "signaling.max_clients",
        "signaling.redis_url",
    )
)


class ReloadFailed(Exception):
    """A part cannot take other settings into use, and goes on with the old ones; the message says why."""

    is_for_operator: ClassVar = True  # what it says is about the machine and its settings


class Difference(NamedTuple):
    """One key whose value is another one."""

    key: str  # dotted
    change: str  # for people; says nothing of a secret but that it changed
    needs_restart: bool

    def __str__(self) -> str:
        return f"{self.key}: {self.change}" + (" (after a restart)" if self.needs_restart else "")


class Outcome(NamedTuple):
    """What came of a reload: what differs now, or each mistake that kept it from being one."""

    at: datetime  # aware
    succeeded: bool
    lines: tuple[str, ...]  # one for each difference, or each mistake


def differences(old: Settings, new: Settings) -> list[Difference]:
    """What differs between two settings, key by key in the order of the schema."""
    return list(_differences(old, new))


def applicable(old: Settings, new: Settings) -> Settings:
    """The new settings, with the old values of all that only a restart can change."""
    return _keep(old, new, _NEEDS_RESTART)


def _differences(old: Settings, new: Settings) -> Iterator[Difference]:
    for path, field in leaves():
        before, after = _at(old, path), _at(new, path)
        if before != after:
            change = "changed" if is_secret(field) else f"{_shown(before)} -> {_shown(after)}"
            yield Difference(".".join(path), change, path in _NEEDS_RESTART)


def _at(settings: BaseModel, path: Key) -> Any:  # noqa: ANN401  # any value that a setting may have
    value: Any = settings
    for part in path:
        value = getattr(value, part)
    return value


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(item) for item in value[:8]) + (", …]" if len(value) > 8 else "]")
    return "***" if isinstance(value, SecretStr) else show(value)


def _keep(old: Model, new: Model, keys: frozenset[Key]) -> Model:
    update: dict[str, Any] = {}
    for name in {key[0] for key in keys}:
        if (name,) in keys:
            update[name] = getattr(old, name)
        else:
            inner = frozenset(key[1:] for key in keys if key[0] == name)
            update[name] = _keep(getattr(old, name), getattr(new, name), inner)
    return new.model_copy(update=update)
