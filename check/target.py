"""Which service is asked for: the HOST that somebody typed."""

import ipaddress
import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from check.text import plain

HTTPS_PORT: Final = 443
HTTP_PORT: Final = 80
MAX_NAME_CHARACTERS: Final = 253  # RFC 1035 §2.3.4
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


class TargetError(ValueError):
    """What was typed names no host; the message says in one line what would."""


class Target(NamedTuple):
    """Where the pages of a service are."""

    host: str  # a name, or an IP address without brackets
    port: int
    is_https: bool = True

    @property
    def origin(self) -> str:
        """The beginning of the pages' addresses, without a slash at the end."""
        return f"{'https' if self.is_https else 'http'}://{bracketed(self.host)}:{self.port}"


def parse_target(text: str) -> Target:
    """Read `HOST`, `HOST:PORT`, or the address of the page, `https://HOST[:PORT]/`.

    Raises:
        TargetError: it is none of these.
    """
    if is_ip(text):
        return Target(text, HTTPS_PORT)
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _refused(text) from error
    is_plain = parts.scheme in {"https", "http"} and parts.path in {"", "/"}
    if not is_plain or parts.query or parts.fragment or "@" in parts.netloc or port == 0:
        raise _refused(text)
    is_https = parts.scheme == "https"
    return Target(check_host(host or ""), port or (HTTPS_PORT if is_https else HTTP_PORT), is_https)


def check_host(text: str) -> str:
    """The name or IP address as it is, without the dot that may end a name.

    Raises:
        TargetError: it can be neither.
    """
    if is_ip(text):
        return text
    try:
        name = text.removesuffix(".").encode("idna").decode("ascii") if not text.isascii() else text.removesuffix(".")
    except UnicodeError as error:
        raise _refused(text) from error
    if not name or len(name) > MAX_NAME_CHARACTERS or not all(map(_LABEL.fullmatch, name.split("."))):
        raise _refused(text)
    return name


def is_ip(text: str) -> bool:
    """Whether this is an IP address, without brackets, zone or port."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def bracketed(host: str) -> str:
    """The host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def _refused(text: str) -> TargetError:
    return TargetError(f"{plain(text)!r} is no host; write a name such as video.example.org, or its address")
