"""How many relayed ports one holder may have, in allocations and reservations; counted so that nothing leaks."""

from relay.errors import AllocationQuotaReached


class UserQuota:
    """Counts relayed ports by holder: a user of a realm, or all users of a realm together.

    A holder without ports is not remembered, so the table is bounded by the number of ports.
    """

    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    def reserve(self, holder: str, limit: int, count: int = 1) -> None:
        """Count more ports for this holder, all or none; whoever reserves must release each.

        Raises:
            AllocationQuotaReached: the holder would have more than the limit.
        """
        held = self._held.get(holder, 0) + count
        if held > limit:
            raise AllocationQuotaReached("user_quota")
        self._held[holder] = held

    def release(self, holder: str, count: int = 1) -> None:
        """Give back ports that `reserve` counted.

        Raises:
            KeyError: fewer are counted for this holder.
        """
        left = self._held[holder] - count
        if left < 0:
            raise KeyError(holder)
        if left:
            self._held[holder] = left
        else:
            del self._held[holder]

    def held(self, holder: str) -> int:
        """Ports counted for this holder."""
        return self._held.get(holder, 0)

    def __len__(self) -> int:
        return len(self._held)
