/**
 * Loss, round-trip time and bandwidth out of what was sent around the relay and came back. No clock, no network.
 */

export const PINGS_MS = 3_000;
export const PING_EVERY_MS = 20; // as often as sound is sent
export const LATE_MS = 500; // for what is still under way
export const FLOOD_MS = 1_500;
export const FLOOD_BITS_PER_SECOND = 4_000_000; // more than picture and sound of a consultation need together
export const ENOUGH_SHARE = 0.95; // what came through of it counts as all: the last messages are still under way

/**
 * @typedef {object} Figures
 * @property {number} loss share of the packets that did not come back, 0 to 1
 * @property {number | null} rttMs half of the packets took no longer; null if none came back
 * @property {number | null} slowMs 95 of 100 took no longer
 * @property {number} bitsPerSecond one way
 * @property {boolean} enough all that was sent came through: the line may carry more
 */

export class LoopFigures {
  /** @type {Map<number, number>} when each packet was sent */ #sent = new Map();
  /** @type {number[]} */ #times = [];
  #floodSent = 0;
  #floodBytes = 0;
  #floodFrom = NaN;
  #floodTo = NaN;

  /**
   * @param {number} number
   * @param {number} now milliseconds
   */
  sent(number, now) {
    this.#sent.set(number, now);
  }

  /**
   * @param {number} number what came twice counts once
   * @param {number} now
   */
  returned(number, now) {
    const at = this.#sent.get(number);
    if (at === undefined || Number.isNaN(at)) return;
    this.#times.push(now - at);
    this.#sent.set(number, NaN);
  }

  /** @param {number} bytes handed to the line for the bandwidth */
  floodSent(bytes) {
    this.#floodSent += bytes;
  }

  /**
   * @param {number} bytes that came through
   * @param {number} now
   */
  floodArrived(bytes, now) {
    if (Number.isNaN(this.#floodFrom)) this.#floodFrom = now;
    this.#floodTo = now;
    this.#floodBytes += bytes;
  }

  /** @returns {Figures} */
  read() {
    const times = [...this.#times].sort((a, b) => a - b);
    const of = (/** @type {number} */ share) => (times.length === 0 ? null : times[Math.ceil(times.length * share) - 1]);
    // What waited somewhere comes all at once, and would look like a wide line.
    const spread = Math.max(this.#floodTo - this.#floodFrom || 0, FLOOD_MS / 2);
    const due = (FLOOD_BITS_PER_SECOND * FLOOD_MS) / 8_000; // bytes
    return {
      loss: this.#sent.size === 0 ? 1 : 1 - times.length / this.#sent.size,
      rttMs: of(0.5),
      slowMs: of(0.95),
      bitsPerSecond: Math.min((this.#floodBytes * 8_000) / spread, FLOOD_BITS_PER_SECOND),
      enough: this.#floodSent >= due * ENOUGH_SHARE && this.#floodBytes >= due * ENOUGH_SHARE,
    };
  }
}
