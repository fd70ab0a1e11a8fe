/**
 * The way to one other participant that the server in between can neither read nor bend.
 *
 * Both sides draw a nonce (`ke1`), agree on a key by their secret (`ke2`), prove that they have it (`ke3`), and only then
 * say anything, sealed. Without page, socket or clock: blobs go in and out, and whoever holds the channel is told what
 * has become of it. Blobs are text in parts: kind, session, and what belongs to it, in base64url.
 */

import { concat, equal, fromText, prefixed, toText, utf8 } from "./bytes.js";
import { confirm, drawScalar, makeGenerator, multiply, sessionKey, transcriptOf } from "./cpace.js";
import { openSession } from "./sealing.js";

const PROTOCOL = "videosprechstunde/e2ee/1";
const VERSION = "1";
const NONCE_BYTES = 16;
const POINT_BYTES = 32;
const MAC_BYTES = 64;
const MAX_BLOB_CHARACTERS = 65_000; // as many as the server carries
const MAX_WAITING = 256; // blobs that have come while one is being worked on; candidates come in swarms

/**
 * @typedef {{ pid: string, role: string }} Participant
 *
 * @typedef {object} ChannelHandlers
 * @property {(blob: string) => void} send
 * @property {(safetyCode: string) => void} verified the other one has the same secret
 * @property {() => void} failed the other one has not, or somebody in between changes what is said
 * @property {() => void} renewed the other one begins anew: what is sent before the next `verified` is dropped
 * @property {(plain: Uint8Array) => void} message
 */

export class SecureChannel {
  #secret;
  #channelName;
  #isA;
  #ownAd;
  #theirAd;
  /** @type {ChannelHandlers} */ #handlers;
  #nonce = drawNonce();
  /** @type {Agreement | null} */ #agreement = null;
  #closed = false;
  /** What comes is dealt with in order, and so is what is sent: WebCrypto takes its time. */
  #work = Promise.resolve();
  #sending = Promise.resolve();
  #waiting = 0;

  /**
   * @param {{ secret: string, room: string, own: Participant, peer: Participant, handlers: ChannelHandlers }} options
   */
  constructor({ secret, room, own, peer, handlers }) {
    this.#secret = utf8(secret);
    this.#isA = own.role === "organiser";
    const [a, b] = this.#isA ? [own, peer] : [peer, own];
    this.#channelName = prefixed(utf8(PROTOCOL), utf8(room), utf8(`A:${a.role}${a.pid}`), utf8(`B:${b.role}${b.pid}`));
    this.#ownAd = associatedData(own);
    this.#theirAd = associatedData(peer);
    this.#handlers = handlers;
    this.#say("ke1", this.#nonce);
  }

  /**
   * Take a blob of the other participant, or of whoever pretends to be that.
   *
   * @param {unknown} blob
   */
  receive(blob) {
    if (typeof blob !== "string" || blob.length > MAX_BLOB_CHARACTERS || this.#waiting >= MAX_WAITING) return;
    const [kind, ...texts] = blob.split(".", 5);
    const parts = texts.map(fromText);
    if (parts.includes(null)) return;
    this.#waiting += 1;
    this.#work = this.#work.then(async () => {
      this.#waiting -= 1;
      if (!this.#closed) await this.#take(kind, /** @type {Uint8Array[]} */ (parts));
    });
  }

