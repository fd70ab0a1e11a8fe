"""The pages that can be read without joining: help, terms, privacy notice and imprint, filled in out of the settings.

The words stand in `web/pages/*.html`, in German. What a setting decides is put in here, and always escaped.
"""

from collections.abc import Iterable, Mapping
from html import escape
from string import Template
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import quote

from signaling.ice_servers import PortRange, RelayPorts, parse_authority
from signaling.settings import OperatorSettings, SignalingSettings

_LAYOUT: Final = "layout"
_HTTPS_PORT: Final = 443
_HTTP_PORT: Final = 80


class Page(NamedTuple):
    """One page: its template and how it is called in headings and menus."""

    template: str
    title: str
    link: str


PAGES: Final[Mapping[str, Page]] = MappingProxyType(
    {
        "/hilfe": Page("help", "Hilfe zur Videosprechstunde", "Übersicht"),
        "/hilfe/geraete": Page("devices", "Kamera, Mikrofon und Ton", "Geräte"),
        "/hilfe/browser": Page("browsers", "Browser und Betriebssysteme", "Browser"),
        "/hilfe/firewall": Page("firewall", "Firewall und Netzwerk", "Firewall"),
        "/nutzungsbedingungen": Page("terms", "Nutzungsbedingungen", "Nutzungsbedingungen"),
        "/datenschutz": Page("privacy", "Datenschutz", "Datenschutz"),
        "/impressum": Page("imprint", "Impressum", "Impressum"),
    }
)


class Network(NamedTuple):
    """What a browser must reach: the pages, and the relay if there is one."""

    page_host: str
    page_port: int
    relay_host: str
    relay_ports: RelayPorts


class _Row(NamedTuple):
    """One line of the table for a firewall."""

    purpose: str
    host: str
    protocol: str
    ports: str


def describe_network(settings: SignalingSettings, relay_ports: RelayPorts, host_header: str) -> Network:
    """Say what the running configuration really uses.

    Args:
        settings: `public_url`, if set, is where the pages are; `ice.host`, if set, is where the relay is.
        relay_ports: where the relay listens; empty without a relay.
        host_header: how this visitor reached the page; counts where the settings name nothing.

    Raises:
        InvalidHost: the Host header, or the authority of `public_url`, is malformed.
    """
    scheme, _, authority = settings.public_url.partition("://")
    host, port = parse_authority(authority or host_header)
    is_https = scheme == "https" if scheme else settings.https
    return Network(host, port or (_HTTPS_PORT if is_https else _HTTP_PORT), settings.ice.host or host, relay_ports)


class PageWriter:
    """Fills the templates in."""

    TEMPLATES: Final = (_LAYOUT, *(page.template for page in PAGES.values()))

    def __init__(self, templates: Mapping[str, str]) -> None:
        """Take the texts of `TEMPLATES`, by their names."""
        self._templates = {name: Template(templates[name]) for name in self.TEMPLATES}

    def write(self, page: Page, settings: SignalingSettings, network: Network) -> str:
        """The whole page as HTML; every value of a setting and of the network is escaped in it."""
        values = {**_network_values(network), **_operator_values(settings.operator), **_time_values(settings)}
        main = self._templates[page.template].substitute(values)
        return self._templates[_LAYOUT].substitute(
            main=main,
            title=escape(page.title),
            help_links=_links(page, (path for path in PAGES if path.startswith("/hilfe"))),
            legal_links=_links(page, (path for path in PAGES if not path.startswith("/hilfe"))),
        )


def _links(current: Page, paths: Iterable[str]) -> str:
    items = []
    for path in paths:
        mark = ' aria-current="page"' if PAGES[path] == current else ""
        items.append(f'<li><a href="{escape(path)}"{mark}>{escape(PAGES[path].link)}</a></li>')
    return "".join(items)


# The network


