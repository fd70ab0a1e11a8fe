"""The key agreement of the page, in real browsers: the published vectors, and a server in between that meddles.

Two channels are joined by a postman, which carries their blobs and may read, change, repeat, swallow or invent them.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright

from tests.support.browser import Participant, firefox
from tests.support.service import Service

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "cpace-x25519-sha512.json").read_text())
Run = Callable[..., Any]

BENCH = """async () => {
  const cpace = await import("/js/cpace.js");
  const bytes = await import("/js/bytes.js");
  const { mapToCurve } = await import("/js/elligator.js");
  const { SecureChannel } = await import("/js/secure_channel.js");
  const sealing = await import("/js/sealing.js");
  const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  const hex = (data) => Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const scalarOf = (text) => crypto.subtle.importKey(
    "pkcs8", unhex("302e020100300506032b656e04220420" + text), { name: "X25519" }, false, ["deriveBits"]);
  const people = {
    organiser: { pid: "doctor", role: "organiser" },
    participant: { pid: "patient", role: "participant" },
  };
  const textOf = (plain) => new TextDecoder().decode(plain);

  const other = { organiser: "participant", participant: "organiser" };
  const until = async (condition) => {
    const end = performance.now() + 5_000;
    while (!condition() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 2));
  };

  /**
   * Both ends and the postman between them. `carry(blob, from)` returns the blobs to deliver instead.
   * `log` is all that the server sees, `told` what the two have been told, in order; ends that are `broken` fail
   * at what they are told.
   */
  const join = ({ secrets = ["ABCDE", "ABCDE"], carry = (blob) => [blob], rooms = ["room", "room"],
    broken = false } = {}) => {
    const scene = { log: [], told: { organiser: [], participant: [] }, ends: {}, carry, until, broken };
    scene.open = (role, at) => {
      const told = { push: (event) => { scene.told[role].push(event); if (scene.broken) throw new Error("broken"); } };
      const handlers = {
        send: (blob) => {
          scene.log.push([role, blob]);
          const delivered = scene.carry(blob, role);
          queueMicrotask(() => { for (const each of delivered) scene.ends[other[role]]?.receive(each); });
        },
        verified: (code) => told.push(["verified", code]),
        failed: () => told.push(["failed"]),
        abandoned: () => told.push(["abandoned"]),
        renewed: () => told.push(["renewed"]),
        message: (plain) => told.push(["message", textOf(plain)]),
      };
      scene.ends[role] = new SecureChannel({
        secret: secrets[at], room: rooms[at], own: people[role], peer: people[other[role]], handlers });
    };
    scene.open("organiser", 0);
    scene.open("participant", 1);
    scene.heard = (role, kind) => scene.told[role].filter(([told]) => told === kind).length;
    scene.settled = (kind, count = 1) =>
      scene.until(() => scene.heard("organiser", kind) >= count && scene.heard("participant", kind) >= count);
    scene.say = (role, text) => scene.ends[role].send(new TextEncoder().encode(text));
    return scene;
  };

  /** Somebody who speaks with the channel of `role` word by word, as the other one would, and may stop anywhere. */
  const impostor = (role) => {
    const own = people[other[role]];
    const adOf = ({ role, pid }) => bytes.utf8(`${role}${pid}1`);
    const names = ["videosprechstunde/e2ee/1", "room", "A:organiserdoctor", "B:participantpatient"];
    const name = bytes.prefixed(...names.map(bytes.utf8));
    const scene = { said: [], told: [] };
    const handlers = { send: (blob) => scene.said.push(blob) };
    for (const event of ["verified", "failed", "abandoned", "renewed", "message"]) {
      handlers[event] = () => scene.told.push(event);
    }
    scene.victim = new SecureChannel({ secret: "ABCDE", room: "room", own: people[role], peer: own, handlers });
    scene.count = (kind) => scene.said.filter((blob) => blob.startsWith(`${kind}.`)).length;
    scene.heard = (event) => scene.told.filter((told) => told === event).length;
    scene.say = (kind, ...parts) => scene.victim.receive([kind, ...parts.map(bytes.toText)].join("."));
    /** The parts of the next blob of this kind after `before` of them. */
    scene.next = async (kind, before) => {
      await until(() => scene.count(kind) > before);
      return scene.said.filter((blob) => blob.startsWith(`${kind}.`))[before].split(".").slice(1).map(bytes.fromText);
    };
    /** Commit to a value, and take the share of the victim. */
    scene.begin = async (value = sealing.drawValue()) => {
      const before = scene.count("ke2");
      scene.say("ke1", await sealing.commitTo(value));
      const [sid, y, ad] = await scene.next("ke2", before);
      return { value, sid, theirs: { y, ad } };
    };
    /** Say the share that belongs to a guess of the secret. */
    scene.guess = async (begun, secret) => {
      const { sid, theirs } = begun;
      const scalar = await cpace.drawScalar();
      const generator = await cpace.makeGenerator(bytes.utf8(secret), name, sid);
      const mine = { y: await cpace.multiply(scalar, generator), ad: adOf(own) };
      const [a, b] = role === "organiser" ? [theirs, mine] : [mine, theirs];
      const transcript = cpace.transcriptOf(a, b);
      const isk = await cpace.sessionKey(sid, await cpace.multiply(scalar, theirs.y), transcript);
      scene.say("ke2", sid, mine.y, mine.ad);
      return { ...begun, mine, isk, transcript };
    };
    scene.prove = async ({ sid, isk, mine }) => scene.say("ke3", sid, await cpace.confirm(sid, isk, mine));
    scene.reveal = async ({ sid, isk, transcript }, value) => {
      const { outgoing } = await sealing.openSession(isk, transcript, sid, role !== "organiser");
      scene.say("sealed", sid, await outgoing.seal(value));
    };
    return scene;
  };
  window.bench = { cpace, bytes, sealing, mapToCurve, unhex, hex, scalarOf, join, impostor, until };
}"""
NAMES = "{ cpace, bytes, sealing, mapToCurve, unhex, hex, scalarOf, join, impostor, until }"


def bench_in(browser: Browser, service: Service) -> Iterator[Run]:
    """Runs the body of an async function in a page, with the names of the bench and an argument `v`."""
    visitor = Participant(browser)
    visitor.open(service.create_appointment().organiser_link.partition("#")[0])
    visitor.page.evaluate(BENCH)
    yield lambda body, argument=None: visitor.page.evaluate(
        f"async (v) => {{ const {NAMES} = window.bench; {body} }}", argument
    )
    visitor.close()


@pytest.fixture(scope="module")
def run(browser: Browser, service: Service) -> Iterator[Run]:
    yield from bench_in(browser, service)


@pytest.fixture(scope="module", params=["chromium", pytest.param("firefox", marks=pytest.mark.long)])
def run_in_both(
    request: pytest.FixtureRequest, browser: Browser, playwright: Playwright, service: Service
) -> Iterator[Run]:
    """For what is the browser's own work: its cryptography."""
    if request.param == "chromium":
        yield from bench_in(browser, service)
    else:
        with firefox(playwright) as started:
            yield from bench_in(started, service)


