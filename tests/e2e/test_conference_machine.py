"""The state machine of a conference page, in a real browser but without socket, clock, connection or anything to see.

A test is a few lines of JavaScript that tell the machine what happens and when, and Python that judges what it did.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.browser import Participant
from tests.support.service import Service

Run = Callable[[str], Any]

# `m` is the machine of one page, `did` what it has ordered since the last look. Own epoch is 1; that of the one with
# index n is `theirs(n)`, its pid `p` and the number.
BENCH = """async () => {
  const { ConferenceMachine } = await import("/js/conference/conference_machine.js");
  const { decodeSealed } = await import("/js/conference/sealed_messages.js");
  const { readServerMessage } = await import("/js/conference/server_messages.js");
  const { arrange } = await import("/js/conference/tile_layout.js");
  const { encodeMessage } = await import("/js/envelope.js");
  const epoch = (sign) => String(sign).padStart(32, "0");
  const theirs = (index) => epoch(`a${index}`);
  const OWN = epoch(1);
  const roleOf = (index) => (index === 0 ? "organiser" : "participant");
  const seat = (index, admitted, pid = "me") => ({
    room: "r", pid, role: roleOf(index), tier: "plus", features: [], start: "", end: "", resume: "t", ice: [],
    conference: { index, limit: 8, admitted, locked: false, candidates: [] },
  });
  const media = { camera: true, microphone: true, screen: false };
  const hello = (index, to = OWN) => ({ kind: "hello", epoch: theirs(index), to, name: `Person ${index}`, ...media });
  const word = ({ do: what, ...rest }) => {
    const { type, peer, ok } = rest.message ?? {};
    if (what === "tell") return [type, peer, ok].filter((word) => word !== undefined).join(" ");
    if (what === "send") return `${rest.message.kind} to ${rest.to}`;
    if (what === "agree") return `agree ${rest.peer} as ${rest.isA ? "A" : "B"}`;
    if (what === "paired") return `paired ${rest.peer} ${rest.ok}`;
    if (what === "key") return rest.action.do;
    if (what === "disconnect") return rest.leave ? "leave" : "disconnect";
    return rest.peer ? `${what} ${rest.peer}` : what;
  };
  const did = (m) => m.poll().map(word);
  let drawn = 0;
  /** As the server has just said it: before the devices are open. */
  const fresh = (index = 0, admitted = true) => {
    const drawBase = () => new Uint8Array(32).fill(++drawn);
    const m = new ConferenceMachine({ seat: seat(index, admitted), name: "Ich", drawEpoch: () => OWN, drawBase });
    m.joined(seat(index, admitted), 0);
    return m;
  };
  /** In it, devices settled, nothing else happened yet. */
  const inside = (index = 0, admitted = true) => {
    const m = fresh(index, admitted);
    m.sourcesChanged(media);
    m.mediaSettled(0);
    m.poll();
    return m;
  };
  const announce = (m, index, now, admitted = true, pid = `p${index}`) =>
    m.peer({ pid, role: roleOf(index), present: true, index, admitted }, now);
  /** Somebody is announced, has the same secret, and says hello. */
  const meet = (m, index, now, admitted = true) => {
    announce(m, index, now, admitted);
    m.verified(`p${index}`, "123456", now);
    m.message(`p${index}`, hello(index), now);
  };
  const says = (m, index, kind, now, more = {}) =>
    m.message(`p${index}`, { kind, epoch: theirs(index), to: OWN, ...more }, now);
  const key = (index, generation = 0) => ({ kid: index * 256 + generation, base: "A".repeat(42) + "A" });
  const run = (m, until) => { while (m.deadline !== null && m.deadline <= until) m.tick(m.deadline); };
  const people = (m) => m.view().conference.people.map(({ name }) => name);
  window.bench = { decodeSealed, readServerMessage, arrange, encodeMessage, theirs, OWN, seat, media, hello,
    did, fresh, inside, announce, meet, says, key, run, people };
}"""
NAMES = (
    "{ decodeSealed, readServerMessage, arrange, encodeMessage, theirs, OWN, seat, media, hello,"
    " did, fresh, inside, announce, meet, says, key, run, people }"
)


@pytest.fixture(scope="module")
def run(browser: Browser, service: Service) -> Iterator[Run]:
    """Runs the body of a function in the page, with the names of the bench."""
    visitor = Participant(browser)
    visitor.open(service.create_appointment().organiser_link.partition("#")[0])
    visitor.page.evaluate(BENCH)
    yield lambda body: visitor.page.evaluate(f"() => {{ const {NAMES} = window.bench; {body} }}")
    visitor.close()


# --- lobby ---


def test_who_waits_agrees_with_the_organiser_and_says_its_name_but_sends_no_media(run: Run) -> None:
    seen = run("""
      const m = inside(2, false);
      announce(m, 0, 0);
      m.verified("p0", "123456", 0);
      m.message("p0", hello(0), 0);
      return [did(m), m.view().call, m.view().conference.admitted, people(m)];""")
    assert seen == [["agree p0 as B", "paired p0 true", "hello to p0"], "none", False, []]


def test_who_is_admitted_publishes_and_tells_its_key_to_those_it_meets(run: Run) -> None:
    seen = run("""
      const m = inside(2, false);
      meet(m, 0, 0);
      did(m);
      m.server({ type: "admitted" }, 5);
      const first = did(m);
      meet(m, 1, 6);
      return [first, did(m), people(m)];""")
    first, second, people = seen
    assert "open_publish" in first
    assert "senderkey to p0" in first
    assert second[:3] == ["agree p1 as B", "paired p1 true", "hello to p1"]
    assert people == ["Person 0", "Person 1"]


def test_an_organiser_sees_in_the_lobby_only_who_has_proved_the_secret_and_said_its_name(run: Run) -> None:
    seen = run("""
      const m = inside();
      announce(m, 1, 0, false);
      const names = () => m.view().conference.lobby.map(({ name }) => name);
      const seen = [names()];
      m.verified("p1", "123456", 0);
      seen.push(names());
      m.message("p1", hello(1), 0);
      return [...seen, names(), people(m)];""")
    assert seen == [[], [], ["Person 1"], []]


def test_nobody_waiting_hears_a_key_of_media(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0, false);
      run(m, 5_000);
      return did(m).filter((each) => each.startsWith("senderkey"));""")
    assert seen == []


