"""What happens in a conference room: who comes late and leaves, what the organiser decides, who is gone for a moment.

One conference serves all of these tests: to begin one takes longer than most of them. Each leaves it as it was.
"""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.support.conference import (
    DOCTOR,
    LENA,
    LOBBY,
    NEW_KEY_MS,
    PATIENCE_MS,
    PETRA,
    SMALL_SCREEN,
    UWE,
    Meeting,
    meeting,
    run_conference_service,
)
from tests.support.service import Service

pytestmark = [pytest.mark.long, pytest.mark.timeout(520)]

SHARES = 20


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The whole service, which does not measure paths: two cores are too slow for that."""
    with run_conference_service(tmp_path_factory.mktemp("service")) as started:
        yield started


@pytest.fixture(scope="module")
def running(browser: Browser, service: Service) -> Iterator[Meeting]:
    """A conference of three, with a code for a fourth."""
    with meeting(browser, service, 3) as conference:
        conference.enter(DOCTOR, PETRA, UWE, script=SMALL_SCREEN)
        yield conference


@pytest.fixture
def room(running: Meeting) -> Meeting:
    """The same conference, in which nothing is wrong."""
    assert [person.name for person in running.people] == [DOCTOR, PETRA, UWE]
    running.await_everybody()
    return running


def test_who_comes_late_gets_everybody_and_no_key_of_before_and_who_leaves_gets_none_of_afterwards(
    room: Meeting,
) -> None:
    before = own_keys(room)
    [lena] = room.enter(LENA)
    room.await_everybody(later_ms=NEW_KEY_MS)
    during = own_keys(room)
    assert {name: len(during[name]) - len(before[name]) for name in before} == dict.fromkeys(before, 1)
    told = {each["base"] for each in lena.keys()["received"]}
    assert told == {during[name][-1] for name in before}

    lena.hang_up()
    lena.text("ended-text")
    room.people.remove(lena)
    room.await_everybody(later_ms=NEW_KEY_MS)
    after = own_keys(room)
    assert {name: len(after[name]) - len(during[name]) for name in before} == dict.fromkeys(before, 1)
    assert told.isdisjoint({keys[-1] for keys in after.values()})
    for person in room.people:
        assert {
            kid for kid in person.keys()["held"] if owner_of(kid) == owner_of(lena.keys()["own"][0]["kid"])
        } == set()


def own_keys(room: Meeting) -> dict[str, list[str]]:
    """The keys that everybody has sent under, by name, the newest last."""
    return {person.name: [each["base"] for each in person.keys()["own"]] for person in room.people}


def test_who_waits_in_the_lobby_has_no_media_transport_and_none_after_a_refusal(
    room: Meeting, service: Service
) -> None:
    before = transports(service)
    lena = room.visit(LENA)
    assert lena.text("waiting-text") == LOBBY
    expect(room.organiser.page.get_by_test_id("knock")).to_contain_text(LENA, timeout=PATIENCE_MS)
    assert (lena.connections(), transports(service)) == (0, before)
    room.organiser.send_away(LENA)
    assert "nicht eingelassen" in lena.text("error-text")
    assert (lena.connections(), transports(service)) == (0, before)


def test_a_locked_room_lets_nobody_come_and_an_open_one_does_again(room: Meeting) -> None:
    lock = room.organiser.open_panel().get_by_test_id("lock-button")
    lock.click()
    expect(lock).to_have_attribute("aria-pressed", "true", timeout=PATIENCE_MS)
    lena = room.visit(LENA)
    assert "abgeschlossen" in lena.text("error-text")
    lock.click()
    expect(lock).to_have_attribute("aria-pressed", "false", timeout=PATIENCE_MS)
    lena.page.get_by_test_id("join-button").click()
    assert lena.text("waiting-text") == LOBBY
    room.organiser.send_away(LENA)
    assert "nicht eingelassen" in lena.text("error-text")


def test_the_organiser_asks_somebody_to_mute_who_decides_alone(room: Meeting) -> None:
    doctor, petra, uwe = room.people
    expect(uwe.row_of(petra).get_by_test_id("ask-mute")).to_be_hidden()
    doctor.row_of(petra).get_by_test_id("ask-mute").click()
    assert petra.text("mute-asked").startswith(f"{DOCTOR} bittet Sie, Ihr Mikrofon auszuschalten.")
    uwe.await_media_of([petra], ["microphone"])
    petra.page.get_by_test_id("mute-accept").click()
    for other in (doctor, uwe):
        expect(other.row_of(petra)).to_contain_text("Mikrofon aus", timeout=PATIENCE_MS)
        other.await_silence_of(petra, "microphone")
    petra.page.get_by_test_id("microphone-button").click()
    for other in (doctor, uwe):
        other.await_media_of([petra], ["microphone"])


def test_a_screen_that_is_shown_twenty_times_is_seen_each_time_and_nothing_piles_up(room: Meeting) -> None:
    doctor, petra, uwe = room.people
    button = petra.page.get_by_test_id("screen-button")
    weights = []
    for _ in range(SHARES):
        button.click()
        for other in (doctor, uwe):
            expect(other.tile_of(petra, "screen")).to_be_visible(timeout=PATIENCE_MS)
            other.await_media_of([petra], ["screen"])
        button.click()
        for other in (doctor, uwe):
            expect(other.tile_of(petra, "screen")).to_have_count(0, timeout=PATIENCE_MS)
            other.await_media_of([petra], ["camera", "microphone"])
        weights.append([person.weight() for person in room.people])
    assert weights[-1] == weights[0]
    assert petra.page.evaluate("() => window.__screens.map(({ readyState }) => readyState)") == ["ended"] * SHARES


@pytest.mark.parametrize("who", [PETRA, DOCTOR])
def test_who_reloads_is_the_same_as_before_and_the_others_see_no_name_change(room: Meeting, who: str) -> None:
    [away] = [person for person in room.people if person.name == who]
    others = room.others_than(away)
    for one, other in (others, reversed(others)):
        one.row_of(other).get_by_role("checkbox").check()
        one.watch_names()
    before = {person.name: person.people() for person in room.people}
    pid = away.pid
    away.page.reload()
    away.page.wait_for_function("() => window.__pid !== ''", timeout=PATIENCE_MS)
    assert away.pid == pid
    expect(away.page.get_by_test_id("waiting-text")).to_be_hidden()
    room.await_everybody()
    for one, other in (others, reversed(others)):
        assert len(one.shown_names()) == 1, one.shown_names()
        expect(one.row_of(other).get_by_role("checkbox")).to_be_checked()
        assert one.people()[other.name] == before[one.name][other.name]
        assert one.people()[who] == away.people()[one.name]


def test_who_is_removed_has_none_of_the_next_keys_and_may_ask_again(room: Meeting) -> None:
    doctor, _, uwe = room.people
    doctor.row_of(uwe).get_by_test_id("remove").click()
    doctor.row_of(uwe).get_by_test_id("remove-confirm").click()
    assert "entfernt" in uwe.text("error-text")
    room.people.remove(uwe)
    room.await_everybody(later_ms=NEW_KEY_MS)
    told = {each["base"] for each in uwe.keys()["received"]}
    assert told.isdisjoint({keys[-1] for keys in own_keys(room).values()})

    uwe.page.get_by_test_id("join-button").click()
    assert uwe.text("waiting-text") == LOBBY
    doctor.let_in(UWE)
    room.people.append(uwe)
    room.await_everybody()


def owner_of(kid: str | int) -> int:
    """The index of the seat whose key it is."""
    return int(kid) >> 8


def transports(service: Service) -> dict[str, float]:
    """What the media server says it has: members and connections."""
    figures = service.metrics()
    return {
        name: value for name, value in figures.items() if re.match(r"redconnect_sfu_(members|rooms|sessions)\b", name)
    }
