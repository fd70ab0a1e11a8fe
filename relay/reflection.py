"""How much may be sent to an address that has not proved that it asked.

Over UDP the source of a request may be forged, so every answer to a stranger can be aimed at somebody else. Whoever
does that must not gain much: no unauthenticated answer is larger than three times its request, counted in UDP payload.
Binding, as browsers send it, stays at 1.6 over IPv4 and at 2.2 over IPv6, where an address is 12 bytes longer. The
tests measure the factor of every message type (tests/support/reflection.py) and hold the server to these bounds.
"""

from typing import Final

MAX_FACTOR: Final = 3  # bytes sent per byte received, for any unauthenticated request over UDP


def is_within_budget(answer: bytes, request: bytes) -> bool:
    """Whether this answer may be sent to an address that may be forged."""
    return len(answer) <= MAX_FACTOR * len(request)
