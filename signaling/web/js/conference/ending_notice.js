/** Says that the server is about to stop, and when the conference breaks off at the latest. */

import { byId } from "../elements.js";
import { germanTime, text } from "../texts.js";
import { make } from "./make.js";

export class EndingNotice {
  #words = make("p", {});
  #notice = make("div", { class: "notice offer", "data-testid": "ending", hidden: true }, this.#words);
  #place = make("div", { class: "conference-notices" }, this.#notice);
  #announce;
  /** So that whoever cannot see hears once of each time. */ #announced = "";

  /** @param {(words: string) => void} announce */
  constructor(announce) {
    this.#announce = announce;
    byId("audio-only-offer").after(this.#place);
  }

  /** @param {number | null} seconds from now on; null: nothing is known of an end any more */
  show(seconds) {
    this.#notice.hidden = seconds === null;
    if (seconds === null) return;
    const { time } = germanTime(new Date(Date.now() + seconds * 1000).toISOString());
    const words = text("server_ends", { time });
    this.#words.textContent = words;
    if (words === this.#announced) return;
    this.#announced = words;
    this.#announce(words);
  }

  close() {
    this.#place.remove();
  }
}
