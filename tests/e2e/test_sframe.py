"""The encryption of conference media, in real browsers: published vectors, whose keys count when, and living frames.

These come from a fake camera and a fake microphone, and go through a worker at either end of a connection in one page.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright, Route

from tests.support.browser import Participant, firefox
from tests.support.service import Service

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "sframe-rfc9605.json").read_text())
HEADERS = [[str(each["kid"]), str(each["ctr"]), each["encoded"]] for each in VECTORS["header"]]
(SUITE_4,) = [{**each, "kid": str(each["kid"])} for each in VECTORS["sframe"] if each["cipher_suite"] == 4]
Run = Callable[..., Any]

# Workers around that of the page. What is done with frames on their way: the 20th of a line is said again instead of
# all that follow. And what the worker lets pass, and asks for, is told to the page.
WORKERS = {
    "replaying": """
import "./media_worker.js";
const attach = self.onrtctransform;
self.onrtctransform = ({ transformer }) => {
  let frames = 0;
  let kept = null;
  const replay = new TransformStream({
    transform: (frame, out) => {
      frames += 1;
      if (frames === 20) kept = frame.data.slice(0);
      if (frames > 20) frame.data = kept.slice(0);
      out.enqueue(frame);
    },
  });
  void replay.readable.pipeTo(transformer.writable);
  attach({ transformer: { options: transformer.options, readable: transformer.readable, writable: replay.writable } });
};
""",
    "late": """
import "./media_worker.js";
const post = self.postMessage.bind(self);
self.postMessage = (news) => (news.told === "counts" ? setTimeout(() => post(news), 400) : post(news));
""",
    "watched": """
