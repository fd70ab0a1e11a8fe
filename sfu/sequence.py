"""Numbers that wrap on the wire, counted on: sequence numbers, timestamps, picture ids (RFC 3550 §A.1)."""


def extend(value: int, reference: int, bits: int = 16) -> int:
    """The number nearest to `reference` whose low `bits` are those of `value`.

    It is negative for one that lies before a `reference` in the first cycle. Exactly half a cycle away it is before.
    """
    half = 1 << bits - 1
    return reference + ((value - reference + half) & (half << 1) - 1) - half


def is_newer(value: int, than: int, bits: int = 16) -> bool:
    """Whether a number comes after another one of the same width, by the shorter way round."""
    return 0 < (value - than & (1 << bits) - 1) < 1 << bits - 1
