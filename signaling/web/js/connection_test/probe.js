/**
 * One port of the relay, tried by a connection that may use nothing else: a relay candidate means that it can be reached.
 */

import { connectionThrough } from "./connection.js";

/**
 * @typedef {object} ProbeHandlers
 * @property {() => void} relayed
 * @property {(code: number, text: string) => void} erred
 * @property {() => void} exhausted
 */

export class Probe {
  #connection;

  /**
   * @param {import("./test_machine.js").Test} test
   * @param {string} url
   * @param {ProbeHandlers} handlers
   */
  constructor(test, url, { relayed, erred, exhausted }) {
    const connection = (this.#connection = connectionThrough(test, url));
    connection.onicecandidate = ({ candidate }) => {
      if (candidate?.type === "relay" || / typ relay /.test(candidate?.candidate ?? "")) relayed();
    };
    connection.onicecandidateerror = ({ errorCode, errorText }) => erred(errorCode, errorText);
    connection.onicegatheringstatechange = () => {
      if (connection.iceGatheringState === "complete") exhausted();
    };
    connection.createDataChannel("probe"); // without anything to carry nothing is gathered
    connection.setLocalDescription().catch((/** @type {DOMException} */ error) => {
      console.warn("connection test: refused by the browser", error.name);
      exhausted();
    });
  }

  /** Give the relay's port back. */
  close() {
    this.#connection.onicecandidate = null;
    this.#connection.onicecandidateerror = null;
    this.#connection.onicegatheringstatechange = null;
    this.#connection.close();
  }
}
