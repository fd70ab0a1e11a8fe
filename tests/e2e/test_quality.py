"""How good the connection is, sound alone on a poor one, and how much is sent: the modules, then real talks."""

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Playwright, expect

from tests.support.axe import find_barriers
from tests.support.browser import CHROMIUM, CONNECT_MS, FirefoxInside, Participant, chromium, talk
from tests.support.fake_devices import BAD_WAY, GOOD_WAY, MEASURED
from tests.support.lab import SERVER_NAME, Lab, open_lab
from tests.support.service import Service, run_service

Ask = Callable[..., Any]
Feed = Callable[[list[dict[str, Any]]], list[list[str | None]]]

# A reading every two seconds, in each direction a hundred packets since the one before. `loss` is what did not arrive
# here, `out` what the partner reports as lost, in packets of a hundred.
FEED = """async (lines) => {
  const { QualityMeter } = await import("/js/quality.js");
  const meter = new QualityMeter();
  const sum = { at: 0, received: 0, lost: 0, framesDecoded: 0, sent: 0 };
  const usual = { packets: 100, loss: 0, out: 0, rtt: 50, frames: 40, due: true, pause: 2000, resting: 0 };
  return lines.map((line) => {
    const { packets, loss, out, rtt, frames, due, pause, resting } = { ...usual, ...line };
    sum.at += pause;
    sum.received += packets - loss;
    sum.lost += loss;
    sum.framesDecoded += frames;
    sum.sent += packets;
    const { sent, ...figures } = sum;
    const reports = [{ sent, fractionLost: out / 100 }, { sent: 0, fractionLost: resting }];
    meter.add({ ...figures, reports, rttMs: rtt }, due);
    return [meter.step, meter.uplink];
  });
}"""


@pytest.fixture(scope="module")
def visitor(browser: Browser, service: Service) -> Iterator[Participant]:
    """Somebody whose page has the modules."""
    participant = Participant(browser)
    participant.open(service.create_appointment().organiser_link.partition("#")[0])
    yield participant
    participant.close()


@pytest.fixture(scope="module")
def ask(visitor: Participant) -> Ask:
    """Calls a function of a module of the page."""
    return lambda module, function, *values: visitor.page.evaluate(
        "async ([module, name, values]) => (await import(`/js/${module}.js`))[name](...values)",
        [module, function, list(values)],
    )


@pytest.fixture(scope="module")
def constant(visitor: Participant) -> Ask:
    """A number that a module of the page names."""
    return lambda module, name: visitor.page.evaluate(
        "async ([module, name]) => (await import(`/js/${module}.js`))[name]", [module, name]
    )


@pytest.fixture(scope="module")
def feed(visitor: Participant) -> Feed:
    """What the meter shows and says of the uplink, after each of the readings."""
    return lambda lines: visitor.page.evaluate(FEED, lines)


def shown(steps: list[list[str | None]]) -> list[str | None]:
    return [step for step, _ in steps]


# --- three steps ---


@pytest.mark.parametrize(
    ("loss", "rtt_ms", "step"),
    [
        (0, 0, "good"),
        (0.0299, 299, "good"),
        (0.03, 0, "weak"),
        (0, 300, "weak"),
        (0.08, 600, "weak"),
        (0.0801, 0, "bad"),
        (0, 601, "bad"),
        (1, 9_000, "bad"),
    ],
)
def test_the_steps_begin_where_they_are_promised_to(ask: Ask, loss: float, rtt_ms: float, step: str) -> None:
    assert ask("quality", "stepOf", loss, rtt_ms) == step


def test_nothing_is_said_before_there_is_a_difference_to_measure(feed: Feed) -> None:
    assert feed([{}, {}]) == [[None, None], ["good", "good"]]


@pytest.mark.parametrize("cause", [{"loss": 15}, {"out": 15}, {"rtt": 900}])
def test_what_lasts_is_shown_after_three_readings_whatever_the_cause(feed: Feed, cause: dict[str, Any]) -> None:
    steps = shown(feed([{}, {}, cause, cause, cause, *[cause] * 4]))
    assert steps[2:4] == ["good", "good"]
    assert steps[4] in {"weak", "bad"}
    assert steps[-1] == "bad"


