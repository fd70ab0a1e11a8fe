/**
 * Encrypts and decrypts the media of a conference, frame by frame, beside the page: a module worker for
 * `RTCRtpScriptTransform`, which `sealed_media.js` starts and tells what to do.
 *
 * A line is one direction of one m-line. Whatever cannot be encrypted or decrypted is dropped and counted by reason; nothing is
 * ever passed on as it came.
 */

import { concat } from "../bytes.js";
import { clearPrefixLength, decodeHeader, FrameCounter, FrameOpener, FrameRefused, FrameSealer, metadataOf } from "./sframe.js";
import { ownerOf } from "./sender_keys.js";

/**
 * @typedef {object} LineOptions the options of the transform
 * @property {number} line names it in both directions
 * @property {"send" | "receive"} direction
 * @property {"audio" | "video"} kind
 * @property {number | null} owner whose frames may come: the index of a participant; null for nobody, and when sending
 * @property {import("./sframe.js").Source | null} source what is sent, or may come; null for nothing
 *
 * @typedef {import("./sframe.js").Fault | "no_key" | "unknown_key" | "wrong_owner" | "failed"} DropReason nothing to encrypt with
 *   yet; no such key, or not any more; a key of somebody else than whose m-line it is; the browser's cryptography refuses
 *
 * @typedef {object} LineCounts frames since the line began
 * @property {number} line
 * @property {number} encrypted
 * @property {number} decrypted
 * @property {Partial<Record<DropReason, number>>} dropped
 * @property {number | null} kid of the last frame that was passed on
 *
 * @typedef {{ do: "send_with" | "receive_with", kid: number, base: Uint8Array }
 *   | { do: "forget", kid: number }
 *   | { do: "assign", ask: number, line: number, owner: number | null, source: import("./sframe.js").Source | null }
 *   | { do: "key_frame", line: number, rids: string[] }
 *   | { do: "count", ask: number }} Order
 *
 * @typedef {{ told: "ready", ask: number, generatesKeyFrames: boolean }
 *   | { told: "assigned", ask: number }
 *   | { told: "counts", ask: number, counts: LineCounts[] }} News what was asked by `ask`, for `ready` by the number of the line
 */

/** Only what `SenderKeys` has bounded comes in here: keys by their KID. @type {Map<number, FrameOpener>} */
const openers = new Map();
/** @type {FrameSealer | null} */
let sealer = null;
const counter = new FrameCounter(); // of all sending lines and all keys
/** @type {Map<number, Line>} */
const lines = new Map();
/** Keys are imported one after the other: the last one told is the one that counts. */
let work = Promise.resolve();

class FrameDropped extends Error {
  /** @param {DropReason} reason */
  constructor(reason) {
    super(reason);
    this.reason = reason;
  }
}

class Line {
  #options;
  #transformer;
  #dropped = /** @type {Partial<Record<DropReason, number>>} */ ({});
  #passed = 0;
  /** @type {number | null} */ #kid = null;
  /** Since the last picture that could be decrypted, one could not, for want of its key. */
  #starved = false;
  owner;
  source;

  /**
   * @param {LineOptions} options
   * @param {RTCRtpScriptTransformer} transformer
   */
  constructor(options, transformer) {
    this.#options = options;
    this.#transformer = transformer;
    this.owner = options.owner;
    this.source = options.source;
  }

