"""Fixtures of the tests that put frames through the kernel program, and packets through both planes."""

from collections.abc import AsyncIterator, Iterator

import pytest

from relay.io.datapath.bpf.program import Hook
from tests.support.kernel_rig import IPV4, IPV6, Ends, Rig, open_wire
from tests.support.lab import Lab
from tests.support.program_bench import FAMILIES, Addresses, Bench, open_benches


@pytest.fixture(scope="module")
def benches() -> Iterator[dict[Hook, Bench]]:
    with open_benches() as benches:
        yield benches


@pytest.fixture(params=list(Hook), ids=lambda hook: hook.value)
def bench(request: pytest.FixtureRequest, benches: dict[Hook, Bench]) -> Bench:
    bench = benches[request.param]
    bench.clear()
    return Bench(bench.program)


@pytest.fixture(params=FAMILIES)
def who(request: pytest.FixtureRequest) -> Addresses:
    return FAMILIES[request.param]


@pytest.fixture(params=["4", "6"])
def alike(request: pytest.FixtureRequest) -> Addresses:
    """The same family on both sides."""
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def wire() -> Iterator[Lab]:
    with open_wire() as lab:
        yield lab


# The program is tried for IPv6 frame by frame in every run; the suite over links, when there is time.
@pytest.fixture(params=[IPV4, pytest.param(IPV6, marks=pytest.mark.long)], ids=["IPv4", "IPv6"])
def ends(request: pytest.FixtureRequest) -> Ends:
    found: Ends = request.param
    return found


@pytest.fixture(params=["plain", "kernel"])
async def rig(wire: Lab, ends: Ends, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rig = Rig(wire, request.param, ends)
    yield rig
    rig.close()


@pytest.fixture(params=["plain", "kernel"])
async def plane(wire: Lab, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """Over IPv4 only: what is about netfilter and reverse paths is alike for IPv6, or is not there."""
    rig = Rig(wire, request.param, IPV4)
    yield rig
    rig.close()
