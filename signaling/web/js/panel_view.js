/**
 * The panel behind the menu button: who takes part and how the connection is protected, and the settings. The talk runs
 * on behind it.
 */

import { byId } from "./elements.js";
import { text } from "./texts.js";
import { waitingWords } from "./waiting_words.js";

/** @typedef {"overview" | "settings"} PanelPage */

export class PanelView {
  #button = byId("menu-button");
  #panel = byId("panel");
  #pages = { overview: byId("panel-overview"), settings: byId("panel-settings") };
  #settings;
  /** @type {PanelPage} */ #page = "overview";
  /** The safety code, while there is one to compare. */ #safetyCode = "";
  /** What stood in the open panel, until that was closed: the code that may have been compared. */ #readCode = "";

  /** @param {{ settings: (open: boolean) => void }} handlers `settings`: they are seen from now on, or not */
  constructor({ settings }) {
    this.#settings = settings;
    this.#button.addEventListener("click", () => this.#show(this.#panel.hidden));
    byId("panel-close").addEventListener("click", () => this.#show(false));
    byId("settings-button").addEventListener("click", () => {
      this.#turnTo("settings");
      byId("settings-back").focus();
    });
    byId("settings-back").addEventListener("click", () => {
      this.#turnTo("overview");
      byId("settings-button").focus();
    });
    this.#panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation(); // it has closed the panel, and nothing else
      this.#show(false);
    });
  }

  /** @param {import("./room.js").PageView} view */
  render({ phase, partner, name, call, waitingSince }) {
    if (phase !== "room") this.#show(false, false);
    byId("participant-self").textContent = text("participant_self", { name });
    const other = byId("participant-partner");
    const waiting = waitingWords(waitingSince);
    // Whoever waits is in the room before the name is known.
    other.textContent = partner?.name ?? (waiting || text("participant_absent"));
    other.classList.toggle("participant-absent", partner === null);
    const note = byId("participant-waiting");
    note.hidden = partner === null || waiting === "";
    note.textContent = waiting;
    this.#safetyCode = call === "none" ? "" : (partner?.safetyCode ?? "");
    byId("protection").hidden = this.#safetyCode === "";
    byId("safety-code").textContent = this.#safetyCode.replace(/^(...)/, "$1 ");
    if (phase !== "room") this.#readCode = "";
    this.#compareCodes();
  }

  /** Every agreement has digits of its own: say so where others have been read before. */
  #compareCodes() {
    if (!this.#panel.hidden) this.#readCode ||= this.#safetyCode;
    const isOther = this.#safetyCode !== "" && this.#readCode !== "" && this.#safetyCode !== this.#readCode;
    byId("safety-renewed").hidden = !isOther;
  }

  /**
   * @param {boolean} open
   * @param {boolean} [focus] whether to take the focus along
   */
  #show(open, focus = true) {
    if (this.#panel.hidden !== open) return;
    this.#panel.hidden = !open;
    this.#button.setAttribute("aria-expanded", String(open));
    if (!open) this.#readCode = this.#safetyCode || this.#readCode;
    this.#compareCodes();
    this.#turnTo("overview");
    if (focus) (open ? byId("panel-close") : this.#button).focus();
  }

  /** Say the title anew; the rest follows with the next `render`. */
  retell() {
    const title = text(this.#page);
    byId("panel-title").textContent = title;
    this.#panel.setAttribute("aria-label", title);
  }

  /** @param {PanelPage} page */
  #turnTo(page) {
    this.#page = page;
    for (const [name, element] of Object.entries(this.#pages)) element.hidden = name !== page;
    this.retell();
    this.#panel.scrollTop = 0;
    this.#settings(page === "settings" && !this.#panel.hidden);
  }
}
