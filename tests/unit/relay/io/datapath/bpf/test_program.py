"""What can be said of the loader without loading anything."""

import re

import pytest

from relay.io.datapath.bpf import layout
from relay.io.datapath.bpf.flow import Passed
from relay.io.datapath.bpf.program import SOURCE, KernelProgram


def test_reasons_stand_in_the_order_of_the_c_file() -> None:
    found = re.search(r"enum reason \{(.*?)\};", SOURCE.read_text(), re.DOTALL)
    assert found is not None
    names = [name.strip() for name in found[1].split(",")]
    assert names == ["FORWARD", "ALIEN", *(reason.name for reason in Passed), "REASONS"]


@pytest.mark.parametrize(("flows", "slots"), [(0, 1), (1, 0), (layout.MAX_FLOWS + 1, 1), (1, layout.MAX_SLOTS + 1)])
def test_tables_have_a_size_within_bounds(flows: int, slots: int) -> None:
    with pytest.raises(ValueError, match="impossible size"):
        KernelProgram.load([], flows=flows, slots=slots)
