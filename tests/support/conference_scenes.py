"""The states of a conference, each brought about in a page, to be photographed."""

from collections.abc import Callable, Iterator
from typing import Final

from playwright.sync_api import expect

from tests.support.browser import Participant
from tests.support.conference_stage import Stage
from tests.support.fake_devices import SCREEN
from tests.support.service import Codes

Invite = Callable[..., Participant]
PAINTED: Final = """() => [...document.querySelectorAll(".conference-tile:not([hidden]) video")].every(
  (video) => video.srcObject === null || video.getVideoPlaybackQuality().totalVideoFrames > 1)"""


class ConferenceScenes:
    """Brings a page into one state after the other."""

    def __init__(self, invite: Invite, codes: Codes) -> None:
        """Prepare.

        Args:
            invite: opens a tab; takes a script that runs before those of the page.
            codes: of any appointment: the server of these pages does not look at locators.
        """
        self._invite = invite
        self._codes = codes

    def play(self) -> Iterator[tuple[str, Participant]]:
        """Every state by its name, and whose page shows it."""
        for scene in (self._lobby, self._people, self._talk, self._screens, self._panel, self._line, self._refusals):
            for state, visitor in scene():
                visitor.page.wait_for_function(PAINTED)
                yield state, visitor

    def _enter(self, index: int = 0, *, admitted: bool = True, script: str = "") -> Stage:
        stage = Stage(self._invite(script), self._codes, index, admitted=admitted)
        if admitted:
            stage.stand()
            stage.page.wait_for_function("() => document.querySelector('.conference-tile video')?.videoWidth > 0")
        return stage

    def _lobby(self) -> Iterator[tuple[str, Participant]]:
        guest = self._enter(1, admitted=False)
        guest.visitor.text("waiting-text")
        guest.page.wait_for_function("() => document.querySelector('[data-testid=local-video]').videoWidth > 0")
        yield "conference-lobby", guest.visitor
        stage = self._enter()
        yield "conference-alone", stage.visitor
        stage.meet(1, admitted=False)
        yield "conference-knock", stage.visitor
        stage.meet(2)
        stage.meet(4, admitted=False)
        stage.meet(10, admitted=False)
        yield "conference-knocks", stage.visitor
        stage.page.get_by_test_id("menu-button").click()
        yield "conference-lobby-panel", stage.visitor

    def _people(self) -> Iterator[tuple[str, Participant]]:
        stage = self._enter()
        for people in (2, 3, 5, 9, 20):
            stage.fill(people - 1)
            stage.show("p1")
            yield f"conference-{people}", stage.visitor
        stage.page.get_by_test_id("conference-mode").click()
        yield "conference-20-speaker", stage.visitor
        stage.page.get_by_role("button", name="Nächste Seite").click()
        yield "conference-paged", stage.visitor

    def _talk(self) -> Iterator[tuple[str, Participant]]:
        stage = self._enter()
        stage.meet(1, microphone=False)
        stage.meet(2, camera=False)
        stage.meet(3, camera=False, microphone=False)
        stage.meet(10)
        stage.show("p2", "p10")
        yield "conference-muted", stage.visitor
        stage.page.get_by_test_id("conference-mode").click()
        stage.show("p10")
        yield "conference-speaker", stage.visitor
        stage.page.get_by_test_id("conference-mode").click()
        stage.page.get_by_role("button", name="Groß zeigen: Prof.").focus()
        stage.page.keyboard.press("Enter")
        yield "conference-pinned", stage.visitor
        stage.say({"type": "peer", "pid": "p1", "role": "participant", "present": False})
        expect(stage.page.get_by_test_id("tile-p1-camera")).to_have_attribute("data-away", "")
        yield "conference-away", stage.visitor
        stage.page.evaluate("() => window.machine.unverified('p2', performance.now())")
        stage.show()
        expect(stage.page.get_by_test_id("tile-p2-camera").get_by_role("img", name="nicht verifiziert")).to_be_visible()
        yield "conference-unverified", stage.visitor

    def _screens(self) -> Iterator[tuple[str, Participant]]:
        stage = self._enter(1, script=SCREEN)
        stage.fill(4)
        stage.meet(0, screen=True)
        stage.show("p0")
        yield "conference-screen", stage.visitor
        stage.page.get_by_test_id("full-screen-button").click()
        stage.page.wait_for_function("() => document.fullscreenElement !== null")
        yield "conference-full-screen", stage.visitor
        stage.page.get_by_test_id("full-screen-button").click()
        stage.page.wait_for_function("() => document.fullscreenElement === null")
        stage.page.get_by_test_id("screen-button").click()
        stage.page.get_by_test_id("conference-sharing").wait_for()
        yield "conference-sharing", stage.visitor

    def _panel(self) -> Iterator[tuple[str, Participant]]:
        stage = self._enter()
        stage.fill(4)
        stage.meet(3, microphone=False)
        stage.page.get_by_test_id("menu-button").click()
        yield "conference-panel", stage.visitor
        stage.page.get_by_label("Verglichen und gleich: Petra Muster").check()
        stage.say({"type": "locked", "locked": True})
        person = stage.page.get_by_test_id("person-p2")
        person.get_by_test_id("remove").click()
        yield "conference-locked-panel", stage.visitor
        stage.page.get_by_test_id("settings-button").click()
        yield "conference-settings", stage.visitor
        guest = self._enter(1)
        guest.fill(3)
        guest.page.get_by_test_id("menu-button").click()
        yield "conference-panel-participant", guest.visitor

    def _line(self) -> Iterator[tuple[str, Participant]]:
        stage = self._enter()
        stage.fill(5)
        stage.measure("good", p1="good", p2="weak", p3="stalled", p4="bad")
        yield "conference-lines", stage.visitor
        stage.offer_sound_alone()
        yield "conference-sound-alone-is-offered", stage.visitor
        stage.page.get_by_test_id("audio-only-accept").click()
        stage.page.get_by_test_id("audio-only-end").wait_for()
        yield "conference-sound-alone", stage.visitor
        stage = self._enter()
        stage.fill(3)
        stage.interrupt()
        yield "conference-interrupted", stage.visitor
        stage.give_up()
        yield "conference-no-path", stage.visitor

    def _refusals(self) -> Iterator[tuple[str, Participant]]:
        for code in ("locked", "refused", "removed", "room_full"):  # each has a page of its own: it ends the conference
            stage = self._enter(1)
            stage.say({"type": "error", "code": code, "limit": 8})
            stage.visitor.text("error-text")
            yield f"conference-{code.replace('_', '-')}", stage.visitor
