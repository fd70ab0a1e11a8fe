/**
 * How figures and rows of a connection test are said.
 */

import { languageInUse, text } from "../texts.js";
import { protocolOf } from "./targets.js";

/** @typedef {Readonly<import("./test_machine.js").Row>} Row */

/**
 * @param {number} value
 * @param {number} [digits] behind the point
 */
function numberWords(value, digits = 0) {
  return value.toLocaleString(languageInUse(), { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** @param {number} ms */
export function msWords(ms) {
  return `${numberWords(ms)} ms`;
}

/** @param {import("./loop_figures.js").Figures} figures */
export function lossWords({ loss }) {
  return `${numberWords(loss * 100, 1)} %`;
}

/** @param {import("./loop_figures.js").Figures} figures */
export function bandwidthWords({ bitsPerSecond, enough }) {
  return text(enough ? "bandwidth_at_least" : "bandwidth", { figure: numberWords(bitsPerSecond / 1_000_000, 1) });
}

/** @param {import("./targets.js").Transport} transport */
export function transportWords(transport) {
  return transport === "tls" ? "TCP (TLS)" : transport.toUpperCase();
}

/**
 * @param {Row} row
 * @returns {string} what was found, in a word, and why
 */
export function rowWords({ state, reason }) {
  const word = text(`row_${state}`);
  return reason === null ? word : `${word}: ${text(`reason_${reason}`)}`;
}

/**
 * @param {{ rows: Row[], test: import("./test_machine.js").Test | null }} view
 * @returns {string} what the operator has to do about the certificate; empty if it is in nobody's way
 */
export function certificateWords({ rows, test }) {
  const problem = rows.find(({ state }) => state === "unclear")?.reason;
  return problem === undefined ? "" : text(`certificate_${problem}`, { host: test?.relay_host ?? "" });
}

/**
 * @param {{ rows: Row[], test: import("./test_machine.js").Test | null }} view
 * @returns {string} what besides a closed port may be in the way of TLS; empty if nothing speaks for it
 */
export function inspectionWords({ rows, test }) {
  return rows.some(({ reason }) => reason === "tls_failed") ? text("rules_tls", { host: test?.relay_host ?? "" }) : "";
}

/** @param {import("./firewall.js").Rule} rule */
export function ruleWords({ host, protocol, ports }) {
  return text("rule", { host, protocol, ports: ports.join(", ") });
}

/**
 * @param {{ rows: Row[] }} view
 * @returns {import("./targets.js").Target[]}
 */
export function closedTargets({ rows }) {
  return rows.filter(({ state }) => state === "closed").map(({ target }) => target);
}

/** @param {import("./test_machine.js").Test} test */
export function rangeWords({ relay_port_min: first, relay_port_max: last }) {
  return `${first} – ${last}`;
}

/** @param {Row} row */
export function rowRule({ target }) {
  return ruleWords({ host: target.host, protocol: protocolOf(target.transport), ports: [target.port] });
}
