/**
 * Shows a connection test: the verdict on top, a row for every port, the loopback, and what a firewall must let through.
 */

import { byId, showIcon } from "../elements.js";
import { text } from "../texts.js";
import { PASTES, rulesOf } from "./firewall.js";
import { bandwidthWords, certificateWords, closedTargets, inspectionWords, lossWords, msWords, rangeWords, rowRule, rowWords, ruleWords, transportWords } from "./test_words.js";
import { verdictOf } from "./verdict.js";

/** @typedef {ReturnType<import("./test_machine.js").TestMachine["view"]>} View */

const ICONS = { waiting: "", running: "", open: "check", closed: "close", untested: "", unclear: "alert" };
const STEP_ICONS = { good: "check", weak: "alert", bad: "close" };

/**
 * @typedef {object} TestHandlers
 * @property {() => void} begin
 * @property {() => void} copyReport
 * @property {(words: string, source: HTMLElement) => void} copy what is shown in an element
 * @property {(words: string) => void} announce
 */

export class TestView {
  #handlers;
  #phase = "idle";

  /** @param {TestHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    byId("test-start").addEventListener("click", () => {
      if (byId("test-start").getAttribute("aria-disabled") !== "true") handlers.begin();
    });
    byId("test-copy").addEventListener("click", () => handlers.copyReport());
    byId("test-print").addEventListener("click", () => print());
  }

  /** @param {View} view */
  render(view) {
    const { phase, rows, problem } = view;
    const runs = phase === "asking" || phase === "ports" || phase === "loop";
    const began = phase !== "idle";
    const start = byId("test-start");
    start.setAttribute("aria-disabled", String(runs)); // disabled it would lose the focus of whoever has just pressed it
    start.textContent = text(runs ? "test_running" : began ? "test_again" : "test_start");
    this.#renderProgress(view);
    byId("test-problem").hidden = problem === null;
    byId("test-problem-words").textContent = problem === null ? "" : text(`problem_${problem.code}`, { seconds: problem.seconds });
    byId("test-result").hidden = rows.length === 0;
    byId("test-rows").replaceChildren(...rows.map((row) => this.#row(row)), ...this.#rangeRow(view));
    this.#renderLoop(view);
    this.#renderVerdict(view);
    this.#renderMends(view);
    if (phase !== this.#phase && phase === "failed") this.#handlers.announce(byId("test-problem-words").textContent ?? "");
    this.#phase = phase;
  }

  /** @param {View} view */
  #renderProgress({ phase, rows }) {
    const done = rows.filter(({ state }) => state !== "waiting" && state !== "running").length;
    const words = phase === "idle" || phase === "failed" ? "" : text(`progress_${phase}`, { done, all: rows.length });
    byId("test-progress-words").textContent = words;
    const bar = /** @type {HTMLProgressElement} */ (byId("test-progress"));
    bar.hidden = phase !== "asking" && phase !== "ports" && phase !== "loop";
    bar.max = rows.length + 1;
    bar.value = phase === "asking" ? 0 : done;
    if (phase !== this.#phase && (phase === "asking" || phase === "loop")) this.#handlers.announce(words);
  }

  /**
   * @param {Readonly<import("./test_machine.js").Row>} row
   * @returns {HTMLTableRowElement}
   */
  #row(row) {
    const { target, state, ms } = row;
    const line = /** @type {HTMLTableRowElement} */ (fromTemplate("test-row"));
    line.dataset.state = state;
    line.dataset.url = target.url;
    part(line, "server").textContent = target.host;
    cell(line, "protocol", "column_protocol", transportWords(target.transport));
    cell(line, "port", "column_port", String(target.port));
    part(line, "result-cell").dataset.label = text("column_result");
    part(line, "result").textContent = rowWords(row);
    part(line, "rule").textContent = state === "closed" ? rowRule(row) : "";
    cell(line, "time", "column_time", ms === null ? "–" : msWords(ms));
    const icon = ICONS[state];
    const mark = /** @type {SVGElement} */ (line.querySelector(".icon"));
    mark.toggleAttribute("hidden", icon === "");
    if (icon !== "") showIcon(line, icon);
    return line;
  }

  /**
   * @param {View} view
   * @returns {HTMLTableRowElement[]} what is said of the ports of relayed addresses, which no browser sends to
   */
  #rangeRow({ test }) {
    if (test === null || test.relay_port_min === null) return [];
    const line = /** @type {HTMLTableRowElement} */ (fromTemplate("test-row"));
    line.dataset.state = "unneeded";
    part(line, "server").textContent = test.relay_host;
    cell(line, "protocol", "column_protocol", "UDP");
    cell(line, "port", "column_port", rangeWords(test));
    part(line, "result-cell").dataset.label = text("column_result");
    part(line, "rule").textContent = text("row_unneeded");
    cell(line, "time", "column_time", "–");
    /** @type {SVGElement} */ (line.querySelector(".icon")).setAttribute("hidden", "");
    return [line];
  }

  /** @param {View} view */
  #renderLoop({ loop }) {
    const { figures } = loop;
    byId("test-loop-state").hidden = figures !== null;
    byId("test-loop-state").textContent = figures === null ? text(`loop_${loop.state}`) : "";
    byId("test-loop-figures").hidden = figures === null;
    if (figures === null) return;
    byId("test-loss").textContent = lossWords(figures);
    byId("test-rtt").textContent = figures.rttMs === null ? "–" : msWords(figures.rttMs);
    byId("test-bandwidth").textContent = bandwidthWords(figures);
    byId("test-path").textContent = loop.url;
  }

