from check.findings import Chain, EchoFinding, EchoWay, Outcome, Row, Step
from check.languages import WORDS
from check.plan import Family, Transport
from check.view import Tone, explanations, facts, has_control_echo, lines, summary_text, summary_tone
from tests.support.check_samples import all_open, blocked_row, open_row, pages_row, range_of, report_of, tls

DE, EN = WORDS["de"], WORDS["en"]


def line_of(row: Row) -> dict[str, str]:
    (line,) = lines(report_of([row]), DE)
    return line._asdict()


def test_a_line_has_the_times_of_its_steps() -> None:
    line = line_of(open_row(Transport.TLS, 5349))
    assert line["port"] == "TLS 5349"
    assert (line["connect"], line["tls"], line["binding"], line["allocate"]) == ("12", "21", "12", "25")
    assert (line["loss"], line["echo"], line["jitter"]) == ("0 %", "24 / 31", "1.2")
    assert (line["verdict"], line["tone"]) == ("offen", Tone.GOOD)


def test_the_step_that_failed_is_marked_and_what_was_not_tried_is_not() -> None:
    line = line_of(blocked_row(Transport.TLS, 5349))
    assert (line["connect"], line["tls"], line["allocate"]) == ("✗", "–", "–")
    assert (line["verdict"], line["tone"]) == ("gesperrt", Tone.BAD)


def test_an_echo_that_did_not_go_through_the_relay_is_marked() -> None:
    row = open_row(Transport.TCP, 3478)
    row.echo = EchoFinding(EchoWay.CONTROL, 150, 150, 0.0, 24.1, 31.0, 1.2)
    report = report_of([row])
    assert lines(report, DE)[0].echo == "24 / 31*"
    assert has_control_echo(report)
    assert not has_control_echo(report_of(all_open()))


def test_ports_with_the_same_trouble_are_explained_together() -> None:
    rows = [blocked_row(Transport.UDP, 3478), blocked_row(Transport.UDP, 3479), open_row(Transport.TCP, 3478)]
    refused = blocked_row(Transport.TCP, 3479)
    refused.connect = Step(Outcome.REFUSED)
    first, second = explanations(report_of([*rows, refused]), DE)
    assert first.name == "UDP 3478 IPv4, UDP 3479 IPv4"
    assert first.text == "gesperrt (keine Antwort): Die Regel in der Firewall fehlt, oder der Dienst läuft dort nicht"
    assert second.name == "TCP 3479 IPv4" and "zurückgewiesen" in second.text


def test_a_test_without_an_allocation_is_explained_though_the_port_is_open() -> None:
    row = open_row(Transport.UDP, 3478)
    row.allocate, row.echo = Step(Outcome.REJECTED, 9.0, 403), None
    (found,) = explanations(report_of([row]), EN)
    assert (found.name, found.tone) == ("UDP 3478 IPv4", Tone.GOOD)
    assert "gave the test no address (rejected 403)" in found.text


def test_nothing_is_explained_where_all_is_well() -> None:
    assert explanations(report_of(all_open()), DE) == []


def test_a_certificate_is_described_once_with_its_ports() -> None:
    rows = [open_row(Transport.TLS, 5349), open_row(Transport.TLS, 5350)]
    (certificate,) = [fact for fact in facts(report_of(rows), DE) if fact.name == "Zertifikat"]
    assert certificate.text.startswith("TLS 5349, TLS 5350: TLSv1.3")
    assert "Aussteller Public Authority, noch 60 Tage, vertrauenswürdig, das des Dienstes" in certificate.text
    assert certificate.tone is Tone.GOOD


def test_a_certificate_of_somebody_else_is_bad() -> None:
    row = pages_row()
    row.tls = tls(is_own=False, issuer="Corporate Inspection", chain=Chain.UNTRUSTED, chain_problem="unknown issuer")
    (certificate,) = [fact for fact in facts(report_of([row]), EN) if fact.name == "Certificate"]
    assert certificate.tone is Tone.BAD
    assert "issuer Corporate Inspection" in certificate.text
    assert "not trusted (unknown issuer), not the service's" in certificate.text


def test_the_range_names_some_of_its_sample() -> None:
    report = report_of(all_open(), [range_of([50000], [50000, 52000, 55000, 60000])])
    (found,) = [fact for fact in facts(report, DE) if fact.name == "Portbereich"]
    assert found.text == "UDP 49152–65535 IPv4: 1 von 4 Stichproben zwischen 50000 und 60000 erreicht"
    assert found.tone is Tone.WARNING


def test_this_machine_is_shown_with_the_address_that_the_service_sees() -> None:
    (found,) = [fact for fact in facts(report_of(all_open()), DE) if fact.name == "Dieser Rechner"]
    assert found.text == "192.0.2.5, vom Dienst gesehen als 198.51.100.4"


def test_a_service_that_refuses_credentials_is_told_with_its_reason() -> None:
    report = report_of(all_open())
    report.credentials, report.service = "none", Step(Outcome.REJECTED, 9.0, 429, "again in 17 s")
    texts = [fact.text for fact in facts(report, DE)]
    assert "Der Dienst gab keine Zugangsdaten: abgelehnt 429, again in 17 s" in texts


def test_the_summary_is_a_sentence_and_as_good_as_its_exit_status() -> None:
    assert summary_text(report_of(all_open()), DE) == "Videosprechstunde möglich: ja"
    dead = report_of([blocked_row(Transport.UDP, 3478, Family.IPV6)])
    assert summary_text(dead, EN).startswith("Video consultation possible: no, because video.example.org answers")
    assert (summary_tone(report_of(all_open())), summary_tone(dead)) == (Tone.GOOD, Tone.BAD)
