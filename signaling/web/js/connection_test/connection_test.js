/**
 * The shell around the test machine: gives it time and events, and does what it says with connections.
 */

import { Loopback } from "./loopback.js";
import { Probe } from "./probe.js";
import { askForTest } from "./service.js";
import { TestMachine } from "./test_machine.js";

const IS_FIREFOX = navigator.userAgent.includes("Firefox/");

export class ConnectionTest {
  #changed;
  #machine = new TestMachine({ tlsNeedsName: IS_FIREFOX });
  /** @type {Map<number, Probe>} by row */ #probes = new Map();
  /** @type {Loopback | null} */ #loopback = null;
  #timer = 0;
  #settling = false;
  #attempt = 0;

  /** @param {(view: ReturnType<TestMachine["view"]>) => void} changed */
  constructor(changed) {
    this.#changed = changed;
  }

  begin() {
    this.#machine.begin();
    this.#settle();
  }

  view() {
    return this.#machine.view();
  }

  /** Do all that the machine has to say, then sleep until its deadline and show the result. */
  #settle() {
    if (this.#settling) return;
    this.#settling = true;
    try {
      let actions;
      while ((actions = this.#machine.poll()).length > 0) for (const action of actions) this.#perform(action);
    } finally {
      this.#settling = false;
    }
    clearTimeout(this.#timer);
    const { deadline } = this.#machine;
    if (deadline !== null) {
      const wait = Math.max(0, deadline - performance.now());
      this.#timer = setTimeout(() => this.#tell(() => this.#machine.tick(performance.now())), wait);
    }
    this.#changed(this.#machine.view());
  }

  /** @param {() => void} event */
  #tell(event) {
    event();
    this.#settle();
  }

  /** @param {import("./test_machine.js").Action} action */
  #perform(action) {
    const machine = this.#machine;
    switch (action.do) {
      case "ask":
        void this.#ask();
        break;
      case "probe": {
        const { test, rows } = machine.view();
        const at = action.row;
        this.#probes.set(
          at,
          new Probe(/** @type {import("./test_machine.js").Test} */ (test), rows[at].target.url, {
            relayed: () => this.#tell(() => machine.relayed(at, performance.now())),
            erred: (code, text) => this.#tell(() => machine.erred(at, code, text)),
            exhausted: () => this.#tell(() => machine.exhausted(at, performance.now())),
          }),
        );
        break;
      }
      case "end_probe":
        this.#probes.get(action.row)?.close();
        this.#probes.delete(action.row);
        break;
      case "loop": {
        const { test } = machine.view();
        this.#loopback = new Loopback(/** @type {import("./test_machine.js").Test} */ (test), action.url, {
          done: (figures) => this.#tell(() => machine.looped(figures)),
          failed: () => this.#tell(() => machine.loopFailed()),
        });
        break;
      }
      case "end_loop":
        this.#loopback?.close();
        this.#loopback = null;
        break;
    }
  }

  async #ask() {
    const attempt = (this.#attempt += 1);
    const answer = "RTCPeerConnection" in window ? await askForTest() : { refused: /** @type {const} */ ("unsupported"), seconds: 0 };
    if (attempt !== this.#attempt) return; // somebody has begun anew
    this.#tell(() => {
      if ("test" in answer) this.#machine.told(answer.test, performance.now());
      else this.#machine.refused(answer.refused, answer.seconds);
    });
  }
}
