"""What the signaling server can see of a consultation, and what it can do: somebody sits between it and two pages."""

import base64
import binascii
import json
import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.support.browser import Participant, talk
from tests.support.service import Service

DOCTOR, PATIENT = "Dr. Anna Beispiel", "Petra Muster"
FAILED = 'redconnect_signaling_pairings_total{result="failed"}'
# What an SDP or a candidate consists of; `typ host` and the like stand in every candidate.
# Long enough that encrypted bytes, and their base64, do not say them by chance.
TELLING = re.compile(
    rb"a=mid:|a=setup|a=rtpmap|m=video|candidate|typ (host|srflx|relay)|fingerprint|ice-ufrag|Beispiel|Petra|Muster"
)

# The server hears neither that the page leaves nor that it closes the socket, and believes it to be there.
DEAD_LINE = """{
  const { send } = WebSocket.prototype;
  WebSocket.prototype.send = function (text) { if (JSON.parse(text).type !== "leave") send.call(this, text); };
  WebSocket.prototype.close = () => {};
}"""

Meddler = Callable[[dict[str, Any]], list[dict[str, Any]]]


class Between:
    """Sits on the way between a page and the server; sees all and may deliver something else."""

    def __init__(self, participant: Participant, meddle: Meddler | None = None) -> None:
        self.to_server: list[dict[str, Any]] = []
        self.to_page: list[dict[str, Any]] = []
        self._meddle = meddle or (lambda message: [message])
        self._page: WebSocketRoute | None = None
        participant.page.route_web_socket(re.compile(r"/ws$"), self._join)

    def _join(self, page: WebSocketRoute) -> None:
        server = page.connect_to_server()
        self._page = page

        def from_page(text: str | bytes) -> None:
            message = json.loads(text)
            self.to_server.append(message)
            for each in self._meddle(message):
                server.send(json.dumps(each))

        def from_server(text: str | bytes) -> None:
            self.to_page.append(json.loads(text))
            page.send(text)

        page.on_message(from_page)
        server.on_message(from_server)

    def tell(self, message: dict[str, Any]) -> None:
        """Say something to the page in the name of the server."""
        assert self._page is not None
        self._page.send(json.dumps(message))

    def kinds(self) -> set[str]:
        """The first words of all blobs that the page has sent."""
        return {str(message["blob"]).partition(".")[0] for message in self.to_server if message["type"] == "relay"}


