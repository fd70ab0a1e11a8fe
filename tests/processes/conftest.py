"""Fixtures of the tests that put frames through the kernel program."""

from collections.abc import Iterator

import pytest

from relay.io.datapath.bpf.program import Hook
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
