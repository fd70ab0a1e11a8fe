"""Readiness of many sockets behind one descriptor of the event loop.

A relay has a socket per allocation. To register each with the event loop costs a handle object, a deferred system call
and a scheduled callback per event; and libuv stops watching a socket whose error queue holds something. So they share
one epoll instance of our own, and the loop watches only that.

Its price is one more system call for each time that the loop wakes up, 0.9 µs, shared by all sockets that are ready
then. From two of them on it is the cheaper way. A listener is one of few, and mostly ready alone: `watch_alone`.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final

from relay.io.datapath.datagrams import ready

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
FAILED: Final = select.EPOLLERR | select.EPOLLHUP  # always reported, asked for or not

OnReady = Callable[[int], object]


class Poller:
    """Watches descriptors, level-triggered. A callback gets the events that came, READABLE, WRITABLE or FAILED."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._descriptor = self._epoll.fileno()
        self._callbacks: dict[int, OnReady] = {}
        # Watched since the round began: what this round still holds for their numbers was meant for closed sockets.
        self._fresh: dict[int, OnReady] = {}
        self._is_in_round = False
        loop.add_reader(self._descriptor, self._on_readable)

    def __len__(self) -> int:
        return len(self._callbacks) + len(self._fresh)

    def watch(self, descriptor: int, on_ready: OnReady, events: int = READABLE) -> None:
        """Call `on_ready` whenever the descriptor is ready for one of `events`, until `forget`.

        Raises:
            OSError: the kernel has no room for another watch.
        """
        self._epoll.register(descriptor, events)
        (self._fresh if self._is_in_round else self._callbacks)[descriptor] = on_ready

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events of a watched descriptor."""
        self._epoll.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Stop watching; to be called before the descriptor is closed."""
        self.forget_closing(descriptor)
        self._epoll.unregister(descriptor)

    def forget_closing(self, descriptor: int) -> None:
        """Stop watching a descriptor that is closed right after this: the kernel forgets it by itself then."""
        if self._callbacks.pop(descriptor, None) is None:
            del self._fresh[descriptor]

    def watch_alone(self, descriptor: int, on_ready: OnReady) -> None:
        """Like `watch` for reading, but by the event loop itself; not for sockets that queue errors."""
        self._loop.add_reader(descriptor, on_ready, READABLE)

    def forget_alone(self, descriptor: int) -> None:
        """Stop what `watch_alone` began; to be called before the descriptor is closed."""
        self._loop.remove_reader(descriptor)

    def close(self) -> None:
        """Stop watching everything but what is watched alone; the descriptors stay open."""
        if self._epoll.closed:
            return
        self._loop.remove_reader(self._descriptor)
        self._epoll.close()
        self._callbacks.clear()
        self._fresh.clear()

    def _on_readable(self) -> None:
        callbacks = self._callbacks
        self._is_in_round = True
        for descriptor, events in ready(self._epoll, self._descriptor):
            on_ready = callbacks.get(descriptor)
            if on_ready is not None:  # an earlier callback of this round may have closed it
                try:
                    on_ready(events)
                except Exception as error:  # noqa: BLE001  # a bug: told, but those behind it would never get a turn
                    self._loop.call_exception_handler({"message": "a readiness callback failed", "exception": error})
        self._is_in_round = False
        if self._fresh:
            callbacks.update(self._fresh)
            self._fresh.clear()
