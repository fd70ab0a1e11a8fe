/**
 * What of the two pictures is to be seen, and how large.
 */

export class Layout {
  full = false;
  /** The own picture is not shown; it is sent all the same. */ ownHidden = false;
  #hiddenBefore = false;

  /** The partner alone. */
  enterFullScreen() {
    if (this.full) return;
    this.#hiddenBefore = this.ownHidden;
    this.full = this.ownHidden = true;
  }

  /** As it was before. */
  leaveFullScreen() {
    if (!this.full) return;
    this.full = false;
    this.ownHidden = this.#hiddenBefore;
  }

  /** @param {boolean} hidden */
  hideOwn(hidden) {
    this.ownHidden = hidden;
  }
}
