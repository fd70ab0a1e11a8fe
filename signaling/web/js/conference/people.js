/**
 * Who else takes part in a conference: who has proved the secret, what they have said of themselves, who decides, and whose keys count.
 *
 * A part of `ConferenceMachine`, and like it without page, socket or clock. The server is believed as far as it can do no harm: a name,
 * a key or a decision counts only by a channel on which both sides have proved the secret.
 */

import { isDue } from "../due.js";
import { Guesses } from "./guesses.js";
import { MAX_HELD_KEYS, SenderKeys } from "./sender_keys.js";
import { newPeer, sourcesOf } from "./peer.js";
import { isIndex, isRole } from "./server_messages.js";

const ANNOUNCED_WITHIN_MS = 2_000; // after `joined`, whoever is still here
const GONE_AFTER_MS = 30_000; // without a channel: as long as the server keeps a silent seat
const AGREEMENT_MS = 10_000; // for a few messages through the server
const AGREE_AGAIN_MS = { first: 1_000, second: 2_500 }; // after a failure; A begins before B
const MAX_PEERS = 64;
const MAX_REMOVED = 256; // who was sent away, and may not come back under the same pid

/** @typedef {import("./conference_machine.js").Action} Action */
/** @typedef {import("./peer.js").Peer} Peer */
/** @typedef {import("./sealed_messages.js").SealedMessage} SealedMessage */
/** @typedef {import("./sealed_messages.js").Sources} Sources */

/**
 * @typedef {{ pid: string, role: string, index: number, admitted: boolean }} Own what the server says of this page
 *
 * @typedef {object} Person
 * @property {string} pid
 * @property {number} index
 * @property {string} role "organiser" also of who stands in for it
 * @property {string} name
 * @property {boolean} here
 * @property {boolean} camera
 * @property {boolean} microphone
 * @property {boolean} screen
 * @property {string} safetyCode
 * @property {boolean} compared
 * @property {boolean} isHeard
 * @property {boolean} isLoudest
 */

export class People {
  /** @type {Own} */ #own;
  #name;
  #epoch;
  #keys;
  /** @type {(action: Action) => void} */ #do;
  #stranded;
  /** @type {Sources} */ #sources = { camera: false, microphone: false, screen: false };
  /** @type {Map<string, Peer>} */ #peers = new Map();
  /** @type {Set<string>} pids, the earliest first */ #removed = new Set();
  /** @type {Map<number, string>} epoch of the page that was let in last, by index: kept by who decides */ #letIn = new Map();
  #guesses = new Guesses();
  /** @type {number | null} */ #sweepAt = null;
  /** Who decides without an organiser, says the server: a pid. @type {string | null} */ standIn = null;
  /** Who is heard, says the server: pids, the loudest first. @type {string[]} */ speakers = [];
  /** @type {string | null} name of who asks to switch the microphone off */ muteAskedBy = null;

  /**
   * @param {object} options
   * @param {Own} options.own
   * @param {string} options.name of the person
   * @param {string} options.epoch of this page
   * @param {() => Uint8Array} [options.drawBase] 32 random bytes for each key
   * @param {(action: Action) => void} options.order hears what is to be done
   * @param {() => void} options.stranded hears that this participant can agree with nobody
   */
  constructor({ own, name, epoch, drawBase, order, stranded }) {
    this.#own = own;
    this.#name = name;
    this.#epoch = epoch;
    this.#do = order;
    this.#stranded = stranded;
    this.#keys = new SenderKeys({ index: own.index, drawBase });
    this.#drainKeys();
  }

