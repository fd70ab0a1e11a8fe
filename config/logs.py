"""Logs: one line per event on standard error, for people or as JSON, bounded, and without anybody's address."""

import contextlib
import ipaddress
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple, TextIO

from config.crash import describe_error, name_error, take_warnings
from config.log_volume import LogVolume, Suppressed
from config.schema import LogSettings

MAX_MESSAGE_CHARACTERS: Final = 2048
MAX_EXCEPTION_CHARACTERS: Final = 8192  # the end is kept: it tells what happened, the beginning only where

_IPV4_PREFIX_BITS: Final = 24
_IPV6_PREFIX_BITS: Final = 48
_IPV4: Final = r"\d{1,3}(?:\.\d{1,3}){3}"
# Whatever looks like an address is tried; what is none (12:30:45, a version of five parts) stays as it is.
_ADDRESS: Final = re.compile(
    rf"(?<![\w.])(?P<ip>{_IPV4}|[0-9A-Fa-f:]*:[0-9A-Fa-f:]*(?:{_IPV4})?(?:%\w+)?)(?:/\d{{1,3}}\b)?(?!\w|\.\d)"
)
_IPV4_INSIDE: Final = re.compile(rf"(?<![\d.]){_IPV4}(?![\d.])")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_COLOURS: Final = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}
_ROUTED: Final = ("asyncio", "aiohttp.server", "aiohttp.web", "aiohttp.websocket", "aiohttp.internal", "py.warnings")
_QUIET: Final = {
    "aiosqlite": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "alembic": logging.WARNING,
    "asyncio": logging.INFO,
}


def configure_logging(settings: LogSettings, stream: TextIO | None = None, process: str = "") -> None:
    """Send every logger's lines to one stream, standard error unless told otherwise.

    aiohttp's access log stays off: it would be a list of who called when.

    Args:
        settings: format and level.
        stream: where to; None for standard error.
        process: stands in every line, if several processes write to the same stream.
    """
    out = sys.stderr if stream is None else stream
    handler = BoundedHandler(out)
    formatter = (
        JsonFormatter(process) if settings.format == "json" else ConsoleFormatter(process, coloured=out.isatty())
    )
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for before in root.handlers:
        if isinstance(before, BoundedHandler):
            before.tell_suppressed()
    root.handlers = [handler]
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    root.setLevel(level)
    for name in _ROUTED:
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, least))
    access = logging.getLogger("aiohttp.access")
    access.propagate = False
    access.handlers = [logging.NullHandler()]
    take_warnings()


def redact_address(ip: str | bytes) -> str:
    """The network of an address, short of the part that leads to a person: /24 of IPv4, /48 of IPv6.

    Loopback and unspecified addresses are nobody's and stay as they are.

    Args:
        ip: as text, or packed (4 or 16 bytes); what is no address gives `unknown`.
    """
    try:
        address = ipaddress.ip_address(ip.partition("%")[0] if isinstance(ip, str) else ip)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback or address.is_unspecified:
        return str(address)
    bits = _IPV4_PREFIX_BITS if address.version == 4 else _IPV6_PREFIX_BITS
    return str(ipaddress.ip_network((address, bits), strict=False))


def redact_text(text: str) -> str:
    """The text with every address in it redacted: a net under what libraries log by themselves."""
    return _ADDRESS.sub(_redact_match, text)


class Kind(NamedTuple):
    """Lines that say the same thing, and are counted together."""

    logger: str
    level: int
    text: str  # before anything is put into it
    error: str  # kind of the exception that it tells, if any


