/**
 * What is said to screen readers. What happens at once is said together, or the later would cut the earlier short.
 */

const GATHER_MS = 150;

export class Announcer {
  #element;
  /** @type {string[]} */ #words = [];
  #timer = 0;
  #quiet = false;

  /** @param {HTMLElement} element a polite live region */
  constructor(element) {
    this.#element = element;
  }

  /** @param {string} words */
  say(words) {
    if (this.#quiet) return;
    this.#words.push(words.trim());
    this.#element.textContent = ""; // the same words once more are news
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#element.textContent = this.#words.join(" ");
      this.#words = [];
    }, GATHER_MS);
  }

  /**
   * What is said meanwhile is no news: it has been said before, in other words.
   *
   * @param {() => void} act
   */
  quietly(act) {
    this.#quiet = true;
    try {
      act();
    } finally {
      this.#quiet = false;
    }
  }
}
