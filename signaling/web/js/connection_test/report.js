/**
 * The whole result as plain text, for a ticket: what was found, and what to open.
 */

import { text } from "../texts.js";
import { PASTES, rulesOf } from "./firewall.js";
import { bandwidthWords, certificateWords, closedTargets, inspectionWords, lossWords, msWords, rangeWords, rowWords, ruleWords, transportWords } from "./test_words.js";
import { verdictOf } from "./verdict.js";

/**
 * @param {ReturnType<import("./test_machine.js").TestMachine["view"]>} view of a test that is done
 * @param {{ at: string, page: string, browser: string }} circumstances
 * @returns {string}
 */
export function reportOf(view, { at, page, browser }) {
  const { test, rows, loop } = view;
  const verdict = verdictOf(view);
  const lines = [
    text("test_heading"),
    "",
    `${text(`step_${verdict.step}`)}: ${text(verdict.key, { host: test?.relay_host ?? "" })}`,
    "",
    `${text("report_at")}: ${at}`,
    `${text("report_page")}: ${page}`,
    `${text("report_address")}: ${test?.address ?? ""}`,
    `${text("report_browser")}: ${browser}`,
    "",
  ];
  const head = ["column_server", "column_protocol", "column_port", "column_result", "column_time"].map((key) => text(key));
  const cells = rows.map((row) => {
    const { target } = row;
    return [target.host, transportWords(target.transport), String(target.port), rowWords(row), row.ms === null ? "–" : msWords(row.ms)];
  });
  if (test !== null && test.relay_port_min !== null) cells.push([test.relay_host, "UDP", rangeWords(test), text("row_unneeded"), "–"]);
  lines.push(...aligned([head, ...cells]));
  if (loop.figures !== null) {
    lines.push(
      "",
      `${text("loop_heading")} (${loop.url})`,
      `${text("loop_loss")}: ${lossWords(loop.figures)}`,
      `${text("loop_rtt")}: ${loop.figures.rttMs === null ? "–" : msWords(loop.figures.rttMs)}`,
      `${text("loop_bandwidth")}: ${bandwidthWords(loop.figures)}`,
    );
  }
  const certificate = certificateWords(view);
  if (certificate !== "") lines.push("", text("certificate_heading"), certificate);
  const rules = rulesOf(closedTargets(view));
  if (rules.length > 0) {
    lines.push("", text("rules_heading"), ...rules.map(ruleWords), ...[inspectionWords(view)].filter(Boolean));
    for (const [name, paste] of Object.entries(PASTES)) lines.push("", `${name}:`, paste(rules));
  }
  return `${lines.join("\n")}\n`;
}

/**
 * @param {string[][]} rows
 * @returns {string[]}
 */
function aligned(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd());
}