def test_the_organiser_admits_or_refuses_only_whom_it_knows(run: Run) -> None:
    seen = run("""
      const m = inside();
      announce(m, 1, 0, false);
      did(m);
      m.admit("p1", true); // it has not proved anything yet
      meet(m, 2, 0, false);
      did(m);
      m.admit("p2", false);
      const participant = inside(1);
      meet(participant, 2, 0, false);
      did(participant);
      participant.admit("p2", true);
      return [did(m), did(participant)];""")
    assert seen == [["admit p2 false"], []]


def test_who_was_let_in_and_is_forgotten_by_the_server_is_let_in_again_with_the_same_page_only(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0, false);
      announce(m, 1, 1);
      meet(m, 2, 1, false); // waits, and nobody has let it in
      m.joined(seat(0, true, "me again"), 10);
      did(m);
      const back = (pid, index, words) => {
        announce(m, index, 11, false, pid);
        m.verified(pid, "123456", 11);
        m.message(pid, words, 11);
        return did(m).filter((each) => each.startsWith("admit"));
      };
      return [
        back("new 1", 1, hello(1)),
        back("new 2", 2, hello(2)),
        back("other page", 1, { ...hello(1), epoch: theirs(9) }),
        back("other seat", 3, { ...hello(3), epoch: theirs(1) }),
      ];""")
    assert seen == [["admit new 1 true"], [], [], []]


def test_who_was_removed_is_not_let_in_again_by_itself(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0, false);
      announce(m, 1, 1);
      m.remove("p1", 2);
      did(m);
      announce(m, 1, 3, false, "new 1");
      m.verified("new 1", "123456", 3);
      m.message("new 1", hello(1), 3);
      return did(m).filter((each) => each.startsWith("admit"));""")
    assert seen == []


# Somebody of seat `index` waits under another pid and says the epoch that was let in there before.
COMES_BACK = """
  const comesBack = (m, index, now, pid = `new ${index}`) => {
    did(m);
    announce(m, index, now, false, pid);
    m.verified(pid, "123456", now);
    m.message(pid, hello(index), now);
    return did(m).filter((each) => each.startsWith("admit"));
  };"""


def test_an_organiser_who_finds_that_others_were_let_in_without_it_lets_nobody_in_by_itself(run: Run) -> None:
    seen = run(f"""{COMES_BACK}
      const returned = (others) => {{
        const m = inside();
        for (const index of [1, 3]) meet(m, index, 0);
        m.joined(seat(0, true, "me again"), 60_000);
        for (const index of others) announce(m, index, 60_000);
        return comesBack(m, 3, 60_001);
      }};
      return [returned([]), returned([1])];""")
    assert seen == [["admit new 3 true"], []]  # without the first one the second would say nothing


def test_who_stands_in_again_does_not_let_in_by_itself_whom_the_organiser_may_have_removed_meanwhile(run: Run) -> None:
    seen = run(f"""{COMES_BACK}
      const stoodIn = (returns) => {{
        const m = inside(1);
        meet(m, 0, 0);
        says(m, 0, "bye", 1);
        m.server({{ type: "stand_in", pid: "me" }}, 2);
        meet(m, 3, 3, false);
        announce(m, 3, 4);
        if (returns) {{
          m.server({{ type: "stand_in" }}, 5);
          meet(m, 0, 5);
          says(m, 0, "bye", 6);
          m.server({{ type: "stand_in", pid: "me" }}, 7);
        }}
        m.peer({{ pid: "p3", role: "participant", present: false }}, 8);
        run(m, 60_000);
        return comesBack(m, 3, 60_000);
      }};
      return [stoodIn(false), stoodIn(true)];""")
    assert seen == [["admit new 3 true"], []]


def test_who_was_refused_is_not_let_in_by_itself_the_next_time(run: Run) -> None:
    seen = run(f"""{COMES_BACK}
      const m = inside();
      meet(m, 3, 0);
      m.joined(seat(0, true, "me again"), 60_000);
      announce(m, 3, 60_000, false, "other page");
      m.verified("other page", "123456", 60_000);
      m.message("other page", {{ ...hello(3), epoch: theirs(9) }}, 60_000);
      m.admit("other page", false);
      return comesBack(m, 3, 60_001);""")
    assert seen == []


def test_who_has_said_goodbye_is_not_let_in_again_by_itself(run: Run) -> None:
    seen = run(f"""{COMES_BACK}
      const m = inside();
      meet(m, 3, 0);
      says(m, 3, "bye", 1);
      return comesBack(m, 3, 2);""")
    assert seen == []


def test_nobody_is_let_in_by_the_epoch_of_somebody_who_is_only_away_for_a_moment(run: Run) -> None:
    seen = run(f"""{COMES_BACK}
      const m = inside();
      meet(m, 3, 0);
      m.peer({{ pid: "p3", role: "participant", present: false }}, 1_000);
      const away = comesBack(m, 3, 2_000, "somebody");
      run(m, 60_000);
      return [away, comesBack(m, 3, 60_000)];""")
    assert seen == [[], ["admit new 3 true"]]