# --- CPace ---


def test_the_published_vector_of_cpace_comes_out_at_every_step(run_in_both: Run) -> None:
    seen = run_in_both(
        """
      const secret = new TextEncoder().encode(v.PRS);
      const sid = unhex(v.sid_hex);
      const g = await cpace.makeGenerator(secret, unhex(v.CI_hex), sid);
      const [ya, yb] = [await scalarOf(v.ya_hex), await scalarOf(v.yb_hex)];
      const a = { y: await cpace.multiply(ya, g), ad: bytes.utf8(v.ADa) };
      const b = { y: await cpace.multiply(yb, g), ad: bytes.utf8(v.ADb) };
      const k = await cpace.multiply(ya, b.y);
      const same = hex(await cpace.multiply(yb, a.y)) === hex(k);
      const isk = await cpace.sessionKey(sid, k, cpace.transcriptOf(a, b));
      return [hex(g), hex(a.y), hex(b.y), hex(k), same, hex(isk)];""",
        VECTOR,
    )
    expected = [VECTOR[f"{name}_hex"] for name in ("g", "Ya", "Yb", "K")]
    assert seen == [*expected, True, VECTOR["ISK_ir_hex"]]


def test_a_point_of_low_order_is_refused(run_in_both: Run) -> None:
    points = [VECTOR["low_order_point_hex"], "00" * 32, "01" + "00" * 31]
    seen = run_in_both(
        """
      const scalar = await cpace.drawScalar();
      const outcomes = [];
      for (const point of v) {
        outcomes.push(await cpace.multiply(scalar, unhex(point)).then(() => "taken", () => "refused"));
      }
      return outcomes;""",
        points,
    )
    assert seen == ["refused"] * 3


