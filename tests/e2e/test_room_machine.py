"""The state machine of the room page, in a real browser but without socket, clock, camera or anything to be seen.

A test is a few lines of JavaScript that tell the machine what happens and when, and Python that judges what it did.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.browser import Participant
from tests.support.service import Service

Run = Callable[[str], Any]

# `m` is the machine of one page, `did` what it has ordered since the last look. PARTNER is the epoch of the partner,
# whose pid is `p`; own epochs are 1, 2, 3, …
BENCH = """async () => {
  const { RoomMachine } = await import("/js/room_machine.js");
  const { SignalingClient } = await import("/js/signaling_client.js");
  const { decodeMessage } = await import("/js/envelope.js");
  const epoch = (sign) => String(sign).padStart(32, "0");
  const seat = (role, pid = "me") => ({ pid, role, start: "", end: "", resume: "token", ice: [] });
  const other = { organiser: "participant", participant: "organiser" };
  const bench = { decodeMessage, epoch, seat, PARTNER: epoch("a"), STRANGER: epoch("b") };
  const media = { camera: true, microphone: true, audioOnly: false };
  bench.hello = (epoch, to, name = "Petra Muster") => ({ kind: "hello", epoch, to, name, ...media });
  bench.did = (m) => m.poll().filter((action) => action.do !== "agree").map((action) => {
    if (action.do === "paired" && !action.ok) return `not paired ${action.peer}`;
    if (action.do === "send") return `${action.message.kind} to ${action.to}`;
    if (action.do === "open_call") return `open ${action.polite ? "polite" : "impolite"}`;
    if (action.do === "disconnect") return action.leave ? "leave" : "disconnect";
    return action.peer ? `${action.do} ${action.peer}` : action.do;
  });
  /** One whose peers have to be verified by the test. */
  bench.strict = () => {
    let drawn = -1; // the form has one, too
    return new RoomMachine({ drawEpoch: () => epoch(++drawn) });
  };
  /** One whose peers have the same secret, and prove it at once. */
  bench.fresh = () => {
    const m = bench.strict();
    m.peer = (announced, now) => {
      RoomMachine.prototype.peer.call(m, announced, now);
      if (announced.present) m.verified(announced.pid, "123456");
    };
    return m;
  };
  /** In the room since 0 ms, devices settled, nobody else there. */
  bench.alone = (role = "organiser") => {
    const m = bench.fresh();
    m.join("Dr. Anna Beispiel");
    m.joined(seat(role), 0);
    m.mediaSettled(0);
    m.poll();
    return m;
  };
  /** The partner came at 0 ms, and the connection is being opened. */
  bench.paired = (role = "organiser") => {
    const m = bench.alone(role);
    m.peer({ pid: "p", role: other[role], present: true }, 0);
    m.message("p", bench.hello(bench.PARTNER, epoch(1)), 0);
    m.poll();
    return m;
  };
  bench.talking = (role = "organiser") => {
    const m = bench.paired(role);
    m.callChanged("connected", 0);
    m.poll();
    return m;
  };
  /** A page's own client over sockets that only exist here. */
  bench.client = (resume) => {
    const sockets = [];
    globalThis.WebSocket = class {
      static OPEN = 1; readyState = 1; sent = []; closed = false;
      constructor() { sockets.push(this); }
      send(text) { this.sent.push(JSON.parse(text)); }
      close() { this.closed = true; }
      says(message) { this.onmessage({ data: JSON.stringify(message) }); }
    };
    const heard = [];
    const handlers = new Proxy({}, { get: (_, name) => (value, pause) => heard.push([name, pause ?? null, value]) });
    const link = new SignalingClient({ url: "ws://nowhere/", locator: "000000", resume, handlers });
    link.start();
    return { link, sockets, heard, welcome: { type: "joined", ...seat("organiser") } };
  };
  window.bench = bench;
}"""
NAMES = "{ decodeMessage, epoch, seat, PARTNER, STRANGER, hello, did, strict, fresh, alone, paired, talking, client }"
EPOCH = "0123456789abcdef" * 2
FORGOTTEN = ["close_call", "leave", "stop_media", "forget_session"]


@pytest.fixture(scope="module")
def run(browser: Browser, service: Service) -> Iterator[Run]:
    """Runs the body of a function in the page, with the names of the bench."""
    visitor = Participant(browser)
    visitor.open(service.create_appointment().organiser_link.partition("#")[0])
    visitor.page.evaluate(BENCH)
    yield lambda body: visitor.page.evaluate(f"() => {{ const {NAMES} = window.bench; {body} }}")
    visitor.close()


# --- finding each other ---


@pytest.mark.parametrize(("role", "manner"), [("organiser", "impolite"), ("participant", "polite")])
def test_the_first_greeting_pairs_and_opens_the_call_and_only_the_participant_is_polite(
    run: Run, role: str, manner: str
) -> None:
    seen = run(f"""
      const m = alone("{role}");
      m.peer({{ pid: "p", role: "{"participant" if role == "organiser" else "organiser"}", present: true }}, 0);
      const greeted = did(m);
      m.message("p", hello(PARTNER, epoch(1)), 0);
      return [greeted, did(m), m.view().call, m.view().partner.name];""")
    assert seen == [["paired p", "hello to p"], [f"open {manner}"], "connecting", "Petra Muster"]


def test_nobody_is_greeted_before_the_devices_are_settled_or_eight_seconds_have_passed(run: Run) -> None:
    seen = run("""
      const m = fresh();
      m.join("Dr. Anna Beispiel");
      m.joined(seat("organiser"), 0);
      m.peer({ pid: "p", role: "participant", present: true }, 0);
      m.message("p", hello(PARTNER, null), 0);
      const orders = [7_999, 8_000].map((time) => { m.tick(time); return did(m); });
      return orders;""")
    assert seen == [["connect", "start_media", "paired p"], ["hello to p", "open impolite"]]


def test_who_is_alone_gets_a_hint_after_a_minute_until_somebody_comes(run: Run) -> None:
    seen = run("""
      const m = alone();
      const hints = [];
      for (const time of [59_999, 60_000]) { m.tick(time); hints.push(m.view().waitingHint); }
      m.peer({ pid: "p", role: "participant", present: true }, 61_000);
      return [...hints, m.view().waitingHint];""")
    assert seen == [False, True, False]


def test_a_rival_for_the_seat_is_no_partner_and_does_not_flicker_while_sockets_change(run: Run) -> None:
    seen = run("""
      const m = alone();
      const twin = (present, now) => m.peer({ pid: "twin", role: "organiser", present }, now);
      const rivals = [];
      const look = () => rivals.push(m.view().rival);
      twin(true, 0); m.message("twin", hello(STRANGER, null), 0); look();
      m.joined(seat("organiser"), 1_000); look(); twin(true, 1_001); m.tick(3_000); look();
      twin(false, 4_000); look();
      twin(true, 5_000); m.joined(seat("organiser"), 6_000); m.tick(8_000); look(); // not announced any more
      return [rivals, m.view().partner, did(m)];""")
    assert seen == [[True, True, True, False, False], None, []]


# --- being sure of each other ---


def test_nothing_is_said_to_anybody_who_has_not_proved_to_have_the_secret(run: Run) -> None:
    seen = run("""
      const m = strict();
      m.join("Dr. Anna Beispiel");
      m.joined(seat("organiser"), 0);
      m.mediaSettled(0);
      m.poll();
      m.peer({ pid: "p", role: "participant", present: true }, 0);
      m.message("p", hello(PARTNER, epoch(1)), 1);
      const before = [m.poll(), m.view().partner];
      m.verified("p", "042137");
      const greeted = did(m);
      m.message("p", hello(PARTNER, epoch(1)), 2);
      return [before, greeted, m.view().partner.safetyCode];""")
    agree = {"do": "agree", "peer": "p", "role": "participant"}
    assert seen == [[[agree], None], ["paired p", "hello to p"], "042137"]


def test_an_agreement_without_an_end_is_begun_anew_after_ten_seconds(run: Run) -> None:
    seen = run("""
      const m = strict();
      m.join("Dr. Anna Beispiel");
      m.joined(seat("organiser"), 0);
      m.peer({ pid: "p", role: "participant", present: true }, 0);
      m.poll();
      const orders = [m.deadline, ...[9_999, 10_000].map((time) => { m.tick(time); return m.poll().length; })];
      m.verified("p", "042137");
      m.poll();
      m.tick(40_000);
      return [...orders, m.poll().length];""")
    assert seen == [2_000, 0, 1, 0]


@pytest.mark.parametrize(("role", "pause"), [("organiser", 1_000), ("participant", 2_500)])
def test_three_failures_end_the_attempt_with_the_text_for_it_and_each_is_reported(
    run: Run, role: str, pause: int
) -> None:
    seen = run(f"""
      const m = strict();
      m.join("Dr. Anna Beispiel");
      m.joined(seat("{role}"), 0);
      m.mediaSettled(0);
      m.peer({{ pid: "p", role: "{"participant" if role == "organiser" else "organiser"}", present: true }}, 0);
      m.poll();
      const orders = [];
      for (const time of [100, 10_000, 20_000]) {{
        m.unverified("p", time);
        m.tick(time + {pause - 1});
        const early = m.poll().map((action) => action.ok ?? action.do);
        m.tick(time + {pause});
        orders.push([early, m.poll().map((action) => action.do)]);
      }}
      return [orders, m.view().phase, m.view().problem.code];""")
    again = [[False], ["agree"]]
    assert seen == [
        [again, again, [[False, "disconnect", "stop_media", "forget_session"], []]],
        "form",
        "unverified",
    ]


@pytest.mark.parametrize("reconnect", ["", 'm.joined(seat("organiser"), 5);'])
def test_a_failure_with_somebody_else_does_not_tear_two_people_apart(run: Run, reconnect: str) -> None:
    seen = run(f"""
      const m = talking();
      m.peer({{ pid: "x", role: "participant", present: true }}, 0);
      for (const time of [1, 2, 3]) m.unverified("x", time);
      const during = [did(m).at(-1), m.view().call, m.view().phase];
      {reconnect}
      m.callChanged("disconnected", 10);
      return [during, m.view().phase, m.view().problem.code];""")
    assert seen == [["agree_no_more", "connected", "room"], "form", "unverified"]


def test_twenty_proofs_that_nobody_has_answered_end_the_attempt_and_each_is_reported(run: Run) -> None:
    seen = run("""
      const m = alone();
      const states = [];
      for (let count = 1; count <= 20; count += 1) {
        m.peer({ pid: `guesser${count}`, role: "participant", present: true }, count); // and verified by this bench
        m.poll();
        m.abandoned(`guesser${count}`);
        const [report, ...more] = m.poll();
        states.push([report.peer, report.ok, more.map((action) => action.do), m.view().phase]);
        m.peer({ pid: `guesser${count}`, role: "participant", present: false }, count);
      }
      return [states, m.view().problem.code];""")
    states, problem = seen
    assert states[:-1] == [[f"guesser{count}", False, [], "room"] for count in range(1, 20)]
    assert states[-1] == ["guesser20", False, ["disconnect", "stop_media", "forget_session"], "form"]
    assert problem == "unverified"


def test_after_a_thousand_agreements_nobody_may_go_on_to_try_for_equal_digits(run: Run) -> None:
    seen = run("""
      const m = alone();
      m.peer({ pid: "p", role: "participant", present: true }, 0);
      for (let count = 2; count < 1_000; count += 1) {
        m.renewed("p", count);
        m.verified("p", "123456");
      }
      const before = m.view().phase;
      m.renewed("p", 1_000);
      m.verified("p", "123456");
      return [before, m.view().phase, m.view().problem.code];""")
    assert seen == ["room", "form", "unverified"]


def test_a_partner_who_is_here_but_never_proves_itself_anew_is_given_up(run: Run) -> None:
    """After trying again there was nothing that such a connection waited for, and no end of it."""
    seen = run("""
      const m = paired();
      m.callImpossible(0);
      m.renewed("p", 100);
      m.tryAgain(200);
      const states = [];
      for (let time = m.deadline; time !== null && time < 60_000; time = m.deadline) {
        m.tick(time);
        m.renewed("p", time); // again and again
        states.push(m.view().call);
        if (m.view().call === "none") return [time, m.view().partner];
      }
      return states;""")
    assert seen == [30_100, None]


def test_a_partner_who_proves_itself_anew_in_time_is_kept(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.callChanged("disconnected", 1_000);
      m.renewed("p", 1_000);
      m.tick(30_999);
      m.verified("p", "123456");
      m.tick(31_000);
      return [m.view().partner.name, m.view().call];""")
    assert seen == ["Petra Muster", "interrupted"]