def test_who_has_the_number_of_somebody_else_is_not_the_one_who_is_let_in_again(run: Run) -> None:
    seen = run(f"""{COMES_BACK}
      const m = inside();
      meet(m, 3, 0);
      announce(m, 3, 1, false, "twin");
      m.verified("twin", "654321", 1);
      m.message("twin", {{ ...hello(3), epoch: theirs(9) }}, 1);
      announce(m, 3, 2, true, "twin");
      m.joined(seat(0, true, "me again"), 60_000);
      return comesBack(m, 3, 60_001);""")
    assert seen == ["admit new 3 true"]


def test_a_channel_from_the_lobby_serves_on_after_admission(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0, false);
      did(m);
      announce(m, 1, 10);
      return did(m);""")
    assert not [order for order in seen if order.startswith("agree")]
    assert "senderkey to p1" in seen


@pytest.mark.parametrize("code", ["refused", "removed", "locked", "room_full", "code_in_use"])
def test_whoever_is_sent_away_is_back_at_the_form_and_told_why(run: Run, code: str) -> None:
    seen = run(f"""
      const m = inside(1);
      meet(m, 0, 0);
      did(m);
      m.refused({{ code: "{code}", limit: 8 }}, null, 5);
      return [m.view().phase, m.view().problem.code, did(m), m.deadline];""")
    assert seen == ["form", code, ["close_conference", "disconnect", "stop_media", "forget_session"], None]


def test_an_overloaded_server_ends_nothing(run: Run) -> None:
    seen = run("""
      const m = inside(1);
      m.refused({ code: "overload" }, 10_000, 5);
      return [m.view().phase, m.view().signalingAway];""")
    assert seen == ["room", True]


# --- who is A ---


def test_the_one_with_the_smaller_index_is_a(run: Run) -> None:
    seen = run("""
      const m = inside(2);
      for (const index of [0, 1, 3]) announce(m, index, 0);
      return did(m);""")
    assert seen == ["agree p0 as B", "agree p1 as B", "agree p3 as A"]


# --- keys of media ---


def test_keys_are_taken_of_those_who_are_admitted_and_under_their_own_index(run: Run) -> None:
    seen = run("""
      const m = inside(1);
      meet(m, 2, 0);
      did(m);
      says(m, 2, "senderkey", 1, key(3));
      const foreign = did(m);
      says(m, 2, "senderkey", 1, key(2));
      return [foreign, did(m)];""")
    assert seen == [[], ["receive_with"]]


def test_a_key_that_comes_before_the_word_of_the_admission_is_kept(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0, false);
      says(m, 1, "senderkey", 1, key(1));
      did(m);
      announce(m, 1, 2);
      return did(m).includes("receive_with");""")
    assert seen is True


def test_a_second_one_with_the_same_index_hears_no_key(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      did(m);
      announce(m, 1, 1, true, "twin");
      m.verified("twin", "654321", 1);
      m.message("twin", hello(1), 1);
      run(m, 3_000);
      return did(m).filter((each) => each.endsWith("to twin"));""")
    assert seen == ["hello to twin"]


def test_a_second_one_with_the_same_index_is_a_stranger_and_not_listed_by_its_name(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      announce(m, 1, 1, true, "twin");
      m.verified("twin", "654321", 1);
      m.message("twin", { ...hello(1), epoch: theirs(9), name: "Twin" }, 1);
      return [people(m), m.view().conference.strangers, m.keyIndexOf("p1"), m.keyIndexOf("twin")];""")
    assert seen == [["Person 1"], 1, 1, None]


def test_whose_number_goes_to_somebody_else_has_no_keys_under_it_any_more(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 3, 0);
      const before = m.keyIndexOf("p3");
      announce(m, 4, 1, true, "p3");
      const unproved = m.keyIndexOf("p3");
      m.verified("p3", "123456", 1);
      m.message("p3", hello(3), 1);
      announce(m, 3, 2, true, "other");
      m.verified("other", "654321", 2);
      m.message("other", { ...hello(3), epoch: theirs(9) }, 2);
      return [before, unproved, m.keyIndexOf("p3"), m.keyIndexOf("other")];""")
    assert seen == [3, None, 4, 3]


def test_who_says_goodbye_is_gone_at_once_and_everybody_else_gets_a_new_key(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      meet(m, 2, 0);
      run(m, 5_000);
      did(m);
      says(m, 1, "bye", 5_000);
      run(m, 8_000);
      return [people(m), did(m)];""")
    people, orders = seen
    assert people == ["Person 2"]
    assert orders[0] == "close_channel p1"
    assert [order for order in orders if order.startswith("senderkey")] == ["senderkey to p2"]
    assert "send_with" in orders


def test_who_is_silent_keeps_its_place_for_as_long_as_the_server_keeps_its_seat(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      run(m, 3_000);
      m.peer({ pid: "p1", role: "participant", present: false }, 3_000);
      did(m);
      const here = m.view().conference.people[0].here;
      run(m, 32_999);
      const before = people(m);
      run(m, 33_000);
      return [here, before, people(m), did(m).includes("close_channel p1")];""")
    assert seen == [False, ["Person 1"], [], True]


def test_a_key_that_was_used_is_not_said_again_who_comes_back_in_time_and_all_others_hear_a_new_one(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      meet(m, 2, 0);
      run(m, 5_000);
      m.peer({ pid: "p1", role: "participant", present: false }, 6_000);
      did(m);
      meet(m, 1, 7_000);
      run(m, 12_000);
      return did(m).filter((each) => each.startsWith("senderkey"));""")
    assert sorted(seen) == ["senderkey to p1", "senderkey to p2"]


# --- what the sealed channel says ---


