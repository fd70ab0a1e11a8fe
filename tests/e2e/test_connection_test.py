"""The connection test in Chromium: on one machine, and behind the firewalls that it is for."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, Response, expect

from tests.support.axe import find_barriers
from tests.support.browser import CHROMIUM, Participant, chromium
from tests.support.connection_test_page import closed_ports, lines, run_test, states, step
from tests.support.firewall_lab import Authority
from tests.support.lab import SERVER_NAME, Lab, open_lab
from tests.support.service import Service, run_service

PAGE = f"https://{SERVER_NAME}:8443"
ALL = ["UDP 3478", "UDP 3479", "TCP 3478", "TCP 3479", "TCP (TLS) 5349", "TCP (TLS) 5350"]
RANGE = {"UDP 49152 – 65535": "unneeded"}
DEAD_HOST = "10.91.1.99"
OTHER_IP = "10.91.1.3"
RELAY_PORTS = "3478, 3479, 5349, 5350"
TRIAL_SECONDS = 60  # after which an allocation of a test ends, whatever its client does
PAGE_BYTES = 145_000  # uncompressed
DESKTOP, PHONE = (1280, 800), (360, 740)
NO_CLIPBOARD = "Object.defineProperty(Navigator.prototype, 'clipboard', { value: undefined });"
COPIES = """
  window.__copied = [];
  Object.defineProperty(Navigator.prototype, "clipboard", {
    value: { writeText: async (words) => { window.__copied.push(words); } },
  });
