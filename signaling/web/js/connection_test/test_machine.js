/**
 * What a connection test does and finds, without page, clock or network: the shell tells it what happened and when, and
 * does what `poll` says.
 */

import { isAddress, targetsOf } from "./targets.js";

export const ROW_MS = 6_000; // browsers do not tell that an answer never came; this is when a row is given up
export const ROWS_AT_ONCE = 2; // the relay lets a test have eight allocations, and browsers take up to four for a connection
export const ALL_ROWS_MS = 18_000; // what has not had its turn by then stays untested: a test ends within 30 s
export const LOOP_MS = 9_000; // to connect through the relay, and five seconds of measuring

const SERVER_SILENT = 701; // of RTCPeerConnectionIceErrorEvent: what no server said
const FORBIDDEN = 403;

/** @typedef {import("./targets.js").Target} Target */
/** @typedef {import("./loop_figures.js").Figures} Figures */
/** @typedef {"self_signed" | "outside_validity" | "other_name"} CertificateProblem for which browsers refuse the server's certificate */
/** @typedef {{ username: string, credential: string, address: string, relay_host: string, urls: string[], certificate_problem: CertificateProblem | null, relay_port_min: number | null, relay_port_max: number | null }} Test as the service tells it */

/**
 * @typedef {object} Row
 * @property {Target} target
 * @property {"waiting" | "running" | "open" | "closed" | "untested" | "unclear"} state
 * @property {"silent" | "refused" | "tls_failed" | "unknown_name" | "elsewhere" | "busy" | "needs_name" | CertificateProblem | null} reason why
 *   it is closed; or why it is open and cannot be used all the same: the relay sees another address than the page came
 *   from, or has no room; or why it is not tested: the browser does not try it, whatever the network does; or why the
 *   attempt told nothing about the network: the browser has to refuse the certificate
 * @property {number | null} ms until the relay answered
 */

/** @typedef {{ state: "waiting" | "running" | "done" | "failed" | "skipped", url: string | null, figures: Figures | null }} Loop */
/** @typedef {"idle" | "asking" | "ports" | "loop" | "done" | "failed"} Phase */
/** @typedef {{ do: "ask" } | { do: "probe" | "end_probe", row: number } | { do: "loop", url: string } | { do: "end_loop" }} Action */
/** @typedef {{ code: "rate_limited" | "no_relay" | "unreachable" | "unsupported", seconds: number }} Problem */

export class TestMachine {
  #tlsNeedsName;
  /** @type {Phase} */ #phase = "idle";
  /** @type {Test | null} */ #test = null;
  /** @type {(Row & { until: number, since: number, answered: number | null, failure: Row["reason"] })[]} */ #rows = [];
  /** @type {Loop} */ #loop = { state: "waiting", url: null, figures: null };
  /** @type {Problem | null} */ #problem = null;
  /** @type {Action[]} */ #actions = [];
  #allUntil = 0;
  #loopUntil = 0;

  /** @param {{ tlsNeedsName?: boolean }} [browser] Firefox tries no `turns:` URL whose host is an IP address */
  constructor({ tlsNeedsName = false } = {}) {
    this.#tlsNeedsName = tlsNeedsName;
  }

