"""What a conference knows of the layers of a track: their size and cost."""

from collections.abc import Sequence
from typing import Final

from sfu.allocator import Layer

# The full size of a camera, in pixels: descriptions do not tell it, and the pages ask for this one. Each smaller layer
# has half of it (docs/conferences.md, Media).
FULL_WIDTH: Final = 1280
FULL_HEIGHT: Final = 720
# What a layer is taken to cost before it was measured, bits per second: half a second is long without a picture.
NOMINAL: Final = {"q": 150_000.0, "h": 500_000.0, "f": 1_500_000.0}
NOMINAL_ALONE: Final = 200_000.0  # of a track without layers, whose sender begins slowly
NOMINAL_SOUND: Final = 32_000.0
# Sound is forwarded whatever a path carries: who called a flood sound would fill the paths of all others. A voice has a
# quarter of this, also if it is sent twice for the sake of loss.
MAX_SOUND: Final = 256_000.0
STOPPED: Final = 0.5  # a layer that carries less than so much of the smaller one is not being sent any more


def layers_of(rids: Sequence[str], measured: Sequence[Sequence[float]], seen: set[int] | None) -> tuple[Layer, ...]:
    """The layers of a picture, for the allocation.

    Args:
        rids: from the smallest to the largest; empty without simulcast.
        measured: bits per second of each layer, up to each temporal layer; nothing for one that is not measured.
        seen: layers that are being sent; None if none ever was. Then the smallest one is on its way: whoever waits for
            it gets its first key frame.
    """
    last = max(len(rids), 1) - 1
    layers: list[Layer] = []
    below = 0.0
    for index in range(last + 1):
        bitrates = tuple(measured[index]) if index < len(measured) else ()
        if bitrates:
            if bitrates[-1] < below * STOPPED:
                bitrates = ()
            else:
                below = bitrates[-1]
        elif (index == 0) if seen is None else (index in seen):
            bitrates = (NOMINAL.get(rids[index], NOMINAL_ALONE) if rids else NOMINAL_ALONE,)
        shift = last - index
        layers.append(Layer(bitrates, FULL_WIDTH >> shift, FULL_HEIGHT >> shift))
    return tuple(layers)


def unwanted_rids(rids: Sequence[str], in_use: int | None) -> tuple[str, ...]:
    """Which layers need not be sent.

    Args:
        rids: from the smallest to the largest.
        in_use: the largest layer that somebody has use for; None: nobody looks.
    """
    return tuple(rids) if in_use is None else tuple(rids[in_use + 1 :])