def readings(message: dict[str, Any]) -> list[bytes]:
    """A message, and all that its parts say if they are base64."""
    found = [json.dumps(message).encode()]
    for part in str(message.get("blob", "")).split("."):
        try:
            found.append(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        except binascii.Error:
            continue
    return found


def test_the_server_sees_no_name_no_description_and_no_candidate(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    codes = service.create_appointment()
    seen = [Between(doctor), Between(patient)]
    for participant, link, name in ((doctor, codes.organiser_link, DOCTOR), (patient, codes.participant_link, PATIENT)):
        participant.open(link)
        participant.join(name)
    for participant in (doctor, patient):
        participant.await_connected()
        expect(participant.page.get_by_test_id("lock")).to_be_visible()
    patient.page.get_by_test_id("camera-button").click()
    expect(doctor.page.get_by_test_id("remote-placeholder")).to_be_visible()
    doctor.hang_up()
    patient.text("ended-text")
    everything = [message for between in seen for message in (*between.to_server, *between.to_page)]
    assert {message["type"] for message in everything} == {"join", "joined", "peer", "relay", "paired", "leave"}
    assert seen[0].kinds() == seen[1].kinds() == {"ke1", "ke2", "ke3", "sealed"}
    sealed = [message for message in everything if str(message.get("blob")).startswith("sealed.")]
    assert len(sealed) > 10
    secret = codes.organiser_link.rpartition("#")[2][6:11].encode()
    for message in everything:
        # `joined` names the STUN and TURN servers, and says who may use them; it tells nothing of a participant.
        if message["type"] == "joined":
            assert set(message) == {"type", "room", "pid", "role", "tier", "features", "start", "end", "resume", "ice"}
            continue
        for reading in readings(message):
            assert TELLING.search(reading) is None, reading
            assert secret not in reading


@pytest.mark.long
def test_both_read_the_same_safety_code_in_the_panel_while_the_talk_runs_on(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    codes = service.create_appointment()
    for participant, link, name in ((doctor, codes.organiser_link, DOCTOR), (patient, codes.participant_link, PATIENT)):
        participant.open(link)
        participant.join(name)
    read = []
    for participant, partner in ((doctor, PATIENT), (patient, DOCTOR)):
        participant.await_connected()
        participant.page.get_by_test_id("menu-button").click()
        assert participant.text("participant-partner") == partner
        read.append(participant.text("safety-code"))
        participant.await_growth("framesDecoded")
        participant.page.keyboard.press("Escape")
        expect(participant.page.get_by_test_id("panel")).to_be_hidden()
        expect(participant.page.get_by_test_id("menu-button")).to_be_focused()
    assert re.fullmatch(r"\d{3} \d{3}", read[0])
    assert read[0] == read[1]


@pytest.mark.long
def test_digits_that_are_others_than_those_read_before_are_told_as_such_and_once(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    between = Between(doctor)
    talk(service.create_appointment(), doctor, patient)
    doctor.page.get_by_test_id("menu-button").click()
    read, note = doctor.text("safety-code"), doctor.page.get_by_test_id("safety-renewed")
    assert re.fullmatch(r"\d{3} \d{3}", read)
    expect(note).to_be_hidden()
    sealed = [message for message in between.to_page if str(message.get("blob")).startswith("sealed.")]
    between.tell(sealed[-1])  # what comes twice does not open, and the two agree on new keys
    expect(note).to_be_visible()
    expect(doctor.page.get_by_test_id("safety-code")).not_to_have_text(read)
    patient.page.get_by_test_id("menu-button").click()
    expect(patient.page.get_by_test_id("safety-code")).to_have_text(doctor.text("safety-code"))
    expect(patient.page.get_by_test_id("safety-renewed")).to_be_hidden()  # who has read none before misses none
    doctor.page.keyboard.press("Escape")
    expect(doctor.page.get_by_test_id("panel")).to_be_hidden()
    doctor.page.get_by_test_id("menu-button").click()
    expect(doctor.page.get_by_test_id("protection")).to_be_visible()
    expect(note).to_be_hidden()
    doctor.await_flow()


def swap_share(message: dict[str, Any]) -> list[dict[str, Any]]:
    """What a man in the middle does who does not know the secret: put in a key of its own."""
    kind, *parts = str(message.get("blob", "")).split(".")
    if kind == "ke2":
        parts[1] = "CQ" + "A" * 41  # the base point, as good as any
        return [message | {"blob": ".".join((kind, *parts))}]
    return [message]


def swap_proof(message: dict[str, Any]) -> list[dict[str, Any]]:
    kind, *parts = str(message.get("blob", "")).split(".")
    if kind == "ke3":
        parts[1] = parts[1][::-1]
        return [message | {"blob": ".".join((kind, *parts))}]
    return [message]


@pytest.mark.parametrize("meddle", [swap_share, swap_proof])
def test_a_man_in_the_middle_gets_nothing_and_both_sides_are_told(
    service: Service, doctor: Participant, patient: Participant, meddle: Meddler
) -> None:
    codes = service.create_appointment()
    before = service.metrics()[FAILED]
    seen = [Between(doctor, meddle), Between(patient, meddle)]
    for participant, link, name in ((doctor, codes.organiser_link, DOCTOR), (patient, codes.participant_link, PATIENT)):
        participant.open(link)
        participant.join(name)
    for participant in (doctor, patient):
        told = participant.text("error-text")
        assert told == "Die Verbindung konnte nicht verifiziert werden. Bitte rufen Sie Ihre Praxis an."
        assert participant.connections() == 0, "not even an offer was made"
    assert seen[0].kinds() == {"ke1", "ke2", "ke3"}
    assert seen[1].kinds() == {"ke1", "ke2", "refused"}, "a participant proves nothing to whom it does not know"
    service.await_that(lambda: service.metrics()[FAILED] >= before + 4)


def test_a_server_that_asks_whether_guesses_are_right_and_gives_no_answer_is_stopped_after_twenty(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    codes = service.create_appointment()
    before = service.metrics()[FAILED]
    asked = 0

    def guess(message: dict[str, Any]) -> list[dict[str, Any]]:
        """Answer each share by one of its own, and the proof by a new beginning: nothing of this is a wrong answer."""
        nonlocal asked
        kind, *parts = str(message.get("blob", "")).split(".")
        if message["type"] != "relay":
            return [message]
        peer = message["to"]
        if kind == "ke2":
            who = base64.urlsafe_b64encode(f"participant{peer}1".encode()).decode().rstrip("=")
            between.tell({"type": "relay", "from": peer, "blob": f"ke2.{parts[0]}.CQ{'A' * 41}.{who}"})
        elif kind == "ke3":
            asked += 1
            commitment = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
            between.tell({"type": "relay", "from": peer, "blob": f"ke1.{commitment}"})
        return []

    between = Between(doctor, guess)
    patient.open(codes.participant_link)
    patient.join(PATIENT)
    doctor.open(codes.organiser_link)
    doctor.join(DOCTOR)
    told = doctor.text("error-text")
    assert told == "Die Verbindung konnte nicht verifiziert werden. Bitte rufen Sie Ihre Praxis an."
    assert asked == 20
    assert doctor.connections() == 0
    service.await_that(lambda: service.metrics()[FAILED] == before + 20)


@pytest.mark.long
def test_who_hangs_up_on_a_dead_line_may_come_back_at_once(
    service: Service, patient: Participant, invite: Callable[..., Participant]
) -> None:
    doctor = invite(script=DEAD_LINE)
    talk(service.create_appointment(), doctor, patient)
    doctor.hang_up()
    doctor.page.get_by_test_id("rejoin-button").click()
    expect(doctor.page.get_by_test_id("hangup-button")).to_be_visible()
    patient.page.get_by_test_id("rejoin-button").click()
    for participant in (doctor, patient):
        participant.await_connected()
    assert doctor.connections() == 2


@pytest.mark.long
def test_a_code_with_another_secret_is_told_to_both_and_nobody_else_is_kept_out(
    service: Service, doctor: Participant, patient: Participant, invite: Callable[..., Participant]
) -> None:
    """Somebody has guessed the locator, and makes the check symbol fit: 25 bits are missing."""
    codes = service.create_appointment()
    guesser = invite()
    own = codes.participant_link.rpartition("#")[2]
    guessed = next(
        code
        for last in "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        if (code := with_check(own[:10] + last)) != own and last != own[10]
    )
    guesser.open(codes.participant_link.replace(own, guessed))
    guesser.join("Somebody")
    doctor.open(codes.organiser_link)
    doctor.join(DOCTOR)
    text = "Die Verbindung konnte nicht verifiziert werden. Bitte rufen Sie Ihre Praxis an."
    assert guesser.text("error-text") == text
    assert doctor.text("error-text") == text
    assert guesser.connections() == doctor.connections() == 0
    for participant, link, name in ((patient, codes.participant_link, PATIENT), (doctor, codes.organiser_link, DOCTOR)):
        participant.open(link)
        participant.join(name)
    doctor.await_connected()
    assert doctor.text("remote-name") == PATIENT


def with_check(symbols: str) -> str:
    """Eleven symbols and the check symbol that belongs to them."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    check = 0
    for symbol in symbols:
        check = (check ^ alphabet.index(symbol)) << 1
        if check & 0b100000:
            check ^= 0b100101
    return symbols + alphabet[check]
