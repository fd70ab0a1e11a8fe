"""The settings in the panel, used in the middle of a consultation between two real browser windows."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import CONNECT_MS, Participant, talk, watch_both
from tests.support.fake_devices import WATCHED
from tests.support.service import Service

# Keeps what the page sends to a loudspeaker, and how loud it is.
LISTENER = """
  window.__played = [];
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = function () {
    if (this instanceof HTMLAudioElement) {
      const context = new AudioContext();
      const analyser = context.createAnalyser();
      const heard = { sink: this.sinkId, peak: 0 };
      const samples = new Float32Array(analyser.fftSize);
      context.createMediaStreamSource(this.srcObject).connect(analyser);
      setInterval(() => {
        analyser.getFloatTimeDomainData(samples);
        heard.peak = Math.max(heard.peak, ...samples);
      }, 20);
      window.__played.push(heard);
    }
    return play.call(this);
  };
"""
# A machine whose second camera can be pulled out.
PLUG = """
  const enumerate = MediaDevices.prototype.enumerateDevices;
  window.__pulled = new Set();
  MediaDevices.prototype.enumerateDevices = async function () {
    return (await enumerate.call(this)).filter(({ deviceId }) => !window.__pulled.has(deviceId));
  };
"""
# What an earlier talk has left: devices that are not plugged in today.
GONE = """
  if (location.protocol.startsWith("http")) {
    localStorage.setItem("redconnect.preferences", JSON.stringify({ camera: "gone", microphone: "gone" }));
  }
"""
# Loudspeakers that nobody can open, save that of the system.
MUTE_SPEAKERS = """
  window.__sinks = [];
  const setSinkId = HTMLMediaElement.prototype.setSinkId;
  HTMLMediaElement.prototype.setSinkId = async function (id) {
    window.__sinks.push(id);
    if (id !== "" && id !== "default") throw new DOMException("gone", "NotFoundError");
    return setSinkId.call(this, id);
  };
"""
# A camera that opens for nobody who asks for it by its name.
BUSY = """
  const ask = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = async function (constraints) {
    if (constraints.video?.deviceId?.exact) throw new DOMException("in use", "NotReadableError");
    return ask.call(this, constraints);
  };
