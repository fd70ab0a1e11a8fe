/**
 * How good the connection is, in three steps, out of successive readings of its statistics: no page, no clock.
 */

/** From these on it is no longer `good`, and beyond these it is `bad`. */
const WEAK_LOSS = 0.03;
const BAD_LOSS = 0.08;
const WEAK_RTT_MS = 300;
const BAD_RTT_MS = 600;

const FROZEN_AFTER_MS = 3_000; // without a picture, although one is due: bad at once

/** Share of the newest reading: a single burst of loss fades away, lasting loss is believed after three readings. */
const NEWEST_SHARE = 1 / 3;
/** So many readings in a row must be worse than what is shown: the word must not flicker… */
const WORSE_AFTER_READINGS = 3;
/** …and so many better: who has just read "bad" shall not read "good" between two gaps. */
const BETTER_AFTER_READINGS = 5;

/** One lost packet out of fewer would look like a bad line. Sound alone brings a hundred in two seconds. */
const MIN_PACKETS = 20;
/** A page that slept in between knows nothing of that time. */
const MAX_PAUSE_MS = 10_000;

/** @typedef {import("./connection_stats.js").Reading} Reading */
/** @typedef {"good" | "weak" | "bad"} Step */

const ORDER = /** @type {readonly Step[]} */ (["good", "weak", "bad"]);

/**
 * @param {number} loss share of the packets, 0 to 1
 * @param {number} rttMs
 * @returns {Step}
 */
export function stepOf(loss, rttMs) {
  if (loss > BAD_LOSS || rttMs > BAD_RTT_MS) return "bad";
  return loss >= WEAK_LOSS || rttMs >= WEAK_RTT_MS ? "weak" : "good";
}

export class QualityMeter {
  /** What both people feel, smoothed; null before the second reading. @type {Step | null} */ step = null;
  /** How the own packets fare on their way, as it is measured now. @type {Step | null} */ uplink = null;
  /** @type {Reading | null} */ #last = null;
  #lossIn = new Smoothed();
  #lossOut = new Smoothed();
  #rtt = new Smoothed();
  /** Since when a picture is due. */ #waitsSince = 0;
  #wasDue = false;
  /** What readings in a row found, all of them worse than what is shown, or all better. @type {Step[]} */ #streak = [];

  /**
   * @param {Reading} reading
   * @param {boolean} pictureDue the partner sends one, and somebody looks at it
   */
  add(reading, pictureDue) {
    const last = this.#last;
    this.#last = reading;
    if (!pictureDue || !this.#wasDue || reading.framesDecoded !== last?.framesDecoded) this.#waitsSince = reading.at;
    this.#wasDue = pictureDue;
    if (last === null || reading.at - last.at > MAX_PAUSE_MS) {
      this.#waitsSince = reading.at;
      return;
    }
    this.#measure(last, reading);
    const rtt = this.#rtt.value;
    this.uplink = stepOf(this.#lossOut.value, rtt);
    if (reading.at - this.#waitsSince >= FROZEN_AFTER_MS) this.#show("bad");
    else this.#weigh(stepOf(Math.max(this.#lossIn.value, this.#lossOut.value), rtt));
  }

  /**
   * @param {Reading} last
   * @param {Reading} reading
   */
  #measure(last, reading) {
    const lost = Math.max(0, reading.lost - last.lost);
    const expected = lost + Math.max(0, reading.received - last.received);
    if (expected >= MIN_PACKETS) this.#lossIn.add(lost / expected);
    // A stream that rests repeats its last report for ever; of those that run, each counts by its packets.
    const runs = reading.reports.map(({ sent, fractionLost }, i) => ({ packets: Math.max(0, sent - last.reports[i].sent), fractionLost }));
    const sent = runs.reduce((sum, { packets }) => sum + packets, 0);
    const lostOut = runs.reduce((sum, { packets, fractionLost }) => sum + packets * fractionLost, 0);
    if (sent >= MIN_PACKETS) this.#lossOut.add(lostOut / sent);
    if (reading.rttMs !== null) this.#rtt.add(reading.rttMs);
  }

  /** @param {Step} found */
  #weigh(found) {
    if (this.step === null) this.#show(found);
    const difference = (step) => Math.sign(ORDER.indexOf(step) - ORDER.indexOf(this.step));
    const way = difference(found);
    if (way === 0 || (this.#streak.length > 0 && difference(this.#streak[0]) !== way)) this.#streak = [];
    if (way === 0) return;
    this.#streak.push(found);
    if (way > 0 && this.#streak.length >= WORSE_AFTER_READINGS) this.#show(found);
    // Only as far up as all of them agree.
    else if (way < 0 && this.#streak.length >= BETTER_AFTER_READINGS) this.#show(ORDER.findLast((step) => this.#streak.includes(step)));
  }

  /** @param {Step} step */
  #show(step) {
    this.step = step;
    this.#streak = [];
  }
}

/** A figure without its jumps. */
class Smoothed {
  value = 0;
  #empty = true;

  /** @param {number} newest */
  add(newest) {
    this.value = this.#empty ? newest : this.value + NEWEST_SHARE * (newest - this.value);
    this.#empty = false;
  }
}
