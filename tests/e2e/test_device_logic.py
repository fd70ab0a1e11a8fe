"""What the page decides about devices, levels, keys and memory, in a real browser but without any device."""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.browser import Participant
from tests.support.service import Service

Ask = Callable[..., Any]

PLUGGED_IN = [
    {"kind": "audioinput", "deviceId": "default", "label": "Standard"},
    {"kind": "audioinput", "deviceId": "headset", "label": "Headset"},
    {"kind": "audiooutput", "deviceId": "box", "label": "Lautsprecher"},
    {"kind": "videoinput", "deviceId": "front", "label": "Laptop"},
    {"kind": "videoinput", "deviceId": "desk", "label": "Dokumentenkamera"},
]
DEFAULTS = {
    "speaker": "",
    "microphone": "",
    "camera": "",
    "microphoneOn": True,
    "cameraOn": True,
    "shortcuts": True,
    "language": "de",
}


@pytest.fixture(scope="module")
def ask(browser: Browser, service: Service) -> Iterator[Ask]:
    """Calls a function of a module of the page."""
    visitor = Participant(browser)
    visitor.open(service.create_appointment().organiser_link.partition("#")[0])
    yield lambda module, function, *values: visitor.page.evaluate(
        "async ([module, name, values]) => (await import(`/js/${module}.js`))[name](...values)",
        [module, function, list(values)],
    )
    visitor.close()


@pytest.mark.parametrize(
    ("browser_says", "handheld"),
    [
        ({"userAgent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/156", "maxTouchPoints": 0}, False),
        ({"userAgent": "Mozilla/5.0 (Windows NT 10.0; Win64) Firefox/153", "maxTouchPoints": 10}, False),
        ({"userAgent": "Mozilla/5.0 (Macintosh; Intel Mac OS X) Safari/605", "maxTouchPoints": 0}, False),
        ({"userAgent": "Mozilla/5.0 (Macintosh; Intel Mac OS X) Safari/605", "maxTouchPoints": 5}, True),
        ({"userAgent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)", "maxTouchPoints": 5}, True),
        ({"userAgent": "Chrome", "maxTouchPoints": 5, "userAgentData": {"mobile": True}}, True),
    ],
)
def test_phones_and_tablets_are_told_from_computers_with_touch_screens(
    ask: Ask, browser_says: dict[str, Any], *, handheld: bool
) -> None:
    assert ask("devices", "isHandheld", browser_says) is handheld


def test_a_computer_offers_every_device_that_the_browser_names(ask: Ask) -> None:
    options = ask("devices", "optionsOf", PLUGGED_IN, {"handheld": False, "speakers": True})
    assert {kind: [each["id"] for each in found] for kind, found in options.items()} == {
        "speaker": ["box"],
        "microphone": ["default", "headset"],
        "camera": ["front", "desk"],
    }


def test_no_loudspeaker_is_offered_where_the_browser_cannot_send_sound_to_one(ask: Ask) -> None:
    assert ask("devices", "optionsOf", PLUGGED_IN, {"handheld": False, "speakers": False})["speaker"] == []


def test_devices_that_the_browser_hides_before_its_permission_are_not_offered(ask: Ask) -> None:
    hidden = [{**device, "deviceId": "", "label": ""} for device in PLUGGED_IN]
    options = ask("devices", "optionsOf", hidden, {"handheld": False, "speakers": True})
    assert options == {"speaker": [], "microphone": [], "camera": []}


@pytest.mark.parametrize(
    ("cameras", "sides"), [(0, []), (1, ["user"]), (2, ["user", "environment"]), (4, ["user", "environment"])]
)
def test_a_phone_offers_the_front_and_the_rear_camera_and_no_source_of_sound(
    ask: Ask, cameras: int, sides: list[str]
) -> None:
    lenses = [{"kind": "videoinput", "deviceId": f"lens {at}", "label": ""} for at in range(cameras)]
    options = ask("devices", "optionsOf", [*lenses, *PLUGGED_IN[:3]], {"handheld": True, "speakers": True})
    assert [each["id"] for each in options["camera"]] == sides
    assert options["microphone"] == options["speaker"] == []


