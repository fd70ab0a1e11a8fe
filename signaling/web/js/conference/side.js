/**
 * One of the two connections of a conference, as far as time and failures go: when it is begun anew, restarted, given up.
 *
 * Events go in with the time; each method says what is to be done. Time is in milliseconds of one monotonic clock.
 */

import { isDue } from "../due.js";

const ATTEMPT_MS = 15_000; // for ICE and DTLS
const RESTART_AFTER_MS = 3_000; // most interruptions heal by themselves
const AGAIN_AFTER_MS = 1_000; // what fails at once must not be tried without a pause
const ATTEMPTS = 3; // in a row, then the person is told

/**
 * @typedef {"open" | "restart" | null} Order begin the connection anew; give it new ICE credentials
 * @typedef {"off" | "beginning" | "connected" | "interrupted" | "failed"} SideState
 */

export class Side {
  /** @type {SideState} */ state = "off";
  everConnected = false;
  #failures = 0;
  /** @type {number | null} */ #attemptEndsAt = null;
  /** @type {number | null} */ #restartAt = null;
  /** @type {number | null} */ #openAt = null;

  /** @returns {number | null} when to call `tick` at the latest */
  get deadline() {
    const set = [this.#attemptEndsAt, this.#restartAt, this.#openAt].filter((at) => at !== null);
    return set.length > 0 ? Math.min(...set) : null;
  }

  /**
   * @param {number} now
   * @returns {Order}
   */
  begin(now) {
    this.#rest();
    this.#failures = 0;
    return this.#open(now);
  }

  /**
   * The way to the server is there again: mend what has been interrupted, and begin anew what never stood.
   *
   * @param {number} now
   * @returns {Order}
   */
  retry(now) {
    if (this.state !== "interrupted" || this.#openAt !== null) return this.begin(now);
    this.#rest();
    this.#attemptEndsAt = now + ATTEMPT_MS;
    return "restart";
  }

  /**
   * The server goes on elsewhere: another connection takes the place of this one, which may stand until then.
   *
   * @param {number} now
   * @returns {Order}
   */
  move(now) {
    if (this.state !== "connected") return this.begin(now);
    this.replaced(now);
    return "open";
  }

  /**
   * Another connection has been begun to take the place of this one, which is shown as standing until it comes to nothing.
   *
   * @param {number} now
   */
  replaced(now) {
    this.#rest();
    this.#attemptEndsAt = now + ATTEMPT_MS;
  }

  /** The connection is gone, and not wanted. */
  end() {
    this.#rest();
    this.state = "off";
    this.everConnected = false;
  }

  /**
   * Something has been done about it from elsewhere, such as an offer of the server: it has its time anew.
   *
   * @param {number} now
   */
  attempted(now) {
    if (this.state === "connected") return;
    if (this.state !== "interrupted") this.state = "beginning";
    this.#attemptEndsAt = now + ATTEMPT_MS;
  }

  connected() {
    this.#rest();
    this.#failures = 0;
    this.state = "connected";
    this.everConnected = true;
  }

  /** @param {number} now */
  disconnected(now) {
    if (this.state !== "connected") return;
    this.state = "interrupted";
    this.#restartAt = now + RESTART_AFTER_MS;
  }

  /** @param {number} now */
  failed(now) {
    if (this.state === "off" || this.state === "failed" || this.#openAt !== null) return;
    this.#rest();
    this.#failures += 1;
    if (this.#failures >= ATTEMPTS) {
      this.state = "failed";
      return;
    }
    this.state = this.everConnected ? "interrupted" : "beginning";
    this.#openAt = now + AGAIN_AFTER_MS * this.#failures;
  }

  /**
   * @param {number} now
   * @param {boolean} away the server cannot be reached right now: what needs it has to wait
   * @returns {Order}
   */
  tick(now, away) {
    if (away) {
      if (this.deadline !== null && this.deadline <= now) {
        this.#rest();
        this.#restartAt = now + RESTART_AFTER_MS;
      }
      return null;
    }
    if (isDue(this.#openAt, now)) return this.#open(now);
    if (isDue(this.#restartAt, now)) {
      this.#restartAt = null;
      this.#attemptEndsAt = now + ATTEMPT_MS;
      return "restart";
    }
    if (isDue(this.#attemptEndsAt, now)) this.failed(now);
    return null;
  }

  /**
   * @param {number} now
   * @returns {Order}
   */
  #open(now) {
    this.#openAt = null;
    this.state = this.everConnected ? "interrupted" : "beginning";
    this.#attemptEndsAt = now + ATTEMPT_MS;
    return "open";
  }

  #rest() {
    this.#attemptEndsAt = this.#restartAt = this.#openAt = null;
  }
}