  /**
   * Seal a message and send it; before the other side is verified, nothing is sent at all.
   *
   * @param {Uint8Array} plain
   */
  send(plain) {
    const agreement = this.#agreement;
    if (agreement?.session == null) return;
    const { session, sid } = agreement;
    const sealed = session.outgoing.seal(plain);
    this.#sending = this.#sending.then(async () => {
      const bytes = await sealed;
      if (this.#agreement === agreement) this.#say("sealed", sid, bytes);
    });
  }

  /** @returns {Promise<void>} done when all that has been said so far is on its way */
  get flushed() {
    return this.#sending;
  }

  /** Nothing is sent and nothing is told afterwards. */
  close() {
    this.#closed = true;
    this.#agreement = null;
  }

  /**
   * @param {string} kind
   * @param {Uint8Array[]} parts
   */
  async #take(kind, parts) {
    if (kind === "ke1") {
      await this.#guarded(() => this.#pair(parts));
      return;
    }
    const agreement = this.#agreement;
    const [sid, ...rest] = parts;
    if (agreement === null || sid === undefined || !equal(sid, agreement.sid)) return; // of an earlier session
    if (kind === "sealed") await this.#unseal(agreement, rest);
    else if (kind === "ke2") await this.#guarded(() => this.#agree(agreement, rest));
    else if (kind === "ke3") await this.#guarded(() => this.#verify(agreement, rest));
  }

  /** Both nonces are known: name the session and say the own share. @param {Uint8Array[]} parts */
  async #pair([theirs, ...rest]) {
    if (theirs?.length !== NONCE_BYTES || rest.length > 0 || equal(theirs, this.#nonce)) return;
    const earlier = this.#agreement;
    if (earlier !== null) {
      if (equal(earlier.theirNonce, theirs)) return;
      this.#nonce = drawNonce();
      this.#say("ke1", this.#nonce);
      this.#handlers.renewed();
    }
    const sid = this.#isA ? concat(this.#nonce, theirs) : concat(theirs, this.#nonce);
    const agreement = new Agreement(sid, theirs);
    this.#agreement = agreement;
    const generator = await makeGenerator(this.#secret, this.#channelName, sid);
    agreement.scalar = await drawScalar();
    agreement.own = { y: await multiply(agreement.scalar, generator), ad: this.#ownAd };
    if (this.#isCurrent(agreement)) this.#say("ke2", sid, agreement.own.y, agreement.own.ad);
  }

  /**
   * @param {Agreement} agreement
   * @param {Uint8Array[]} parts
   */
  async #agree(agreement, [y, ad, ...rest]) {
    if (agreement.isk !== null || agreement.hasFailed) return;
    if (y?.length !== POINT_BYTES || rest.length > 0 || ad === undefined || !equal(ad, this.#theirAd)) throw new Mismatch();
    if (equal(y, agreement.own.y)) throw new Mismatch(); // the own share, sent back
    agreement.theirs = { y, ad };
    const [a, b] = this.#isA ? [agreement.own, agreement.theirs] : [agreement.theirs, agreement.own];
    agreement.transcript = transcriptOf(a, b);
    const shared = await multiply(agreement.scalar, y);
    agreement.isk = await sessionKey(agreement.sid, shared, agreement.transcript);
    const proof = await confirm(agreement.sid, agreement.isk, agreement.own);
    if (this.#isCurrent(agreement)) this.#say("ke3", agreement.sid, proof);
  }

  /**
   * @param {Agreement} agreement
   * @param {Uint8Array[]} parts
   */
  async #verify(agreement, [proof, ...rest]) {
    if (agreement.session !== null || agreement.hasFailed) return;
    if (agreement.isk === null || proof?.length !== MAC_BYTES || rest.length > 0) throw new Mismatch();
    if (!equal(proof, await confirm(agreement.sid, agreement.isk, agreement.theirs))) throw new Mismatch();
    const session = await openSession(agreement.isk, agreement.transcript, agreement.sid, this.#isA);
    if (!this.#isCurrent(agreement)) return;
    agreement.session = session;
    this.#handlers.verified(session.safetyCode);
  }

  /**
   * @param {Agreement} agreement
   * @param {Uint8Array[]} parts
   */
  async #unseal({ session }, [sealed, ...rest]) {
    if (session === null || sealed === undefined || rest.length > 0) return;
    const plain = await session.incoming.open(sealed);
    if (this.#closed || this.#agreement?.session !== session) return;
    if (plain !== null) this.#handlers.message(plain);
    else this.#begin(); // something was changed or left out: what follows can never be opened
  }

  /** Agree anew, with a new nonce. */
  #begin() {
    this.#nonce = drawNonce();
    this.#agreement = null;
    this.#handlers.renewed();
    this.#say("ke1", this.#nonce);
  }

  /**
   * Whatever goes wrong while keys are agreed on is a failure of the agreement: a point of low order, a wrong proof.
   *
   * @param {() => Promise<void>} step
   */
  async #guarded(step) {
    try {
      await step();
    } catch {
      const agreement = this.#agreement;
      if (agreement === null || agreement.hasFailed) return;
      agreement.hasFailed = true;
      this.#handlers.failed();
    }
  }

  /** @param {Agreement} agreement */
  #isCurrent(agreement) {
    return !this.#closed && this.#agreement === agreement;
  }

  /**
   * @param {"ke1" | "ke2" | "ke3" | "sealed"} kind
   * @param {...Uint8Array} parts
   */
  #say(kind, ...parts) {
    this.#handlers.send([kind, ...parts.map(toText)].join("."));
  }
}

/** What one pair of nonces has led to so far. */
class Agreement {
  /** @type {CryptoKey | null} */ scalar = null;
  /** @type {import("./cpace.js").Share | null} */ own = null;
  /** @type {import("./cpace.js").Share | null} */ theirs = null;
  /** @type {Uint8Array | null} */ transcript = null;
  /** @type {Uint8Array | null} */ isk = null;
  /** @type {import("./sealing.js").Session | null} */ session = null;
  hasFailed = false;

  /**
   * @param {Uint8Array} sid
   * @param {Uint8Array} theirNonce
   */
  constructor(sid, theirNonce) {
    this.sid = sid;
    this.theirNonce = theirNonce;
  }
}

/** What the other side says does not fit. */
class Mismatch extends Error {}

function drawNonce() {
  return crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
}

/** @param {Participant} participant */
function associatedData({ role, pid }) {
  return utf8(`${role}${pid}${VERSION}`);
}
