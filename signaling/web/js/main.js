/**
 * The room page: puts the views, the room and the address bar together.
 */

import { parseFragment } from "./codes.js";
import { EntryView } from "./entry_view.js";
import { PanelView } from "./panel_view.js";
import { Room } from "./room.js";
import { canAgree } from "./secure_channel.js";
import { clearSession, loadEntry, loadSession, saveEntry } from "./session.js";
import { StageView } from "./stage_view.js";
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

const room = new Room({
  changed: (view) => {
    entryView.render(view);
    stageView.render(view);
    panelView.render(view);
  },
});

const entryView = new EntryView({
  join: (entry) => room.join(entry),
  cancel: () => room.abandon(),
  rejoin: () => room.rejoin(),
  otherCode: () => room.abandon(),
  announce,
});

const stageView = new StageView({
  toggle: (device) => room.toggle(device),
  hangUp: () => room.hangUp(),
  tryAgain: () => room.tryAgain(),
  announce,
});

const panelView = new PanelView();

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
