"""What one allocation may carry per second: token buckets, kept as the instant at which each is full again.

A batch that finds its bucket not empty passes whole, even if it overdraws it; what follows waits until that is paid
back. So a batch costs one comparison and one addition, and the long-run rate is exact.
"""

from typing import Final

from relay.datapath import Limits

BURST_SECONDS: Final = 1.0  # how much unused time a bucket keeps


class Rates:
    """`Limits` as the packet path wants them: how long each unit takes, in seconds; 0.0 without a limit.

    One object serves all relays, so that new limits hold for all of them at once.
    """

    __slots__ = ("seconds_per_byte", "seconds_per_packet")

    def __init__(self, limits: Limits) -> None:
        self.set(limits)

    def set(self, limits: Limits) -> None:
        """Change the limits; what was overdrawn before remains to be paid back."""
        self.seconds_per_byte = 1.0 / limits.bytes_per_second if limits.bytes_per_second else 0.0
        self.seconds_per_packet = 1.0 / limits.packets_per_second if limits.packets_per_second else 0.0
