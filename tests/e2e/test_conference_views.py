"""What a conference looks like: the real page, with a server that says little, and a machine that is fed by hand."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.e2e.test_accessibility import DESKTOP, PHONE, assert_fits
from tests.support.axe import find_barriers
from tests.support.browser import CONNECT_MS, Participant
from tests.support.conference_scenes import ConferenceScenes
from tests.support.conference_stage import NAMES, Stage
from tests.support.fake_devices import SCREEN
from tests.support.service import Codes, Service

Enter = Callable[..., Stage]
ACROSS = (740, 360)  # a phone held across

pytestmark = pytest.mark.long


@pytest.fixture
def codes(service: Service) -> Codes:
    return service.create_appointment()


@pytest.fixture
def enter(invite: Callable[..., Participant], codes: Codes) -> Enter:
    """Makes somebody enter a conference: `index` 0 is the organiser."""

    def make(viewport: tuple[int, int] = DESKTOP, index: int = 0, *, admitted: bool = True, script: str = "") -> Stage:
        stage = Stage(invite(viewport=viewport, script=script), codes, index, admitted=admitted)
        if admitted:
            stage.stand()
        return stage

    return make


# The lobby


def test_who_waits_is_told_so_and_sees_nobody(enter: Enter) -> None:
    stage = enter(index=1, admitted=False)
    assert stage.visitor.text("waiting-text") == "Bitte warten – Sie werden gleich eingelassen."
    stage.meet(0)
    expect(stage.page.locator(".conference-tile")).to_have_count(0)
    stage.say({"type": "admitted"})
    expect(stage.page.locator(".conference-tile")).to_have_count(2)
    expect(stage.page.get_by_test_id("waiting-text")).to_be_hidden()


def test_the_organiser_lets_in_who_knocks_and_sends_away_whom_it_does_not_know(enter: Enter) -> None:
    stage = enter()
    stage.meet(1, admitted=False)
    stage.meet(2, admitted=False)
    knock = stage.page.get_by_test_id("knock")
    expect(knock).to_contain_text("Petra Muster möchte teilnehmen. Eine weitere Person wartet.")
    knock.get_by_role("button", name="Einlassen").click()
    stage.page.get_by_test_id("menu-button").click()
    lobby = stage.page.get_by_test_id("lobby").get_by_role("listitem")
    lobby.filter(has_text="Ömer Yildiz").get_by_role("button", name="Ablehnen").click()
    stage.page.wait_for_timeout(0)
    assert [(each["peer"], each["ok"]) for each in stage.told("admit")] == [("p1", True), ("p2", False)]


def test_nobody_is_let_in_in_place_of_somebody_who_leaves_while_the_button_is_pressed(enter: Enter) -> None:
    stage = enter()
    stage.meet(1, admitted=False)
    stage.meet(2, admitted=False)
    knock = stage.page.get_by_test_id("knock")
    expect(knock).to_contain_text("Petra Muster")
    stage.page.get_by_test_id("knock-admit").focus()
    stage.page.keyboard.down(" ")
    stage.page.evaluate(
        "() => window.machine.peer({ pid: 'p1', role: 'participant', present: false }, performance.now())"
    )
    stage.show()
    expect(knock).to_contain_text("Ömer Yildiz")
    stage.page.keyboard.up(" ")
    stage.page.get_by_test_id("knock-refuse").click()
    stage.page.wait_for_timeout(0)
    assert [(each["peer"], each["ok"]) for each in stage.told("admit")] == [("p2", False)]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("locked", "abgeschlossen"),
        ("refused", "nicht eingelassen"),
        ("removed", "entfernt"),
        ("room_full", "Dieser Termin ist auf 8 Teilnehmer beschränkt."),
        ("tier", "Konferenzen sind Teil von plus."),
        ("no_conferences", "Konferenzen sind hier zurzeit nicht möglich."),
    ],
)
def test_who_is_sent_away_reads_why(enter: Enter, code: str, words: str) -> None:
    stage = enter(index=1)
    stage.say({"type": "error", "code": code, "limit": 8})
    assert words in stage.visitor.text("error-text")


def test_a_browser_that_cannot_encrypt_is_told_before_it_asks_for_anything(enter: Enter) -> None:
    script = "delete window.RTCRtpScriptTransform; window.__asked = 0;"
    stage = enter(index=1, admitted=False, script=script)
    assert "nicht verschlüsseln" in stage.visitor.text("error-text")
    assert stage.page.evaluate("() => document.getElementById('local-video').srcObject") is None
    assert stage.told("publish") == []
    stage.visitor.complaints.clear()


def test_a_connection_of_a_conference_gets_the_next_credential_while_it_stands(enter: Enter) -> None:
    stage = enter()
    relays = "window.__connections.map((pc) => pc.getConfiguration().iceServers[0]?.username)"
    stage.page.wait_for_function("() => window.__connections.length > 0")
    assert set(stage.page.evaluate(f"() => {relays}")) == {None}
    server = {"urls": ["turn:192.0.2.1"], "username": "later", "credential": "x"}
    stage.say({"type": "ice", "ice": [server]})
    stage.page.wait_for_function(f"() => {relays}.at(-1) === 'later'")


def test_that_the_server_ends_stands_there_until_a_server_does_not_say_so_any_more(enter: Enter) -> None:
    stage = enter()
    stage.say({"type": "ending", "seconds": 600})
    notice = stage.page.get_by_test_id("ending")
    expect(notice).to_contain_text("Der Server wird neu gestartet.")
    stage.lose_socket()
    expect(notice).to_be_hidden(timeout=CONNECT_MS)
    stage.say({"type": "ending", "seconds": 600})
    expect(notice).to_be_visible()


# Keys, names and codes between real pages


def test_three_pages_agree_pairwise_on_keys_and_each_pair_reads_the_same_safety_code(
    invite: Callable[..., Participant], codes: Codes
) -> None:
    stages: dict[str, Stage] = {}

    def carry(sender: Stage, said: dict[str, Any]) -> None:
        if said["type"] == "relay":
            stages[said["to"]].say({"type": "relay", "from": sender.pid, "blob": said["blob"]})
        elif said["type"] == "admit":
            guest = stages[said["peer"]]
            guest.say({"type": "admitted"})
            for other in stages.values():
                if other is not guest:
                    announce(guest, other, admitted=True)
                    announce(other, guest, admitted=True)

    def announce(who: Stage, to: Stage, *, admitted: bool) -> None:
        role = "organiser" if who.index == 0 else "participant"
        to.say(
            {"type": "peer", "pid": who.pid, "role": role, "present": True, "index": who.index, "admitted": admitted}
        )

    doctor = Stage(invite(), codes, 0, hear=carry)
    stages[doctor.pid] = doctor
    doctor.stand()
    for index in (1, 2):
        guest = Stage(invite(), codes, index, admitted=False, hear=carry)
        guest.visitor.text("waiting-text")
        stages[guest.pid] = guest
        announce(guest, doctor, admitted=False)
        announce(doctor, guest, admitted=True)
        expect(doctor.page.get_by_test_id("knock")).to_contain_text(
            f"{NAMES[index]} möchte teilnehmen.", timeout=CONNECT_MS
        )
        doctor.page.get_by_test_id("knock-admit").click()
        expect(guest.page.locator(".conference-tile")).to_have_count(index + 1)
    read: dict[str, dict[str, str]] = {}
    for stage in stages.values():
        expect(stage.page.locator(".conference-tile")).to_have_count(3)
        stage.page.get_by_test_id("menu-button").click()
        rows = stage.page.get_by_test_id("people").get_by_role("listitem")
        rows = rows.filter(has=stage.page.locator("output:visible"))
        expect(rows).to_have_count(2)
        shown = {row.locator("bdi").inner_text(): row.locator("output").inner_text() for row in rows.all()}
        read[NAMES[stage.index]] = shown
    for one, others in read.items():
        assert {other: read[other][one] for other in others} == others
    assert len({code for others in read.values() for code in others.values()}) == 3


# The stage


def test_everybody_has_a_tile_with_a_name_and_a_sign_for_a_muted_microphone(enter: Enter) -> None:
    stage = enter()
    stage.meet(1)
    stage.meet(2, microphone=False, camera=False)
    expect(stage.page.get_by_role("group", name="Petra Muster", exact=True)).to_be_visible()
    muted = stage.page.get_by_role("group", name="Ömer Yildiz", exact=True)
    expect(muted.get_by_role("img", name="Mikrofon aus")).to_be_visible()
    expect(muted).to_contain_text("Kamera aus")
    unmuted = stage.page.get_by_role("group", name="Petra Muster", exact=True)
    expect(unmuted.get_by_role("img", name="Mikrofon aus")).to_be_hidden()


def test_who_speaks_is_marked_by_a_sign_and_not_by_colour_alone(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    stage.show("p2")
    speaker = stage.page.get_by_role("group", name="Ömer Yildiz", exact=True)
    expect(speaker.get_by_role("img", name="spricht")).to_be_visible()
    silent = stage.page.get_by_role("group", name="Petra Muster", exact=True)
    expect(silent.get_by_role("img", name="spricht")).to_be_hidden()


def test_a_pinned_tile_is_large_and_the_server_hears_of_it(enter: Enter) -> None:
    stage = enter()
    stage.fill(3)
    stage.page.get_by_role("button", name="Groß zeigen: Ömer Yildiz").focus()
    stage.page.keyboard.press("Enter")
    expect(stage.page.get_by_role("button", name="Nicht mehr groß zeigen: Ömer Yildiz")).to_be_focused()
    stage.page.wait_for_function("() => window.wanted[0].pinned && window.wanted[0].pid === 'p2'")
    sizes = stage.page.evaluate("() => window.wanted.map(({ width, height }) => width * height)")
    assert sizes[0] > 4 * sizes[1]


def test_the_speaker_view_follows_who_spoke_last(enter: Enter) -> None:
    stage = enter()
    stage.fill(3)
    stage.page.get_by_test_id("conference-mode").click()
    stage.show("p3")
    large = stage.page.locator(".conference-tile[data-large]")
    expect(large).to_have_attribute("aria-label", NAMES[3])
    stage.show()
    expect(large).to_have_attribute("aria-label", NAMES[3])
    stage.show("p1")
    expect(large).to_have_attribute("aria-label", NAMES[1])


def test_a_shared_screen_is_large_by_itself(enter: Enter) -> None:
    stage = enter(index=1)
    stage.fill(3)
    stage.meet(0, screen=True)
    large = stage.page.locator(".conference-tile[data-large]")
    expect(large).to_have_attribute("aria-label", "Bildschirm von Dr. Anna Beispiel")


def test_a_phone_turns_pages_and_asks_only_for_what_it_shows(enter: Enter) -> None:
    stage = enter(PHONE)
    stage.fill(9)
    pager = stage.page.get_by_test_id("conference-pager")
    expect(pager).to_contain_text("Seite 1 von 2")
    first = stage.page.evaluate("() => window.wanted.filter(({ visible }) => visible).map(({ pid }) => pid)")
    pager.get_by_role("button", name="Nächste Seite").click()
    expect(pager).to_contain_text("Seite 2 von 2")
    stage.page.wait_for_function(
        "(first) => window.wanted.some(({ pid, visible }) => visible && !first.includes(pid))", arg=first
    )
    second = stage.page.evaluate("() => window.wanted.filter(({ visible }) => visible).map(({ pid }) => pid)")
    assert sorted(first + second) == [f"p{index}" for index in range(1, 10)]


def test_the_own_picture_can_be_hidden_and_the_others_get_its_place(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    stage.page.get_by_test_id("menu-button").click()
    stage.page.get_by_test_id("settings-button").click()
    stage.page.get_by_test_id("own-hidden").check()
    expect(stage.page.get_by_role("group", name="Sie", exact=True)).to_be_hidden()
    expect(stage.page.locator(".conference-tile:visible")).to_have_count(2)


def test_who_is_asked_to_mute_decides_alone(enter: Enter) -> None:
    stage = enter(index=1)
    stage.meet(0)
    ask = """() => {
      const { machine } = window;
      machine.verified("p0", "123456", performance.now()); // by a new channel, as after a reload
      machine.message("p0", { kind: "hello", epoch: "f".repeat(32), to: null, name: "Dr. Anna Beispiel",
        camera: true, microphone: true, screen: false }, performance.now());
      const own = machine.poll().find((action) => action.message?.kind === "hello").message.epoch;
      machine.message("p0", { kind: "mute", epoch: "f".repeat(32), to: own }, performance.now());
    }"""
    stage.page.evaluate(ask)
    stage.show()
    expect(stage.page.get_by_test_id("mute-asked")).to_contain_text("bittet Sie, Ihr Mikrofon auszuschalten")
    expect(stage.page.get_by_test_id("microphone-button")).to_have_attribute("aria-pressed", "true")
    stage.page.get_by_test_id("mute-accept").click()
    expect(stage.page.get_by_test_id("microphone-button")).to_have_attribute("aria-pressed", "false")
    expect(stage.page.get_by_test_id("mute-asked")).to_be_hidden()


def test_who_is_muted_is_not_marked_as_speaking(enter: Enter) -> None:
    stage = enter()
    stage.meet(1)
    stage.meet(2, microphone=False)
    stage.show("p2", "p1")
    expect(stage.page.get_by_test_id("tile-p1-camera")).to_have_attribute("data-heard", "")
    expect(stage.page.get_by_test_id("tile-p2-camera")).not_to_have_attribute("data-heard", "")


def test_until_the_first_picture_has_come_the_initials_stand_for_it(enter: Enter) -> None:
    stage = enter()
    stage.page.evaluate(
        "() => { window.draw = () => document.createElement('canvas').captureStream(0).getVideoTracks()[0]; }"
    )
    stage.meet(1)
    expect(stage.page.get_by_test_id("tile-p1-camera").locator(".initials")).to_have_text("PM")
    expect(stage.page.get_by_test_id("tile-p1-camera").locator(".initials")).to_be_visible()


def test_who_has_not_proved_the_secret_by_the_present_channel_has_a_sign_and_a_word(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    signs = stage.page.get_by_role("img", name="nicht verifiziert")
    expect(signs.filter(visible=True)).to_have_count(0)
    stage.page.evaluate("() => window.machine.unverified('p1', performance.now())")
    stage.show()
    expect(stage.page.get_by_test_id("tile-p1-camera").get_by_role("img", name="nicht verifiziert")).to_be_visible()
    stage.page.get_by_test_id("menu-button").click()
    expect(stage.page.get_by_test_id("person-p1")).to_contain_text("Noch nicht verifiziert")
    expect(stage.page.get_by_test_id("person-p2")).not_to_contain_text("Noch nicht verifiziert")


def test_somebody_who_is_let_in_and_has_another_secret_is_told_of(enter: Enter) -> None:
    stage = enter()
    stage.meet(1)
    stage.page.evaluate(
        """() => {
          const stranger = { pid: "p9", role: "participant", present: true, index: 9, admitted: true, since: null };
          window.machine.peer(stranger, performance.now());
        }"""
    )
    stage.show()
    stage.page.get_by_test_id("menu-button").click()
    expect(stage.page.get_by_test_id("strangers")).to_be_hidden()  # it may prove it at any moment
    stage.page.evaluate("() => window.machine.unverified('p9', performance.now())")
    stage.show()
    expect(stage.page.get_by_test_id("strangers")).to_contain_text(
        "Eine Person im Raum konnte nicht verifiziert werden."
    )


def test_a_line_that_the_server_gives_to_somebody_whose_keys_do_not_open_it_is_not_shown(enter: Enter) -> None:
    stage = enter(index=1)
    stage.page.evaluate(
        """async () => {
          const { ConferenceView } = await import("/js/conference/conference_view.js");
          const { render } = ConferenceView.prototype;
          window.given = [];
          // The stage lends the view other pictures: what the conference has given it is kept before.
          ConferenceView.prototype.render = function (view, tracks, lines) {
            window.given = tracks.map(({ pid }) => pid);
            return render.call(this, view, tracks, lines);
          };
        }"""
    )
    stage.meet(3)
    stage.page.evaluate(
        """() => {
          const { machine } = window;
          const now = performance.now();
          machine.peer({ pid: "p5", role: "participant", present: true, index: 3, admitted: true, since: null }, now);
          machine.verified("p5", "123456", now);
          const own = machine.poll().find((action) => action.message?.kind === "hello").message.epoch;
          const sources = { camera: true, microphone: true, screen: false };
          machine.message("p5", { kind: "hello", epoch: "5".repeat(32), to: own, name: "Honest", ...sources }, now);
        }"""
    )
    sdp = stage.page.evaluate(
        """async () => {
          window.server = new RTCPeerConnection();
          for (const at of [0, 1]) window.server.addTransceiver(window.draw(at), { direction: "sendonly" });
          await window.server.setLocalDescription();
          return window.server.localDescription.sdp;
        }"""
    )
    tracks = {"0": {"pid": "p5", "source": "camera"}, "1": {"pid": "p3", "source": "camera"}}
    stage.say({"type": "subscribe", "sdp": sdp, "version": 1, "tracks": tracks})
    stage.page.wait_for_function("() => window.given.length > 0")
    assert stage.page.evaluate("() => window.given") == ["p3"]
    expect(stage.page.get_by_role("group", name="Honest")).to_have_count(0)
    stage.page.evaluate("() => window.server.close()")


def test_the_line_of_each_is_told_in_words_where_it_is_poor_and_in_the_panel_always(enter: Enter) -> None:
    stage = enter()
    stage.fill(4)
    stage.measure("weak", p1="good", p2="weak", p3="bad", p4="stalled")
    words = {"p1": None, "p2": "Verbindung schwach", "p3": "Verbindung schlecht", "p4": "Bild steht"}
    for pid, said in words.items():
        quality = stage.page.get_by_test_id(f"tile-{pid}-camera").locator(".tile-quality")
        if said is None:
            expect(quality).to_be_hidden()
        else:
            expect(quality).to_have_text(said)
    expect(stage.page.get_by_test_id("quality")).to_contain_text("schwach")
    stage.page.get_by_test_id("menu-button").click()
    expect(stage.page.get_by_test_id("person-p1")).to_contain_text("Verbindung gut")


def test_what_is_asked_for_is_the_picture_as_it_is_drawn_in_pixels_of_the_device(enter: Enter) -> None:
    stage = enter()
    stage.fill(3)
    stage.page.get_by_role("button", name="Groß zeigen: Ömer Yildiz").focus()
    stage.page.keyboard.press("Enter")
    stage.page.wait_for_function("() => window.wanted[0].pinned && window.wanted[0].pid === 'p2'")
    stage.page.wait_for_function("() => Math.abs(window.wanted[0].width / window.wanted[0].height - 4 / 3) < 0.02")
    drawn = "() => document.querySelector('[data-testid=tile-p2-camera] video').getBoundingClientRect().width"
    width = stage.page.evaluate(drawn)
    assert abs(stage.page.evaluate("() => window.wanted[0].width") - width) <= 2
    stage.page.context.new_cdp_session(stage.page).send(
        "Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 800, "deviceScaleFactor": 2, "mobile": False}
    )
    stage.page.wait_for_function("(width) => Math.abs(window.wanted[0].width - 2 * width) <= 4", arg=width)


def test_a_tab_behind_others_asks_for_no_picture(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    turn = """(state) => {
      Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    stage.page.evaluate(turn, "hidden")
    asked = "() => window.wanted.map(({ visible, width, height }) => [visible, width, height])"
    assert stage.page.evaluate(asked) == [[False, 0, 0]] * 2
    stage.page.evaluate(turn, "visible")
    stage.page.wait_for_function("() => window.wanted.every(({ visible, width }) => visible && width > 0)")


# Sound alone


def test_a_bad_line_offers_sound_alone_which_asks_for_no_picture_and_sends_none(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    stage.meet(4, admitted=False)
    stage.offer_sound_alone()
    stage.page.get_by_test_id("audio-only-accept").click()
    expect(stage.page.get_by_test_id("audio-only")).to_be_visible()
    assert stage.page.evaluate("() => window.wanted.map(({ visible }) => visible)") == [False, False]
    assert stage.page.evaluate("() => window.machine.view().sendsPictures") is False
    expect(stage.page.get_by_test_id("camera-button")).to_have_attribute("aria-pressed", "false")
    expect(stage.page.get_by_test_id("microphone-button")).to_have_attribute("aria-pressed", "true")
    expect(stage.page.get_by_test_id("tile-own-camera").locator(".initials")).to_be_visible()
    stage.page.get_by_test_id("audio-only-end").click()
    expect(stage.page.get_by_test_id("audio-only")).to_be_hidden()
    stage.page.wait_for_function("() => window.wanted.every(({ visible }) => visible)")
    expect(stage.page.get_by_test_id("camera-button")).to_have_attribute("aria-pressed", "true")


def test_pictures_that_are_kept_are_not_asked_about_again(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    stage.offer_sound_alone()
    stage.page.get_by_test_id("audio-only-decline").click()
    stage.offer_sound_alone()
    expect(stage.page.get_by_test_id("audio-only-offer")).to_be_hidden()


def test_sound_alone_can_be_chosen_in_the_settings_and_the_camera_button_ends_it(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    stage.page.get_by_test_id("menu-button").click()
    stage.page.get_by_test_id("settings-button").click()
    setting = stage.page.get_by_label("Nur Ton: keine Bilder senden und empfangen")
    setting.check()
    stage.page.wait_for_function("() => window.wanted.every(({ visible }) => !visible)")
    stage.page.get_by_test_id("camera-button").click()
    expect(setting).not_to_be_checked()
    stage.page.wait_for_function("() => window.wanted.every(({ visible }) => visible)")


# Full screen, screens, devices


def test_full_screen_shows_the_one_that_is_looked_at_alone_and_asks_for_nobody_else(enter: Enter) -> None:
    stage = enter()
    stage.fill(3)
    stage.page.get_by_test_id("tile-p3-camera").dblclick()
    stage.page.wait_for_function("() => document.fullscreenElement !== null")
    tiles = stage.page.locator(".conference-tile:visible")
    expect(tiles).to_have_count(1)
    expect(tiles).to_have_attribute("aria-label", NAMES[3])
    stage.page.wait_for_function("() => window.wanted.filter(({ visible }) => visible).length === 1")
    stage.page.keyboard.press("f")
    expect(tiles).to_have_count(4)


def test_full_screen_of_a_grid_shows_everybody_but_the_own_picture(enter: Enter) -> None:
    stage = enter()
    stage.fill(3)
    stage.page.get_by_test_id("full-screen-button").click()
    stage.page.wait_for_function("() => document.fullscreenElement !== null")
    expect(stage.page.locator(".conference-tile:visible")).to_have_count(3)
    expect(stage.page.get_by_test_id("tile-own-camera")).to_be_hidden()


def test_who_shares_the_screen_is_told_that_all_see_it(enter: Enter) -> None:
    stage = enter(script=SCREEN)
    stage.fill(2)
    note = stage.page.get_by_test_id("conference-sharing")
    expect(note).to_be_hidden()
    stage.page.get_by_test_id("screen-button").click()
    expect(note).to_have_text("Alle sehen Ihren Bildschirm.")
    stage.page.get_by_test_id("screen-button").click()
    expect(note).to_be_hidden()


def test_another_camera_can_be_taken_while_the_conference_goes_on(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    own = "document.querySelector('[data-testid=tile-own-camera] video').srcObject.getVideoTracks()[0]"
    before = stage.page.evaluate(f"() => {own}.getSettings().deviceId")
    stage.page.get_by_test_id("menu-button").click()
    stage.page.get_by_test_id("settings-button").click()
    cameras = stage.page.get_by_test_id("camera-select")
    chosen = cameras.input_value()
    other = cameras.evaluate("(select) => [...select.options].map(({ value }) => value)")
    cameras.select_option(next(value for value in other if value != chosen))
    stage.page.wait_for_function(f"(before) => {own}.getSettings().deviceId !== before", arg=before)
    expect(stage.page.locator(".conference-tile")).to_have_count(3)


def test_a_connection_that_fails_leads_to_help_and_to_another_try(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    stage.interrupt()
    assert stage.visitor.text("connection-status") == "Verbindung unterbrochen, wird wiederhergestellt…"
    stage.give_up()
    assert "Keine Bildverbindung möglich." in stage.visitor.text("error-text")
    expect(stage.page.get_by_test_id("no-path-test")).to_have_attribute("href", "/test")
    expect(stage.page.get_by_test_id("no-path-help")).to_have_attribute("href", "/hilfe/firewall#schwarz")
    expect(stage.page.get_by_test_id("try-again-button")).to_be_visible()


# The panel


def test_the_panel_has_a_safety_code_for_each_and_keeps_what_was_compared(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    stage.page.get_by_test_id("menu-button").click()
    people = stage.page.get_by_test_id("people").get_by_role("listitem")
    expect(people.filter(has_text="Petra Muster")).to_contain_text("124 567")
    expect(people.filter(has_text="Ömer Yildiz")).to_contain_text("125 678")
    stage.page.get_by_label("Verglichen und gleich: Petra Muster").check()
    stage.show("p2")
    expect(stage.page.get_by_label("Verglichen und gleich: Petra Muster")).to_be_checked()
    expect(stage.page.get_by_label("Verglichen und gleich: Ömer Yildiz")).not_to_be_checked()


def test_the_organiser_locks_and_removes_after_a_second_question(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    stage.page.get_by_test_id("menu-button").click()
    stage.page.get_by_test_id("lock-button").click()
    stage.say({"type": "locked", "locked": True})
    expect(stage.page.get_by_test_id("lock-button")).to_have_attribute("aria-pressed", "true")
    person = stage.page.get_by_test_id("person-p1")
    person.get_by_test_id("remove").click()
    assert stage.told("remove") == []
    person.get_by_test_id("remove-confirm").click()
    expect(stage.page.locator(".conference-tile")).to_have_count(2)
    assert [each["locked"] for each in stage.told("lock")] == [True]
    assert [each["peer"] for each in stage.told("remove")] == ["p1"]


def test_a_participant_has_none_of_the_organisers_buttons(enter: Enter) -> None:
    stage = enter(index=1)
    stage.fill(2)
    stage.page.get_by_test_id("menu-button").click()
    expect(stage.page.get_by_test_id("people")).to_be_visible()
    for name in ("remove", "ask-mute", "lock-button"):
        expect(stage.page.get_by_test_id(name).filter(visible=True)).to_have_count(0)


def test_who_comes_to_stand_in_can_remove_and_mute_those_who_were_there_before(enter: Enter) -> None:
    stage = enter(index=1)
    stage.fill(2)
    stage.page.get_by_test_id("menu-button").click()
    person = stage.page.get_by_test_id("person-p2")
    expect(person).to_be_visible()
    expect(person.get_by_test_id("remove")).to_be_hidden()
    stage.page.evaluate(
        """() => {
          const now = performance.now();
          window.machine.peer({ pid: "p0", role: "organiser", present: false }, now);
          window.machine.tick(now + 60_000); // it has gone for good
        }"""
    )
    stage.say({"type": "stand_in", "pid": "me"})
    expect(person.get_by_test_id("ask-mute")).to_be_visible()
    person.get_by_test_id("remove").click()
    expect(person.get_by_test_id("remove-confirm")).to_be_visible()
    stage.show()
    expect(person.get_by_test_id("remove-confirm")).to_be_visible()
    stage.say({"type": "stand_in"})
    expect(person.get_by_test_id("remove-confirm")).to_be_hidden()
    expect(person.get_by_test_id("remove")).to_be_hidden()


# Language, weight, ends


def test_the_language_changes_in_the_middle_of_it(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    stage.page.get_by_test_id("menu-button").click()
    stage.page.get_by_test_id("settings-button").click()
    stage.page.get_by_test_id("settings-language").click()
    expect(stage.page.get_by_test_id("conference-mode")).to_have_text("Speaker view")
    expect(stage.page.get_by_role("group", name="You", exact=True)).to_be_visible()


def test_nothing_of_it_stays_after_hanging_up(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    stage.visitor.hang_up()
    stage.visitor.text("ended-text")
    expect(stage.page.locator(".conference-tile")).to_have_count(0)
    assert len(stage.told("leave")) == 1


def test_a_talk_of_two_fetches_nothing_of_conferences(patient: Participant, codes: Codes) -> None:
    patient.open(codes.participant_link)
    patient.join("Petra Muster")
    patient.text("waiting-text")
    assert [url for url in patient.requested if "conference" in url] == []


# Barriers and layout


@pytest.mark.timeout(500)  # thirty states, each looked at by axe-core
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE, ACROSS], ids=["desktop", "phone", "across"])
def test_no_state_of_a_conference_has_a_barrier(
    invite: Callable[..., Participant], codes: Codes, viewport: tuple[int, int]
) -> None:
    scenes = ConferenceScenes(lambda script="": invite(viewport=viewport, script=script), codes)
    found = {state: barriers for state, person in scenes.play() if (barriers := find_barriers(person.page))}
    assert found == {}


def test_nothing_of_a_conference_is_cut_off_covered_or_too_small_in_a_small_window(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    assert_fits(stage.visitor, "the grid")
    stage.page.get_by_test_id("conference-mode").click()
    assert_fits(stage.visitor, "the speaker view")
    stage.meet(4, admitted=False)
    stage.page.get_by_test_id("menu-button").click()
    assert_fits(stage.visitor, "the panel", beneath=True)
