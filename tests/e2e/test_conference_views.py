"""What a conference looks like: the real page, with a server that says little, and a machine that is fed by hand.

Nobody else is here: the test says to the page's own machine what sealed channels would have said, and gives its view
pictures that were drawn in the page.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.e2e.test_accessibility import DESKTOP, PHONE, assert_fits
from tests.support.axe import find_barriers
from tests.support.browser import CONNECT_MS, Participant
from tests.support.service import Codes, Service

Enter = Callable[..., "Stage"]

# Keeps the machine, and lends the view pictures in place of those that nobody sends.
pytestmark = pytest.mark.long

HOOKS = """async () => {
  const { ConferenceMachine } = await import("/js/conference/conference_machine.js");
  const { ConferenceView } = await import("/js/conference/conference_view.js");
  const { joined } = ConferenceMachine.prototype;
  ConferenceMachine.prototype.joined = function (...said) { window.machine = this; return joined.apply(this, said); };
  const { render } = ConferenceView.prototype;
  window.tracks = [];
  ConferenceView.prototype.render = function (view) { return render.call(this, view, window.tracks); };
  window.wanted = [];
  const { want } = ConferenceMachine.prototype;
  ConferenceMachine.prototype.want = function (tracks, now) {
    window.wanted = tracks;
    return want.call(this, tracks, now);
  };
  window.draw = (hue, width, height) => {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    const paint = () => {
      context.fillStyle = `hsl(${hue} 35% 45%)`;
      context.fillRect(0, 0, width, height);
      context.fillStyle = "#f3d9c4";
      context.beginPath();
      context.arc(width / 2, height * 0.45, height / 4, 0, 7);
      context.fill();
      context.fillRect(width * 0.3, height * 0.75, width * 0.4, height * 0.3);
    };
    paint();
    setInterval(paint, 500);
    return canvas.captureStream(2).getVideoTracks()[0];
  };
}"""
MEET = """([index, name, admitted, media]) => {
  const pid = `p${index}`;
  const epoch = String(index).padStart(32, "0");
  const role = index === 0 ? "organiser" : "participant";
  const now = performance.now();
  const { machine } = window;
  let own = null;
  const poll = machine.poll.bind(machine);
  machine.peer({ pid, role, present: true, index, admitted, since: "2026-11-22T09:00:00Z" }, now);
  machine.verified(pid, `${123456 + 1111 * index}`, now);
  for (const action of poll()) if (action.message?.kind === "hello") own = action.message.epoch;
  const sources = { camera: true, microphone: true, screen: false, ...media };
  machine.message(pid, { kind: "hello", epoch, to: own, name, ...sources }, now);
  poll();
  for (const source of ["camera", "screen"]) {
    if (!sources[source] || window.tracks.some((each) => each.pid === pid && each.source === source)) continue;
    const track = window.draw(40 * index, ...(source === "screen" ? [960, 600] : [320, 240]));
    window.tracks.push({ pid, source, track });
  }
}"""
STANDS = """() => {
  window.machine.sideChanged("publish", "connected", performance.now());
}"""
NAMES = [
    "Dr. Anna Beispiel",
    "Petra Muster",
    "Ömer Yildiz",
    "Hans-Peter von der Lühe",
    "Ina Krüger",
    "Li Wei",
    "Sofia Papadopoulou",
    "Max Test",
    "Erika Lang",
    "Jörg Groß",
]


class Stage:
    """One page in a conference, and the server that it believes to speak with."""

    def __init__(
        self,
        visitor: Participant,
        codes: Codes,
        index: int,
        *,
        admitted: bool = True,
        hear: Callable[["Stage", dict[str, Any]], None] | None = None,
    ) -> None:
        """Enter.

        Args:
            visitor: whose page it is.
            codes: of an appointment; the server of this test does not look at locators.
            index: of the seat; 0 is the organiser.
            admitted: need not wait in the lobby.
            hear: is told what the page says, to bring several of them together.
        """
        self.visitor = visitor
        self.page: Page = visitor.page
        self.index = index
        self.said: list[dict[str, Any]] = []
        self.pid = "me" if hear is None else f"p{index}"
        self._hear_too = hear
        self._sockets: list[WebSocketRoute] = []
        self._seat = {"index": index, "limit": 12, "admitted": admitted, "locked": False, "candidates": []}
        self.page.route_web_socket("**/ws", self._serve)
        visitor.open(codes.organiser_link if index == 0 else codes.participant_link)
        self.page.evaluate(HOOKS)
        visitor.join(NAMES[index])

    def _serve(self, socket: WebSocketRoute) -> None:
        self._sockets.append(socket)
        socket.on_message(self._hear)

    def _hear(self, message: str | bytes) -> None:
        said = json.loads(message)
        self.said.append(said)
        if said["type"] != "join":
            if self._hear_too is not None:
                self._hear_too(self, said)
            return
        role = "organiser" if self.index == 0 else "participant"
        times = {"start": "2026-11-22T09:00:00Z", "end": "2026-11-23T09:00:00Z"}
        seat = {
            "room": "r",
            "pid": self.pid,
            "role": role,
            "tier": "plus",
            "features": ["screen"],
            "resume": "t",
            "ice": [],
        }
        self.say({"type": "joined", **seat, **times, "conference": self._seat})

    def say(self, message: dict[str, Any]) -> None:
        """Be the server."""
        self._sockets[-1].send(json.dumps(message))

    def stand(self) -> None:
        """The publishing connection has been made; nothing is to be sent."""
        self.page.get_by_test_id("conference").wait_for(state="visible")
        self.page.wait_for_function("() => window.machine.view().call !== 'none'")
        self.page.evaluate(STANDS)
        self.show()

    def meet(self, index: int, *, admitted: bool = True, **media: bool) -> None:
        """Somebody has come, proved the secret and said its name."""
        self.page.evaluate(MEET, [index, NAMES[index], admitted, media])
        self.show()

    def show(self, *loudest: str) -> None:
        """The page shows what has happened."""
        self.say({"type": "speakers", "pids": list(loudest)})

    def fill(self, count: int) -> None:
        """With so many others."""
        for index in [each for each in range(count + 1) if each != self.index][:count]:
            self.meet(index)
        expect(self.page.locator(".conference-tile")).to_have_count(count + 1)

    def told(self, kind: str) -> list[dict[str, Any]]:
        """What the page has said to the server, of one type."""
        return [each for each in self.said if each["type"] == kind]


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


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_state_of_a_conference_has_a_barrier(enter: Enter, viewport: tuple[int, int]) -> None:
    stage = enter(viewport)
    assert find_barriers(stage.page) == [], "alone"
    stage.fill(3)
    stage.meet(4, admitted=False)
    stage.show("p2")
    assert find_barriers(stage.page) == [], "the grid, somebody knocks"
    stage.page.get_by_test_id("conference-mode").click()
    assert find_barriers(stage.page) == [], "the speaker view"
    stage.page.get_by_test_id("menu-button").click()
    assert find_barriers(stage.page) == [], "the panel"


def test_the_lobby_has_no_barrier(enter: Enter) -> None:
    stage = enter(PHONE, index=1, admitted=False)
    stage.visitor.text("waiting-text")
    assert find_barriers(stage.page) == []


@pytest.mark.long
def test_nothing_of_a_conference_is_cut_off_covered_or_too_small_in_a_small_window(enter: Enter) -> None:
    stage = enter()
    stage.fill(2)
    assert_fits(stage.visitor, "the grid")
    stage.page.get_by_test_id("conference-mode").click()
    assert_fits(stage.visitor, "the speaker view")
    stage.meet(4, admitted=False)
    stage.page.get_by_test_id("menu-button").click()
    assert_fits(stage.visitor, "the panel", beneath=True)
