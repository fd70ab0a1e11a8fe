/**
 * Camera, microphone and loudspeaker, tried before the room is entered. Nobody has to.
 */

import { faultLines, showLines, showSwitch } from "./device_words.js";
import { isMirrored } from "./devices.js";
import { byId } from "./elements.js";
import { LevelMeter } from "./level_meter.js";
import { text } from "./texts.js";

const DEVICES = /** @type {const} */ (["camera", "microphone"]);

/**
 * @typedef {object} CheckHandlers
 * @property {() => void} check
 * @property {() => void} endCheck
 * @property {(device: "camera" | "microphone") => void} toggle
 * @property {() => Promise<boolean>} testSound whether it could be played
 * @property {(words: string) => void} announce
 */

export class CheckView {
  #join = byId("join");
  #check = byId("check");
  #button = byId("check-button");
  #video = /** @type {HTMLVideoElement} */ (byId("check-video"));
  #meter = new LevelMeter(byId("check-level"));
  #problem = byId("check-problem");
  #handlers;
  #shownFaults = "";

  /** @param {CheckHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    byId("check-end").addEventListener("click", () => {
      handlers.endCheck();
      this.#button.focus();
    });
    byId("check-sound").addEventListener("click", async () => {
      const played = await handlers.testSound();
      byId("check-sound-problem").hidden = played;
      if (!played) handlers.announce(text("speaker_refused"));
    });
    for (const device of DEVICES) byId(`check-${device}`).addEventListener("click", () => handlers.toggle(device));
  }

  /** Begin. */
  open() {
    this.#handlers.check();
    byId("check-heading").focus();
  }

  /** Say anew, with the next `render`, what is said here. */
  retell() {
    this.#meter.retell();
  }

  /** @param {import("./room.js").PageView} view */
  render({ phase, checking, media }) {
    const open = checking && media !== null && (phase === "form" || phase === "joining");
    this.#check.hidden = !open;
    this.#button.hidden = open;
    this.#join.classList.toggle("checking", open);
    const track = open ? media.track("camera") : null;
    const stream = track === null ? null : media.stream;
    if (this.#video.srcObject !== stream) {
      this.#video.srcObject = stream;
      if (stream !== null) void this.#video.play().catch(() => {}); // muted: refused only while it is replaced
    }
    this.#video.classList.toggle("mirrored", track !== null && isMirrored(track.getSettings()));
    this.#meter.follow(open && media.isOn("microphone") ? media.track("microphone") : null);
    if (!open) {
      this.#shownFaults = "";
      return;
    }
    for (const device of DEVICES) showSwitch(byId(`check-${device}`), device, media.isOn(device));
    byId("check-picture-words").hidden = media.isOn("camera");
    byId("check-picture-words").textContent = text(media.asking ? "media_question" : "camera_off");
    if (!media.asking) this.#renderFaults(media.faults);
  }

  /** @param {Record<"camera" | "microphone", import("./media.js").Fault | null>} faults */
  #renderFaults(faults) {
    const lines = faultLines(faults);
    const key = lines.join(" ");
    this.#problem.hidden = key === "";
    if (key === this.#shownFaults) return;
    this.#shownFaults = key;
    showLines(byId("check-problem-words"), lines);
    if (key !== "") this.#handlers.announce(`${key} ${text("check_without")}`);
  }
}
