import os

import pytest

from relay.io.entropy import Entropy


def test_pieces_have_the_wished_size_and_never_come_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []
    genuine = os.urandom

    def urandom(size: int) -> bytes:
        drawn.append(genuine(size))
        return drawn[-1]

    monkeypatch.setattr(os, "urandom", urandom)
    entropy = Entropy()
    sizes = [4, 4, 4000, 90, 4096, 1, 0]
    pieces = [entropy(size) for size in sizes]
    assert [len(piece) for piece in pieces] == sizes
    whole = b"".join(drawn)
    at = 0
    for piece in pieces:
        at = whole.index(piece, at) + len(piece)  # behind all that was given before
    assert len(drawn) == 4
