/**
 * Elligator 2 for curve25519: 32 bytes to the u-coordinate of a point (RFC 9380 §6.7.1, x only; CPace §7.3).
 *
 * The one piece of the key agreement that WebCrypto does not have. BigInt arithmetic takes a time that depends on the
 * numbers: it touches the secret once for each agreement, on the participant's own device, where nobody measures it.
 */

const P = 2n ** 255n - 19n;
const J = 486662n; // the curve: v² = u³ + J·u² + u
const Z = 2n; // not a square

/**
 * @param {Uint8Array} hash 32 bytes, little-endian; the highest bit is ignored
 * @returns {Uint8Array} 32 bytes, little-endian
 */
export function mapToCurve(hash) {
  const r = fromLittleEndian(hash) & ((1n << 255n) - 1n);
  const denominator = mod(1n + Z * r * r);
  const u = mod(-J * power(denominator, P - 2n)); // the denominator is never 0: −1/2 is not a square
  const isOnCurve = isSquare(mod(u * mod(u * mod(u + J) + 1n)));
  return toLittleEndian(isOnCurve ? u : mod(-u - J));
}

/** @param {bigint} value */
function mod(value) {
  const rest = value % P;
  return rest < 0n ? rest + P : rest;
}

/**
 * @param {bigint} base
 * @param {bigint} exponent
 */
function power(base, exponent) {
  let result = 1n;
  let square = mod(base);
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = mod(result * square);
    square = mod(square * square);
  }
  return result;
}

/** Euler's criterion; 0 is a square. @param {bigint} value */
function isSquare(value) {
  return power(value, (P - 1n) / 2n) !== P - 1n;
}

/** @param {Uint8Array} bytes */
function fromLittleEndian(bytes) {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

/** @param {bigint} value */
function toLittleEndian(value) {
  const bytes = new Uint8Array(32);
  for (let at = 0, rest = value; at < 32; at += 1, rest >>= 8n) bytes[at] = Number(rest & 0xffn);
  return bytes;
}