import "./media_worker.js";
const attach = self.onrtctransform;
self.onrtctransform = ({ transformer }) => {
  const { options, readable } = transformer;
  const passage = new TransformStream({
    transform: (frame, out) => {
      postMessage({ told: `passed ${options.kind}` });
      out.enqueue(frame);
    },
  });
  void passage.readable.pipeTo(transformer.writable);
  const sendKeyFrameRequest = () => {
    postMessage({ told: "asked" });
    return transformer.sendKeyFrameRequest();
  };
  attach({ transformer: { options, readable, writable: passage.writable, sendKeyFrameRequest } });
};
""",
}

BENCH = """async () => {
  const sframe = await import("/js/conference/sframe.js");
  const { MAX_HELD_KEYS, SenderKeys } = await import("/js/conference/sender_keys.js");
  const media = await import("/js/conference/sealed_media.js");
  const { concat } = await import("/js/bytes.js");
  const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  const hex = (data) => Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const base = (byte) => new Uint8Array(32).fill(byte);
  const outcome = (promise) => promise.then(() => "taken", (error) => error.fault ?? error.name);
  const until = async (condition) => {
    const end = performance.now() + 30_000;
    while (performance.now() < end) {
      if (await condition()) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`it does not come true: ${condition}`);
  };

  /** Both ends of one key, and frames of three bytes between them. */
  const pair = async ({ sent = base(1), heard = base(1), kid = 256n, from = 0n } = {}) => {
    const sealer = await sframe.FrameSealer.create(sent, kid, new sframe.FrameCounter(from));
    const opener = await sframe.FrameOpener.create(heard, kid);
    const meta = Uint8Array.of(9);
    const seal = () => sealer.seal(Uint8Array.of(1, 2, 3), meta);
    const open = (sealed, known = meta, stream = "") => outcome(
      (async () => opener.open(sframe.decodeHeader(sealed), sealed, known, stream))());
    return { sealer, opener, seal, open };
  };

  /**
   * The keys of one participant: 32 times 0, 32 times 1, and so on. What is `did` is told in short.
   */
  const keys = (index = 1) => {
    let drawn = -1;
    const machine = new SenderKeys({ index, drawBase: () => base((drawn += 1)) });
    const short = (action) => {
      if (action.do === "say") return `say ${action.message.kid} to ${action.to}`;
      return action.kid === undefined ? action.do : `${action.do} ${action.kid}`;
    };
    machine.did = () => machine.poll().map(short);
    machine.says = (to) => machine.poll().find((action) => action.to === to).message;
    return machine;
  };
  const message = (kid, byte) => ({ kind: "senderkey", kid, base: btoa(String.fromCharCode(...base(byte))).slice(0, 43)
    .replaceAll("+", "-").replaceAll("/", "_") });

  /**
   * A participant of index 1 sends sound and picture to another one, both in this page. `told` is what either page
   * would be told.
   */
  const both = ["audio", "video"];
  const sources = { audio: "microphone", video: "camera" };
  const talk = async (options = {}) => {
    const { sent = base(1), heard = base(1), owner = 1, kinds = both, workers = {}, shown = sources } = options;
    const scene = { told: [], news: [], published: {}, subscribed: {} };
    const sealed = (more) => new media.SealedMedia({
      unsealed: ({ direction, kind }) => scene.told.push(`${direction} ${kind}`), ...more });
    const workerOf = (name) => name && (() => {
      const worker = new Worker(`/js/conference/${name}.js`, { type: "module" });
      worker.addEventListener("message", ({ data }) => scene.news.push(data.told));
      return worker;
    });
    scene.near = sealed({ createWorker: workerOf(workers.near) });
    scene.far = sealed({ createWorker: workerOf(workers.far) });
    /** How often a worker has said this; `passed audio` and the like are those of the worker `watched`. */
    scene.heard = (news) => scene.news.filter((each) => each === news).length;
    if (sent) scene.near.apply({ do: "send_with", kid: 256, base: sent });
    if (heard) scene.far.apply({ do: "receive_with", kid: 256, base: heard });
    const [out, into] = [new RTCPeerConnection(), new RTCPeerConnection()];
    out.onicecandidate = ({ candidate }) => into.addIceCandidate(candidate);
    into.onicecandidate = ({ candidate }) => out.addIceCandidate(candidate);
    const subscribing = [];
    into.ontrack = ({ transceiver }) => {
      const { kind } = transceiver.receiver.track;
      scene.subscribed[kind] = transceiver;
      subscribing.push(scene.far.subscribe(transceiver, owner, shown[kind]));
    };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 320, height: 240 } });
    for (const track of stream.getTracks().filter(({ kind }) => kinds.includes(kind))) {
      scene.published[track.kind] = await scene.near.publish(out, sources[track.kind], track);
    }
    await out.setLocalDescription();
    await into.setRemoteDescription(out.localDescription);
    await into.setLocalDescription();
    await out.setRemoteDescription(into.localDescription);
    const element = document.createElement("video");
    element.srcObject = new MediaStream(await Promise.all(subscribing));
    void element.play();
    scene.codecs = () => out.localDescription.sdp.match(/a=rtpmap:\\d+ [^/]+/g).map((line) => line.split(" ")[1]);
    scene.figures = async () => {
      const sum = { packetsSent: 0, packetsReceived: 0, framesDecoded: 0, keyFramesDecoded: 0, energy: 0 };
      for (const connection of [out, into]) {
        for (const entry of (await connection.getStats()).values()) {
          if (entry.type === "outbound-rtp") sum.packetsSent += entry.packetsSent;
          if (entry.type !== "inbound-rtp") continue;
          sum.packetsReceived += entry.packetsReceived;
          sum.framesDecoded += entry.framesDecoded ?? 0;
          sum.keyFramesDecoded += entry.keyFramesDecoded ?? 0;
          sum.energy += entry.totalAudioEnergy ?? 0;
        }
      }
      return sum;
    };
    /** Wait until these figures are larger than now. */
    scene.grow = async (...names) => {
      const before = await scene.figures();
      await until(async () => {
        const now = await scene.figures();
        return names.every((name) => now[name] > before[name]);
      });
    };
    /** Wait until no packet has left for half a second; sound is fifty in a second. */
    scene.silence = async () => {
      let [last, same] = [-1, 0];
      await until(async () => {
        const { packetsSent } = await scene.figures();
        same = packetsSent === last ? same + 1 : 0;
        last = packetsSent;
        return same >= 25;
      });
    };
    /** What the worker of the receiving end counts, by kind. */
    scene.counts = async (end = scene.far) => Object.fromEntries((await end.counts()).map((each) => [each.kind, each]));
    scene.close = () => {
      for (const each of [out, into, scene.near, scene.far]) each.close();
      for (const track of stream.getTracks()) track.stop();
    };
    return scene;
  };
  window.bench = {
    sframe, SenderKeys, MAX_HELD_KEYS, media, concat, unhex, hex, base, outcome, until, pair, keys, message, sources,
    talk };
}"""
NAMES = (
    "{ sframe, SenderKeys, MAX_HELD_KEYS, media, concat, unhex, hex, base, outcome, until, pair, keys, message,"
    " sources, talk }"
)


@contextlib.contextmanager
def bench_in(browser: Browser, service: Service, script: str = "") -> Iterator[Participant]:
    visitor = Participant(browser, script=script)

    def serve(route: Route) -> None:
        worker = WORKERS[Path(route.request.url).stem]
        headers = {"Content-Type": "text/javascript", "Cross-Origin-Embedder-Policy": "require-corp"}
        route.fulfill(body=worker, headers=headers)

    for name in WORKERS:
        visitor.context.route(f"**/js/conference/{name}.js", serve)
    visitor.open(f"{service.settings['signaling']['public_url']}/")
    visitor.page.evaluate(BENCH)
    yield visitor
    visitor.close()


def runner(visitor: Participant) -> Run:
    """Runs the body of an async function in the page, with the names of the bench and an argument `v`."""
    return lambda body, argument=None: visitor.page.evaluate(
        f"async (v) => {{ const {NAMES} = window.bench; {body} }}", argument
    )


@pytest.fixture(scope="module")
def run(browser: Browser, service: Service) -> Iterator[Run]:
    with bench_in(browser, service) as visitor:
        yield runner(visitor)
        assert visitor.complaints == []


@pytest.fixture(scope="module")
def fox(playwright: Playwright) -> Iterator[Browser]:
    with firefox(playwright) as started:
        yield started


@pytest.fixture(scope="module")
def run_in_fox(fox: Browser, service: Service) -> Iterator[Run]:
    with bench_in(fox, service) as visitor:
        yield runner(visitor)
        assert visitor.complaints == []


@pytest.fixture(params=["run", "run_in_fox"], ids=["chromium", "firefox"])
def run_in_both(request: pytest.FixtureRequest) -> Run:
    """For what is the browser's own work: cryptography, transforms, connections."""
    started: Run = request.getfixturevalue(request.param)
    return started


@pytest.fixture
def live(browser: Browser, service: Service) -> Iterator[Run]:
    """A page of its own, so that what one test leaves open does not take the CPU from the next one."""
    with bench_in(browser, service) as visitor:
        yield runner(visitor)
        assert visitor.complaints == []


# --- SFrame ---


