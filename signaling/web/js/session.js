/**
 * What survives a reload of this tab, and nothing longer: the browser forgets it with the tab.
 */

import { cleanName, parseCode } from "./codes.js";

const KEY = "redconnect.session";

/**
 * @typedef {object} Session
 * @property {string} code
 * @property {string} name
 * @property {string} resume the token that takes the seat back
 * @property {{ camera: boolean, microphone: boolean }} wanted a reload must not open a microphone that was off
 */

/** @param {Session} session */
export function saveSession(session) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(session));
  } catch {
    // Storage may be forbidden; then a reload asks for the code again.
  }
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
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // Nothing was stored then.
  }
}