def test_names_and_mute_states_come_from_the_sealed_channel_and_for_this_page_only(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      const muted = () => m.view().conference.people[0].microphone;
      m.message("p1", { kind: "state", epoch: theirs(1), to: theirs(9), ...media, microphone: false }, 1);
      const other = muted();
      says(m, 1, "state", 1, { ...media, microphone: false });
      return [other, muted()];""")
    assert seen == [True, False]


def test_a_change_of_the_own_microphone_is_told_to_everybody(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      meet(m, 2, 0);
      did(m);
      m.sourcesChanged({ ...media, microphone: false });
      return did(m);""")
    assert seen == ["state to p1", "state to p2"]


def test_an_organiser_can_ask_to_mute_and_nobody_else_can(run: Run) -> None:
    seen = run("""
      const m = inside(1);
      meet(m, 0, 0);
      meet(m, 2, 0);
      says(m, 2, "mute", 1);
      const byParticipant = m.view().conference.muteAskedBy;
      says(m, 0, "mute", 1);
      const byOrganiser = m.view().conference.muteAskedBy;
      did(m);
      m.askToMute("p2");
      return [byParticipant, byOrganiser, did(m)];""")
    assert seen == [None, "Person 0", []]


def test_a_request_to_mute_is_over_when_the_microphone_is_off(run: Run) -> None:
    seen = run("""
      const m = inside(1);
      meet(m, 0, 0);
      says(m, 0, "mute", 1);
      m.sourcesChanged({ ...media, microphone: false });
      const after = m.view().conference.muteAskedBy;
      says(m, 0, "mute", 2);
      return [after, m.view().conference.muteAskedBy];""")
    assert seen == [None, None]


def test_who_is_removed_is_gone_for_everybody_at_once(run: Run) -> None:
    seen = run("""
      const organiser = inside();
      for (const index of [1, 2]) meet(organiser, index, 0);
      did(organiser);
      organiser.remove("p1", 1);
      const participant = inside(2);
      for (const index of [0, 1]) meet(participant, index, 0);
      says(participant, 0, "removed", 1, { pid: "p1" });
      const untouched = inside(2);
      for (const index of [0, 1, 3]) meet(untouched, index, 0);
      says(untouched, 3, "removed", 1, { pid: "p1" }); // who may not remove, removes nobody
      return [did(organiser), people(organiser), people(participant), people(untouched)];""")
    orders, *seen_people = seen
    assert orders[:3] == ["remove p1", "removed to p2", "close_channel p1"]
    assert seen_people == [["Person 2"], ["Person 0"], ["Person 0", "Person 1", "Person 3"]]


@pytest.mark.parametrize(
    "said",
    [
        "{}",
        "null",
        "{ kind: 'hello', epoch: OWN, to: null, name: ' ', ...media }",
        "{ kind: 'hello', epoch: OWN, to: 5, name: 'A', ...media }",
        "{ kind: 'state', epoch: OWN, to: OWN, camera: 1, microphone: true, screen: true }",
        "{ kind: 'senderkey', epoch: OWN, to: OWN, kid: 70000, base: 'A'.repeat(43) }",
        "{ kind: 'removed', epoch: OWN, to: OWN }",
        "{ kind: 'unheard', epoch: OWN, to: OWN }",
        "{ kind: 'mute', epoch: OWN, to: null }",
        "{ kind: 'bye', epoch: OWN, to: OWN, pad: 'x'.repeat(5000) }",
    ],
)
def test_what_does_not_follow_the_protocol_is_not_heard(run: Run, said: str) -> None:
    assert run(f"return decodeSealed(encodeMessage({said}));") is None


def test_a_well_formed_message_is_heard_without_what_does_not_belong_to_it(run: Run) -> None:
    seen = run("return decodeSealed(encodeMessage({ kind: 'mute', epoch: OWN, to: OWN, extra: 1 }));")
    assert sorted(seen) == ["epoch", "kind", "to"]


@pytest.mark.parametrize(
    "said",
    [
        "{ type: 'locked' }",
        "{ type: 'stand_in', pid: '<' }",
        "{ type: 'stand_in', pid: null }",
        "{ type: 'published', sdp: 'x'.repeat(60_001), version: 1 }",
        "{ type: 'published', sdp: 'v=0' }",
        "{ type: 'subscribe', sdp: '', version: 1, tracks: { 0: { pid: '<', source: 'camera' } } }",
        "{ type: 'subscribe', sdp: '', version: 1, tracks: { 0: { pid: 'p', source: 'ear' } } }",
        "{ type: 'subscribe', sdp: '', version: 1, tracks: [] }",
        "{ type: 'speakers', pids: ['a', 'b', 'c', 'd'] }",
        "{ type: 'layers', unwanted: ['z'] }",
        "{ type: 'media', side: 'publish', state: 'odd' }",
        "{ type: 'unheard' }",
    ],
)
def test_what_the_server_says_against_the_protocol_is_not_heard(run: Run, said: str) -> None:
    assert run(f"return readServerMessage({said});") is None


# --- who stands in for the organiser ---


def test_a_stand_in_decides_as_soon_as_the_organiser_has_taken_leave_and_no_longer_than_until_it_is_back(
    run: Run,
) -> None:
    seen = run("""
      const m = inside(1);
      for (const index of [0, 2]) meet(m, index, 0);
      const decides = () => m.view().conference.organiser;
      m.server({ type: "stand_in", pid: "me" }, 1);
      const seen = [decides()]; // the organiser is here: whatever the server says
      says(m, 0, "bye", 2);
      seen.push(decides());
      did(m);
      meet(m, 3, 3, false);
      const lobby = m.view().conference.lobby.map(({ name }) => name);
      did(m);
      m.admit("p3", true);
      m.lock(true);
      m.askToMute("p2");
      m.remove("p2", 4);
      const orders = did(m);
      m.server({ type: "stand_in" }, 5);
      seen.push(decides());
      m.admit("p3", true);
      return [seen, lobby, orders.slice(0, 4), did(m).filter((each) => each.startsWith("admit"))];""")
    orders = ["admit p3 true", "lock", "mute to p2", "remove p2"]
    assert seen == [[False, True, False], ["Person 3"], orders, []]