def test_what_was_said_while_nobody_was_verified_is_said_again_when_somebody_is(run: Run) -> None:
    seen = run("""
      const m = paired();
      m.callImpossible(0);
      m.renewed("p", 1_000);
      m.tryAgain(2_000); // draws the next epoch, and greets nobody
      m.tick(17_000);
      const waits = m.deadline !== null;
      m.verified("p", "123456");
      m.poll();
      m.message("p", hello(PARTNER, epoch(2)), 18_000);
      return [waits, did(m), m.view().call];""")
    assert seen == [True, ["resync_call"], "connecting"]


def test_a_partner_who_begins_anew_is_greeted_when_it_has_proved_itself_again(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.renewed("p", 1_000);
      m.message("p", { kind: "bye", epoch: PARTNER, to: epoch(1) }, 1_001); // said by whoever it was
      const between = [did(m), m.view().phase];
      m.verified("p", "555555");
      m.message("p", hello(PARTNER, epoch(1)), 1_002);
      return [between, did(m), m.view().call];""")
    assert seen == [[[], "room"], ["paired p", "hello to p", "resync_call"], "connected"]


# --- keeping each other ---


def test_the_same_epochs_keep_the_call_even_if_the_server_gave_both_new_ids(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.signalingLost(1_000);
      m.joined(seat("organiser", "me2"), 1_000);
      m.peer({ pid: "p2", role: "participant", present: true }, 1_001);
      m.message("p2", hello(PARTNER, epoch(1)), 1_002);
      m.hangUp();
      return did(m);""")
    assert seen == ["paired p2", "hello to p2", "resync_call", "bye to p2", *FORGOTTEN]


