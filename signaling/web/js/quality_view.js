/**
 * How good the connection is, in the header of the stage; the offer to go on without pictures, and the way back.
 */

import { byId } from "./elements.js";
import { text } from "./texts.js";

/**
 * @typedef {object} QualityHandlers
 * @property {(on: boolean) => void} useAudioOnly
 * @property {() => void} declineAudioOnly
 * @property {(words: string) => void} announce
 */

export class QualityView {
  /** @type {QualityHandlers} */ #handlers;
  #quality = byId("quality");
  #word = byId("quality-word");
  #offer = byId("audio-only-offer");
  #back = byId("pictures-button");
  /** @type {import("./quality.js").Step | null} */ #shownStep = null;

  /** @param {QualityHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    byId("audio-only-accept").addEventListener("click", () => {
      handlers.useAudioOnly(true);
      this.#back.focus(); // the button goes, and the other one undoes it
    });
    byId("audio-only-decline").addEventListener("click", () => handlers.declineAudioOnly());
    this.#back.addEventListener("click", () => handlers.useAudioOnly(false));
  }

  /** Say everything anew, in the language that is in use now. */
  retell() {
    if (this.#shownStep !== null) this.#word.textContent = text(`quality_${this.#shownStep}`);
  }

  /** @param {import("./room.js").PageView} view */
  render({ quality, audioOnly, audioOnlyOffered }) {
    this.#quality.hidden = quality === null;
    if (quality !== null && quality !== this.#shownStep) {
      this.#quality.dataset.step = quality;
      this.#word.textContent = text(`quality_${quality}`);
      if (quality === "bad") this.#handlers.announce(text("quality_announced"));
    }
    this.#shownStep = quality;
    if (audioOnlyOffered && this.#offer.hidden) this.#handlers.announce(text("audio_only_offer"));
    show(this.#offer, audioOnlyOffered);
    show(this.#back, audioOnly);
  }
}

/**
 * The focus must not get lost with what goes.
 *
 * @param {HTMLElement} element
 * @param {boolean} shown
 */
function show(element, shown) {
  const focused = element.contains(document.activeElement);
  element.hidden = !shown;
  if (focused && !shown) byId("stage-heading").focus();
}