def test_a_single_burst_of_loss_is_not_shown(feed: Feed) -> None:
    assert set(shown(feed([{}, {}, {}, {"loss": 15}, *[{}] * 8]))[1:]) == {"good"}


def test_the_way_back_takes_longer_and_goes_only_as_far_as_five_readings_agree(feed: Feed) -> None:
    steps = shown(feed([{}, *[{"loss": 30}] * 6, *[{}] * 20]))
    bad_until = len(steps) - 1 - steps[::-1].index("bad")
    assert bad_until >= 7 + 5, "five better readings at the least"
    assert steps[bad_until + 1] == "weak"
    assert steps[-1] == "good"
    changes = [step for before, step in itertools.pairwise(steps[1:]) if step != before]
    assert changes == ["weak", "good"]


def test_figures_about_a_border_do_not_make_the_word_flicker(feed: Feed) -> None:
    steps = shown(feed([{}, *[{"loss": 2}, {"loss": 4}] * 30]))[1:]
    assert sum(step != before for before, step in itertools.pairwise(steps)) <= 1


def test_three_seconds_without_a_picture_that_is_due_are_bad_at_once(feed: Feed) -> None:
    still = {"frames": 0}
    assert shown(feed([{}, {}, still])) == [None, "good", "good"], "two seconds"
    assert shown(feed([{}, {}, still, {**still, "pause": 1_000}])) == [None, "good", "good", "bad"]


def test_a_picture_that_is_not_due_is_not_missed_and_one_that_becomes_due_has_its_three_seconds(feed: Feed) -> None:
    steps = shown(feed([{}, *[{"frames": 0, "due": False}] * 5, {"frames": 0}, {"frames": 0}, {"frames": 0}]))
    assert steps[1:] == ["good"] * 6 + ["good", "bad"]


def test_the_last_report_of_a_stream_that_rests_does_not_count(feed: Feed) -> None:
    assert set(shown(feed([{}, *[{"resting": 0.9}] * 9]))[1:]) == {"good"}


def test_loss_of_a_few_packets_is_chance(feed: Feed) -> None:
    assert set(shown(feed([{}, *[{"packets": 19, "loss": 9, "out": 50}] * 9]))[1:]) == {"good"}


def test_a_page_that_slept_does_not_judge_what_it_has_slept_through(feed: Feed) -> None:
    slept = {"pause": 60_000, "loss": 90, "frames": 0}
    assert set(shown(feed([{}, {}, slept, {}, {}, {}]))[1:]) == {"good"}


def test_the_uplink_is_judged_by_the_own_packets_alone(feed: Feed) -> None:
    assert feed([{}, *[{"loss": 30}] * 5])[-1] == ["bad", "good"]
    assert feed([{}, *[{"out": 30}] * 5])[-1] == ["bad", "bad"]


# --- what browsers say ---

CHROMIUM_SAYS: list[dict[str, Any]] = [
    {"id": "T", "type": "transport", "selectedCandidatePairId": "P"},
    {
        "id": "P",
        "type": "candidate-pair",
        "localCandidateId": "L",
        "remoteCandidateId": "R",
        "currentRoundTripTime": 0.02,
    },
    {
        "id": "old",
        "type": "candidate-pair",
        "localCandidateId": "L",
        "remoteCandidateId": "L",
        "currentRoundTripTime": 9,
    },
    {"id": "L", "type": "local-candidate", "candidateType": "host"},
    {"id": "R", "type": "remote-candidate", "candidateType": "relay"},
    {"id": "IA", "type": "inbound-rtp", "kind": "audio", "packetsReceived": 100, "packetsLost": 2},
    {
        "id": "IV",
        "type": "inbound-rtp",
        "kind": "video",
        "packetsReceived": 300,
        "packetsLost": -1,
        "framesDecoded": 50,
    },
    {"id": "OA", "type": "outbound-rtp", "kind": "audio", "packetsSent": 90},
    {"id": "OV", "type": "outbound-rtp", "kind": "video", "packetsSent": 280},
    {"id": "RV", "type": "remote-inbound-rtp", "kind": "video", "fractionLost": 0.25, "roundTripTime": 0.35},
]


