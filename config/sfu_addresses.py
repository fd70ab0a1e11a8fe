"""Where the SFU is: what it listens on, what clients are told, and what the relay lets them reach."""

from config.schema import Settings
from relay.io.addresses import chosen_addresses
from sfu.settings import SfuAddress, SfuSettings
from stun.address import TransportAddress


def sfu_addresses(settings: SfuSettings, worker: int = 0) -> list[SfuAddress]:
    """Where a worker of the SFU listens, and what clients are told: the external address first, then the own one.

    The own one serves clients in the same network, and the relay of this machine: many routers do not send back in
    what is meant for their own external address.
    """
    port = settings.udp_ports[worker]
    found = []
    for bound, advertised in chosen_addresses(settings.listen_addresses, settings.external_addresses):
        told = dict.fromkeys((TransportAddress(advertised, port), TransportAddress(bound, port)))
        found.append(SfuAddress(TransportAddress(bound, port), tuple(told)))
    return found


def reachable_services(settings: Settings) -> list[TransportAddress]:
    """What the relay admits although it may be a private address or one of this machine: the SFU, if it runs here."""
    if "sfu" not in settings.services:
        return []
    return [
        told
        for worker in range(settings.sfu.workers)
        for address in sfu_addresses(settings.sfu, worker)
        for told in address.advertised
    ]
