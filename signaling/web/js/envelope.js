/**
 * What two participants say to each other: UTF-8 JSON, which `secure_channel.js` seals.
 *
 * A partner is not trusted to be well-formed: whatever does not follow the protocol to the letter is null.
 */

import { cleanName } from "./codes.js";

const MAX_MESSAGE_BYTES = 48_000; // sealed, padded and in base64 it must be as short as the server carries
const MAX_SDP_CHARACTERS = 40_000;
const MAX_CANDIDATE_CHARACTERS = 1_000;
const EPOCH_PATTERN = /^[0-9a-f]{32}$/;

/**
 * An epoch names one page's side of one connection: 128 random bits, drawn anew by a reload and whenever a page
 * gives a connection up. Two epochs together name one pair of RTCPeerConnections, so nobody applies a description
 * or a candidate that was meant for an earlier one.
 *
 * @typedef {object} Hello
 * @property {"hello"} kind
 * @property {string} epoch of the sender
 * @property {string | null} to epoch of the receiver, as far as the sender knows it
 * @property {string} name
 * @property {boolean} camera
 * @property {boolean} microphone
 * @property {boolean} audioOnly
 *
 * @typedef {object} Description
 * @property {"description"} kind
 * @property {string} epoch
 * @property {string} to
 * @property {"offer" | "answer"} type
 * @property {string} sdp
 *
 * @typedef {object} Candidate
 * @property {"candidate"} kind
 * @property {string} epoch
 * @property {string} to
 * @property {string} candidate
 * @property {string | null} sdpMid
 * @property {number | null} sdpMLineIndex
 * @property {string | null} usernameFragment
 *
 * @typedef {object} MediaState
 * @property {"state"} kind
 * @property {string} epoch
 * @property {string} to
 * @property {boolean} camera
 * @property {boolean} microphone
 * @property {boolean} audioOnly the sender sends no picture and asks for none
 *
 * @typedef {object} Bye
 * @property {"bye"} kind
 * @property {string} epoch
 * @property {string} to
 *
 * @typedef {Hello | Description | Candidate | MediaState | Bye} Message
 */

/** @returns {string} 128 random bits in hexadecimal */
export function drawEpoch() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {Message} message
 * @returns {Uint8Array}
 */
export function encodeMessage(message) {
  return new TextEncoder().encode(JSON.stringify(message));
}

/**
 * @param {Uint8Array} bytes from another participant: may be anything
 * @returns {Message | null}
 */
export function decodeMessage(bytes) {
  if (bytes.length > MAX_MESSAGE_BYTES) return null;
  let value;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null || !isEpoch(value.epoch)) return null;
  if (value.kind === "hello") return readHello(value);
  if (!isEpoch(value.to)) return null;
  switch (value.kind) {
    case "description":
      return readDescription(value);
    case "candidate":
      return readCandidate(value);
    case "state":
      return readState(value);
    case "bye":
      return { kind: "bye", epoch: value.epoch, to: value.to };
    default:
      return null;
  }
}

/** @returns {Hello | null} */
function readHello(value) {
  const { epoch, to, name } = value;
  const media = readMedia(value);
  if (to !== null && !isEpoch(to)) return null;
  if (typeof name !== "string" || media === null) return null;
  const shown = cleanName(name);
  if (shown === "") return null;
  return { kind: "hello", epoch, to, name: shown, ...media };
}

/** @returns {Description | null} */
function readDescription({ epoch, to, type, sdp }) {
  if (type !== "offer" && type !== "answer") return null;
  if (!isText(sdp, MAX_SDP_CHARACTERS)) return null;
  return { kind: "description", epoch, to, type, sdp };
}

/** @returns {Candidate | null} */
function readCandidate({ epoch, to, candidate, sdpMid = null, sdpMLineIndex = null, usernameFragment = null }) {
  if (!isText(candidate, MAX_CANDIDATE_CHARACTERS)) return null;
  if (sdpMid !== null && !isText(sdpMid, 32)) return null;
  if (sdpMLineIndex !== null && !(Number.isInteger(sdpMLineIndex) && sdpMLineIndex >= 0 && sdpMLineIndex < 64)) return null;
  if (usernameFragment !== null && !isText(usernameFragment, 256)) return null;
  return { kind: "candidate", epoch, to, candidate, sdpMid, sdpMLineIndex, usernameFragment };
}

/** @returns {MediaState | null} */
function readState(value) {
  const { epoch, to } = value;
  const media = readMedia(value);
  return media && { kind: "state", epoch, to, ...media };
}

/**
 * Pages that were opened before an update of the service do not know of `audioOnly`, and always want pictures.
 *
 * @returns {{ camera: boolean, microphone: boolean, audioOnly: boolean } | null}
 */
function readMedia({ camera, microphone, audioOnly = false }) {
  const media = { camera, microphone, audioOnly };
  return Object.values(media).every((value) => typeof value === "boolean") ? media : null;
}

function isEpoch(value) {
  return typeof value === "string" && EPOCH_PATTERN.test(value);
}

function isText(value, limit) {
  return typeof value === "string" && value.length <= limit;
}
