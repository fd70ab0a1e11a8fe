/** Says that the server is about to stop, and when the conference breaks off at the latest. */

import { byId } from "../elements.js";
import { germanTime, text } from "../texts.js";
import { make } from "./make.js";

export class EndingNotice {
  #words = make("p", {});
  #notice = make("div", { class: "notice offer", "data-testid": "ending", hidden: true }, this.#words);
  #place = make("div", { class: "conference-notices" }, this.#notice);
  #announce;

  /** @param {(words: string) => void} announce */
  constructor(announce) {
    this.#announce = announce;
    byId("audio-only-offer").after(this.#place);
  }

  /** @param {number} seconds from now on */
  show(seconds) {
    const { time } = germanTime(new Date(Date.now() + seconds * 1000).toISOString());
    this.#words.textContent = text("server_ends", { time });
    this.#announce(this.#words.textContent);
    this.#notice.hidden = false;
  }

  close() {
    this.#place.remove();
  }
}