def test_a_new_epoch_of_the_partner_replaces_the_call(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.message("p", hello(STRANGER, epoch(1)), 1_000);
      return [did(m), m.view().call];""")
    assert seen == [["close_call", "open impolite"], "connecting"]


def test_a_stranger_does_not_end_a_call_that_lives_while_the_partner_has_no_socket(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.peer({ pid: "p", role: "participant", present: false }, 1_000);
      m.peer({ pid: "x", role: "participant", present: true }, 1_001);
      m.message("x", hello(STRANGER, epoch(1), "Stranger"), 1_002);
      const before = [did(m), m.view().call, m.view().partner.name];
      m.peer({ pid: "p", role: "participant", present: true }, 2_000);
      m.message("p", hello(PARTNER, epoch(1)), 2_001);
      m.callChanged("disconnected", 3_000);
      return [before, did(m), m.view().partner.name];""")
    kept = [["paired x", "hello to x"], "connected", "Petra Muster"]
    assert seen == [kept, ["paired p", "hello to p", "resync_call"], "Petra Muster"]


@pytest.mark.parametrize("state", ["disconnected", "failed"])
def test_who_greeted_during_the_call_is_taken_when_media_and_partner_are_both_gone(run: Run, state: str) -> None:
    seen = run(f"""
      const m = talking();
      m.peer({{ pid: "p", role: "participant", present: false }}, 1_000);
      m.peer({{ pid: "x", role: "participant", present: true }}, 1_001);
      m.message("x", hello(STRANGER, epoch(1), "Petra anew"), 1_002);
      did(m);
      m.callChanged("{state}", 6_000);
      return [did(m), m.view().call, m.view().partner.name];""")
    assert seen == [["close_call", "hello to x", "open impolite"], "connecting", "Petra anew"]


@pytest.mark.parametrize(
    "reconnect",
    [
        'm.peer({ pid: "p", role: "participant", present: false }, 1)',
        "m.signalingLost(2); m.joined(seat('organiser'), 2)",
        "m.joined(seat('organiser'), 2)",
        "",  # the partner took the seat back before the server knew that the old socket was dead
    ],
)
def test_the_pairing_is_reported_again_after_either_socket_was_lost(run: Run, reconnect: str) -> None:
    seen = run(f"""
      const m = talking();
      {reconnect};
      m.peer({{ pid: "p", role: "participant", present: true }}, 3);
      m.message("p", hello(PARTNER, epoch(1)), 4);
      return [did(m), m.view().call];""")
    assert seen == [["paired p", "hello to p", "resync_call"], "connected"]


