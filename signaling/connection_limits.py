"""How many connections there may be, and how many from one address: counted before anything is read from them."""

from collections import Counter


class TooManyConnections(Exception):
    """There is no room for one more connection, or none for one more of its address."""


class ConnectionLimits:
    """Counts open connections. An address without one is not remembered."""

    def __init__(self, total: int, per_address: int) -> None:
        """Begin with none.

        Args:
            total: connections of all addresses together.
            per_address: connections of one address.
        """
        self._total = total
        self._per_address = per_address
        self._open: Counter[bytes] = Counter()
        self._count = 0
        self.refused = 0  # since the start

    def configure(self, per_address: int) -> None:
        """Take another bound into use; what is open stays open."""
        self._per_address = per_address

    @property
    def total(self) -> int:
        """Connections that there may be."""
        return self._total

    def __len__(self) -> int:
        """Connections that count now."""
        return self._count

    def enter(self, address: bytes, *, is_shared: bool = False) -> None:
        """Count a connection in; whoever enters must leave.

        Args:
            address: whom to count it for, from `address_key`.
            is_shared: it stands for many clients, as a reverse proxy does, and only the bound of all holds.

        Raises:
            TooManyConnections: it must be closed, and does not count.
        """
        is_too_many = not is_shared and self._open[address] >= self._per_address
        if self._count >= self._total or is_too_many:
            self.refused += 1
            raise TooManyConnections
        self._open[address] += 1
        self._count += 1

    def leave(self, address: bytes) -> None:
        """Count a connection out.

        Raises:
            KeyError: none of this address is counted in.
        """
        left = self._open[address] - 1
        if left < 0:
            raise KeyError(address)
        self._count -= 1
        if left:
            self._open[address] = left
        else:
            del self._open[address]
