/**
 * The dark page: the two pictures, what is going on, and the control bar.
 */

import { faultLines, showLines, showSwitch } from "./device_words.js";
import { isMirrored } from "./devices.js";
import { byId, showIcon } from "./elements.js";
import { CAN_CHOOSE_SPEAKER } from "./test_sound.js";
import { germanTime, text } from "./texts.js";
import { waitingWords } from "./waiting_words.js";

const DEVICES = /** @type {const} */ (["camera", "microphone"]);
const KEYS = { camera: "K", microphone: "M", full_screen: "F" };

/** A short loss of the server is nobody's concern while nothing depends on it. */
const AWAY_SHOWN_AFTER_MS = 3_000;

/** In full screen the bar goes when nobody moves, and comes back with the first movement. */
const BAR_SHOWN_FOR_MS = 4_000;

/**
 * @typedef {object} StageHandlers
 * @property {(device: "camera" | "microphone") => void} toggle
 * @property {() => void} toggleScreen
 * @property {() => void} toggleFullScreen
 * @property {(hidden: boolean) => void} hideOwn
 * @property {() => void} closeScreenFault
 * @property {(speaker: string) => void} speakerRefused the remembered one does not open
 * @property {() => void} hangUp
 * @property {() => void} tryAgain
 * @property {(words: string) => void} announce
 */

export class StageView {
  /** @type {StageHandlers} */ #handlers;
  #stage = byId("stage");
  #status = byId("connection-status");
  #remoteTile = byId("remote-tile");
  #remoteVideo = /** @type {HTMLVideoElement} */ (byId("remote-video"));
  #localVideo = /** @type {HTMLVideoElement} */ (byId("local-video"));
  #soundButton = byId("sound-button");
  #callProblem = byId("call-problem");
  #errorText = byId("error-text");
  #notice = byId("device-notice");
  #shownNotice = "";
  #closedNotice = "";
  #noticeRetold = false;
  #shownStatus = "";
  #shownWaiting = "";
  #shownPartner = /** @type {string | null} */ (null);
  #shown = false;
  #soundBlocked = false;
  #sharing = "";
  #shownReason = "";
  /** What the view said last; only another one is news. */ #speaker = "";
  #restTimer = 0;
  /** @type {number | null} */ #awaySince = null;
  #awayTimer = 0;
  /** @type {import("./room.js").PageView | null} */ #view = null;

  /** @param {StageHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    for (const device of DEVICES) byId(`${device}-button`).addEventListener("click", () => handlers.toggle(device));
    byId("screen-button").addEventListener("click", () => handlers.toggleScreen());
    byId("full-screen-button").addEventListener("click", () => handlers.toggleFullScreen());
    byId("hangup-button").addEventListener("click", () => handlers.hangUp());
    byId("own-hide").addEventListener("click", () => {
      handlers.hideOwn(true);
      byId("own-show").focus(); // the button goes, and the other one undoes it
    });
    byId("own-show").addEventListener("click", () => {
      handlers.hideOwn(false);
      byId("own-hide").focus();
    });
    for (const event of ["pointermove", "pointerdown", "keydown", "focusin"]) {
      this.#stage.addEventListener(event, () => this.#wake());
    }
    byId("try-again-button").addEventListener("click", () => {
      byId("stage-heading").focus(); // the button goes
      handlers.tryAgain();
    });
    byId("notice-close").addEventListener("click", () => {
      handlers.closeScreenFault(); // read and done with; the others stay until the device works
      this.#closedNotice = this.#shownNotice;
      this.#notice.hidden = true;
      byId("camera-button").focus();
    });
    this.#soundButton.addEventListener("click", () => {
      this.#soundBlocked = false;
      this.#remoteVideo.muted = false;
      byId("stage-heading").focus(); // the button goes
      void this.#play();
    });
  }

  /** @param {import("./room.js").PageView} view */
  render(view) {
    this.#view = view;
    const inRoom = view.phase === "room";
    const entered = inRoom && !this.#shown;
    this.#shown = inRoom;
    this.#stage.hidden = !inRoom;
    document.documentElement.classList.toggle("dark", inRoom);
    if (!inRoom) {
      this.#clear();
      return;
    }
    const conference = view.conference?.admitted === true; // its pictures are shown by its own view
    const withPartner = conference || (view.partner !== null && view.call !== "none");
    this.#stage.dataset.mode = view.call === "no_path" ? "problem" : conference ? "conference" : withPartner ? "call" : "waiting";
    this.#stage.dataset.call = view.call;
    this.#renderLocal(view);
    if (!conference) this.#renderRemote(view, withPartner);
    this.#renderStatus(view);
    this.#renderWaiting(view, withPartner);
    this.#renderProblem(view);
    this.#renderNotice(view);
    if (entered) byId("stage-heading").focus();
  }