def test_the_word_of_a_stand_in_counts_only_without_an_organiser(run: Run) -> None:
    seen = run("""
      const m = inside(1);
      for (const index of [0, 2, 3]) meet(m, index, 0);
      const asked = () => m.view().conference.muteAskedBy;
      m.server({ type: "stand_in", pid: "p2" }, 1);
      says(m, 2, "mute", 1);
      says(m, 2, "removed", 1, { pid: "p3" });
      const before = [asked(), people(m).length];
      says(m, 0, "bye", 2);
      says(m, 3, "mute", 3); // who does not stand in
      const stranger = asked();
      says(m, 2, "mute", 3);
      says(m, 2, "removed", 3, { pid: "p3" });
      const roles = m.view().conference.people.map(({ name, role }) => [name, role]);
      return [before, stranger, asked(), roles];""")
    assert seen == [[None, 3], None, "Person 2", [["Person 2", "organiser"]]]


def test_an_organiser_who_only_falls_silent_is_not_stood_in_for_until_it_is_taken_for_gone(run: Run) -> None:
    seen = run("""
      const m = inside(1);
      meet(m, 0, 0);
      m.server({ type: "stand_in", pid: "me" }, 1_000);
      m.peer({ pid: "p0", role: "organiser", present: false }, 1_000);
      const decides = () => m.view().conference.organiser;
      run(m, 30_999);
      const before = decides();
      run(m, 31_000);
      const after = decides();
      meet(m, 0, 32_000);
      return [before, after, decides()];""")
    assert seen == [False, True, False]


def test_an_organiser_takes_no_word_of_a_stand_in(run: Run) -> None:
    seen = run("""
      const m = inside();
      for (const index of [1, 2]) meet(m, index, 0);
      m.server({ type: "stand_in", pid: "p1" }, 1);
      says(m, 1, "mute", 2);
      says(m, 1, "removed", 2, { pid: "p2" });
      return [m.view().conference.muteAskedBy, people(m), m.view().conference.organiser];""")
    assert seen == [None, ["Person 1", "Person 2"], True]


def test_who_waits_stands_in_for_nobody(run: Run) -> None:
    seen = run("""
      const m = inside(1, false);
      m.server({ type: "stand_in", pid: "me" }, 1);
      return m.view().conference.organiser;""")
    assert seen is False


# --- what the server may not do with its word ---


def test_who_is_said_to_wait_again_hears_no_further_key_and_is_listed_in_the_lobby_only(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      meet(m, 2, 0);
      run(m, 5_000);
      did(m);
      announce(m, 1, 5_000, false);
      m.verified("p1", "123456", 5_000);
      m.message("p1", hello(1), 5_000);
      run(m, 8_000);
      const orders = did(m);
      return [people(m), orders.filter((each) => each.startsWith("senderkey")), orders.includes("send_with")];""")
    assert seen == [["Person 2"], ["senderkey to p2"], True]


def test_who_is_told_to_wait_again_sends_nothing_any_more_and_tells_no_key(run: Run) -> None:
    seen = run("""
      const m = inside(1);
      meet(m, 0, 0);
      meet(m, 2, 0);
      m.sideChanged("publish", "connected", 0);
      did(m);
      m.joined(seat(1, false), 5_000);
      const orders = did(m);
      run(m, 8_000);
      return [orders, people(m), did(m).filter((each) => each.startsWith("senderkey"))];""")
    closed = ["close_conference", "close_channel p0", "close_channel p2"]
    assert seen == [["renew_ice", "show_ending", *closed], [], []]


def test_who_gets_another_role_from_the_server_has_to_prove_itself_in_it(run: Run) -> None:
    seen = run("""
      const m = inside(1);
      meet(m, 2, 0);
      meet(m, 3, 0);
      did(m);
      m.peer({ pid: "p2", role: "organiser", present: true, index: 2, admitted: true }, 1);
      says(m, 2, "mute", 2);
      says(m, 2, "removed", 2, { pid: "p3" });
      return [m.view().conference.muteAskedBy, people(m), did(m).slice(0, 1)];""")
    assert seen == [None, ["Person 3"], ["close_channel p2"]]


def test_a_page_whose_own_role_changes_goes_no_further(run: Run) -> None:
    seen = run("""
      const m = inside(1);
      m.joined({ ...seat(1, true), role: "organiser" }, 5);
      return [m.view().phase, m.view().problem.code];""")
    assert seen == ["form", "unexpected"]


@pytest.mark.parametrize("role", ["organise", "participantx", ""])
def test_nobody_has_a_role_that_there_is_not(run: Run, role: str) -> None:
    assert (
        run(f"""
      const m = inside();
      m.peer({{ pid: "p1", role: "{role}", present: true, index: 1, admitted: true }}, 0);
      return did(m);""")
        == []
    )


def test_a_name_without_a_channel_is_given_up_after_thirty_seconds_whatever_the_server_says(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      meet(m, 2, 0);
      run(m, 5_000);
      m.renewed("p1", 5_000);
      for (let at = 6_000; at < 35_000; at += 1_000) announce(m, 1, at); // here, the server says again and again
      run(m, 34_999);
      const before = people(m);
      did(m);
      run(m, 38_000);
      return [before, people(m), did(m).filter((each) => each.startsWith("senderkey"))];""")
    assert seen == [["Person 1", "Person 2"], ["Person 2"], ["senderkey to p2"]]