"""


def address(service: Service) -> str:
    return str(service.settings["signaling"]["public_url"])


# On one machine


@pytest.mark.long  # five seconds of media through the relay, on a machine that has time for them
def test_on_an_open_line_every_port_is_green_and_the_line_is_measured(patient: Participant, service: Service) -> None:
    run_test(patient.page, address(service))
    assert step(patient.page) == "good"
    found = states(patient.page)
    assert sorted(found.values()) == ["open", "open", "open", "unneeded"]
    assert all(line.words == "offen" for line in lines(patient.page) if line.state == "open")
    loss = patient.page.get_by_test_id("test-loss").inner_text()
    assert re.fullmatch(r"\d{1,3},\d %", loss)
    assert re.fullmatch(r"\d+ ms", patient.page.get_by_test_id("test-rtt").inner_text())
    assert "Mbit/s" in patient.page.get_by_test_id("test-bandwidth").inner_text()
    expect(patient.page.get_by_test_id("test-rules")).to_be_hidden()
    assert [url for url in patient.requested if not url.startswith(address(service) + "/")] == []
    # The browser gives each allocation back by one datagram. If that gets lost, the allocation ends when a test's must.
    service.await_that(lambda: allocations(service) == 0, TRIAL_SECONDS + 10)


def test_the_page_is_light_and_fetches_nothing_of_the_room(patient: Participant, service: Service) -> None:
    answers: list[Response] = []
    patient.page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108  # a name for Playwright
    patient.open(f"{address(service)}/test")
    patient.page.get_by_test_id("test-start").wait_for()
    patient.page.wait_for_load_state("networkidle")
    assert sum(len(answer.body()) for answer in answers) < PAGE_BYTES
    paths = [answer.url.removeprefix(address(service)) for answer in answers]
    assert "/js/connection_test/page.js" in paths
    assert not {"/js/room.js", "/js/consultation.js", "/css/stage.css"} & set(paths)


@pytest.mark.long  # five seconds of media through the relay, on a machine that has time for them
def test_on_paper_there_are_the_results_and_no_buttons(patient: Participant, service: Service) -> None:
    run_test(patient.page, address(service))
    patient.page.emulate_media(media="print")
    for test_id in ("test-start", "test-copy", "check-button", "language"):
        expect(patient.page.get_by_test_id(test_id)).to_be_hidden()
    for test_id in ("test-verdict", "test-rows", "test-loop"):
        expect(patient.page.get_by_test_id(test_id)).to_be_visible()


@pytest.mark.long
def test_the_result_is_copied_as_a_table(invite: Callable[..., Participant], service: Service) -> None:
    visitor = invite(script=COPIES)
    run_test(visitor.page, address(service))
    visitor.page.get_by_test_id("test-copy").click()
    expect(visitor.page.get_by_test_id("copy-note")).to_have_text("Kopiert.")
    (copied,) = visitor.page.evaluate("() => window.__copied")
    assert copied.startswith("Verbindungstest\n\nGut: Alle Ports sind offen")
    for line in lines(visitor.page):
        assert re.search(rf"^localhost +{re.escape(line.transport)} +{line.port} +{line.words}", copied, re.MULTILINE)
    assert "test:" not in copied, "the report has the credentials of the test in it"


@pytest.mark.long
def test_where_nothing_may_be_copied_the_text_is_selected(invite: Callable[..., Participant], service: Service) -> None:
    visitor = invite(script=NO_CLIPBOARD)
    run_test(visitor.page, address(service))
    visitor.page.get_by_test_id("test-copy").click()
    report = visitor.page.get_by_test_id("report")
    expect(report).to_be_focused()
    chosen = visitor.page.evaluate("() => [document.activeElement.selectionStart, document.activeElement.selectionEnd]")
    assert chosen == [0, len(report.input_value())]
    expect(visitor.page.get_by_test_id("copy-note")).to_contain_text("Strg+C")


@pytest.mark.long
def test_the_result_is_said_in_english_without_another_test(patient: Participant, service: Service) -> None:
    run_test(patient.page, address(service))
    before = states(patient.page)
    patient.page.get_by_test_id("language").click()
    expect(patient.page.get_by_test_id("test-verdict")).to_contain_text("All ports are open")
    assert patient.page.evaluate("() => document.documentElement.lang") == "en"
    assert states(patient.page) == before
    assert sum(url.endswith("/connection-test") for url in patient.requested) == 1


def test_devices_are_tried_on_the_page(patient: Participant, service: Service) -> None:
    patient.open(f"{address(service)}/test")
    patient.page.get_by_test_id("check-button").click()
    patient.page.wait_for_function("() => document.querySelector('[data-testid=check-video]').videoWidth > 0")
    patient.page.wait_for_function(
        "() => Number(document.querySelector('[data-testid=check-level]').getAttribute('aria-valuenow')) > 0"
    )
    patient.page.get_by_test_id("check-end").click()
    expect(patient.page.get_by_test_id("check")).to_be_hidden()


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (429, {"Retry-After": "6"}, "Zu viele Tests aus diesem Netz. Bitte in 6 Sekunden erneut."),
        (404, {}, "Dieser Dienst hat keinen Vermittlungsserver, den man testen könnte."),
        (503, {}, "Der Dienst ist gerade nicht erreichbar."),
    ],
)
def test_a_test_that_cannot_begin_says_why_and_may_be_begun_again(
    patient: Participant, service: Service, status: int, headers: dict[str, str], words: str
) -> None:
    patient.page.route("**/connection-test", lambda route: route.fulfill(status=status, headers=headers))
    patient.open(f"{address(service)}/test")
    patient.page.get_by_test_id("test-start").click()
    expect(patient.page.get_by_test_id("test-problem")).to_have_text(words)
    expect(patient.page.get_by_test_id("test-start")).to_have_text("Noch einmal testen")
    expect(patient.page.get_by_test_id("test-start")).to_have_attribute("aria-disabled", "false")
    patient.complaints.clear()  # the browser's own line for such an answer


@pytest.mark.long
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_certificate_that_the_browser_refuses_is_not_blamed_on_a_firewall(
    playwright: Playwright, service: Service, viewport: tuple[int, int], tmp_path: Path
) -> None:
    with chromium(playwright, trusting=False) as distrustful:
        visitor = Participant(distrustful, viewport=viewport, script=COPIES)
        page = visitor.page
        run_test(page, address(service))
        (tls,) = [line for line in lines(page) if line.transport == "TCP (TLS)"]
        assert (tls.state, tls.words) == ("unclear", "nicht prüfbar: Zertifikat selbst signiert")
        assert sorted(states(page).values()) == ["open", "open", "unclear", "unneeded"]
        expect(page.get_by_test_id("test-rules")).to_be_hidden()
        expect(page.get_by_test_id("test-certificate")).to_contain_text("tls.certificate_file")
        assert find_barriers(page) == []
        assert page.evaluate("() => document.scrollingElement.scrollWidth <= window.innerWidth")
        page.screenshot(path=tmp_path / "refused.png", full_page=True)
        page.get_by_test_id("test-copy").click()
        expect(page.get_by_test_id("copy-note")).to_have_text("Kopiert.")
        (copied,) = page.evaluate("() => window.__copied")
        assert "Abhilfe beim Betreiber" in copied and "easyrule" not in copied
        page.get_by_test_id("language").click()
        expect(page.get_by_test_id("test-certificate")).to_contain_text("is self-signed")
        expect(page.get_by_test_id("test-rows")).to_contain_text("cannot be told: self-signed certificate")
        assert visitor.complaints == []
        visitor.close()


@pytest.mark.long  # five seconds of media through the relay, on a machine that has time for them
def test_the_page_is_used_by_keys_and_tells_what_it_found(patient: Participant, service: Service) -> None:
    page = patient.page
    patient.open(f"{address(service)}/test")
    page.get_by_test_id("test-start").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("test-start")).to_have_attribute("aria-disabled", "true")
    expect(page.get_by_test_id("test-start")).to_be_focused()
    page.wait_for_function(
        "() => document.getElementById('announcer').textContent.includes('Der Test ist fertig. Gut:')", timeout=30_000
    )
    page.keyboard.press("Tab")
    expect(page.get_by_test_id("test-copy")).to_be_focused()


@pytest.mark.long
@pytest.mark.parametrize("viewport", [pytest.param(DESKTOP, marks=pytest.mark.long), PHONE], ids=["desktop", "phone"])
def test_no_state_of_the_page_has_a_barrier_or_is_wider_than_the_window(
    invite: Callable[..., Participant], service: Service, viewport: tuple[int, int]
) -> None:
    visitor = invite(viewport=viewport, script=closed_ports("turn:"))
    page = visitor.page
    fits = "() => document.scrollingElement.scrollWidth <= window.innerWidth"
    visitor.open(f"{address(service)}/test")
    page.get_by_test_id("check-button").click()
    page.wait_for_function("() => document.querySelector('[data-testid=check-video]').videoWidth > 0")
    assert find_barriers(page) == []
    assert page.evaluate(fits)
    page.get_by_test_id("test-start").click()
    page.get_by_test_id("test-rows").locator("[data-state=running]").first.wait_for()
    assert find_barriers(page) == []
    page.get_by_test_id("test-verdict").wait_for(timeout=30_000)
    assert step(page) == "weak"
    assert find_barriers(page) == []
    assert page.evaluate(fits)


def allocations(service: Service) -> float:
    return sum(value for name, value in service.metrics().items() if name.startswith("redconnect_relay_allocations{"))


# Behind firewalls


class Practice:
    """A practice's network, and the service outside of it."""

    def __init__(self, lab: Lab, service: Service, browser: Browser) -> None:
        self.lab = lab
        self.service = service
        self.browser = browser

    @contextlib.contextmanager
    def visitor(self, *rules: str) -> Iterator[Participant]:
        """Somebody whose test is done, behind a firewall with these rules."""
        visitor = Participant(self.browser)
        with self.lab.arriving(self.lab.server, *rules):
            run_test(visitor.page, PAGE)
            yield visitor
        assert visitor.complaints == []
        visitor.close()