  /** Whoever has closed the notice has read it in the other language; the rest follows with the next `render`. */
  retell() {
    this.#noticeRetold = true;
  }

  /** @param {import("./layout.js").Layout} layout */
  renderLayout({ full, ownHidden }) {
    this.#stage.toggleAttribute("data-full", full);
    this.#stage.toggleAttribute("data-own-hidden", ownHidden);
    const button = byId("full-screen-button");
    button.setAttribute("aria-pressed", String(full));
    button.title = text(full ? "full_screen_leave" : "full_screen_enter");
    nameKey(button, KEYS.full_screen, button.hasAttribute("aria-keyshortcuts"));
    showIcon(button, `full-screen${full ? "-leave" : ""}`);
    this.#wake();
  }

  /** Somebody is there. */
  #wake() {
    clearTimeout(this.#restTimer);
    this.#stage.removeAttribute("data-resting");
    if (!this.#stage.hasAttribute("data-full")) return;
    this.#restTimer = setTimeout(() => this.#stage.setAttribute("data-resting", ""), BAR_SHOWN_FOR_MS);
  }

  /** Nothing of an earlier talk stays on a page that has left it. */
  #clear() {
    this.#remoteVideo.srcObject = null;
    this.#localVideo.srcObject = null;
    this.#shownStatus = this.#shownWaiting = this.#shownNotice = this.#closedNotice = "";
    this.#shownPartner = null;
    this.#soundBlocked = false;
    this.#sharing = this.#shownReason = "";
    byId("remote-name").textContent = "";
    clearTimeout(this.#awayTimer);
    this.#awaySince = null;
  }

  /** @param {import("./room.js").PageView} view */
  #renderLocal({ media, name, mayShareScreen, preferences, handheld, audioOnly, sendsPictures, conference }) {
    const keys = preferences.shortcuts && !handheld;
    nameKey(byId("full-screen-button"), KEYS.full_screen, keys);
    const camera = media?.track("camera") ?? null;
    const screen = media?.screen ?? null;
    const stream = screen ?? (camera ? media.stream : null);
    this.#localVideo.classList.toggle("mirrored", screen === null && camera !== null && isMirrored(camera.getSettings()));
    if (this.#localVideo.srcObject !== stream) {
      this.#localVideo.srcObject = stream;
      if (stream !== null) void this.#localVideo.play().catch(() => {}); // muted: refused only while it is replaced
    }
    const on = { camera: media?.isOn("camera") === true && !audioOnly, microphone: media?.isOn("microphone") ?? false };
    byId("local-placeholder").hidden = sendsPictures && (on.camera || screen !== null);
    byId("local-label").textContent = text(!sendsPictures ? "audio_only" : screen === null ? "you" : "your_screen");
    const seen = !sendsPictures ? "screen_withheld" : conference ? "screen_shared_all" : "screen_shared";
    this.#renderScreen(screen !== null, mayShareScreen, seen);
    byId("local-initials").textContent = initials(name);
    byId("local-microphone-off").toggleAttribute("hidden", on.microphone);
    for (const device of DEVICES) {
      const button = byId(`${device}-button`);
      showSwitch(button, device, on[device]);
      nameKey(button, KEYS[device], keys);
      button.classList.toggle("control-faulty", Boolean(media?.faults[device]));
    }
  }