def test_the_map_always_leads_onto_the_curve(run: Run) -> None:
    assert run("""
      const P = 2n ** 255n - 19n;
      const power = (base, exponent) => {
        let result = 1n;
        for (let b = base % P, e = exponent; e > 0n; e >>= 1n, b = (b * b) % P) if (e & 1n) result = (result * b) % P;
        return result;
      };
      for (let round = 0; round < 100; round += 1) {
        const u = BigInt("0x" + hex(mapToCurve(crypto.getRandomValues(new Uint8Array(32))).reverse()));
        const square = (u * u * u + 486662n * u * u + u) % P;
        if (u >= P || power(square, (P - 1n) / 2n) === P - 1n) return false;
      }
      return true;""")


def test_lengths_stand_in_front_of_parts_in_leb128(run: Run) -> None:
    seen = run("""
      const parts = (lengths) => lengths.map((length) => new Uint8Array(length));
      return [[], [0], [127], [128], [300]].map((lengths) => hex(bytes.prefixed(...parts(lengths)).slice(0, 3)));""")
    assert seen == ["", "00", "7f0000", "800100", "ac0200"]


# --- the channel ---


def test_two_who_share_the_secret_see_the_same_six_digits_and_then_hear_each_other_in_order(run_in_both: Run) -> None:
    seen = run_in_both("""
      const scene = join();
      await scene.settled("verified");
      for (let number = 0; number < 20; number += 1) {
        scene.say("organiser", `to the patient ${number}`);
        scene.say("participant", `to the doctor ${number}`);
      }
      await scene.settled("message", 20);
      return scene.told;""")
    (verified, code), *messages = seen["organiser"]
    assert verified == "verified"
    assert len(code) == 6
    assert code.isdecimal()
    assert seen["participant"][0] == [verified, code]
    assert messages == [["message", f"to the doctor {number}"] for number in range(20)]
    assert seen["participant"][1:] == [["message", f"to the patient {number}"] for number in range(20)]


def test_every_agreement_has_other_digits_and_nothing_that_the_server_carries_shows_what_is_said(run: Run) -> None:
    logs = run("""
      const scenes = [];
      for (let round = 0; round < 3; round += 1) {
        const scene = join();
        await scene.settled("verified");
        scene.say("organiser", "Dr. Anna Beispiel v=0 candidate:1");
        await scene.until(() => scene.heard("participant", "message") === 1);
        scenes.push([scene.told.organiser[0][1], scene.log]);
      }
      return scenes;""")
    assert len({code for code, _ in logs}) > 1
    for _, log in logs:
        assert [blob.partition(".")[0] for _, blob in log].count("sealed") == 3, "a value of each side, and a message"
        decoded = [part for _, blob in log for part in blob.split(".")[1:]]
        assert "ABCDE" not in json.dumps(log)
        assert not any(word in json.dumps(decoded) for word in ("Anna", "candidate", "v=0"))


def test_the_length_of_what_is_said_is_hidden_up_to_256_bytes(run: Run) -> None:
    lengths = run("""
      const scene = join();
      await scene.settled("verified");
      for (const length of [0, 1, 255, 256]) scene.say("organiser", "x".repeat(length));
      await scene.until(() => scene.heard("participant", "message") === 4);
      return scene.log.filter(([, blob]) => blob.startsWith("sealed")).map(([, blob]) => blob.length);""")
    assert len(lengths) == 6
    assert len(set(lengths[:5])) == 1, "the two values look like any short message"
    assert lengths[4] < lengths[5]


@pytest.mark.parametrize("options", ['{ secrets: ["ABCDE", "ABCDF"] }', '{ rooms: ["room", "another"] }'])
def test_another_secret_or_room_fails_on_both_sides_and_nothing_is_said(run: Run, options: str) -> None:
    told, kinds = run(f"""
      const scene = join({options});
      await scene.settled("failed");
      scene.say("organiser", "my name");
      scene.say("participant", "my name");
      await new Promise((resolve) => setTimeout(resolve, 50));
      return [scene.told, [...new Set(scene.log.map(([, blob]) => blob.split(".")[0]))]];""")
    assert told == {"organiser": [["failed"]], "participant": [["failed"]]}
    assert "sealed" not in kinds