def test_a_reading_takes_the_figures_of_both_kinds_and_the_longest_time(visitor: Participant) -> None:
    assert read(visitor, CHROMIUM_SAYS) == [
        {
            "at": 7,
            "received": 400,
            "lost": 1,
            "framesDecoded": 50,
            "reports": [{"sent": 90, "fractionLost": 0}, {"sent": 280, "fractionLost": 0.25}],
            "rttMs": 350,
        },
        "relay",
    ]


def test_the_pair_that_firefox_marks_itself_is_found(visitor: Participant) -> None:
    pair = {**CHROMIUM_SAYS[1], "selected": True}
    reading, path = read(
        visitor, [CHROMIUM_SAYS[2], pair, CHROMIUM_SAYS[3], {**CHROMIUM_SAYS[4], "candidateType": "srflx"}]
    )
    assert (reading["rttMs"], path) == (20, "direct")


@pytest.mark.parametrize("odd", [None, "text", {}])
def test_a_browser_that_says_little_or_odd_things_gives_a_reading_all_the_same(
    visitor: Participant, odd: object
) -> None:
    nothing = {"at": 7, "received": 0, "lost": 0, "framesDecoded": 0, "rttMs": None}
    for entries in ([], [{"id": "I", "type": "inbound-rtp", "packetsLost": odd, "packetsReceived": odd}]):
        reading, path = read(visitor, entries)
        assert {key: value for key, value in reading.items() if key != "reports"} == nothing
        assert path is None


def read(visitor: Participant, entries: list[dict[str, Any]]) -> list[Any]:
    """The reading and the path that a page sees in these statistics."""
    found: list[Any] = visitor.page.evaluate(
        """async (entries) => {
          const { pathOf, readingOf } = await import("/js/connection_stats.js");
          const stats = new Map(entries.map((entry) => [entry.id, entry]));
          return [readingOf(stats, 7), pathOf(stats)];
        }""",
        entries,
    )
    return found


# --- how much is sent ---

MOST_BITS_PER_SECOND = 20e6 * 8 / 60  # 20 MB in a minute, both directions together
LEAST_BITS_PER_SECOND = 2e6 * 8 / 60
HEADER_BYTES = 100
AUDIO_PACKETS_PER_SECOND = 50
VIDEO_PAYLOAD_BYTES = 1_000


def bits_both_ways(audio: int, video: int) -> float:
    packets = AUDIO_PACKETS_PER_SECOND + video / 8 / VIDEO_PAYLOAD_BYTES
    return 2 * (audio + video + packets * HEADER_BYTES * 8)


def test_a_talk_stays_between_2_and_20_megabytes_in_a_minute(constant: Ask) -> None:
    audio = constant("sending", "AUDIO_BITRATE")
    assert bits_both_ways(audio, constant("sending", "MAX_VIDEO_BITRATE")) < 0.95 * MOST_BITS_PER_SECOND
    assert bits_both_ways(audio, constant("sending", "MIN_VIDEO_BITRATE")) > LEAST_BITS_PER_SECOND


def test_a_bad_line_is_relieved_within_seconds_and_loaded_again_slowly(ask: Ask, constant: Ask) -> None:
    most, least = constant("sending", "MAX_VIDEO_BITRATE"), constant("sending", "MIN_VIDEO_BITRATE")
    bitrates = [most]
    while bitrates[-1] > least:
        bitrates.append(ask("sending", "nextVideoBitrate", bitrates[-1], "bad"))
        assert least <= bitrates[-1] < bitrates[-2]
    assert len(bitrates) <= 4
    risen = [least]
    while risen[-1] < most:
        risen.append(ask("sending", "nextVideoBitrate", risen[-1], "good"))
        assert risen[-2] < risen[-1] <= most
    assert len(risen) > 20
    assert ask("sending", "nextVideoBitrate", most, "good") == most


def test_a_weak_line_is_relieved_less_and_what_is_not_known_changes_nothing(ask: Ask, constant: Ask) -> None:
    least, bitrate = constant("sending", "MIN_VIDEO_BITRATE"), constant("sending", "MAX_VIDEO_BITRATE")
    for _ in range(20):
        bitrate = ask("sending", "nextVideoBitrate", bitrate, "weak")
    assert bitrate > least
    assert ask("sending", "nextVideoBitrate", least, "weak") == least
    assert ask("sending", "nextVideoBitrate", 654_321, None) == 654_321