@pytest.fixture(scope="module")
def practice(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Practice]:
    folder = tmp_path_factory.mktemp("practice")
    with open_lab() as lab:
        certificate_file, key_file = Authority("An authority", folder).issue(SERVER_NAME, lab.server_ip, DEAD_HOST)
        settings = {
            "tls": {"certificate_file": str(certificate_file), "key_file": str(key_file)},
            "relay": {"relay_addresses": [lab.server_ip]},
            # Chromium looks up the hosts of turn: URLs without /etc/hosts, and there is no DNS in the lab.
            "signaling": {"port": 8443, "https": True, "public_url": PAGE, "ice": {"host": lab.server_ip}},
        }
        with (
            run_service(folder, settings, lab.server) as service,
            chromium(playwright, lab.wrapper(lab.alice, CHROMIUM, folder)) as browser,
        ):
            yield Practice(lab, service, browser)


def expected(*closed: str) -> dict[str, str]:
    return {**{port: "closed" if port in closed else "open" for port in ALL}, **RANGE}


@pytest.mark.long
@pytest.mark.parametrize(
    ("rules", "closed", "verdict", "words"),
    [
        ([], [], "good", "Alle Ports sind offen"),
        (["udp dport { 3478, 3479 } drop"], ALL[:2], "weak", "UDP ist gesperrt"),
        (
            ["udp dport { 3478, 3479 } drop", "tcp dport { 3478, 3479, 5350 } drop"],
            [*ALL[:4], ALL[5]],
            "weak",
            "Nur TLS ist offen",
        ),
        (["udp dport 49152-65535 drop"], [], "good", "Alle Ports sind offen"),
        (["tcp dport 3479 reject with tcp reset"], [ALL[3]], "weak", "Einige Ports sind gesperrt"),
        (
            [f"udp dport {{ {RELAY_PORTS} }} drop", f"tcp dport {{ {RELAY_PORTS} }} drop"],
            ALL,
            "bad",
            "antwortet an keinem Port",
        ),
    ],
    ids=["open", "without-udp", "one-tls-port", "without-relay-range", "refused", "nothing"],
)
def test_the_page_names_what_a_firewall_closes(
    practice: Practice, rules: list[str], closed: list[str], verdict: str, words: str
) -> None:
    with practice.visitor(*rules) as visitor:
        assert states(visitor.page) == expected(*closed)
        assert step(visitor.page) == verdict
        assert words in visitor.text("test-verdict")
        for line in lines(visitor.page):
            if line.state == "closed":
                protocol = "UDP" if line.transport == "UDP" else "TCP"
                rule = (
                    f"Quelle: dieses Netz; Ziel: {practice.lab.server_ip}; Protokoll: {protocol};"
                    f" Zielport: {line.port}; Richtung: ausgehend"
                )
                assert line.words.startswith("gesperrt: ") and line.words.endswith(rule)


