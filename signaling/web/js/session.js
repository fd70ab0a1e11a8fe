/**
 * What survives a reload of this tab, and nothing longer: the browser forgets it with the tab.
 */

import { cleanName, normaliseCode, parseCode } from "./codes.js";

const KEY = "redconnect.session";
const ENTRY_KEY = "redconnect.entry";

/**
 * @typedef {object} Session
 * @property {string} code
 * @property {string} name
 * @property {string} resume the token that takes the seat back
 * @property {{ camera: boolean, microphone: boolean }} wanted a reload must not open a microphone that was off
 */

/**
 * Once there is a session, the link has served.
 *
 * @param {Session} session
 */
export function saveSession(session) {
  save(KEY, session);
  remove(ENTRY_KEY);
}

/** @returns {Session | null} */
export function loadSession() {
  try {
    const { code, name, resume, wanted } = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    if (parseCode(code) === null || cleanName(name) === "" || typeof resume !== "string") return null;
    return { code, name, resume, wanted: { camera: wanted?.camera !== false, microphone: wanted?.microphone !== false } };
  } catch {
    return null;
  }
}

export function clearSession() {
  remove(KEY);
}

/**
 * Keep what a link said until the room is entered: the address bar has lost it.
 *
 * @param {{ code: string, name: string }} entry
 */
export function saveEntry({ code, name }) {
  save(ENTRY_KEY, { code, name });
}

/** @returns {{ code: string, name: string } | null} */
export function loadEntry() {
  try {
    const { code, name } = JSON.parse(sessionStorage.getItem(ENTRY_KEY) ?? "null");
    return { code: normaliseCode(code), name: cleanName(name) };
  } catch {
    return null;
  }
}

/**
 * @param {string} key
 * @param {object} value
 */
function save(key, value) {
  try {
    sessionStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Storage may be forbidden; then a reload asks for the code again.
  }
}

/** @param {string} key */
function remove(key) {
  try {
    sessionStorage.removeItem(key);
  } catch {
    // Nothing was stored then.
  }
}