  /**
   * @param {boolean} sharing
   * @param {boolean} mayShare
   * @param {string} seen key of what is said while it is shared
   */
  #renderScreen(sharing, mayShare, seen) {
    const button = byId("screen-button");
    button.hidden = !mayShare;
    button.setAttribute("aria-pressed", String(sharing));
    button.title = text(sharing ? "screen_stop" : "screen_share");
    showIcon(button, `screen${sharing ? "-stop" : ""}`);
    this.#stage.toggleAttribute("data-sharing", sharing);
    byId("sharing-note").hidden = !sharing;
    const words = sharing ? text(seen) : "";
    if (words !== this.#sharing) this.#handlers.announce(words || text("screen_stopped"));
    if (words !== "") byId("sharing-words").textContent = words;
    this.#sharing = words;
  }

  /**
   * Send the partner's voice to this loudspeaker. If it does not open, the present one goes on.
   *
   * @param {string} speaker an id of the view's `options`; empty for the one of the system
   * @returns {Promise<boolean>} whether it opened
   */
  async useSpeaker(speaker) {
    if (!CAN_CHOOSE_SPEAKER) return false;
    try {
      await this.#remoteVideo.setSinkId(speaker);
      return true;
    } catch (error) {
      console.warn("stage: loudspeaker refused by the browser", error.name);
      return false;
    }
  }

  /** @param {string} speaker of the view */
  async #followSpeaker(speaker) {
    if (!CAN_CHOOSE_SPEAKER || speaker === this.#speaker) return;
    this.#speaker = speaker;
    if (!(await this.useSpeaker(speaker)) && speaker !== "") this.#handlers.speakerRefused(speaker);
  }

  /**
   * @param {import("./room.js").PageView} view
   * @param {boolean} withPartner
   */
  #renderRemote({ partner, call, remoteStream, speaker, audioOnly, waitingSince }, withPartner) {
    void this.#followSpeaker(speaker);
    this.#remoteTile.hidden = !withPartner || call === "no_path";
    if (this.#remoteVideo.srcObject !== remoteStream) {
      this.#remoteVideo.srcObject = remoteStream;
      this.#remoteVideo.muted = this.#soundBlocked;
      if (remoteStream !== null) void this.#play();
    }
    const name = partner?.name ?? "";
    if (byId("remote-name").textContent !== name) byId("remote-name").textContent = name;
    byId("remote-initials").textContent = initials(name);
    const waiting = call === "connecting" ? waitingWords(waitingSince) : "";
    byId("remote-waiting").hidden = waiting === "";
    byId("remote-waiting").textContent = waiting;
    const reason = partner === null ? "" : whyNoPicture(audioOnly, partner);
    byId("remote-placeholder").hidden = call !== "connecting" && reason === "";
    byId("remote-reason").hidden = reason === "";
    byId("remote-reason").textContent = reason;
    if (reason !== this.#shownReason && partner?.audioOnly) this.#handlers.announce(reason);
    this.#shownReason = reason;
    byId("remote-microphone-off").toggleAttribute("hidden", partner === null || partner.microphone);
    byId("remote-lock").toggleAttribute("hidden", !partner?.safetyCode);
    this.#soundButton.hidden = !this.#soundBlocked || remoteStream === null;
    const here = withPartner ? name : null;
    if (here !== null && here !== this.#shownPartner) {
      this.#handlers.announce(`${text("partner_joined", { name })} ${waiting}`.trim());
    }
    this.#shownPartner = here;
  }

  /** Browsers may refuse to play sound before the person has touched the page: then picture first, and a button. */
  async #play() {
    try {
      await this.#remoteVideo.play();
    } catch (error) {
      if (error.name !== "NotAllowedError" || this.#remoteVideo.muted) return; // replaced by the next stream meanwhile
      this.#soundBlocked = true;
      this.#remoteVideo.muted = true;
      void this.#remoteVideo.play().catch(() => {});
    }
    this.#soundButton.hidden = !this.#soundBlocked;
  }

  /** @param {import("./room.js").PageView} view */
  #renderStatus(view) {
    const words = this.#statusWords(view);
    this.#status.hidden = words === "";
    this.#status.textContent = words;
    this.#status.dataset.tone = words === text("status_interrupted") ? "warning" : view.call === "connected" ? "good" : "plain";
    if (words !== this.#shownStatus && words !== "") this.#handlers.announce(words);
    this.#shownStatus = words;
  }

