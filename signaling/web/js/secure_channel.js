/**
 * The way to one other participant that the server in between can neither read nor bend.
 *
 * Both sides commit to a random value (`ke1`), agree on a key by their secret (`ke2`), prove that they have it (`ke3`),
 * reveal their values, and only then say anything, sealed. Without page, socket or clock: blobs go in and out, and
 * whoever holds the channel is told what has become of it. Blobs are text in parts: kind, session, and what belongs to
 * it, in base64url.
 *
 * A proof answers the question whether a guessed secret was right. So the organiser (A) proves first, and the participant
 * only to who has proved: without the secret nobody can ask a participant at all, and who has asked an organiser and
 * does not go on is counted (`abandoned`).
 *
 * The commitments keep the safety code honest towards somebody in between who does know the secret: nobody can search
 * for keys until the digits on both sides agree, because the digits also depend on values that are seen too late.
 */

import { concat, equal, fromText, prefixed, toText, utf8 } from "./bytes.js";
import { confirm, drawScalar, makeGenerator, multiply, sessionKey, transcriptOf } from "./cpace.js";
import { commitTo, drawValue, openSession, VALUE_BYTES } from "./sealing.js";

const PROTOCOL = "videosprechstunde/e2ee/1";
const VERSION = "1";
const COMMITMENT_BYTES = 32;
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
 * @property {() => void} abandoned the other one has seen the proof of this side, and has not gone on
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
  /** The own value, kept until an agreement has revealed it. @type {Uint8Array} */ #value;
  /** What `ke1` says: the hash of the own value, and by that as fresh as a nonce. @type {Uint8Array} */ #commitment;
  /** @type {Agreement | null} */ #agreement = null;
  #closed = false;
  #agreesNoMore = false;
  /** What comes is dealt with in order, and so is what is sent: WebCrypto takes its time. */
  #work = Promise.resolve();
  #sending = Promise.resolve();
  #waiting = 0;

  /**
   * @param {{ secret: string, room: string, own: Participant, peer: Participant, isA?: boolean, handlers: ChannelHandlers }} options
   *   `isA`: between two, the organiser; in a conference, whose index is smaller
   */
  constructor({ secret, room, own, peer, isA = own.role === "organiser", handlers }) {
    this.#secret = utf8(secret);
    this.#isA = isA;
    const [a, b] = this.#isA ? [own, peer] : [peer, own];
    this.#channelName = prefixed(utf8(PROTOCOL), utf8(room), utf8(`A:${a.role}${a.pid}`), utf8(`B:${b.role}${b.pid}`));
    this.#ownAd = associatedData(own);
    this.#theirAd = associatedData(peer);
    this.#handlers = handlers;
    this.#enqueue(() => this.#introduce());
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
    this.#enqueue(async () => {
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
    if (agreement?.complete) this.#seal(agreement, plain);
  }

  /** @returns {Promise<void>} done when all that has been said so far is on its way */
  get flushed() {
    return this.#sending;
  }

  /** No key is agreed on from now on. What has been agreed on serves until something is lost. */
  agreeNoMore() {
    this.#agreesNoMore = true;
    if (!this.#agreement?.complete) this.close();
  }

  /** Nothing is sent and nothing is told afterwards; but an agreement that ends by this may be told as abandoned. */
  close() {
    this.#drop();
    this.#closed = true;
  }

  /** @param {() => Promise<void>} step */
  #enqueue(step) {
    this.#work = this.#work.then(step).catch((error) => console.error("secure channel: a step has failed", error));
  }

  /**
   * @param {string} kind
   * @param {Uint8Array[]} parts
   */
  async #take(kind, parts) {
    if (kind !== "sealed" && this.#agreesNoMore) return;
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
    else if (kind === "refused") this.#refused(agreement, rest);
  }

  /** Commit to a new value. */
  async #introduce() {
    this.#value = drawValue();
    this.#commitment = await commitTo(this.#value);
    if (!this.#closed) this.#say("ke1", this.#commitment);
  }

  /**
   * Both commitments are known: name the session and say the own share.
   *
   * Two pages that renew at once must come to rest, so a renewal by the other side is no reason to draw anew: the same
   * commitment is said again, which the other side ignores if it knows it. Only a value that has been revealed is
   * replaced. A `sid` may thus come again, if the other side repeats itself; no key does: every agreement draws a scalar
   * of its own, the session key is a hash over both shares, and so AES-GCM never meets a pair of key and nonce twice.
   *
   * @param {Uint8Array[]} parts
   */
  async #pair([theirs, ...rest]) {
    if (theirs?.length !== COMMITMENT_BYTES || rest.length > 0 || equal(theirs, this.#commitment)) return;
    const earlier = this.#agreement;
    if (earlier !== null) {
      if (equal(earlier.theirCommitment, theirs)) return;
      this.#drop();
      if (this.#closed) return; // it was one guess too many
      this.#tell("renewed");
      if (earlier.session !== null) await this.#introduce();
      else this.#say("ke1", this.#commitment);
    }
    if (this.#closed || this.#agreesNoMore) return;
    const sid = this.#isA ? concat(this.#commitment, theirs) : concat(theirs, this.#commitment);
    const agreement = new Agreement(sid, this.#value, theirs);
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
    if (this.#isA) await this.#prove(agreement);
  }

  /** From here on the other side knows whether it has guessed right. @param {Agreement} agreement */
  async #prove(agreement) {
    const proof = await confirm(agreement.sid, agreement.isk, agreement.own);
    if (!this.#isCurrent(agreement)) return;
    agreement.hasProved = true;
    this.#say("ke3", agreement.sid, proof);
  }

  /**
   * @param {Agreement} agreement
   * @param {Uint8Array[]} parts
   */
  async #verify(agreement, [proof, ...rest]) {
    if (agreement.session !== null || agreement.hasFailed) return;
    if (agreement.isk === null || proof?.length !== MAC_BYTES || rest.length > 0) throw new Mismatch();
    if (!equal(proof, await confirm(agreement.sid, agreement.isk, agreement.theirs))) throw new Mismatch();
    if (!this.#isA) await this.#prove(agreement);
    const session = await openSession(agreement.isk, agreement.transcript, agreement.sid, this.#isA);
    if (!this.#isCurrent(agreement)) return;
    agreement.session = session;
    this.#seal(agreement, agreement.ownValue);
  }

  /**
   * @param {Agreement} agreement
   * @param {Uint8Array[]} parts
   */
  async #unseal(agreement, [sealed, ...rest]) {
    const { session } = agreement;
    if (session === null || agreement.hasFailed || sealed === undefined || rest.length > 0) return;
    const plain = await session.incoming.open(sealed);
    if (!this.#isCurrent(agreement)) return;
    if (plain === null) await this.#begin(); // something was changed or left out: what follows can never be opened
    else if (agreement.complete) this.#tell("message", plain);
    else await this.#guarded(() => this.#reveal(agreement, plain));
  }

  /**
   * The first sealed message of the other side is the value that it had committed to.
   *
   * @param {Agreement} agreement
   * @param {Uint8Array} theirs
   */
  async #reveal(agreement, theirs) {
    if (theirs.length !== VALUE_BYTES || !equal(await commitTo(theirs), agreement.theirCommitment)) throw new Mismatch();
    const [a, b] = this.#isA ? [agreement.ownValue, theirs] : [theirs, agreement.ownValue];
    const safetyCode = await agreement.session.safetyCode(a, b);
    if (!this.#isCurrent(agreement)) return;
    agreement.complete = true;
    this.#tell("verified", safetyCode);
  }

  /** Agree anew, with a new value. */
  async #begin() {
    this.#drop();
    if (this.#closed) return;
    this.#tell("renewed");
    if (!this.#agreesNoMore) await this.#introduce();
  }

  /** Forget the agreement. If the other side could learn from it and has not gone on, that was a guess. */
  #drop() {
    const agreement = this.#agreement;
    this.#agreement = null;
    if (agreement?.hasProved && !agreement.complete && !agreement.hasFailed) this.#tell("abandoned");
  }

  /**
   * The other side takes this one for a stranger: whoever waits for its proof would wait in vain.
   *
   * @param {Agreement} agreement
   * @param {Uint8Array[]} rest
   */
  #refused(agreement, rest) {
    if (rest.length > 0 || agreement.complete || agreement.hasFailed) return;
    agreement.hasFailed = true;
    this.#tell("failed");
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
      this.#say("refused", agreement.sid);
      this.#tell("failed");
    }
  }

  /**
   * What fails in whoever is told is no failure of the agreement.
   *
   * @param {keyof ChannelHandlers} event
   * @param {...any} values
   */
  #tell(event, ...values) {
    try {
      /** @type {(...values: any[]) => void} */ (this.#handlers[event])(...values);
    } catch (error) {
      console.error("secure channel: whoever was told has failed", event, error);
    }
  }

  /**
   * @param {Agreement} agreement
   * @param {Uint8Array} plain
   */
  #seal(agreement, plain) {
    const sealed = agreement.session.outgoing.seal(plain); // numbered now, in the order of the calls
    this.#sending = this.#sending
      .then(async () => {
        const bytes = await sealed;
        if (this.#agreement === agreement) this.#say("sealed", agreement.sid, bytes);
      })
      .catch((error) => console.error("secure channel: a message was not sent", error));
  }

  /** @param {Agreement} agreement */
  #isCurrent(agreement) {
    return !this.#closed && this.#agreement === agreement;
  }

  /**
   * @param {"ke1" | "ke2" | "ke3" | "refused" | "sealed"} kind
   * @param {...Uint8Array} parts
   */
  #say(kind, ...parts) {
    this.#tell("send", [kind, ...parts.map(toText)].join("."));
  }
}

/** What one pair of commitments has led to so far. */
class Agreement {
  /** @type {CryptoKey | null} */ scalar = null;
  /** @type {import("./cpace.js").Share | null} */ own = null;
  /** @type {import("./cpace.js").Share | null} */ theirs = null;
  /** @type {Uint8Array | null} */ transcript = null;
  /** @type {Uint8Array | null} */ isk = null;
  /** @type {import("./sealing.js").Session | null} */ session = null;
  /** The own proof is on its way. */ hasProved = false;
  /** The other side has proved itself, and has revealed its value. */ complete = false;
  hasFailed = false;

  /**
   * @param {Uint8Array} sid
   * @param {Uint8Array} ownValue
   * @param {Uint8Array} theirCommitment
   */
  constructor(sid, ownValue, theirCommitment) {
    this.sid = sid;
    this.ownValue = ownValue;
    this.theirCommitment = theirCommitment;
  }
}

/** What the other side says does not fit. */
class Mismatch extends Error {}

/** @param {Participant} participant */
function associatedData({ role, pid }) {
  return utf8(`${role}${pid}${VERSION}`);
}