def test_sound_comes_first_and_a_screen_stays_legible(ask: Ask) -> None:
    camera, screen = (ask("sending", "sendingOf", shared, 150_000) for shared in (False, True))
    assert camera["audio"] == screen["audio"]
    assert camera["audio"]["encoding"]["priority"] == camera["audio"]["encoding"]["networkPriority"] == "high"
    assert camera["video"]["encoding"]["priority"] == camera["video"]["encoding"]["networkPriority"] == "low"
    assert (camera["video"]["degradationPreference"], screen["video"]["degradationPreference"]) == (
        "balanced",
        "maintain-resolution",
    )
    assert screen["video"]["encoding"]["maxBitrate"] > camera["video"]["encoding"]["maxBitrate"] == 150_000


def test_what_the_browser_gave_out_goes_back_with_nothing_but_our_changes(ask: Ask) -> None:
    present = {"transactionId": "7", "codecs": [], "encodings": [{"active": True, "maxBitrate": 5, "rid": "a"}]}
    wish = {"encoding": {"maxBitrate": 9}, "degradationPreference": "balanced"}
    assert ask("sending", "parametersFor", present, wish) == {
        "transactionId": "7",
        "codecs": [],
        "degradationPreference": "balanced",
        "encodings": [{"active": True, "maxBitrate": 9, "rid": "a"}],
    }


@pytest.mark.parametrize("present", [{}, {"encodings": []}])
def test_a_browser_that_knows_of_no_encoding_yet_is_left_alone(ask: Ask, present: dict[str, Any]) -> None:
    assert ask("sending", "parametersFor", present, {"encoding": {"maxBitrate": 9}}) is None


# --- in a talk ---

# A screen of its own size, because the picker of the browser cannot be driven.
SCREEN = """
  MediaDevices.prototype.getDisplayMedia = async () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 640 });
    const context = canvas.getContext("2d");
    setInterval(() => context.fillRect(Math.random() * 320, Math.random() * 640, 9, 9), 50);
    return canvas.captureStream(20);
  };
"""
SENT = """async () => {
  const stats = [...(await window.__connections.at(-1).getStats()).values()];
  const sum = (kind, ...names) => stats
    .filter((entry) => entry.type === "outbound-rtp" && (kind === null || entry.kind === kind))
    .reduce((total, entry) => total + names.reduce((sum, name) => sum + (entry[name] ?? 0), 0), 0);
  const bytes = (kind) => sum(kind, "bytesSent", "headerBytesSent");
  const packets = sum(null, "packetsSent");
  const frames = sum("video", "framesSent");
  return { at: performance.now(), frames, packets, bytes: bytes(null), video: bytes("video") };
}"""
SENDERS = """() => {
  const sending = window.__connections.at(-1).getTransceivers().filter(({ direction }) => direction !== "recvonly");
  return Object.fromEntries(sending.map(({ receiver, sender }) => {
    const { encodings, degradationPreference } = sender.getParameters();
    return [receiver.track.kind, { ...encodings[0], degradationPreference }];
  }));
}"""
CAMERA, SHARED_SCREEN = (False, 1_000_000), (True, 1_000_000)
FRAMES_OF_A_MEASUREMENT = 120
LOWER_LAYERS_BYTES = 60  # SRTP's tag, UDP and IPv6: statistics of RTP do not have them
DESKTOP, PHONE = (1280, 800), (360, 740)


@pytest.mark.long
def test_a_talk_shows_a_good_quality_in_bars_and_a_word_with_a_name(
    service: Service, invite: Callable[..., Participant]
) -> None:
    doctor, patient = invite(script=MEASURED), invite(script=MEASURED)
    talk(service.create_appointment(), doctor, patient)
    for participant in (doctor, patient):
        quality = participant.page.get_by_test_id("quality")
        expect(quality).to_have_text(re.compile(r"Verbindungsqualität:\s+gut"), timeout=2 * CONNECT_MS)
        expect(quality.locator(".bars")).to_have_attribute("aria-hidden", "true")
    doctor.hang_up()
    doctor.text("ended-text")
    patient.page.get_by_test_id("rejoin-button").click()
    patient.text("waiting-text")
    expect(patient.page.get_by_test_id("quality")).to_be_hidden()


