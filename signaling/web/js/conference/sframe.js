/**
 * SFrame (RFC 9605) with cipher suite 4, AES_128_GCM_SHA256_128: one frame of media becomes a header and a ciphertext that
 * nobody on the way can read, change or repeat unnoticed. By WebCrypto; without page, worker, connection or clock.
 *
 * What stays readable in front of a frame (`clearPrefixLength`) is authenticated as the metadata of RFC 9605 §4.4.3.
 */

import { concat, utf8 } from "../bytes.js";

const CIPHER_SUITE = 4; // AES_128_GCM_SHA256_128, RFC 9605 §4.5
const KEY_BITS = 128; // Nk
const NONCE_BYTES = 12; // Nn
const TAG_BYTES = 16; // Nt
export const BASE_KEY_BYTES = 32;
const MAX_NUMBER = 2n ** 64n - 1n; // of a KID or a CTR: eight bytes
const SHORT_NUMBER = 7n; // the largest that fits into the first byte of a header
/**
 * How far a frame may come behind the newest one of its source. The counter runs on for all that its sender sends, with three layers of
 * a camera, sound and a screen some 170 in a second: so it is three seconds, in which what was lost is repaired.
 */
export const REPLAY_WINDOW = 512;
/** More than a year at 100 frames in a second: a counter that never restarts must never end either. */
export const MAX_FRAMES = 2n ** 32n;

/** @typedef {"microphone" | "camera" | "screen"} Source what a frame is a piece of */

/** @type {Record<Source, "audio" | "video">} */
export const KIND_OF = { microphone: "audio", camera: "video", screen: "video" };
/** @type {Record<Source, number>} */
const SOURCE_BYTES = { microphone: 1, camera: 2, screen: 3 };

/** VP8 (RFC 7741 §4.3): packetisers and servers read whether a frame is a key frame, and its size, out of these. */
const VP8_KEY_FRAME_BYTES = 10;
const VP8_DELTA_FRAME_BYTES = 1;
const VP8_DELTA_BIT = 1; // of the first byte, RFC 6386 §9.1

/**
 * @typedef {"malformed" | "replayed" | "forged"} Fault why a frame was refused: no SFrame at all; a counter that was there
 *   before, or is too old to tell; changed on the way, or under another key
 */

/** A frame that is not passed on. */
export class FrameRefused extends Error {
  /** @param {Fault} fault */
  constructor(fault) {
    super(`SFrame: ${fault}`);
    this.fault = fault;
  }
}

/**
 * How much of a frame stays readable: of sound nothing, of a VP8 picture its type and of a key frame also its size.
 *
 * Read from the frame and not from what the browser calls it, so that both ends come to the same end by the same bytes. Without a
 * clear prefix half of all frames would look like key frames to receivers, and each that cannot be decoded asks for more.
 *
 * @param {"audio" | "video"} kind
 * @param {Uint8Array} frame as the encoder made it, or as it came
 * @returns {number} bytes, at most the length of the frame
 */
export function clearPrefixLength(kind, frame) {
  if (kind === "audio" || frame.length === 0) return 0;
  return Math.min(frame.length, frame[0] & VP8_DELTA_BIT ? VP8_DELTA_FRAME_BYTES : VP8_KEY_FRAME_BYTES);
}

/**
 * What is authenticated with a frame: all that a participant sends is under one key, and the server says on which line what comes. So the
 * sender says of what source a frame is, lest a screen be shown as a face, or a picture of the one be mixed with those of the other.
 *
 * @param {Source} source
 * @param {Uint8Array} clear its clear prefix
 * @returns {Uint8Array} RFC 9605 §4.4.3
 */
export function metadataOf(source, clear) {
  return concat(Uint8Array.of(SOURCE_BYTES[source]), clear);
}

/**
 * RFC 9605 §4.3: a byte of configuration, then the numbers that do not fit into it, each in as few bytes as it takes.
 *
 * @param {bigint} kid key id, below 2⁶⁴
 * @param {bigint} ctr counter, below 2⁶⁴
 * @returns {Uint8Array} 1 to 17 bytes
 * @throws {RangeError} a number is negative or takes more than eight bytes
 */
export function encodeHeader(kid, ctr) {
  const [kidField, kidBytes] = encodeNumber(kid);
  const [ctrField, ctrBytes] = encodeNumber(ctr);
  return Uint8Array.of((kidField << 4) | ctrField, ...kidBytes, ...ctrBytes);
}

/**
 * @typedef {{ kid: bigint, ctr: bigint, length: number }} Header length in bytes
 *
 * @param {Uint8Array} sealed what begins with a header
 * @returns {Header}
 * @throws {FrameRefused} malformed: it ends within the header
 */
