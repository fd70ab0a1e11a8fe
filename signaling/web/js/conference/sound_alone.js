/**
 * Sound alone, in a conference: chosen by the person, or offered to it when the line has been bad for a while.
 *
 * It concerns this page only: no picture is asked for, and none is sent. Events go in with the time, in milliseconds.
 */

const OFFER_AFTER_MS = 8_000; // of a bad line: it may be over by then

export class SoundAlone {
  chosen = false;
  offered = false;
  #declined = false;
  /** @type {import("../quality.js").Step | null} */ #step = null;
  /** @type {number | null} */ #offerAt = null;

  /** @returns {number | null} when to call `tick` at the latest */
  get deadline() {
    return this.#offerAt;
  }

  /** @param {boolean} on */
  use(on) {
    this.chosen = on;
    this.#withdraw();
  }

  /** Not again in this conference. */
  decline() {
    this.#declined = true;
    this.#withdraw();
  }

  /**
   * @param {import("../quality.js").Step | null} step of the line; null while it is not known
   * @param {number} now
   */
  measured(step, now) {
    this.#step = step;
    if (step === "bad" && !this.chosen && !this.offered && !this.#declined) this.#offerAt ??= now + OFFER_AFTER_MS;
    else this.#offerAt = null;
    if (step === "good") this.offered = false; // what is only weak may be bad again before anybody has read it
  }

  /** @param {number} now */
  tick(now) {
    if (this.#offerAt === null || this.#offerAt > now) return;
    this.#offerAt = null;
    this.offered = this.#step === "bad";
  }

  #withdraw() {
    this.offered = false;
    this.#offerAt = null;
  }
}