  /** @returns {number | null} when to call `tick` at the latest */
  get deadline() {
    const ofPeers = Array.from(this.#peers.values(), ({ agreeAt, goneAt }) => [agreeAt, goneAt]).flat();
    const set = [...ofPeers, this.#keys.deadline, this.#sweepAt].filter((time) => time !== null);
    return set.length === 0 ? null : Math.min(...set);
  }

  /** This one decides about the others: as the organiser, or in its place. */
  get decides() {
    return this.#own.role === "organiser" || (this.#own.admitted && this.#standsIn(this.#own.pid));
  }

  /**
   * @param {string} pid
   * @returns {boolean} it is let in, says the server
   */
  isAdmitted(pid) {
    return this.#peers.get(pid)?.admitted === true;
  }

  /**
   * @param {string} pid
   * @returns {number | null} whose frames may come under this pid; of a stranger none
   */
  ownerOf(pid) {
    return this.isAdmitted(pid) ? /** @type {Peer} */ (this.#peers.get(pid)).index : null;
  }

  /**
   * Beside `ownerOf`, because an offer may come before the proof and is not repeated: a line is attached by the word of the server,
   * and shown once the keys of this very pid are what decrypts it.
   *
   * @param {string} pid
   * @returns {number | null} under which index the keys of this one are held; null if they are not
   */
  keyIndexOf(pid) {
    return this.#keys.indexOf(pid);
  }

  /** @returns {Person[]} those who are admitted, known by name, and heard by keys of their own; in the order of their seats */
  list() {
    const known = [...this.#peers].filter(([pid, peer]) => this.#isListed(pid, peer));
    known.sort(([, a], [, b]) => a.index - b.index);
    return known.map(([pid, peer]) => {
      const { index, name, here, sources, safetyCode, compared } = peer;
      const role = this.#isInCharge(pid, peer) ? "organiser" : "participant";
      return { pid, index, role, name, here, ...sources, safetyCode, compared, ...this.heard(pid) };
    });
  }

  /** @returns {number} of those who are let in and have not proved who they are; of who is listed by name, its own line tells it */
  get strangers() {
    const isStrange = ([pid, peer]) => peer.admitted && peer.here && peer.doubted && !this.#isListed(pid, peer);
    return this.#own.admitted ? [...this.#peers].filter(isStrange).length : 0;
  }

  /** @returns {{ pid: string, name: string, since: string | null }[]} who waits, for who decides */
  lobby() {
    if (!this.decides) return [];
    const waits = ([, { admitted, here, sealed, introduced }]) => !admitted && here && sealed && introduced;
    return [...this.#peers].filter(waits).map(([pid, { name, since }]) => ({ pid, name, since }));
  }

  /** @param {string} pid */
  heard(pid) {
    return { isHeard: this.speakers.includes(pid), isLoudest: this.speakers[0] === pid };
  }

  // ---- what the person does -----------------------------------------------------------------------------------------

  /**
   * @param {string} pid
   * @returns {boolean} this one waits, is known by name, and the person may decide about it
   */
  mayAdmit(pid) {
    const peer = this.#peers.get(pid);
    return this.decides && peer !== undefined && !peer.admitted && peer.sealed && peer.introduced;
  }

  /** @param {string} pid who waits, and is not let in: nor is the page of this seat that was let in before, without a question */
  refuse(pid) {
    const peer = this.#peers.get(pid);
    if (peer !== undefined) this.#letIn.delete(peer.index);
  }

  /**
   * Send somebody away. The others hear it from here, too, so that they take new keys at once.
   *
   * @param {string} pid
   * @param {number} now
   */
  remove(pid, now) {
    const peer = this.#peers.get(pid);
    if (!this.decides || peer?.admitted !== true) return;
    this.#tell({ type: "remove", peer: pid });
    for (const [other, { admitted }] of this.#peers) if (other !== pid && admitted) this.#say(other, { kind: "removed", pid });
    this.#sendAway(pid, now);
  }

  /** @param {string} pid who is asked to switch the microphone off; whether it does is its own decision */
  askToMute(pid) {
    if (this.decides) this.#say(pid, { kind: "mute" });
  }

  /**
   * The person has compared the safety code with this one, or takes it back.
   *
   * @param {string} pid
   * @param {boolean} compared
   */
  compare(pid, compared) {
    const peer = this.#peers.get(pid);
    if (peer !== undefined && peer.safetyCode !== "") peer.compared = compared;
  }

  /** @param {Sources} sources what the others get to see and to hear */
  sourcesChanged(sources) {
    if (JSON.stringify(sources) === JSON.stringify(this.#sources)) return;
    this.#sources = { ...sources };
    if (!sources.microphone) this.muteAskedBy = null;
    for (const pid of this.#peers.keys()) this.#say(pid, { kind: "state", ...this.#sources });
  }

  sayGoodbye() {
    for (const pid of this.#peers.keys()) this.#say(pid, { kind: "bye" });
  }

  // ---- what the server says -----------------------------------------------------------------------------------------

  /**
   * There is a new socket: everybody who is here is announced again, and proves itself anew.
   *
   * @param {Own} own
   * @param {boolean} isNewClaim to which nobody is known yet
   * @param {number} now
   */
  joined(own, isNewClaim, now) {
    this.#own = own;
    this.standIn = null; // it is said anew
    if (isNewClaim) for (const pid of [...this.#peers.keys()]) this.#forget(pid, now);
    for (const peer of this.#peers.values()) {
      peer.stale = true;
      peer.agreeAt = null;
      this.#unseal(peer, now);
    }
    this.#sweepAt = now + ANNOUNCED_WITHIN_MS;
  }

  /**
   * This page has been let in.
   *
   * @param {number} now
   */
  admitted(now) {
    this.#own = { ...this.#own, admitted: true };
    for (const [pid, peer] of this.#peers) this.#hold(pid, peer, now);
  }

  /**
   * @param {{ pid: string, role: string, present: boolean, since?: string | null, index?: unknown, admitted?: unknown }} announced
   * @param {number} now
   */
  announced({ pid, role, present, since = null, index, admitted }, now) {
    if (pid === this.#own.pid) return;
    if (!present) {
      this.#absent(pid, now);
      return;
    }
    if (!isRole(role) || !isIndex(index) || index === this.#own.index || typeof admitted !== "boolean") return;
    if (this.#removed.has(pid)) {
      if (this.decides) this.#tell({ type: "remove", peer: pid }); // the server has not heard it
      return;
    }
    // A channel has proved who somebody is in this role; and who is said to wait again must not go on hearing keys unseen.
    const known = this.#peers.get(pid);
    const isAnother = known?.index !== index || known.role !== role || (known.admitted && !admitted);
    if (known !== undefined && isAnother) this.#forget(pid, now);
    const peer = this.#peers.get(pid) ?? newPeer(role, index);
    if (!this.#peers.has(pid)) {
      if (this.#peers.size >= MAX_PEERS) return;
      this.#peers.set(pid, peer);
      // It was let in elsewhere: so the server has forgotten nobody, and whoever waits may have been sent away meanwhile.
      if (admitted && role === "participant") this.#letIn.clear();
    }
    if (admitted) this.#makeWayFor(pid, index, now);
    Object.assign(peer, { admitted, since, here: true, stale: false });
    // Whoever has a new socket begins to agree anew by itself; what is agreed on serves until then.
    if (peer.sealed) this.#hold(pid, peer, now);
    else this.#agree(pid, peer, now);
  }

  // ---- what the secure channels say ---------------------------------------------------------------------------------

  /**
   * This one has the same secret.
   *
   * @param {string} pid
   * @param {string} safetyCode
   * @param {number} now
   */
  verified(pid, safetyCode, now) {
    const peer = this.#peers.get(pid);
    if (peer === undefined) return;
    peer.sealed = true;
    peer.introduced = false;
    peer.agreeAt = null;
    // Another channel has other digits: what was compared before says nothing about it.
    peer.safetyCode = safetyCode;
    peer.compared = peer.doubted = false;
    this.#do({ do: "paired", peer: pid, ok: true });
    this.#greet(pid, peer);
    this.#guesses.count(peer.index, "agreed");
  }

  /**
   * This one begins anew, or what it said could not be opened.
   *
   * @param {string} pid
   * @param {number} now
   */
  renewed(pid, now) {
    const peer = this.#peers.get(pid);
    if (peer === undefined) return;
    this.#unseal(peer, now);
    if (this.#guesses.allow(peer.index)) {
      peer.agreeAt = now + AGREEMENT_MS;
      return;
    }
    peer.agreeAt = null;
    this.#do({ do: "close_channel", peer: pid });
  }

  /**
   * This one has another secret, or somebody in between changes what is said.
   *
   * @param {string} pid
   * @param {number} now
   */
  unverified(pid, now) {
    const peer = this.#peers.get(pid);
    if (peer === undefined) return;
    this.#do({ do: "paired", peer: pid, ok: false });
    this.#unseal(peer, now);
    peer.doubted = true;
    peer.agreeAt = now + (this.#isA(peer) ? AGREE_AGAIN_MS.first : AGREE_AGAIN_MS.second);
    this.#guessed(pid, peer, "failed");
  }

  /**
   * This one has been shown a proof of the secret, which says whether a guess was right, and has not given its own.
   *
   * @param {string} pid
   */
  abandoned(pid) {
    const peer = this.#peers.get(pid);
    if (peer === undefined) return;
    this.#do({ do: "paired", peer: pid, ok: false });
    this.#guessed(pid, peer, "abandoned");
  }

  /**
   * @param {string} from
   * @param {SealedMessage} message
   * @param {number} now
   */
  message(from, message, now) {
    const peer = this.#peers.get(from);
    if (peer === undefined || !peer.sealed) return;
    if (message.kind === "hello") {
      this.#meet(from, peer, message, now);
      return;
    }
    if (!peer.introduced || message.epoch !== peer.epoch || message.to !== this.#epoch) return; // meant for an earlier page
    switch (message.kind) {
      case "state":
        peer.sources = sourcesOf(message);
        break;
      case "senderkey":
        if (this.#talksTo(peer)) this.#keys.received(from, message, now);
        else peer.early = [...peer.early, message].slice(-MAX_HELD_KEYS);
        this.#drainKeys();
        break;
      case "mute":
        if (this.#isInCharge(from, peer) && this.#sources.microphone) this.muteAskedBy = peer.name;
        break;
      case "removed":
        if (this.#isInCharge(from, peer) && message.pid !== from) this.#sendAway(message.pid, now);
        break;
      case "bye":
        this.#letIn.delete(peer.index); // it has ended: whoever says this epoch again is somebody else
        this.#forget(from, now);
        break;
    }
  }

  /** @param {number} now */
  tick(now) {
    for (const [pid, peer] of [...this.#peers]) {
      if (isDue(peer.goneAt, now)) this.#giveUp(pid, peer, now);
      else if (isDue(peer.agreeAt, now)) this.#agree(pid, peer, now);
    }
    if (isDue(this.#sweepAt, now)) {
      this.#sweepAt = null;
      for (const [pid, peer] of [...this.#peers]) if (peer.stale) this.#absent(pid, now);
    }
    this.#keys.tick(now);
    this.#drainKeys();
  }

  // ---- inside -------------------------------------------------------------------------------------------------------

  /** @param {object} message for the server */
  #tell(message) {
    this.#do({ do: "tell", message });
  }

  /**
   * @param {string} pid
   * @param {object} message
   */
  #say(pid, message) {
    const peer = this.#peers.get(pid);
    if (!peer?.sealed || peer.epoch === null) return;
    this.#do({ do: "send", to: pid, message: { ...message, epoch: this.#epoch, to: peer.epoch } });
  }

  /**
   * @param {string} pid
   * @param {Peer} peer
   */
  #isInCharge(pid, { role, admitted }) {
    return admitted && (role === "organiser" || this.#standsIn(pid));
  }

  /**
   * The server names who stands in, but only a page that has taken leave of the organiser follows it: nobody decides beside one who
   * is here, or may come back at any moment.
   *
   * @param {string} pid
   */
  #standsIn(pid) {
    if (this.standIn !== pid || this.#own.role === "organiser") return false;
    return ![...this.#peers.values()].some(({ role, admitted, epoch }) => role === "organiser" && admitted && epoch !== null);
  }

  /** @param {Peer} peer */
  #isA(peer) {
    return this.#own.index < peer.index;
  }

  /**
   * @param {string} pid
   * @param {Peer} peer
   */
  #isListed(pid, { admitted, index }) {
    return this.#own.admitted && admitted && this.#keys.indexOf(pid) === index;
  }

  /** @param {Peer} peer both of us are let in, and it is who it says */
  #talksTo(peer) {
    return this.#own.admitted && peer.admitted && peer.sealed && peer.introduced;
  }

  /**
   * A seat has one claim that is admitted. An earlier one that is not here any more has been left behind.
   *
   * @param {string} admitted pid
   * @param {number} index
   * @param {number} now
   */
  #makeWayFor(admitted, index, now) {
    for (const [pid, peer] of [...this.#peers]) {
      if (pid !== admitted && peer.index === index && (!peer.here || peer.stale)) this.#forget(pid, now);
    }
  }

  /**
   * @param {string} pid
   * @param {number} now
   */
  #absent(pid, now) {
    const peer = this.#peers.get(pid);
    if (peer === undefined) return;
    if (!peer.admitted || !peer.introduced && peer.epoch === null) {
      this.#forget(pid, now);
      return;
    }
    peer.here = peer.stale = false;
    peer.agreeAt = null;
    this.#unseal(peer, now);
  }

  /**
   * This one has had no channel for too long. That it is here is only the word of the server: it is a stranger from now on.
   *
   * @param {string} pid
   * @param {Peer} peer
   * @param {number} now
   */
  #giveUp(pid, peer, now) {
    const { role, index, admitted, since, here } = peer;
    this.#forget(pid, now);
    if (!here) return;
    const stranger = { ...newPeer(role, index), admitted, since };
    this.#peers.set(pid, stranger);
    this.#agree(pid, stranger, now);
  }

  /**
   * Whatever the server says about this one from now on: nobody speaks to it any more.
   *
   * @param {string} pid
   * @param {number} now
   */
  #sendAway(pid, now) {
    const peer = this.#peers.get(pid);
    if (peer !== undefined) this.#letIn.delete(peer.index);
    this.#removed.add(pid);
    if (this.#removed.size > MAX_REMOVED) this.#removed.delete(this.#removed.values().next().value);
    this.#forget(pid, now);
  }

  /**
   * This one has gone for good: what is said from now on is not for it.
   *
   * @param {string} pid
   * @param {number} now
   */
  #forget(pid, now) {
    if (!this.#peers.delete(pid)) return;
    this.#do({ do: "close_channel", peer: pid });
    this.#keys.left(pid, now);
    this.#drainKeys();
    this.speakers = this.speakers.filter((each) => each !== pid);
  }

  /**
   * There is no channel any more. Whoever was known keeps its place for a while.
   *
   * @param {Peer} peer
   * @param {number} now
   */
  #unseal(peer, now) {
    peer.sealed = peer.introduced = peer.compared = false;
    peer.safetyCode = "";
    peer.early = [];
    if (peer.epoch !== null) peer.goneAt ??= now + GONE_AFTER_MS;
  }

  /**
   * @param {string} pid
   * @param {Peer} peer
   * @param {number} now
   */
  #agree(pid, peer, now) {
    this.#unseal(peer, now);
    peer.agreeAt = null;
    if (!peer.here || !this.#guesses.allow(peer.index)) return;
    peer.agreeAt = now + AGREEMENT_MS;
    this.#do({ do: "agree", peer: pid, role: peer.role, isA: this.#isA(peer) });
  }

  /**
   * @param {string} pid
   * @param {Peer} peer
   * @param {"failed" | "abandoned"} how
   */
  #guessed(pid, peer, how) {
    this.#guesses.count(peer.index, how);
    if (this.#guesses.allow(peer.index)) return;
    peer.agreeAt = null;
    if (this.#guesses.areUsedUp) {
      for (const each of this.#peers.values()) each.agreeAt = null;
      this.#do({ do: "agree_no_more" });
    } else if (!peer.sealed) {
      this.#do({ do: "close_channel", peer: pid });
    }
    // People who talk are not torn apart; who has nobody to talk to is told.
    if (![...this.#peers.values()].some((each) => each.sealed || each.agreeAt !== null)) {
      if (this.#own.role !== "organiser") this.#stranded();
    }
  }

  /**
   * @param {string} pid
   * @param {Peer} peer
   */
  #greet(pid, peer) {
    const hello = { kind: /** @type {const} */ ("hello"), epoch: this.#epoch, to: peer.epoch, name: this.#name, ...this.#sources };
    this.#do({ do: "send", to: pid, message: hello });
  }

  /**
   * @param {string} pid
   * @param {Peer} peer
   * @param {import("./sealed_messages.js").Hello} hello
   * @param {number} now
   */
  #meet(pid, peer, hello, now) {
    const isNews = !peer.introduced;
    if (!isNews && peer.epoch !== hello.epoch) return; // another page would have another channel
    peer.epoch = hello.epoch;
    peer.goneAt = null;
    peer.name = hello.name;
    peer.sources = sourcesOf(hello);
    peer.introduced = true;
    if (hello.to !== this.#epoch) this.#greet(pid, peer);
    if (isNews) this.#hold(pid, peer, now);
    // The server has forgotten that it was let in, because it was started anew or heard nothing for too long: this page has not.
    // An epoch is no secret: as long as the one that was let in has its place, whoever says the same is asked for.
    const isTaken = [...this.#peers.values()].some(({ admitted, index }) => admitted && index === peer.index);
    if (this.#letIn.get(peer.index) !== hello.epoch || isTaken || !this.mayAdmit(pid)) return;
    this.#tell({ type: "admit", peer: pid, ok: true });
  }

  /**
   * If this is somebody to talk to, exchange keys. Also if the channel is another one: what was said by the old one may be lost.
   *
   * @param {string} pid
   * @param {Peer} peer
   * @param {number} now
   */
  #hold(pid, peer, now) {
    if (!this.#talksTo(peer)) return;
    if (!this.decides) this.#letIn.clear(); // somebody else does, and may send away whom this one has let in
    try {
      this.#keys.joined(pid, peer.index, now);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      peer.doubted = true; // two people of one index: the server contradicts itself, and the second one hears and says nothing
      return;
    }
    if (this.decides && peer.epoch !== null) this.#letIn.set(peer.index, peer.epoch);
    for (const message of peer.early.splice(0)) this.#keys.received(pid, message, now);
    this.#drainKeys();
  }

  #drainKeys() {
    for (const action of this.#keys.poll()) {
      if (action.do === "say") this.#say(action.to, action.message);
      else this.#do({ do: "key", action });
    }
  }
}
