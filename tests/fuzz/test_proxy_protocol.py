"""The PROXY parser against bytes that are nearly right. HYPOTHESIS_PROFILE=fuzz turns it up."""

from hypothesis import given
from hypothesis import strategies as st

from relay.proxy_protocol import MAX_HEADER, ProxyHeader, ProxyHeaderError, decode_proxy_header

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
words = st.sampled_from(
    [b"PROXY", b"TCP4", b"TCP6", b"UNKNOWN", b" ", b"\r", b"\n", b"\r\n", b"::", b"1.2.3.4", b"0", b"65535", b"\xff"]
)
lines = st.lists(words | st.binary(max_size=4), max_size=30).map(lambda parts: b"PROXY " + b"".join(parts))
binaries = st.tuples(
    st.sampled_from([b"\x20", b"\x21", b"\x11"]) | st.binary(min_size=1, max_size=1),
    st.sampled_from([b"\x00", b"\x11", b"\x21", b"\x31"]) | st.binary(min_size=1, max_size=1),
    st.integers(0, MAX_HEADER).map(lambda length: length.to_bytes(2)) | st.binary(min_size=2, max_size=2),
    st.binary(max_size=MAX_HEADER),
).map(lambda parts: SIGNATURE + b"".join(parts))
headers = lines | binaries | st.binary(max_size=MAX_HEADER)


def read(data: bytes) -> ProxyHeader | ProxyHeaderError | None:
    try:
        return decode_proxy_header(data)
    except ProxyHeaderError as error:
        return error


@given(headers)
def test_arbitrary_bytes_raise_nothing_but_their_own_error_and_lie_inside_the_bound(data: bytes) -> None:
    result = read(data)
    if isinstance(result, ProxyHeader):
        assert result.length <= min(len(data), MAX_HEADER)


@given(headers.map(lambda data: data.ljust(MAX_HEADER, b"x")))
def test_at_the_bound_there_is_always_an_answer(data: bytes) -> None:
    assert read(data) is not None


@given(headers, st.data())
def test_an_answer_does_not_depend_on_how_much_more_has_come(data: bytes, draw: st.DataObject) -> None:
    whole = read(data)
    piece = read(data[: draw.draw(st.integers(0, len(data)))])
    if isinstance(piece, ProxyHeader):
        assert whole == piece
    elif isinstance(piece, ProxyHeaderError):
        assert isinstance(whole, ProxyHeaderError)
