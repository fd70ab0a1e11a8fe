/**
 * The room and all that belongs to it: fetched when somebody is about to need it, and put together here.
 */

import { CheckView } from "./check_view.js";
import { FullScreen } from "./full_screen.js";
import { Layout } from "./layout.js";
import { PanelView } from "./panel_view.js";
import { QualityView } from "./quality_view.js";
import { Room } from "./room.js";
import { SettingsView } from "./settings_view.js";
import { shortcutOf } from "./shortcuts.js";
import { StageView } from "./stage_view.js";
import { playTestSound } from "./test_sound.js";
import { text } from "./texts.js";

/**
 * @typedef {object} Consultation
 * @property {Room} room
 * @property {() => void} check open the devices before the room is entered
 * @property {() => void} retell say everything anew, in the language that is in use now
 * @property {() => void} tellFailure something could not be fetched
 * @property {boolean} inRoom
 * @property {boolean} inCall with a partner, connected or not
 * @property {boolean} hasEnded
 * @property {string | null} code of the room that is entered or being entered, normalised
 */

/**
 * @param {object} page
 * @param {import("./preferences.js").Preferences} page.preferences
 * @param {import("./entry_view.js").EntryView} page.entryView
 * @param {import("./announcer.js").Announcer} page.announcer
 * @returns {Consultation}
 */
export function openConsultation({ preferences, entryView, announcer }) {
  const announce = (/** @type {string} */ words) => announcer.say(words);
  const room = new Room({
    preferences,
    openConference: async (parts) => {
      const { openConference } = await import("./conference/conference.js");
      return openConference({ ...parts, toggleFullScreen: () => fullScreen.toggle(), announce });
    },
    changed: (view) => {
      if (view.phase !== "room") fullScreen.leave();
      entryView.render(view);
      renderRoom(view);
    },
  });
  const layout = new Layout();
  const fullScreen = new FullScreen((full) => {
    if (full) layout.enterFullScreen();
    else layout.leaveFullScreen();
    renderLayout();
  });

  /** @param {import("./room.js").PageView} view */
  function renderRoom(view) {
    checkView.render(view);
    stageView.render(view);
    qualityView.render(view);
    panelView.render(view);
    settingsView.render(view);
    room.conference?.render(view);
  }

  function renderLayout() {
    stageView.renderLayout(layout);
    settingsView.renderLayout(layout);
  }

  /** @param {boolean} hidden */
  function hideOwn(hidden) {
    layout.hideOwn(hidden);
    renderLayout();
  }

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
    speakerRefused: (speaker) => room.speakerRefused(speaker),
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
    choose: async (device, choice) => {
      if (device === "speaker" && !(await stageView.useSpeaker(choice))) return false;
      return room.choose(device, choice);
    },
    testSound,
    hideOwn,
    useShortcuts: (on) => room.useShortcuts(on),
    announce,
  });

  const panelView = new PanelView({ settings: (open) => settingsView.show(open) });

  renderLayout();

  document.addEventListener("keydown", async (event) => {
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
    await room.toggle(shortcut);
    if (media === null || media.isOn(shortcut) !== media.wanted[shortcut]) return; // it does not open, and that is told
    announce(text(`${shortcut}_${media.isOn(shortcut) ? "on" : "off"}`)); // the focus is elsewhere
  });

  return {
    room,
    check: () => checkView.open(),
    retell: () => {
      renderLayout();
      for (const view of [checkView, stageView, qualityView, panelView, settingsView]) view.retell();
      renderRoom(room.view());
    },
    tellFailure: () => settingsView.tell("error_unexpected"),
    get inRoom() {
      return room.view().phase === "room";
    },
    get inCall() {
      return room.view().call !== "none";
    },
    get hasEnded() {
      return room.view().phase === "ended";
    },
    get code() {
      const { phase } = room.view();
      return phase === "joining" || phase === "room" ? room.code : null;
    },
  };
}