  /** @returns {LineCounts} */
  get counts() {
    const [encrypted, decrypted] = this.#options.direction === "send" ? [this.#passed, 0] : [0, this.#passed];
    return { line: this.#options.line, encrypted, decrypted, dropped: { ...this.#dropped }, kid: this.#kid };
  }

  /**
   * @param {RTCEncodedVideoFrame | RTCEncodedAudioFrame} frame
   * @param {TransformStreamDefaultController} out
   */
  async take(frame, out) {
    try {
      const data = new Uint8Array(frame.data);
      const [kid, changed] = await (this.#options.direction === "send" ? this.#seal(data) : this.#open(data));
      frame.data = changed.buffer;
      this.#kid = kid;
    } catch (error) {
      this.#drop(error);
      return;
    }
    this.#passed += 1;
    this.#starved = false;
    out.enqueue(frame);
  }

  /** A key has come: whoever waited for it needs a picture that does not build upon those that were dropped. */
  async awake() {
    if (!this.#starved || this.#options.kind !== "video" || !("sendKeyFrameRequest" in this.#transformer)) return;
    this.#starved = false;
    try {
      await this.#transformer.sendKeyFrameRequest();
    } catch (error) {
      // The line has just ended, or the browser asks by itself, only later.
      console.warn("media worker: no key frame asked for", error.name);
    }
  }

  /** @param {string[]} rids of the layers; none if there is but one */
  makeKeyFrames(rids) {
    // Side by side: the answer for a layer that is paused may never come.
    for (const rid of rids.length > 0 ? rids : [undefined]) void this.#makeKeyFrame(rid);
  }

  /** @param {string | undefined} rid */
  async #makeKeyFrame(rid) {
    try {
      await this.#transformer.generateKeyFrame(rid);
    } catch (error) {
      // Nothing is being encoded at present: then the next picture is a whole one anyway.
      if (error.name === "InvalidStateError" || error.name === "NotFoundError") return;
      console.warn("media worker: no key frame made", error.name);
    }
  }

  /**
   * @param {Uint8Array} data
   * @returns {Promise<[number, Uint8Array]>} the KID, and what is sent
   */
  async #seal(data) {
    const used = sealer; // may change while it is awaited
    if (used === null || this.source === null) throw new FrameDropped("no_key");
    const clear = data.subarray(0, clearPrefixLength(this.#options.kind, data));
    return [Number(used.kid), concat(clear, await used.seal(data.subarray(clear.length), metadataOf(this.source, clear)))];
  }

  /**
   * @param {Uint8Array} data
   * @returns {Promise<[number, Uint8Array]>} the KID, and what is decoded
   */
  async #open(data) {
    const clear = data.subarray(0, clearPrefixLength(this.#options.kind, data));
    const sealed = data.subarray(clear.length);
    const header = decodeHeader(sealed);
    const kid = Number(header.kid); // inexact beyond 2⁵³, where nobody has a key
    const { owner, source } = this;
    if (ownerOf(kid) !== owner || source === null) throw new FrameDropped("wrong_owner");
    const opener = openers.get(kid);
    if (opener === undefined) throw new FrameDropped("unknown_key");
    const plain = await opener.open(header, sealed, metadataOf(source, clear), source);
    // The line, or the key, may have been taken away meanwhile.
    if (owner !== this.owner || source !== this.source) throw new FrameDropped("wrong_owner");
    if (opener !== openers.get(kid)) throw new FrameDropped("unknown_key");
    return [kid, concat(clear, plain)];
  }

  /** @param {Error} error */
  #drop(error) {
    const reason = error instanceof FrameRefused ? error.fault : error instanceof FrameDropped ? error.reason : "failed";
    if (reason === "unknown_key" || reason === "forged") this.#starved = true; // forged: of the key before a reload
    this.#dropped[reason] = (this.#dropped[reason] ?? 0) + 1;
    if (reason === "failed" && this.#dropped.failed === 1) console.error("media worker: frames are dropped", error);
  }
}

/** @param {News} news */
function tell(news) {
  postMessage(news);
}

/** @type {Record<string, (order: any) => void | Promise<void>>} */
const orders = {
  send_with: async ({ kid, base }) => {
    sealer = await FrameSealer.create(base, BigInt(kid), counter);
  },
  receive_with: async ({ kid, base }) => {
    openers.set(kid, await FrameOpener.create(base, BigInt(kid)));
    for (const line of lines.values()) if (line.owner === ownerOf(kid)) void line.awake();
  },
  forget: ({ kid }) => void openers.delete(kid),
  assign: ({ ask, line, owner, source }) => {
    const assigned = lines.get(line);
    if (assigned !== undefined) Object.assign(assigned, { owner, source }); // else it has ended, and nothing passes anyway
    tell({ told: "assigned", ask });
  },
  key_frame: ({ line, rids }) => void lines.get(line)?.makeKeyFrames(rids),
};

self.onmessage = ({ data }) => {
  // Not behind the keys: whoever asks wants to know at once.
  if (data.do === "count") tell({ told: "counts", ask: data.ask, counts: [...lines.values()].map(({ counts }) => counts) });
  else work = work.then(() => orders[data.do](data)).catch((error) => console.error("media worker: an order has failed", data.do, error));
};

self.onrtctransform = ({ transformer }) => {
  /** @type {LineOptions} */
  const options = transformer.options;
  const line = new Line(options, transformer);
  lines.set(options.line, line);
  const ended = () => void lines.delete(options.line);
  const transform = new TransformStream({ transform: (frame, out) => line.take(frame, out) });
  // However it ends, by the connection or by an error, nothing more passes.
  transformer.readable.pipeThrough(transform).pipeTo(transformer.writable).then(ended, ended);
  tell({ told: "ready", ask: options.line, generatesKeyFrames: typeof transformer.generateKeyFrame === "function" });
};
