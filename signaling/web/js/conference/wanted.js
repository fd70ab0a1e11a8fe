/**
 * What of the others is looked at, as the server is told: the newest list, no more often than the server takes it, and only if it is news.
 */

const WANT_EVERY_MS = 400; // the server takes four in a second
const MAX_WANTED = 64;

/**
 * @typedef {{ pid: string, source: import("./server_messages.js").Source, visible: boolean, width: number, height: number,
 *   pinned: boolean }} Wanted sizes in device pixels
 */

export class WantedTracks {
  /** @type {Wanted[]} what the view has said last */ lookedAt = [];
  /** @type {Wanted[] | null} not told yet */ #untold = null;
  #told = "[]";
  /** @type {number | null} */ #tellAt = null;
  #toldBefore = -Infinity;

  /** @returns {number | null} when to call `take` */
  get deadline() {
    return this.#tellAt;
  }

  /**
   * @param {Wanted[]} tracks the most important first
   * @param {(pid: string) => boolean} isThere of others nothing is wanted
   * @param {number} now
   */
  look(tracks, isThere, now) {
    this.lookedAt = tracks;
    this.#untold = tracks.filter(({ pid }) => isThere(pid)).slice(0, MAX_WANTED);
    this.#tellAt = Math.max(now, this.#toldBefore + WANT_EVERY_MS);
  }

  /** What was told may be lost, or was told for another claim. */
  forgetTold() {
    this.#told = "[]";
    this.#untold = this.#tellAt = null;
  }

  /**
   * @param {number} now
   * @param {boolean} away the server cannot be reached right now: it is told when it is back
   * @returns {Wanted[] | null} what is to be told now
   */
  take(now, away) {
    if (this.#untold === null || this.#tellAt === null || this.#tellAt > now) return null;
    this.#tellAt = null;
    if (away) return null;
    const tracks = this.#untold;
    const told = JSON.stringify(tracks);
    this.#untold = null;
    if (told === this.#told) return null;
    this.#told = told;
    this.#toldBefore = now;
    return tracks;
  }
}