def test_a_lost_server_leaves_the_media_alone_and_its_refusal_waits_for_the_end_of_the_call(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.signalingLost(1_000);
      m.tick(120_000);
      const lost = [did(m), m.view().call, m.view().signalingAway];
      m.refused({ code: "code_in_use" }, null, 121_000);
      const refused = [did(m), m.view().call, m.view().problem];
      m.callChanged("disconnected", 122_000);
      return [lost, refused, did(m), m.view().phase, m.view().problem.code];""")
    assert seen[:2] == [[[], "connected", True], [[], "connected", None]]
    assert seen[2:] == [["close_call", "disconnect", "stop_media", "forget_session"], "form", "code_in_use"]


def test_a_partner_who_stays_away_is_given_up_and_meets_a_new_epoch(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.peer({ pid: "p", role: "participant", present: false }, 1_000);
      m.callChanged("disconnected", 2_000);
      m.tick(31_999);
      const before = [m.view().call, did(m).includes("close_call")];
      m.tick(32_000);
      const after = [m.view().call, m.view().partner, did(m)];
      m.peer({ pid: "p", role: "participant", present: true }, 40_000);
      const never = paired(); // never connected: less to wait for
      never.peer({ pid: "p", role: "participant", present: false }, 1_000);
      never.tick(4_000);
      const greeting = m.poll().find((action) => action.do === "send").message;
      return [before, after, greeting.epoch === epoch(2), never.view().call];""")
    assert seen == [["interrupted", False], ["none", None, ["close_call"]], True, "none"]


# --- the connection, and the end ---


def test_ice_is_restarted_three_seconds_after_an_interruption_unless_it_heals(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.callChanged("disconnected", 10_000);
      m.tick(10_000);
      m.tick(12_999);
      const before = [did(m), m.view().call];
      m.tick(13_000);
      const restarted = did(m);
      m.callChanged("connected", 14_000);
      m.callChanged("disconnected", 20_000);
      m.callChanged("connected", 22_000);
      m.tick(60_000);
      return [before, restarted, did(m), m.view().call];""")
    assert seen == [[["probe_signaling"], "interrupted"], ["restart_ice"], [], "connected"]


@pytest.mark.parametrize("state", ["silent", "disconnected"])
def test_who_hears_nothing_more_looks_after_its_seat_at_once_and_the_greeting_repeats_what_was_lost(
    run: Run, state: str
) -> None:
    seen = run(f"""
      const m = talking();
      m.callChanged("{state}", 10_000);
      m.tick(10_000);
      const interrupted = [did(m), m.view().call];
      m.joined(seat("organiser"), 10_100);
      m.peer({{ pid: "p", role: "participant", present: true }}, 10_101);
      m.message("p", hello(PARTNER, epoch(1)), 10_102);
      return [interrupted, did(m)];""")
    assert seen == [[["probe_signaling"], "interrupted"], ["paired p", "hello to p", "resync_call"]]


def test_who_has_just_taken_its_seat_restarts_ice_instead(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.callChanged("silent", 4_999);
      m.tick(4_999);
      return did(m);""")
    assert seen == ["restart_ice"]


def test_silence_ends_with_what_is_heard_and_only_the_browser_calls_a_connection_failed(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.callChanged("silent", 10_000);
      m.tick(10_000);
      m.joined(seat("organiser"), 10_100);
      m.peer({ pid: "p", role: "participant", present: true }, 10_101);
      m.message("p", hello(PARTNER, epoch(1)), 10_102);
      m.poll();
      m.tick(60_000);
      const waiting = [did(m), m.view().call];
      m.callChanged("connected", 61_000);
      return [waiting, m.view().call, did(m)];""")
    assert seen == [[[], "interrupted"], "connected", []]


def test_while_the_media_is_gone_the_server_is_tried_every_five_seconds_until_it_answers(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.callChanged("silent", 10_000);
      const at = (...times) => times.map((time) => { m.tick(time); return did(m); });
      const silent = at(10_000, 14_999, 15_000);
      m.signalingLost(16_000);
      const away = at(19_999, 20_000, 24_999, 25_000);
      m.joined(seat("organiser"), 25_100);
      m.peer({ pid: "p", role: "participant", present: true }, 25_101);
      did(m);
      return [silent, away, at(30_000, 35_000)];""")
    probe = ["probe_signaling"]
    assert seen == [[probe, [], probe], [[], probe, [], probe], [[], []]]