"""


@pytest.mark.long
def test_settings_open_and_close_while_the_consultation_goes_on(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    talk(service.create_appointment(), doctor, patient)
    page = doctor.page
    page.get_by_test_id("menu-button").click()
    expect(page.get_by_role("heading", name="Übersicht")).to_be_visible()
    page.get_by_role("button", name="Einstellungen").click()
    for heading in ("Einstellungen", "Audio", "Video"):
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    for label in ("Ausgewählte Tonquelle", "Ausgewähltes Mikrofon", "Ausgewählte Videoquelle"):
        expect(page.get_by_role("combobox", name=label)).to_be_visible()
    watch_both(doctor, patient, seconds=2)
    page.get_by_role("button", name="Zurück zur Übersicht").click()
    expect(page.get_by_test_id("participant-partner")).to_have_text("Petra Muster")
    expect(page.get_by_test_id("settings")).to_be_hidden()
    page.get_by_test_id("settings-button").click()
    page.get_by_test_id("panel-close").click()
    expect(page.get_by_test_id("panel")).to_be_hidden()
    expect(page.get_by_test_id("menu-button")).to_be_focused()


@pytest.mark.long
@pytest.mark.parametrize(
    ("device", "kind"), [("camera", "video"), pytest.param("microphone", "audio", marks=pytest.mark.long)]
)
def test_another_device_is_sent_at_once_without_a_new_offer(
    service: Service, doctor: Participant, patient: Participant, device: str, kind: str
) -> None:
    talk(service.create_appointment(), doctor, patient)
    page = open_settings(doctor)
    before, offers = sent(page, kind), descriptions(page)
    another = other_option(page, f"{device}-select", before["deviceId"])
    page.get_by_test_id(f"{device}-select").select_option(another)
    page.wait_for_function(
        """([kind, id]) => window.__connections.at(-1).getSenders()
             .some(({ track }) => track?.kind === kind && track.getSettings().deviceId === id)""",
        arg=[kind, another],
    )
    expect(page.get_by_test_id(f"{device}-select")).to_have_value(another)
    patient.await_growth("framesDecoded" if kind == "video" else "totalAudioEnergy")
    watch_both(doctor, patient, seconds=2)
    assert descriptions(page) == offers
    assert page.evaluate("() => document.getElementById('local-video').srcObject.getTracks().length") == 2


@pytest.mark.long
def test_the_chosen_loudspeaker_carries_the_partner_and_the_test_sound(
    service: Service, invite: Callable[..., Participant], patient: Participant
) -> None:
    doctor = invite(script=LISTENER)
    talk(service.create_appointment(), doctor, patient)
    page = open_settings(doctor)
    another = other_option(page, "speaker-select", page.get_by_test_id("speaker-select").input_value())
    page.get_by_test_id("speaker-select").select_option(another)
    page.wait_for_function("(id) => document.getElementById('remote-video').sinkId === id", arg=another)
    page.get_by_role("button", name="Testgeräusch abspielen").click()
    page.wait_for_function("() => window.__played.some(({ peak }) => peak > 0.1)")
    assert [heard["sink"] for heard in page.evaluate("() => window.__played")] == [another]
    expect(page.get_by_test_id("settings-problem")).to_be_hidden()


@pytest.mark.long
def test_the_meter_follows_the_microphone_and_says_so_in_words(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    talk(service.create_appointment(), doctor, patient)
    page = open_settings(doctor)
    meter = page.get_by_role("meter", name="Mikrofonempfindlichkeit")
    page.wait_for_function("() => Number(document.getElementById('microphone-level').ariaValueNow) > 30")  # a beep
    expect(meter).to_have_attribute("aria-valuetext", "gut zu hören")
    page.get_by_test_id("microphone-button").click()
    expect(meter).to_have_attribute("aria-valuenow", "0")
    expect(meter).to_have_attribute("aria-valuetext", "Mikrofon aus")


@pytest.mark.long
def test_devices_that_come_and_go_come_and_go_in_the_lists(
    service: Service, invite: Callable[..., Participant]
) -> None:
    doctor = invite(script=PLUG)
    enter(service.create_appointment().organiser_link, doctor)
    page = open_settings(doctor)
    second = other_option(page, "camera-select", page.get_by_test_id("camera-select").input_value())
    options = page.get_by_test_id("camera-select").locator("option")
    expect(options).to_have_count(3)
    for change, count in (("add", 2), ("delete", 3)):
        page.evaluate(
            """([change, id]) => {
              window.__pulled[change](id);
              navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
            }""",
            [change, second],
        )
        expect(options).to_have_count(count)


@pytest.mark.long
def test_a_device_that_does_not_open_is_told_and_the_present_one_goes_on(
    service: Service, invite: Callable[..., Participant]
) -> None:
    doctor = invite(script=BUSY)
    enter(service.create_appointment().organiser_link, doctor)
    page = open_settings(doctor)
    used = page.get_by_test_id("camera-select").input_value()
    page.get_by_test_id("camera-select").select_option(other_option(page, "camera-select", used))
    expect(page.get_by_test_id("settings-problem")).to_have_text(
        "Dieses Gerät ließ sich nicht öffnen. Es bleibt beim bisherigen."
    )
    expect(page.get_by_test_id("camera-select")).to_have_value(used)
    expect(page.get_by_test_id("camera-button")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_test_id("device-notice")).to_be_hidden()


@pytest.mark.long
def test_a_loudspeaker_that_does_not_open_is_told_and_not_shown_as_chosen(
    service: Service, invite: Callable[..., Participant]
) -> None:
    doctor = invite(script=MUTE_SPEAKERS)
    enter(service.create_appointment().organiser_link, doctor)
    page = open_settings(doctor)
    select = page.get_by_test_id("speaker-select")
    refused = other_option(page, "speaker-select", "")
    used = select.input_value()
    assert used != refused
    select.select_option(refused)
    expect(page.get_by_test_id("settings-problem")).to_have_text(
        "Dieses Gerät ließ sich nicht öffnen. Es bleibt beim bisherigen."
    )
    expect(select).to_have_value(used)
    assert refused not in page.evaluate("() => JSON.stringify(localStorage)")

    # It opened the last time, and does not today.
    page.evaluate(
        """(speaker) => {
          localStorage.setItem("redconnect.preferences", JSON.stringify({ speaker }));
        }""",
        refused,
    )
    page.reload()
    page.wait_for_function("() => window.__sinks.length > 0")
    open_settings(doctor)
    expect(select.locator("option")).not_to_have_count(0)
    expect(select).to_have_value(used)
    for pressed in ("false", "true"):  # so that the page is rendered
        page.get_by_test_id("microphone-button").click()
        expect(page.get_by_test_id("microphone-button")).to_have_attribute("aria-pressed", pressed)
    assert page.evaluate("() => window.__sinks").count(refused) == 1


@pytest.mark.long
def test_a_camera_chosen_while_it_is_off_stays_off_and_is_the_one_that_is_opened(
    service: Service, invite: Callable[..., Participant], patient: Participant
) -> None:
    doctor = invite(script=WATCHED)
    talk(service.create_appointment(), doctor, patient)
    page = open_settings(doctor)
    used = sent(page, "video")["deviceId"]
    another = other_option(page, "camera-select", used)
    page.get_by_test_id("camera-button").click()
    expect(patient.page.get_by_test_id("remote-placeholder")).to_be_visible()
    expect(page.get_by_test_id("camera-select")).to_have_value(used)
    asked = page.evaluate("() => window.__opened.length")
    page.get_by_test_id("camera-select").select_option(another)
    page.wait_for_function("(id) => JSON.parse(localStorage['redconnect.preferences']).camera === id", arg=another)
    expect(page.get_by_test_id("camera-select")).to_have_value(another)
    assert page.evaluate("() => window.__opened.length") == asked
    page.get_by_test_id("camera-button").click()
    patient.await_growth("framesDecoded")
    assert sent(page, "video")["deviceId"] == another


@pytest.mark.long
def test_choice_and_mute_state_hold_in_the_next_talk_and_nothing_of_the_talk_is_kept(
    service: Service, doctor: Participant
) -> None:
    codes = service.create_appointment()
    enter(codes.organiser_link, doctor)
    page = open_settings(doctor)
    another = other_option(page, "camera-select", page.get_by_test_id("camera-select").input_value())
    page.get_by_test_id("camera-select").select_option(another)
    expect(page.get_by_test_id("camera-select")).to_have_value(another)
    page.get_by_test_id("microphone-button").click()
    doctor.hang_up()
    doctor.text("ended-text")
    kept = json.loads(page.evaluate("() => JSON.stringify(localStorage)"))
    assert list(kept) == ["redconnect.preferences"]
    assert json.loads(kept["redconnect.preferences"]) == {
        "speaker": "",
        "microphone": "",
        "camera": another,
        "microphoneOn": False,
        "cameraOn": True,
        "shortcuts": True,
        "language": "de",
    }

    page.evaluate("() => sessionStorage.clear()")
    page.goto("about:blank")
    enter(service.create_appointment().organiser_link, doctor)
    expect(page.get_by_test_id("microphone-button")).to_have_attribute("aria-pressed", "false")
    expect(page.get_by_test_id("camera-button")).to_have_attribute("aria-pressed", "true")
    open_settings(doctor)
    expect(page.get_by_test_id("camera-select")).to_have_value(another)


def test_if_the_remembered_devices_are_gone_others_do(service: Service, invite: Callable[..., Participant]) -> None:
    doctor = invite(script=GONE)
    enter(service.create_appointment().organiser_link, doctor)
    for device in ("camera", "microphone"):
        expect(doctor.page.get_by_test_id(f"{device}-button")).to_have_attribute("aria-pressed", "true")
    expect(doctor.page.get_by_test_id("device-notice")).to_be_hidden()


def test_a_phone_chooses_between_front_and_rear_camera_only(
    service: Service, invite: Callable[..., Participant]
) -> None:
    patient = invite(phone=True, viewport=(360, 740))
    enter(service.create_appointment().participant_link, patient)
    page = open_settings(patient)
    options = page.get_by_test_id("camera-select").locator("option")
    expect(options).to_have_text(["Frontkamera", "Rückkamera"])
    expect(page.get_by_test_id("camera-select")).to_have_value("user")
    for hidden in ("microphone-select", "speaker-select", "shortcuts-on"):
        expect(page.get_by_test_id(hidden)).to_be_hidden()
    expect(page.get_by_test_id("test-sound-button")).to_be_visible()


def enter(link: str, person: Participant) -> None:
    """Bring one person into a room, with camera and microphone."""
    person.open(link)
    person.join("Dr. Anna Beispiel")
    expect(person.page.get_by_test_id("local-video")).to_be_visible()
    person.page.wait_for_function("() => document.getElementById('local-video').srcObject !== null")


def open_settings(person: Participant) -> Page:
    """Open the settings in the panel."""
    person.page.get_by_test_id("menu-button").click()
    person.page.get_by_test_id("settings-button").click()
    return person.page


def other_option(page: Page, test_id: str, used: str) -> str:
    """An option of a dropdown that is not the used one."""
    page.wait_for_function(
        "(id) => document.querySelector(`[data-testid=${id}]`).options.length > 1", arg=test_id, timeout=CONNECT_MS
    )
    ids: list[str] = page.get_by_test_id(test_id).evaluate("(select) => [...select.options].map(({ value }) => value)")
    return [each for each in ids if each not in ("", "default", used)][-1]


def sent(page: Page, kind: str) -> dict[str, Any]:
    """Settings of the track that is sent."""
    settings: dict[str, Any] = page.evaluate(
        """(kind) => window.__connections.at(-1).getSenders()
             .find(({ track }) => track?.kind === kind).track.getSettings()""",
        kind,
    )
    return settings


def descriptions(page: Page) -> list[str]:
    """The origin lines of both descriptions: they count the rounds of offer and answer."""
    found: list[str] = page.evaluate(
        """() => [window.__connections.at(-1).localDescription, window.__connections.at(-1).remoteDescription]
             .map(({ sdp }) => sdp.match(/^o=.*$/m)[0])"""
    )
    return found
