"""What a visit fetches: little at first, the room when it is needed, and nothing from anybody else."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Response, Route, expect

from tests.support.browser import CONNECT_MS, Participant, talk
from tests.support.service import Service

FIRST_VISIT_BYTES = 120_000  # uncompressed
RELOAD = "Das hat nicht geklappt. Bitte laden Sie die Seite neu."
# What only somebody who joins, or tries the devices, has to wait for.
ROOM_ONLY = [
    "/css/stage.css",
    "/js/consultation.js",
    "/js/room_machine.js",
    "/js/secure_channel.js",
    "/js/media.js",
    "/js/settings_view.js",
]
ARE_HERE = """(paths) => {
  const here = new Set(performance.getEntriesByType("resource").map(({ name }) => new URL(name).pathname));
  return paths.every((path) => here.has(path));
}"""


class Scale:
    """Keeps every answer that a page gets."""

    def __init__(self, page: Page) -> None:
        self.answers: list[Response] = []
        page.on("response", lambda answer: self.answers.append(answer))  # noqa: PLW0108  # a name for Playwright

    @property
    def paths(self) -> list[str]:
        return ["/" + answer.url.split("/", 3)[3] for answer in self.answers]

    @property
    def code(self) -> list[str]:
        return [path for path in self.paths if path.endswith((".js", ".css"))]

    def weigh(self) -> int:
        return sum(len(answer.body()) for answer in self.answers)


@pytest.fixture
def address(service: Service) -> str:
    return str(service.settings["signaling"]["public_url"])


def test_a_first_visit_is_light_and_asks_nobody_else(patient: Participant, address: str) -> None:
    scale = Scale(patient.page)
    patient.open(f"{address}/")
    patient.page.wait_for_load_state("networkidle")
    expect(patient.page.get_by_test_id("join-button")).to_be_enabled()
    assert {"/", "/js/entry.js", "/js/words_de.js", "/css/entry.css"} <= set(scale.paths)
    assert not set(ROOM_ONLY) & set(scale.paths)
    assert len(scale.paths) == len(set(scale.paths))
    assert scale.weigh() < FIRST_VISIT_BYTES
    assert [url for url in patient.requested if not url.startswith(f"{address}/")] == []


def test_the_room_is_fetched_while_the_form_is_filled_in_so_that_joining_waits_for_nothing(
    patient: Participant, service: Service, address: str
) -> None:
    patient.open(f"{address}/")
    code = service.create_appointment().participant
    scale = Scale(patient.page)
    patient.page.get_by_test_id("name-input").focus()
    patient.page.wait_for_function(ARE_HERE, arg=[*ROOM_ONLY, "/js/elligator.js"])  # the one that is found last
    before = scale.code
    patient.join("Petra Muster", code)
    patient.text("waiting-text")
    assert scale.code == before


@pytest.mark.long
def test_a_whole_talk_fetches_no_code_twice_and_asks_nobody_else(
    service: Service, doctor: Participant, patient: Participant, address: str
) -> None:
    scale = Scale(patient.page)
    talk(service.create_appointment(), doctor, patient)
    patient.page.get_by_test_id("menu-button").click()
    patient.page.get_by_test_id("settings-button").click()
    assert set(ROOM_ONLY) <= set(scale.code)
    assert len(scale.code) == len(set(scale.code))
    assert [url for url in patient.requested if not url.startswith(f"{address}/")] == []


@pytest.mark.long
def test_a_reload_in_the_room_leads_back_into_it(patient: Participant, service: Service) -> None:
    patient.open(service.create_appointment().participant_link)
    patient.join("Petra Muster")
    patient.text("waiting-text")
    patient.page.reload()
    assert patient.text("waiting-text") == "Bitte warten – Ihr Gesprächspartner ist noch nicht da."


@pytest.mark.parametrize("lost", ["/js/consultation.js", "/js/elligator.js", "/css/stage.css"])
@pytest.mark.long
def test_a_room_that_cannot_be_fetched_is_told_and_a_reload_mends_it(
    patient: Participant, service: Service, lost: str
) -> None:
    patient.page.route(f"**{lost}", lambda route: route.abort())
    patient.open(service.create_appointment().participant_link)
    patient.join("Petra Muster")
    assert patient.text("error-text") == RELOAD
    expect(patient.page.get_by_test_id("join-button")).to_have_text("Raum beitreten")
    patient.page.unroute(f"**{lost}")
    patient.page.reload()
    patient.join("Petra Muster")
    patient.text("waiting-text")
    assert_only_complains_of(patient, lost)


@pytest.mark.long
def test_a_check_that_cannot_be_fetched_is_told(patient: Participant, address: str) -> None:
    patient.page.route("**/js/media.js", lambda route: route.abort())
    patient.open(f"{address}/")
    patient.page.get_by_test_id("check-button").click()
    assert patient.text("error-text") == RELOAD
    assert_only_complains_of(patient, "/js/media.js")


@pytest.mark.long
def test_who_joins_before_the_room_is_here_sees_it_coming_and_gets_in(
    service: Service, slow: Callable[[Participant], Callable[[], None]], patient: Participant
) -> None:
    release = slow(patient)
    patient.open(service.create_appointment().participant_link)
    patient.join("Petra Muster")
    expect(patient.page.get_by_test_id("join-button")).to_have_text("Verbindung wird hergestellt…")
    release()
    patient.text("waiting-text")


@pytest.mark.long
def test_who_gives_up_before_the_room_is_here_is_not_taken_into_it(
    service: Service, slow: Callable[[Participant], Callable[[], None]], patient: Participant
) -> None:
    release = slow(patient)
    patient.open(service.create_appointment().participant_link)
    sockets: list[str] = []
    patient.page.on("websocket", lambda socket: sockets.append(socket.url))
    patient.join("Petra Muster")
    patient.page.get_by_test_id("cancel-button").click()
    expect(patient.page.get_by_test_id("join-button")).to_have_text("Raum beitreten")
    with patient.page.expect_response("**/js/elligator.js"):
        release()
    patient.page.get_by_test_id("check-button").click()  # the room is here now
    expect(patient.page.get_by_test_id("check")).to_be_visible(timeout=CONNECT_MS)
    expect(patient.page.get_by_test_id("name-input")).to_be_editable()
    assert sockets == []


@pytest.fixture
def slow() -> Callable[[Participant], Callable[[], None]]:
    """Holds the room back from a page until what is returned is called."""

    def hold(participant: Participant) -> Callable[[], None]:
        held: list[Route] = []
        participant.page.route("**/js/consultation.js", lambda route: held.append(route))  # noqa: PLW0108

        def release() -> None:
            for route in held:
                route.continue_()

        return release

    return hold


def assert_only_complains_of(participant: Participant, path: str) -> None:
    """The browser and the page have said what was lost, and nothing else."""
    named = (path, "ERR_FAILED", "the room could not be fetched")
    assert participant.complaints
    assert [line for line in participant.complaints if not any(each in line for each in named)] == []
    participant.complaints.clear()
