/**
 * Bytes as the key agreement needs them: joined, prefixed with their length, as text and back.
 */

/** @param {string} text */
export function utf8(text) {
  return new TextEncoder().encode(text);
}

/**
 * @param {...Uint8Array} parts
 * @returns {Uint8Array}
 */
export function concat(...parts) {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/**
 * Each part behind its length in LEB128: `lv_cat` of draft-irtf-cfrg-cpace, so that no two lists of parts look alike.
 *
 * @param {...Uint8Array} parts
 * @returns {Uint8Array}
 */
export function prefixed(...parts) {
  return concat(...parts.flatMap((part) => [leb128(part.length), part]));
}

/** @param {number} length below 2³¹ */
function leb128(length) {
  const bytes = [];
  let rest = length;
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return Uint8Array.from(bytes);
}

/**
 * @param {Uint8Array} bytes
 * @returns {string} base64url without padding
 */
export function toText(bytes) {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/**
 * @param {string} text base64url without padding
 * @returns {Uint8Array | null} null if it is not
 */
export function fromText(text) {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) return null;
  try {
    return Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  } catch {
    return null;
  }
}

/**
 * Compare without telling by the time where the difference is.
 *
 * @param {Uint8Array} a
 * @param {Uint8Array} b
 */
export function equal(a, b) {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let at = 0; at < a.length; at += 1) difference |= a[at] ^ b[at];
  return difference === 0;
}
