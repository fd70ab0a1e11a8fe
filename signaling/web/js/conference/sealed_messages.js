/**
 * What two participants of a conference say to each other by their sealed channel: UTF-8 JSON.
 *
 * Nobody is trusted to be well-formed: whatever does not follow the protocol to the letter is null.
 */

import { cleanName } from "../codes.js";
import { readSenderKey } from "./sender_keys.js";

const MAX_MESSAGE_BYTES = 4_000; // a name is the longest there is
const EPOCH_PATTERN = /^[0-9a-f]{32}$/;

/**
 * @typedef {{ camera: boolean, microphone: boolean, screen: boolean }} Sources what somebody lets be seen and heard
 *
 * @typedef {{ kind: "hello", epoch: string, to: string | null, name: string } & Sources} Hello
 * @typedef {{ kind: "state", epoch: string, to: string } & Sources} State
 * @typedef {{ epoch: string, to: string } & import("./sender_keys.js").SenderKeyMessage} SenderKey
 * @typedef {{ kind: "mute", epoch: string, to: string }} Mute please switch your microphone off: from organisers only
 * @typedef {{ kind: "removed", epoch: string, to: string, pid: string }} Removed somebody was sent away: from organisers only
 * @typedef {{ kind: "bye", epoch: string, to: string }} Bye
 * @typedef {Hello | State | SenderKey | Mute | Removed | Bye} SealedMessage
 */

/**
 * @param {Uint8Array} bytes from another participant: may be anything
 * @returns {SealedMessage | null}
 */
export function decodeSealed(bytes) {
  if (bytes.length > MAX_MESSAGE_BYTES) return null;
  let value;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null || !isEpoch(value.epoch)) return null;
  const { kind, epoch, to } = value;
  if (kind === "hello") return to === null || isEpoch(to) ? readHello(value) : null;
  if (!isEpoch(to)) return null;
  switch (kind) {
    case "state": {
      const sources = readSources(value);
      return sources && { kind, epoch, to, ...sources };
    }
    case "senderkey": {
      const key = readSenderKey(value);
      return key && { ...key, epoch, to };
    }
    case "removed":
      return typeof value.pid === "string" ? { kind, epoch, to, pid: value.pid } : null;
    case "mute":
    case "bye":
      return { kind, epoch, to };
    default:
      return null;
  }
}

/** @returns {Hello | null} */
function readHello(value) {
  const sources = readSources(value);
  const name = typeof value.name === "string" ? cleanName(value.name) : "";
  if (sources === null || name === "") return null;
  return { kind: "hello", epoch: value.epoch, to: value.to, name, ...sources };
}

/** @returns {Sources | null} */
function readSources({ camera, microphone, screen }) {
  const sources = { camera, microphone, screen };
  return Object.values(sources).every((value) => typeof value === "boolean") ? sources : null;
}

function isEpoch(value) {
  return typeof value === "string" && EPOCH_PATTERN.test(value);
}
