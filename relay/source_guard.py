"""How often strangers are answered: a rate for each source, in a table that nobody can fill.

A challenge (401, 438) or a refusal (400) over UDP goes to an address that may be forged, and nothing but its sender's
upload limits how many are asked for. So each source gets so many per second and no more: a forged one is worth less to
an attacker than the attack costs.

The table has a fixed number of cells, and a source counts in two of them, chosen by a keyed hash (a count-min sketch of
token buckets). Nothing is ever evicted, so no flood of forged sources frees a noisy one, and none keeps a good one out
for long: each forged request spends one token of two cells out of 65,536. A source is refused for another's noise
only if both its cells are shared with noisy ones: with 1,000 noisy sources at once that happens to one in a thousand.
"""

from array import array
from typing import Final

MAX_CELLS: Final = 65_536  # token buckets; 8 bytes each
_ROUNDING_SECONDS: Final = 1e-6  # the last token of a burst must not get lost in a float


class SourceGuard:
    """Token buckets by source prefix: /32 for IPv4, /56 (what one subscriber gets) for IPv6.

    A bucket is remembered as the instant when it will be full again. What is refused costs no token, so a source
    that goes on asking is let in again at its rate.
    """

    __slots__ = ("_cells", "_interval", "_mask", "_room", "_salt", "refused")

    def __init__(self, salt: bytes, *, per_second: float = 50.0, burst: int = 500, cells: int = MAX_CELLS) -> None:
        """Build a guard that lets everybody in at first.

        Args:
            salt: random bytes of this process, at least 8, so that nobody can aim at the cells of another.
            per_second: answers to one source in the long run.
            burst: answers to one source at once: a hospital behind one NAT at nine o'clock.
            cells: size of the table, a power of two.

        Raises:
            ValueError: one of the arguments is out of bounds.
        """
        if len(salt) < 8:
            raise ValueError("a salt has at least 8 bytes")
        if per_second <= 0.0 or burst < 1:
            raise ValueError("a rate lies above zero")
        if not 1 <= cells <= MAX_CELLS or cells & (cells - 1):
            raise ValueError(f"the number of cells is a power of two up to {MAX_CELLS}")
        self._salt = salt
        self._interval = 1.0 / per_second
        self._room = (burst - 1) / per_second + _ROUNDING_SECONDS  # how far ahead the bucket may be filled, in seconds
        self._cells = array("d", (-1e18,)) * cells
        self._mask = cells - 1
        self.refused = 0  # requests that got no answer

    def admit(self, ip: bytes, now: float) -> bool:
        """Whether this source may be answered once more; if so, the answer is counted.

        To be asked before an unauthenticated source is answered over UDP; without admission the request is dropped.

        Args:
            ip: packed source address.
            now: monotonic time, in seconds.
        """
        cells, mask = self._cells, self._mask
        hashed = hash(self._salt + (ip if len(ip) == 4 else ip[:7]))
        first, second = hashed & mask, hashed >> 32 & mask
        one, other = cells[first], cells[second]
        full_at = one if one < other else other  # noqa: FURB136  # a call of min costs as much as the rest
        if full_at > now + self._room:
            self.refused += 1
            return False
        full_at = (full_at if full_at > now else now) + self._interval  # noqa: FURB136
        if one < full_at:
            cells[first] = full_at
        if other < full_at:
            cells[second] = full_at
        return True