@pytest.mark.long
def test_a_refusal_is_told_from_silence(practice: Practice) -> None:
    rules = ["tcp dport 3479 reject with tcp reset", "tcp dport 5350 drop"]
    with practice.visitor(*rules) as visitor:
        said = {f"{line.transport} {line.port}": line.words for line in lines(visitor.page)}
    assert said["TCP 3479"].startswith("gesperrt: abgewiesen")
    assert said["TCP (TLS) 5350"].startswith("gesperrt: keine Antwort")


@pytest.mark.long
def test_a_host_that_is_dead_answers_at_no_port(practice: Practice) -> None:
    practice.service.reload({"signaling": {"ice": {"host": DEAD_HOST}}})
    try:
        with practice.visitor() as visitor:
            assert {state for port, state in states(visitor.page).items() if port in ALL} == {"closed"}
            assert f"{DEAD_HOST} antwortet an keinem Port" in visitor.text("test-verdict")
            expect(visitor.page.get_by_test_id("test-loop-state")).to_have_text("Nicht gemessen.")
    finally:
        practice.service.reload({"signaling": {"ice": {"host": practice.lab.server_ip}}})


@pytest.mark.long
def test_a_web_proxy_is_told_from_a_closed_port(practice: Practice) -> None:
    lab = practice.lab
    lab.run(lab.alice, "ip", "addr", "add", f"{OTHER_IP}/24", "dev", f"{lab.alice}0")
    rule = f"type nat hook postrouting priority 100; ip daddr {lab.server_ip} tcp dport 8443 snat to {OTHER_IP}"
    assert lab.run(lab.alice, "nft", f"table ip proxy {{ chain out {{ {rule}; }}; }}").returncode == 0
    try:
        with practice.visitor() as visitor:
            assert states(visitor.page) == expected()
            assert "Web-Proxy" in visitor.text("test-verdict")
            assert all("andere Adresse" in line.words for line in lines(visitor.page) if line.state == "open")
    finally:
        lab.run(lab.alice, "nft", "delete table ip proxy")
        lab.run(lab.alice, "ip", "addr", "del", f"{OTHER_IP}/24", "dev", f"{lab.alice}0")


@pytest.mark.long
def test_the_rules_to_paste_open_what_they_name(practice: Practice, tmp_path: Path) -> None:
    with practice.visitor("udp dport { 3478, 3479 } drop", "tcp dport 5350 drop") as visitor:
        pastes = visitor.page.locator("#test-pastes pre").all_inner_texts()
    lab, script = practice.lab, tmp_path / "paste.sh"
    script.write_text(pastes[0])
    chain = "table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }"
    assert lab.run(lab.bob, "nft", chain).returncode == 0
    pasted = lab.run(lab.bob, "sh", "-e", str(script))
    listed = lab.run(lab.bob, "nft", "list", "chain", "inet", "filter", "forward").stdout
    lab.run(lab.bob, "nft", "delete table inet filter")
    assert pasted.stderr == ""
    assert f"ip daddr {lab.server_ip} udp dport {{ 3478, 3479 }} accept" in listed
    assert f"ip daddr {lab.server_ip} tcp dport 5350 accept" in listed or "tcp dport { 5350 } accept" in listed
    assert pastes[1].splitlines() == [
        f"easyrule pass lan udp any {lab.server_ip} 3478",
        f"easyrule pass lan udp any {lab.server_ip} 3479",
        f"easyrule pass lan tcp any {lab.server_ip} 5350",
    ]
    assert "set udp-portrange 3478 3479" in pastes[2] and "set tcp-portrange 5350" in pastes[2]
