/**
 * The room page: puts the views, the room and the address bar together.
 */

import { CheckView } from "./check_view.js";
import { parseFragment } from "./codes.js";
import { EntryView } from "./entry_view.js";
import { FullScreen } from "./full_screen.js";
import { Layout } from "./layout.js";
import { PanelView } from "./panel_view.js";
import { Preferences } from "./preferences.js";
import { QualityView } from "./quality_view.js";
import { Room } from "./room.js";
import { canAgree } from "./secure_channel.js";
import { clearSession, loadEntry, loadSession, saveEntry } from "./session.js";
import { SettingsView } from "./settings_view.js";
import { shortcutOf } from "./shortcuts.js";
import { StageView } from "./stage_view.js";
import { playTestSound } from "./test_sound.js";
import { fillTexts, text } from "./texts.js";

fillTexts(document);
document.title = text("title");

const announcer = document.getElementById("announcer");
let announced = [];
let announceTimer = 0;

/**
 * Say something to a screen reader. What happens at once is said together, or the later would cut the earlier short.
 *
 * @param {string} words
 */
function announce(words) {
  announced.push(words.trim());
  announcer.textContent = ""; // the same words once more are news
  clearTimeout(announceTimer);
  announceTimer = setTimeout(() => {
    announcer.textContent = announced.join(" ");
    announced = [];
  }, 150);
}

const preferences = new Preferences();
const room = new Room({
  preferences,
  changed: (view) => {
    if (view.phase !== "room") fullScreen.leave();
    entryView.render(view);
    checkView.render(view);
    stageView.render(view);
    qualityView.render(view);
    panelView.render(view);
    settingsView.render(view);
  },
});

const layout = new Layout();

function renderLayout() {
  stageView.renderLayout(layout);
  settingsView.renderLayout(layout);
}

/** @param {boolean} hidden */
function hideOwn(hidden) {
  layout.hideOwn(hidden);
  renderLayout();
}

const fullScreen = new FullScreen((full) => {
  if (full) layout.enterFullScreen();
  else layout.leaveFullScreen();
  renderLayout();
});

let testSoundRuns = false;

/**
 * Once at a time: two at once would be no test.
 *
 * @returns {Promise<boolean>} whether it could be played
 */
async function testSound() {
  if (testSoundRuns) return true;
  testSoundRuns = true;
  try {
    await playTestSound(room.view().speaker);
    return true;
  } catch (error) {
    console.warn("test sound: refused by the browser", error.name);
    return false;
  } finally {
    testSoundRuns = false;
  }
}

const entryView = new EntryView({
  join: (entry) => room.join(entry),
  cancel: () => room.abandon(),
  rejoin: () => room.rejoin(),
  otherCode: () => room.abandon(),
  announce,
});

const checkView = new CheckView({
  check: () => room.check(),
  endCheck: () => room.endCheck(),
  toggle: (device) => room.toggle(device),
  testSound,
  announce,
});

const stageView = new StageView({
  toggle: (device) => room.toggle(device),
  toggleScreen: () => room.toggleScreen(),
  toggleFullScreen: () => fullScreen.toggle(),
  hideOwn,
  closeScreenFault: () => room.forgetScreenFault(),
  hangUp: () => room.hangUp(),
  tryAgain: () => room.tryAgain(),
  announce,
});

const qualityView = new QualityView({
  useAudioOnly: (on) => room.useAudioOnly(on),
  declineAudioOnly: () => room.declineAudioOnly(),
  announce,
});

const settingsView = new SettingsView({
  choose: (device, choice) => room.choose(device, choice),
  testSound,
  hideOwn,
  useShortcuts: (on) => room.useShortcuts(on),
  announce,
});

const panelView = new PanelView({ settings: (open) => settingsView.show(open) });

renderLayout();

document.addEventListener("keydown", (event) => {
  const { phase, media } = room.view();
  if (phase !== "room") return;
  if (event.key === "Escape") fullScreen.leave(); // where the browser does not do it by itself
  const shortcut = preferences.values.shortcuts ? shortcutOf(event) : null;
  if (shortcut === null) return;
  event.preventDefault(); // Firefox would begin to search for the letter
  if (shortcut === "full_screen") {
    fullScreen.toggle();
    return;
  }
  room.toggle(shortcut);
  if (media?.track(shortcut)) announce(text(`${shortcut}_${media.isOn(shortcut) ? "on" : "off"}`)); // the focus is elsewhere
});

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
  const { phase, call } = room.view();
  const inRoom = phase === "joining" || phase === "room";
  if (entry === null || call !== "none" || (inRoom && entry.code === room.code)) return;
  if (phase !== "form") room.abandon();
  prefillFromLink(entry);
});

// A page that comes out of the browser's back/forward cache has lost its socket and its seat's place in time.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

async function begin() {
  const entry = takeFragment();
  const session = loadSession();
  entryView.render(room.view());
  document.getElementById("outdated").hidden = true; // all modules are here, and the form is
  if (!("RTCPeerConnection" in window) || !("WebSocket" in window) || !(await canAgree())) {
    entryView.refuseBrowser();
    return;
  }
  if (session !== null && (entry === null || entry.code === session.code)) {
    entryView.prefill(session);
    room.join(session);
    return;
  }
  if (entry !== null) {
    clearSession(); // another appointment
    prefillFromLink(entry);
    return;
  }
  const kept = loadEntry();
  if (kept !== null) entryView.prefill(kept);
}

void begin();
