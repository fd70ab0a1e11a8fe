"""Names to addresses, in a thread that nobody waits for: a resolver that hangs must not hold the program."""

import asyncio
import contextlib
import socket
import threading
import time

from check.findings import MAX_ADDRESSES, Name, Outcome, Step
from check.plan import LOOKUP_SECONDS, Family

_Found = list[tuple[int, str]]


async def look_up(name: str) -> Name:
    """Every address of a name, or of an address itself, up to MAX_ADDRESSES of each family."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_Found] = loop.create_future()
    # A pool of threads would be joined at the end of the program, and a daemon is not.
    threading.Thread(target=_resolve, args=(name, loop, answer), daemon=True, name="lookup").start()
    began = time.monotonic()
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            found = await answer
    except TimeoutError:
        return Name(name, Step(Outcome.TIMED_OUT, detail=f"no answer within {LOOKUP_SECONDS:g} s"))
    except OSError as error:
        return Name(name, Step(Outcome.REJECTED, _since(began), detail=error.strerror or type(error).__name__))
    return Name(
        name,
        Step(Outcome.OK, _since(began)),
        ipv4=_of(found, socket.AF_INET),
        ipv6=_of(found, socket.AF_INET6),
    )


def own_address(family: Family, towards: str, port: int) -> str | None:
    """The address that this machine sends from towards another one; None if it has no way into that family."""
    number = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    try:
        with socket.socket(number, socket.SOCK_DGRAM) as probe:
            probe.connect((towards, port))  # sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return None


def _resolve(name: str, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[_Found]") -> None:
    found: _Found | OSError
    try:
        found = [
            (family, str(address[0]))
            for family, _, _, _, address in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        ]
    except OSError as error:
        found = error
    except UnicodeError:
        found = OSError(0, "not a name")

    def tell() -> None:
        if answer.done():
            return
        if isinstance(found, OSError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile: nobody is left to be told
        loop.call_soon_threadsafe(tell)


def _of(found: _Found, family: int) -> list[str]:
    return list(dict.fromkeys(address for number, address in found if number == family))[:MAX_ADDRESSES]


def _since(began: float) -> float:
    return round(1000 * (time.monotonic() - began), 1)