def test_another_path_in_the_middle_of_a_call_has_the_socket_looked_after_once(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.pathChanged(4_999); // a connection that begins tries several
      m.tick(9_000);
      const early = did(m);
      m.pathChanged(10_000);
      m.pathChanged(10_500);
      const orders = [11_499, 11_500, 60_000].map((time) => { m.tick(time); return did(m); });
      return [early, orders, m.view().call];""")
    assert seen == [[], [[], ["probe_signaling"], []], "connected"]


def test_two_failures_mean_that_there_is_no_path_and_trying_again_draws_a_new_epoch(run: Run) -> None:
    seen = run("""
      const m = paired();
      m.tick(15_000);
      const first = [did(m), m.view().call];
      m.callChanged("connecting", 16_000);
      m.callChanged("failed", 20_000);
      const second = [did(m), m.view().call];
      m.tryAgain(30_000);
      const epochs = m.poll().filter((action) => action.do === "send").map(({ message }) => message.epoch);
      return [first, second, epochs, m.view().call];""")
    assert seen == [[["restart_ice"], "connecting"], [["close_call"], "no_path"], ["2".rjust(32, "0")], "connecting"]


def test_a_failure_of_the_round_before_a_restart_does_not_end_the_second_attempt(run: Run) -> None:
    seen = run("""
      const m = paired();
      m.tick(15_000);
      did(m);
      m.callChanged("failed", 15_100);
      const late = [did(m), m.view().call];
      m.tick(29_999);
      const before = m.view().call;
      m.tick(30_000); // the deadline holds, whatever is told
      return [late, before, did(m), m.view().call];""")
    assert seen == [[[], "connecting"], "connecting", ["close_call"], "no_path"]


def test_a_partner_with_ever_new_epochs_costs_one_connection_a_second(run: Run) -> None:
    seen = run("""
      const m = paired();
      const made = [];
      for (let time = 10; time <= 5_000; time += 10) {
        m.message("p", hello(epoch(1_000 + time), epoch(1)), time);
        m.tick(time);
        for (const action of m.poll()) if (action.do === "open_call") made.push(time);
      }
      return made;""")
    assert seen == [1_000, 2_000, 3_000, 4_000, 5_000]


def test_what_the_partner_says_while_its_next_connection_waits_is_not_lost(run: Run) -> None:
    seen = run("""
      const m = paired();
      const offer = { kind: "description", type: "offer", sdp: "v=0", epoch: STRANGER, to: epoch(1) };
      m.message("p", hello(STRANGER, epoch(1)), 400);
      for (let count = 0; count < 300; count += 1) m.message("p", offer, 401);
      const early = [did(m), m.deadline];
      m.tick(1_000);
      const [open, ...rest] = did(m);
      m.message("p", offer, 1_001);
      return [early, open, rest.length, [...new Set(rest)], did(m)];""")
    assert seen == [[["close_call"], 1_000], "open impolite", 200, ["call_message"], ["call_message"]]


def test_a_pair_of_epochs_is_remembered_while_thirty_two_more_come(run: Run) -> None:
    seen = run("""
      const drawn = [31, 32].map((others) => {
        const m = paired();
        const come = (count) => m.message("p", hello(epoch(1_000 + count), epoch(1)), count * 1_000);
        for (let count = 1; count <= others; count += 1) come(count);
        m.poll();
        m.message("p", hello(PARTNER, epoch(1)), 100_000);
        return m.poll().some((action) => action.do === "send" && action.message.epoch === epoch(2));
      });
      return drawn;""")
    assert seen == [True, False]


def test_a_connection_that_had_stood_is_opened_anew_once_before_it_is_given_up(run: Run) -> None:
    seen = run("""
      const m = talking();
      const states = [];
      for (const time of [1_000, 2_000, 3_000, 4_000]) {
        m.callChanged("connecting", time);
        m.callChanged("failed", time);
        states.push([did(m), m.view().call]);
      }
      return states;""")
    assert seen == [
        [["restart_ice"], "interrupted"],
        [["close_call", "hello to p", "open impolite"], "interrupted"],
        [["restart_ice"], "interrupted"],
        [["close_call"], "no_path"],
    ]


def test_a_browser_that_makes_no_connection_is_told_so_and_can_hang_up(run: Run) -> None:
    seen = run("""
      const m = paired();
      m.callImpossible(1);
      const impossible = [did(m), m.view().call];
      m.hangUp();
      return [impossible, did(m), m.view().phase];""")
    assert seen == [[["close_call"], "no_path"], ["bye to p", *FORGOTTEN], "ended"]


def test_hanging_up_says_goodbye_and_a_goodbye_ends_the_consultation_for_the_other(run: Run) -> None:
    seen = run("""
      const [m, other] = [talking("participant"), talking()];
      m.hangUp();
      other.message("p", { kind: "bye", epoch: PARTNER, to: epoch(1) }, 1_000);
      return [did(m), m.view().phase, did(other), other.view().phase];""")
    assert seen == [["bye to p", *FORGOTTEN], "ended", FORGOTTEN, "ended"]


@pytest.mark.parametrize(
    ("sender", "epochs"),
    [
        ("p", "epoch: STRANGER, to: epoch(1)"),
        ("p", "epoch: PARTNER, to: epoch(9)"),
        ("x", "epoch: PARTNER, to: epoch(1)"),
    ],
)
def test_what_is_not_meant_for_the_current_pair_of_epochs_is_dropped(run: Run, sender: str, epochs: str) -> None:
    seen = run(f"""
      const m = talking();
      m.peer({{ pid: "x", role: "participant", present: true }}, 0);
      did(m);
      m.message("{sender}", {{ kind: "bye", {epochs} }}, 1);
      m.message("{sender}", {{ kind: "description", type: "offer", sdp: "v=0", {epochs} }}, 1);
      m.message("{sender}", {{ kind: "state", camera: false, microphone: false, {epochs} }}, 1);
      return [did(m), m.view().phase, m.view().partner.camera];""")
    assert seen == [[], "room", True]


# --- sound alone ---


def test_a_connection_that_stays_bad_makes_the_page_offer_sound_alone_after_eight_seconds(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.measured("bad", 1_000);
      m.tick(2_000);
      const deadline = m.deadline;
      const offers = [8_999, 9_000].map((time) => { m.tick(time); return m.view().audioOnlyOffered; });
      m.measured("weak", 10_000);
      offers.push(m.view().audioOnlyOffered);
      m.measured("good", 11_000);
      return [deadline, offers, m.view().audioOnlyOffered, m.view().quality, did(m), m.view().call];""")
    assert seen == [9_000, [False, True, True], False, "good", [], "connected"]


