/**
 * What the rows and the loopback mean for a consultation, in one step and one key of a text.
 */

import { stepOf } from "../quality.js";

const PICTURE_BITS_PER_SECOND = 1_000_000; // what a good picture takes

/** @typedef {"good" | "weak" | "bad"} Step */

/**
 * @param {{ rows: Readonly<import("./test_machine.js").Row>[], loop: Readonly<import("./test_machine.js").Loop> }} view of a test that is done
 * @returns {{ step: Step, key: string }}
 */
export function verdictOf({ rows, loop }) {
  const open = rows.filter(({ state }) => state === "open");
  const hasUnclear = rows.some(({ state }) => state === "unclear");
  if (open.length === 0) {
    if (rows.some(({ reason }) => reason === "unknown_name")) return { step: "bad", key: "verdict_unknown_name" };
    return { step: "bad", key: hasUnclear ? "verdict_none_clear" : "verdict_none" };
  }
  if (loop.state === "failed") return { step: "bad", key: "verdict_loop_failed" };
  const over = (/** @type {string} */ transport) => open.some(({ target }) => target.transport === transport);
  if (loop.state === "skipped") {
    const elsewhere = open.some(({ reason }) => reason === "elsewhere");
    return { step: "weak", key: elsewhere ? "verdict_elsewhere" : "verdict_busy" };
  }
  const { loss, rttMs, bitsPerSecond } = /** @type {import("./loop_figures.js").Figures} */ (loop.figures);
  const line = rttMs === null ? "bad" : stepOf(loss, rttMs);
  if (line === "bad") return { step: "bad", key: "verdict_line_bad" };
  if (!over("udp")) return { step: "weak", key: over("tcp") ? "verdict_no_udp" : "verdict_only_tls" };
  if (rows.some(({ state }) => state === "closed")) return { step: "weak", key: "verdict_partly" };
  if (line === "weak" || bitsPerSecond < PICTURE_BITS_PER_SECOND) return { step: "weak", key: "verdict_line_weak" };
  if (hasUnclear) return { step: "weak", key: "verdict_certificate" };
  return { step: "good", key: open.length < rows.length ? "verdict_untested" : "verdict_good" };
}
