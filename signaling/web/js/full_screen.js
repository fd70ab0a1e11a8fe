/**
 * The whole screen for the page. Where the browser has none to give, as on iPhones, the whole window.
 */

export class FullScreen {
  #changed;
  #full = false;

  /** @param {(full: boolean) => void} changed */
  constructor(changed) {
    this.#changed = changed;
    document.addEventListener("fullscreenchange", () => this.#set(document.fullscreenElement !== null));
  }

  toggle() {
    if (this.#full) this.leave();
    else void this.#enter();
  }

  leave() {
    if (!this.#full) return;
    this.#set(false);
    if (document.fullscreenElement) void document.exitFullscreen();
  }

  async #enter() {
    this.#set(true);
    try {
      // Of the whole page: the live region must stay within what is shown.
      await document.documentElement.requestFullscreen?.({ navigationUI: "hide" });
    } catch (error) {
      console.warn("full screen: refused by the browser", error.name); // the window must do
    }
  }

  /** @param {boolean} full */
  #set(full) {
    if (full === this.#full) return;
    this.#full = full;
    this.#changed(full);
  }
}
