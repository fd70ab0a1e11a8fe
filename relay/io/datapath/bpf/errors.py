"""What can be wrong with the kernel's share of the forwarding plane."""

from typing import ClassVar


class OffloadUnavailable(Exception):
    """This machine, kernel or process cannot have it; the message is one line that says why."""

    is_for_operator: ClassVar = True  # what it says is about the machine


class OffloadFailed(Exception):
    """The kernel refused what it should not refuse: what stands in its tables is not known any more."""

    is_for_operator: ClassVar = True


class FlowRefused(Exception):
    """This one flow stays in user space; everything else goes on."""


class TableFull(FlowRefused):
    """There is no room for another flow."""


class Unroutable(FlowRefused):
    """No way leads to the destination, or the way leads back to this machine."""
