/**
 * What a conference asks the person, above the pictures: who wants to come in, who asks to mute, and what is switched off.
 */

import { byId } from "../elements.js";
import { text } from "../texts.js";
import { button, make, show } from "./make.js";

/**
 * @typedef {object} NoticeHandlers
 * @property {(pid: string, ok: boolean) => void} admit
 * @property {(mute: boolean) => void} answerMute
 * @property {() => void} playSound
 * @property {() => void} endAudioOnly
 * @property {(words: string) => void} announce
 */

const PRIMARY = "button button-primary";

export class ConferenceNotices {
  element;
  /** @type {NoticeHandlers} */ #handlers;
  #knockWords = make("p", {});
  #muteWords = make("p", {});
  #knock;
  #mute;
  #sound;
  #audioOnly;
  /** Of every room, made and answered elsewhere. */ #offer = byId("audio-only-offer");
  /** @type {Set<string>} */ #knocking = new Set();
  /** Whose name stands beside the buttons. @type {string | null} */ #named = null;
  /** Whose name stood there when a button was pressed: a click is of that one. @type {string | null} */ #pressed = null;
  #muteAskedBy = "";

  /** @param {NoticeHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    const admit = (/** @type {boolean} */ ok) => () => {
      const pid = this.#pressed ?? this.#named;
      this.#pressed = null;
      if (pid !== null) handlers.admit(pid, ok);
    };
    this.#knock = notice("knock", this.#knockWords, [
      button({ class: PRIMARY, "data-testid": "knock-admit" }, "admit", admit(true)),
      button({ class: "button", "data-testid": "knock-refuse" }, "refuse", admit(false)),
    ]);
    // Who is named may leave between press and release, and the next one takes the place.
    for (const event of ["pointerdown", "keydown"]) this.#knock.addEventListener(event, () => (this.#pressed = this.#named));
    this.#mute = notice("mute-asked", this.#muteWords, [
      button({ class: PRIMARY, "data-testid": "mute-accept" }, "microphone_turn_off", () => handlers.answerMute(true)),
      button({ class: "button" }, "mute_decline", () => handlers.answerMute(false)),
    ]);
    this.#sound = notice("sound-blocked", make("p", { "data-text": "sound_blocked" }), [
      button({ class: PRIMARY }, "sound_on", () => {
        show(this.#sound, false);
        handlers.playSound();
      }),
    ]);
    this.#audioOnly = notice("audio-only", make("p", { "data-text": "audio_only_own" }), [
      button({ class: PRIMARY, "data-testid": "audio-only-end" }, "audio_only_end", () => handlers.endAudioOnly()),
    ]);
    this.element = make("div", { class: "conference-notices" }, this.#knock, this.#mute, this.#sound, this.#audioOnly);
    // They share a place: one below the other, not one upon the other.
    this.#offer.replaceWith(this.element);
    this.element.append(this.#offer);
  }

  /** Leave the page as it was. */
  close() {
    this.element.replaceWith(this.#offer);
  }

  /** @param {{ audioOnly: boolean, conference: import("./conference_machine.js").ConferenceView }} view */
  render({ audioOnly, conference: { lobby, muteAskedBy } }) {
    this.#renderKnock(lobby);
    const asked = muteAskedBy ?? "";
    const words = text("mute_asked", { name: asked });
    if (asked !== "" && this.#muteWords.textContent !== words) this.#muteWords.textContent = words;
    if (asked !== "" && asked !== this.#muteAskedBy) this.#handlers.announce(words);
    this.#muteAskedBy = asked;
    show(this.#mute, asked !== "");
    show(this.#audioOnly, audioOnly);
  }

  /** The browser plays nothing before the person has touched the page. */
  soundBlocked() {
    show(this.#sound, true);
  }

  clear() {
    this.#knocking.clear();
    this.#named = this.#pressed = null;
    this.#muteAskedBy = "";
    for (const each of [this.#knock, this.#mute, this.#sound, this.#audioOnly]) show(each, false);
  }

  /** @param {import("./conference_machine.js").ConferenceView["lobby"]} lobby */
  #renderKnock(lobby) {
    for (const { pid, name } of lobby) if (!this.#knocking.has(pid)) this.#handlers.announce(text("knocks", { name }));
    this.#knocking = new Set(lobby.map(({ pid }) => pid));
    this.#named = lobby[0]?.pid ?? null;
    show(this.#knock, lobby.length > 0);
    if (lobby.length === 0) return;
    const [{ name }, ...others] = lobby;
    const more = others.length > 0 ? text(others.length === 1 ? "knocks_one_more" : "knocks_more", { count: others.length }) : "";
    this.#knockWords.textContent = `${text("knocks", { name })} ${more}`.trim();
  }
}

/**
 * @param {string} id
 * @param {HTMLElement} words
 * @param {HTMLElement[]} buttons
 */
function notice(id, words, buttons) {
  words.id = `${id}-words`;
  const attributes = { class: "notice offer", "data-testid": id, role: "group", "aria-labelledby": words.id, hidden: true };
  return make("div", attributes, words, make("div", { class: "offer-buttons" }, ...buttons));
}
