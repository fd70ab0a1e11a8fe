"""The contract between the control plane, which decides, and a forwarding plane, which moves the bytes.

The control plane is the only writer. A forwarding plane relays what it was told to relay until the expiry it was
told, and hands everything that it does not know up to the control plane.
"""

import operator
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from relay.five_tuple import FiveTuple, Transport
from stun.address import TransportAddress


class Traffic(NamedTuple):
    """Payload relayed for one allocation; bytes count the UDP payload that the peer sends or receives."""

    packets_to_peer: int
    bytes_to_peer: int
    packets_to_client: int
    bytes_to_client: int

    def plus(self, other: "Traffic") -> "Traffic":
        """Both together."""
        if other is NO_TRAFFIC:
            return self
        return other if self is NO_TRAFFIC else Traffic(*map(operator.add, self, other))

    def minus(self, other: "Traffic") -> "Traffic":
        """What has come since."""
        return self if other is NO_TRAFFIC else Traffic(*map(operator.sub, self, other))


NO_TRAFFIC: Final = Traffic(0, 0, 0, 0)


class RelayAddress(NamedTuple):
    """An IP address that relayed transport addresses live on, as bound and as peers see it (one-to-one NAT)."""

    bound: bytes  # packed
    advertised: bytes  # packed, of the same family


class Limits(NamedTuple):
    """What one allocation may carry; a burst of one second is let through. Zero means: no limit."""

    bytes_per_second: int = 0  # of payload, in each direction
    packets_per_second: int = 0  # from peers


class Drop(StrEnum):
    """Why a packet was not relayed; a bounded set, fit for a metric label."""

    NO_ALLOCATION = "no_allocation"
    NO_CHANNEL = "no_channel"
    NO_PERMISSION = "no_permission"
    MALFORMED = "malformed"
    SEND_FAILED = "send_failed"
    CLIENT_SLOW = "client_slow"
    OWN_ADDRESS = "own_address"
    BANDWIDTH = "bandwidth"
    PEER_RATE = "peer_rate"
    REFLECTOR = "reflector"


class DataPath(Protocol):
    """A forwarding plane. A handle stands for one relayed transport address; expiries are monotonic seconds.

    Commands with the handle of a closed relay are a bug of the caller and raise KeyError.
    """

    @property
    def drops(self) -> Mapping[Drop, int]:
        """Packets that were not relayed, by the reason."""
        ...

    def open_relay(self, path: FiveTuple, address: RelayAddress, port: int, expires_at: float, circle: str = "") -> int:
        """Bind a relayed transport address for a client and return its handle.

        Relayed clients meet each other within one circle only; most are in the one without a name. Those in another
        one reach none of our own services, and carry no more than a connection test needs (`relay.trial.limits_of`).

        A second one of the other family joins the same client (RFC 8656 §7.2, dual allocation): its channel numbers
        are shared, permissions and expiry are not.

        Raises:
            PortTaken: somebody else holds the port.
            LookupError: the client has gone.
            OSError: the system has no such address, or nothing left.
        """
        ...

    def close_relay(self, handle: int) -> Traffic:
        """Stop relaying at once, give the port back to the system and return the final counters."""
        ...

    def move_client(self, handle: int, path: FiveTuple) -> None:
        """The client of this relay speaks from a new five-tuple from now on (RFC 8016); a dual one moves whole.

        If it is the old five-tuple, there is a new connection behind it.

        Raises:
            LookupError: the client has gone; nothing has changed.
        """
        ...

    def set_expiry(self, handle: int, expires_at: float) -> None:
        """Relay nothing for this relayed transport address from `expires_at` on."""
        ...

    def allow_peer(self, handle: int, ip: bytes, expires_at: float) -> None:
        """Install or refresh the permission for a peer's packed IP address (RFC 8656 §9)."""
        ...

    def forget_peer(self, handle: int, ip: bytes) -> None:
        """Remove a permission."""
        ...

    def bind_channel(self, handle: int, number: int, peer: TransportAddress, expires_at: float) -> None:
        """Bind a channel or refresh its binding (RFC 8656 §12); it also needs a live permission to carry data."""
        ...

    def unbind_channel(self, handle: int, number: int) -> None:
        """Remove a channel binding."""
        ...

    def send_to_peer(self, handle: int, data: bytes, peer: TransportAddress, *, dont_fragment: bool = False) -> None:
        """Relay one payload that came up as a Send indication of unusual shape; needs a live permission.

        With `dont_fragment` it leaves whole or not at all (RFC 8656 §14); a router that finds it too big is heard.
        """
        ...

    def traffic(self, handle: int) -> Traffic:
        """What has been relayed so far."""
        ...

    def totals(self) -> Mapping[Transport, Traffic]:
        """All traffic since the start by the client's transport, live relays included."""
        ...
