/**
 * One picture of a conference with its name, and all that there is to be told of it.
 */

import { byId } from "../elements.js";
import { initials } from "../stage_view.js";
import { text } from "../texts.js";
import { icon, make } from "./make.js";
import { pictureSize } from "./tile_layout.js";

/**
 * @typedef {object} Shown what a tile shows
 * @property {string} key
 * @property {string} pid empty for the own
 * @property {"camera" | "screen"} source
 * @property {string} name
 * @property {boolean} picture there is one, or should be
 * @property {boolean} wanted it is one of another, who sends it
 * @property {string} reason words in place of the picture; empty if the initials say enough
 * @property {boolean} microphone
 * @property {boolean} here
 * @property {boolean} verified has proved to be of this appointment, by the present channel
 * @property {boolean} isHeard
 * @property {boolean} isLoudest
 * @property {import("../quality.js").Step | null} quality of its line; null if there is nothing to be told
 * @property {boolean} stalled its picture is due, and does not come: what is seen is old
 * @property {MediaStreamTrack | null} track
 * @property {boolean} mirrored
 *
 * @typedef {object} TileHandlers
 * @property {() => void} pin
 * @property {() => void} enlarge to the whole screen
 * @property {() => void} shapeChanged the picture has another ratio now
 */

export class Tile {
  element;
  /** @type {import("./tile_layout.js").Rect | null} */ rect = null;
  isSeen = true;
  #video = /** @type {HTMLVideoElement} */ (make("video", { autoplay: true, playsinline: true }));
  #initials = make("span", { class: "initials", "aria-hidden": "true" });
  #reason = make("span", { class: "placeholder-text" });
  #placeholder = make("div", { class: "placeholder" }, this.#initials, this.#reason);
  #name = make("bdi", {});
  #muted = icon("microphone-off", "microphone_off");
  #speaking = icon("speaking", "speaks");
  #unverified = icon("alert", "unverified");
  #quality = make("p", { class: "quality tile-quality", hidden: true });
  #qualityWords = make("span", {});
  #pin = make("button", { type: "button", class: "icon-button tile-pin", "aria-pressed": "false" }, icon("pin"));
  /** @type {Shown | null} */ #shown = null;
  #isLarge = false;