@pytest.mark.parametrize(
    "why",
    [
        'm.measured("weak", 2_000)',
        "m.measured(null, 2_000)",
        "m.declineAudioOnly()",
        "m.useAudioOnly(true)",
        'm.message("p", { ...said, audioOnly: true }, 2_000)',
        'm.message("p", { ...said, camera: false }, 2_000)',
        'm.callChanged("disconnected", 2_000)',
    ],
)
def test_nobody_is_asked_to_give_up_pictures_that_are_not_bad_or_not_there(run: Run, why: str) -> None:
    seen = run(f"""
      const m = talking();
      const said = {{ kind: "state", epoch: PARTNER, to: epoch(1), camera: true, microphone: true, audioOnly: false }};
      m.measured("bad", 1_000);
      {why};
      m.tick(9_000);
      return m.view().audioOnlyOffered;""")
    assert seen is False


def test_who_declines_is_not_asked_again_in_this_call(run: Run) -> None:
    seen = run("""
      const m = talking();
      const offers = [];
      for (const start of [0, 100_000]) {
        m.measured("bad", start);
        m.tick(start + 8_000);
        offers.push(m.view().audioOnlyOffered);
        m.declineAudioOnly();
        offers.push(m.view().audioOnlyOffered);
        m.measured("good", start + 50_000);
      }
      m.callChanged("disconnected", 200_000);
      m.callChanged("connected", 201_000);
      m.measured("bad", 202_000);
      m.tick(210_000);
      return [...offers, m.view().audioOnlyOffered];""")
    assert seen == [True, False, False, False, False]


def test_sound_alone_stops_the_own_pictures_and_asks_the_partner_to_do_so_until_it_is_over(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.mediaChanged(true, true);
      m.poll();
      const told = ({ do: what, on, message }) => message ?? [what, on];
      return [true, true, false].map((on) => {
        m.useAudioOnly(on);
        return [m.poll().map(told), m.view().sendsPictures, m.view().call];
      });""")
    said = {"kind": "state", "microphone": True, "epoch": "1".rjust(32, "0"), "to": "a".rjust(32, "0")}
    assert seen == [
        [[{**said, "camera": False, "audioOnly": True}, ["send_pictures", False]], False, "connected"],
        [[], False, "connected"],
        [[{**said, "camera": True, "audioOnly": False}, ["send_pictures", True]], True, "connected"],
    ]


def test_a_partner_who_wants_sound_alone_gets_no_picture_however_that_was_said(run: Run) -> None:
    seen = run("""
      const m = talking();
      const say = (audioOnly) =>
        m.message("p", { kind: "state", epoch: PARTNER, to: epoch(1), camera: false, microphone: true, audioOnly }, 1);
      const greet = (audioOnly) => m.message("p", { ...hello(PARTNER, epoch(1)), audioOnly }, 1);
      const orders = [() => say(true), () => greet(true), () => greet(false), () => say(false)].map((speak) => {
        speak();
        return [did(m), m.view().sendsPictures, m.view().audioOnly];
      });
      return orders;""")
    assert seen == [
        [["send_pictures"], False, False],
        [[], False, False],
        [["send_pictures"], True, False],
        [[], True, False],
    ]


def test_the_own_choice_and_the_one_of_the_partner_hold_side_by_side(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.useAudioOnly(true);
      m.message("p", { ...hello(PARTNER, epoch(1)), audioOnly: true }, 1);
      did(m);
      m.useAudioOnly(false);
      return [did(m), m.view().sendsPictures, m.view().partner.audioOnly];""")
    assert seen == [["state to p"], False, True]


