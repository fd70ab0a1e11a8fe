"""A page in a conference that nobody else is in: the real page, a server that says little, a machine fed by hand.

Whoever drives it says to the page's own machine what sealed channels would have said, and gives its view pictures that
were drawn in the page.
"""

import json
from collections.abc import Callable
from typing import Any, Final

from playwright.sync_api import Page, WebSocketRoute, expect

from tests.support.browser import Participant
from tests.support.portraits import PORTRAITS
from tests.support.service import Codes

# Keeps the machine, and lends the view pictures in place of those that nobody sends.
HOOKS: Final = """async () => {
  const { ConferenceMachine } = await import("/js/conference/conference_machine.js");
  const { ConferencePanel } = await import("/js/conference/conference_panel.js");
  const { ConferenceView } = await import("/js/conference/conference_view.js");
  const { joined } = ConferenceMachine.prototype;
  ConferenceMachine.prototype.joined = function (...said) { window.machine = this; return joined.apply(this, said); };
  const { render } = ConferenceView.prototype;
  window.tracks = [];
  window.lines = new Map();
  ConferenceView.prototype.render = function (view) { return render.call(this, view, window.tracks, window.lines); };
  const { render: renderPanel } = ConferencePanel.prototype;
  ConferencePanel.prototype.render = function (view) { return renderPanel.call(this, view, window.lines); };
  window.step = null;
  const { measured } = ConferenceMachine.prototype;
  ConferenceMachine.prototype.measured = function (_, now) { return measured.call(this, window.step, now); };
  window.wanted = [];
  const { want } = ConferenceMachine.prototype;
  ConferenceMachine.prototype.want = function (tracks, now) {
    window.wanted = tracks;
    return want.call(this, tracks, now);
  };
  window.draw = (index, source) => source === "screen"
    ? window.__document(960, 600)
    : window.__portrait(window.__looks[index % window.__looks.length], 320, 240, 500);
}"""
MEET: Final = """([index, name, admitted, media]) => {
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
    window.tracks.push({ pid, source, track: window.draw(index, source) });
  }
}"""
STANDS: Final = """() => {
  window.machine.sideChanged("publish", "connected", performance.now());
}"""
GIVE_UP: Final = """() => {
  const { machine } = window;
  for (let at = performance.now(); machine.view().call !== "no_path"; at += 60_000) {
    machine.sideChanged("publish", "failed", at);
    machine.tick(at);
  }
  machine.poll();
}"""
NAMES: Final = [
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
    "Prof. Dr. Maria-Magdalena Schmidt-Rottenburg",
    "Aylin Demir",
    "Tomasz Kowalski",
    "Birgit Hoffmann",
    "Noah Fischer",
    "Chiara Romano",
    "Karl-Heinz Brandt",
    "Fatima El Amrani",
    "Lena Vogt",
    "Jonas Weber",
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
        self._seat = {"index": index, "limit": 20, "admitted": admitted, "locked": False, "candidates": []}
        self.page.route_web_socket("**/ws", self._serve)
        visitor.open(codes.organiser_link if index == 0 else codes.participant_link)
        self.page.evaluate(f"() => {{ {PORTRAITS} }}")
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

    def lose_socket(self) -> None:
        """The way to the server breaks; the page comes back by itself, and is told `joined` again."""
        self._sockets[-1].close(code=1012)

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

    def measure(self, own: str, **others: str) -> None:
        """How good the lines are, the own one and by pid those of others, in steps; `stalled`: its picture stands."""
        self.page.evaluate(
            """([own, others]) => {
              window.step = own;
              const line = (step) => ({ step: step === "stalled" ? "bad" : step, stalled: step === "stalled" });
              window.lines = new Map(Object.entries(others).map(([pid, step]) => [pid, line(step)]));
              window.machine.measured(own, performance.now());
            }""",
            [own, others],
        )
        self.show()

    def offer_sound_alone(self) -> None:
        """The own line has been bad for long enough."""
        self.measure("bad")
        self.page.evaluate("() => window.machine.tick(performance.now() + 60_000)")
        self.show()

    def interrupt(self) -> None:
        """The publishing connection stands no longer."""
        self.page.evaluate("() => window.machine.sideChanged('publish', 'disconnected', performance.now())")
        self.show()

    def give_up(self) -> None:
        """The publishing connection has come to nothing as often as the page tries."""
        self.page.evaluate(GIVE_UP)
        self.show()

    def told(self, kind: str) -> list[dict[str, Any]]:
        """What the page has said to the server, of one type."""
        return [each for each in self.said if each["type"] == kind]