  /** @param {TileHandlers} handlers */
  constructor({ pin, enlarge, shapeChanged }) {
    this.#video.muted = true; // voices have elements of their own
    this.#video.addEventListener("resize", () => {
      this.#renderPlaceholder();
      shapeChanged();
    });
    this.#pin.addEventListener("click", pin);
    this.#unverified.classList.add("unverified");
    this.#quality.append(make("span", { class: "bars", "aria-hidden": "true" }, make("span", {}), make("span", {}), make("span", {})), this.#qualityWords);
    const label = make("p", { class: "tile-label" }, this.#speaking, this.#muted, this.#unverified, this.#name);
    const children = [this.#video, this.#placeholder, this.#quality, label, this.#pin];
    this.element = make("div", { class: "tile conference-tile", role: "group" }, ...children);
    this.element.addEventListener("dblclick", enlarge);
  }

  /** @returns {number | null} of the picture, width over height; null while there is none */
  get ratio() {
    const { videoWidth, videoHeight } = this.#video;
    return this.#hasPicture && videoWidth > 0 && videoHeight > 0 ? videoWidth / videoHeight : null;
  }

  /** @returns {{ width: number, height: number }} how large its picture is drawn, in CSS pixels; nothing while it is not placed */
  get pictureSize() {
    const isWhole = this.#isLarge || this.#shown?.source === "screen";
    return pictureSize(this.rect ?? { width: 0, height: 0 }, this.ratio, isWhole ? "contain" : "cover");
  }

  /**
   * @param {Shown} shown
   * @param {boolean} pinned
   */
  render(shown, pinned) {
    this.#shown = shown;
    const { pid, source, name, microphone, here, verified, isHeard, isLoudest, mirrored } = shown;
    const { dataset } = this.element;
    dataset.source = source;
    dataset.testid = `tile-${pid || "own"}-${source}`;
    this.element.toggleAttribute("data-heard", isHeard);
    this.element.toggleAttribute("data-loudest", isLoudest);
    this.element.toggleAttribute("data-away", !here);
    const label = pid === "" ? text("you") : source === "screen" ? text("screen_of", { name }) : name;
    if (this.#name.textContent !== label) this.#name.textContent = label;
    this.#name.title = label; // a small tile has room for the beginning only
    this.element.setAttribute("aria-label", label);
    this.#initials.textContent = source === "screen" ? "" : initials(name);
    const signs = /** @type {const} */ ([
      [this.#muted, "microphone_off", source === "camera" && !microphone],
      [this.#speaking, "speaks", isHeard],
      [this.#unverified, "unverified", here && !verified],
    ]);
    for (const [svg, key, isShown] of signs) {
      svg.toggleAttribute("hidden", !isShown);
      svg.setAttribute("aria-label", text(key));
    }
    this.#renderQuality(shown);
    this.#video.classList.toggle("mirrored", mirrored);
    this.#play(shown.picture ? shown.track : null);
    this.#renderPlaceholder();
    const title = text(pinned ? "unpin" : "pin", { name: label });
    this.#pin.title = title;
    this.#pin.setAttribute("aria-label", title);
    this.#pin.setAttribute("aria-pressed", String(pinned));
    this.#pin.hidden = pid === "";
  }

  /**
   * @param {import("./tile_layout.js").Rect | null} rect null if it is not to be seen now
   * @param {{ width: number, height: number }} within
   * @param {boolean} isLarge
   */
  place(rect, within, isLarge) {
    this.rect = rect;
    this.#isLarge = isLarge;
    if (rect === null && this.element.contains(document.activeElement)) byId("stage-heading").focus();
    this.element.hidden = rect === null;
    this.element.toggleAttribute("data-large", isLarge);
    if (rect === null) return;
    // In shares of the place: whatever happens to it before tiles are arranged anew, none of them lies outside.
    for (const [side, length] of Object.entries(rect)) {
      const whole = side === "left" || side === "width" ? within.width : within.height;
      this.element.style.setProperty(side, `${(100 * length) / whole}%`);
    }
    this.element.style.setProperty("--below", `${within.height - rect.top - rect.height}px`); // for what must not lie under the bar
  }

  remove() {
    this.#video.srcObject = null;
    this.element.remove();
  }

  get #hasPicture() {
    return this.#shown !== null && this.#shown.here && this.#shown.picture && this.#shown.track !== null;
  }

  /** @param {MediaStreamTrack | null} track */
  #play(track) {
    if (streamTrack(this.#video) === track) return;
    this.#video.srcObject = track === null ? null : new MediaStream([track]);
    if (track !== null) void this.#video.play().catch(() => {}); // muted: refused only while it is replaced
  }

  /** Whoever it is stands there until the first picture has come. */
  #renderPlaceholder() {
    if (this.#shown === null) return;
    const { here, picture, reason } = this.#shown;
    const words = here ? reason : text("person_away");
    if (this.#reason.textContent !== words) this.#reason.textContent = words;
    this.#placeholder.hidden = this.ratio !== null;
    this.#placeholder.classList.toggle("placeholder-plain", here && !picture);
  }

  /** @param {Shown} shown */
  #renderQuality({ here, quality, stalled }) {
    this.element.toggleAttribute("data-stalled", stalled);
    const told = here && quality !== null && quality !== "good";
    this.#quality.hidden = !told;
    if (!told) return;
    this.#quality.dataset.step = quality;
    const words = text(stalled ? "line_stalled" : `line_${quality}`);
    if (this.#qualityWords.textContent !== words) this.#qualityWords.textContent = words;
    this.#quality.title = words;
  }
}

/**
 * @param {HTMLMediaElement} element
 * @returns {MediaStreamTrack | null} what it plays
 */
export function streamTrack(element) {
  return /** @type {MediaStream | null} */ (element.srcObject)?.getTracks()[0] ?? null;
}