  /** @returns {{ phase: Phase, test: Test | null, rows: Readonly<Row>[], loop: Readonly<Loop>, problem: Problem | null }} */
  view() {
    const rows = this.#rows.map(({ target, state, reason, ms }) => ({ target, state, reason, ms }));
    return { phase: this.#phase, test: this.#test, rows, loop: { ...this.#loop }, problem: this.#problem };
  }

  /** @returns {Action[]} what is to be done now, in this order */
  poll() {
    return this.#actions.splice(0);
  }

  /** @returns {number | null} when `tick` wants to be called */
  get deadline() {
    if (this.#phase === "loop") return this.#loopUntil;
    if (this.#phase !== "ports") return null;
    return Math.min(this.#allUntil, ...this.#running().map(({ until }) => until));
  }

  /** Begin, or begin anew. What ran is ended. */
  begin() {
    this.stop();
    this.#phase = "asking";
    this.#test = null;
    this.#rows = [];
    this.#loop = { state: "waiting", url: null, figures: null };
    this.#problem = null;
    this.#actions.push({ do: "ask" });
  }

  /** End all that runs; what has been found stays. */
  stop() {
    for (const row of this.#running()) this.#actions.push({ do: "end_probe", row: this.#rows.indexOf(row) });
    if (this.#phase === "loop") this.#actions.push({ do: "end_loop" });
    this.#phase = "idle";
  }

  /**
   * The service has said what there is to test.
   *
   * @param {Test} test
   * @param {number} now
   */
  told(test, now) {
    if (this.#phase !== "asking") return;
    const targets = targetsOf(test.urls);
    if (targets.length === 0) {
      this.refused("no_relay");
      return;
    }
    this.#test = test;
    this.#phase = "ports";
    this.#allUntil = now + ALL_ROWS_MS;
    this.#rows = targets.map((target) => ({
      target,
      state: "waiting",
      reason: null,
      ms: null,
      until: Infinity,
      since: 0,
      answered: null,
      failure: null,
    }));
    for (const row of this.#rows) {
      if (!this.#tlsNeedsName || row.target.transport !== "tls" || !isAddress(row.target.host)) continue;
      row.state = "untested";
      row.reason = "needs_name";
    }
    this.#goOn(now);
  }

  /**
   * There is nothing to test with.
   *
   * @param {Problem["code"]} code
   * @param {number} [seconds] after which another attempt makes sense
   */
  refused(code, seconds = 0) {
    if (this.#phase !== "asking") return;
    this.#phase = "failed";
    this.#problem = { code, seconds };
  }

  /**
   * The relay has given a row an address.
   *
   * @param {number} at of the row
   * @param {number} now
   */
  relayed(at, now) {
    this.#end(at, "open", null, now);
  }

  /**
   * A row met an error. Others of its attempts, over another network of this device, may still succeed.
   *
   * @param {number} at
   * @param {number} code of `icecandidateerror`
   * @param {string} text of the same
   */
  erred(at, code, text) {
    const row = this.#rows[at];
    if (row?.state !== "running") return;
    if (code < SERVER_SILENT) row.answered = code;
    else if (/lookup|resolv/i.test(text)) row.failure = "unknown_name";
    else row.failure = row.target.transport === "tls" ? "tls_failed" : "refused"; // browsers do not say which of both it was
  }

  /**
   * A row has made all its attempts.
   *
   * @param {number} at
   * @param {number} now
   */
  exhausted(at, now) {
    const row = this.#rows[at];
    if (row?.state !== "running") return;
    if (row.answered !== null) this.#end(at, "open", row.answered === FORBIDDEN ? "elsewhere" : "busy", now);
    else this.#fail(at, row.failure ?? "silent", this.#refusedCertificate(row), now);
  }

  /**
   * The loopback has been measured.
   *
   * @param {Figures} figures
   */
  looped(figures) {
    if (this.#phase !== "loop") return;
    this.#loop = { ...this.#loop, state: "done", figures };
    this.#finish();
  }

  /** The loopback came to nothing. */
  loopFailed() {
    if (this.#phase !== "loop") return;
    this.#loop = { ...this.#loop, state: "failed" };
    this.#finish();
  }

  /**
   * Time has passed.
   *
   * @param {number} now
   */
  tick(now) {
    if (this.#phase === "loop" && now >= this.#loopUntil) this.loopFailed();
    if (this.#phase !== "ports") return;
    const late = this.#running().filter(({ until }) => now >= until || now >= this.#allUntil);
    for (const row of late) {
      const at = this.#rows.indexOf(row);
      if (row.answered !== null) this.exhausted(at, now);
      else this.#fail(at, row.failure ?? "silent", row.failure === null ? null : this.#refusedCertificate(row), now);
    }
    this.#goOn(now);
  }

  #running() {
    return this.#rows.filter(({ state }) => state === "running");
  }

  /**
   * Browsers do not say why TLS failed. Where they have to refuse the certificate, a failure tells nothing about the
   * network; only silence does, because they get to see no certificate then.
   *
   * @param {Row & { failure: Row["reason"] }} row
   * @returns {CertificateProblem | null}
   */
  #refusedCertificate({ target, failure }) {
    return target.transport === "tls" && failure !== "unknown_name" ? (this.#test?.certificate_problem ?? null) : null;
  }

  /**
   * @param {number} at
   * @param {Row["reason"]} reason
   * @param {CertificateProblem | null} problem that explains it without any firewall
   * @param {number} now
   */
  #fail(at, reason, problem, now) {
    if (problem === null) this.#end(at, "closed", reason, now);
    else this.#end(at, "unclear", problem, now);
  }

  /**
   * @param {number} at
   * @param {"open" | "closed" | "unclear"} state
   * @param {Row["reason"]} reason
   * @param {number} now
   */
  #end(at, state, reason, now) {
    const row = this.#rows[at];
    if (row?.state !== "running") return;
    row.state = state;
    row.reason = reason;
    row.ms = state === "open" ? Math.round(now - row.since) : null;
    this.#actions.push({ do: "end_probe", row: at });
    this.#goOn(now);
  }

  /** @param {number} now */
  #goOn(now) {
    if (this.#phase !== "ports") return;
    if (now >= this.#allUntil) for (const row of this.#rows) if (row.state === "waiting") row.state = "untested";
    while (this.#running().length < ROWS_AT_ONCE) {
      const row = this.#rows.find(({ state }) => state === "waiting");
      if (row === undefined) break;
      row.state = "running";
      row.since = now;
      row.until = now + ROW_MS;
      this.#actions.push({ do: "probe", row: this.#rows.indexOf(row) });
    }
    if (this.#running().length === 0) this.#beginLoop(now);
  }

  /** @param {number} now */
  #beginLoop(now) {
    const usable = this.#rows.find(({ state, reason }) => state === "open" && reason === null);
    if (usable === undefined) {
      this.#loop = { state: "skipped", url: null, figures: null };
      this.#phase = "done";
      return;
    }
    this.#phase = "loop";
    this.#loopUntil = now + LOOP_MS;
    this.#loop = { state: "running", url: usable.target.url, figures: null };
    this.#actions.push({ do: "loop", url: usable.target.url });
  }

  #finish() {
    this.#phase = "done";
    this.#actions.push({ do: "end_loop" });
  }
}
