/**
 * Whose key is used for which frames of a conference: a state machine without page, channel, worker or clock.
 *
 * Each participant encrypts what it sends under a key of its own, which it hands to every other one by their sealed channel.
 * Whoever comes or goes makes everybody take a new one: who comes cannot read what was said before, who has gone not what is
 * said afterwards. Events go in with the time; `poll()` hands out what is to be done; `deadline` says when to call `tick`
 * at the latest. Time is in milliseconds of one monotonic clock.
 *
 * A KID is the index of the participant (8 bit) and then the generation of its key (8 bit). The index is given by the server,
 * which may lie: so a key is taken only under the index of whose channel it came by, and no two may have one index.
 */

import { fromText, toText } from "../bytes.js";
import { BASE_KEY_BYTES } from "./sframe.js";

const GATHER_MS = 1_000; // from the first who comes or goes: many at once make one new key
const SWITCH_AFTER_MS = 1_000; // a key is used when the others have most likely got it
const KEEP_MS = 10_000; // what others have superseded: frames under it may still be on their way
const INDEXES = 256;
const GENERATIONS = 256;
/** Of one owner: the one in use, the next one, and some that had their time within `KEEP_MS`. */
export const MAX_HELD_KEYS = 4;
const KEY_PATTERN = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/; // 32 bytes in base64url: two texts are two keys

/**
 * @typedef {object} SenderKeyMessage what is said by a sealed channel, besides the epochs of its envelope
 * @property {"senderkey"} kind
 * @property {number} kid
 * @property {string} base 32 bytes in base64url
 *
 * @typedef {{ do: "say", to: string, message: SenderKeyMessage }
 *   | { do: "send_with", kid: number, base: Uint8Array }
 *   | { do: "ask_key_frame" }
 *   | { do: "receive_with", kid: number, base: Uint8Array }
 *   | { do: "forget", kid: number }} KeyAction `say` is for the channel of that pid; the others are for `SealedMedia.apply`
 *
 * @typedef {{ kid: number, base: Uint8Array, holders: Set<string> }} OwnKey `holders`: the pids that have been told
 * @typedef {{ base: string, forgetAt: number | null }} HeldKey
 * @typedef {{ index: number, keys: Map<number, HeldKey> }} Peer
 */

/**
 * @param {number} kid
 * @returns {number} the index of its owner
 */
export function ownerOf(kid) {
  return Math.floor(kid / GENERATIONS);
}

/**
 * @param {unknown} value of a sealed channel: may be anything
 * @returns {SenderKeyMessage | null} null if it does not follow the protocol to the letter
 */
export function readSenderKey(value) {
  if (typeof value !== "object" || value === null) return null;
  const { kind, kid, base } = /** @type {Record<string, unknown>} */ (value);
  if (kind !== "senderkey" || typeof base !== "string" || !KEY_PATTERN.test(base)) return null;
  if (!Number.isInteger(kid) || kid < 0 || kid >= INDEXES * GENERATIONS) return null;
  return { kind, kid: /** @type {number} */ (kid), base };
}

export class SenderKeys {
  #index;
  #drawBase;
  /** @type {OwnKey} */ #current;
  /** @type {OwnKey | null} told, but not used yet */ #next = null;
  /** @type {number | null} */ #switchAt = null;
  /** @type {number | null} when the next key is drawn */ #renewAt = null;
  /** @type {Map<string, Peer>} by pid; each has an index of its own, so they are less than 256 */ #peers = new Map();
  /** @type {KeyAction[]} */ #actions = [];
  /** Messages that were not taken: not to the letter, of a stranger, or under the index of somebody else. */
  refused = 0;

  /**
   * @param {object} options
   * @param {number} options.index of the own participant, 0 to 255
   * @param {() => Uint8Array} [options.drawBase] 32 random bytes
   * @throws {RangeError} no index of a participant
   */
  constructor({ index, drawBase = () => crypto.getRandomValues(new Uint8Array(BASE_KEY_BYTES)) }) {
    this.#index = checkedIndex(index);
    this.#drawBase = drawBase;
    this.#current = this.#draw(0);
    this.#use(this.#current);
  }

