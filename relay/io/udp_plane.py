"""The forwarding plane of UDP relays: chosen at the start, and kept attached to the interfaces that there are."""

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import NamedTuple

from relay.datapath import Limits, RelayAddress
from relay.io.addresses import listen_addresses, own_addresses, packed_addresses
from relay.io.clients import Links
from relay.io.datapath.bpf.errors import OffloadUnavailable
from relay.io.datapath.choice import load_program, offer_of, take_program
from relay.io.datapath.kernel import Kernel, KernelDataPath
from relay.io.datapath.plain import PlainDataPath
from relay.io.datapath.switchboard import IsRelayedElsewhere
from relay.io.listening import BindError
from relay.io.poller import Poller
from relay.settings import RelaySettings
from stun.address import TransportAddress

_log = logging.getLogger(__name__)


class Given(NamedTuple):
    """What a plane is told besides; see `PlainDataPath`."""

    own_relays: frozenset[bytes]
    limits: Limits
    is_relayed_elsewhere: IsRelayedElsewhere | None
    own_services: Collection[TransportAddress]


class UdpPlane:
    """A plain plane, with the kernel's help or without."""

    def __init__(
        self, settings: RelaySettings, addresses: Sequence[RelayAddress], poller: Poller, links: Links, given: Given
    ) -> None:
        """Choose, by the settings and by what the machine can do. The event loop runs.

        Args:
            settings: what they say when the service starts; see `relay.io.datapath.choice`.
            addresses: where relayed transport addresses live.
            poller: where relay sockets are watched.
            links: where clients are reached.
            given: the rest.

        Raises:
            BindError: the settings demand the kernel, and it cannot be had.
        """
        self._settings = settings
        self._addresses = addresses
        self._offer = offer_of(settings, self._ingress())
        self.kernel: KernelDataPath | None = None
        try:
            program = take_program(settings, self._offer)
        except OffloadUnavailable as error:
            raise BindError(f"relay.datapath is kernel, which cannot be had: {error}") from error
        if program is None:
            self.plane = PlainDataPath(
                poller,
                given.own_relays,
                links,
                limits=given.limits,
                is_relayed_elsewhere=given.is_relayed_elsewhere,
                own_services=given.own_services,
            )
            return
        self.plane = self.kernel = KernelDataPath(
            poller,
            given.own_relays,
            links,
            kernel=Kernel(program, self._offer, packed_addresses(own_addresses())),
            limits=given.limits,
            is_relayed_elsewhere=given.is_relayed_elsewhere,
            own_services=given.own_services,
        )
        self.kernel.watch_over(asyncio.get_running_loop())

    def follow(self) -> None:
        """Attach the kernel's program to the interfaces that there are now, or once more after it was given up."""
        if self.kernel is None:
            return
        offer = offer_of(self._settings, self._ingress())
        if offer == self._offer and self.kernel.offload.is_on:
            return
        try:
            program = load_program(offer)
        except OffloadUnavailable as error:
            _log.warning("datapath: all stays as it is; the kernel cannot be asked anew: %s", error)
            return
        self._offer = offer
        self.kernel.take_over(Kernel(program, offer, packed_addresses(own_addresses())))
        _log.info("datapath: the kernel relays busy flows of UDP clients on %s", ", ".join(offer.interfaces))

    def close(self) -> None:
        """Take the program out of the kernel."""
        if self.kernel is not None:
            self.kernel.close()

    def _ingress(self) -> frozenset[bytes]:
        """Where packets of UDP clients and of peers arrive."""
        listening = listen_addresses(self._settings) if self._settings.udp_ports else []
        return packed_addresses(listening) | {address.bound for address in self._addresses}
