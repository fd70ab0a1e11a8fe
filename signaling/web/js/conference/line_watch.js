/**
 * How good the line of a conference is, to the server and to each of the others, out of successive statistics of both
 * connections: no page, no clock.
 */

import { readingOf } from "../connection_stats.js";
import { QualityMeter } from "../quality.js";

const STALLED_AFTER_MS = 3_000; // without a picture, although one is due

/**
 * @typedef {object} Line to one of the others
 * @property {import("../quality.js").Step | null} step null while it is not known
 * @property {boolean} stalled its camera is due, and nothing comes
 *
 * @typedef {object} Statistics
 * @property {Map<string, any>} publish of getStats(), or of its like; empty while there is no such connection
 * @property {Map<string, any>} subscribe
 * @property {Map<string, { pid: string, source: import("./server_messages.js").Source }>} owners by mid of the subscribing connection
 */

export class LineWatch {
  /** Of the own line, in both directions. @type {import("../quality.js").Step | null} */ step = null;
  /** @type {Map<string, Line>} by participant */ lines = new Map();
  #own = new QualityMeter();
  /** @type {Map<string, { meter: QualityMeter, picture: Picture }>} */ #others = new Map();

  /**
   * @param {Statistics} statistics
   * @param {ReadonlySet<string>} due whose camera is asked for, and looked at
   * @param {number} at milliseconds of a monotonic clock
   */
  add({ publish, subscribe, owners }, due, at) {
    const sent = readingOf(publish, at);
    const got = readingOf(subscribe, at);
    const times = [sent.rttMs, got.rttMs].filter((time) => time !== null);
    const rttMs = times.length === 0 ? null : Math.max(...times);
    // Whether pictures come is told of each of them: one that stands still is no matter of the whole line.
    this.#own.add({ ...got, reports: sent.reports, rttMs }, false);
    this.step = this.#own.step;
    const people = statsByPerson(subscribe, owners);
    for (const pid of this.#others.keys()) if (!people.has(pid)) this.#others.delete(pid);
    this.lines = new Map();
    for (const [pid, { all, camera }] of people) {
      const { meter, picture } = this.#others.get(pid) ?? { meter: new QualityMeter(), picture: new Picture() };
      this.#others.set(pid, { meter, picture });
      // The way of the own packets is the same to everybody, and told once.
      meter.add({ ...readingOf(all, at), reports: [], rttMs: null }, false);
      const stalled = picture.add(readingOf(camera, at).framesDecoded, due.has(pid), at);
      this.lines.set(pid, { step: stalled ? "bad" : meter.step, stalled });
    }
    if (due.size > 0 && [...due].every((pid) => this.lines.get(pid)?.stalled)) this.step = "bad";
  }
}

/** Whether one that is due comes. */
class Picture {
  #frames = -1;
  #wasDue = false;
  #since = 0;

  /**
   * @param {number} frames decoded since the beginning
   * @param {boolean} isDue
   * @param {number} at
   * @returns {boolean} whether it is waited for in vain
   */
  add(frames, isDue, at) {
    if (!isDue || !this.#wasDue || frames !== this.#frames) this.#since = at;
    this.#wasDue = isDue;
    this.#frames = frames;
    return isDue && at - this.#since >= STALLED_AFTER_MS;
  }
}

/**
 * @param {Map<string, any>} stats
 * @param {Statistics["owners"]} owners
 * @returns {Map<string, { all: Map<string, any>, camera: Map<string, any> }>} what is received of each
 */
function statsByPerson(stats, owners) {
  /** @type {Map<string, { all: Map<string, any>, camera: Map<string, any> }>} */ const people = new Map();
  for (const [id, entry] of stats) {
    const owner = entry.type === "inbound-rtp" ? owners.get(entry.mid) : undefined;
    if (owner === undefined) continue;
    const { all, camera } = people.get(owner.pid) ?? { all: new Map(), camera: new Map() };
    all.set(id, entry);
    if (owner.source === "camera") camera.set(id, entry);
    people.set(owner.pid, { all, camera });
  }
  return people;
}