  /**
   * The channel to somebody stands, and both have proved to be of this appointment. Also to be called when it stands anew: what
   * was said by the old one may be lost, and perhaps the page at the other end was reloaded and knows no key at all.
   *
   * Then, too, a key is said only as long as nothing has been sent under it. Else a server that makes two agree anew could have one
   * of them forget which frames have been there, learn the same key again, and take what was recorded once more.
   *
   * @param {string} pid
   * @param {number} index
   * @param {number} now
   * @throws {RangeError} no index of a participant, or that of another one: the server contradicts itself
   */
  joined(pid, index, now) {
    const known = this.#peers.get(pid);
    if (known?.index === checkedIndex(index)) {
      if (this.#next?.holders.has(pid)) this.#say(pid, this.#next);
      else this.#renewAt ??= now + GATHER_MS;
      return;
    }
    if (index === this.#index || [...this.#peers.values()].some((peer) => peer.index === index)) {
      throw new RangeError("two participants with one index");
    }
    if (known !== undefined) this.left(pid, now);
    this.#peers.set(pid, { index, keys: new Map() });
    if (this.#current.holders.size > 0 || this.#next !== null) {
      this.#renewAt ??= now + GATHER_MS;
      return;
    }
    // Nobody can read what is sent up to now, so nobody can miss anything by a change at once.
    this.#renew(now);
    this.#switch();
  }

  /**
   * @param {string} pid
   * @returns {number | null} under which index its keys are taken; null if they are not, or not yet
   */
  indexOf(pid) {
    return this.#peers.get(pid)?.index ?? null;
  }

  /**
   * Somebody has gone for good. Who is only away for a moment, and keeps its pid, has not.
   *
   * @param {string} pid
   * @param {number} now
   */
  left(pid, now) {
    const peer = this.#peers.get(pid);
    if (peer === undefined) return;
    this.#peers.delete(pid);
    for (const kid of peer.keys.keys()) this.#actions.push({ do: "forget", kid });
    let knew = false;
    for (const key of [this.#current, this.#next]) knew = key?.holders.delete(pid) || knew;
    if (knew) this.#renewAt ??= now + GATHER_MS;
  }

  /**
   * What somebody has said by its sealed channel: `kind: "senderkey"`.
   *
   * @param {string} pid whose channel it came by
   * @param {unknown} value may be anything
   * @param {number} now
   * @returns {boolean} whether it was taken; if not, it is counted in `refused` and changes nothing
   */
  received(pid, value, now) {
    const message = readSenderKey(value);
    const peer = this.#peers.get(pid);
    if (message === null || peer === undefined || ownerOf(message.kid) !== peer.index) {
      this.refused += 1;
      return false;
    }
    const { kid, base } = message;
    const held = peer.keys.get(kid);
    if (held?.base === base) return true; // said again; taking it anew would forget which frames have been there
    for (const each of peer.keys.values()) each.forgetAt ??= now + KEEP_MS;
    // Behind the others, also if the KID is known: whoever has been reloaded begins again with the first generation.
    peer.keys.delete(kid);
    peer.keys.set(kid, { base, forgetAt: null });
    this.#actions.push({ do: "receive_with", kid, base: /** @type {Uint8Array} */ (fromText(base)) });
    if (peer.keys.size > MAX_HELD_KEYS) this.#forget(peer, /** @type {number} */ (peer.keys.keys().next().value));
    return true;
  }

  /** @param {number} now */
  tick(now) {
    if (this.#switchAt !== null && this.#switchAt <= now) this.#switch();
    if (this.#renewAt !== null && this.#renewAt <= now) this.#renew(now);
    for (const peer of this.#peers.values()) {
      for (const [kid, { forgetAt }] of [...peer.keys]) if (forgetAt !== null && forgetAt <= now) this.#forget(peer, kid);
    }
  }

  /** @returns {number | null} when to call `tick` at the latest; null if nothing is to come */
  get deadline() {
    const instants = [this.#switchAt, this.#renewAt];
    for (const { keys } of this.#peers.values()) for (const { forgetAt } of keys.values()) instants.push(forgetAt);
    const pending = instants.filter((at) => at !== null);
    return pending.length > 0 ? Math.min(...pending) : null;
  }

  /** @returns {KeyAction[]} what is to be done, in this order; each is handed out once */
  poll() {
    return this.#actions.splice(0);
  }

  /**
   * @param {number} generation
   * @returns {OwnKey}
   */
  #draw(generation) {
    return { kid: this.#index * GENERATIONS + generation, base: this.#drawBase(), holders: new Set() };
  }

  /**
   * Draw the next key and tell it to everybody who is here.
   *
   * After the last generation comes the first one again, with another key. Everybody has long forgotten the earlier one by then,
   * for nobody keeps more than `MAX_HELD_KEYS`; and no counter comes back with the KID (`FrameCounter`).
   *
   * @param {number} now
   */
  #renew(now) {
    this.#renewAt = null;
    const next = this.#draw((this.#current.kid + 1) % GENERATIONS);
    for (const pid of this.#peers.keys()) {
      next.holders.add(pid);
      this.#say(pid, next);
    }
    this.#next = next; // there is none: it has come into use before, `SWITCH_AFTER_MS` being no more than `GATHER_MS`
    this.#switchAt = now + SWITCH_AFTER_MS;
  }

  #switch() {
    if (this.#next !== null) this.#use(this.#next);
    this.#next = null;
    this.#switchAt = null;
    this.#actions.push({ do: "ask_key_frame" });
  }

  /** @param {OwnKey} key */
  #use(key) {
    this.#current = key;
    this.#actions.push({ do: "send_with", kid: key.kid, base: key.base });
  }

  /**
   * @param {string} pid
   * @param {OwnKey} key
   */
  #say(pid, { kid, base }) {
    this.#actions.push({ do: "say", to: pid, message: { kind: "senderkey", kid, base: toText(base) } });
  }

  /**
   * @param {Peer} peer
   * @param {number} kid
   */
  #forget(peer, kid) {
    peer.keys.delete(kid);
    this.#actions.push({ do: "forget", kid });
  }
}

/**
 * @param {number} index
 * @returns {number}
 */
function checkedIndex(index) {
  if (!Number.isInteger(index) || index < 0 || index >= INDEXES) throw new RangeError("no index of a participant");
  return index;
}
