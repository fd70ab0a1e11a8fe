"""Builds the SFU of this process, and joins it to the conference rooms of the signaling: neither knows the other."""

import ipaddress
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry

from config.schema import Settings
from config.sfu_addresses import sfu_addresses
from sfu import conference_messages as ours
from sfu.io.service import SfuService
from sfu.settings import SfuSettings
from signaling import conference_media as theirs

_LOGGER: Final = logging.getLogger(__name__)


class LocalSfu:
    """The SFU of this process."""

    def __init__(self, settings: SfuSettings, registry: CollectorRegistry, tell: theirs.Tell, worker: int = 0) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            settings: of the SFU.
            registry: where the metrics go.
            tell: hears what participants are to be told.
            worker: which of `settings.workers` this process is; each has its own port.
        """
        self._tell = tell
        self._addresses = sfu_addresses(settings, worker)
        self._service = SfuService(settings, self._addresses, registry, self._on_said)
        self.media: Final[theirs.ConferenceMedia] = _Media(self._service)

    @property
    def ready(self) -> bool:
        """Whether new conferences are welcome."""
        return self._service.ready

    @property
    def members(self) -> int:
        """People in conferences."""
        return self._service.members

    async def start(self) -> None:
        """Bind the port.

        Raises:
            OSError: it is taken, or an address is not ours; the message tells what to look at.
        """
        try:
            await self._service.start()
        except OSError as error:
            port = self._addresses[0].bound.port
            raise OSError(
                f"cannot listen on UDP port {port} for conferences: {os.strerror(error.errno or 0)};"
                " check sfu.udp_port and sfu.listen_addresses"
            ) from error
        told = [ipaddress.ip_address(address.advertised[0].ip) for address in self._addresses]
        if any(each.is_private and not each.is_loopback for each in told):
            _LOGGER.warning(
                "an address of the SFU is private: clients outside this network reach it through the relay only;"
                " behind a NAT set sfu.external_addresses"
            )

    def drain(self) -> None:
        """Let no conference begin any more."""
        self._service.drain()

    async def reload(self, settings: Settings) -> None:
        """All that this process has of other settings is taken into use elsewhere."""

    async def stop(self) -> None:
        """End all connections and close the port."""
        await self._service.stop()

    def _on_said(self, room: bytes, pid: str, said: ours.Said) -> None:
        self._tell(room, pid, _to_theirs(said))


class _Media:
    """The SFU as the rooms see it."""

    def __init__(self, service: SfuService) -> None:
        self._service = service

    def enter(self, room: bytes, pid: str) -> None:
        self._service.enter(room, pid)

    def leave(self, room: bytes, pid: str) -> None:
        self._service.leave(room, pid)

    def publish(self, room: bytes, pid: str, sdp: str, version: int, sources: Mapping[str, theirs.Source]) -> None:
        named = {mid: ours.Source(source.value) for mid, source in sources.items()}
        self._service.publish(room, pid, sdp, version, named)

    def subscribed(self, room: bytes, pid: str, sdp: str, version: int) -> None:
        self._service.subscribed(room, pid, sdp, version)

    def want(self, room: bytes, pid: str, wishes: Sequence[theirs.Wish]) -> None:
        wanted = [
            ours.Wish(wish.pid, ours.Source(wish.source.value), wish.visible, wish.width, wish.height, wish.pinned)
            for wish in wishes
        ]
        self._service.want(room, pid, wanted)

    def restart(self, room: bytes, pid: str) -> None:
        self._service.restart(room, pid)


def _to_theirs(said: ours.Said) -> theirs.MediaMessage:
    match said:
        case ours.Published(sdp=sdp, version=version):
            return theirs.Published(sdp, version)
        case ours.Subscribe(sdp=sdp, version=version, tracks=tracks):
            named = {mid: theirs.TrackName(pid, theirs.Source(source.value)) for mid, (pid, source) in tracks.items()}
            return theirs.Subscribe(sdp, version, named)
        case ours.Speakers(pids=pids):
            return theirs.Speakers(pids)
        case ours.Layers(unwanted=unwanted):
            return theirs.Layers(unwanted)
        case ours.MediaState(side=side, state=state, reason=reason):
            return theirs.MediaState(theirs.Side(side.value), theirs.ConnectionState(state.value), reason)