@pytest.mark.parametrize(
    ("device", "choice", "handheld", "asked"),
    [
        ("camera", "", False, {"facingMode": {"ideal": "user"}}),
        ("camera", "", True, {"facingMode": {"ideal": "user"}}),
        ("camera", "environment", True, {"facingMode": {"ideal": "environment"}}),
        ("camera", "desk", False, {"deviceId": {"exact": "desk"}}),
        ("microphone", "headset", False, {"deviceId": {"exact": "headset"}}),
        ("microphone", "", False, {}),
        ("microphone", "headset", True, {}),
    ],
)
def test_the_front_camera_is_asked_for_first_and_a_chosen_device_instead(
    ask: Ask, device: str, choice: str, asked: dict[str, Any], *, handheld: bool
) -> None:
    constraints = ask("devices", "constraintsOf", device, choice, handheld)
    (kind,) = constraints
    assert kind == ("video" if device == "camera" else "audio")
    chosen = {key: value for key, value in constraints[kind].items() if key in {"facingMode", "deviceId"}}
    assert chosen == asked


def test_only_the_rear_camera_is_not_a_mirror(ask: Ask) -> None:
    assert [ask("devices", "isMirrored", {"facingMode": side}) for side in ("user", "environment")] == [True, False]
    assert ask("devices", "isMirrored", {}) is True


def test_silence_is_nothing_and_a_full_scale_tone_is_everything(ask: Ask) -> None:
    tone = [math.sin(at / 5) for at in range(2048)]
    assert ask("level", "levelOf", []) == ask("level", "levelOf", [0.0] * 2048) == 0
    assert ask("level", "levelOf", tone) == 100


def test_the_louder_the_further_the_level_goes(ask: Ask) -> None:
    gains = [0.002, 0.01, 0.05, 0.2]
    levels = [ask("level", "levelOf", [gain * math.sin(at / 5) for at in range(2048)]) for gain in gains]
    assert levels == sorted(set(levels))
    assert levels[0] > 0
    assert levels[-1] < 100


def test_every_level_has_a_word_and_louder_words_for_louder_levels(ask: Ask) -> None:
    words = [ask("level", "levelWord", level) for level in range(101)]
    assert list(dict.fromkeys(words)) == ["level_silent", "level_low", "level_good", "level_loud"]


@pytest.mark.parametrize(
    "stored",
    [None, "", "{", "null", "7", "[]", '"text"', '{"camera": 7, "cameraOn": "no"}', '{"language": "../words_en"}'],
)
def test_a_memory_that_is_not_ours_is_as_none(ask: Ask, stored: str | None) -> None:
    assert ask("preferences", "readPreferences", stored) == DEFAULTS


def test_what_was_remembered_is_read_again_and_nothing_else(ask: Ask) -> None:
    known = {"camera": "desk", "microphoneOn": False, "language": "en"}
    stored = json.dumps({**known, "name": "Petra Muster", "speaker": "x" * 257})
    assert ask("preferences", "readPreferences", stored) == {**DEFAULTS, **known}


KEY = {
    "key": "m",
    "ctrlKey": False,
    "altKey": False,
    "metaKey": False,
    "repeat": False,
    "isComposing": False,
    "target": {"tagName": "BODY"},
}


@pytest.mark.parametrize(
    ("key", "meaning"), [("m", "microphone"), ("M", "microphone"), ("k", "camera"), ("f", "full_screen"), ("x", None)]
)
def test_three_keys_do_what_buttons_do(ask: Ask, key: str, meaning: str | None) -> None:
    assert ask("shortcuts", "shortcutOf", {**KEY, "key": key}) == meaning


@pytest.mark.parametrize(
    "otherwise",
    [
        {"ctrlKey": True},
        {"altKey": True},
        {"metaKey": True},
        {"repeat": True},
        {"isComposing": True},
        {"target": {"tagName": "INPUT"}},
        {"target": {"tagName": "SELECT"}},
        {"target": {"tagName": "TEXTAREA"}},
        {"target": {"tagName": "P", "isContentEditable": True}},
        {"key": "constructor"},
    ],
)
def test_a_key_in_a_field_or_with_another_key_is_none_of_ours(ask: Ask, otherwise: dict[str, Any]) -> None:
    assert ask("shortcuts", "shortcutOf", {**KEY, **otherwise}) is None
