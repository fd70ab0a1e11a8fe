"""What the assembly drives without knowing whether it is one process or many."""

from typing import TYPE_CHECKING, Protocol

from config.schema import Settings
from config.state import State

if TYPE_CHECKING:
    from signaling.conference_media import ConferenceMedia


class Relay(Protocol):
    """The relay of this machine, in this process or in many."""

    @property
    def ready(self) -> bool:
        """Whether new clients are welcome."""
        ...

    @property
    def allocations(self) -> int:
        """Live allocations."""
        ...

    @property
    def ports_left(self) -> int:
        """Relayed ports that may still be taken, of the family that has the fewest."""
        ...

    def worker_of(self, port: int) -> int:
        """Which of its processes relays at a port; 0 if there is one only.

        Raises:
            LookupError: it is no relayed port.
        """
        ...

    async def drain(self) -> None:
        """Refuse new allocations from now on."""
        ...

    async def reload(self, settings: Settings, state: State) -> None:
        """Take other settings and secrets into use, or change nothing.

        Raises:
            ReloadFailed: they are unfit.
        """
        ...

    async def stop(self) -> None:
        """Close everything."""
        ...


class Sfu(Protocol):
    """The SFU of this machine, in this process or in many."""

    @property
    def media(self) -> "ConferenceMedia":
        """The SFU as the rooms drive it."""
        ...

    @property
    def ready(self) -> bool:
        """Whether new conferences are welcome."""
        ...

    @property
    def members(self) -> int:
        """People in conferences."""
        ...

    def drain(self) -> None:
        """Let no conference begin any more."""
        ...

    async def reload(self, settings: Settings) -> None:
        """Take other settings into use, as far as that needs no restart."""
        ...

    async def stop(self) -> None:
        """End all connections."""
        ...