def test_who_was_given_up_is_known_again_once_it_has_proved_itself(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      m.renewed("p1", 5_000);
      run(m, 36_000);
      const without = people(m);
      did(m);
      m.verified("p1", "123456", 36_001);
      m.message("p1", hello(1), 36_001);
      run(m, 39_000);
      return [without, people(m), did(m).includes("senderkey to p1")];""")
    assert seen == [[], ["Person 1"], True]


def test_who_was_removed_does_not_come_back_by_the_word_of_the_server(run: Run) -> None:
    seen = run("""
      const organiser = inside();
      for (const index of [1, 2]) meet(organiser, index, 0);
      organiser.remove("p1", 1);
      did(organiser);
      announce(organiser, 1, 2);
      const participant = inside(2);
      for (const index of [0, 1]) meet(participant, index, 0);
      says(participant, 0, "removed", 1, { pid: "p1" });
      did(participant);
      announce(participant, 1, 2);
      return [did(organiser), people(organiser), did(participant), people(participant)];""")
    assert seen == [["remove p1"], ["Person 2"], [], ["Person 0"]]


def test_who_takes_the_seat_of_somebody_who_is_away_gets_keys_as_soon_as_it_is_admitted(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      run(m, 5_000);
      m.peer({ pid: "p1", role: "participant", present: false }, 5_000);
      announce(m, 1, 6_000, false, "again");
      m.verified("again", "654321", 6_000);
      m.message("again", { ...hello(1), epoch: theirs(9) }, 6_000);
      did(m);
      announce(m, 1, 7_000, true, "again");
      run(m, 9_000);
      return [people(m), did(m).includes("senderkey to again")];""")
    assert seen == [["Person 1"], True]


def test_hellos_of_ever_new_pages_by_one_channel_make_no_new_keys(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      run(m, 5_000);
      did(m);
      for (let n = 0; n < 5; n += 1) m.message("p1", { ...hello(1), epoch: theirs(`f${n}`), name: "Else" }, 5_000 + n);
      run(m, 9_000);
      return [people(m), did(m)];""")
    assert seen == [["Person 1"], []]


def test_of_keys_that_come_before_the_admission_is_known_the_newest_are_kept(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0, false);
      for (let generation = 0; generation < 6; generation += 1) says(m, 1, "senderkey", 1, key(1, generation));
      m.poll();
      announce(m, 1, 2);
      return m.poll().filter(({ action }) => action?.do === "receive_with").map(({ action }) => action.kid);""")
    assert seen == [258, 259, 260, 261]


# --- safety codes ---


def test_a_safety_code_that_was_compared_counts_for_its_channel_only(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      const code = () => m.view().conference.people.map(({ safetyCode, compared }) => [safetyCode, compared])[0];
      m.compare("p1", true);
      const seen = [code()];
      m.renewed("p1", 1);
      seen.push(code());
      m.compare("p1", true); // there is nothing to compare
      m.verified("p1", "654321", 2);
      return [...seen, code()];""")
    assert seen == [["123456", True], ["", False], ["654321", False]]


# --- guesses ---


def test_three_failures_close_one_seat_and_not_the_conference(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      announce(m, 2, 0, false);
      for (let n = 0; n < 3; n += 1) m.unverified("p2", n);
      did(m);
      announce(m, 2, 10, false);
      const guesser = did(m);
      announce(m, 3, 10, false);
      return [guesser, did(m), m.view().phase];""")
    assert seen == [[], ["agree p3 as A"], "room"]


def test_a_participant_who_cannot_agree_with_the_organiser_is_told(run: Run) -> None:
    seen = run("""
      const m = inside(1, false);
      announce(m, 0, 0);
      for (let n = 0; n < 3; n += 1) m.unverified("p0", n);
      return [m.view().phase, m.view().problem.code];""")
    assert seen == ["form", "unverified"]


