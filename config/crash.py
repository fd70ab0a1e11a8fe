"""What is told of an error: where it happened and of what kind it is, but nothing of what it was about.

The text of an exception is made of whatever was at hand: a parser puts in the line that it could not read, a database
the row. With it a name, a code or an address would come into the log. So no text of an error is told, and no variable;
lines of code and names of types say enough to find a bug. Errors that are written for the operator, about the machine
and its settings, say so by `is_for_operator` on their class.
"""

import asyncio
import faulthandler
import logging
import os
import resource
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, TextIO

MAX_FRAMES: Final = 30  # of one error, the innermost
MAX_ERRORS: Final = 8  # causes, contexts and members of groups that are told together

_LOGGER: Final = logging.getLogger(__name__)
# What asyncio reports without an exception. Any other text of it may show what a callback was called with.
_KNOWN_REPORTS: Final = frozenset({"Task was destroyed but it is pending!", "socket.accept() out of system resource"})


def name_error(error: BaseException) -> str:
    """The error in one line: its text if it was written for the operator, else its kind and the system's reason."""
    if getattr(type(error), "is_for_operator", False):
        return str(error)
    kind = _kind(type(error))
    if isinstance(error, OSError) and isinstance(error.errno, int) and error.errno > 0:
        return f"{kind}: {os.strerror(error.errno)}"
    return kind


def describe_error(error: BaseException) -> str:
    """The error with its causes: files, lines of code and kinds."""
    return "\n".join(_describe(error))


def install_hooks() -> None:
    """Let nothing that ends a process, a thread or a finalizer tell more than that."""
    sys.excepthook = _on_uncaught
    sys.unraisablehook = _on_unraisable
    threading.excepthook = _on_thread
    faulthandler.enable()  # functions and lines of every thread, on a signal that ends the process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # an image of the memory is all of the content


def on_loop_failure(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What an event loop does with errors that nobody has awaited, in the place of its own handler."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        _LOGGER.error("a task or a callback failed: a bug", exc_info=error)
        return
    report = context.get("message")
    _LOGGER.error("the event loop reports: %s", report if report in _KNOWN_REPORTS else "something unknown")


def show_warning(
    message: Warning | str,  # noqa: ARG001  # its text may hold anything
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    """What `warnings` does with a warning: tell where it comes from and of what kind it is."""
    logging.getLogger("py.warnings").warning("%s at %s:%d", category.__name__, filename, lineno)


def take_warnings() -> None:
    """Have warnings logged."""
    logging.captureWarnings(capture=True)  # remembers what to put back
    warnings.showwarning = show_warning


def _describe(error: BaseException) -> Iterator[str]:
    for number, (each, why) in enumerate(_with_causes(error)):
        if number == MAX_ERRORS:
            yield "and more"
            return
        if why:
            yield f"{why}:"
        frames = traceback.extract_tb(each.__traceback__)
        yield "Traceback (most recent call last):"
        if len(frames) > MAX_FRAMES:
            yield f"  ({len(frames) - MAX_FRAMES} frames cut)"
        for frame in frames[-MAX_FRAMES:]:
            yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
            if frame.line:
                yield f"    {frame.line}"
        yield name_error(each)


def _with_causes(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """The error, what it is made of and what led to it, each once."""
    seen: set[int] = set()
    waiting: list[tuple[BaseException | None, str]] = [(error, "")]
    while waiting:
        each, why = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each, why
        if isinstance(each, BaseExceptionGroup):
            waiting += [(member, "in this group") for member in each.exceptions]
        waiting.append((each.__cause__, "caused by"))
        if not each.__suppress_context__:
            waiting.append((each.__context__, "while this was handled"))


def _kind(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _on_uncaught(kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _LOGGER.critical("the process ends: a bug", exc_info=error)


def _on_thread(hook: threading.ExceptHookArgs) -> None:
    _LOGGER.error("a thread failed: a bug", exc_info=hook.exc_value)


def _on_unraisable(hook: "sys.UnraisableHookArgs") -> None:
    _LOGGER.error("an error where none can be raised: a bug", exc_info=hook.exc_value)