def test_every_published_header_is_written_and_read(run_in_both: Run) -> None:
    assert len(HEADERS) == 289
    seen = run_in_both(
        """
      return v.map(([kid, ctr, encoded]) => {
        const read = sframe.decodeHeader(unhex(encoded + "ff"));
        return [String(read.kid), String(read.ctr), hex(sframe.encodeHeader(BigInt(kid), BigInt(ctr))), read.length];
      });""",
        HEADERS,
    )
    assert seen == [[kid, ctr, encoded, len(encoded) // 2] for kid, ctr, encoded in HEADERS]


def test_the_published_vector_of_suite_4_comes_out_at_every_step(run_in_both: Run) -> None:
    seen = run_in_both(
        """
      const [kid, ctr] = [BigInt(v.kid), BigInt(v.ctr)];
      const sealer = await sframe.FrameSealer.create(unhex(v.base_key), kid, new sframe.FrameCounter(ctr));
      const sealed = await sealer.seal(unhex(v.pt), unhex(v.metadata));
      const opener = await sframe.FrameOpener.create(unhex(v.base_key), kid);
      const opened = await opener.open(sframe.decodeHeader(unhex(v.ct)), unhex(v.ct), unhex(v.metadata));
      return {
        sframe_key_label: hex(sframe.labelFor("key", kid)),
        sframe_salt_label: hex(sframe.labelFor("salt", kid)),
        nonce: hex(sframe.nonceFor(unhex(v.sframe_salt), ctr)),
        aad: hex(concat(sframe.encodeHeader(kid, ctr), unhex(v.metadata))),
        ct: hex(sealed),
        pt: hex(opened),
      };""",
        SUITE_4,
    )
    assert seen == {name: SUITE_4[name] for name in seen}


def test_a_header_that_ends_too_early_is_malformed(run: Run) -> None:
    seen = run("""
      const longest = sframe.encodeHeader(2n ** 64n - 1n, 2n ** 64n - 1n);
      const outcomes = [];
      for (let length = 0; length <= longest.length; length += 1) {
        outcomes.push(await outcome((async () => sframe.decodeHeader(longest.subarray(0, length)))()));
      }
      return outcomes;""")
    assert seen == ["malformed"] * 17 + ["taken"]


def test_a_number_of_more_than_eight_bytes_is_no_kid_and_no_counter(run: Run) -> None:
    seen = run("""
      const numbers = [[2n ** 64n, 0n], [0n, 2n ** 64n], [-1n, 0n], [0n, -1n]];
      return Promise.all(numbers.map(([kid, ctr]) => outcome((async () => sframe.encodeHeader(kid, ctr))())));""")
    assert seen == ["RangeError"] * 4


def test_a_frame_is_refused_after_a_change_of_any_byte_of_it_or_of_what_stands_before_it(run: Run) -> None:
    seen = run("""
      const { seal, open } = await pair();
      const sealed = await seal();
      const outcomes = new Set();
      for (let at = 0; at < sealed.length; at += 1) {
        const changed = sealed.slice();
        changed[at] ^= 1;
        outcomes.add(await open(changed));
      }
      outcomes.add(await open(sealed, Uint8Array.of(8)));
      outcomes.add(await open(sealed, new Uint8Array(0)));
      outcomes.add(await open(sealed.subarray(0, -1)));
      return [[...outcomes].sort(), await open(sealed)];""")
    assert seen == [["forged"], "taken"]


def test_whatever_comes_is_refused_by_name(run: Run) -> None:
    seen = run("""
      const { open } = await pair();
      const outcomes = new Set();
      for (let length = 0; length < 64; length += 1) {
        for (let round = 0; round < 8; round += 1) {
          outcomes.add(await open(crypto.getRandomValues(new Uint8Array(length))));
        }
      }
      return [...outcomes].sort();""")
    assert seen == ["forged", "malformed"]


def test_another_base_key_opens_nothing(run: Run) -> None:
    seen = run("""
      const { seal, open } = await pair({ heard: base(2) });
      return open(await seal());""")
    assert seen == "forged"


def test_a_frame_is_opened_once_and_neither_again_nor_by_two_at_a_time(run: Run) -> None:
    seen = run("""
      const { seal, open } = await pair();
      const [first, second] = [await seal(), await seal()];
      const outcomes = [await open(first), await open(first)];
      return [outcomes, (await Promise.all([open(second), open(second)])).sort()];""")
    assert seen == [["taken", "replayed"], ["replayed", "taken"]]


def test_frames_may_come_out_of_order_up_to_511_behind_the_newest(run: Run) -> None:
    seen = run("""
      const { seal, open } = await pair();
      const frames = [];
      for (let count = 0; count < 514; count += 1) frames.push(await seal());
      const outcomes = [];
      for (const at of [513, 2, 1, 512, 3, 2, 512, 513]) outcomes.push(await open(frames[at]));
      return outcomes;""")
    # 2 is 511 behind, 1 is one too many.
    assert seen == ["taken", "taken", "replayed", "taken", "taken", "replayed", "replayed", "replayed"]


def test_the_window_behaves_as_a_list_of_all_that_was_there(run: Run) -> None:
    assert run("""
      const draw = (limit) => crypto.getRandomValues(new Uint32Array(1))[0] % limit;
      for (let round = 0; round < 50; round += 1) {
        const window = new sframe.ReplayWindow();
        const there = new Set();
        let newest = -1;
        for (let step = 0; step < 200; step += 1) {
          const jump = draw(10) === 0 ? draw(1_200) : draw(8);
          const ctr = draw(2) ? newest + jump : Math.max(0, newest - draw(560));
          if (ctr < 0) continue;
          const fresh = ctr > newest || (newest - ctr < 512 && !there.has(ctr));
          const judged = [window.isFresh(BigInt(ctr)), window.note(BigInt(ctr))];
          if (judged.includes(!fresh)) return [newest, ctr, [...there]];
          if (fresh) there.add(ctr);
          newest = Math.max(newest, ctr);
        }
      }
      return true;""")


def test_a_large_picture_that_took_long_is_shown_however_far_sound_is_ahead_of_it_and_only_once(run: Run) -> None:
    seen = run("""
      const { sealer, open } = await pair();
      const of = (source) => sframe.metadataOf(source, Uint8Array.of(0x11));
      const picture = await sealer.seal(base(1), of("screen"));
      const sound = [];
      for (let count = 0; count < 600; count += 1) sound.push(await sealer.seal(base(2), of("microphone")));
      for (const each of sound) await open(each, of("microphone"), "microphone");
      const outcomes = [];
      for (const source of ["camera", "microphone", "screen", "screen"]) {
        outcomes.push(await open(picture, of(source), source));
      }
      return outcomes;""")
    assert seen == ["forged", "replayed", "taken", "replayed"]


def test_a_forged_counter_far_ahead_does_not_lock_out_what_is_genuine(run: Run) -> None:
    seen = run("""
      const { seal, open } = await pair();
      const { seal: forge } = await pair({ sent: base(2), from: 2n ** 31n });
      return [await open(await forge()), await open(await seal())];""")
    assert seen == ["forged", "taken"]


def test_no_counter_comes_twice_also_with_the_next_key_and_none_comes_after_the_last(run: Run) -> None:
    seen = run("""
      const counter = new sframe.FrameCounter(sframe.MAX_FRAMES - 3n);
      const sealers = [];
      for (const byte of [1, 2]) sealers.push(await sframe.FrameSealer.create(base(byte), 256n, counter));
      const of = async (sealer) => {
        const { ctr } = sframe.decodeHeader(await sealer.seal(base(0), base(0)));
        return String(ctr - sframe.MAX_FRAMES);
      };
      const taken = await Promise.all([of(sealers[0]), of(sealers[1]), of(sealers[0])]);
      return [taken, await outcome(of(sealers[1]))];""")
    assert seen == [["-3", "-2", "-1"], "RangeError"]


def test_of_sound_nothing_stays_readable_and_of_pictures_their_type_and_size(run: Run) -> None:
    seen = run("""
      const length = (kind, ...bytes) => sframe.clearPrefixLength(kind, Uint8Array.from(bytes));
      const [key, delta] = [[0x10, ...base(0)], [0x11, ...base(0)]];
      const pictures = [length("video", ...key), length("video", ...delta), length("video", 0x10, 0), length("video")];
      return [length("audio", ...key), ...pictures];""")
    assert seen == [0, 10, 1, 2, 0]


# --- whose key counts when ---


def test_nothing_is_sent_under_a_key_that_somebody_had_before_the_first_one_came(run: Run) -> None:
    seen = run("""
      const m = keys();
      const alone = m.did();
      m.joined("a", 2, 0);
      return [alone, m.did(), m.deadline];""")
    assert seen == [["send_with 256"], ["say 257 to a", "send_with 257", "ask_key_frame"], None]


def test_whoever_comes_and_whoever_goes_makes_a_new_key_for_all_who_are_here(run: Run) -> None:
    seen = run("""
      const m = keys();
      m.joined("a", 2, 0);
      m.did();
      const log = [];
      const at = (now) => { m.tick(now); log.push([now, m.deadline, ...m.did()]); };
      m.joined("b", 3, 5_000);
      at(5_999); at(6_000); at(6_999); at(7_000);
      m.left("a", 9_000);
      at(9_999); at(10_000); at(11_000);
      return log;""")
    assert seen == [
        [5_999, 6_000],
        [6_000, 7_000, "say 258 to a", "say 258 to b"],
        [6_999, 7_000],
        [7_000, None, "send_with 258", "ask_key_frame"],
        [9_999, 10_000],
        [10_000, 11_000, "say 259 to b"],
        [11_000, None, "send_with 259", "ask_key_frame"],
    ]


def test_many_who_come_within_a_second_make_one_key_and_cannot_put_it_off(run: Run) -> None:
    seen = run("""
      const m = keys();
      m.joined("p0", 10, 0);
      m.did();
      for (let each = 1; each <= 9; each += 1) { m.joined(`p${each}`, 10 + each, each * 100); m.tick(each * 100); }
      const early = m.did();
      m.joined("late", 30, 1_050);
      m.tick(1_100);
      return [early, m.did()];""")
    assert seen == [[], [f"say 258 to p{each}" for each in range(10)] + ["say 258 to late"]]


def test_who_comes_while_a_key_is_about_to_be_used_gets_only_the_next_one(run: Run) -> None:
    seen = run("""
      const m = keys();
      m.joined("a", 2, 0); m.joined("b", 3, 0);
      m.tick(1_000);
      m.did();
      m.joined("c", 4, 1_500);
      m.joined("c", 4, 1_600); // its channel stands anew
      const told = m.did();
      m.tick(2_000);
      const switched = m.did();
      m.tick(2_500);
      return [told, switched, m.did()];""")
    assert seen == [
        [],
        ["send_with 258", "ask_key_frame"],
        ["say 259 to a", "say 259 to b", "say 259 to c"],
    ]


def test_who_has_gone_before_it_knew_a_key_costs_none_beyond_that_of_its_coming(run: Run) -> None:
    seen = run("""
      const m = keys();
      m.joined("a", 2, 0); m.did();
      m.joined("b", 3, 0); m.left("b", 500);
      m.left("stranger", 500);
      m.tick(1_000); m.tick(2_000);
      return [m.did(), m.deadline];""")
    assert seen == [["say 258 to a", "send_with 258", "ask_key_frame"], None]


def test_a_key_is_never_said_again_once_something_may_have_been_sent_under_it(run: Run) -> None:
    seen = run("""
      const m = keys();
      m.joined("a", 2, 0); m.joined("b", 3, 0);
      m.tick(1_000);
      m.did();
      m.joined("a", 2, 1_100); // its channel stands anew, before and after the key is used
      const before = m.poll().map(({ message }) => message);
      m.tick(2_000);
      m.did();
      m.joined("a", 2, 2_100);
      const after = m.did();
      m.tick(3_100);
      return [before, [message(258, 2)], after, m.did()];""")
    before, unused, after, renewed = seen
    assert before == unused
    assert after == []
    assert renewed == ["say 259 to a", "say 259 to b"]


def test_after_the_last_generation_comes_the_first_one_with_another_key(run: Run) -> None:
    seen = run("""
      const m = new SenderKeys({ index: 255 });
      m.joined("a", 2, 0);
      const used = m.poll().filter(({ do: order }) => order === "send_with");
      for (let now = 0, pid = 3; used.length < 258; now += 2_000, pid = 7 - pid) {
        m.joined(`p${pid}`, pid, now); m.left(`p${7 - pid}`, now);
        m.tick(now + 1_000); m.tick(now + 2_000);
        used.push(...m.poll().filter(({ do: order }) => order === "send_with"));
      }
      return [used.map(({ kid }) => kid - 65_280), new Set(used.map(({ base }) => hex(base))).size];""")
    generations, different = seen
    assert generations == [number % 256 for number in range(258)]
    assert different == 258


def test_a_key_is_taken_only_under_the_index_of_whom_it_came_from(run: Run) -> None:
    seen = run("""
      const m = keys(1);
      m.joined("a", 2, 0); m.joined("b", 3, 0);
      m.did();
      const tried = [["a", 512], ["a", 768], ["a", 256], ["stranger", 1024], ["b", 768 + 255]];
      return [tried.map(([pid, kid]) => m.received(pid, message(kid, 7), 0)), m.did(), m.refused];""")
    assert seen == [[True, False, False, False, True], ["receive_with 512", "receive_with 1023"], 3]


@pytest.mark.parametrize(
    "value",
    [
        "null",
        '"senderkey"',
        "{}",
        '{ ...message(512, 7), kind: "hello" }',
        '{ ...message(512, 7), kid: "512" }',
        "{ ...message(512, 7), kid: 512.5 }",
        "{ ...message(512, 7), kid: -1 }",
        "{ ...message(512, 7), kid: 2 ** 32 + 512 }",
        "{ ...message(512, 7), base: message(512, 7).base.slice(1) }",
        '{ ...message(512, 7), base: message(512, 7).base + "A" }',
        '{ ...message(512, 7), base: "+".repeat(43) }',
        "{ ...message(512, 7), base: [1, 2] }",
        '{ ...message(512, 7), base: message(512, 7).base.slice(0, 42) + "d" }',  # as "c", the same 32 bytes
    ],
)
def test_what_is_not_to_the_letter_is_no_key(run: Run, value: str) -> None:
    seen = run(f"""
      const m = keys(1);
      m.joined("a", 2, 0);
      m.did();
      return [m.received("a", {value}, 0), m.did(), m.refused];""")
    assert seen == [False, [], 1]


def test_no_two_participants_have_one_index(run: Run) -> None:
    seen = run("""
      const m = keys(1);
      m.joined("a", 2, 0);
      const tried = [["b", 2], ["b", 1], ["b", 256], ["b", -1], ["b", 1.5], ["b", "3"], ["b", undefined]];
      return Promise.all(tried.map(([pid, index]) => outcome((async () => m.joined(pid, index, 0))())));""")
    assert seen == ["RangeError"] * 7


def test_who_comes_with_another_index_is_somebody_new(run: Run) -> None:
    seen = run("""
      const m = keys(1);
      m.joined("a", 2, 0);
      m.received("a", message(512, 7), 0);
      m.did();
      m.joined("a", 3, 0);
      return [m.did(), m.received("a", message(512, 7), 0), m.received("a", message(768, 7), 0)];""")
    assert seen == [["forget 512", "say 258 to a", "send_with 258", "ask_key_frame"], False, True]


def test_a_key_that_is_superseded_is_kept_for_ten_seconds(run: Run) -> None:
    seen = run("""
      const m = keys(1);
      m.joined("a", 2, 0);
      m.received("a", message(512, 7), 0);
      m.tick(100_000);
      m.received("a", message(513, 8), 100_000);
      m.did();
      const deadline = m.deadline;
      m.tick(109_999);
      const early = m.did();
      m.tick(110_000);
      return [deadline, early, m.did(), m.deadline];""")
    assert seen == [110_000, [], ["forget 512"], None]


def test_a_key_that_is_said_again_is_not_taken_anew_and_another_one_under_its_kid_is(run: Run) -> None:
    seen = run("""
      const m = keys(1);
      m.joined("a", 2, 0);
      m.did();
      m.received("a", message(512, 7), 0);
      m.received("a", message(512, 7), 1);
      const again = m.did();
      m.received("a", message(512, 8), 2); // its page was loaded anew
      return [again, m.did(), m.deadline];""")
    assert seen == [["receive_with 512"], ["receive_with 512"], None]


def test_of_one_owner_no_more_than_four_keys_are_held_and_the_oldest_goes_first(run: Run) -> None:
    seen = run("""
      const m = keys(1);
      m.joined("a", 2, 0);
      m.did();
      for (let each = 0; each < 100; each += 1) m.received("a", message(512 + each, each), each);
      const held = new Set();
      for (const { do: order, kid } of m.poll()) { if (order === "forget") held.delete(kid); else held.add(kid); }
      return [[...held], MAX_HELD_KEYS];""")
    assert seen == [[608, 609, 610, 611], 4]


def test_with_who_goes_all_its_keys_go(run: Run) -> None:
    seen = run("""
      const m = keys(1);
      m.joined("a", 2, 0);
      m.received("a", message(512, 7), 0); m.received("a", message(513, 8), 0);
      m.did();
      m.left("a", 0);
      return [m.did(), m.received("a", message(514, 9), 0)];""")
    assert seen == [["forget 512", "forget 513"], False]


def test_what_one_says_the_other_one_takes(run: Run) -> None:
    seen = run("""
      const [a, b] = [new SenderKeys({ index: 0 }), new SenderKeys({ index: 255 })];
      a.joined("b", 255, 0);
      b.joined("a", 0, 0);
      const said = a.poll();
      const taken = b.received("a", said.find((action) => action.to === "b").message, 0);
      const [used] = said.filter((action) => action.do === "send_with").slice(-1);
      const [learnt] = b.poll().filter((action) => action.do === "receive_with");
      return [taken, learnt.kid === used.kid, hex(learnt.base) === hex(used.base)];""")
    assert seen == [True, True, True]


# --- the watch ---


def test_what_flows_past_the_worker_is_noticed_at_the_second_look_and_within_a_second(run: Run) -> None:
    seen = run("""
      const watch = new media.SealWatch();
      const looks = [[[10, 5], 5], [[20, 9], 9], [[30, 12], 9], [[40, 15], 9]];
      const look = ([flow, handled], at) => watch.look(flow, handled, handled, at * media.WATCH_EVERY_MS);
      return [looks.map(look), media.WATCH_EVERY_MS];""")
    assert seen[0] == [False, False, False, True]
    assert 3 * seen[1] < 1_000


def test_a_worker_that_does_not_answer_for_a_moment_ends_nothing_and_one_that_never_does_ends_all(run: Run) -> None:
    seen = run("""
      const flow = (count) => Array.from({ length: count }, (_, at) => [10 * at + 10]);
      const watch = new media.SealWatch();
      const look = (each, at) => (at % 5 === 4 ? watch.look(each, at, at, 250 * at) : watch.hearNothing(each));
      const busy = flow(3 * media.SILENT_LOOKS).map(look);
      const gone = new media.SealWatch();
      return [busy.includes(true), flow(media.SILENT_LOOKS).map((each) => gone.hearNothing(each)).indexOf(true)];""")
    assert seen == [False, 23]


def test_an_answer_that_comes_late_shows_a_leak_all_the_same(run: Run) -> None:
    seen = run("""
      const watch = new media.SealWatch();
      const looks = [[[10], 5], [[20]], [[30]], [[40], 5], [[50]], [[60]], [[70], 5]];
      return looks.map(([flow, handled], at) =>
        handled ? watch.look(flow, handled, handled, 250 * at) : watch.hearNothing(flow));""")
    assert seen == [False] * 6 + [True]


def test_neither_a_pause_nor_empty_packets_nor_frames_that_wait_for_the_worker_are_taken_for_a_leak(run: Run) -> None:
    seen = run("""
      const looks = [[], [0, 0], [10, 5], [10, 5], [20, 5], [30, 5], [30, 9], [30, 12]];
      const watch = new media.SealWatch();
      const seen = (flow) => (flow[1] > 0 ? 5 : 0);
      return looks.map((flow, at) => watch.look(flow, seen(flow), seen(flow), 250 * at));""")
    assert seen == [False] * 8


def test_frames_that_waited_behind_the_worker_are_no_leak_and_more_of_them_than_waited_are(run: Run) -> None:
    seen = run("""
      // A burst goes through the worker, which then gets nothing for a while: on a busy device the line is slow, too.
      const drains = [[[10], 10], [[20], 20], [[22], 60], [[30], 60], [[40], 60], [[50], 60], [[60], 60]];
      const leaks = [...drains, [[70], 60], [[80], 60]];
      const looks = (all) => {
        const watch = new media.SealWatch();
        return all.map(([flow, handled], at) => watch.look(flow, handled, handled, 250 * at)).indexOf(true);
      };
      return [looks(drains), looks(leaks)];""")
    assert seen == [-1, 8]


def test_a_lead_counts_for_six_seconds_or_four_looks(run: Run) -> None:
    seen = run("""
      const drains = Array.from({ length: 8 }, (_, at) => [[22 + 8 * at], 80]);
      const looks = [[[10], 10], [[20], 20], ...drains];
      const noticed = (every) => {
        const watch = new media.SealWatch();
        return looks.map(([flow, handled], at) => watch.look(flow, handled, handled, every * at)).indexOf(true);
      };
      return [noticed(250), noticed(2_900)];""")
    assert seen == [-1, 7]  # a late worker: the looks before the burst count no longer


def test_frames_that_the_worker_has_refused_hide_no_leak_behind_them(run: Run) -> None:
    seen = run("""
      // So many forged ones come that they would be a lead of a thousand, if they ever flowed.
      const looks = [[[10], 10, 10], [[20], 1_020, 20], [[30], 1_020, 20], [[40], 1_020, 20]];
      const watch = new media.SealWatch();
      return looks.map(([flow, handled, passed], at) => watch.look(flow, handled, passed, 250 * at));""")
    assert seen == [False, False, False, True]


def test_a_browser_without_transforms_is_told_by_name(browser: Browser, service: Service) -> None:
    with bench_in(browser, service, script="delete window.RTCRtpScriptTransform;") as visitor:
        seen = runner(visitor)("""
          const made = await outcome((async () => new media.SealedMedia({ unsealed: () => {} }))());
          return [media.canSealMedia(), made];""")
    assert seen == [False, "SealingUnsupported"]


# --- frames of a camera and a microphone ---


def test_sound_and_picture_arrive_with_the_right_key_and_no_frame_goes_past_the_worker(run_in_both: Run) -> None:
    seen = run_in_both("""
      const scene = await talk();
      await scene.grow("framesDecoded", "energy");
      await scene.grow("framesDecoded", "energy");
      const [near, far] = [await scene.counts(scene.near), await scene.counts()];
      const { framesDecoded } = await scene.figures();
      const codecs = scene.codecs();
      scene.close();
      return { codecs, kids: [near.audio.kid, near.video.kid, far.audio.kid, far.video.kid], told: scene.told,
        encrypted: [near.audio.encrypted > 0, near.video.encrypted > 0], opened: far.video.decrypted,
        decoded: framesDecoded, dropped: [near.audio.dropped, near.video.dropped] };""")
    assert {codec.lower() for codec in seen["codecs"]} <= {"opus", "red", "vp8", "rtx"}
    assert seen["kids"] == [256] * 4
    assert seen["encrypted"] == [True, True]
    assert 0 < seen["decoded"] <= seen["opened"] + 5  # decoded while it was counted
    assert seen["dropped"] == [{}, {}]
    assert seen["told"] == []


def test_with_a_wrong_key_there_is_neither_picture_nor_sound_and_the_right_one_brings_both(live: Run) -> None:
    seen = live("""
      const scene = await talk({ heard: base(2), workers: { far: "watched" } });
      await until(async () => {
        const { audio, video } = await scene.counts();
        return audio.dropped.forged >= 50 && video.dropped.forged >= 5;
      });
      const { packetsReceived, framesDecoded, energy } = await scene.figures();
      const passed = [scene.heard("passed audio"), scene.heard("passed video")];
      scene.far.apply({ do: "receive_with", kid: 256, base: base(1) });
      await scene.grow("framesDecoded", "energy");
      await until(() => scene.heard("passed audio") > 0 && scene.heard("passed video") > 0);
      scene.close();
      return [packetsReceived > 50, [framesDecoded, energy], passed, scene.told];""")
    assert seen == [True, [0, 0], [0, 0], []]


def test_frames_under_the_key_of_somebody_else_than_the_owner_of_the_line_are_dropped(live: Run) -> None:
    seen = live("""
      const scene = await talk({ owner: 2, workers: { far: "watched" } });
      await until(async () => {
        const { audio, video } = await scene.counts();
        return audio.dropped.wrong_owner >= 50 && video.dropped.wrong_owner >= 5;
      });
      const { framesDecoded, energy } = await scene.figures();
      const early = [scene.heard("passed audio"), scene.heard("passed video")];
      // Given to others in quick succession, and then to nobody.
      const give = ([kind, each]) => [3, 1].map((owner) => scene.far.subscribe(each, owner, sources[kind]));
      await Promise.all(Object.entries(scene.subscribed).flatMap(give));
      await scene.grow("framesDecoded", "energy");
      await Promise.all(Object.values(scene.subscribed).map((each) => scene.far.unsubscribe(each)));
      const before = await scene.counts();
      const enough = before.audio.dropped.wrong_owner + 50;
      await until(async () => (await scene.counts()).audio.dropped.wrong_owner >= enough);
      const after = await scene.counts();
      scene.close();
      const passed = ["audio", "video"].map((kind) => after[kind].decrypted - before[kind].decrypted);
      return [framesDecoded, energy, early, passed];""")
    assert seen == [0, 0, [0, 0], [0, 0]]


def test_a_camera_that_the_server_calls_a_screen_is_not_shown(live: Run) -> None:
    seen = live("""
      const scene = await talk({ kinds: ["video"], shown: { video: "screen" }, workers: { far: "watched" } });
      await until(async () => (await scene.counts()).video.dropped.forged >= 5);
      const { framesDecoded } = await scene.figures();
      const passed = scene.heard("passed video");
      await scene.far.subscribe(scene.subscribed.video, 1, "camera");
      await scene.grow("framesDecoded");
      scene.close();
      return [framesDecoded, passed, scene.told];""")
    assert seen == [0, 0, []]


@pytest.mark.long
def test_a_worker_that_always_answers_late_ends_nothing(live: Run) -> None:
    seen = live("""
      const scene = await talk({ kinds: ["audio"], workers: { near: "late" } });
      await until(() => scene.heard("counts") >= 20 || scene.told.length > 0);
      scene.close();
      return scene.told;""")
    assert seen == []


def test_before_there_is_a_key_nothing_leaves(live: Run) -> None:
    seen = live("""
      const scene = await talk({ sent: null, kinds: ["audio"] });
      await until(async () => (await scene.counts(scene.near)).audio.dropped.no_key >= 50);
      const { packetsSent } = await scene.figures();
      scene.near.apply({ do: "send_with", kid: 256, base: base(1) });
      await scene.grow("energy");
      scene.close();
      return [packetsSent, scene.told];""")
    assert seen == [0, []]


def test_a_change_of_keys_loses_no_frame_and_the_old_key_opens_nothing_after_its_time(live: Run) -> None:
    seen = live("""
      const scene = await talk({ sent: null, heard: null, workers: { far: "watched" } });
      const [near, far] = [new SenderKeys({ index: 1 }), new SenderKeys({ index: 2 })];
      let ahead = 0;
      const now = () => performance.now() + ahead;
      let first = null;
      const pump = () => {
        near.tick(now()); far.tick(now());
        for (const action of near.poll()) {
          if (action.do === "send_with" && action.kid === 257) first = action;
          if (action.do !== "say") scene.near.apply(action);
          else if (action.to === "far") far.received("near", action.message, now());
        }
        for (const action of far.poll()) if (action.do !== "say") scene.far.apply(action);
      };
      far.joined("near", 1, now()); near.joined("far", 2, now());
      const timer = setInterval(pump, 20);
      await scene.grow("framesDecoded", "energy");
      const before = await scene.counts(); // the first frames may have come before their key
      const pictures = (await scene.figures()).keyFramesDecoded;
      near.joined("third", 3, now());
      await until(async () => Object.values(await scene.counts()).every(({ kid }) => kid === 258));
      await until(async () => (await scene.figures()).keyFramesDecoded > pictures);
      await scene.grow("framesDecoded", "energy");
      const after = await scene.counts();
      ahead += 11_000;
      pump();
      clearInterval(timer);
      scene.near.apply(first); // as if somebody still spoke under the old one
      await until(async () => (await scene.counts()).audio.dropped.unknown_key >= 50);
      const refused = await scene.counts();
      const passed = [scene.heard("passed audio")];
      const enough = refused.audio.dropped.unknown_key + 50;
      await until(async () => (await scene.counts()).audio.dropped.unknown_key >= enough);
      passed.push(scene.heard("passed audio"));
      scene.close();
      return { kids: [before.audio.kid, before.video.kid], told: scene.told, passed,
        lost: ["audio", "video"].map((kind) => [before[kind].dropped, after[kind].dropped]) };""")
    assert seen["kids"] == [257, 257]
    for before, after in seen["lost"]:
        assert after == before, "every frame had its key in time, so the picture did not stand still"
    earlier, later = seen["passed"]
    assert 0 < earlier == later
    assert seen["told"] == []


def test_a_late_key_asks_for_a_picture_that_needs_no_earlier_one_and_shows_it(live: Run) -> None:
    seen = live("""
      const scene = await talk({ heard: null, kinds: ["video"], workers: { far: "watched" } });
      await until(async () => (await scene.counts()).video.dropped.unknown_key >= 5);
      const { framesDecoded } = await scene.figures();
      const asked = scene.heard("asked");
      scene.far.apply({ do: "receive_with", kid: 256, base: base(1) });
      await scene.grow("framesDecoded");
      scene.close();
      return [framesDecoded, asked, scene.heard("asked")];""")
    assert seen == [0, 0, 1]


def test_a_frame_that_is_sent_again_is_refused(live: Run) -> None:
    seen = live("""
      const scene = await talk({ kinds: ["audio"], workers: { near: "replaying", far: "watched" } });
      await until(async () => (await scene.counts()).audio.dropped.replayed >= 50);
      const { audio } = await scene.counts();
      scene.close();
      return [audio.decrypted, scene.heard("passed audio"), Object.keys(audio.dropped), scene.told];""")
    opened, passed, dropped, told = seen
    assert 0 < opened <= 20, "the path may lose one; none is opened twice"
    assert [passed, dropped, told] == [opened, ["replayed"], []]


def test_a_new_picture_is_made_when_it_is_asked_for(run_in_both: Run) -> None:
    seen = run_in_both("""
      const scene = await talk({ kinds: ["video"] });
      await scene.grow("framesDecoded");
      const { keyFramesDecoded } = await scene.figures();
      scene.near.apply({ do: "ask_key_frame" });
      await scene.grow("keyFramesDecoded");
      scene.close();
      return keyFramesDecoded;""")
    assert seen >= 1


TRANSFORM_TAKEN_AWAY = """
  const scene = await talk();
  await scene.grow("framesDecoded", "energy");
  for (const { sender } of Object.values(scene.published)) sender.transform = null;
  await scene.silence();
  const { audio, video } = await scene.counts();
  scene.close();
  return [scene.told.sort(), [audio.dropped, video.dropped]];"""


def test_chromium_sends_nothing_any_more_without_the_transform(browser: Browser, service: Service) -> None:
    with bench_in(browser, service) as visitor:
        _, unreadable = runner(visitor)(TRANSFORM_TAKEN_AWAY)
    assert unreadable == [{}, {}], "what still came was encrypted"


def test_firefox_sends_unencrypted_without_the_transform_and_is_stopped(fox: Browser, service: Service) -> None:
    with bench_in(fox, service) as visitor:
        told, _ = runner(visitor)(TRANSFORM_TAKEN_AWAY)
    assert told == ["send audio", "send video"]


@pytest.mark.parametrize(("end", "direction"), [("RTCRtpSender", "send"), ("RTCRtpReceiver", "receive")])
def test_a_browser_that_ignores_transforms_is_noticed_and_its_tracks_are_stopped(
    browser: Browser, service: Service, end: str, direction: str
) -> None:
    ignored = f"Object.defineProperty({end}.prototype, 'transform', {{ set() {{}}, get: () => null }});"
    with bench_in(browser, service, script=ignored) as visitor:
        told, tracks, again, decrypted = runner(visitor)(
            """
          const scene = await talk();
          await until(() => scene.told.length === 2);
          if (v === "send") await scene.silence();
          const ends = Object.values(v === "send" ? scene.published : scene.subscribed);
          const tracks = ends.map(({ direction, sender, receiver }) =>
            [direction, (v === "send" ? sender : receiver).track.readyState]);
          const again = await Promise.all(ends.map(({ sender }) => outcome(sender.replaceTrack(null))));
          const { audio, video } = { audio: {}, video: {}, ...(await scene.counts()) };
          scene.close();
          return [scene.told.sort(), tracks, again, [audio.decrypted ?? 0, video.decrypted ?? 0]];""",
            direction,
        )
        assert visitor.complaints
        assert [line for line in visitor.complaints if "past the encryption" not in line] == []
    assert told == [f"{direction} audio", f"{direction} video"]
    assert tracks == [["stopped", "ended"]] * 2
    assert again == ["InvalidStateError"] * 2, "no track can be put in again"
    assert decrypted == [0, 0]


def test_a_line_without_statistics_keeps_nobody_from_looking_at_the_others(browser: Browser, service: Service) -> None:
    script = """
      Object.defineProperty(RTCRtpSender.prototype, 'transform', { set() {}, get: () => null });
      const { getStats } = RTCRtpSender.prototype;
      RTCRtpSender.prototype.getStats = function () {
        return this.track?.kind === 'audio' ? Promise.reject(new Error('none')) : getStats.call(this);
      };"""
    with bench_in(browser, service, script=script) as visitor:
        told = runner(visitor)("""
          const scene = await talk();
          await until(() => scene.told.length > 0);
          scene.close();
          return scene.told;""")
        visitor.complaints.clear()
    assert told == ["send video"]


def test_a_worker_that_cannot_be_loaded_keeps_the_track_back(browser: Browser, service: Service) -> None:
    with bench_in(browser, service) as visitor:
        seen = runner(visitor)("""
          const createWorker = () => new Worker("/js/conference/nothing.js", { type: "module" });
          const sealed = new media.SealedMedia({ unsealed: () => {}, createWorker });
          const pc = new RTCPeerConnection();
          const { track } = pc.addTransceiver("audio").receiver;
          const why = () => sealed.publish(pc, "microphone", track).then(() => "published", ({ message }) => message);
          const told = [await why(), await why()];
          const [, transceiver] = pc.getTransceivers();
          return [told, transceiver?.sender.track ?? null, transceiver?.direction ?? "stopped"];""")
    assert seen == [["the worker could not be loaded, or has failed"] * 2, None, "stopped"]


def test_the_lines_are_bounded_and_a_closed_connection_makes_room(live: Run) -> None:
    seen = live("""
      const sealed = new media.SealedMedia({ unsealed: () => {} });
      const [first, second] = [new RTCPeerConnection(), new RTCPeerConnection()];
      for (let line = 0; line < media.MAX_LINES; line += 1) await sealed.publish(first, "microphone", null);
      const full = await outcome(sealed.publish(second, "microphone", null));
      first.close();
      const free = await outcome(sealed.publish(second, "microphone", null));
      second.close();
      sealed.close();
      return [full, free];""")
    assert seen == ["RangeError", "taken"]


def test_after_the_end_nothing_is_attached_any_more(live: Run) -> None:
    seen = live("""
      const sealed = new media.SealedMedia({ unsealed: () => {} });
      const pc = new RTCPeerConnection();
      const attempts = [outcome(sealed.publish(pc, "microphone", null))];
      sealed.close();
      attempts.push(outcome(sealed.publish(pc, "microphone", null)), outcome(sealed.counts()));
      const outcomes = await Promise.all(attempts);
      pc.close();
      return outcomes;""")
    assert seen == ["SealingFailed"] * 3
