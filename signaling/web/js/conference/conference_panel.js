/**
 * The overview of a conference in the panel: who takes part, their safety codes, who waits, and what the organiser decides.
 */

import { byId } from "../elements.js";
import { fillTexts, germanTime, text } from "../texts.js";
import { button, icon, make } from "./make.js";

/**
 * @typedef {object} PanelHandlers
 * @property {(pid: string, ok: boolean) => void} admit
 * @property {(pid: string) => void} remove
 * @property {(locked: boolean) => void} lock
 * @property {(pid: string) => void} askToMute
 * @property {(pid: string, compared: boolean) => void} compare
 * @property {(on: boolean) => void} useAudioOnly
 * @property {(words: string) => void} announce
 */

export class ConferencePanel {
  /** @type {PanelHandlers} */ #handlers;
  #root = make("div", { "data-testid": "conference-panel" });
  #lobby = make("section", { class: "people-section", hidden: true });
  #waiting = make("ul", { class: "participants", "data-testid": "lobby" });
  #count = make("h3", {});
  #people = make("ul", { class: "participants", "data-testid": "people" });
  #self = make("li", { class: "person" });
  #hint = make("p", { class: "safety-hint", "data-text": "safety_hint" });
  #strangers = make("p", { class: "settings-problem", "data-testid": "strangers", hidden: true });
  #audioOnly = /** @type {HTMLInputElement} */ (make("input", { type: "checkbox", "data-testid": "audio-only-setting" }));
  #audioOnlySetting = make("label", { class: "check-setting" }, this.#audioOnly, make("span", { "data-text": "audio_only_setting" }));
  #lock;
  #lockHint = make("p", { class: "safety-hint", "data-text": "locked_hint" });
  /** @type {Map<string, Row>} */ #rows = new Map();
  /** @type {Map<string, HTMLElement>} */ #knocking = new Map();
  /** The list for two, which is not shown meanwhile. */ #ofTwo = byId("panel-overview").querySelectorAll(":scope > h3, :scope > ul");
  #locked = /** @type {boolean | null} */ (null);
  #decides = /** @type {boolean | null} */ (null);

