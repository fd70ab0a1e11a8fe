"""The grammar: a session description as lines, read within bounds and written again (RFC 8866 §5).

What the lines mean is the matter of `sfu.sdp.media`.
"""

import itertools
import re
from typing import Final, NamedTuple

MAX_SDP_BYTES: Final = 64 << 10  # as long as a message of the signaling may be
MAX_SECTIONS: Final = 64  # m-lines
MAX_LINES: Final = 4096
MAX_LINE_CHARACTERS: Final = 1024
MAX_ATTRIBUTES: Final = 512  # of the session, or of one m-line
MAX_FORMATS: Final = 64  # of one m-line
MAX_NUMBER: Final = (1 << 64) - 1  # of the origin

_LINE: Final = re.compile(r"([a-z])=([^\x00-\x1f\x7f]*)")
_TOKEN: Final = r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+"  # RFC 8866 §9  # noqa: S105  # a grammar, no password
_ATTRIBUTE: Final = re.compile(rf"({_TOKEN})(?::(.+))?")
_ORIGIN: Final = re.compile(r"\S+ ([0-9]{1,20}) ([0-9]{1,20}) IN IP[46] \S+")
_MEDIA: Final = re.compile(rf"({_TOKEN}) ([0-9]{{1,5}})(?:/[0-9]{{1,5}})? ({_TOKEN}(?:/{_TOKEN})*)((?: {_TOKEN})+)")
_KNOWN_TYPES: Final = frozenset("vosiuepcbzkatrm")
_OWN_ORIGIN: Final = "o=- {} {} IN IP4 127.0.0.1"  # RFC 8829 §5.2.1: no address of ours
_NO_ADDRESS: Final = "c=IN IP4 0.0.0.0"  # what counts are the candidates


class SdpError(ValueError):
    """A description that is malformed, or wants what is not accepted. Parsers of this package raise nothing else."""


class Attribute(NamedTuple):
    """An a-line; `value` is empty for a property attribute (RFC 8866 §5.13)."""

    name: str
    value: str = ""


class Section(NamedTuple):
    """An m-line with its attributes."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    attributes: tuple[Attribute, ...]


class SessionDescription(NamedTuple):
    """What was read, or is to be written. The id and the version of the origin are unsigned and have 64 bits."""

    session_id: int
    version: int
    attributes: tuple[Attribute, ...]
    sections: tuple[Section, ...]

    def encode(self) -> str:
        """Write it, with lines that end in CRLF."""
        lines = ["v=0", _OWN_ORIGIN.format(self.session_id, self.version), "s=-", "t=0 0"]
        lines += map(_write_attribute, self.attributes)
        for section in self.sections:
            lines.append(f"m={section.kind} {section.port} {section.protocol} {' '.join(section.formats)}")
            lines.append(_NO_ADDRESS)
            lines += map(_write_attribute, section.attributes)
        return "\r\n".join((*lines, ""))


def parse_description(text: str) -> SessionDescription:
    """Read a description; lines may end in CRLF or LF.

    Raises:
        SdpError: it breaks the grammar or a bound.
    """
    lines = _split(text)
    if len(lines) < 4 or lines[0] != ("v", "0") or [name for name, _ in lines[1:3]] != ["o", "s"]:
        raise SdpError("a description begins with v=0, o= and s=")
    origin = _ORIGIN.fullmatch(lines[1][1])
    if origin is None:
        raise SdpError("the origin is malformed")
    session_id, version = int(origin[1]), int(origin[2])
    if max(session_id, version) > MAX_NUMBER:
        raise SdpError("a number of the origin has more than 64 bits")
    starts = [at for at, (name, _) in enumerate(lines) if name == "m"]
    if len(starts) > MAX_SECTIONS:
        raise SdpError(f"more than {MAX_SECTIONS} m-lines")
    edges = [*starts, len(lines)]
    sections = tuple(_read_section(lines[start][1], lines[start + 1 : end]) for start, end in itertools.pairwise(edges))
    return SessionDescription(session_id, version, _read_attributes(lines[3 : edges[0]]), sections)


def _split(text: str) -> list[tuple[str, str]]:
    """Cut a text into lines and these into type and value.

    `str.splitlines` would also cut at characters that RFC 8866 knows nothing of.
    """
    if len(text) > MAX_SDP_BYTES or len(text.encode(errors="surrogatepass")) > MAX_SDP_BYTES:
        raise SdpError(f"more than {MAX_SDP_BYTES} bytes")
    raw = text.removesuffix("\n").split("\n")
    if len(raw) > MAX_LINES:
        raise SdpError(f"more than {MAX_LINES} lines")
    lines: list[tuple[str, str]] = []
    for each in raw:
        if len(each) > MAX_LINE_CHARACTERS:
            raise SdpError(f"a line of more than {MAX_LINE_CHARACTERS} characters")
        match = _LINE.fullmatch(each.removesuffix("\r"))
        if match is None or match[1] not in _KNOWN_TYPES:
            raise SdpError(f"line {len(lines) + 1} is none of a description")
        lines.append((match[1], match[2]))
    return lines


def _read_section(media: str, lines: list[tuple[str, str]]) -> Section:
    match = _MEDIA.fullmatch(media)
    if match is None:
        raise SdpError("an m-line is malformed")
    port = int(match[2])
    if port > 0xFFFF:
        raise SdpError(f"port {port}")
    formats = tuple(match[4].split())
    if len(formats) > MAX_FORMATS:
        raise SdpError(f"more than {MAX_FORMATS} formats")
    return Section(match[1], port, match[3], formats, _read_attributes(lines))


def _read_attributes(lines: list[tuple[str, str]]) -> tuple[Attribute, ...]:
    values = [value for name, value in lines if name == "a"]
    if len(values) > MAX_ATTRIBUTES:
        raise SdpError(f"more than {MAX_ATTRIBUTES} attributes in one place")
    attributes: list[Attribute] = []
    for value in values:
        match = _ATTRIBUTE.fullmatch(value)
        if match is None:
            raise SdpError("an attribute is malformed")
        attributes.append(Attribute(match[1], match[2] or ""))
    return tuple(attributes)


def _write_attribute(attribute: Attribute) -> str:
    return f"a={attribute.name}:{attribute.value}" if attribute.value else f"a={attribute.name}"
