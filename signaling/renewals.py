"""Whose TURN credentials are to be renewed, and when: a bounded number at a time, however many fall due together."""

import heapq

MAX_RENEWALS_AT_ONCE = 64
RENEWAL_PAUSE_SECONDS = 0.01  # between so many and the next: blobs need not wait for a thousand credentials
SPARE_ENTRIES = 64  # besides as many as there are clients, of those who have gone


class Renewals:
    """One instant for each client."""

    def __init__(self) -> None:
        self._due: dict[int, float] = {}
        # A heap. An entry counts as long as `_due` says the same; the others are thrown out now and then.
        self._order: list[tuple[float, int]] = []
        self._rests_until = 0.0

    def __len__(self) -> int:
        return len(self._due)

    def schedule(self, client: int, at: float) -> None:
        """Let a client be due at `at` (monotonic seconds), instead of any earlier wish."""
        self._due[client] = at
        heapq.heappush(self._order, (at, client))
        if len(self._order) > 2 * len(self._due) + SPARE_ENTRIES:
            self._order = [(at, client) for client, at in self._due.items()]
            heapq.heapify(self._order)

    def forget(self, client: int) -> None:
        """Let a client never be due."""
        self._due.pop(client, None)

    def take(self, now: float) -> list[int]:
        """Take out who is due, the first ones first, at most `MAX_RENEWALS_AT_ONCE`."""
        taken: list[int] = []
        while len(taken) < MAX_RENEWALS_AT_ONCE and (at := self.next_at()) is not None and at <= now:
            _, client = heapq.heappop(self._order)
            del self._due[client]
            taken.append(client)
        if len(taken) == MAX_RENEWALS_AT_ONCE:
            self._rests_until = now + RENEWAL_PAUSE_SECONDS
        return taken

    def next_at(self) -> float | None:
        """The instant at which `take` has something to give; None if nobody is to be renewed."""
        while self._order and self._due.get(self._order[0][1]) != self._order[0][0]:
            heapq.heappop(self._order)
        return max(self._order[0][0], self._rests_until) if self._order else None
