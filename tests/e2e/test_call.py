"""A call between two in one page: which lines it offers and takes, with no server and nothing to see."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.browser import Participant
from tests.support.service import Service

Run = Callable[[str], Any]

# `participant(offer)` takes the offer: the directions of its lines, whether each sends, and those of its answer.
BENCH = """async () => {
  const { Call } = await import("/js/call.js");
  const { sendingOf } = await import("/js/sending.js");
  const sound = () => new AudioContext().createMediaStreamDestination().stream.getAudioTracks()[0];
  const picture = () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
    canvas.getContext("2d").fillRect(0, 0, 9, 9);
    return canvas.captureStream(5).getVideoTracks()[0];
  };
  /** A call, and a promise of the first description that it says. */
  const called = (polite) => {
    const [audio, video] = [sound(), picture()];
    let hear;
    const described = new Promise((resolve) => { hear = resolve; });
    const nothing = () => {};
    const call = new Call({
      polite,
      local: { audio, video, stream: new MediaStream([audio, video]) },
      iceServers: [],
      sending: sendingOf(false, 500_000),
      send: (message) => { if (message.kind === "description") hear(message); },
      stateChanged: nothing,
      trackArrived: nothing,
      pathChanged: nothing,
    });
    return { call, described };
  };
  const participant = async (offer) => {
    const { call, described } = called(true);
    call.receive({ kind: "description", ...offer });
    const { type, sdp } = await described;
    const pc = window.__connections.at(-1);
    const lines = pc.getTransceivers().map(({ receiver, sender, direction }) =>
      [receiver.track.kind, direction, sender.track !== null]);
    call.close();
    return [type, lines, [...sdp.matchAll(/^a=(sendrecv|sendonly|recvonly|inactive)/gm)].map(([, word]) => word)];
  };
  window.bench = { called, participant };
}"""


@pytest.fixture(scope="module")
def run(browser: Browser, service: Service) -> Iterator[Run]:
    """Runs the body of an asynchronous function in the page, with the names of the bench."""
    visitor = Participant(browser)
    visitor.open(service.create_appointment().organiser_link.partition("#")[0])
    visitor.page.evaluate(BENCH)
    yield lambda body: visitor.page.evaluate(
        f"async () => {{ const {{ called, participant }} = window.bench; {body} }}"
    )
    visitor.close()


def test_sound_goes_both_ways_and_each_picture_by_a_line_of_its_own(run: Run) -> None:
    answer = run("""
      const { call, described } = called(false);
      const answer = await participant(await described);
      call.close();
      return answer;""")
    assert answer == [
        "answer",
        [["audio", "sendrecv", True], ["video", "recvonly", False], ["video", "sendonly", True]],
        ["sendrecv", "recvonly", "sendonly"],
    ]


def test_where_an_older_page_offers_one_line_for_both_pictures_both_go_by_it(run: Run) -> None:
    answer = run("""
      const organiser = new RTCPeerConnection();
      for (const kind of ["audio", "video"]) organiser.addTransceiver(kind, { direction: "sendrecv" });
      await organiser.setLocalDescription();
      const answer = await participant(organiser.localDescription.toJSON());
      organiser.close();
      return answer;""")
    assert answer == [
        "answer",
        [["audio", "sendrecv", True], ["video", "sendrecv", True]],
        ["sendrecv", "sendrecv"],
    ]