@pytest.mark.parametrize(
    "meddle",
    [
        # Its own share to both, made without the secret: what a man in the middle would try.
        'p[0] === "ke2" ? [p[0], p[1], bytes.toText(window.share), p[3]] : p',
        # A point of low order: the shared point would be zero, and known to everybody.
        'p[0] === "ke2" ? [p[0], p[1], bytes.toText(new Uint8Array(32)), p[3]] : p',
        # Other words about who speaks.
        'p[0] === "ke2" ? [p[0], p[1], p[2], bytes.toText(bytes.utf8("organisersomebody1"))] : p',
        # A proof that proves nothing.
        'p[0] === "ke3" ? [p[0], p[1], bytes.toText(new Uint8Array(64))] : p',
    ],
)
def test_whoever_changes_a_step_of_the_agreement_makes_it_fail_on_both_sides(run: Run, meddle: str) -> None:
    told = run(f"""
      const generator = await cpace.makeGenerator(bytes.utf8("guess"), new Uint8Array(1), new Uint8Array(32));
      window.share = await cpace.multiply(await cpace.drawScalar(), generator);
      const meddle = (p) => {meddle};
      const scene = join({{ carry: (blob) => [meddle(blob.split(".")).join(".")] }});
      await scene.settled("failed");
      return scene.told;""")
    assert told == {"organiser": [["failed"]], "participant": [["failed"]]}


def test_the_own_words_sent_back_are_nobody(run: Run) -> None:
    told, ends = run("""
      const scene = join({ carry: () => [] });
      await scene.until(() => scene.log.length === 2);
      scene.carry = (blob, role) => { queueMicrotask(() => scene.ends[role].receive(blob)); return []; };
      scene.open("organiser", 0);
      await new Promise((resolve) => setTimeout(resolve, 100));
      return [scene.told.organiser, scene.log.length];""")
    assert told == []
    assert ends == 3  # the greetings of three channels


@pytest.mark.parametrize(
    "fault",
    [
        "(blob) => blob.startsWith('sealed') && faults-- > 0 ? [] : [blob]",  # swallowed
        "(blob) => blob.startsWith('sealed') && faults-- > 0 ? [blob, blob] : [blob]",  # repeated
        """(blob) => blob.startsWith('sealed') && faults-- > 0
          ? [blob.slice(0, -3) + (blob.at(-3) === 'A' ? 'B' : 'A') + blob.slice(-2)] : [blob]""",  # changed
    ],
)
def test_what_was_left_out_repeated_or_changed_is_noticed_and_a_new_agreement_begins(run: Run, fault: str) -> None:
    told = run(f"""
      let faults = 0;
      const scene = join({{ carry: {fault} }});
      await scene.settled("verified");
      faults = 1;
      scene.say("organiser", "first");
      await new Promise((resolve) => setTimeout(resolve, 20));
      scene.say("organiser", "second");
      await scene.settled("verified", 2);
      scene.say("organiser", "after");
      await scene.until(() => scene.told.participant.at(-1)[1] === "after");
      return scene.told;""")
    heard = [words for kind, *words in told["participant"] if kind == "message"]
    assert heard[-1] == ["after"]
    said = ["first", "second", "after"]
    assert [said.index(words) for (words,) in heard] == sorted({said.index(words) for (words,) in heard})
    for role in ("organiser", "participant"):
        kinds = [kind for kind, *_ in told[role]]
        assert kinds.count("verified") == 2
        assert kinds.index("renewed") < len(kinds) - 1 - kinds[::-1].index("verified")
    assert told["organiser"][0] != told["organiser"][-1]


def test_one_side_that_begins_anew_is_followed_by_the_other(run: Run) -> None:
    told = run("""
      const scene = join();
      await scene.settled("verified");
      scene.ends.participant.close();
      scene.open("participant", 1);
      await scene.settled("verified", 2);
      scene.say("organiser", "again");
      await scene.until(() => scene.heard("participant", "message") === 1);
      return scene.told;""")
    assert [kind for kind, *_ in told["organiser"]] == ["verified", "renewed", "verified"]
    assert told["participant"][-1] == ["message", "again"]
    assert told["organiser"][-1] == told["participant"][1]


def test_two_who_renew_at_once_come_to_rest(run: Run) -> None:
    """What each has said before it began anew is still on its way, so both see two commitments of the other."""
    told, greetings = run("""
      const held = { organiser: [], participant: [] };
      const scene = join({ carry: (blob, role) => { held[role].push(blob); return []; } });
      await scene.until(() => scene.log.length === 2);
      for (const [at, role] of ["organiser", "participant"].entries()) {
        scene.ends[role].close();
        scene.open(role, at);
      }
      await scene.until(() => scene.log.length === 4);
      scene.carry = (blob) => [blob];
      for (const blob of held.participant) scene.ends.organiser.receive(blob);
      for (const blob of held.organiser) scene.ends.participant.receive(blob);
      await scene.settled("verified");
      for (const end of Object.values(scene.ends)) end.close(); // or they would disturb what follows
      return [scene.told, scene.log.filter(([, blob]) => blob.startsWith("ke1.")).length];""")
    assert [kind for kind, *_ in told["organiser"]] == ["renewed", "verified"]
    assert told["organiser"] == told["participant"]
    assert greetings == 6


