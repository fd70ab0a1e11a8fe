"""Channel bindings: a number that stands for a peer in both directions (RFC 8656 §12)."""

from typing import Final

from stun.address import TransportAddress

LIFETIME: Final = 600.0  # seconds (RFC 8656 §12)


class ChannelBinding:
    """Ties a channel number to a peer's transport address until it expires."""

    __slots__ = ("expires_at", "number", "peer")

    def __init__(self, number: int, peer: TransportAddress, expires_at: float) -> None:
        self.number = number
        self.peer = peer
        self.expires_at = expires_at
