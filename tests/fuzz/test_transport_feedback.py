"""Feedback that is nearly right, through the parser and the estimator. HYPOTHESIS_PROFILE=fuzz turns it up."""

import contextlib
import math

from hypothesis import given
from hypothesis import strategies as st

from sfu.bandwidth import BandwidthBounds, BandwidthEstimator
from sfu.transport_feedback import (
    MAX_STATUS_COUNT,
    TransportFeedbackError,
    decode_transport_feedback,
    encode_transport_feedback,
)
from tests.support.feedback_samples import written
from tests.support.mutations import mutated

BOUNDS = BandwidthBounds()
chunks = st.lists(
    st.sampled_from([0x0000, 0x1FFF, 0x2000, 0x2001, 0x3FFF, 0x4001, 0x5FFF, 0x6001, 0x8000, 0xBFFF, 0xC000, 0xFFFF])
    | st.integers(0, 0xFFFF),
    max_size=20,
).map(lambda numbers: b"".join(number.to_bytes(2) for number in numbers))
made_up = st.builds(
    lambda header, count, statuses, deltas: header[:2] + count.to_bytes(2) + header[2:] + statuses + deltas,
    st.binary(min_size=6, max_size=6),
    st.integers(0, 40) | st.integers(0, MAX_STATUS_COUNT),
    chunks,
    st.binary(max_size=80),
)
anything = mutated(written) | made_up | st.binary(max_size=120)


@given(anything)
def test_mutated_feedback_decodes_or_raises_its_own_error(raw: bytes) -> None:
    try:
        read = decode_transport_feedback(raw)
    except TransportFeedbackError:
        return
    assert 1 <= read.status_count <= MAX_STATUS_COUNT
    offsets = [offset for offset, _ in read.arrivals]
    assert offsets == sorted(set(offsets))
    assert all(offset < read.status_count for offset in offsets)
    assert len(offsets) <= len(raw)


@given(anything)
def test_what_decodes_encodes_to_something_that_decodes_alike(raw: bytes) -> None:
    with contextlib.suppress(TransportFeedbackError):
        read = decode_transport_feedback(raw)
        assert decode_transport_feedback(encode_transport_feedback(read)) == read


@given(st.lists(anything | st.tuples(st.integers(1, 60), st.floats(0, 2)), max_size=30), st.integers(0, 0xFFFF))
def test_no_feedback_takes_the_estimate_out_of_its_bounds(course: list[bytes | tuple[int, float]], first: int) -> None:
    estimator = BandwidthEstimator(BOUNDS, first)
    estimator.want(5e6)
    now = 1.0
    for step in course:
        if isinstance(step, bytes):
            with contextlib.suppress(TransportFeedbackError):
                estimator.receive_feedback(step, now)
        else:
            count, wait = step
            for _ in range(count):
                estimator.send(1200, now)
            while (size := estimator.poll_probe(now)) is not None:
                estimator.send(size, now, probe=True)
            now += wait
            estimator.handle_timeout(now)
        assert BOUNDS.floor <= estimator.bits_per_second <= BOUNDS.ceiling
        assert math.isfinite(estimator.poll_timeout())
