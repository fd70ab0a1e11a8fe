"""How many relayed ports one user may hold, in allocations and reservations; counted so that nothing leaks."""

from relay.errors import AllocationQuotaReached


class UserQuota:
    """Counts relayed ports by user name.

    A name without ports is not remembered, so the table is bounded by the number of ports.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[str, int] = {}

    def reserve(self, username: str, count: int = 1) -> None:
        """Count more ports for this user, all or none; whoever reserves must release each.

        Raises:
            AllocationQuotaReached: the user would hold more than the limit.
        """
        held = self._held.get(username, 0)
        if held + count > self._limit:
            raise AllocationQuotaReached("user_quota")
        self._held[username] = held + count

    def release(self, username: str) -> None:
        """Give back one port that `reserve` counted.

        Raises:
            KeyError: nothing is counted for this user.
        """
        held = self._held[username]
        if held == 1:
            del self._held[username]
        else:
            self._held[username] = held - 1

    def held(self, username: str) -> int:
        """Ports counted for this user."""
        return self._held.get(username, 0)

    def __len__(self) -> int:
        return len(self._held)
