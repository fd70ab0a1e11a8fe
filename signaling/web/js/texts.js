/** How the page says its words: by key, with values put in, in one language at a time. */

/** What else belongs to a language: how it writes a date. The first one is what everybody gets first. */
const LOCALES = {
  de: /** @type {const} */ ({ locale: "de-DE", day: "2-digit", month: "2-digit" }),
  en: /** @type {const} */ ({ locale: "en-GB", day: "numeric", month: "long" }), // 07/01 is another day in America
};

/** @typedef {"de" | "en"} Language */

export const LANGUAGES = /** @type {Language[]} */ (Object.keys(LOCALES));

/** Appointments are planned in German time, wherever the participant is. */
const TIME_ZONE = "Europe/Berlin";

/** @type {Language} */ let language = LANGUAGES[0];
/** @type {Record<string, string>} */ let words = {};
/** @type {((language: Language) => Promise<{ WORDS: Record<string, string> }>)[]} */
const sources = [(language) => import(`./words_${language}.js`)];

/**
 * Speak this language from now on; only its words are fetched. Nothing is said before the first call.
 *
 * @param {Language} wanted
 * @returns {Promise<void>}
 * @throws {TypeError} if the words cannot be fetched; the language stays as it was
 */
export async function useLanguage(wanted) {
  const loaded = await Promise.all(sources.map((load) => load(wanted)));
  words = Object.assign({}, ...loaded.map(({ WORDS }) => WORDS));
  language = wanted;
}

/**
 * Say more words from now on, in whichever language: those of a part of the page that few need.
 *
 * @param {(typeof sources)[number]} load
 * @returns {Promise<void>}
 * @throws {TypeError} if the words cannot be fetched
 */
export async function addWords(load) {
  sources.push(load);
  try {
    await useLanguage(language);
  } catch (error) {
    sources.splice(sources.indexOf(load), 1);
    throw error;
  }
}

/** @returns {Language} */
export function languageInUse() {
  return language;
}

/**
 * @param {string} key
 * @param {Record<string, string | number>} [values] for the words in braces
 * @returns {string}
 */
export function text(key, values = {}) {
  const pattern = hasText(key) ? words[key] : words.error_unexpected;
  return pattern.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/**
 * @param {string} key
 * @returns {boolean}
 */
export function hasText(key) {
  return Object.hasOwn(words, key);
}

/**
 * @param {string} instant UTC, ISO 8601
 * @returns {{ date: string, time: string }} like `01.07.2026` and `10:00`, in English `1 July 2026`; empty if it is no
 *   instant
 */
export function germanTime(instant) {
  const when = new Date(instant);
  if (Number.isNaN(when.getTime())) return { date: "", time: "" };
  const { locale, day, month } = LOCALES[language];
  const date = when.toLocaleDateString(locale, { timeZone: TIME_ZONE, day, month, year: "numeric" });
  const time = when.toLocaleTimeString(locale, { timeZone: TIME_ZONE, hour: "2-digit", minute: "2-digit" });
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