def test_sixty_guesses_at_all_seats_together_end_all_agreeing(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      for (let index = 2; index < 22; index += 1) {
        announce(m, index, 0, false);
        for (let n = 0; n < 3; n += 1) m.unverified(`p${index}`, n);
      }
      const orders = did(m);
      announce(m, 30, 5, false);
      return [orders.filter((each) => each === "agree_no_more").length > 0, did(m), people(m)];""")
    assert seen == [True, [], ["Person 1"]]


def test_agreements_that_the_other_side_begins_are_bounded_too(run: Run) -> None:
    seen = run("""
      const m = inside();
      announce(m, 1, 0);
      for (let n = 0; n < 999; n += 1) { m.verified("p1", "123456", n); m.renewed("p1", n); }
      const before = did(m).includes("close_channel p1");
      m.verified("p1", "123456", 1_000);
      m.renewed("p1", 1_000);
      return [before, did(m).at(-1)];""")
    assert seen == [False, "close_channel p1"]


# --- connections ---


def test_nothing_is_published_before_the_devices_are_settled_or_eight_seconds_have_passed(run: Run) -> None:
    seen = run("""
      const m = fresh();
      const orders = [did(m)];
      for (const time of [7_999, 8_000]) { m.tick(time); orders.push(did(m)); }
      return orders;""")
    first, before, after = seen
    assert "open_publish" not in first + before
    assert after == ["open_publish"]


def test_a_side_that_fails_is_begun_anew_and_after_three_times_the_person_is_told(run: Run) -> None:
    seen = run("""
      const m = inside();
      const orders = [];
      for (let n = 0; n < 3; n += 1) {
        m.server({ type: "media", side: "publish", state: "failed" }, n * 10_000);
        run(m, n * 10_000 + 5_000);
        orders.push(did(m));
      }
      const told = m.view().call;
      m.tryAgain(40_000);
      return [orders, told, did(m), m.view().call];""")
    assert seen == [[["open_publish"], ["open_publish"], []], "no_path", ["open_publish"], "connecting"]


def test_a_side_that_has_moved_to_another_worker_is_begun_anew_at_once_and_counts_as_no_failure(run: Run) -> None:
    orders, view, late = run("""
      const m = inside();
      m.sideChanged("publish", "connected", 100);
      m.poll();
      const orders = [];
      for (let n = 0; n < 5; n += 1) {
        m.server({ type: "media", side: "publish", state: "failed", reason: "moved" }, 1_000 + n);
        orders.push(did(m));
      }
      const view = m.view().call;
      run(m, 17_500);
      return [orders, view, did(m)];""")
    assert orders == [["open_publish"]] * 5
    assert view == "connected"
    assert late == ["open_publish"]  # what took its place has not come about


def test_a_connection_in_place_of_one_that_stands_has_its_time_like_the_first_one(run: Run) -> None:
    seen = run("""
      const m = inside();
      m.server({ type: "subscribe", sdp: "", version: 1, tracks: {} }, 0);
      for (const side of ["publish", "subscribe"]) m.sideChanged(side, "connected", 0);
      m.sideChanged("subscribe", "replaced", 1_000);
      did(m);
      const shown = m.view().call;
      run(m, 15_900);
      const early = did(m);
      run(m, 17_100);
      return [shown, early, did(m)];""")
    assert seen == ["connected", [], ["restart"]]


def test_how_long_the_server_goes_on_is_shown_unless_it_says_nonsense(run: Run) -> None:
    orders = run("""
      const m = inside();
      for (const seconds of [0, 90, 86_400, 86_401, -1, 1.5, "90", null]) m.server({ type: "ending", seconds }, 1);
      return m.poll().filter((action) => action.do === "show_ending").map((action) => action.seconds);""")
    assert orders == [0, 90, 86_400]


def test_an_attempt_without_an_answer_is_a_failure(run: Run) -> None:
    seen = run("""
      const m = inside();
      run(m, 17_000);
      return did(m);""")
    assert "open_publish" in seen


def test_an_interruption_is_mended_by_new_paths_after_three_seconds(run: Run) -> None:
    seen = run("""
      const m = inside();
      m.server({ type: "subscribe", sdp: "", version: 1, tracks: {} }, 0);
      for (const side of ["publish", "subscribe"]) m.sideChanged(side, "connected", 0);
      const before = m.view().call;
      did(m);
      for (const side of ["publish", "subscribe"]) m.sideChanged(side, "disconnected", 1_000);
      const during = m.view().call;
      const at = did(m);
      run(m, 4_000);
      return [before, during, at, did(m)];""")
    assert seen == ["connected", "interrupted", ["probe_signaling"] * 2, ["restart_publish", "restart"]]


def test_no_side_is_begun_anew_while_the_server_is_away_and_time_does_not_run_hot(run: Run) -> None:
    seen = run("""
      const m = inside();
      m.signalingLost();
      let ticks = 0;
      while (m.deadline !== null && m.deadline <= 60_000) { m.tick(m.deadline); ticks += 1; }
      const away = did(m);
      m.joined(seat(0, true), 60_000);
      return [away, ticks < 60, did(m).includes("open_publish")];""")
    assert seen == [[], True, True]


def test_a_connection_that_stands_survives_a_new_socket_with_the_same_claim(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      m.sideChanged("publish", "connected", 0);
      did(m);
      m.joined(seat(0, true), 5_000);
      announce(m, 1, 5_000);
      return [did(m), people(m)];""")
    # It may have made an offer that nobody heard.
    assert seen == [["renew_ice", "show_ending", "repeat_offer", "agree p1 as A"], ["Person 1"]]


def test_what_is_begun_anew_after_a_new_socket_is_begun_with_its_credential(run: Run) -> None:
    did, renewed = run("""
      const m = inside();
      m.sideChanged("publish", "connected", 0);
      m.sideChanged("publish", "disconnected", 1_000);
      m.poll();
      const ice = [{ urls: "turn:192.0.2.1", username: "later", credential: "x" }];
      m.joined({ ...seat(0, true), ice }, 2_000);
      const orders = m.poll();
      return [orders.map((action) => action.do), orders.filter((action) => action.do === "renew_ice")[0].servers];""")
    assert did.index("renew_ice") < did.index("restart_publish")
    assert renewed == [{"urls": "turn:192.0.2.1", "username": "later", "credential": "x"}]
    assert "repeat_offer" not in did


def test_what_was_said_of_an_end_is_taken_back_by_the_server_that_says_it_no_more(run: Run) -> None:
    orders = run("""
      const m = inside();
      m.server({ type: "ending", seconds: 90 }, 1);
      m.signalingLost();
      m.joined(seat(0, true), 60_000);
      return m.poll().filter((action) => action.do === "show_ending").map((action) => action.seconds);""")
    assert orders == [90, None]


def test_a_new_claim_begins_with_nothing(run: Run) -> None:
    seen = run("""
      const m = inside(1);
      meet(m, 0, 0);
      m.sideChanged("publish", "connected", 0);
      did(m);
      m.joined(seat(1, false, "other"), 60_000);
      const orders = did(m);
      m.server({ type: "admitted" }, 61_000);
      return [orders, people(m), did(m)];""")
    assert seen == [["renew_ice", "show_ending", "close_conference", "close_channel p0"], [], ["open_publish"]]