def test_whoever_fails_at_what_it_is_told_goes_on_to_be_told(run: Run) -> None:
    told = run("""
      const scene = join({ broken: true });
      await scene.settled("verified");
      for (const text of ["one", "two"]) scene.say("organiser", text);
      await scene.until(() => scene.heard("participant", "message") === 2);
      return scene.told;""")
    assert [kind for kind, *_ in told["organiser"]] == ["verified"]
    assert told["participant"][1:] == [["message", "one"], ["message", "two"]]


# --- guessing ---


def test_every_proof_that_nobody_answers_counts_however_the_agreement_ends(run: Run) -> None:
    """The proof says whether a guess was right: 300 guesses in a second, if only a wrong answer counted."""
    seen = run("""
      const scene = impostor("organiser");
      const ask = async () => {
        const before = scene.count("ke3");
        const begun = await scene.guess(await scene.begin(), "ZZZZZ");
        await scene.next("ke3", before);
        return begun;
      };
      await ask(); // and begin anew
      await ask(); // and give a wrong answer, which counts as such
      const answered = await ask();
      const counted = [scene.heard("abandoned"), scene.heard("failed")];
      scene.say("ke3", answered.sid, new Uint8Array(64));
      await until(() => scene.heard("failed") === 1);
      await ask(); // and go
      scene.victim.close();
      return [counted, scene.heard("abandoned"), scene.heard("failed"), scene.heard("verified")];""")
    assert seen == [[2, 0], 3, 1, 0]


def test_an_agreement_that_ends_before_its_proof_or_after_the_last_step_is_no_guess(run: Run) -> None:
    told = run("""
      const early = impostor("organiser");
      await early.begin();
      await early.begin();
      early.victim.close();
      const scene = join();
      await scene.settled("verified");
      scene.ends.participant.close();
      scene.open("participant", 1);
      await scene.settled("verified", 2);
      for (const end of Object.values(scene.ends)) end.close();
      return [early.told, scene.told.organiser.map(([kind]) => kind), scene.told.participant.map(([kind]) => kind)];""")
    assert told == [["renewed"], ["verified", "renewed", "verified"], ["verified", "verified"]]


@pytest.mark.parametrize("secret", ["ZZZZZ", "ABCDE"])
def test_a_participant_proves_nothing_to_an_organiser_who_has_not_proved_itself(run: Run, secret: str) -> None:
    proofs, told, kinds = run(
        """
      const scene = impostor("participant");
      for (let round = 0; round < 3; round += 1) await scene.guess(await scene.begin(), v);
      const last = await scene.guess(await scene.begin(), v); // all that came before has been dealt with by now
      const proofs = scene.count("ke3");
      scene.say("ke3", last.sid, new Uint8Array(64));
      await until(() => scene.heard("failed") === 1);
      scene.victim.close();
      return [proofs, scene.told, [...new Set(scene.said.map((blob) => blob.split(".")[0]))]];""",
        secret,
    )
    assert proofs == 0
    assert told == ["renewed", "renewed", "renewed", "failed"]
    assert kinds == ["ke1", "ke2", "refused"]


def test_who_has_no_guess_left_hears_nothing_more_from_the_channel(run: Run) -> None:
    seen = run("""
      const scene = impostor("organiser");
      await scene.guess(await scene.begin(), "ZZZZZ");
      await scene.next("ke3", 0);
      scene.victim.agreeNoMore();
      const said = scene.said.length;
      scene.say("ke1", await sealing.commitTo(sealing.drawValue()));
      const talk = join();
      await talk.settled("verified");
      talk.ends.organiser.agreeNoMore();
      talk.say("participant", "still here");
      await talk.until(() => talk.heard("organiser", "message") === 1);
      talk.ends.participant.close();
      talk.open("participant", 1);
      const logged = talk.log.length;
      await talk.until(() => talk.log.length === logged + 1);
      await new Promise((resolve) => setTimeout(resolve, 50));
      return [scene.told, scene.said.length - said, talk.told.organiser.length, talk.log.length - logged];""")
    assert seen == [["abandoned"], 0, 2, 1]


