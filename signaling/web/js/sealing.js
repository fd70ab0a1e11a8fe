/**
 * What two participants say to each other once they share a key: AES-256-GCM in both directions, in order, padded. And the
 * digits by which they see that nobody is in between.
 */

import { concat, utf8 } from "./bytes.js";

const PAD_TO = 256; // bytes: the length of a message shall not tell whether it is an offer or a candidate
const PAD_MARK = 0x80;
const VERSION = "vs/1";
const SAFETY_DIGITS = 6;
export const VALUE_BYTES = 32; // of the random value that a side commits to

/** @typedef {"a2b" | "b2a"} Direction */

/** One direction of one session. Each message has the next number, on both sides. */
class Sealer {
  #key;
  #associated;
  #count = 0n;

  /**
   * @param {CryptoKey} key
   * @param {Uint8Array} associated
   */
  constructor(key, associated) {
    this.#key = key;
    this.#associated = associated;
  }

  /**
   * @param {Uint8Array} plain
   * @returns {Promise<Uint8Array>}
   */
  async seal(plain) {
    const algorithm = this.#algorithm();
    this.#count += 1n; // before anything is awaited: no two messages may have one number
    return new Uint8Array(await crypto.subtle.encrypt(algorithm, this.#key, pad(plain)));
  }

  /**
   * @param {Uint8Array} sealed
   * @returns {Promise<Uint8Array | null>} null if it is not the next genuine message; then the number stays
   */
  async open(sealed) {
    try {
      const padded = new Uint8Array(await crypto.subtle.decrypt(this.#algorithm(), this.#key, sealed));
      this.#count += 1n;
      return unpad(padded);
    } catch {
      return null;
    }
  }

  #algorithm() {
    const iv = new Uint8Array(12);
    new DataView(iv.buffer).setBigUint64(4, this.#count);
    return { name: "AES-GCM", iv, additionalData: this.#associated };
  }
}

/**
 * @typedef {object} Session
 * @property {Sealer} outgoing
 * @property {Sealer} incoming
 * @property {(valueA: Uint8Array, valueB: Uint8Array) => Promise<string>} safetyCode six digits, the same on both sides, out of
 *   the session key and both random values
 */

/** @returns {Uint8Array} a random value that nobody can foresee */
export function drawValue() {
  return crypto.getRandomValues(new Uint8Array(VALUE_BYTES));
}

/**
 * What binds to a value without telling it.
 *
 * @param {Uint8Array} value
 * @returns {Promise<Uint8Array>} 32 bytes
 */
export async function commitTo(value) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", value));
}

/**
 * Derive the keys of a session.
 *
 * @param {Uint8Array} isk
 * @param {Uint8Array} transcript
 * @param {Uint8Array} epoch names the session in what is authenticated
 * @param {boolean} isA whether this side is the initiator
 * @returns {Promise<Session>}
 */
export async function openSession(isk, transcript, epoch, isA) {
  const base = await crypto.subtle.importKey("raw", isk, "HKDF", false, ["deriveKey", "deriveBits"]);
  const salt = new Uint8Array(await crypto.subtle.digest("SHA-256", transcript));
  const derivation = (/** @type {string} */ label, /** @type {Uint8Array[]} */ ...more) => {
    return { name: "HKDF", hash: "SHA-256", salt, info: concat(utf8(label), ...more) };
  };
  /** @param {Direction} direction @param {KeyUsage} usage */
  const sealer = async (direction, usage) => {
    const aes = { name: "AES-GCM", length: 256 };
    const key = await crypto.subtle.deriveKey(derivation(`${VERSION} seal ${direction}`), base, aes, false, [usage]);
    return new Sealer(key, concat(utf8(VERSION), utf8(direction), epoch));
  };
  const [outgoing, incoming] = await Promise.all([
    sealer(isA ? "a2b" : "b2a", "encrypt"),
    sealer(isA ? "b2a" : "a2b", "decrypt"),
  ]);
  /** @type {Session["safetyCode"]} */
  const safetyCode = async (valueA, valueB) => {
    const bits = new Uint8Array(await crypto.subtle.deriveBits(derivation(`${VERSION} sas`, valueA, valueB), base, 64));
    const digits = new DataView(bits.buffer).getBigUint64(0) % 10n ** BigInt(SAFETY_DIGITS);
    return String(digits).padStart(SAFETY_DIGITS, "0");
  };
  return { outgoing, incoming, safetyCode };
}

/** @param {Uint8Array} plain */
function pad(plain) {
  const padded = new Uint8Array(Math.ceil((plain.length + 1) / PAD_TO) * PAD_TO);
  padded.set(plain);
  padded[plain.length] = PAD_MARK;
  return padded;
}

/**
 * @param {Uint8Array} padded
 * @returns {Uint8Array | null}
 */
function unpad(padded) {
  const end = padded.lastIndexOf(PAD_MARK);
  if (end < 0 || padded.subarray(end + 1).some((byte) => byte !== 0)) return null;
  return padded.slice(0, end);
}
