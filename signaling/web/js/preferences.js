/**
 * What this browser remembers from one talk to the next: which devices, and what was switched off. Nothing of the talk.
 */

import { LANGUAGES } from "./texts.js";

const KEY = "redconnect.preferences";
const MAX_ID_CHARACTERS = 256;

/**
 * @typedef {object} Values
 * @property {string} speaker id of a device; empty: none was chosen
 * @property {string} microphone
 * @property {string} camera
 * @property {boolean} microphoneOn
 * @property {boolean} cameraOn
 * @property {boolean} shortcuts keys that do what the buttons do
 * @property {import("./texts.js").Language} language
 */

/** @type {Readonly<Values>} */
const DEFAULTS = Object.freeze({
  speaker: "",
  microphone: "",
  camera: "",
  microphoneOn: true,
  cameraOn: true,
  shortcuts: true,
  language: LANGUAGES[0],
});

/**
 * @param {string | null} stored may have been changed by anybody
 * @returns {Values} the defaults for whatever is missing or of another kind
 */
export function readPreferences(stored) {
  let found;
  try {
    found = JSON.parse(stored ?? "{}");
  } catch {
    found = {}; // not ours, or cut short: as if nothing had been remembered
  }
  const values = { ...DEFAULTS };
  for (const key of Object.keys(DEFAULTS)) {
    const value = found?.[key];
    if (typeof value === typeof DEFAULTS[key] && String(value).length <= MAX_ID_CHARACTERS) values[key] = value;
  }
  if (!LANGUAGES.includes(values.language)) values.language = DEFAULTS.language;
  return values;
}

export class Preferences {
  /** @type {Values} */ #values;

  constructor() {
    this.#values = readPreferences(this.#load());
  }

  /** @returns {Readonly<Values>} */
  get values() {
    return this.#values;
  }

  /** @param {Partial<Values>} changes */
  change(changes) {
    const values = { ...this.#values, ...changes };
    const text = JSON.stringify(values);
    if (text === JSON.stringify(this.#values)) return;
    this.#values = values;
    try {
      localStorage.setItem(KEY, text);
    } catch {
      // Storage may be forbidden or full; then the choice holds for this page only.
    }
  }

  #load() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage may be forbidden
    }
  }
}
