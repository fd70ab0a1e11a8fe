"""Session descriptions of real browsers (tests/vectors/sdp), and what a server would put into its own."""

from pathlib import Path
from typing import Final

from sfu.sdp.media import LocalTransport
from stun.address import TransportAddress

VECTORS: Final = Path(__file__).parents[1] / "vectors" / "sdp"
BROWSERS: Final = ("chromium", "firefox")
LOCAL: Final = LocalTransport(
    "ufragSFU",
    "passwordSFU0123456789abc",
    bytes(range(32)),
    (TransportAddress.parse("192.0.2.1", 7882), TransportAddress.parse("2001:db8::1", 7882)),
)


def captured(name: str) -> str:
    """The text as the browser wrote it, with its line ends."""
    return (VECTORS / f"{name}.sdp").read_bytes().decode()


def every_captured() -> dict[str, str]:
    return {path.stem: captured(path.stem) for path in sorted(VECTORS.glob("*.sdp"))}


def section_of(text: str, mid: str) -> list[str]:
    """The lines of the m-line with this mid."""
    sections = [part.split("\r\n")[:-1] for part in text.split("m=")[1:]]
    return next(["m=" + lines[0], *lines[1:]] for lines in sections if f"a=mid:{mid}" in lines)
