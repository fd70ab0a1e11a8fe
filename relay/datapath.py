"""The contract between the control plane, which decides, and a forwarding plane, which moves the bytes.

The control plane is the only writer. A forwarding plane relays what it was told to relay until the expiry it was
told, and hands everything that it does not know up to the control plane.
"""

import operator
from typing import Final, NamedTuple, Protocol

from relay.five_tuple import FiveTuple
from stun.address import TransportAddress


class Traffic(NamedTuple):
    """Payload relayed for one allocation; bytes count the UDP payload that the peer sends or receives."""

    packets_to_peer: int
    bytes_to_peer: int
    packets_to_client: int
    bytes_to_client: int

    def plus(self, other: "Traffic") -> "Traffic":
        """Both together."""
        return Traffic(*map(operator.add, self, other))


NO_TRAFFIC: Final = Traffic(0, 0, 0, 0)


class RelayAddress(NamedTuple):
    """An IP address that relayed transport addresses live on, as bound and as peers see it (one-to-one NAT)."""

    bound: bytes  # packed
    advertised: bytes  # packed, of the same family


class DataPath(Protocol):
    """A forwarding plane. A handle stands for one relayed transport address; expiries are monotonic seconds.

    Commands with the handle of a closed relay are a bug of the caller and raise KeyError.
    """

    def open_relay(self, path: FiveTuple, address: RelayAddress, port: int, expires_at: float) -> int:
        """Bind a relayed transport address for a client and return its handle.

        Raises:
            PortTaken: somebody else holds the port.
        """
        ...

    def close_relay(self, handle: int) -> Traffic:
        """Stop relaying at once, give the port back to the system and return the final counters."""
        ...

    def set_expiry(self, handle: int, expires_at: float) -> None:
        """Relay nothing for this allocation from `expires_at` on."""
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

    def send_to_peer(self, handle: int, data: bytes, peer: TransportAddress) -> None:
        """Relay one payload that came up as a Send indication of unusual shape; needs a live permission."""
        ...

    def counters(self, handle: int) -> Traffic:
        """What has been relayed so far."""
        ...
