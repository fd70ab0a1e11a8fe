"""Transport-wide feedback as it may be written, for property tests and for what a fuzzer mutates."""

import itertools

from hypothesis import strategies as st

from sfu.transport_feedback import TransportFeedback, encode_transport_feedback


@st.composite
def feedback(draw: st.DrawFn) -> TransportFeedback:
    """Any feedback that can be written: runs of arrivals, gaps of any length, small and large deltas."""
    steps = draw(st.lists(st.tuples(st.integers(1, 40) | st.just(1) | st.integers(1, 9000), _deltas), max_size=60))
    offsets = itertools.accumulate((step for step, _ in steps), initial=draw(st.integers(-1, 20)))
    ticks = itertools.accumulate(delta for _, delta in steps)
    arrivals = tuple(
        (offset, tick)
        for offset, tick in zip(itertools.islice(offsets, 1, None), ticks, strict=True)
        if offset < 0xFFFF
    )
    last = arrivals[-1][0] if arrivals else -1
    count = draw(st.integers(max(last + 1, 1), min(last + 30, 0xFFFF)))
    return TransportFeedback(
        draw(st.integers(0, 0xFFFF)),
        count,
        draw(st.integers(-0x800000, 0x7FFFFF)),
        draw(st.integers(0, 0xFF)),
        arrivals,
    )


_deltas = st.integers(0, 255) | st.integers(0, 8) | st.integers(-0x8000, 0x7FFF)

written = feedback().map(encode_transport_feedback)
