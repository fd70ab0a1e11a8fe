/**
 * What the server says in conferences beyond what it says to two (docs/conferences.md), read to the letter: whatever does
 * not follow the protocol is null. It is not trusted: names and keys never come from here.
 */

const MAX_INDEX = 255; // eight bits of a KID
const MAX_SDP_CHARACTERS = 60_000; // as much as a message of the server carries
const MAX_MIDS = 128;
const MAX_ENDING_S = 86_400;
const MAX_SPEAKERS = 3;
const ID_PATTERN = /^[A-Za-z0-9_-]{1,64}$/;
const MID_PATTERN = /^[\x21-\x7e]{1,32}$/;
const SOURCES = /** @type {const} */ (["microphone", "camera", "screen"]);
const SIDES = /** @type {const} */ (["publish", "subscribe"]);
const STATES = /** @type {const} */ (["connected", "failed"]);
export const RIDS = /** @type {const} */ (["q", "h", "f"]);

/**
 * @typedef {(typeof SOURCES)[number]} Source
 * @typedef {(typeof SIDES)[number]} Side
 * @typedef {{ index: number, limit: number, admitted: boolean, locked: boolean }} ConferenceSeat
 * @typedef {{ pid: string, source: Source }} TrackName
 *
 * @typedef {{ type: "admitted" }
 *   | { type: "locked", locked: boolean }
 *   | { type: "stand_in", pid: string | null }
 *   | { type: "published", sdp: string, version: number }
 *   | { type: "subscribe", sdp: string, version: number, tracks: Map<string, TrackName> }
 *   | { type: "speakers", pids: string[] }
 *   | { type: "layers", unwanted: string[] }
 *   | { type: "media", side: Side, state: "connected" | "failed", moved: boolean }
 *   | { type: "ending", seconds: number }} ServerMessage moved: to another worker
 */

/**
 * @param {unknown} value
 * @returns {value is number} the number of a seat
 */
export function isIndex(value) {
  return Number.isInteger(value) && value >= 0 && value <= MAX_INDEX;
}

/**
 * @param {unknown} value
 * @returns {value is "organiser" | "participant"}
 */
export function isRole(value) {
  return value === "organiser" || value === "participant";
}

/**
 * @param {unknown} value `conference` of `joined`
 * @returns {ConferenceSeat | null}
 */
export function readConferenceSeat(value) {
  if (typeof value !== "object" || value === null) return null;
  const { index, limit, admitted, locked } = /** @type {Record<string, any>} */ (value);
  if (!isIndex(index) || !Number.isInteger(limit) || typeof admitted !== "boolean" || typeof locked !== "boolean") return null;
  return { index, limit, admitted, locked };
}

/**
 * @param {Record<string, any>} message
 * @returns {ServerMessage | null}
 */
export function readServerMessage({ type, ...said }) {
  switch (type) {
    case "admitted":
      return { type };
    case "locked":
      return typeof said.locked === "boolean" ? { type, locked: said.locked } : null;
    case "stand_in":
      return said.pid === undefined || isId(said.pid) ? { type, pid: said.pid ?? null } : null;
    case "published":
      return isSdp(said.sdp) && Number.isSafeInteger(said.version) ? { type, sdp: said.sdp, version: said.version } : null;
    case "subscribe": {
      const tracks = readTracks(said.tracks);
      return isSdp(said.sdp) && Number.isSafeInteger(said.version) && tracks !== null
        ? { type, sdp: said.sdp, version: said.version, tracks }
        : null;
    }
    case "speakers":
      return isList(said.pids, MAX_SPEAKERS, isId) ? { type, pids: said.pids } : null;
    case "layers":
      return isList(said.unwanted, RIDS.length, (rid) => RIDS.includes(rid)) ? { type, unwanted: said.unwanted } : null;
    case "media":
      return SIDES.includes(said.side) && STATES.includes(said.state)
        ? { type, side: said.side, state: said.state, moved: said.reason === "moved" }
        : null;
    case "ending":
      return Number.isInteger(said.seconds) && said.seconds >= 0 && said.seconds <= MAX_ENDING_S ? { type, seconds: said.seconds } : null;
    default:
      return null;
  }
}

/** @returns {Map<string, TrackName> | null} */
function readTracks(value) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
  const entries = Object.entries(value);
  const right = ([mid, track]) => MID_PATTERN.test(mid) && isId(track?.pid) && SOURCES.includes(track.source);
  if (entries.length > MAX_MIDS || !entries.every(right)) return null;
  return new Map(entries.map(([mid, { pid, source }]) => [mid, { pid, source }]));
}

function isSdp(value) {
  return typeof value === "string" && value.length <= MAX_SDP_CHARACTERS;
}

function isId(value) {
  return typeof value === "string" && ID_PATTERN.test(value);
}

function isList(value, limit, isRight) {
  return Array.isArray(value) && value.length <= limit && value.every(isRight);
}
