/**
 * CPace: two people who share a short secret agree on a strong key, and nobody in between can do better than to guess
 * the secret once for each attempt (draft-irtf-cfrg-cpace, CPACE-X25519-SHA512, initiator and responder).
 */

import { concat, equal, prefixed, utf8 } from "./bytes.js";
import { mapToCurve } from "./elligator.js";

const NAME = "CPace255";
const SHA512_BLOCK = 128; // bytes
const POINT_BYTES = 32;

/**
 * @typedef {{ y: Uint8Array, ad: Uint8Array }} Share what one side sends: its point and its associated data
 */

/**
 * The generator that both sides compute from what they share.
 *
 * @param {Uint8Array} secret PRS
 * @param {Uint8Array} channel CI, who speaks with whom
 * @param {Uint8Array} sid
 */
export async function makeGenerator(secret, channel, sid) {
  const name = utf8(NAME);
  const padding = Math.max(0, SHA512_BLOCK - 1 - prefixed(secret).length - prefixed(name).length);
  const hash = await sha512(prefixed(name, secret, new Uint8Array(padding), channel, sid));
  return mapToCurve(hash.slice(0, POINT_BYTES));
}

/** @returns {Promise<CryptoKey>} a scalar that never leaves the browser */
export async function drawScalar() {
  const pair = /** @type {CryptoKeyPair} */ (await crypto.subtle.generateKey({ name: "X25519" }, false, ["deriveBits"]));
  return pair.privateKey;
}

/**
 * X25519. Points of low order are refused by the browser, and here, too: not every browser has always done it.
 *
 * @param {CryptoKey} scalar
 * @param {Uint8Array} point 32 bytes
 * @returns {Promise<Uint8Array>}
 * @throws {DOMException | RangeError} the point is of low order, or none
 */
export async function multiply(scalar, point) {
  const key = await crypto.subtle.importKey("raw", point, { name: "X25519" }, false, []);
  const product = new Uint8Array(await crypto.subtle.deriveBits({ name: "X25519", public: key }, scalar, 8 * POINT_BYTES));
  if (equal(product, new Uint8Array(POINT_BYTES))) throw new RangeError("a point of low order");
  return product;
}

/**
 * What both sides have said, the initiator first.
 *
 * @param {Share} a
 * @param {Share} b
 */
export function transcriptOf(a, b) {
  return concat(prefixed(a.y, a.ad), prefixed(b.y, b.ad));
}

/**
 * ISK, the key of this session.
 *
 * @param {Uint8Array} sid
 * @param {Uint8Array} k the shared point
 * @param {Uint8Array} transcript
 */
export function sessionKey(sid, k, transcript) {
  return sha512(concat(prefixed(utf8(`${NAME}_ISK`), sid, k), transcript));
}

/**
 * The key confirmation of one side: proves that it has the same session key.
 *
 * @param {Uint8Array} sid
 * @param {Uint8Array} isk
 * @param {Share} share of the side that proves
 */
export async function confirm(sid, isk, { y, ad }) {
  const bytes = await sha512(concat(utf8("CPaceMac"), sid, isk));
  const key = await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-512" }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", key, prefixed(y, ad)));
}

/** @param {Uint8Array} data */
async function sha512(data) {
  return new Uint8Array(await crypto.subtle.digest("SHA-512", data));
}
