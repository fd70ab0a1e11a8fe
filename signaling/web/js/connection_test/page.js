/**
 * The page of the connection test: language, devices, and the test itself.
 */

import { Announcer } from "../announcer.js";
import { CheckView } from "../check_view.js";
import { isHandheld } from "../devices.js";
import { byId } from "../elements.js";
import { Media } from "../media.js";
import { Preferences } from "../preferences.js";
import { playTestSound } from "../test_sound.js";
import { LANGUAGES, addWords, fillTexts, languageInUse, text, useLanguage } from "../texts.js";
import { copyOrSelect } from "./clipboard.js";
import { ConnectionTest } from "./connection_test.js";
import { reportOf } from "./report.js";
import { TestView } from "./test_view.js";

const preferences = new Preferences();
const announcer = new Announcer(byId("announcer"));
const announce = (/** @type {string} */ words) => announcer.say(words);

await useLanguage(preferences.values.language); // the views speak from the moment that they are made
await addWords((language) => import(`./words_${language}.js`));

// ---- devices --------------------------------------------------------------------------------------------------------

/** @type {Media | null} */ let media = null;

const checkView = new CheckView({
  check: () => {
    if (media !== null) return;
    media = new Media({ wanted: { camera: true, microphone: true }, choices: chosenDevices(), handheld: isHandheld(navigator), changed: renderDevices });
    void media.start();
    renderDevices();
  },
  endCheck: () => {
    media?.stop();
    media = null;
    renderDevices();
  },
  toggle: (device) => void media?.toggle(device),
  testSound: async () => {
    try {
      await playTestSound(preferences.values.speaker);
      return true;
    } catch (error) {
      console.warn("connection test: no sound", error.name);
      return false;
    }
  },
  announce,
});

function chosenDevices() {
  const { camera, microphone } = preferences.values;
  return { camera, microphone };
}

function renderDevices() {
  checkView.render({ phase: "form", checking: media !== null, media });
}

byId("check-button").addEventListener("click", () => checkView.open());

// ---- the test -------------------------------------------------------------------------------------------------------

const test = new ConnectionTest((view) => testView.render(view));
const testView = new TestView({
  begin: () => {
    byId("report").hidden = true;
    test.begin();
  },
  copyReport: () => void copyReport(),
  copy: (words, shown) => void copy(words, shown),
  announce,
});

async function copyReport() {
  const report = reportOf(test.view(), {
    at: new Date().toLocaleString(languageInUse(), { timeZoneName: "short" }),
    page: location.origin,
    browser: navigator.userAgent,
  });
  const shown = /** @type {HTMLTextAreaElement} */ (byId("report"));
  shown.value = report;
  await copy(report, shown);
}

/**
 * @param {string} words
 * @param {HTMLElement} shown
 */
async function copy(words, shown) {
  const note = text((await copyOrSelect(words, shown)) ? "copied" : "copy_refused");
  byId("copy-note").textContent = note;
  announce(note);
}

// ---- language -------------------------------------------------------------------------------------------------------

const languageButton = /** @type {HTMLButtonElement} */ (byId("language"));

function otherLanguage() {
  return LANGUAGES.find((language) => language !== languageInUse()) ?? LANGUAGES[0];
}

function tellPage() {
  document.documentElement.lang = languageInUse();
  document.title = text("test_title");
  fillTexts(document);
  languageButton.lang = otherLanguage();
  byId("copy-note").textContent = "";
  byId("report").hidden = true;
  checkView.retell();
  renderDevices();
  testView.render(test.view());
}

languageButton.addEventListener("click", async () => {
  const other = otherLanguage();
  try {
    await useLanguage(other);
  } catch (error) {
    console.warn("connection test: the words could not be fetched", error.name);
    announce(text("error_unexpected"));
    return;
  }
  preferences.change({ language: other });
  announcer.quietly(tellPage);
  announce(text("language_now"));
});

tellPage();
byId("outdated").hidden = true;
byId("page").hidden = false;