  /** @param {import("./room.js").PageView} view */
  #statusWords({ call, path, signalingAway }) {
    if (call === "connected") return text(path === null ? "status_connected" : `status_${path}`);
    if (call === "interrupted") return text("status_interrupted");
    if (call === "connecting") return text("status_connecting");
    if (call === "no_path" || !signalingAway) {
      this.#awaySince = null;
      return "";
    }
    // Alone in the room, and the server does not answer.
    this.#awaySince ??= performance.now();
    const shownIn = this.#awaySince + AWAY_SHOWN_AFTER_MS - performance.now();
    clearTimeout(this.#awayTimer);
    if (shownIn <= 0) return text("status_interrupted");
    this.#awayTimer = setTimeout(() => this.#view && this.#renderStatus(this.#view), shownIn + 10);
    return "";
  }

  /**
   * @param {import("./room.js").PageView} view
   * @param {boolean} withPartner
   */
  #renderWaiting({ seat, waitingHint, waitingSince, rival, media, conference }, withPartner) {
    byId("waiting").hidden = withPartner;
    if (withPartner) {
      this.#shownWaiting = "";
      return;
    }
    const planned = germanTime(seat?.start ?? "");
    const waiting = waitingWords(waitingSince) || text(conference ? "lobby_waiting" : "waiting");
    byId("waiting-text").textContent = waiting;
    byId("waiting-planned").textContent = planned.date === "" ? "" : text("waiting_planned", planned);
    const hint = rival ? text("error_code_in_use") : conference ? text("lobby_hint") : waitingHint ? text("waiting_hint") : "";
    byId("waiting-hint").hidden = hint === "";
    byId("waiting-hint").textContent = hint;
    const asking = media?.asking === true;
    byId("media-question").hidden = !asking;
    const words = [waiting, hint].join(" ").trim();
    if (words !== this.#shownWaiting) this.#handlers.announce(words);
    this.#shownWaiting = words;
  }

  /** @param {import("./room.js").PageView} view */
  #renderProblem({ call }) {
    const noPath = call === "no_path";
    const arrived = noPath && this.#callProblem.hidden;
    this.#callProblem.hidden = !noPath;
    if (noPath) this.#errorText.textContent = text("error_no_path");
    if (!arrived) return;
    this.#callProblem.prepend(this.#errorText); // one element for errors, wherever they happen
    this.#callProblem.focus();
    this.#handlers.announce(text("error_no_path"));
  }

  /** @param {import("./room.js").PageView} view */
  #renderNotice({ media }) {
    const lines = media === null || media.asking ? [] : faultLines(media.faults);
    if (media?.screenFault) lines.push(text(`screen_${media.screenFault}`));
    const key = lines.join("\n");
    if (media?.asking) return; // what was said stays until the answer is known
    if (key === "") this.#closedNotice = "";
    if (this.#noticeRetold && this.#closedNotice !== "" && this.#closedNotice === this.#shownNotice) this.#closedNotice = key;
    this.#noticeRetold = false;
    this.#notice.hidden = key === "" || key === this.#closedNotice;
    if (key === this.#shownNotice) return;
    this.#shownNotice = key;
    showLines(byId("device-notice-words"), lines);
    if (key !== "") this.#handlers.announce(lines.join(" "));
  }
}

/**
 * @param {boolean} audioOnly the own choice
 * @param {{ audioOnly: boolean, camera: boolean }} partner
 * @returns {string} empty if there is one
 */
function whyNoPicture(audioOnly, partner) {
  if (audioOnly) return text("audio_only_own");
  if (partner.audioOnly) return text("audio_only_partner");
  return partner.camera ? "" : text("camera_off");
}

/**
 * @param {string} name
 * @returns {string} the first letters of the first and the last word, titles left out
 */
export function initials(name) {
  const words = name.split(" ").filter((word) => /^\p{L}/u.test(word) && !word.endsWith("."));
  const chosen = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return chosen.map((word) => [...word][0].toLocaleUpperCase("de-DE")).join("");
}

/**
 * Say which key does the same, to eyes and to screen readers.
 *
 * @param {HTMLElement} button
 * @param {string} key
 * @param {boolean} works
 */
function nameKey(button, key, works) {
  const title = button.title.replace(/ \(.\)$/, "");
  button.title = works ? `${title} (${key})` : title;
  if (works) button.setAttribute("aria-keyshortcuts", key);
  else button.removeAttribute("aria-keyshortcuts");
}
