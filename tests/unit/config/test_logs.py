import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.log_volume import LINES_AT_ONCE
from config.logs import (
    MAX_EXCEPTION_CHARACTERS,
    MAX_MESSAGE_CHARACTERS,
    BoundedHandler,
    configure_logging,
    redact_address,
    redact_text,
)
from config.schema import LogSettings

LOGGERS = ("", "asyncio", "aiohttp.server", "aiohttp.access", "aiosqlite", "sqlalchemy", "py.warnings")


@pytest.fixture(autouse=True)
def _with_logging_restored() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield
    logging.captureWarnings(capture=False)
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def logged(settings: LogSettings) -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    configure_logging(settings, stream)
    return logging.getLogger("relay"), stream


def fail(message: str) -> None:
    raise RuntimeError(message)


def objects(stream: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("198.51.100.77", "198.51.100.0/24"),
        ("2001:db8:1234:5678::9", "2001:db8:1234::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("::ffff:198.51.100.77", "198.51.100.0/24"),
        ("127.0.0.1", "127.0.0.1"),
        ("::", "::"),
        (bytes([198, 51, 100, 77]), "198.51.100.0/24"),
        (b"\x20\x01" + bytes(14), "2001::/48"),
        ("praxis.example", "unknown"),
        (b"abc", "unknown"),
    ],
)
def test_an_address_is_cut_to_its_network(ip: str | bytes, network: str) -> None:
    assert redact_address(ip) == network


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_no_address_survives_in_a_text(address: object) -> None:
    redacted = redact_address(str(address))
    text = "('{0}', 4711) [{0}]:443 ip={0}, turn:{0} http://{0}/x {0}: gone {0}/tcp <{0}> {0}."
    assert redact_text(text.format(address)) == text.format(redacted)


def test_an_address_behind_a_hexadecimal_word_is_redacted() -> None:
    assert redact_text("dead:198.51.100.77") == "dead:198.51.100.0/24"


def test_a_host_with_a_prefix_length_is_redacted() -> None:
    assert redact_text("198.51.100.77/32 2001:db8::1/128") == "198.51.100.0/24 2001:db8::/48"


@pytest.mark.parametrize(
    "text",
    ["at 12:30:45", "192.0.2.0/24", "relay.io.udp: up", "1.2.3.4.5", "a:b:c", "a:", "300.1.1.1"],
)
def test_what_is_no_address_stays_as_it_is(text: str) -> None:
    assert redact_text(text) == text


def test_redacting_twice_changes_nothing() -> None:
    once = redact_text("peer 198.51.100.77 and 2001:db8::1")
    assert once == "peer 198.51.100.0/24 and 2001:db8::/48"
    assert redact_text(once) == once


def test_json_is_one_object_per_line() -> None:
    logger, stream = logged(LogSettings(format="json"))
    logger.info("call\nended for %r", "198.51.100.77")
    (entry,) = objects(stream)
    assert entry["level"] == "info"
    assert entry["logger"] == "relay"
    assert entry["message"] == "call\\nended for '198.51.100.0/24'"
    assert entry["time"].endswith("Z")


def test_an_exception_is_one_field_and_redacted() -> None:
    logger, stream = logged(LogSettings(format="json"))
    try:
        fail("lost 198.51.100.77")
    except RuntimeError:
        logger.exception("it broke")
    (entry,) = objects(stream)
    assert entry["message"] == "it broke"
    assert entry["exception"].startswith("Traceback")
    assert entry["exception"].endswith("\nRuntimeError")


def test_long_values_are_cut() -> None:
    logger, stream = logged(LogSettings(format="json"))
    try:
        fail("y" * 100_000)
    except RuntimeError:
        logger.exception("x" * 100_000)
    (entry,) = objects(stream)
    assert len(entry["message"]) < MAX_MESSAGE_CHARACTERS + 40
    assert len(entry["exception"]) < MAX_EXCEPTION_CHARACTERS + 40


def test_console_lines_are_for_people() -> None:
    logger, stream = logged(LogSettings(format="console"))
    logger.warning("listening")
    line = stream.getvalue()
    assert line.endswith(" warning  relay: listening\n")
    assert "\x1b" not in line


def test_a_line_break_from_outside_cannot_forge_a_line() -> None:
    logger, stream = logged(LogSettings(format="console"))
    logger.info("name %s", "x\n12:00:00 info     relay: all is well\x1b[2J")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_a_traceback_on_the_console_is_indented() -> None:
    logger, stream = logged(LogSettings(format="console"))
    try:
        fail("broken")
    except RuntimeError:
        logger.exception("it broke")
    assert stream.getvalue().splitlines()[-1] == "    RuntimeError"


def test_levels_below_the_configured_one_are_silent() -> None:
    logger, stream = logged(LogSettings(level="warning"))
    logger.info("hello")
    assert stream.getvalue() == ""


def test_the_loggers_of_libraries_are_routed_and_the_access_log_is_off() -> None:
    _, stream = logged(LogSettings(format="json", level="debug"))
    logging.getLogger("asyncio").warning("slow callback")
    logging.getLogger("aiohttp.server").error("bad request")
    logging.getLogger("aiohttp.access").info("GET /")
    logging.getLogger("aiosqlite").debug("INSERT a code")
    assert [entry["logger"] for entry in objects(stream)] == ["asyncio", "aiohttp.server"]


def test_configuring_twice_does_not_double_the_lines() -> None:
    logged(LogSettings())
    logger, stream = logged(LogSettings())
    logger.info("once")
    assert stream.getvalue().count("once") == 1


@given(st.text(max_size=200))
def test_any_message_becomes_one_line_of_json(text: str) -> None:
    logger, stream = logged(LogSettings(format="json"))
    logger.info("%s", text)
    assert len(objects(stream)) == 1


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_line_names_its_process_if_there_are_several(form: Literal["console", "json"]) -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format=form), stream, "worker 3")
    logging.getLogger("relay").info("relay ready")
    if form == "json":
        assert objects(stream)[0]["process"] == "worker 3"
    else:
        assert stream.getvalue().endswith("info     worker 3 relay: relay ready\n")


@pytest.fixture
def bounded() -> Iterator[tuple[logging.Logger, BoundedHandler, io.StringIO]]:
    """A logger whose handler has a clock that stands still."""
    stream = io.StringIO()
    handler = BoundedHandler(stream, clock=lambda: 0.0)
    logger = logging.Logger("relay")  # noqa: LOG001  # one that nothing else configures
    logger.addHandler(handler)
    yield logger, handler, stream
    handler.close()


def test_a_flood_is_cut_off_and_counted(bounded: tuple[logging.Logger, BoundedHandler, io.StringIO]) -> None:
    logger, handler, stream = bounded
    for number in range(LINES_AT_ONCE + 50):
        logger.warning("a stranger knocks: %d", number)
    logger.warning("something else")
    handler.tell_suppressed()
    lines = stream.getvalue().splitlines()
    assert lines[LINES_AT_ONCE:] == ["something else", "50 more suppressed: a stranger knocks: %d"]


def test_errors_of_two_kinds_with_the_same_text_are_counted_apart(
    bounded: tuple[logging.Logger, BoundedHandler, io.StringIO],
) -> None:
    logger, _, stream = bounded
    for _ in range(2 * LINES_AT_ONCE):
        logger.error("it broke", exc_info=ValueError())
    logger.error("it broke", exc_info=KeyError())
    assert stream.getvalue().endswith("KeyError\n")
