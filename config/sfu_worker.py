"""A worker of the SFU: a process with a UDP port of its own, and the conferences that the supervisor gives it."""

import asyncio
import signal

from config.channel import Channel, Message
from config.logs import configure_logging
from config.schema import LogSettings
from config.sfu import LocalSfu
from config.sfu_messages import decode_command, encode_said
from config.worker import Worker, serve
from sfu.settings import SfuSettings
from signaling.conference_media import MediaMessage


class SfuWorker(Worker):
    """Forwards the media of its conferences."""

    def __init__(self, number: int, channel: Channel) -> None:
        super().__init__(number, channel, "redconnect_sfu_worker_event_loop_lag_seconds")
        self._sfu: LocalSfu | None = None

    async def _start(self, message: Message) -> Message:
        self._configure_logging(message)
        sfu = LocalSfu(SfuSettings.model_validate(message["sfu"]), self._registry, self._tell, self._number)
        try:
            await sfu.start()
        except OSError as error:
            return {"failed": str(error)}
        self._sfu = sfu
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._channel.send, {"retires": True})
        return {}

    async def _obey(self, message: Message) -> Message | None:
        match message:
            case {"command": "media", "order": order} if self._sfu is not None:
                decode_command(order).carry_out(self._sfu.media)
                return {}
            case {"command": "ping"} if self._sfu is not None:
                return {"ready": self._sfu.ready, "load": self._sfu.members}
            case {"command": "reload"}:
                self._configure_logging(message)
                return {}
        return None

    async def _stop(self) -> None:
        if self._sfu is not None:
            await self._sfu.stop()

    def _tell(self, room: bytes, pid: str, message: MediaMessage) -> None:
        self._channel.send({"said": encode_said(room, pid, message)})

    def _configure_logging(self, message: Message) -> None:
        configure_logging(LogSettings.model_validate(message["log"]), process=f"SFU worker {self._number}")


def main(number: int, descriptor: int) -> None:
    """Run a worker of the SFU; `descriptor` is its end of the channel to the supervisor."""
    serve(SfuWorker, number, descriptor)
