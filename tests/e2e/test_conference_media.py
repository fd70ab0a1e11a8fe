"""The two connections of a conference, with a server that is an ordinary connection in the same page."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.browser import Participant
from tests.support.service import Service

Run = Callable[[str], Any]

# `opened()` is a page's media and all that it says; `until` waits for something said; `server` is the other end.
BENCH = """async () => {
  const { ConferenceMedia } = await import("/js/conference/conference_media.js");
  const { SealedMedia } = await import("/js/conference/sealed_media.js");
  const picture = () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 480 });
    canvas.getContext("2d").fillRect(0, 0, 9, 9);
    return canvas.captureStream(5).getVideoTracks()[0];
  };
  const sound = () => new AudioContext().createMediaStreamDestination().stream.getAudioTracks()[0];
  const opened = () => {
    const said = { offers: [], answers: [], states: [], tracks: [], indexes: [] };
    const unsealed = [];
    const sealed = new SealedMedia({ unsealed: (line) => unsealed.push(line) });
    const media = new ConferenceMedia({
      sealed,
      handlers: {
        offered: (sdp, version, sources) => said.offers.push({ sdp, version, sources }),
        answered: (sdp, version) => said.answers.push({ sdp, version, shown: said.tracks.at(-1) }),
        sideChanged: (side, state) => said.states.push(`${side} ${state}`),
        tracksChanged: (tracks) => {
          said.tracks.push(tracks.map(({ pid, source }) => `${pid} ${source}`).sort());
          said.indexes = tracks.map(({ index }) => index);
        },
      },
    });
    const end = () => { media.close(); sealed.close(); };
    return { media, sealed, said, unsealed, end };
  };
  const until = async (isThere) => {
    const deadline = performance.now() + 15_000;
    while (!isThere()) {
      if (performance.now() > deadline) throw new Error(`never: ${isThere}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  /** What the server has gathered belongs into what it says: there is no trickling. */
  const gathered = async (pc) => {
    await until(() => pc.iceGatheringState === "complete");
    return pc.localDescription.sdp;
  };
  const answerOf = async (pc, sdp) => {
    await pc.setRemoteDescription({ type: "offer", sdp });
    await pc.setLocalDescription();
    return gathered(pc);
  };
  const offerOf = async (pc) => {
    await pc.setLocalDescription();
    return gathered(pc);
  };
  window.bench = { opened, until, answerOf, offerOf, picture, sound };
}"""


@pytest.fixture(scope="module")
def run(browser: Browser, service: Service) -> Iterator[Run]:
    """Runs the body of an asynchronous function in the page, with the names of the bench."""
    visitor = Participant(browser)
    visitor.open(service.create_appointment().organiser_link.partition("#")[0])
    visitor.page.evaluate(BENCH)
    names = "{ opened, until, answerOf, offerOf, picture, sound }"
    yield lambda body: visitor.page.evaluate(f"async () => {{ const {names} = window.bench; {body} }}")
    visitor.close()


def test_microphone_and_camera_are_offered_in_three_layers_and_each_line_is_named(run: Run) -> None:
    sdp, sources = run("""
      const { media, said, end } = opened();
      media.replaceTracks({ microphone: sound(), camera: picture(), screen: null });
      media.openPublish([]);
      await until(() => said.offers.length === 1);
      end();
      return [said.offers[0].sdp, said.offers[0].sources];""")
    assert sources == {"0": "microphone", "1": "camera"}
    assert "a=simulcast:send q;h;f" in sdp
    assert sdp.count("a=sendonly") == 2
    assert "H264" not in sdp
    assert "AV1" not in sdp


def test_publishing_connects_and_a_shared_screen_gets_a_line_of_its_own_that_it_keeps(run: Run) -> None:
    states, sources = run("""
      const { media, said, end } = opened();
      const server = new RTCPeerConnection();
      const own = { microphone: sound(), camera: picture(), screen: null };
      media.replaceTracks(own);
      media.openPublish([]);
      await until(() => said.offers.length === 1);
      media.takeAnswer(await answerOf(server, said.offers[0].sdp), said.offers[0].version);
      await until(() => said.states.includes("publish connected"));
      media.replaceTracks({ ...own, screen: picture() });
      await until(() => said.offers.length === 2);
      media.takeAnswer(await answerOf(server, said.offers[1].sdp), said.offers[1].version);
      media.replaceTracks(own);
      media.replaceTracks({ ...own, screen: picture() });
      media.limitLayers(["f"]);
      media.restartPublish();
      await until(() => said.offers.length === 3);
      end();
      server.close();
      return [said.states, said.offers.map((offer) => offer.sources)];""")
    assert "publish failed" not in states
    assert sources[1:] == [{"0": "microphone", "1": "camera", "2": "screen"}] * 2


def test_an_offer_without_an_answer_is_told_again_and_one_with_an_answer_is_not(run: Run) -> None:
    offers, again, state = run("""
      const { media, said, end } = opened();
      const server = new RTCPeerConnection();
      const own = { microphone: sound(), camera: picture(), screen: null };
      media.replaceTracks(own);
      media.openPublish([]);
      await until(() => said.offers.length === 1);
      media.takeAnswer(await answerOf(server, said.offers[0].sdp), said.offers[0].version);
      await until(() => said.states.includes("publish connected"));
      media.replaceTracks({ ...own, screen: picture() });
      await until(() => said.offers.length === 2); // and nobody hears it
      media.repeatOffer();
      await until(() => said.offers.length === 3);
      const again = said.offers[2];
      media.takeAnswer(await answerOf(server, again.sdp), again.version);
      media.repeatOffer(); // there is nothing to repeat: the next offer is that of the restart
      media.restartPublish();
      await until(() => said.offers.length === 4);
      const ufrags = said.offers.map(({ sdp }) => /a=ice-ufrag:(\\S+)/.exec(sdp)[1]);
      const state = server.signalingState;
      end();
      server.close();
      return [ufrags, again.sources, state];""")
    assert again == {"0": "microphone", "1": "camera", "2": "screen"}
    assert state == "stable"
    assert offers[0] == offers[1] == offers[2]
    assert offers[3] != offers[2]


def test_what_is_published_anew_is_sent_beside_the_earlier_connection_until_it_stands(run: Run) -> None:
    before, beside, after, muted = run("""
      const { media, said, end } = opened();
      const own = { microphone: sound(), camera: null, screen: null };
      media.replaceTracks(own);
      const made = window.__connections.length;
      const open = async (server) => {
        const told = said.offers.length;
        media.openPublish([]);
        await until(() => said.offers.length > told);
        media.takeAnswer(await answerOf(server, said.offers.at(-1).sdp), said.offers.at(-1).version);
      };
      const servers = Array.from({ length: 3 }, () => new RTCPeerConnection());
      const publishing = () => window.__connections.slice(made).filter((pc) => !servers.includes(pc));
      const states = () => publishing().map((pc) => pc.connectionState);
      await open(servers[0]);
      await until(() => states().includes("connected"));
      media.openPublish([]);
      const before = states()[0];
      await until(() => said.offers.length === 2);
      media.takeAnswer(await answerOf(servers[1], said.offers[1].sdp), said.offers[1].version);
      await until(() => states().at(-1) === "connected");
      const beside = states();
      await until(() => states()[0] === "closed");
      const after = states();
      await open(servers[2]);
      media.replaceTracks({ ...own, microphone: null });
      const muted = states();
      end();
      for (const server of servers) server.close();
      return [before, beside, after, muted.slice(0, 2)];""")
    assert before == "connected"
    assert beside == ["connected", "connected"]
    assert after == ["closed", "connected"]
    assert muted == ["closed", "closed"]  # it would go on sending what was switched off


def test_an_answer_to_the_offer_of_an_earlier_connection_does_not_keep_the_next_one_from_standing(run: Run) -> None:
    versions, repeated = run("""
      const { media, said, end } = opened();
      const servers = [new RTCPeerConnection(), new RTCPeerConnection()];
      media.replaceTracks({ microphone: sound(), camera: null, screen: null });
      media.openPublish([]);
      await until(() => said.offers.length === 1);
      media.openPublish([]); // the server has lost the first one, it says, but its answer was on the way
      await until(() => said.offers.length === 2);
      media.repeatOffer();
      await until(() => said.offers.length === 3);
      media.takeAnswer(await answerOf(servers[0], said.offers[0].sdp), said.offers[0].version);
      media.takeAnswer(await answerOf(servers[1], said.offers[1].sdp), said.offers[1].version);
      await until(() => said.states.includes("publish connected"));
      end();
      for (const server of servers) server.close();
      const [first, second, third] = said.offers;
      return [second.version - first.version, third.version - second.version];""")
    assert (versions, repeated) == (1, 0)


def test_an_answer_that_cannot_be_applied_is_a_failed_side(run: Run) -> None:
    states = run("""
      const { media, said, end } = opened();
      media.openPublish([]);
      await until(() => said.offers.length === 1);
      media.takeAnswer("v=0\\r\\nnonsense\\r\\n", said.offers[0].version);
      await until(() => said.states.length > 0);
      end();
      return said.states;""")
    assert states == ["publish failed"]


def test_lines_of_the_server_are_shown_under_their_owners_also_when_they_change_hands(run: Run) -> None:
    answers, states = run("""
      const { media, said, end } = opened();
      const server = new RTCPeerConnection();
      for (const track of [sound(), picture()]) server.addTransceiver(track, { direction: "sendonly" });
      const of = (pid, source, index) => ({ pid, source, index });
      const voice = ["0", of("p1", "microphone", 1)];
      const offers = [
        [new Map([voice, ["1", of("p1", "camera", 1)]]), "p1 camera,p1 microphone"],
        [new Map([voice, ["1", of("p2", "camera", 2)]]), "p1 microphone,p2 camera"],
        [new Map([voice]), "p1 microphone"],
        [new Map([["1", of("p1", "screen", 1)]]), "p1 screen"],
      ];
      for (const [at, [tracks, shown]] of offers.entries()) {
        media.takeOffer(await offerOf(server), at + 1, tracks, []);
        await until(() => said.answers.length === at + 1 && said.tracks.at(-1)?.join() === shown);
        await server.setRemoteDescription({ type: "answer", sdp: said.answers[at].sdp });
        if (at === 0) await until(() => said.states.includes("subscribe connected"));
      }
      end();
      server.close();
      return [said.answers.map(({ version, shown }) => [version, shown]), said.states];""")
    assert [version for version, _ in answers] == [1, 2, 3, 4]
    # When the second offer was answered, its line was of the first one no longer, and not yet of the second one.
    assert answers[1][1] == ["p1 microphone"]
    assert "subscribe failed" not in states


def test_a_line_whose_owner_gets_another_number_is_opened_by_the_keys_of_that_number(run: Run) -> None:
    states = run("""
      const { media, said, end } = opened();
      const server = new RTCPeerConnection();
      server.addTransceiver(picture(), { direction: "sendonly" });
      for (const [at, index] of [3, 4].entries()) {
        media.takeOffer(await offerOf(server), at + 1, new Map([["0", { pid: "p1", source: "camera", index }]]), []);
        await until(() => said.answers.length === at + 1);
        await server.setRemoteDescription({ type: "answer", sdp: said.answers[at].sdp });
        await until(() => said.indexes.length === 1 && said.indexes[0] === index);
      }
      end();
      server.close();
      return said.states;""")
    assert "subscribe failed" not in states


def test_an_offer_of_another_session_of_the_server_begins_another_connection(run: Run) -> None:
    connections, tracks = run("""
      const { media, said, end } = opened();
      const before = window.__connections.length;
      const owners = new Map([["0", { pid: "p1", source: "camera", index: 1 }]]);
      for (const version of [1, 2]) {
        const server = new RTCPeerConnection();
        server.addTransceiver(picture(), { direction: "sendonly" });
        media.takeOffer(await offerOf(server), version, owners, []);
        await until(() => said.answers.length === version);
        server.close();
      }
      const made = window.__connections.length - before;
      await until(() => said.tracks.at(-1)?.length === 1);
      end();
      return [made, said.tracks];""")
    assert connections == 4  # two of them are the server's
    assert tracks[-2:] == [["p1 camera"], []]  # the end takes it away


def test_that_a_standing_connection_is_being_replaced_is_told(run: Run) -> None:
    states = run("""
      const { media, said, end } = opened();
      const owners = new Map([["0", { pid: "p1", source: "camera", index: 1 }]]);
      const servers = [new RTCPeerConnection(), new RTCPeerConnection()];
      for (const server of servers) server.addTransceiver(picture(), { direction: "sendonly" });
      media.takeOffer(await offerOf(servers[0]), 1, owners, []);
      await until(() => said.answers.length === 1);
      await servers[0].setRemoteDescription({ type: "answer", sdp: said.answers[0].sdp });
      await until(() => said.states.includes("subscribe connected"));
      media.takeOffer(await offerOf(servers[1]), 2, owners, []);
      await until(() => said.answers.length === 2);
      const states = [...said.states];
      end();
      for (const server of servers) server.close();
      return states;""")
    assert states == ["subscribe connected", "subscribe replaced"]