def test_a_connection_that_is_opened_anew_still_has_sound_alone_and_another_talk_has_not(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.useAudioOnly(true);
      m.callChanged("failed", 1_000);
      m.callChanged("connecting", 1_500);
      m.callChanged("failed", 2_000);
      const greeting = m.poll().findLast((action) => action.message?.kind === "hello").message;
      const kept = [greeting.camera, greeting.audioOnly, m.view().audioOnly];
      m.hangUp();
      m.join("Dr. Anna Beispiel");
      return [kept, m.view().audioOnly, m.view().sendsPictures];""")
    assert seen == [[False, True, True], False, True]


def test_the_quality_is_shown_only_while_the_connection_stands(run: Run) -> None:
    seen = run("""
      const m = talking();
      m.measured("weak", 1_000);
      const steps = [m.view().quality];
      m.callChanged("disconnected", 2_000);
      steps.push(m.view().quality);
      return steps;""")
    assert seen == ["weak", None]


def test_a_page_from_before_the_update_always_wants_pictures(run: Run) -> None:
    text = json.dumps(json.dumps({"kind": "state", "epoch": EPOCH, "to": EPOCH, "camera": True, "microphone": True}))
    assert run(f"return decodeMessage(new TextEncoder().encode({text})).audioOnly;") is False


# --- the server, and the envelope ---


def test_an_unknown_code_leads_back_to_the_form_and_is_forgotten(run: Run) -> None:
    seen = run("""
      const m = fresh();
      m.join("Petra Muster");
      m.refused({ code: "unknown_code" }, null, 5);
      return [did(m), m.view().phase, m.view().problem.code];""")
    assert seen == [["connect", "disconnect", "stop_media", "forget_session"], "form", "unknown_code"]


@pytest.mark.parametrize("code", ["rate_limited", "overload"])
def test_a_passing_error_forgets_nothing(run: Run, code: str) -> None:
    seen = run(f"""
      const m = fresh();
      m.join("Petra Muster");
      m.refused({{ code: "{code}", retry_after: 6 }}, 6_000, 0);
      const waiting = [did(m), m.view().phase, m.view().problem.retryAt];
      m.refused({{ code: "{code}", retry_after: 6 }}, null, 0);
      return [waiting, did(m), m.view().phase];""")
    assert seen == [[["connect"], "joining", 6_000], ["disconnect", "stop_media"], "form"]


def test_only_who_has_a_seat_to_take_back_returns_by_itself_when_told_to_wait(run: Run) -> None:
    pauses = run("""
      return ["token", null].map((resume) => {
        const { link, sockets: [socket], heard } = client(resume);
        socket.says({ type: "error", code: "rate_limited", retry_after: 6 });
        link.stop();
        return heard[0].slice(0, 2);
      });""")
    assert [name for name, _ in pauses] == ["refused", "refused"]
    assert pauses[0][1] >= 6_000
    assert pauses[1][1] is None


def test_a_waiting_page_looks_after_its_server_and_one_in_a_call_does_not(run: Run) -> None:
    seen = run("""
      const m = alone();
      const probes = [49_999, 50_000, 99_999, 100_000].map((time) => { m.tick(time); return did(m); });
      m.shown();
      const shown = did(m);
      const busy = talking();
      busy.shown();
      busy.tick(200_000);
      return [probes, shown, did(busy)];""")
    assert seen == [[[], ["probe_signaling"], [], ["probe_signaling"]], ["probe_signaling"], []]


def test_a_second_socket_takes_the_seat_before_the_first_one_goes(run: Run) -> None:
    seen = run("""
      const { link, sockets, heard, welcome } = client(null);
      sockets[0].onopen();
      sockets[0].says(welcome);
      link.probe();
      sockets[1].onopen();
      const meanwhile = [sockets[0].closed, [...sockets[1].sent]];
      sockets[0].says({ type: "error", code: "code_in_use" }); // the server has given the seat to the second one
      sockets[1].says(welcome);
      link.send({ type: "paired", peer: "p", ok: true });
      link.stop();
      return [meanwhile, heard.map(([name]) => name), sockets[0].closed, sockets[1].sent.at(-1).type];""")
    join = {"type": "join", "loc": "000000", "resume": "token"}
    assert seen == [[False, [join]], ["joined", "joined"], True, "paired"]


def test_a_crowded_server_keeps_the_present_socket_and_a_silent_one_does_not(run: Run) -> None:
    seen = run("""
      const { link, sockets, heard, welcome } = client(null);
      sockets[0].says(welcome);
      link.probe();
      sockets[1].says({ type: "error", code: "overload", retry_after: 5 });
      link.probe();
      sockets[2].onclose();
      const kept = [sockets[0].closed, heard.length];
      link.probe();
      sockets[3].onclose();
      link.stop();
      return [kept, sockets[0].closed, heard.at(-1)[0]];""")
    assert seen == [[False, 1], True, "away"]


# --- who waits since when ---


def test_the_organiser_sees_since_when_a_verified_participant_waits_until_the_talk_stands(run: Run) -> None:
    seen = run("""
      const m = strict();
      m.join("Dr. Anna Beispiel");
      m.joined(seat("organiser"), 0);
      m.mediaSettled(0);
      const shown = () => m.view().waitingSince;
      m.peer({ pid: "p", role: "participant", present: true, since: "2026-11-22T08:58:00Z" }, 0);
      const steps = [shown()];
      m.verified("p", "123456");
      steps.push(shown());
      m.message("p", hello(PARTNER, epoch(1)), 0);
      steps.push(m.view().call, shown());
      m.callChanged("connected", 0);
      steps.push(shown());
      m.callChanged("disconnected", 9);
      return [...steps, shown()];""")
    since = "2026-11-22T08:58:00Z"
    assert seen == [None, since, "connecting", since, None, None]


def test_nobody_waits_who_came_later_is_gone_or_sits_on_the_own_seat(run: Run) -> None:
    seen = run("""
      const since = "2026-11-22T08:58:00Z";
      const later = alone();
      later.peer({ pid: "p", role: "participant", present: true }, 0);
      const gone = alone();
      gone.peer({ pid: "p", role: "participant", present: true, since }, 0);
      gone.peer({ pid: "p", role: "participant", present: false, since }, 1);
      const rival = alone();
      rival.peer({ pid: "x", role: "organiser", present: true, since }, 0);
      const waiting = alone("participant");
      waiting.peer({ pid: "o", role: "organiser", present: true, since }, 0);
      return [later, gone, rival, waiting].map((m) => m.view().waitingSince);""")
    assert seen == [None] * 4


def test_another_one_at_the_seat_of_the_partner_does_not_wait_instead_of_it(run: Run) -> None:
    seen = run("""
      const m = paired();
      m.peer({ pid: "x", role: "participant", present: true, since: "2026-11-22T08:58:00Z" }, 0);
      return [m.view().call, m.view().waitingSince];""")
    assert seen == ["connecting", None]


@pytest.mark.parametrize(
    ("since", "heard"),
    [
        ("2026-11-22T08:58:00Z", "2026-11-22T08:58:00Z"),
        ("2026-13-45T08:58:00Z", None),
        ("2026-11-22T08:58:00+01:00", None),
        ("22.11.2026 <b>", None),
        ("+275761-01-01T00:00:00Z", None),
        (1_763_800_000, None),
        (["2026-11-22T08:58:00Z"], None),
        (None, None),
    ],
)
def test_an_instant_that_is_none_is_not_heard(run: Run, since: object, heard: str | None) -> None:
    seen = run(f"""
      const {{ link, sockets: [socket], heard, welcome }} = client(null);
      socket.says(welcome);
      socket.says({{ type: "peer", pid: "p", role: "participant", present: true, since: {json.dumps(since)} }});
      link.stop();
      return heard.at(-1)[2].since;""")
    assert seen == heard


# --- credentials that are renewed ---


def test_fresh_servers_are_for_the_living_connection_and_for_later_ones(run: Run) -> None:
    seen = run("""
      const m = talking();
      const servers = [{ urls: "stun:example.org" }];
      m.iceRenewed(servers);
      const actions = m.poll();
      return [actions, m.view().seat.ice];""")
    servers = [{"urls": "stun:example.org"}]
    assert seen == [[{"do": "renew_ice", "servers": servers}], servers]


def test_fresh_servers_wait_for_the_next_connection_where_there_is_none(run: Run) -> None:
    seen = run("""
      const m = alone();
      m.iceRenewed([{ urls: "stun:example.org" }]);
      const done = did(m);
      const ended = talking();
      ended.hangUp();
      ended.poll();
      ended.iceRenewed([{ urls: "stun:example.org" }]);
      return [done, m.view().seat.ice.length, did(ended), ended.view().seat.ice.length];""")
    assert seen == [[], 1, [], 0]


@pytest.mark.parametrize(
    ("joined", "ice", "is_heard"),
    [
        (True, [], True),
        (True, [{"urls": ["stun:example.org"]}] * 8, True),
        (True, [{"urls": ["stun:example.org"]}] * 9, False),
        (True, {"urls": "stun:example.org"}, False),
        (True, None, False),
        (False, [], False),
    ],
)
def test_fresh_servers_are_heard_on_a_seat_and_within_their_bound(
    run: Run, joined: object, ice: object, is_heard: object
) -> None:
    seen = run(f"""
      const {{ link, sockets: [socket], heard, welcome }} = client(null);
      if ({json.dumps(joined)}) socket.says(welcome);
      socket.says({{ type: "ice", ice: {json.dumps(ice)} }});
      link.stop();
      return heard.map(([name]) => name).includes("ice");""")
    assert seen == is_heard


def test_a_probe_that_fails_is_repeated_after_a_pause_and_a_new_network_begins_with_the_shortest_one(
    run: Run,
) -> None:
    seen = run("""
      const pauses = [];
      const native = globalThis.setTimeout;
      globalThis.setTimeout = (run, pause) => { pauses.push(pause); return native(() => {}, 0); };
      try {
        const { link, sockets, welcome } = client(null);
        sockets[0].says(welcome);
        link.probe();
        pauses.length = 0;
        sockets[1].onclose();
        const [afterProbe] = pauses;
        for (let attempt = 0; attempt < 8; attempt += 1) { link.probe(); sockets.at(-1).onclose(); }
        const longest = pauses.at(-1);
        globalThis.dispatchEvent(new Event("online"));
        sockets.at(-1).onclose();
        const first = pauses.at(-1);
        link.stop();
        return [afterProbe <= 500, longest > 5_000, first <= 500, sockets.length];
      } finally {
        globalThis.setTimeout = native;
      }""")
    assert seen == [True, True, True, 11]


@pytest.mark.parametrize(
    "inner",
    [
        None,
        {"kind": "hello", "epoch": EPOCH, "to": None, "name": "\u200b\u3164", "camera": True, "microphone": True},
        {"kind": "hello", "epoch": EPOCH.upper(), "to": None, "name": "X", "camera": True, "microphone": True},
        {"kind": "hello", "epoch": EPOCH, "to": "short", "name": "X", "camera": True, "microphone": True},
        {"kind": "hello", "epoch": EPOCH, "to": None, "name": "X", "camera": 1, "microphone": True},
        {"kind": "description", "epoch": EPOCH, "to": EPOCH, "type": "rollback", "sdp": ""},
        {"kind": "description", "epoch": EPOCH, "to": EPOCH, "type": "offer", "sdp": "v" * 40_001},
        {"kind": "candidate", "epoch": EPOCH, "to": EPOCH, "candidate": {}},
        {"kind": "candidate", "epoch": EPOCH, "to": EPOCH, "candidate": "", "sdpMLineIndex": -1},
        {
            "kind": "hello",
            "epoch": EPOCH,
            "to": None,
            "name": "X",
            "camera": True,
            "microphone": True,
            "audioOnly": None,
        },
        {"kind": "state", "epoch": EPOCH, "to": EPOCH, "camera": True},
        {"kind": "state", "epoch": EPOCH, "to": EPOCH, "camera": True, "microphone": True, "audioOnly": "yes"},
        {"kind": "bye", "epoch": EPOCH},
        {"kind": "__proto__", "epoch": EPOCH, "to": EPOCH},
    ],
)
def test_a_hostile_message_opens_to_nothing(run: Run, inner: object) -> None:
    text = json.dumps(json.dumps(inner, ensure_ascii=True))
    assert run(f"return decodeMessage(new TextEncoder().encode({text}));") is None


def test_only_utf_8_within_the_bound_of_the_server_is_opened(run: Run) -> None:
    seen = run("""
      const bye = JSON.stringify({ kind: "bye", epoch: epoch(1), to: epoch(2) });
      const padded = (length) => new TextEncoder().encode(bye.padEnd(length, " "));
      const broken = Uint8Array.from([...padded(100), 0xff]);
      return [decodeMessage(padded(48_000))?.kind, decodeMessage(padded(48_001)), decodeMessage(broken)];""")
    assert seen == ["bye", None, None]
