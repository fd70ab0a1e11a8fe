/**
 * The panel behind the menu button: who takes part, and how the connection is protected. The talk runs on behind it.
 */

import { text } from "./texts.js";

export class PanelView {
  #button = byId("menu-button");
  #panel = byId("panel");

  constructor() {
    this.#button.addEventListener("click", () => this.#show(this.#panel.hidden));
    byId("panel-close").addEventListener("click", () => this.#show(false));
    this.#panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#show(false);
    });
  }

  /** @param {import("./room.js").PageView} view */
  render({ phase, partner, name, call }) {
    if (phase !== "room") this.#show(false, false);
    byId("participant-self").textContent = text("participant_self", { name });
    const other = byId("participant-partner");
    other.textContent = partner === null ? text("participant_absent") : partner.name;
    other.classList.toggle("participant-absent", partner === null);
    const safetyCode = partner?.safetyCode ?? "";
    byId("protection").hidden = safetyCode === "" || call === "none";
    byId("safety-code").textContent = safetyCode.replace(/^(...)/, "$1 ");
  }

  /**
   * @param {boolean} open
   * @param {boolean} [focus] whether to take the focus along
   */
  #show(open, focus = true) {
    if (this.#panel.hidden !== open) return;
    this.#panel.hidden = !open;
    this.#button.setAttribute("aria-expanded", String(open));
    if (focus) (open ? byId("panel-close") : this.#button).focus();
  }
}

/** @param {string} id */
function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}
