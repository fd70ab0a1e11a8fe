/**
 * The two connections of a conference, as far as decisions go: when each is begun, mended, begun anew, and how both are together.
 *
 * A part of `ConferenceMachine`: `conference_media.js` does what is ordered here.
 */

import { Side } from "./side.js";

/** @typedef {import("./conference_machine.js").Action} Action */
/** @typedef {"publish" | "subscribe"} SideName */

const NAMES = /** @type {const} */ (["publish", "subscribe"]);

export class Connections {
  /** @type {Record<SideName, Side>} */ #sides = { publish: new Side(), subscribe: new Side() };
  /** @type {(action: Action) => void} */ #do;

  /** @param {(action: Action) => void} order hears what is to be done */
  constructor(order) {
    this.#do = order;
  }

  /** @returns {number | null} when to call `tick` at the latest */
  get deadline() {
    const set = NAMES.map((name) => this.#sides[name].deadline).filter((at) => at !== null);
    return set.length > 0 ? Math.min(...set) : null;
  }

  /** @returns {"connecting" | "connected" | "interrupted" | "no_path"} of both together */
  get state() {
    const { publish, subscribe } = this.#sides;
    const states = [publish.state, subscribe.state];
    if (states.includes("failed")) return "no_path";
    if (states.includes("interrupted")) return "interrupted";
    return publish.state === "connected" && subscribe.state !== "beginning" ? "connected" : "connecting";
  }

  get publishes() {
    return this.#sides.publish.state === "connected";
  }

  /**
   * The way to the server is there, for the first time or again: what was said about a connection that does not stand may be lost.
   *
   * @param {number} now
   */
  begin(now) {
    const { publish, subscribe } = this.#sides;
    if (publish.state !== "connected") this.#order("publish", publish.retry(now));
    else this.#do({ do: "repeat_offer" }); // of a screen, say, that was shown while nobody heard of it
    if (subscribe.state !== "connected" && subscribe.state !== "off") this.#order("subscribe", subscribe.retry(now));
  }

  /**
   * Try those that have been given up once more.
   *
   * @param {number} now
   */
  tryAgain(now) {
    for (const name of NAMES) if (this.#sides[name].state === "failed") this.#order(name, this.#sides[name].begin(now));
  }

  /**
   * @param {SideName} name
   * @param {import("./conference_media.js").SideChange} state
   * @param {number} now
   */
  changed(name, state, now) {
    const side = this.#sides[name];
    if (side.state === "off") return;
    if (state === "connected") {
      side.connected();
      return;
    }
    if (state === "replaced") {
      side.replaced(now);
      return;
    }
    // The own address may have changed, and the socket be as dead as the media.
    if (side.state === "connected") this.#do({ do: "probe_signaling" });
    if (state === "disconnected") side.disconnected(now);
    else side.failed(now);
  }

  /**
   * The server has made an offer to the subscribing side.
   *
   * @param {number} now
   */
  offered(now) {
    this.#sides.subscribe.attempted(now);
  }

  /**
   * The server has given one side up.
   *
   * @param {SideName} name
   * @param {number} now
   */
  lost(name, now) {
    if (name === "subscribe") this.#do({ do: "close_subscribe" });
    this.#sides[name].failed(now);
  }

  /**
   * The server goes on elsewhere with one side.
   *
   * @param {SideName} name
   * @param {number} now
   */
  moved(name, now) {
    this.#order(name, this.#sides[name].move(now));
  }

  /**
   * @param {number} now
   * @param {boolean} away the server cannot be reached right now
   */
  tick(now, away) {
    for (const name of NAMES) this.#order(name, this.#sides[name].tick(now, away));
  }

  close() {
    for (const name of NAMES) this.#sides[name].end();
    this.#do({ do: "close_conference" });
  }

  /**
   * @param {SideName} name
   * @param {import("./side.js").Order} order
   */
  #order(name, order) {
    if (order === null) return;
    if (name === "subscribe") this.#do({ do: "tell", message: { type: "restart", side: "subscribe" } });
    else this.#do({ do: order === "open" ? "open_publish" : "restart_publish" });
  }
}