# --- somebody in between who knows the secret ---


def test_nobody_is_verified_and_no_digits_are_told_before_both_values_are_revealed(run: Run) -> None:
    told = run("""
      const isHeldBack = (blob, role) => role === "participant" && blob.startsWith("sealed.");
      const scene = join({ carry: (blob, role) => (isHeldBack(blob, role) ? [] : [blob]) });
      await scene.until(() => scene.heard("participant", "verified") === 1);
      scene.say("organiser", "not before");
      await new Promise((resolve) => setTimeout(resolve, 50));
      scene.ends.organiser.close();
      return scene.told;""")
    assert told["organiser"] == [["abandoned"]], "the participant has seen the value, and may have chosen not to go on"
    assert [kind for kind, *_ in told["participant"]] == ["verified"]


@pytest.mark.parametrize("role", ["organiser", "participant"])
@pytest.mark.parametrize(
    ("shown", "outcome"),
    [
        ("begun.value", ["verified"]),
        ("sealing.drawValue()", ["failed"]),
        ("begun.value.slice(1)", ["failed"]),
        ("new Uint8Array(0)", ["failed"]),
    ],
)
def test_only_the_value_that_was_committed_to_completes_an_agreement(
    run: Run, role: str, shown: str, outcome: list[str]
) -> None:
    told = run(f"""
      const scene = impostor("{role}");
      const begun = await scene.guess(await scene.begin(), "ABCDE");
      await scene.prove(begun);
      await scene.next("sealed", 0);
      await scene.reveal(begun, {shown});
      await until(() => scene.told.length > 0);
      return scene.told;""")
    assert told == outcome


def test_the_digits_depend_on_the_key_and_on_both_values(run: Run) -> None:
    codes = run("""
      const filled = (byte, length = 32) => new Uint8Array(length).fill(byte);
      const code = async (key, a, b) => {
        const session = await sealing.openSession(filled(key, 64), filled(0), filled(0), true);
        return session.safetyCode(filled(a), filled(b));
      };
      const codes = [];
      for (const each of [[1, 1, 1], [1, 1, 1], [2, 1, 1], [1, 2, 1], [1, 1, 2]]) codes.push(await code(...each));
      return codes;""")
    assert codes[0] == codes[1]
    assert len(set(codes)) == 4


def test_a_value_that_was_revealed_is_not_used_again_and_one_that_was_not_is_kept(run: Run) -> None:
    greetings = run("""
      const scene = impostor("organiser");
      await scene.guess(await scene.begin(), "ABCDE");
      await scene.next("ke3", 0);
      const begun = await scene.guess(await scene.begin(), "ABCDE");
      await scene.prove(begun);
      await scene.next("sealed", 0);
      await scene.begin();
      return scene.said.filter((blob) => blob.startsWith("ke1."));""")
    first, second, third = greetings
    assert first == second, "who renews does not make the other side draw anew"
    assert third != second, "its value was seen: with it, keys could be searched that lead to wanted digits"


def test_a_session_id_that_comes_again_has_another_share_and_so_other_keys(run: Run) -> None:
    sids, shares = run("""
      const scene = impostor("organiser");
      const values = [sealing.drawValue(), sealing.drawValue()];
      const begun = [];
      for (const at of [0, 1, 0]) begun.push(await scene.begin(values[at]));
      return [begun.map(({ sid }) => hex(sid)), begun.map(({ theirs }) => hex(theirs.y))];""")
    assert sids[0] == sids[2] != sids[1]
    assert len(set(shares)) == 3


def test_junk_changes_nothing(run: Run) -> None:
    told = run("""
      const scene = join();
      await scene.settled("verified");
      const sid = scene.log.find(([, blob]) => blob.startsWith("ke2"))[1].split(".")[1];
      const junk = [null, 7, "", ".", "ke1", "ke1.", "ke1.AA", "ke1.%%%", "ke9.AAAA", "ke2", `ke2.${sid}`,
        `ke3.${sid}.AA`, `refused.${sid}`, "refused.AA", "refused",
        `ke2.${sid}.AA.AA.AA.AA`, "sealed.AA.AA", "x".repeat(65_001)];
      for (const each of junk) scene.ends.organiser.receive(each);
      scene.say("participant", "still here");
      await scene.until(() => scene.heard("organiser", "message") === 1);
      return scene.told.organiser;""")
    assert [kind for kind, *_ in told] == ["verified", "message"]
