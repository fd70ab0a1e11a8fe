/**
 * How many agreements on a key may fail, in one conference: whoever does not know the secret may not guess for ever.
 *
 * Counted for each seat, so that who guesses under one locator closes that seat and not the conference; and for all of them
 * together, because the server says whose seat it is.
 */

const MAX_FAILED = 3;
// Each may have been a guess, too, but a page that is reloaded or loses its socket at the wrong moment looks the same.
const MAX_ABANDONED = 20;
// Each is one more try, among a million, for somebody in between who knows the secret and wants equal safety codes.
const MAX_AGREEMENTS = 1_000;
const MAX_GUESSES = 60; // of all seats together, among 2²⁵

/** @typedef {{ failed: number, abandoned: number, agreed: number }} SeatCounts */

export class Guesses {
  /** @type {Map<number, SeatCounts>} by index: at most 256 */ #seats = new Map();
  #total = 0;

  /**
   * @param {number} index of the seat
   * @param {keyof SeatCounts} what
   */
  count(index, what) {
    const counts = this.#seats.get(index) ?? { failed: 0, abandoned: 0, agreed: 0 };
    counts[what] += 1;
    this.#seats.set(index, counts);
    if (what !== "agreed") this.#total += 1;
  }

  /** @returns {boolean} no seat has any left */
  get areUsedUp() {
    return this.#total >= MAX_GUESSES;
  }

  /**
   * @param {number} index
   * @returns {boolean} one more agreement may be begun with this seat
   */
  allow(index) {
    const { failed, abandoned, agreed } = this.#seats.get(index) ?? { failed: 0, abandoned: 0, agreed: 0 };
    return !this.areUsedUp && failed < MAX_FAILED && abandoned < MAX_ABANDONED && agreed < MAX_AGREEMENTS;
  }
}
