"""After a consultation: what the browser keeps of it, and what is found of it on the server."""

import json
from typing import Any

from tests.support.browser import Participant, talk
from tests.support.service import Service

NAMES = ("Dr. Anna Beispiel", "Petra Muster")
PREFERENCES = {"speaker", "microphone", "camera", "microphoneOn", "cameraOn", "shortcuts", "language"}

KEPT = """async () => ({
  local: { ...localStorage }, session: { ...sessionStorage }, cookies: document.cookie,
  databases: await indexedDB.databases(), caches: await caches.keys(),
  workers: (await navigator.serviceWorker.getRegistrations()).length, address: location.href,
})"""


def test_of_a_talk_the_browser_keeps_settings_and_for_the_tab_name_and_code_and_the_server_nothing(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    codes = service.create_appointment()
    talk(codes, doctor, patient)
    during = kept(patient)
    assert set(during["session"]) == {"redconnect.session"}
    session = json.loads(during["session"]["redconnect.session"])
    assert set(session) == {"code", "name", "resume", "wanted"}
    patient.hang_up()
    patient.text("ended-text")

    code = codes.participant.replace("-", "")
    after = kept(patient)
    assert after["session"] == {}
    for found in (during, after):
        assert set(found["local"]) <= {"redconnect.preferences"}
        assert set(json.loads(found["local"].get("redconnect.preferences", "{}"))) <= PREFERENCES
        assert not contains(json.dumps(found["local"]), (*NAMES, code, session["resume"]))
        assert (found["cookies"], found["databases"], found["caches"], found["workers"]) == ("", [], [], 0)
        assert not contains(found["address"], (code, "#"))
    assert patient.page.context.cookies() == []

    folder = service.config.parent
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert service.log in written
    secrets = (*NAMES, code, codes.participant, codes.organiser, code[:6], code[6:11], session["resume"])
    everything = b"".join(path.read_bytes() for path in written) + service.admin("/metrics").encode()
    assert [text for text in secrets if text.encode() in everything] == []


def kept(participant: Participant) -> dict[str, Any]:
    found: dict[str, Any] = participant.page.evaluate(KEPT)
    return found


def contains(text: str, words: tuple[str, ...]) -> list[str]:
    return [word for word in words if word in text]
