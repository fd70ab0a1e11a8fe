"""How often the interpreter looks for garbage that reference counting did not free."""

import gc
from typing import Final

_YOUNG: Final = 50_000  # new containers before a look; the interpreter's own default is 700


def spare_the_collector() -> None:
    """Look for cycles rarely, and never among what has been there from the start; to be called when all is built.

    Whatever a client brings is freed by counting references. With the defaults of the interpreter the collector would
    walk over every allocation after some ten thousand new ones, and every packet would wait for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 50, 100)