export function decodeHeader(sealed) {
  if (sealed.length === 0) throw new FrameRefused("malformed");
  const [kid, afterKid] = decodeNumber(sealed[0] >> 4, sealed, 1);
  const [ctr, length] = decodeNumber(sealed[0] & 0x0f, sealed, afterKid);
  return { kid, ctr, length };
}

/**
 * The four bits of the first byte, and what follows it.
 *
 * @param {bigint} number
 * @returns {[number, number[]]}
 */
function encodeNumber(number) {
  if (number < 0n || number > MAX_NUMBER) throw new RangeError("neither KID nor CTR can be that");
  if (number <= SHORT_NUMBER) return [Number(number), []];
  const bytes = [];
  for (let rest = number; rest > 0n; rest >>= 8n) bytes.unshift(Number(rest & 0xffn));
  return [0x08 | (bytes.length - 1), bytes];
}

/**
 * @param {number} field four bits
 * @param {Uint8Array} sealed
 * @param {number} at where its bytes begin, if it has any
 * @returns {[bigint, number]} the number, and where the next one begins
 */
function decodeNumber(field, sealed, at) {
  if (!(field & 0x08)) return [BigInt(field), at];
  const end = at + (field & 0x07) + 1;
  if (end > sealed.length) throw new FrameRefused("malformed");
  let number = 0n;
  for (const byte of sealed.subarray(at, end)) number = (number << 8n) | BigInt(byte);
  return [number, end];
}

/**
 * @param {"key" | "salt"} purpose
 * @param {bigint} kid
 * @returns {Uint8Array} the `info` of HKDF-Expand, RFC 9605 §4.4.2
 */
export function labelFor(purpose, kid) {
  const numbers = new DataView(new ArrayBuffer(10));
  numbers.setBigUint64(0, kid);
  numbers.setUint16(8, CIPHER_SUITE);
  return concat(utf8(`SFrame 1.0 Secret ${purpose} `), new Uint8Array(numbers.buffer));
}

/**
 * @param {Uint8Array} salt
 * @param {bigint} ctr
 * @returns {Uint8Array} RFC 9605 §4.4.3: the salt, exclusive or the counter
 */
export function nonceFor(salt, ctr) {
  const nonce = salt.slice();
  const low = new DataView(nonce.buffer, NONCE_BYTES - 8);
  low.setBigUint64(0, low.getBigUint64(0) ^ ctr);
  return nonce;
}

/**
 * RFC 9605 §4.4.2. The key never leaves the browser's cryptography.
 *
 * @param {Uint8Array} baseKey
 * @param {bigint} kid
 * @param {"encrypt" | "decrypt"} usage
 * @returns {Promise<{ key: CryptoKey, salt: Uint8Array }>}
 */
async function deriveKey(baseKey, kid, usage) {
  const base = await crypto.subtle.importKey("raw", baseKey, "HKDF", false, ["deriveKey", "deriveBits"]);
  const derivation = (/** @type {"key" | "salt"} */ purpose) => {
    return { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(0), info: labelFor(purpose, kid) };
  };
  const aes = { name: "AES-GCM", length: KEY_BITS };
  const key = await crypto.subtle.deriveKey(derivation("key"), base, aes, false, [usage]);
  const salt = new Uint8Array(await crypto.subtle.deriveBits(derivation("salt"), base, 8 * NONCE_BYTES));
  return { key, salt };
}

/**
 * Which counter comes next. One for all keys of a sender: so none ever restarts under a KID, even if a KID should come again
 * with another key.
 */
export class FrameCounter {
  #next;

  /** @param {bigint} next */
  constructor(next = 0n) {
    this.#next = next;
  }

  /**
   * @returns {bigint}
   * @throws {RangeError} all counters are used up
   */
  take() {
    if (this.#next >= MAX_FRAMES) throw new RangeError("no counter is left");
    const taken = this.#next;
    this.#next += 1n;
    return taken;
  }
}

/** Encrypts frames under one KID. */
export class FrameSealer {
  /** @type {bigint} */ #kid;
  /** @type {CryptoKey} */ #key;
  /** @type {Uint8Array} */ #salt;
  /** @type {FrameCounter} */ #counter;

  /**
   * @param {Uint8Array} baseKey
   * @param {bigint} kid
   * @param {FrameCounter} counter
   * @returns {Promise<FrameSealer>}
   */
  static async create(baseKey, kid, counter) {
    const sealer = new FrameSealer();
    const { key, salt } = await deriveKey(baseKey, kid, "encrypt");
    sealer.#kid = kid;
    sealer.#key = key;
    sealer.#salt = salt;
    sealer.#counter = counter;
    return sealer;
  }

