"""The socket with friends, strangers and hostile bytes; what the service does with it is in tests/processes."""

import asyncio
import json
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from config import ctl, ctl_server
from config.ctl import MAX_REQUEST_BYTES, SOCKET_NAME, CtlError, NoService, ask
from config.ctl_server import MAX_CLIENTS, BadRequest, CtlServer, CtlTaken


async def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"heard": request.get("word")}


async def refuse(_request: Mapping[str, Any]) -> dict[str, Any]:
    raise BadRequest("not like that")


async def fail(_request: Mapping[str, Any]) -> dict[str, Any]:
    raise ValueError("Erika Mustermann")


COMMANDS = {"answer": answer, "refuse": refuse, "fail": fail}


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[CtlServer]:
    server = CtlServer(folder, COMMANDS)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def ask_aside(folder: Path, command: str, **fields: object) -> ctl.Reply:
    return await asyncio.to_thread(partial(ask, folder, command, patience=10.0, **fields))


async def say(folder: Path, data: bytes) -> bytes:
    """Raw bytes, and all that comes back until the other side hangs up."""
    reader, writer = await asyncio.open_unix_connection(str(folder / SOCKET_NAME))
    writer.write(data)
    writer.write_eof()
    heard = await reader.read()
    writer.close()
    return heard


async def test_a_command_is_answered(tmp_path: Path) -> None:
    async with served(tmp_path):
        assert await ask_aside(tmp_path, "answer", word="hello") == {"heard": "hello"}


async def test_nobody_but_the_owner_can_open_the_socket(tmp_path: Path) -> None:
    async with served(tmp_path):
        assert stat.S_IMODE((tmp_path / SOCKET_NAME).stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / ctl_server.LOCK_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize(("user", "may"), [(0, True), (os.geteuid(), True), (os.geteuid() + 1, False)])
async def test_the_kernel_says_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, may: bool) -> None:  # noqa: FBT001
    class Claimed:
        """The other side as the kernel would tell it; a test cannot become somebody else."""

        size = struct.calcsize("3i")

        @staticmethod
        def unpack(_data: bytes) -> tuple[int, int, int]:
            return 1, user, 0

    monkeypatch.setattr(ctl_server, "_CREDENTIALS", Claimed)
    async with served(tmp_path):
        if may:
            assert await ask_aside(tmp_path, "answer") == {"heard": None}
        else:
            with pytest.raises(NoService, match="neither its user nor root"):
                await ask_aside(tmp_path, "answer")


async def test_one_client_may_ask_again_and_several_at_once(tmp_path: Path) -> None:
    async with served(tmp_path):
        request = json.dumps({"command": "answer", "word": 1}).encode() + b"\n"
        heard = await asyncio.gather(*(say(tmp_path, request * 2) for _ in range(4)))
        assert heard == [b'{"heard": 1}\n' * 2] * 4


async def test_beyond_the_bound_of_clients_nobody_is_heard_until_one_goes(tmp_path: Path) -> None:
    async with served(tmp_path):
        idle = [await asyncio.open_unix_connection(str(tmp_path / SOCKET_NAME)) for _ in range(MAX_CLIENTS)]
        with pytest.raises(CtlError):
            await ask_aside(tmp_path, "answer")
        for reader, writer in idle:
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
        assert await ask_aside(tmp_path, "answer") == {"heard": None}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"nonsense\n", "a request is a JSON object"),
        (b"[]\n", "a request is a JSON object"),
        (b"\xff\xfe\n", "a request is a JSON object"),
        (b"[" * 2000 + b"\n", "a request is a JSON object"),
        (b'{"command": 7}\n', "unknown command; there are answer, fail, refuse"),
        (b'{"command": "reboot"}\n', "unknown command"),
        (b'{"command": "refuse"}\n', "not like that"),
        (b"x" * (2 * MAX_REQUEST_BYTES) + b"\n", f"at most {MAX_REQUEST_BYTES} bytes"),
    ],
)
async def test_what_is_no_request_is_told(tmp_path: Path, data: bytes, told: str) -> None:
    async with served(tmp_path):
        assert told in json.loads(await say(tmp_path, data))["error"]


async def test_half_a_request_gets_no_answer(tmp_path: Path) -> None:
    async with served(tmp_path):
        assert await say(tmp_path, b'{"command": "answer"}') == b""


async def test_of_a_bug_no_more_than_its_kind_is_told(tmp_path: Path) -> None:
    async with served(tmp_path):
        with pytest.raises(CtlError, match=r"^this did not work: ValueError; the log says more$"):
            await ask_aside(tmp_path, "fail")


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET_NAME))
    async with served(tmp_path):
        assert await ask_aside(tmp_path, "answer") == {"heard": None}


async def test_two_services_never_share_one_and_the_first_keeps_it(tmp_path: Path) -> None:
    async with served(tmp_path):
        second = CtlServer(tmp_path, {})
        with pytest.raises(CtlTaken):
            await second.start()
        await second.stop()
        assert await ask_aside(tmp_path, "answer") == {"heard": None}


async def test_after_the_end_there_is_nobody_and_another_may_begin(tmp_path: Path) -> None:
    async with served(tmp_path):
        pass
    assert not (tmp_path / SOCKET_NAME).exists()
    with pytest.raises(NoService, match="nobody is at"):
        ask(tmp_path, "answer")
    async with served(tmp_path):
        assert await ask_aside(tmp_path, "answer") == {"heard": None}


async def test_whoever_waits_for_an_answer_gets_it_before_the_end(tmp_path: Path) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(_request: Mapping[str, Any]) -> dict[str, Any]:
        asked.set()
        await may_answer.wait()
        return {"done": True}

    server = CtlServer(tmp_path, {"slow": slow})
    await server.start()
    asking = asyncio.ensure_future(ask_aside(tmp_path, "slow"))
    await asked.wait()
    stopping = asyncio.ensure_future(server.stop())
    await asyncio.sleep(0)
    may_answer.set()
    await stopping
    assert await asking == {"done": True}


async def test_a_directory_with_a_long_name_has_a_socket_too(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120) / ("e" * 120)
    folder.mkdir(parents=True)
    async with served(folder):
        assert await ask_aside(folder, "answer") == {"heard": None}


def test_where_there_is_no_directory_there_is_no_service(tmp_path: Path) -> None:
    with pytest.raises(NoService, match="no service runs with this state_dir"):
        ask(tmp_path / "absent", "status")
