/**
 * The settings in the panel: sound, picture, keys. What is chosen here holds at once, also in the middle of a talk.
 */

import { byId } from "./elements.js";
import { LevelMeter } from "./level_meter.js";
import { CAN_CHOOSE_SPEAKER } from "./test_sound.js";
import { text } from "./texts.js";

const DEVICES = /** @type {const} */ (["microphone", "camera"]);
/** What a phone calls its cameras. */
const SIDES = { user: "camera_front", environment: "camera_rear" };

/**
 * @typedef {object} SettingsHandlers
 * @property {(device: import("./devices.js").Choosable, choice: string) => Promise<boolean>} choose
 * @property {() => Promise<boolean>} testSound whether it could be played
 * @property {(hidden: boolean) => void} hideOwn
 * @property {(on: boolean) => void} useShortcuts
 * @property {(words: string) => void} announce
 */

export class SettingsView {
  #selects = {
    speaker: /** @type {HTMLSelectElement} */ (byId("speaker-select")),
    microphone: /** @type {HTMLSelectElement} */ (byId("microphone-select")),
    camera: /** @type {HTMLSelectElement} */ (byId("camera-select")),
  };
  #ownHidden = /** @type {HTMLInputElement} */ (byId("own-hidden"));
  #shortcuts = /** @type {HTMLInputElement} */ (byId("shortcuts-on"));
  #meter = new LevelMeter(byId("microphone-level"));
  #problem = byId("settings-problem");
  #told = ""; // key of what the problem says
  #open = false;
  /** @type {import("./room.js").PageView | null} */ #view = null;

  /** @type {SettingsHandlers} */ #handlers;

  /** @param {SettingsHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    for (const [device, select] of Object.entries(this.#selects)) {
      select.addEventListener("change", async () => {
        this.#problem.hidden = true;
        const choice = select.value;
        if (await handlers.choose(/** @type {import("./devices.js").Choosable} */ (device), choice)) return;
        this.tell("settings_refused");
        if (this.#view !== null) this.render(this.#view); // back to what is in use
      });
    }
    byId("test-sound-button").addEventListener("click", async () => {
      this.#problem.hidden = true;
      if (!(await handlers.testSound())) this.tell("speaker_refused");
    });
    this.#ownHidden.addEventListener("change", () => handlers.hideOwn(this.#ownHidden.checked));
    this.#shortcuts.addEventListener("change", () => handlers.useShortcuts(this.#shortcuts.checked));
  }

  /**
   * Say that something did not work.
   *
   * @param {string} key of a text
   */
  tell(key) {
    this.#told = key;
    this.#problem.textContent = text(key);
    this.#problem.hidden = false;
    this.#handlers.announce(this.#problem.textContent);
  }

  /** @param {boolean} open a microphone is measured only while its meter is seen */
  show(open) {
    this.#open = open;
    this.#problem.hidden = true;
    if (this.#view !== null) this.render(this.#view);
  }

  /** Say the problem and the level anew; the rest follows with the next `render`. */
  retell() {
    if (this.#told !== "") this.#problem.textContent = text(this.#told);
    this.#meter.retell();
  }

  /** @param {import("./layout.js").Layout} layout */
  renderLayout({ ownHidden }) {
    this.#ownHidden.checked = ownHidden;
  }

  /** @param {import("./room.js").PageView} view */
  render(view) {
    this.#view = view;
    const { media, options, speaker, handheld, preferences } = view;
    this.#meter.follow(this.#open && media?.isOn("microphone") ? media.track("microphone") : null);
    this.#shortcuts.checked = preferences.shortcuts;
    byId("speaker-field").hidden = !CAN_CHOOSE_SPEAKER || options.speaker.length === 0;
    byId("microphone-field").hidden = handheld;
    byId("handheld-sound").hidden = !handheld;
    byId("keys").hidden = handheld; // there is no keyboard
    fill(this.#selects.speaker, options.speaker, speaker, text("speaker_system"));
    for (const device of DEVICES) {
      const track = media?.track(device) ?? null;
      const otherwise = track !== null ? `${device}_unknown` : media?.rests(device) ? `${device}_off` : `${device}_none`;
      fill(this.#selects[device], options[device], media?.used(device) ?? "", text(otherwise));
    }
  }
}

/**
 * Show the options, and which one is in use. Untouched while nothing changes: an open list would close under the finger.
 *
 * @param {HTMLSelectElement} select
 * @param {import("./devices.js").Option[]} options
 * @param {string} used
 * @param {string} otherwise what to say if none of the options is in use
 */
function fill(select, options, used, otherwise) {
  const shown = options.map(({ id, label }, at) => {
    const side = SIDES[id];
    return { id, label: side ? text(side) : label || text("device_number", { number: at + 1 }) };
  });
  // The system's own loudspeaker is in the list of some browsers, as `default`.
  const known = shown.some(({ id }) => id === used);
  const byDefault = !known && select.id === "speaker-select" && shown.some(({ id }) => id === "default");
  if (!known && !byDefault) shown.unshift({ id: "", label: otherwise });
  const content = JSON.stringify(shown);
  if (select.dataset.content !== content) {
    select.dataset.content = content;
    select.replaceChildren(...shown.map(({ id, label }) => new Option(label, id)));
  }
  select.value = byDefault ? "default" : known ? used : "";
}