def _network_values(network: Network) -> dict[str, str]:
    return {
        "page_host": escape(network.page_host),
        "firewall_steps": _firewall_steps(network),
        "firewall_rows": "".join(_table_row(row) for row in _rows(network)),
    }


def _tcp_ports(ports: RelayPorts) -> str:
    return "; ".join(str(port) for port in sorted({*ports.tcp, *ports.tls}))


def _udp_ports(ports: RelayPorts) -> str:
    return ", ".join(str(port) for port in sorted(ports.udp))


def _range(ports: PortRange) -> str:
    return f"{ports.lowest} - {ports.highest}" if ports.lowest < ports.highest else str(ports.lowest)


def _firewall_steps(network: Network) -> str:
    """The two steps in the words that administrators know: first the ports, then, if need be, the relay's range."""
    ports = network.relay_ports
    hosts = "".join(
        f"<li><code>{escape(host)}</code></li>" for host in dict.fromkeys((network.page_host, *_relay(network)))
    )
    lines = [f"TCP: {_tcp_ports(ports)}"] if ports.tcp or ports.tls else []
    lines += [f"UDP: {_udp_ports(ports)}"] if ports.udp else []
    parts = [
        "<h3>Schritt 1: Adressen und Ports</h3>",
        f"<p>Diese Adressen müssen ausgehend erreichbar sein:</p><ul>{hosts}</ul>",
        f"<p>Für die Seiten und die Anmeldung am Termin:</p><ul><li><code>TCP: {network.page_port}</code></li></ul>",
    ]
    if not lines:
        parts.append(
            "<p>Dieser Dienst hat zurzeit keinen eigenen Vermittlungsserver. Bild und Ton gehen nur direkt zwischen den"
            " beiden Geräten; dafür muss ausgehendes UDP erlaubt sein.</p>"
        )
        return "\n".join(parts)
    items = "".join(f"<li><code>{line}</code></li>" for line in lines)
    parts.append(f"<p>Für Bild und Ton, zu <code>{escape(network.relay_host)}</code>:</p><ul>{items}</ul>")
    if ports.relayed is not None:
        parts.append("<h3>Schritt 2: nur wenn nötig</h3>")
        parts.append(
            f"<p>Wenn dies nicht klappt, bitte noch den UDP-Portbereich {_range(ports.relayed)} nach"
            f" {escape(network.relay_host)} freigeben.</p>"
        )
    parts.append(
        "<p>Ist ausgehendes UDP zu beliebigen Adressen erlaubt, gehen Bild und Ton direkt zum anderen Gerät. Ist es das"
        " nicht, genügen die Adressen und Ports auf dieser Seite.</p>"
    )
    return "\n".join(parts)


def _relay(network: Network) -> tuple[str, ...]:
    ports = network.relay_ports
    return (network.relay_host,) if ports.udp or ports.tcp or ports.tls else ()


def _rows(network: Network) -> list[_Row]:
    ports, relay = network.relay_ports, network.relay_host
    rows = [_Row("Seiten und Anmeldung am Termin", network.page_host, "TCP", str(network.page_port))]
    if ports.udp:
        rows.append(_Row("Bild und Ton (STUN, TURN)", relay, "UDP", _udp_ports(ports)))
    if ports.tcp:
        rows.append(_Row("Bild und Ton, wenn UDP gesperrt ist (TURN)", relay, "TCP", _joined(ports.tcp)))
    if ports.tls:
        rows.append(_Row("Bild und Ton, wenn nur TLS erlaubt ist (TURN)", relay, "TCP (TLS)", _joined(ports.tls)))
    if ports.conferences is not None:
        purpose = "Konferenzen, direkt (sonst auf den Wegen darüber)" if _relay(network) else "Konferenzen"
        rows.append(_Row(purpose, relay, "UDP", _range(ports.conferences)))
    if _relay(network) and ports.relayed is not None:
        rows.append(_Row("Zweiter Schritt, nur wenn nötig", relay, "UDP", _range(ports.relayed)))
    return rows


