/** How the page says its words: by key, and with values put in. */

import { WORDS } from "./words_de.js";

const LOCALE = "de-DE";

/** Appointments are planned in German time, wherever the participant is. */
const TIME_ZONE = "Europe/Berlin";

/**
 * @param {string} key
 * @param {Record<string, string | number>} [values] for the words in braces
 * @returns {string}
 */
export function text(key, values = {}) {
  const pattern = Object.hasOwn(WORDS, key) ? WORDS[key] : WORDS.error_unexpected;
  return pattern.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/**
 * @param {string} key
 * @returns {boolean}
 */
export function hasText(key) {
  return Object.hasOwn(WORDS, key);
}

/**
 * @param {string} instant UTC, ISO 8601
 * @returns {{ date: string, time: string }} like `22.11.2026` and `10:00`; empty if it is no instant
 */
export function germanTime(instant) {
  const when = new Date(instant);
  if (Number.isNaN(when.getTime())) return { date: "", time: "" };
  const date = when.toLocaleDateString(LOCALE, { timeZone: TIME_ZONE, day: "2-digit", month: "2-digit", year: "numeric" });
  const time = when.toLocaleTimeString(LOCALE, { timeZone: TIME_ZONE, hour: "2-digit", minute: "2-digit" });
  return { date, time };
}

/**
 * Fill the fixed words of the page: `data-text` becomes the content, `data-label` the accessible name, `data-title` the tooltip.
 *
 * @param {ParentNode} root
 */
export function fillTexts(root) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", text(element.dataset.label));
  for (const element of root.querySelectorAll("[data-title]")) element.title = text(element.dataset.title);
}