@pytest.mark.long
def test_a_talk_takes_less_than_20_megabytes_in_a_minute_and_more_than_nothing(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    talk(service.create_appointment(), doctor, patient)
    total = 0.0
    for participant in (doctor, patient):
        first = participant.page.evaluate(SENT)
        participant.page.wait_for_function(
            f"""() => {{
              ({SENT})().then((sent) => {{ window.__sent = sent; }});
              return window.__sent?.frames >= {first["frames"] + FRAMES_OF_A_MEASUREMENT};
            }}""",
            polling=200,
            timeout=CONNECT_MS,
        )
        last = participant.page.evaluate("() => window.__sent")
        seconds = (last["at"] - first["at"]) / 1_000
        video = (last["video"] - first["video"]) * 8 / seconds
        assert video > 30_000, "pictures: even the few of a fake camera take this much"
        below = (last["packets"] - first["packets"]) * LOWER_LAYERS_BYTES
        total += (last["bytes"] - first["bytes"] + below) * 8 / seconds
    assert total < MOST_BITS_PER_SECOND


@pytest.mark.long
def test_chromium_sends_as_it_was_decided_also_with_another_picture_and_after_a_new_offer(
    service: Service, invite: Callable[..., Participant], ask: Ask
) -> None:
    doctor, patient = invite(script=MEASURED + SCREEN), invite(script=MEASURED)
    talk(service.create_appointment("now", "--plus"), doctor, patient)
    camera, screen = (ask("sending", "sendingOf", *what) for what in (CAMERA, SHARED_SCREEN))
    for participant in (doctor, patient):
        expect_sending(participant, camera)
        for side in ("localDescription", "remoteDescription"):
            sdp = participant.page.evaluate("(side) => window.__connections.at(-1)[side].sdp", side)
            assert "useinbandfec=1" in sdp
    button = doctor.page.get_by_test_id("screen-button")
    button.click()
    expect_sending(doctor, screen)
    button.click()
    expect_sending(doctor, camera)
    for expected in ("false", "true"):
        doctor.page.get_by_test_id("camera-button").click()
        expect(doctor.page.get_by_test_id("camera-button")).to_have_attribute("aria-pressed", expected)
        expect_sending(doctor, camera)
    patient.page.evaluate("() => { window.__before = window.__connections.at(-1).localDescription.sdp; }")
    doctor.page.evaluate("() => window.__connections.at(-1).restartIce()")
    patient.page.wait_for_function("() => window.__connections.at(-1).localDescription.sdp !== window.__before")
    for participant in (doctor, patient):
        participant.await_connected()
        participant.await_growth("framesDecoded")
        expect_sending(participant, camera)


@pytest.mark.long
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_on_a_bad_line_sound_alone_is_offered_and_taken_and_the_pictures_come_back(
    service: Service, invite: Callable[..., Participant], patient: Participant, viewport: tuple[int, int]
) -> None:
    doctor = invite(viewport=viewport, script=MEASURED)
    talk(service.create_appointment(), doctor, patient)
    page = doctor.page
    offer, quality = page.get_by_test_id("audio-only-offer"), page.get_by_test_id("quality")
    reason, theirs = page.get_by_test_id("remote-reason"), patient.page.get_by_test_id("remote-reason")
    page.evaluate(BAD_WAY)
    expect(quality).to_contain_text("schlecht", timeout=CONNECT_MS)
    expect(page.locator("#announcer")).to_contain_text("Die Verbindung ist schlecht.")
    page.wait_for_function(f"() => ({SENDERS})().video.maxBitrate === 150_000", timeout=CONNECT_MS)
    expect(offer).to_be_visible(timeout=CONNECT_MS)
    assert find_barriers(page) == [], "with the offer"
    for part in (quality, page.get_by_test_id("menu-button"), offer):
        assert_fits(part, viewport)

    page.get_by_test_id("audio-only-accept").click()
    expect(offer).to_be_hidden()
    expect(reason).to_have_text("Nur Ton: Sie haben die Bilder ausgeschaltet.")
    expect(theirs).to_contain_text("Nur Ton: Ihr Gesprächspartner hat die Bilder ausgeschaltet")
    back = page.get_by_role("button", name="Bilder wieder einschalten")
    expect(back).to_be_focused()
    expect(page.get_by_test_id("camera-button")).to_have_attribute("aria-pressed", "false")
    expect(patient.page.get_by_test_id("camera-button")).to_have_attribute("aria-pressed", "true")
    for participant in (doctor, patient):
        participant.await_standstill("framesDecoded")
        participant.await_growth("totalAudioEnergy")
        assert find_barriers(participant.page) == [], "sound alone"

    back.click()
    for participant in (doctor, patient):
        participant.await_growth("framesDecoded")
        expect(participant.page.get_by_test_id("remote-reason")).to_be_hidden()
    expect(page.locator("#stage-heading")).to_be_focused()
    page.evaluate(GOOD_WAY)
    expect(quality).to_contain_text("gut", timeout=2 * CONNECT_MS)


@pytest.mark.long
def test_a_screen_is_not_said_to_be_seen_while_the_partner_gets_no_pictures(
    service: Service, invite: Callable[..., Participant]
) -> None:
    doctor, patient = invite(script=MEASURED + SCREEN), invite(script=MEASURED)
    talk(service.create_appointment("now", "--plus"), doctor, patient)
    note = expect(doctor.page.get_by_test_id("sharing-note"))
    doctor.page.get_by_test_id("screen-button").click()
    note.to_have_text("Ihr Gesprächspartner sieht Ihren Bildschirm.")
    patient.page.evaluate(BAD_WAY)
    patient.page.get_by_test_id("audio-only-accept").click(timeout=2 * CONNECT_MS)
    note.to_have_text("Ihr Bildschirm wird gerade nicht gesendet.")
    patient.await_standstill("framesDecoded")
    patient.page.get_by_test_id("pictures-button").click()
    note.to_have_text("Ihr Gesprächspartner sieht Ihren Bildschirm.")
    patient.await_growth("framesDecoded")


@pytest.mark.long
def test_who_declines_keeps_the_pictures_and_the_camera_button_ends_sound_alone_too(
    service: Service, invite: Callable[..., Participant], patient: Participant
) -> None:
    doctor = invite(script=MEASURED)
    talk(service.create_appointment(), doctor, patient)
    page = doctor.page
    page.evaluate(BAD_WAY)
    expect(page.get_by_test_id("audio-only-offer")).to_be_visible(timeout=CONNECT_MS)
    page.get_by_test_id("audio-only-decline").click()
    expect(page.get_by_test_id("audio-only-offer")).to_be_hidden()
    for participant in (doctor, patient):
        participant.await_growth("framesDecoded")
    doctor.hang_up()
    doctor.text("ended-text")
    patient.page.get_by_test_id("rejoin-button").click()
    page.get_by_test_id("rejoin-button").click()
    for participant in (doctor, patient):
        participant.await_connected()
    page.get_by_test_id("audio-only-accept").click(timeout=CONNECT_MS)  # another talk, another question
    expect(page.get_by_test_id("pictures-button")).to_be_visible()
    page.get_by_test_id("camera-button").click()
    expect(page.get_by_test_id("pictures-button")).to_be_hidden()
    expect(page.get_by_test_id("camera-button")).to_have_attribute("aria-pressed", "true")
    for participant in (doctor, patient):
        participant.await_growth("framesDecoded")


@pytest.fixture
def far_apart(tmp_path: Path) -> Iterator[tuple[Lab, Service]]:
    """Two clients whose media goes directly from one network to the other."""
    with open_lab(routed=True) as lab:
        settings = {
            "relay": {"relay_addresses": [lab.server_ip]},
            "signaling": {
                "port": 8443,
                "https": True,
                "public_url": f"https://{SERVER_NAME}:8443",
                "ice": {"host": lab.server_ip},
            },
        }
        with run_service(tmp_path, settings, lab.server) as service:
            yield lab, service


@pytest.mark.long
def test_a_line_that_really_loses_packets_is_bad_and_good_for_sound_alone(
    playwright: Playwright, far_apart: tuple[Lab, Service], tmp_path: Path
) -> None:
    lab, service = far_apart
    with (
        chromium(playwright, lab.wrapper(lab.alice, CHROMIUM, tmp_path)) as alice,
        chromium(playwright, lab.wrapper(lab.bob, CHROMIUM, tmp_path)) as bob,
    ):
        doctor, patient = Participant(alice), Participant(bob)
        talk(service.create_appointment(), doctor, patient)
        for participant in (doctor, patient):
            expect(participant.page.get_by_test_id("quality")).to_contain_text("gut", timeout=2 * CONNECT_MS)
        lab.lose(percent=15)
        for participant in (doctor, patient):
            expect(participant.page.get_by_test_id("quality")).to_contain_text("schlecht", timeout=CONNECT_MS)
        doctor.page.get_by_test_id("audio-only-accept").click(timeout=CONNECT_MS)
        for participant in (doctor, patient):
            participant.await_standstill("framesDecoded")
            participant.await_growth("totalAudioEnergy")
            assert participant.figures()["state"] == "connected"
        lab.lose(percent=0)
        doctor.page.get_by_test_id("pictures-button").click()
        for participant in (doctor, patient):
            participant.await_growth("framesDecoded")
            expect(participant.page.get_by_test_id("quality")).to_contain_text("gut", timeout=2 * CONNECT_MS)
            assert participant.connections() == 1
            assert participant.complaints == []


@pytest.mark.long
def test_firefox_sends_as_it_was_decided_as_far_as_it_goes_and_judges_the_line(
    playwright: Playwright, far_apart: tuple[Lab, Service], tmp_path: Path, ask: Ask
) -> None:
    lab, service = far_apart
    with (
        FirefoxInside(lab, lab.alice, tmp_path) as alice,
        chromium(playwright, lab.wrapper(lab.bob, CHROMIUM, tmp_path)) as bob,
    ):
        doctor, patient = alice.participant({}, MEASURED), Participant(bob, script=MEASURED)
        talk(service.create_appointment(), doctor, patient)
        decided = ask("sending", "sendingOf", *CAMERA)
        expect_sending(patient, decided)
        expect_sending(doctor, {kind: {"encoding": only_known(each["encoding"])} for kind, each in decided.items()})
        doctor.await_that("() => document.getElementById('quality').dataset.step !== undefined")
        doctor.await_that("() => (window.__way = null) === null")
        lab.lose(percent=15)
        doctor.await_that("() => document.getElementById('quality').dataset.step === 'bad'")
        doctor.await_that("() => !document.getElementById('audio-only-offer').hidden")
        doctor.await_that("() => document.getElementById('audio-only-accept').click() ?? true")
        doctor.await_standstill("framesDecoded")
        doctor.await_that(
            "() => window.__connections.at(-1).getSenders().every(({ track }) => track?.kind !== 'video')"
        )
        for participant in (doctor, patient):
            participant.await_growth("totalAudioEnergy")
        lab.lose(percent=0)
        doctor.await_that("() => document.getElementById('pictures-button').click() ?? true")
        for participant in (doctor, patient):
            participant.await_growth("framesDecoded")
            assert participant.complaints == []


def only_known(encoding: dict[str, Any]) -> dict[str, Any]:
    """Without what Firefox ESR does not have."""
    return {name: value for name, value in encoding.items() if name != "networkPriority"}


def expect_sending(participant: Participant, sending: dict[str, Any]) -> None:
    """Wait until the senders of the browser have all that was decided."""
    preference = sending["video"].get("degradationPreference")
    wish = {kind: each["encoding"] for kind, each in sending.items()}
    if preference is not None:
        wish["video"] = {**wish["video"], "degradationPreference": preference}
    predicate = f"""(wish) => {{
      const senders = ({SENDERS})();
      return Object.entries(wish).every(([kind, values]) =>
        Object.entries(values).every(([name, value]) => senders[kind][name] === value));
    }}"""
    participant.await_that(predicate, wish)


def assert_fits(element: Locator, viewport: tuple[int, int]) -> None:
    """It does not reach beyond the window."""
    box = element.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= viewport[0]
