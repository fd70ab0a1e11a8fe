"""What an auditor tries on the pages and the API of a running service, over https and with the pages as they are."""

import contextlib
import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from signaling.info_pages import PAGES
from signaling.io.app import WEB_ROOT
from signaling.io.assets import load_assets
from tests.support.ports import free_port
from tests.support.service import Service, run_service

PATIENCE: Final = 15.0  # seconds; nothing waits them out
A_YEAR: Final = 365 * 24 * 3600
ASSETS: Final = sorted(load_assets(WEB_ROOT))
API: Final = "/api/v1/appointments"
GUARDS: Final = {  # what every answer says, whatever was asked
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "redconnect",
}
NEVER: Final = ("Set-Cookie", "Location", "Access-Control-Allow-Origin", "X-Powered-By", "Via", "Refresh")


class Answer(NamedTuple):
    """An answer of the service."""

    status: int
    headers: http.client.HTTPMessage
    body: str


class Site:
    """The running service, seen from outside."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.port = int(service.settings["signaling"]["port"])
        certificate = Path(service.settings["state_dir"]) / "certificate.pem"
        self.client = ssl.create_default_context(cafile=str(certificate))

    def ask(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
        """One request that is well-formed."""
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=PATIENCE, context=self.client)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers or {})
            found = connection.getresponse()
            return Answer(found.status, found.headers, found.read().decode(errors="replace"))

    def say(self, request: bytes) -> str:
        """Any bytes, and all that comes back until the service closes."""
        with (
            socket.create_connection(("localhost", self.port), PATIENCE) as plain,
            self.client.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sock.sendall(request)
            answer = b""
            with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
                while chunk := sock.recv(65536):
                    answer += chunk
            return answer.decode(errors="replace")

    def walk(self, target: str) -> str:
        """A request for a target that no client library would send as it is."""
        return self.say(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("latin-1"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    signaling: dict[str, Any] = {"port": free_port(), "https": True, "listen_addresses": ["127.0.0.1", "::1"]}
    with run_service(
        tmp_path_factory.mktemp("audited"), {"services": ["signaling"], "signaling": signaling}
    ) as service:
        yield Site(service)


def refusals(site: Site) -> Iterator[Answer]:
    """Answers to requests that are refused, each in another way."""
    yield site.ask("/nothing")
    yield site.ask("/", "POST")
    yield site.ask("/ws")
    yield site.ask(API)
    yield site.ask(API, headers={"Authorization": f"Bearer {'x' * 43}"})
    yield site.ask("/api/v1/nothing")
    yield site.ask("/hilfe/firewall", headers={"Host": "exa mple"})


@pytest.mark.parametrize("path", [*ASSETS, *PAGES, "/api/v1/openapi.json"])
def test_every_answer_is_guarded_and_private_ones_are_not_kept(site: Site, path: str) -> None:
    answer = site.ask(path)
    assert answer.status == 200
    assert_guarded(answer)
    kind = answer.headers["Content-Type"]
    is_file = path in ASSETS and not kind.startswith("text/html")
    assert answer.headers["Cache-Control"] == ("no-cache" if is_file else "no-store")


def test_refusals_are_guarded_as_well_and_tell_nothing_of_the_request_or_the_program(site: Site) -> None:
    answers = list(refusals(site))
    assert [answer.status for answer in answers] == [404, 405, 403, 401, 401, 404, 400]
    for answer in answers:
        assert_guarded(answer)
        assert answer.headers["Cache-Control"] == "no-store"
        assert not re.search(r"Traceback|File \"|\.py\b|aiohttp|Python|/nothing|exa mple", answer.body)


def assert_guarded(answer: Answer) -> None:
    """The headers that OWASP asks for, and none of those that would open something."""
    headers = answer.headers
    assert {name: headers[name] for name in GUARDS} == GUARDS
    assert [name for name in NEVER if name in headers] == []
    age = re.fullmatch(r"max-age=(\d+)(; includeSubDomains)?(; preload)?", headers["Strict-Transport-Security"])
    assert age is not None and int(age[1]) >= A_YEAR
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy["frame-ancestors"], policy["base-uri"], policy["form-action"]} == {"'none'"}
    allowed = {source for sources in policy.values() for source in sources.split()}
    assert allowed <= {"'none'", "'self'", "data:", "blob:"}
    assert {policy["script-src"], policy["connect-src"], policy["style-src"], policy["worker-src"]} == {"'self'"}
    for feature in headers["Permissions-Policy"].split(", "):
        assert feature.endswith(("=(self)", "=()"))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/", "/js/entry.js", "/datenschutz", "/ws"])
def test_pages_are_read_and_nothing_else(site: Site, path: str, method: str) -> None:
    answer = site.ask(path, method, {"X-Probe": "echo-me"})
    assert answer.status == 405
    assert "POST" not in answer.headers["Allow"]
    assert "echo-me" not in answer.body


TRAVERSALS: Final = (
    "/../redconnect.yaml",
    "/js/../../../pyproject.toml",
    "/js/..%2f..%2f..%2fpyproject.toml",
    "/js/%2e%2e/%2e%2e/%2e%2e/pyproject.toml",
    "/js/%252e%252e/%252e%252e/pyproject.toml",
    "/js/..\\..\\..\\pyproject.toml",
    "/js/..%5c..%5c..%5cpyproject.toml",
    "/img/....//....//etc/passwd",
    "//etc/passwd",
    "/etc/passwd",
    "/js/room.js%00.html",
    "/js/%c0%ae%c0%ae/%c0%ae%c0%ae/pyproject.toml",
    "/pages/layout.html",
    "/.git/config",
    "/var/turn-secret",
    "/js/conference",
    "/js/./room.js/",
    "file:///etc/passwd",
)


@pytest.mark.parametrize("target", TRAVERSALS)
def test_no_target_leads_out_of_the_folder_of_the_pages(site: Site, target: str) -> None:
    answer = site.walk(target)
    assert re.match(r"HTTP/1\.[01] 40[034] ", answer), answer[:200]
    assert not re.search(r"root:|\[project\]|turn_secret|\$main", answer)


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "//evil.example/%2e%2e",
        "/\\evil.example",
        "/%2f%2fevil.example",
        "/?next=https://evil.example",
        "/datenschutz/",
        "/js",
        "http://evil.example/",
        "/%0d%0aLocation:%20https://evil.example",
    ],
)
def test_nobody_is_sent_anywhere_else(site: Site, target: str) -> None:
    head = site.walk(target).partition("\r\n\r\n")[0]
    assert re.match(r"HTTP/1\.[01] (200|40[034]) ", head), head[:200]
    assert "location:" not in head.lower()
    assert "evil.example" not in head


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"a" * 8_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 8_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(200)) + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX : a\r\n\r\n",
    ],
    ids=[
        "long target",
        "long header",
        "many headers",
        "two lengths of different kinds",
        "two lengths",
        "negative length",
        "NUL in a header",
        "space before the colon",
    ],
)
def test_a_request_that_is_oversized_or_ambiguous_is_refused_and_the_connection_closed(
    site: Site, request_bytes: bytes
) -> None:
    answer = site.say(request_bytes)
    assert answer.startswith(("HTTP/1.0 400 ", "HTTP/1.1 400 "))
    assert answer.count("HTTP/1.") == 1, "whatever follows is no second request"
    assert "Diese Anfrage ist nicht lesbar." in answer
    assert not re.search(r"Traceback|aiohttp|Content-Length|a\x00b|X-Long", answer.partition("\r\n\r\n")[2])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_pages_speak_tls_1_2_and_1_3_with_ephemeral_keys(site: Site, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(Path(site.service.settings["state_dir"]) / "certificate.pem"))
    context.minimum_version = context.maximum_version = version
    cipher, protocol, bits = shake_hands(site, context)
    assert protocol == version.name.replace("_", ".")
    assert re.fullmatch(r"TLS_AES_(128|256)_GCM_SHA(256|384)|ECDHE-(ECDSA|RSA)-AES(128|256)-GCM-SHA(256|384)", cipher)
    assert bits >= 128


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AES256-GCM-SHA384"),  # no ephemeral key
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384"),  # CBC
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"),  # not in TR-02102-2
    ],
)
def test_older_versions_and_weaker_ciphers_are_refused(site: Site, version: ssl.TLSVersion, ciphers: str) -> None:
    context = ssl.create_default_context(cafile=str(Path(site.service.settings["state_dir"]) / "certificate.pem"))
    context.minimum_version = context.maximum_version = version
    context.set_ciphers(ciphers)
    # The service closes: what the client itself could not do would be another error.
    with pytest.raises((ssl.SSLZeroReturnError, ssl.SSLEOFError, ConnectionError)):
        shake_hands(site, context)


def shake_hands(site: Site, context: ssl.SSLContext) -> tuple[str, str, int]:
    """Cipher, version and bits of the key of a connection to the pages."""
    with (
        socket.create_connection(("localhost", site.port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        found = sock.cipher()
        assert found is not None
        return found


def test_what_was_tried_left_no_address_no_path_and_no_traceback_in_the_log(site: Site) -> None:
    list(refusals(site))
    site.walk("/js/..%2fpyproject.toml?code=0F8YVSHJ6FBB")
    logged = site.service.log.read_text()
    assert not re.search(r"127\.0\.0\.1|::1|pyproject|0F8YVSHJ6FBB|Traceback|GET |nothing", logged)
