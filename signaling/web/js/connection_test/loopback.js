/**
 * Two connections of this page that meet on the relay, and five seconds of packets between them.
 */

import { connectionThrough } from "./connection.js";
import { FLOOD_BITS_PER_SECOND, FLOOD_MS, LATE_MS, LoopFigures, PINGS_MS, PING_EVERY_MS } from "./loop_figures.js";

const PING_BYTES = 160; // as 20 ms of sound
const FLOOD_BYTES = 1_100; // fits into one packet
const FLOOD_EVERY_MS = 20;
const MAX_WAITING_BYTES = 65_536; // in the browser: more would only be sent later

export class Loopback {
  #ends;
  #figures = new LoopFigures();
  #done;
  #failed;
  /** @type {number[]} */ #timers = [];

  /**
   * @param {import("./test_machine.js").Test} test
   * @param {string} url
   * @param {{ done: (figures: import("./loop_figures.js").Figures) => void, failed: () => void }} handlers
   */
  constructor(test, url, { done, failed }) {
    this.#done = done;
    this.#failed = failed;
    const [near, far] = (this.#ends = [connectionThrough(test, url), connectionThrough(test, url)]);
    for (const [one, other] of [this.#ends, [far, near]]) {
      one.onicecandidate = ({ candidate }) => {
        if (candidate !== null) other.addIceCandidate(candidate).catch((error) => this.#warn(error));
      };
      one.onconnectionstatechange = () => {
        if (one.connectionState === "failed") failed();
      };
    }
    // As media are: what is late is not sent again, and holds nothing up.
    const channel = near.createDataChannel("loop", { ordered: false, maxRetransmits: 0 });
    channel.binaryType = "arraybuffer";
    channel.onopen = () => this.#measure(channel);
    channel.onmessage = ({ data }) => this.#figures.returned(new DataView(data).getUint32(0), performance.now());
    far.ondatachannel = ({ channel: answering }) => {
      answering.binaryType = "arraybuffer";
      answering.onmessage = ({ data }) => {
        if (data.byteLength === FLOOD_BYTES) this.#figures.floodArrived(FLOOD_BYTES, performance.now());
        else if (answering.readyState === "open") answering.send(data);
      };
    };
    this.#introduce(near, far).catch((error) => {
      this.#warn(error);
      failed();
    });
  }

  /** End it, and give the relay's ports back. */
  close() {
    for (const timer of this.#timers) clearInterval(timer);
    for (const end of this.#ends) {
      end.onicecandidate = null;
      end.onconnectionstatechange = null;
      end.close();
    }
  }

  /**
   * @param {RTCPeerConnection} near
   * @param {RTCPeerConnection} far
   */
  async #introduce(near, far) {
    // What is gathered before the other one knows the description would be refused by it.
    const offer = await near.createOffer();
    await far.setRemoteDescription(offer);
    await near.setLocalDescription(offer);
    const answer = await far.createAnswer();
    await near.setRemoteDescription(answer);
    await far.setLocalDescription(answer);
  }

  /** @param {RTCDataChannel} channel */
  #measure(channel) {
    const began = performance.now();
    const figures = this.#figures;
    const ping = new DataView(new ArrayBuffer(PING_BYTES));
    const flood = new Uint8Array(FLOOD_BYTES);
    let pings = 0;
    let flooded = 0;
    // Timers of pages are late now and then: what is due is counted by the clock.
    const look = () => {
      if (channel.readyState !== "open") {
        this.#failed();
        return;
      }
      const passed = performance.now() - began;
      while (pings * PING_EVERY_MS < Math.min(passed, PINGS_MS)) {
        ping.setUint32(0, pings);
        figures.sent(pings, performance.now());
        channel.send(ping);
        pings += 1;
      }
      const due = ((Math.min(passed - PINGS_MS, FLOOD_MS) / 1_000) * FLOOD_BITS_PER_SECOND) / 8;
      while (flooded < due && channel.bufferedAmount < MAX_WAITING_BYTES) {
        channel.send(flood);
        figures.floodSent(FLOOD_BYTES);
        flooded += FLOOD_BYTES;
      }
      if (passed >= PINGS_MS + FLOOD_MS + LATE_MS) this.#done(figures.read());
    };
    this.#timers.push(setInterval(look, FLOOD_EVERY_MS));
  }

  /** @param {DOMException} error */
  #warn(error) {
    console.warn("connection test: the loopback was refused by the browser", error.name);
  }
}
