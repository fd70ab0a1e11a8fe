"""How many allocations one user may hold; counted in one place so that nothing leaks."""

from relay.errors import AllocationQuotaReached


class UserQuota:
    """Counts allocations by user name.

    A name without allocations is not remembered, so the table is bounded by the number of allocations.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[str, int] = {}

    def reserve(self, username: str) -> None:
        """Count one more allocation for this user; whoever reserves must release.

        Raises:
            AllocationQuotaReached: the user holds the limit already.
        """
        held = self._held.get(username, 0)
        if held >= self._limit:
            raise AllocationQuotaReached("user_quota")
        self._held[username] = held + 1

    def release(self, username: str) -> None:
        """Give back what `reserve` counted.

        Raises:
            KeyError: nothing is counted for this user.
        """
        held = self._held[username]
        if held == 1:
            del self._held[username]
        else:
            self._held[username] = held - 1

    def held(self, username: str) -> int:
        """Allocations counted for this user."""
        return self._held.get(username, 0)

    def __len__(self) -> int:
        return len(self._held)
