"""Attacks: a name, a code and an address in every place where input can get into a report. None may come out."""

import asyncio
import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from config.crash import MAX_ERRORS, MAX_FRAMES, describe_error, install_hooks, name_error, on_loop_failure
from config.logs import BoundedHandler, JsonFormatter, configure_logging
from config.schema import LogSettings
from config.state import StateError
from relay.io.listening import BindError
from tests.support.service import ROOT

NAME, CODE, ADDRESS = "Erika Mustermann", "0F8Y-VSHJ-6FBB", "198.51.100.77"
SECRETS = (NAME, "Mustermann", CODE, "0F8YVSHJ6FBB", ADDRESS)
INPUT = f"{NAME} {CODE} {ADDRESS} 0F8YVSHJ6FBB"


class CarriesInput(Exception):
    """As a parser's error does."""

    def __init__(self) -> None:
        super().__init__(INPUT)
        self.add_note(INPUT)
        self.line = INPUT


@pytest.fixture(params=["json", "console"])
def log(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What is written, at the level that says the most."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    configure_logging(LogSettings(format=request.param, level="debug"), stream)
    yield stream
    logging.captureWarnings(capture=False)
    root.handlers = handlers
    root.setLevel(level)


def raise_with_input() -> None:
    secret = INPUT  # a variable must not come out, either
    raise CarriesInput if secret else AssertionError


def caught(action: Callable[[], object]) -> BaseException:
    try:
        action()
    except BaseException as error:  # noqa: BLE001  # whatever it is, it is told
        return error
    raise AssertionError("nothing was raised")


def chained() -> None:
    try:
        raise_with_input()
    except CarriesInput as error:
        raise ValueError(INPUT) from error


def in_context() -> None:
    try:
        raise_with_input()
    except CarriesInput:
        int(INPUT)


def in_group() -> None:
    raise ExceptionGroup(INPUT, [CarriesInput(), ExceptionGroup(INPUT, [KeyError(INPUT)])])


def unreadable() -> None:
    compile(f"def {INPUT}", INPUT, "exec")


def decoding() -> None:
    f"{INPUT}ü".encode("ascii")


def reading() -> None:
    open(f"/absent/{INPUT}").close()  # noqa: PTH123


ACTIONS = (raise_with_input, chained, in_context, in_group, decoding, reading)


def holds_nothing(text: str) -> bool:
    return not any(secret in text for secret in SECRETS)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_traceback_tells_where_and_what_kind_but_not_what_of(log: io.StringIO, action: Callable[[], None]) -> None:
    error = caught(action)
    logging.getLogger("relay").error("it broke: %s %r", error, error, exc_info=error)
    logging.getLogger("relay").error(error)
    told = log.getvalue()
    assert holds_nothing(told)
    assert action.__name__ in told
    assert type(error).__qualname__ in told


def test_a_syntax_error_does_not_show_the_text_that_it_could_not_read(log: io.StringIO) -> None:
    logging.getLogger("relay").error("it broke", exc_info=caught(unreadable))
    assert holds_nothing(log.getvalue()) and "SyntaxError" in log.getvalue()


async def test_an_error_of_the_database_does_not_show_the_row(log: io.StringIO) -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT * FROM absent WHERE name = :name"), {"name": INPUT})
    except SQLAlchemyError as error:
        logging.getLogger("signaling").log(logging.ERROR, "the store failed: %r", error, exc_info=error)
    finally:
        await engine.dispose()
    assert holds_nothing(log.getvalue()) and "OperationalError" in log.getvalue()


async def fail() -> None:
    raise_with_input()


async def in_task() -> None:
    task = asyncio.ensure_future(fail())
    await asyncio.wait([task])
    del task


async def in_callback() -> None:
    asyncio.get_running_loop().call_soon(lambda _payload: raise_with_input(), INPUT)
    await asyncio.sleep(0)


async def in_protocol() -> None:
    class Broken(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise ValueError(data.decode())

    server = await asyncio.get_running_loop().create_server(Broken, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(INPUT.encode())
    await reader.read()
    writer.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("scene", [in_task, in_callback, in_protocol])
async def test_what_nobody_awaits_is_told_without_content(
    log: io.StringIO, scene: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    asyncio.get_running_loop().set_exception_handler(on_loop_failure)
    await scene()
    await asyncio.sleep(0)
    assert holds_nothing(log.getvalue()) and "failed: a bug" in log.getvalue()


async def test_a_report_of_the_loop_that_is_not_known_is_not_told(log: io.StringIO) -> None:
    on_loop_failure(asyncio.get_running_loop(), {"message": f"Exception in callback take({INPUT!r})"})
    on_loop_failure(asyncio.get_running_loop(), {"message": "Task was destroyed but it is pending!"})
    assert holds_nothing(log.getvalue())
    assert "something unknown" in log.getvalue() and "Task was destroyed" in log.getvalue()


def test_a_warning_is_told_by_its_place(log: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure_logging(LogSettings(), log)
        warnings.warn(INPUT, stacklevel=1)
    assert holds_nothing(log.getvalue()) and "UserWarning at " in log.getvalue()


def test_the_hooks_of_threads_and_finalizers_tell_no_content(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr("faulthandler.enable", lambda: None)
    monkeypatch.setattr("resource.setrlimit", lambda _limit, _values: None)
    install_hooks()

    class Unraisable:
        def __del__(self) -> None:
            raise_with_input()

    Unraisable()
    thread = threading.Thread(target=raise_with_input, name=INPUT)
    thread.start()
    thread.join()
    assert holds_nothing(log.getvalue())
    assert "an error where none can be raised" in log.getvalue() and "a thread failed" in log.getvalue()


def test_a_process_that_ends_by_a_bug_tells_no_content() -> None:
    script = (
        "from config.crash import install_hooks\nfrom config.logs import configure_logging\n"
        "from config.schema import LogSettings\nimport sys\n"
        "install_hooks()\nconfigure_logging(LogSettings())\n"
        "def take(text): raise ValueError(text)\ntake(sys.stdin.read())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], input=INPUT, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert ended.returncode == 1
    assert holds_nothing(ended.stderr) and "the process ends: a bug" in ended.stderr and "in take" in ended.stderr


def test_a_line_that_cannot_be_written_is_told_without_what_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    logger = logging.Logger("relay")  # noqa: LOG001  # pytest's own handlers would raise
    handler = BoundedHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.warning("%d is no number", INPUT)
    assert stream.getvalue() == "a line of relay could not be logged: TypeError\n"
    assert capsys.readouterr().err == ""
    handler.close()


def test_a_process_that_is_killed_by_a_fault_leaves_no_image_of_its_memory() -> None:
    script = (
        "from config.crash import install_hooks\nimport os, resource, signal, sys\n"
        "install_hooks()\nsecret = sys.stdin.read()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], input=INPUT, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert ended.stdout == "(0, 0)\n"
    assert holds_nothing(ended.stderr) and "Segmentation fault" in ended.stderr


def test_an_address_in_a_message_is_cut_to_its_network(log: io.StringIO) -> None:
    logging.getLogger("relay").warning("from %s", ADDRESS)
    assert ADDRESS not in log.getvalue() and "198.51.100.0/24" in log.getvalue()


@pytest.mark.parametrize("kind", [StateError, BindError])
def test_what_is_written_for_the_operator_is_told(kind: type[Exception]) -> None:
    assert name_error(kind("port 3478 is taken")) == "port 3478 is taken"


def test_of_an_error_of_the_system_the_reason_is_told_and_not_the_file() -> None:
    assert name_error(FileNotFoundError(2, "No such file", INPUT)) == "FileNotFoundError: No such file or directory"
    assert name_error(OSError(INPUT)) == "OSError"


def test_a_report_is_bounded() -> None:
    def deep(left: int) -> None:
        if not left:
            raise_with_input()
        deep(left - 1)

    error = caught(lambda: deep(200))
    assert describe_error(error).count("  File ") == MAX_FRAMES
    many = ExceptionGroup("", [ValueError() for _ in range(100)])
    assert describe_error(many).count("Traceback") == MAX_ERRORS


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert describe_error(first).count("Traceback") == 2


def test_json_stays_one_object_a_line(log: io.StringIO) -> None:
    logging.getLogger("relay").error("it broke", exc_info=caught(in_group))
    lines = log.getvalue().splitlines()
    if lines[0].startswith("{"):
        assert len(lines) == 1 and "CarriesInput" in json.loads(lines[0])["exception"]
