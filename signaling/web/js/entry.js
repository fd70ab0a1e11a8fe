/**
 * The page as everybody gets it first: language, form, link. All that only the room needs is fetched as soon as somebody
 * shows that it will be needed, so that neither reading the page nor joining waits for it.
 */

import { canConsult } from "./abilities.js";
import { Announcer } from "./announcer.js";
import { parseFragment } from "./codes.js";
import { byId } from "./elements.js";
import { EntryView } from "./entry_view.js";
import { Preferences } from "./preferences.js";
import { clearSession, loadEntry, loadSession, saveEntry } from "./session.js";
import { LANGUAGES, fillTexts, languageInUse, text, useLanguage } from "./texts.js";

/** @typedef {import("./consultation.js").Consultation} Consultation */
/** @typedef {Pick<import("./session.js").Session, "code" | "name"> & Partial<import("./session.js").Session>} Entry */

const STAGE_STYLES = "/css/stage.css";
const SIGNS_OF_INTEREST = ["focusin", "pointerdown", "keydown"];

const followed = takeFragment(); // before anything is waited for
const preferences = new Preferences();
const announcer = new Announcer(byId("announcer"));
const checkButton = byId("check-button");

const entryView = new EntryView({
  join,
  cancel: abandon,
  rejoin: () => consultation?.room.rejoin(),
  otherCode: abandon,
  announce: (words) => announcer.say(words),
});

/** @type {Consultation | null} */ let consultation = null;
/** @type {Promise<Consultation | null> | null} */ let loading = null;
/** @type {Promise<void> | null} */ let styles = null;
/** Who joins as soon as the room is here. @type {Entry | null} */ let joining = null;

/**
 * Fetch the room, once; after a failure the next wish fetches it again.
 *
 * @returns {Promise<Consultation | null>} null if it cannot be fetched
 */
function load() {
  return (loading ??= fetchRoom());
}

/** @returns {Promise<Consultation | null>} */
async function fetchRoom() {
  try {
    const [{ openConsultation }] = await Promise.all([import("./consultation.js"), (styles ??= addStyles(STAGE_STYLES))]);
    consultation = openConsultation({ preferences, entryView, announcer });
  } catch (error) {
    console.error("entry: the room could not be fetched", error); // whoever waits for it tells the person
    loading = null;
  }
  return consultation;
}

/**
 * @param {string} address
 * @returns {Promise<void>} when they are in use
 */
function addStyles(address) {
  const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: address });
  return new Promise((resolve, reject) => {
    link.onload = () => resolve();
    link.onerror = () => {
      link.remove();
      styles = null;
      reject(new TypeError("no styles"));
    };
    document.head.append(link);
  });
}

/** Somebody is about to join, or to try the devices: what will be needed is fetched while nothing else is to be done. */
function prepare() {
  for (const sign of SIGNS_OF_INTEREST) document.removeEventListener(sign, prepare);
  if ("requestIdleCallback" in window) requestIdleCallback(() => void load());
  else setTimeout(() => void load()); // Safari
}

/** @param {Entry} entry */
async function join(entry) {
  joining = entry;
  if (consultation === null) entryView.render({ phase: "joining", problem: null, seat: null });
  const loaded = await load();
  if (joining !== entry) return; // given up meanwhile
  joining = null;
  if (loaded !== null) loaded.room.join(entry);
  else entryView.render({ phase: "form", problem: { code: "unexpected", retryAt: null }, seat: null });
}

function abandon() {
  joining = null;
  if (consultation !== null) consultation.room.abandon();
  else entryView.render({ phase: "form", problem: null, seat: null });
}

checkButton.addEventListener("click", async () => {
  checkButton.setAttribute("aria-busy", "true");
  const loaded = await load();
  checkButton.removeAttribute("aria-busy");
  if (loaded !== null) loaded.check();
  else entryView.tellFailure();
});

// ---- language -------------------------------------------------------------------------------------------------------

const languageButtons = /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll(".language-switch"));

for (const button of languageButtons) {
  button.addEventListener("click", async () => {
    const other = otherLanguage();
    try {
      await useLanguage(other);
    } catch (error) {
      console.warn("entry: the words could not be fetched", error.name);
      if (consultation?.inRoom) consultation.tellFailure();
      else entryView.tellFailure();
      return;
    }
    preferences.change({ language: other });
    tellPage();
    announcer.quietly(() => {
      entryView.retell();
      consultation?.retell();
    });
    announcer.say(text("language_now"));
  });
}

function otherLanguage() {
  return LANGUAGES.find((language) => language !== languageInUse()) ?? LANGUAGES[0];
}

/** Say all fixed words of the page in the language that is in use. */
function tellPage() {
  document.documentElement.lang = languageInUse();
  document.title = text("title");
  fillTexts(document);
  for (const button of languageButtons) button.lang = otherLanguage();
}

// ---- address bar ----------------------------------------------------------------------------------------------------

/**
 * Read a link's code and take it out of the address bar at once: it must not stay in the history or in a screenshot.
 *
 * @returns {{ code: string, name: string } | null}
 */
function takeFragment() {
  if (location.hash.length < 2) return null;
  const entry = parseFragment(location.hash);
  history.replaceState(history.state, "", location.pathname + location.search);
  return entry;
}

/** @param {{ code: string, name: string }} entry */
function prefillFromLink(entry) {
  saveEntry(entry);
  entryView.prefill(entry);
}

/** Another link was opened in this tab. It does not end a call. */
window.addEventListener("hashchange", () => {
  const entry = takeFragment();
  const code = joining?.code ?? consultation?.code ?? null; // of whoever is on the way into a room, or in it
  if (entry === null || consultation?.inCall || entry.code === code) return;
  if (code !== null || consultation?.hasEnded) abandon();
  prefillFromLink(entry);
});

// A page that comes out of the browser's back/forward cache has lost its socket and its seat's place in time.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

async function begin() {
  const session = loadSession();
  await useLanguage(preferences.values.language);
  tellPage();
  entryView.render({ phase: "form", problem: null, seat: null });
  byId("outdated").hidden = true; // all that the form needs is here
  if (!(await canConsult())) {
    entryView.refuseBrowser();
    return;
  }
  for (const sign of SIGNS_OF_INTEREST) document.addEventListener(sign, prepare);
  if (session !== null && (followed === null || followed.code === session.code)) {
    entryView.prefill(session);
    void join(session);
    return;
  }
  if (followed !== null) {
    clearSession(); // another appointment
    prefillFromLink(followed);
    return;
  }
  const kept = loadEntry();
  if (kept !== null) entryView.prefill(kept);
}

void begin();