  /** @returns {bigint} */
  get kid() {
    return this.#kid;
  }

  /**
   * @param {Uint8Array} plain
   * @param {Uint8Array} metadata is authenticated, but not part of what is returned
   * @returns {Promise<Uint8Array>} header and ciphertext
   * @throws {RangeError} all counters are used up
   */
  async seal(plain, metadata) {
    const ctr = this.#counter.take(); // before anything is awaited: no two frames may have one counter
    const header = encodeHeader(this.#kid, ctr);
    return concat(header, new Uint8Array(await crypto.subtle.encrypt(parameters(this.#salt, ctr, header, metadata), this.#key, plain)));
  }
}

/** Decrypts frames under one KID, each at most once. */
export class FrameOpener {
  /** @type {CryptoKey} */ #key;
  /** @type {Uint8Array} */ #salt;
  /**
   * One for each stream: a large picture of a screen may be on its way for so long that sound is far ahead of it.
   *
   * @type {Map<string, ReplayWindow>}
   */
  #windows = new Map();

  /**
   * @param {Uint8Array} baseKey
   * @param {bigint} kid
   * @returns {Promise<FrameOpener>}
   */
  static async create(baseKey, kid) {
    const opener = new FrameOpener();
    const { key, salt } = await deriveKey(baseKey, kid, "decrypt");
    opener.#key = key;
    opener.#salt = salt;
    return opener;
  }

  /**
   * @param {Header} header of `sealed`, under the KID of this opener
   * @param {Uint8Array} sealed header and ciphertext
   * @param {Uint8Array} metadata
   * @param {string} [stream] one of few; `metadata` must say which, else a frame could be repeated in another one
   * @returns {Promise<Uint8Array>} the frame without its metadata
   * @throws {FrameRefused}
   */
  async open({ ctr, length }, sealed, metadata, stream = "") {
    if (sealed.length < length + TAG_BYTES) throw new FrameRefused("malformed");
    const window = this.#windowOf(stream);
    if (!window.isFresh(ctr)) throw new FrameRefused("replayed");
    const algorithm = parameters(this.#salt, ctr, sealed.subarray(0, length), metadata);
    const plain = await this.#decrypt(algorithm, sealed.subarray(length));
    // Once more, because the same frame may have been opened by another line meanwhile; and only what is genuine is noted.
    if (!window.note(ctr)) throw new FrameRefused("replayed");
    return plain;
  }

  /** @param {string} stream */
  #windowOf(stream) {
    const window = this.#windows.get(stream) ?? new ReplayWindow();
    this.#windows.set(stream, window);
    return window;
  }

  /**
   * @param {AesGcmParams} algorithm
   * @param {Uint8Array} ciphertext
   */
  async #decrypt(algorithm, ciphertext) {
    try {
      return new Uint8Array(await crypto.subtle.decrypt(algorithm, this.#key, ciphertext));
    } catch (error) {
      if (error.name === "OperationError") throw new FrameRefused("forged");
      throw error;
    }
  }
}

/** Which of the last counters have been there (RFC 9605 §7.3). */
export class ReplayWindow {
  #newest = -1n;
  /** Bit n: the counter n below the newest one. */
  #seen = 0n;

  /** @param {bigint} ctr */
  isFresh(ctr) {
    if (ctr > this.#newest) return true;
    const behind = this.#newest - ctr;
    return behind < BigInt(REPLAY_WINDOW) && !((this.#seen >> behind) & 1n);
  }

  /**
   * @param {bigint} ctr
   * @returns {boolean} whether it was fresh
   */
  note(ctr) {
    if (!this.isFresh(ctr)) return false;
    if (ctr <= this.#newest) {
      this.#seen |= 1n << (this.#newest - ctr);
      return true;
    }
    const ahead = ctr - this.#newest;
    // A jump beyond the window leaves nothing of it; it must not cost as many bits as it is long.
    this.#seen = ahead < BigInt(REPLAY_WINDOW) ? BigInt.asUintN(REPLAY_WINDOW, (this.#seen << ahead) | 1n) : 1n;
    this.#newest = ctr;
    return true;
  }
}

/**
 * @param {Uint8Array} salt
 * @param {bigint} ctr
 * @param {Uint8Array} header
 * @param {Uint8Array} metadata
 * @returns {AesGcmParams}
 */
function parameters(salt, ctr, header, metadata) {
  return { name: "AES-GCM", iv: nonceFor(salt, ctr), additionalData: concat(header, metadata), tagLength: 8 * TAG_BYTES };
}
