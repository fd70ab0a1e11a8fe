"""The kernel's help for a running service: what its sockets are told when it ends, and how it begins anew."""

import logging
import socket
from collections.abc import AsyncIterator

import pytest

from relay.io import udp_plane
from relay.io.datapath.bpf.errors import OffloadUnavailable
from tests.support.fake_program import FakeProgram
from tests.unit.relay.io.test_service import Running, running

SOL_UDP, UDP_GRO = 17, 104  # missing in the socket module


class Kernels:
    """Hands out programs that only remember, as long as there are any."""

    def __init__(self) -> None:
        self.loaded: list[FakeProgram] = []
        self.is_refusing = False

    def load(self, *_: object) -> FakeProgram:
        if self.is_refusing:
            raise OffloadUnavailable("not permitted")
        self.loaded.append(FakeProgram())
        return self.loaded[-1]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    kernels = Kernels()
    monkeypatch.setattr(udp_plane, "take_program", kernels.load)
    monkeypatch.setattr(udp_plane, "load_program", kernels.load)
    return kernels


@pytest.fixture
async def relay(kernels: Kernels) -> AsyncIterator[Running]:
    async with running(datapath="kernel") as relay:
        assert len(kernels.loaded) == 1
        yield relay


def joins(relay: Running) -> bool:
    """Whether the kernel joins runs of datagrams for the listener (UDP_GRO)."""
    (listener,) = relay.service._listeners.values()
    sock: socket.socket = listener._sock
    return bool(sock.getsockopt(SOL_UDP, UDP_GRO))


async def test_a_listener_asks_for_joined_runs_once_the_kernel_is_given_up(relay: Running, kernels: Kernels) -> None:
    assert not joins(relay)
    kernels.loaded[0].is_broken = True
    assert relay.service.offload is not None
    relay.service.offload.passed()
    assert not relay.service.offload.is_on
    assert joins(relay)


async def test_after_it_was_given_up_a_reload_tries_the_kernel_again(relay: Running, kernels: Kernels) -> None:
    offload, plane = relay.service.offload, relay.service._udp_plane
    assert offload is not None and plane is not None
    plane.follow()
    assert len(kernels.loaded) == 1, "nothing has changed"
    kernels.loaded[0].is_broken = True
    offload.passed()
    plane.follow()
    assert (len(kernels.loaded), offload.is_on) == (2, True)


async def test_a_kernel_that_cannot_be_had_again_is_one_warning(
    relay: Running, kernels: Kernels, caplog: pytest.LogCaptureFixture
) -> None:
    offload, plane = relay.service.offload, relay.service._udp_plane
    assert offload is not None and plane is not None
    kernels.loaded[0].is_broken = True
    offload.passed()
    kernels.is_refusing = True
    caplog.clear()
    with caplog.at_level(logging.INFO):
        plane.follow()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert not offload.is_on
