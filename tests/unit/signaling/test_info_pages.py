from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.ice_servers import InvalidHost, PortRange, RelayPorts
from signaling.info_pages import PAGES, Network, PageWriter, describe_network
from signaling.io.assets import PAGES as STANDING
from signaling.settings import SignalingSettings

TEMPLATES = Path(__file__).parents[3] / "signaling" / "web" / "pages"
PORTS = RelayPorts((3478, 3479), (3478, 3479), (5349, 5350), PortRange(49152, 65535))
NETWORK = Network("video.example.org", 443, "relay.example.org", PORTS)
OPERATOR = {
    "name": "Praxis Morgenrot GbR",
    "address": "Musterweg 1, 12345 Musterstadt",
    "email": "post@example.org",
    "phone": "+49 30 123456",
}


class Outline(HTMLParser):
    """What a page consists of: headings, links, ids, elements and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.current: list[str] = []
        self.ids: list[str] = []
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.html: dict[str, str | None] = {}
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append(tag)
        self.attributes |= attributes.keys()
        if tag == "html":
            self.html = attributes
        if tag in {"h1", "h2", "h3", "h4"}:
            self.headings.append(int(tag[1]))
        if tag == "a":
            self.links.append(attributes["href"] or "")
            if "aria-current" in attributes:
                self.current.append(attributes["href"] or "")
        for name in ("src", "href"):
            if tag != "a" and name in attributes:
                self.loaded.append(attributes[name] or "")
        if "id" in attributes:
            self.ids.append(attributes["id"] or "")

    def handle_data(self, data: str) -> None:
        self.words = " ".join(f"{self.words} {data}".split())


def write(path: str, network: Network = NETWORK, **settings: Any) -> str:  # noqa: ANN401 - any setting
    writer = PageWriter({name: (TEMPLATES / f"{name}.html").read_text() for name in PageWriter.TEMPLATES})
    return writer.write(PAGES[path], SignalingSettings.model_validate(settings), network)


def words(path: str, network: Network = NETWORK, **settings: Any) -> str:  # noqa: ANN401 - any setting
    return Outline(write(path, network, **settings)).words


@pytest.mark.parametrize("path", PAGES)
def test_no_browser_translates_a_page_and_every_screen_reader_speaks_german(path: str) -> None:
    assert Outline(write(path)).html == {"lang": "de", "translate": "no"}


@pytest.mark.parametrize("path", PAGES)
def test_the_headings_begin_with_one_h1_and_skip_no_level(path: str) -> None:
    headings = Outline(write(path)).headings
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(headings))


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_nothing_that_the_content_security_policy_would_stop(path: str) -> None:
    outline = Outline(write(path))
    assert not {"script", "style", "iframe", "form", "object"} & set(outline.elements)
    assert not {name for name in outline.attributes if name == "style" or name.startswith("on")}
    assert set(outline.loaded) == {"/css/base.css", "/css/pages.css", "/img/favicon.svg"}


@pytest.mark.parametrize("path", PAGES)
def test_every_link_leads_somewhere_on_this_server_or_to_the_operator(path: str) -> None:
    outline = Outline(write(path, operator=OPERATOR))
    assert len(set(outline.ids)) == len(outline.ids)
    for link in outline.links:
        if link in {"mailto:post@example.org", "tel:+4930123456"}:
            continue
        target, _, anchor = link.partition("#")
        assert target in {"", *STANDING, *PAGES}, link
        if anchor:
            assert anchor in Outline(write(target or path)).ids, link


@pytest.mark.parametrize("path", PAGES)
def test_the_menu_says_where_one_is(path: str) -> None:
    assert Outline(write(path)).current == [path]


def test_the_first_link_leads_to_the_content() -> None:
    outline = Outline(write("/hilfe"))
    assert outline.links[0] == "#inhalt"
    assert "inhalt" in outline.ids


# The network


def test_the_firewall_page_says_the_two_steps_in_the_words_that_administrators_know() -> None:
    text = words("/hilfe/firewall")
    steps = [
        "müssen ausgehend erreichbar sein",
        "video.example.org",
        "TCP: 443",
        "TCP: 3478; 3479; 5349; 5350",
        "UDP: 3478, 3479",
        "Wenn dies nicht klappt, bitte noch den UDP-Portbereich 49152 - 65535 nach relay.example.org freigeben.",
    ]
    places = [text.index(step) for step in steps]
    assert places == sorted(places)


def test_the_firewall_page_shows_the_ports_of_the_configuration_and_no_others() -> None:
    ports = RelayPorts((4001, 4000), (), (443,), PortRange(50000, 50999))
    text = words("/hilfe/firewall", Network("v.example.org", 8443, "r.example.org", ports))
    for shown in ("TCP: 8443", "UDP: 4000, 4001", "TCP: 443", "50000 - 50999 nach r.example.org"):
        assert shown in text
    for default in ("3478", "5349", "49152", "65535"):
        assert default not in text


def test_the_table_says_for_each_port_who_what_and_in_which_direction() -> None:
    text = words("/hilfe/firewall")
    assert "Zweck Server Protokoll Zielport Richtung" in text
    assert "relay.example.org UDP 3478, 3479 ausgehend" in text
    assert "relay.example.org TCP 3478, 3479 ausgehend" in text
    assert "relay.example.org TCP (TLS) 5349, 5350 ausgehend" in text
    assert "relay.example.org UDP 49152 - 65535 ausgehend" in text


@pytest.mark.parametrize(("ports", "shown"), [(PortRange(7882, 7882), "7882"), (PortRange(7882, 7885), "7882 - 7885")])
def test_the_table_names_the_ports_of_conferences_where_there_are_any(ports: PortRange, shown: str) -> None:
    network = Network("video.example.org", 443, "relay.example.org", PORTS._replace(conferences=ports))
    text = words("/hilfe/firewall", network)
    assert f"Konferenzen, direkt (sonst auf den Wegen darüber) relay.example.org UDP {shown} ausgehend" in text
    alone = RelayPorts(conferences=ports)
    text = words("/hilfe/firewall", Network("video.example.org", 443, "relay.example.org", alone))
    assert f"Konferenzen relay.example.org UDP {shown} ausgehend" in text
    assert "Konferenzen" not in words("/hilfe/firewall")


def test_without_a_relay_the_firewall_page_names_none() -> None:
    text = words("/hilfe/firewall", Network("video.example.org", 443, "relay.example.org", RelayPorts()))
    assert "keinen eigenen Vermittlungsserver" in text
    assert "relay.example.org" not in text
    assert "Schritt 2" not in text
    assert "genügen die Adressen" not in text


@pytest.mark.parametrize(
    ("settings", "host_header", "expected"),
    [
        ({}, "video.example.org", ("video.example.org", 80, "video.example.org")),
        ({"https": True}, "video.example.org", ("video.example.org", 443, "video.example.org")),
        ({"https": True}, "Video.example.org:8443", ("video.example.org", 8443, "video.example.org")),
        ({"public_url": "https://v.example.org"}, "other.example", ("v.example.org", 443, "v.example.org")),
        ({"public_url": "http://v.example.org:81", "https": True}, "x", ("v.example.org", 81, "v.example.org")),
        ({"ice": {"host": "relay.example.org"}}, "[2001:db8::1]:8080", ("2001:db8::1", 8080, "relay.example.org")),
    ],
)
def test_the_settings_say_where_pages_and_relay_are_and_else_the_request(
    settings: dict[str, Any], host_header: str, expected: tuple[str, int, str]
) -> None:
    network = describe_network(SignalingSettings.model_validate(settings), PORTS, host_header)
    assert network == (*expected, PORTS)


def test_a_host_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidHost):
        describe_network(SignalingSettings(), PORTS, "<script>")


# The operator


def test_an_imprint_without_an_operator_says_what_the_operator_must_fill_in() -> None:
    text = words("/impressum")
    for key in ("name", "address", "email", "phone"):
        assert f"signaling.operator.{key}" in text
    assert "Diese Angaben sind unvollständig." in text


def test_a_complete_imprint_has_name_address_and_two_ways_to_ask() -> None:
    text = words("/impressum", operator=OPERATOR)
    assert "Praxis Morgenrot GbR Musterweg 1 12345 Musterstadt" in text
    assert "E-Mail post@example.org Telefon +49 30 123456" in text
    assert "signaling.operator" not in text


def test_the_help_offers_no_contact_that_does_not_exist() -> None:
    assert "signaling.operator" not in words("/hilfe")
    assert "E-Mail" not in words("/hilfe", operator={"phone": "030 123456"}).partition("Kontakt")[2]
    assert "post@example.org" in words("/hilfe", operator=OPERATOR)


HOSTILE = st.text(st.sampled_from("<>&\"'/$={}ab \n,"), max_size=60)


@given(name=HOSTILE, address=HOSTILE)
@pytest.mark.parametrize("path", ["/impressum", "/datenschutz", "/hilfe"])
def test_no_setting_becomes_markup(path: str, name: str, address: str) -> None:
    filled = Outline(write(path, operator={**OPERATOR, "name": name, "address": address}))
    lines = [line for line in address.replace(",", "\n").split("\n") if line.strip()]
    harmless = {**OPERATOR, "name": "x" if name.strip(" \n,") else "", "address": ",".join("x" for _ in lines)}
    assert filled.elements == Outline(write(path, operator=harmless)).elements
    assert " ".join(name.strip(" \n,").split()) in filled.words


@pytest.mark.parametrize("email", ["a&b@example.org", "a'b@example.org", "a%0abcc@example.org"])
def test_an_email_address_keeps_to_its_link(email: str) -> None:
    outline = Outline(write("/impressum", operator={**OPERATOR, "email": email}))
    (link,) = [link for link in outline.links if link.startswith("mailto:")]
    assert not set("&'?\"") & set(link)
    assert "%0a" not in link
    assert email in outline.words


# What the pages promise


def test_the_privacy_notice_says_when_the_configured_codes_are_deleted() -> None:
    settings: dict[str, Any] = {
        "entry_closes_hours": 48,
        "seat_hold_seconds": 45,
    }
    text = words("/datenschutz", **settings)
    assert "also 48 Stunden und höchstens eine Stunde nach dem geplanten Beginn" in text
    assert "nach einem Abbruch nach 45 Sekunden" in text


def test_the_privacy_notice_says_who_can_see_what() -> None:
    text = words("/datenschutz")
    assert "während der gesamten Übertragung Ende-zu-Ende-verschlüsselt" in text
    assert "verschlüsselt und gesichert übertragen" in text
    assert "Was der Betreiber sehen kann und was nicht" in text


def test_the_privacy_notice_names_what_is_derived_from_people_and_what_a_conference_shows() -> None:
    text = words("/datenschutz")
    for told in (
        "Zahl der Teilnehmer/innen",
        "Prüfsummen des nicht geheimen Teils der Codes",
        "eine Prüfsumme des Namens der einladenden Stelle",
        "Versuche je Adresse einige Minuten lang gezählt",
        "eine Prüfsumme aus Raum, Platz und Netz",
        "beim Verbindungstest enthält er Ihre IP-Adresse und gilt eine Minute",
        "in Konferenzen: von welchem Platz wann wie laut gesprochen",
        "über einen Server des Betreibers, der sie nicht entschlüsseln kann",
        "Beginn, Ende und Dauer von Räumen und Vermittlungen",
    ):
        assert told in text


@pytest.mark.parametrize(
    ("minutes", "told"),
    [(30, "ab 30 Minuten vor dem geplanten Beginn"), (1, "ab 1 Minute vor dem"), (0, "ab dem geplanten Beginn")],
)
def test_the_terms_say_when_a_code_opens_the_room(minutes: int, told: str) -> None:
    assert told in words("/nutzungsbedingungen", entry_opens_minutes=minutes)


def test_the_browser_page_names_the_oldest_version_of_each_browser() -> None:
    text = words("/hilfe/browser")
    for browser in ("Chrome 133", "Edge (Chromium) 133", "Firefox 130", "Safari 17"):
        assert browser in text


def test_the_device_page_answers_what_people_ask() -> None:
    text = words("/hilfe/geraete")
    for answer in (
        "„Zulassen“",
        "fünfmal so weit",
        "Headset",
        "„Verwalten“",
        "„Reaktionen“",
        "Datenvolumen",
        "Schloss-Symbol",
    ):
        assert answer in text