def test_who_is_not_announced_again_after_a_new_socket_is_away(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      m.joined(seat(0, true), 5_000);
      const at = () => m.view().conference.people.map(({ here }) => here);
      const during = at();
      run(m, 7_000);
      const missed = at();
      run(m, 40_000);
      return [during, missed, at()];""")
    assert seen == [[True], [False], []]


def test_an_offer_names_the_owners_and_leaves_out_strangers(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      meet(m, 2, 0, false);
      m.poll();
      const of = (pid, source) => ({ pid, source });
      const tracks = { 0: of("p1", "camera"), 1: of("p2", "camera"), 2: of("x", "screen") };
      m.server({ type: "subscribe", sdp: "v=0", version: 7, tracks }, 1);
      const [offer] = m.poll();
      return [offer.do, offer.version, [...offer.tracks]];""")
    assert seen == ["take_offer", 7, [["0", {"pid": "p1", "source": "camera", "index": 1}]]]


def test_nothing_is_taken_from_the_server_before_admission(run: Run) -> None:
    seen = run("""
      const m = inside(1, false);
      m.server({ type: "subscribe", sdp: "v=0", version: 1, tracks: {} }, 1);
      m.offered("v=0", 7, { 0: "microphone" });
      return did(m);""")
    assert seen == []


def test_media_that_goes_past_the_encryption_ends_it_and_is_told(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      did(m);
      m.unsealed();
      return [did(m), m.view().phase, m.view().problem.code];""")
    orders = ["bye to p1", "close_conference", "leave", "stop_media", "forget_session"]
    assert seen == [orders, "form", "unsealed"]


def test_hanging_up_says_goodbye_first(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      did(m);
      m.hangUp();
      return [did(m), m.view().phase];""")
    assert seen == [["bye to p1", "close_conference", "leave", "stop_media", "forget_session"], "ended"]


# --- what is looked at ---


def test_what_is_wanted_is_told_at_most_so_often_and_only_if_it_is_news(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      did(m);
      const want = (width, now) =>
        m.want([{ pid: "p1", source: "camera", visible: true, width, height: 90, pinned: false }], now);
      want(160, 0);
      want(160, 10);
      want(320, 20);
      want(640, 30);
      const first = did(m);
      run(m, 400);
      const second = m.poll().map(({ message }) => message.tracks[0].width);
      run(m, 5_000);
      return [first, second, did(m).filter((each) => each === "want")];""")
    assert seen == [["want"], [640], []]


def test_nothing_is_wanted_of_strangers(run: Run) -> None:
    seen = run("""
      const m = inside();
      meet(m, 1, 0);
      m.poll();
      const of = (pid) => ({ pid, source: "camera", visible: true, width: 1, height: 1, pinned: false });
      m.want([of("p1"), of("stranger")], 0);
      return m.poll()[0].message.tracks.map(({ pid }) => pid);""")
    assert seen == ["p1"]


def test_who_is_heard_is_marked_the_loudest_first(run: Run) -> None:
    seen = run("""
      const m = inside();
      for (const index of [1, 2]) meet(m, index, 0);
      m.server({ type: "speakers", pids: ["p2", "me"] }, 1);
      const { people: others, isHeard, isLoudest } = m.view().conference;
      return [others.map((each) => [each.isHeard, each.isLoudest]), [isHeard, isLoudest]];""")
    assert seen == [[[False, False], [True, True]], [True, False]]


# --- where the tiles stand ---


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 10, 20])
@pytest.mark.parametrize("size", [(1256, 600), (344, 520), (640, 220), (200, 100)])
def test_tiles_lie_within_their_place_and_not_on_each_other(run: Run, count: int, size: tuple[int, int]) -> None:
    width, height = size
    shown = 0
    pages = 1
    page = 0
    while page < pages:
        options = f"count: {count}, width: {width}, height: {height}, focus: null, page: {page}"
        found = run(f"return arrange({{ {options} }});")
        pages = found["pages"]
        rects = [each for each in found["rects"] if each is not None]
        shown += len(rects)
        assert all(each["left"] >= 0 and each["top"] >= 0 for each in rects)
        assert all(each["left"] + each["width"] <= width for each in rects)
        assert all(each["top"] + each["height"] <= height for each in rects)
        assert not any(_overlap(a, b) for at, a in enumerate(rects) for b in rects[:at])
        page += 1
    assert shown == count


def _overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    return (
        a["left"] < b["left"] + b["width"]
        and b["left"] < a["left"] + a["width"]
        and a["top"] < b["top"] + b["height"]
        and b["top"] < a["top"] + a["height"]
    )


def test_a_phone_turns_pages_and_a_desktop_shows_twenty_at_once(run: Run) -> None:
    seen = run("""
      const pagesOf = (width, height) => arrange({ count: 20, width, height, focus: null, page: 0 }).pages;
      return [pagesOf(344, 520), pagesOf(1256, 600)];""")
    phone, desktop = seen
    assert phone >= 2
    assert desktop == 1


def test_the_one_that_is_looked_at_is_larger_than_all_others(run: Run) -> None:
    seen = run("""
      const { rects } = arrange({ count: 5, width: 1256, height: 600, focus: 2, page: 0 });
      return rects.map((rect) => (rect === null ? 0 : rect.width * rect.height));""")
    assert seen.index(max(seen)) == 2
    assert sorted(seen)[-2] * 4 < max(seen)


# --- words ---


def test_both_languages_say_the_same_of_conferences(run: Run) -> None:
    loaded = """["de", "en"].map((language) => import(`/js/conference/words_${language}.js`))"""
    german, english = run(f"return Promise.all({loaded}).then((all) => all.map(({{ WORDS }}) => WORDS));")
    assert list(german) == list(english)
    assert {key: places(said) for key, said in german.items()} == {key: places(said) for key, said in english.items()}


def places(said: str) -> list[str]:
    """The words in braces."""
    return sorted(re.findall(r"\{\w+\}", said))