  /** @param {View} view */
  #renderVerdict(view) {
    const place = byId("test-verdict");
    const done = view.phase === "done";
    place.hidden = !done;
    byId("test-actions").hidden = !done;
    if (!done) return;
    const { step, key } = verdictOf(view);
    place.dataset.step = step;
    showIcon(place, STEP_ICONS[step]);
    byId("test-step").textContent = text(`step_${step}`);
    byId("test-verdict-words").textContent = text(key, { host: view.test?.relay_host ?? "" });
    if (this.#phase === "done") return;
    this.#handlers.announce(`${text("progress_done")} ${text(`step_${step}`)}: ${byId("test-verdict-words").textContent}`);
  }

  /** @param {View} view */
  #renderMends(view) {
    const certificate = view.phase === "done" ? certificateWords(view) : "";
    byId("test-certificate").hidden = certificate === "";
    byId("test-certificate-words").textContent = certificate;
    const rules = view.phase === "done" ? rulesOf(closedTargets(view)) : [];
    byId("test-rules").hidden = rules.length === 0;
    byId("test-inspection").textContent = inspectionWords(view);
    byId("test-rule-list").replaceChildren(
      ...rules.map((rule) => Object.assign(document.createElement("li"), { textContent: ruleWords(rule) })),
    );
    const pastes = rules.length === 0 ? [] : Object.entries(PASTES);
    byId("test-pastes").replaceChildren(...pastes.map(([name, paste]) => this.#paste(name, paste(rules))));
  }

  /**
   * @param {string} name
   * @param {string} words
   * @returns {Element}
   */
  #paste(name, words) {
    const block = fromTemplate("test-paste");
    part(block, "name").textContent = name;
    const shown = part(block, "words");
    shown.textContent = words;
    shown.setAttribute("aria-label", name);
    const button = part(block, "copy");
    button.textContent = text("copy");
    button.setAttribute("aria-label", text("copy_named", { name }));
    button.dataset.testid = `copy-${name}`;
    button.addEventListener("click", () => this.#handlers.copy(words, shown));
    return block;
  }
}

/**
 * @param {string} id of a template
 * @returns {HTMLElement} a copy of what is in it
 */
function fromTemplate(id) {
  const template = /** @type {HTMLTemplateElement} */ (byId(id));
  return /** @type {HTMLElement} */ (/** @type {Element} */ (template.content.firstElementChild).cloneNode(true));
}

/**
 * @param {Element} root
 * @param {string} name
 * @returns {HTMLElement}
 */
function part(root, name) {
  return /** @type {HTMLElement} */ (root.querySelector(`[data-part="${name}"]`));
}

/**
 * @param {Element} row
 * @param {string} name
 * @param {string} label key of a text
 * @param {string} words
 */
function cell(row, name, label, words) {
  const found = part(row, name);
  found.dataset.label = text(label);
  found.textContent = words;
}