  /** @param {PanelHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    this.#lock = button({ class: "button button-quiet", "data-testid": "lock-button", "aria-pressed": "false" }, "lock_room", () => {
      handlers.lock(this.#locked !== true);
    });
    this.#lobby.append(make("h3", { "data-text": "lobby" }), this.#waiting);
    const protection = make("section", { class: "protection" });
    protection.append(make("h3", {}, icon("lock"), make("span", { "data-text": "end_to_end" })), this.#hint);
    this.#root.append(this.#lobby, protection, this.#count, this.#strangers, this.#people, this.#lock, this.#lockHint);
    for (const element of this.#ofTwo) element.toggleAttribute("hidden", true);
    byId("panel-overview").prepend(this.#root);
    this.#audioOnly.addEventListener("change", () => handlers.useAudioOnly(this.#audioOnly.checked));
    byId("own-hidden").closest("label")?.after(this.#audioOnlySetting);
    for (const part of [this.#root, this.#audioOnlySetting]) fillTexts(part);
  }

  /**
   * @param {import("../room.js").PageView & { conference: import("./conference_machine.js").ConferenceView }} view
   * @param {Map<string, import("./line_watch.js").Line>} lines by participant
   */
  render({ phase, name, audioOnly, conference }, lines) {
    if (phase !== "room") return;
    const { people, lobby, limit, organiser, locked, strangers } = conference;
    this.#audioOnly.checked = audioOnly;
    this.#strangers.hidden = strangers === 0;
    this.#strangers.textContent = text(strangers === 1 ? "strangers_one" : "strangers", { count: strangers });
    this.#count.textContent = text("participants_of", { count: people.length + 1, limit });
    this.#self.replaceChildren(personLine(text("participant_self", { name }), organiser, []));
    this.#renderLobby(lobby);
    this.#renderPeople(people, organiser, lines);
    this.#lock.hidden = !organiser;
    this.#lockHint.hidden = !locked;
    this.#lock.setAttribute("aria-pressed", String(locked));
    if (this.#locked !== null && this.#locked !== locked) this.#handlers.announce(text(locked ? "locked_now" : "unlocked_now"));
    this.#locked = locked;
    if (this.#decides === false && organiser) this.#handlers.announce(text("stands_in_now"));
    this.#decides = organiser;
  }

  close() {
    this.#root.remove();
    this.#audioOnlySetting.remove();
    for (const element of this.#ofTwo) element.toggleAttribute("hidden", false);
  }

  /** @param {import("./conference_machine.js").ConferenceView["lobby"]} lobby */
  #renderLobby(lobby) {
    const focused = this.#lobby.contains(document.activeElement);
    for (const [pid, row] of this.#knocking) {
      if (lobby.some((each) => each.pid === pid)) continue;
      row.remove();
      this.#knocking.delete(pid);
    }
    for (const { pid, name, since } of lobby) {
      const row = this.#knocking.get(pid) ?? this.#waitingRow(pid);
      row.replaceChildren(make("bdi", {}, name), make("p", { class: "participant-waiting" }, waitedSince(since)), ...[...row.children].slice(2));
    }
    this.#lobby.hidden = lobby.length === 0;
    if (focused && !this.#lobby.contains(document.activeElement)) byId("panel-close").focus();
  }

  /** @param {string} pid */
  #waitingRow(pid) {
    const buttons = make("div", { class: "person-buttons" });
    buttons.append(
      button({ class: "button button-primary", "data-testid": "admit" }, "admit", () => this.#handlers.admit(pid, true)),
      button({ class: "button button-quiet", "data-testid": "refuse" }, "refuse", () => this.#handlers.admit(pid, false)),
    );
    const row = make("li", { class: "person" }, make("bdi", {}), make("p", {}), buttons);
    this.#knocking.set(pid, row);
    this.#waiting.append(row);
    fillTexts(row);
    return row;
  }

  /**
   * @param {import("./conference_machine.js").Person[]} people
   * @param {boolean} organiser
   * @param {Map<string, import("./line_watch.js").Line>} lines
   */
  #renderPeople(people, organiser, lines) {
    for (const [pid, row] of this.#rows) {
      if (people.some((each) => each.pid === pid)) continue;
      if (row.element.contains(document.activeElement)) byId("panel-close").focus();
      row.element.remove();
      this.#rows.delete(pid);
    }
    if (!this.#self.isConnected) this.#people.prepend(this.#self);
    for (const person of people) {
      let row = this.#rows.get(person.pid);
      if (row === undefined) {
        row = new Row(person.pid, this.#handlers);
        this.#rows.set(person.pid, row);
        const next = people.slice(people.indexOf(person) + 1).map(({ pid }) => this.#rows.get(pid)?.element).find((element) => element);
        this.#people.insertBefore(row.element, next ?? null);
      }
      row.render(person, organiser, lines.get(person.pid)?.step ?? null);
    }
  }
}

/**
 * @param {string | null} since UTC instant
 * @returns {string} empty if nobody knows
 */
function waitedSince(since) {
  const { time } = germanTime(since ?? "");
  return time === "" ? "" : text("lobby_since", { time });
}

/** One of the others. */
class Row {
  element;
  #line = make("div", {});
  #code = make("output", { class: "safety-code" });
  /** Asked to mute, and has not done so yet. */ #asked = false;
  #safety;
  #compared = /** @type {HTMLInputElement} */ (make("input", { type: "checkbox" }));
  #comparedLabel = make("span", {});
  #buttons;
  #mute;
  #remove;
  #sure;

  /**
   * @param {string} pid
   * @param {PanelHandlers} handlers
   */
  constructor(pid, handlers) {
    this.#compared.addEventListener("change", () => handlers.compare(pid, this.#compared.checked));
    this.#comparedLabel.className = "visually-hidden";
    const check = make("label", { class: "check-setting" }, this.#compared, make("span", { "data-text": "compared" }), this.#comparedLabel);
    const code = make("p", { class: "safety" }, make("span", { class: "visually-hidden", "data-text": "safety_code" }), " ", this.#code);
    this.#safety = make("div", { class: "person-safety" }, check, code);
    this.#mute = button({ class: "button button-quiet", "data-testid": "ask-mute" }, "ask_mute", () => {
      handlers.askToMute(pid);
      this.#asked = true;
      handlers.announce(text("mute_was_asked"));
    });
    this.#remove = button({ class: "button button-quiet", "data-testid": "remove" }, "remove", () => this.#ask(true));
    const confirm = button({ class: "button button-primary", "data-testid": "remove-confirm" }, "remove_confirm", () => handlers.remove(pid));
    const cancel = button({ class: "button button-quiet" }, "cancel", () => this.#ask(false));
    this.#sure = make("div", { class: "person-buttons", hidden: true }, make("p", { "data-text": "remove_sure" }), confirm, cancel);
    this.#buttons = make("div", { class: "person-buttons" }, this.#mute, this.#remove);
    this.element = make("li", { class: "person", "data-testid": `person-${pid}` }, this.#line, this.#safety, this.#buttons, this.#sure);
    fillTexts(this.element);
  }

  /**
   * Sending somebody away is asked for twice: it cannot be undone from here.
   *
   * @param {boolean} asked
   */
  #ask(asked) {
    this.#sure.hidden = !asked;
    this.#buttons.hidden = asked;
    (asked ? /** @type {HTMLElement} */ (this.#sure.querySelector("button")) : this.#remove).focus();
  }

  /**
   * @param {import("./conference_machine.js").Person} person
   * @param {boolean} organiser the own role
   * @param {import("../quality.js").Step | null} quality of its line
   */
  render({ name, role, here, microphone, safetyCode, compared }, organiser, quality) {
    if (!microphone) this.#asked = false;
    const notes = !here ? ["person_away"] : [safetyCode === "" && "person_unverified", !microphone && "microphone_off", quality && `line_${quality}`];
    if (here && this.#asked) notes.push("mute_was_asked");
    this.#line.replaceChildren(personLine(name, role === "organiser", notes.filter((note) => typeof note === "string")));
    this.#safety.hidden = safetyCode === "";
    this.#code.textContent = safetyCode.replace(/^(...)/, "$1 ");
    this.#compared.checked = compared;
    this.#comparedLabel.textContent = `: ${name}`;
    this.#mute.hidden = !microphone || !here;
    for (const [element, key] of /** @type {const} */ ([[this.#mute, "ask_mute"], [this.#remove, "remove"]])) {
      element.setAttribute("aria-label", `${text(key)}: ${name}`);
    }
    // Who stands in has not decided from the beginning, and may not do so to the end.
    if (!organiser) this.#sure.hidden = true;
    this.#buttons.hidden = !organiser || !this.#sure.hidden;
  }
}

/**
 * @param {string} name
 * @param {boolean} organiser
 * @param {string[]} notes keys of texts
 */
function personLine(name, organiser, notes) {
  const words = [...(organiser ? ["organiser"] : []), ...notes].map((key) => text(key));
  const line = make("p", { class: "person-line" }, make("bdi", {}, name));
  if (words.length > 0) line.append(make("span", { class: "person-note" }, words.join(" · ")));
  return line;
}
