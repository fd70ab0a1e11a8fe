/**
 * A bar that follows a microphone. It listens only while it is seen.
 */

import { levelOf, levelWord } from "./level.js";
import { text } from "./texts.js";

const LOOK_EVERY_MS = 100;
const FALL_PER_LOOK = 12; // of 100: peaks are to be seen, a bar that trembles is not to be read

export class LevelMeter {
  /** @type {HTMLElement} */ #element;
  /** @type {MediaStreamTrack | null} */ #track = null;
  /** @type {AudioContext | null} */ #context = null;
  #timer = 0;
  #level = 0;
  #word = "level_off";

  /** @param {HTMLElement} element with the role meter */
  constructor(element) {
    this.#element = element;
    element.setAttribute("aria-valuemin", "0");
    element.setAttribute("aria-valuemax", "100");
    this.#show(0, "level_off");
  }

  /**
   * Follow this microphone from now on, or none. Needs a click of the person before: browsers start no sound without.
   *
   * @param {MediaStreamTrack | null} track
   */
  follow(track) {
    if (track === this.#track) return;
    this.#track = track;
    clearInterval(this.#timer);
    void this.#context?.close();
    this.#context = null;
    this.#level = 0;
    if (track === null) {
      this.#show(0, "level_off");
      return;
    }
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    const samples = new Float32Array(analyser.fftSize); // 2048 samples are 43 ms at 48 kHz
    try {
      context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    } catch (error) {
      // Firefox measures no microphone whose sample rate is not that of the loudspeaker. It can be heard all the same.
      console.warn("level meter: microphone refused by the browser", error.name);
      void context.close();
      this.#show(0, "level_unknown");
      return;
    }
    this.#context = context;
    this.#timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      this.#level = Math.max(levelOf(samples), this.#level - FALL_PER_LOOK);
      this.#show(this.#level, levelWord(this.#level));
    }, LOOK_EVERY_MS);
  }

  /** Say the level anew, in the language that is in use now. */
  retell() {
    this.#show(this.#level, this.#word);
  }

  /**
   * @param {number} level
   * @param {string} word key of a text
   */
  #show(level, word) {
    this.#word = word;
    const words = text(word);
    this.#element.style.setProperty("--level", `${level}%`);
    this.#element.setAttribute("aria-valuenow", String(level));
    if (this.#element.getAttribute("aria-valuetext") !== words) this.#element.setAttribute("aria-valuetext", words);
  }
}
