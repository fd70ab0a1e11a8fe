"""German first and English second: changed in place, at any moment, without losing anything."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import Participant, talk, watch_both
from tests.support.fake_devices import NO_MICROPHONE
from tests.support.service import Service

GERMAN_LETTERS = re.compile("[äöüÄÖÜß„]")


@pytest.fixture
def address(service: Service) -> str:
    return str(service.settings["signaling"]["public_url"])


@pytest.fixture
def words(patient: Participant, address: str) -> dict[str, dict[str, str]]:
    """Every word of the page, by language and key."""
    patient.open(f"{address}/")
    found: dict[str, dict[str, str]] = patient.page.evaluate(
        """async () => {
          const { LANGUAGES } = await import("/js/texts.js");
          const loaded = await Promise.all(LANGUAGES.map((language) => import(`/js/words_${language}.js`)));
          return Object.fromEntries(loaded.map(({ WORDS }, at) => [LANGUAGES[at], WORDS]));
        }"""
    )
    return found


# The words


def test_both_languages_have_the_same_keys(words: dict[str, dict[str, str]]) -> None:
    assert list(words) == ["de", "en"]
    assert sorted(words["de"]) == sorted(words["en"])


def test_both_languages_put_the_same_values_into_each_text(words: dict[str, dict[str, str]]) -> None:
    places = {
        language: {key: sorted(set(re.findall(r"\{\w+\}", said))) for key, said in known.items()}
        for language, known in words.items()
    }
    assert places["de"] == places["en"]


def test_no_english_text_was_left_in_german(words: dict[str, dict[str, str]]) -> None:
    assert [said for said in words["en"].values() if GERMAN_LETTERS.search(said)] == []
    assert [key for key, said in words["de"].items() if len(said) > 20 and words["en"][key] == said] == []


def test_every_fixed_text_of_the_page_is_known(patient: Participant, words: dict[str, dict[str, str]]) -> None:
    used: list[str] = patient.page.evaluate(
        """() => [...document.querySelectorAll("[data-text], [data-label], [data-title]")]
             .flatMap(({ dataset: { text, label, title } }) => [text, label, title]).filter(Boolean)"""
    )
    assert len(used) > 50
    assert set(used) - set(words["de"]) == set()


# The choice


def test_everybody_gets_german_first_and_only_the_words_in_use_are_fetched(
    invite: Callable[..., Participant], address: str
) -> None:
    visitor = invite(locale="en-GB")
    visitor.open(f"{address}/")
    expect(visitor.page.get_by_role("heading", name="Ihre Videosprechstunde")).to_be_visible()
    visitor.page.wait_for_load_state("networkidle")
    assert fetched_words(visitor) == ["words_de.js"]
    switch(visitor.page)
    assert fetched_words(visitor) == ["words_de.js", "words_en.js"]

    visitor.requested.clear()
    visitor.page.reload()
    expect(visitor.page.get_by_role("heading", name="Your video consultation")).to_be_visible()
    assert fetched_words(visitor) == ["words_en.js"]
    assert json.loads(visitor.page.evaluate("() => localStorage.getItem('redconnect.preferences')"))["language"] == "en"


def test_the_switch_is_a_large_button_that_is_named_in_its_own_language(patient: Participant, address: str) -> None:
    patient.open(f"{address}/")
    for name, language in (("English", "en"), ("Deutsch", "de")):
        button = patient.page.get_by_role("button", name=name, exact=True)
        expect(button).to_have_attribute("lang", language)
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 44
        button.click()
        expect(patient.page.locator("html")).to_have_attribute("lang", language)


def test_the_whole_entry_page_changes_and_nothing_typed_is_lost(patient: Participant, address: str) -> None:
    patient.open(f"{address}/")
    page = patient.page
    expect(page).to_have_title("RED Connect Videosprechstunde")
    page.get_by_test_id("name-input").fill("Petra Muster")
    page.get_by_test_id("code-input").fill("0000-0000-0001")
    page.get_by_test_id("join-button").click()
    assert patient.text("error-text") == "Zugangscode unbekannt. Bitte prüfen Sie die Eingabe."
    switch(page)
    expect(page).to_have_title("RED Connect Video Consultation")
    expect(page.get_by_test_id("error-text")).to_have_text("Unknown access code. Please check what you entered.")
    expect(page.get_by_label("Your name")).to_have_value("Petra Muster")
    expect(page.get_by_label("Your access code")).to_have_value("0000-0000-0001")
    expect(page.get_by_label("Your access code")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_test_id("join-button")).to_have_text("Join the room")
    expect(page.get_by_test_id("language")).to_be_focused()
    assert not GERMAN_LETTERS.search(visible_text(page))


def test_links_to_german_pages_say_so_in_english(patient: Participant, address: str) -> None:
    patient.open(f"{address}/")
    links = patient.page.get_by_role("navigation").get_by_role("link")
    expect(patient.page.get_by_text("In German:")).to_have_count(0)
    expect(links).to_have_text([f"{name} (neuer Tab)" for name in GERMAN_LINKS])
    switch(patient.page)
    expect(patient.page.get_by_text("In German:")).to_be_visible()
    expect(links).to_have_text([f"{name} (in German, new tab)" for name in ENGLISH_LINKS])
    assert {link.get_attribute("hreflang") for link in links.all()} == {"de"}


GERMAN_LINKS = ["Hilfe", "Nutzungsbedingungen", "Datenschutz", "Impressum"]
ENGLISH_LINKS = ["Help", "Terms of use", "Privacy notice", "Legal notice"]


def test_german_time_is_said_in_english_with_the_month_in_a_word(patient: Participant, service: Service) -> None:
    patient.open(service.create_appointment("2027-07-01 14:30").participant_link)
    patient.join("Petra Muster")
    assert patient.text("error-text") == "Ihr Termin beginnt am 01.07.2027 um 14:30 (deutsche Zeit)."
    switch(patient.page)
    assert patient.text("error-text") == "Your appointment begins on 1 July 2027 at 14:30 (German time)."
    switch(patient.page)
    assert patient.text("error-text") == "Ihr Termin beginnt am 01.07.2027 um 14:30 (deutsche Zeit)."


def test_words_that_cannot_be_fetched_change_nothing_and_ask_to_reload(patient: Participant, address: str) -> None:
    patient.open(f"{address}/")
    patient.page.route("**/words_en.js", lambda route: route.abort())
    patient.page.get_by_test_id("language").click()
    assert patient.text("error-text") == "Das hat nicht geklappt. Bitte laden Sie die Seite neu."
    expect(patient.page.locator("html")).to_have_attribute("lang", "de")
    expect(patient.page.get_by_test_id("join-button")).to_have_text("Raum beitreten")
    assert [line for line in patient.complaints if "words_en" not in line and "ERR_FAILED" not in line] == []
    patient.complaints.clear()


# The room


def test_the_check_is_retold_with_what_does_not_work(invite: Callable[..., Participant], address: str) -> None:
    patient = invite(script=NO_MICROPHONE)
    patient.open(f"{address}/")
    patient.page.get_by_test_id("check-button").click()
    assert patient.text("check-problem").startswith("Es wurde kein Mikrofon gefunden.")
    switch(patient.page)
    assert patient.text("check-problem") == "No microphone was found. Connect a microphone, then press “Microphone”."
    meter = patient.page.get_by_role("meter", name="Microphone sensitivity")
    expect(meter).to_have_attribute("aria-valuetext", "Microphone off")
    expect(patient.page.get_by_test_id("check-camera")).to_have_attribute("title", "Turn camera off")
    assert not GERMAN_LETTERS.search(visible_text(patient.page))


@pytest.mark.long
def test_waiting_is_retold_and_a_notice_that_was_closed_stays_closed(
    invite: Callable[..., Participant], service: Service
) -> None:
    doctor = invite(script=NO_MICROPHONE)
    doctor.open(service.create_appointment("now").organiser_link)
    doctor.join("Dr. Anna Beispiel")
    page, notice = doctor.page, doctor.page.get_by_test_id("device-notice")
    expect(notice).to_contain_text("Es wurde kein Mikrofon gefunden.")
    open_settings(page)
    switch(page, "settings-language")
    assert doctor.text("waiting-text") == "Please wait – the other participant is not here yet."
    assert re.fullmatch(
        r"Planned start: \d{1,2} [A-Z][a-z]+ \d{4}, \d\d:\d\d \(German time\)", doctor.text("waiting-planned")
    )
    expect(notice).to_contain_text("No microphone was found.")
    page.get_by_test_id("panel-close").click()
    notice.get_by_role("button", name="Close notice").click()
    expect(notice).to_be_hidden()
    open_settings(page)
    switch(page, "settings-language")
    assert doctor.text("waiting-text") == "Bitte warten – Ihr Gesprächspartner ist noch nicht da."
    expect(notice).to_be_hidden()


@pytest.mark.long
def test_a_running_talk_is_not_touched_and_all_of_it_is_retold(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    talk(service.create_appointment("now", "--plus"), doctor, patient)
    page = doctor.page
    expect(page.get_by_test_id("connection-status")).to_have_text("Direkt verbunden")
    open_settings(page)
    camera = page.get_by_test_id("camera-select").input_value()
    switch(page, "settings-language")
    assert doctor.connections() == 1
    watch_both(doctor, patient, seconds=2)
    expect(page.get_by_role("complementary", name="Settings")).to_be_visible()
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    expect(page.get_by_role("combobox", name="Selected video source")).to_have_value(camera)
    expect(page.get_by_test_id("connection-status")).to_have_text("Connected directly")
    bar = page.get_by_role("group", name="Controls").get_by_role("button")
    expect(bar).to_have_text(["Camera", "Microphone", "Screen", "Full screen", "Hang up"])
    titles = [button.get_attribute("title") for button in bar.all()]
    assert titles == [
        "Turn camera off (K)",
        "Turn microphone off (M)",
        "Share your screen",
        "Enter full screen (F)",
        "End the consultation",
    ]
    page.get_by_test_id("settings-back").click()
    expect(page.get_by_test_id("panel")).to_contain_text("Dr. Anna Beispiel (you)")
    expect(page.get_by_role("img", name="End-to-end encrypted")).to_be_visible()
    assert not GERMAN_LETTERS.search(visible_text(page))
    expect(patient.page.locator("html")).to_have_attribute("lang", "de")

    page.get_by_test_id("panel-close").click()
    doctor.hang_up()
    assert re.fullmatch(
        r"The consultation has ended\. You can join again until .+ \d{4}, \d\d:\d\d \(German time\)\.",
        doctor.text("ended-text"),
    )
    switch(page)
    assert re.fullmatch(
        r"Das Gespräch wurde beendet\. Sie können bis [\d.]{10}, \d\d:\d\d Uhr erneut beitreten\.",
        doctor.text("ended-text"),
    )


@pytest.mark.long
def test_a_screen_reader_hears_of_the_change_and_not_the_whole_page_again(
    service: Service, doctor: Participant
) -> None:
    doctor.open(service.create_appointment().organiser_link)
    doctor.join("Dr. Anna Beispiel")
    open_settings(doctor.page)
    expect(doctor.page.locator("#announcer")).to_contain_text("Bitte warten")
    switch(doctor.page, "settings-language")
    expect(doctor.page.locator("#announcer")).to_have_text("The page is now in English.")


def switch(page: Page, test_id: str = "language") -> None:
    """Press the switch, and wait until the page speaks the other language."""
    before = page.evaluate("() => document.documentElement.lang")
    page.get_by_test_id(test_id).click()
    expect(page.locator("html")).not_to_have_attribute("lang", before)


def open_settings(page: Page) -> None:
    """Open the settings in the panel."""
    page.get_by_test_id("menu-button").click()
    page.get_by_test_id("settings-button").click()


def visible_text(page: Page) -> str:
    """What is to be seen, and the names and tooltips of what is seen."""
    said: Any = page.evaluate(
        """() => {
          const shown = [...document.body.querySelectorAll("*")].filter((element) => element.checkVisibility());
          return shown.flatMap((element) => [
            ...[...element.childNodes].filter(({ nodeType }) => nodeType === Node.TEXT_NODE).map(({ data }) => data),
            ...["aria-label", "title", "aria-valuetext"].map((name) => element.getAttribute(name) ?? ""),
          ]).join(" ");
        }"""
    )
    return str(said)


def fetched_words(participant: Participant) -> list[str]:
    """The files of words that the page has asked for, in order."""
    return [url.rpartition("/")[2] for url in participant.requested if "/js/words_" in url]