def _joined(ports: Iterable[int]) -> str:
    return ", ".join(str(port) for port in sorted(ports))


def _table_row(row: _Row) -> str:
    # The roles stand there because narrow screens show rows as blocks, and some browsers then forget the table.
    cells = [
        f'<th scope="row" role="rowheader">{escape(row.purpose)}</th>',
        f'<td role="cell" data-label="Server"><code>{escape(row.host)}</code></td>',
        f'<td role="cell" data-label="Protokoll">{escape(row.protocol)}</td>',
        f'<td role="cell" data-label="Zielport">{escape(row.ports)}</td>',
        '<td role="cell" data-label="Richtung">ausgehend</td>',
    ]
    return f'<tr role="row">{"".join(cells)}</tr>\n'


# The operator


_NAMES: Final = MappingProxyType(
    {"name": "Name", "address": "Anschrift", "email": "E-Mail-Adresse", "phone": "Telefonnummer"}
)


def _operator_values(operator: OperatorSettings) -> dict[str, str]:
    return {
        "operator_name": escape(operator.name) or "der Betreiber dieser Installation",
        "operator_block": _operator_block(operator),
        "operator_contact": _contact(operator),
        "operator_reach": _contact_list(_email_link(operator.email), _phone_link(operator.phone)),
        "operator_missing": _missing(operator),
    }


def _operator_block(operator: OperatorSettings) -> str:
    """Name and address as on an envelope; a gap for what is not known yet."""
    address = [line.strip() for line in operator.address.replace(",", "\n").split("\n")]
    lines = [
        f"<strong>{escape(operator.name)}</strong>" if operator.name else _gap("name"),
        *([escape(line) for line in address if line] or [_gap("address")]),
    ]
    return f"<address>{'<br />'.join(lines)}</address>"


def _contact(operator: OperatorSettings) -> str:
    """E-mail address and telephone number, with a gap for what is not known yet."""
    email = _email_link(operator.email) or _gap("email")
    return _contact_list(email, _phone_link(operator.phone) or _gap("phone"))


def _contact_list(email: str, phone: str) -> str:
    items = [("E-Mail", email), ("Telefon", phone)]
    known = "".join(f"<div><dt>{name}</dt><dd>{link}</dd></div>" for name, link in items if link)
    return f"<dl>{known}</dl>" if known else ""


def _email_link(email: str) -> str:
    return f'<a href="mailto:{escape(quote(email, safe="@"))}">{escape(email)}</a>' if email else ""


def _phone_link(phone: str) -> str:
    number = "".join(character for character in phone if character.isdigit() or character == "+")
    return f'<a href="tel:{escape(number)}">{escape(phone)}</a>' if phone else ""


def _gap(key: str) -> str:
    return f'<span class="gap">[{_NAMES[key]} fehlt]</span>'


def _missing(operator: OperatorSettings) -> str:
    """What the operator must still fill in, and where; nothing when all is there."""
    keys = [key for key in _NAMES if not getattr(operator, key)]
    if not keys:
        return ""
    items = "".join(f"<li>{_NAMES[key]}: <code>signaling.operator.{key}</code></li>" for key in keys)
    return (
        '<div class="note-open"><p><strong>Diese Angaben sind unvollständig.</strong>'
        f" Der Betreiber muss in seinen Einstellungen noch eintragen:</p><ul>{items}</ul></div>"
    )


# The times


def _time_values(settings: SignalingSettings) -> dict[str, str]:
    opens = _count(settings.entry_opens_minutes, "Minute", "Minuten")
    return {
        "entry_opens": f"{opens} vor dem geplanten Beginn" if settings.entry_opens_minutes else "dem geplanten Beginn",
        "entry_closes": _count(settings.entry_closes_hours, "Stunde", "Stunden"),
        "seat_hold": _count(settings.seat_hold_seconds, "Sekunde", "Sekunden"),
    }


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