class BoundedHandler(logging.StreamHandler[TextIO]):
    """Writes so many lines of a kind; of the others it tells how many there were, a little later."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to a stream; `clock` gives monotonic seconds."""
        super().__init__(stream)
        self._clock = clock
        self._volume: LogVolume[Kind] = LogVolume(clock())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, unless there were too many of its kind."""
        is_admitted = self._volume.admits(_kind_of(record), self._clock())
        self._tell(self._volume.poll_suppressed())
        if is_admitted:
            super().emit(record)

    def tell_suppressed(self) -> None:
        """Tell at once what was left out."""
        self._tell(self._volume.finish())

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the library's name
        """Say no more than where it was that a line could not be written: the library would show all that is in it."""
        error = sys.exc_info()[1]
        kind = "unknown" if error is None else name_error(error)
        with contextlib.suppress(OSError, ValueError):  # the stream itself is lost: there is nowhere to tell it
            self.stream.write(f"a line of {record.name} could not be logged: {kind}{self.terminator}")
            self.flush()

    def close(self) -> None:
        """Tell what was left out, at the end of the process; the stream stays open."""
        self.tell_suppressed()
        super().close()

    def _tell(self, suppressed: Iterable[Suppressed[Kind]]) -> None:
        for kind, lines in suppressed:
            fields = {"name": kind.logger, "levelno": kind.level, "levelname": logging.getLevelName(kind.level)}
            text = {"msg": "%d more suppressed: %s", "args": (lines, kind.text)}
            super().emit(logging.makeLogRecord({**fields, **text}))


class ConsoleFormatter(logging.Formatter):
    """Lines for people: local time, level, logger, message; a traceback follows indented."""

    def __init__(self, process: str = "", *, coloured: bool) -> None:
        super().__init__()
        self._process = f"{process} " if process else ""
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line, and its exception below it."""
        time = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        level = f"{record.levelname.lower():8}"
        colour = _COLOURS.get(record.levelno)
        if self._coloured and colour:
            level = f"\x1b[{colour}m{level}\x1b[0m"
        line = f"{time} {level} {self._process}{record.name}: {_message_of(record)}"
        exception = _exception_of(record)
        if exception:
            line += "".join(f"\n    {_one_line(part)}" for part in exception.splitlines())
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time`, `level`, `logger`, `message`; `process` and `exception` if there is one."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one JSON object."""
        instant = datetime.fromtimestamp(record.created, UTC)
        fields = {
            "time": instant.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message_of(record),
        }
        if self._process:
            fields["process"] = self._process
        exception = _exception_of(record)
        if exception:
            fields["exception"] = exception
        return json.dumps(fields)


def _kind_of(record: logging.LogRecord) -> Kind:
    text = record.msg if isinstance(record.msg, str) else type(record.msg).__qualname__
    error = record.exc_info[0] if record.exc_info else None
    return Kind(record.name, record.levelno, text[:MAX_MESSAGE_CHARACTERS], "" if error is None else error.__qualname__)


def _message_of(record: logging.LogRecord) -> str:
    message = str(_harmless(record.msg))
    if record.args:
        args = record.args
        if isinstance(args, tuple):
            message %= tuple(map(_harmless, args))
        else:
            message %= {name: _harmless(value) for name, value in args.items()}
    if len(message) > MAX_MESSAGE_CHARACTERS:
        cut = len(message) - MAX_MESSAGE_CHARACTERS
        message = f"{message[:MAX_MESSAGE_CHARACTERS]}… ({cut} characters cut)"
    return _one_line(redact_text(message))


def _harmless(value: object) -> object:
    """What may be put into a line: of an error no more than `config.crash` allows."""
    return name_error(value) if isinstance(value, BaseException) else value


def _exception_of(record: logging.LogRecord) -> str:
    """The traceback: lines of code and kinds of errors."""
    parts = []
    if record.exc_info and record.exc_info[1] is not None:
        parts.append(describe_error(record.exc_info[1]))
    if record.stack_info:
        parts.append(record.stack_info)
    text = "\n".join(parts)
    if len(text) > MAX_EXCEPTION_CHARACTERS:
        cut = len(text) - MAX_EXCEPTION_CHARACTERS
        text = f"({cut} characters cut) …{text[-MAX_EXCEPTION_CHARACTERS:]}"
    return redact_text(text)


def _one_line(text: str) -> str:
    """The text with control characters written out: a line break from outside could forge a line of its own."""
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)


def _redact_match(found: re.Match[str]) -> str:
    """Redact a candidate; the colons of `peer:192.0.2.1` and `2001:db8::1: gone` belong to the sentence."""
    candidate = found["ip"]
    for core in (candidate, candidate.removesuffix(":"), candidate.removeprefix(":")):
        redacted = redact_address(core)
        if redacted != "unknown":
            return candidate.replace(core, redacted, 1)
    return _IPV4_INSIDE.sub(_redact_inner_match, found.group())


def _redact_inner_match(found: re.Match[str]) -> str:
    redacted = redact_address(found.group())
    return found.group() if redacted == "unknown" else redacted
