/**
 * The pictures of a conference: everybody in a grid, or one of them large; who speaks, who is muted, who wants to come in.
 */

import { isMirrored } from "../devices.js";
import { byId } from "../elements.js";
import { initials } from "../stage_view.js";
import { fillTexts, text } from "../texts.js";
import { button, icon, make } from "./make.js";
import { arrange } from "./tile_layout.js";

const OWN = "own";
const STAGE_CHANGES = ["data-full", "data-own-hidden", "data-mode"]; // of the stage, which change what there is to be seen

/**
 * @typedef {object} ConferenceViewHandlers
 * @property {(pid: string, ok: boolean) => void} admit
 * @property {(tracks: import("./conference_machine.js").Wanted[]) => void} want what is looked at now
 * @property {(mute: boolean) => void} answerMute
 * @property {(words: string) => void} announce
 *
 * @typedef {object} Shown one tile
 * @property {string} key
 * @property {string} pid empty for the own
 * @property {"camera" | "screen"} source
 * @property {string} name
 * @property {boolean} picture there is one, or should be
 * @property {boolean} microphone
 * @property {boolean} here
 * @property {boolean} isHeard
 * @property {boolean} isLoudest
 * @property {MediaStreamTrack | null} track
 * @property {boolean} mirrored
 */

export class ConferenceView {
  /** @type {ConferenceViewHandlers} */ #handlers;
  #root;
  #place = make("div", { class: "conference-tiles", "data-testid": "conference-tiles" });
  #bar;
  #mode;
  #pager;
  #pageWords = make("span", { class: "conference-page" });
  #empty = make("p", { class: "conference-empty", "data-text": "participant_absent" });
  #notices;
  #knock;
  #knockWords = make("p", {});
  #mute;
  #muteWords = make("p", {});
  #sound;
  /** @type {Map<string, Tile>} */ #tiles = new Map();
  /** @type {Map<string, HTMLAudioElement>} by participant: also of those whose tile is on another page */ #voices = new Map();
  /** @type {Shown[]} */ #shown = [];
  #speakerMode = false;
  /** @type {string | null} the tile that the person wants to be large */ #pinned = null;
  /** Who is large in the speaker view: whoever spoke last, also in pauses. */ #lastLoudest = "";
  #page = 0;
  #soundBlocked = false;
  #speaker = "";
  /** @type {Map<string, string>} names of who is here, to tell who comes and goes */ #people = new Map();
  /** @type {Set<string>} */ #knocking = new Set();
  #entered = false;
  #muteAskedBy = "";
  #saidWanted = "";
  #resized;
  #seen;
  #stageChanged;

  /** @param {ConferenceViewHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    this.#mode = button({ class: "conference-button", "data-testid": "conference-mode", "aria-pressed": "false" }, "speaker_view", () => {
      this.#speakerMode = !this.#speakerMode;
      this.#pinned = null;
      this.#page = 0;
      this.#arrange();
    });
    const turn = (/** @type {number} */ by) => () => {
      this.#page += by;
      this.#arrange();
    };
    const arrow = (/** @type {string} */ name, /** @type {number} */ by) => {
      const made = make("button", { type: "button", class: "icon-button", "data-label": `page_${name}`, "data-title": `page_${name}` }, icon(name));
      made.addEventListener("click", turn(by));
      return made;
    };
    this.#pager = make("div", { class: "conference-pager", role: "group", "data-label": "pages", "data-testid": "conference-pager" });
    this.#pager.append(arrow("previous", -1), this.#pageWords, arrow("next", 1));
    this.#bar = make("div", { class: "conference-bar" }, this.#mode, this.#pager);

    const admit = (/** @type {boolean} */ ok) => () => {
      const [pid] = this.#knocking;
      if (pid !== undefined) handlers.admit(pid, ok);
    };
    this.#knock = this.#notice("knock", this.#knockWords, [
      button({ class: "button button-primary", "data-testid": "knock-admit" }, "admit", admit(true)),
      button({ class: "button", "data-testid": "knock-refuse" }, "refuse", admit(false)),
    ]);
    this.#mute = this.#notice("mute-asked", this.#muteWords, [
      button({ class: "button button-primary", "data-testid": "mute-accept" }, "microphone_turn_off", () => handlers.answerMute(true)),
      button({ class: "button" }, "mute_decline", () => handlers.answerMute(false)),
    ]);
    this.#sound = this.#notice("sound-blocked", make("p", { "data-text": "sound_blocked" }), [
      button({ class: "button button-primary" }, "sound_on", () => {
        this.#soundBlocked = false;
        for (const voice of this.#voices.values()) this.#play(voice);
        this.#showNotice(this.#sound, false);
      }),
    ]);
    this.#notices = make("div", { class: "conference-notices" }, this.#knock, this.#mute, this.#sound);
    this.#root = make("section", { class: "conference", "data-testid": "conference", "data-label": "stage_label", hidden: true });
    this.#root.append(this.#bar, this.#place, this.#empty);
    const stage = byId("stage");
    stage.querySelector(".views")?.after(this.#root);
    byId("audio-only-offer").after(this.#notices);
    fillTexts(stage);

    this.#resized = new ResizeObserver(() => this.#arrange());
    this.#resized.observe(this.#place);
    this.#seen = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        for (const tile of this.#tiles.values()) if (tile.element === target) tile.isSeen = isIntersecting;
      }
      this.#want();
    });
    this.#stageChanged = new MutationObserver(() => this.#arrange());
    this.#stageChanged.observe(stage, { attributes: true, attributeFilter: STAGE_CHANGES });
    document.addEventListener("visibilitychange", this.#want);
  }

  /**
   * @param {import("../room.js").PageView & { conference: import("./conference_machine.js").ConferenceView }} view
   * @param {import("./conference_media.js").RemoteTrack[]} tracks
   */
  render(view, tracks) {
    const { phase, conference } = view;
    const isOpen = phase === "room" && conference.admitted;
    this.#root.hidden = !isOpen;
    if (phase !== "room") {
      this.#clear();
      return;
    }
    this.#renderNotices(view);
    if (!isOpen) return;
    this.#tellWhoIsHere(conference);
    const trackOf = (pid, source) => tracks.find((each) => each.pid === pid && each.source === source)?.track ?? null;
    this.#shown = [
      ...conference.people.filter(({ screen }) => screen).map((person) => shownScreen(person, trackOf(person.pid, "screen"))),
      ...conference.people.map((person) => shownPerson(person, trackOf(person.pid, "camera"))),
      ownTile(view),
    ];
    this.#renderTiles();
    this.#renderVoices(conference.people, tracks, view.speaker);
    const loudest = conference.people.find(({ isLoudest }) => isLoudest);
    if (loudest) this.#lastLoudest = loudest.pid;
    this.#empty.hidden = conference.people.length > 0;
    this.#arrange();
  }

  /** Nothing of it stays on the page. */
  close() {
    this.#clear();
    this.#resized.disconnect();
    this.#seen.disconnect();
    this.#stageChanged.disconnect();
    document.removeEventListener("visibilitychange", this.#want);
    this.#root.remove();
    this.#notices.remove();
  }

  #clear() {
    for (const tile of this.#tiles.values()) tile.remove();
    this.#tiles.clear();
    for (const voice of this.#voices.values()) voice.srcObject = null;
    this.#voices.clear();
    this.#shown = [];
    this.#people.clear();
    this.#knocking.clear();
    this.#entered = false;
    this.#saidWanted = "";
    for (const notice of [this.#knock, this.#mute, this.#sound]) this.#showNotice(notice, false);
  }

  // ---- notices ------------------------------------------------------------------------------------------------------

  /**
   * @param {string} id
   * @param {HTMLElement} words
   * @param {HTMLElement[]} buttons
   */
  #notice(id, words, buttons) {
    words.id = `${id}-words`;
    const attributes = { class: "notice offer", "data-testid": id, role: "group", "aria-labelledby": words.id, hidden: true };
    return make("div", attributes, words, make("div", { class: "offer-buttons" }, ...buttons));
  }

  /**
   * The focus must not get lost with what goes.
   *
   * @param {HTMLElement} notice
   * @param {boolean} shown
   */
  #showNotice(notice, shown) {
    const focused = notice.contains(document.activeElement);
    notice.hidden = !shown;
    if (focused && !shown) byId("stage-heading").focus();
  }

  /** @param {{ conference: import("./conference_machine.js").ConferenceView }} view */
  #renderNotices({ conference: { lobby, muteAskedBy } }) {
    for (const { pid, name } of lobby) if (!this.#knocking.has(pid)) this.#handlers.announce(text("knocks", { name }));
    this.#knocking = new Set(lobby.map(({ pid }) => pid));
    this.#showNotice(this.#knock, lobby.length > 0);
    if (lobby.length > 0) {
      const [{ name }, ...others] = lobby;
      const more = others.length > 0 ? text(others.length === 1 ? "knocks_one_more" : "knocks_more", { count: others.length }) : "";
      this.#knockWords.textContent = `${text("knocks", { name })} ${more}`.trim();
    }
    const asked = muteAskedBy ?? "";
    if (asked !== "") this.#muteWords.textContent = text("mute_asked", { name: asked });
    if (asked !== "" && asked !== this.#muteAskedBy) this.#handlers.announce(text("mute_asked", { name: asked }));
    this.#muteAskedBy = asked;
    this.#showNotice(this.#mute, asked !== "");
  }

  /**
   * Without a sound: in words, for those who do not see it.
   *
   * @param {import("./conference_machine.js").ConferenceView} conference
   */
  #tellWhoIsHere({ people }) {
    const now = new Map(people.map(({ pid, name }) => [pid, name]));
    for (const [pid, name] of now) {
      if (this.#entered && !this.#people.has(pid)) this.#handlers.announce(text("partner_joined", { name }));
    }
    for (const [pid, name] of this.#people) if (!now.has(pid)) this.#handlers.announce(text("person_left", { name }));
    this.#people = now;
    this.#entered = true;
  }

  // ---- tiles --------------------------------------------------------------------------------------------------------

  #renderTiles() {
    const keys = new Set(this.#shown.map(({ key }) => key));
    for (const [key, tile] of this.#tiles) {
      if (keys.has(key)) continue;
      if (tile.element.contains(document.activeElement)) byId("stage-heading").focus();
      this.#seen.unobserve(tile.element);
      tile.remove();
      this.#tiles.delete(key);
      if (this.#pinned === key) this.#pinned = null;
    }
    this.#shown.forEach((shown, at) => {
      let tile = this.#tiles.get(shown.key);
      if (tile === undefined) {
        tile = new Tile(() => this.#pin(shown.key));
        this.#tiles.set(shown.key, tile);
        // Whoever has the focus keeps it: nothing that is there is moved.
        const next = this.#shown.slice(at + 1).map(({ key }) => this.#tiles.get(key)?.element).find((element) => element?.isConnected);
        this.#place.insertBefore(tile.element, next ?? null);
        this.#seen.observe(tile.element);
      }
      tile.render(shown, this.#pinned === shown.key);
    });
  }

  /** @param {string} key */
  #pin(key) {
    this.#pinned = this.#pinned === key ? null : key;
    this.#page = 0;
    this.#renderTiles();
    this.#arrange();
  }

  /** @returns {string | null} key of the tile that is large */
  #focused() {
    const has = (/** @type {string} */ key) => this.#shown.some((each) => each.key === key);
    if (this.#pinned !== null && has(this.#pinned)) return this.#pinned;
    const screen = this.#shown.find(({ source, pid }) => source === "screen" && pid !== "");
    if (screen) return screen.key;
    if (!this.#speakerMode) return null;
    const loudest = `${this.#lastLoudest} camera`;
    return has(loudest) ? loudest : (this.#shown.find(({ pid }) => pid !== "")?.key ?? null);
  }

  #arrange() {
    if (this.#root.hidden) return;
    const ownHidden = byId("stage").hasAttribute("data-own-hidden") && this.#shown.length > 1;
    const visible = this.#shown.filter(({ pid }) => pid !== "" || !ownHidden);
    const focused = this.#focused();
    const at = visible.findIndex(({ key }) => key === focused);
    const { clientWidth: width, clientHeight: height } = this.#place;
    const { rects, page, pages } = arrange({ count: visible.length, width, height, focus: at < 0 ? null : at, page: this.#page });
    this.#page = page;
    for (const { key } of this.#shown) {
      const tile = this.#tiles.get(key);
      tile?.place(rects[visible.findIndex((each) => each.key === key)] ?? null, { width, height }, key === focused);
    }
    this.#mode.setAttribute("aria-pressed", String(this.#speakerMode));
    this.#pager.hidden = pages < 2;
    const words = text("page_of", { page: page + 1, pages });
    if (this.#pageWords.textContent !== words) this.#pageWords.textContent = words;
    const [previous, next] = this.#pager.querySelectorAll("button");
    // Not `disabled`: a button that is would lose the focus of whoever has just pressed it.
    previous.setAttribute("aria-disabled", String(page === 0));
    next.setAttribute("aria-disabled", String(page === pages - 1));
    this.#want();
  }

  /** Tell what is looked at, the largest first. An arrow: it is a listener, too. */
  #want = () => {
    if (this.#root.hidden) return;
    const isVisible = document.visibilityState === "visible";
    const focused = this.#focused();
    const wanted = this.#shown.flatMap(({ key, pid, source, picture }) => {
      const tile = this.#tiles.get(key);
      if (pid === "" || !picture || tile === undefined) return [];
      const visible = isVisible && tile.rect !== null && tile.isSeen;
      const pixels = (/** @type {number} */ length) => (visible ? Math.round(length * devicePixelRatio) : 0);
      const { width, height } = tile.rect ?? { width: 0, height: 0 };
      return [{ pid, source, visible, width: pixels(width), height: pixels(height), pinned: key === focused }];
    });
    wanted.sort((a, b) => b.width * b.height - a.width * a.height);
    const said = JSON.stringify(wanted);
    if (said === this.#saidWanted) return; // what is told is shown again, and that must not be told again
    this.#saidWanted = said;
    this.#handlers.want(wanted);
  };

  // ---- sound --------------------------------------------------------------------------------------------------------

  /**
   * @param {import("./conference_machine.js").Person[]} people
   * @param {import("./conference_media.js").RemoteTrack[]} tracks
   * @param {string} speaker
   */
  #renderVoices(people, tracks, speaker) {
    const heard = tracks.filter(({ pid, source }) => source === "microphone" && people.some((person) => person.pid === pid));
    for (const [pid, voice] of this.#voices) {
      if (heard.some((each) => each.pid === pid)) continue;
      voice.srcObject = null;
      this.#voices.delete(pid);
    }
    for (const { pid, track } of heard) {
      const voice = this.#voices.get(pid) ?? new Audio();
      const isNew = !this.#voices.has(pid);
      this.#voices.set(pid, voice);
      if (isNew && speaker !== "") this.#useSpeaker(voice, speaker);
      if (streamTrack(voice) === track) continue;
      voice.srcObject = new MediaStream([track]);
      this.#play(voice);
    }
    if (speaker === this.#speaker) return;
    this.#speaker = speaker;
    for (const voice of this.#voices.values()) this.#useSpeaker(voice, speaker);
  }

  /**
   * @param {HTMLAudioElement} voice
   * @param {string} speaker
   */
  #useSpeaker(voice, speaker) {
    // If it does not open, the stage tells so: it has tried it, too. The voice is heard by the one of the system.
    voice.setSinkId?.(speaker).catch((error) => console.warn("conference: loudspeaker refused by the browser", error.name));
  }

  /** @param {HTMLAudioElement} voice */
  #play(voice) {
    voice.play().catch((error) => {
      if (error.name !== "NotAllowedError") return; // replaced by the next stream meanwhile
      // Browsers may refuse to play sound before the person has touched the page.
      this.#soundBlocked = true;
      this.#showNotice(this.#sound, true);
    });
  }
}

/** One picture with its name. */
class Tile {
  element;
  /** @type {import("./tile_layout.js").Rect | null} */ rect = null;
  isSeen = true;
  #video = /** @type {HTMLVideoElement} */ (make("video", { autoplay: true, playsinline: true }));
  #placeholder;
  #initials = make("span", { class: "initials", "aria-hidden": "true" });
  #reason = make("span", { class: "placeholder-text" });
  #name = make("bdi", {});
  #muted = icon("microphone-off", "microphone_off");
  #speaking = icon("speaking", "speaks");
  #pin;

  /** @param {() => void} pin */
  constructor(pin) {
    this.#video.muted = true; // voices have elements of their own
    this.#placeholder = make("div", { class: "placeholder" }, this.#initials, this.#reason);
    this.#pin = make("button", { type: "button", class: "icon-button tile-pin", "aria-pressed": "false" }, icon("pin"));
    this.#pin.addEventListener("click", pin);
    const label = make("p", { class: "tile-label" }, this.#speaking, this.#muted, this.#name);
    this.element = make("div", { class: "tile conference-tile", role: "group" }, this.#video, this.#placeholder, label, this.#pin);
  }

  /**
   * @param {Shown} shown
   * @param {boolean} pinned
   */
  render({ pid, source, name, picture, microphone, here, isHeard, isLoudest, track, mirrored }, pinned) {
    const { dataset } = this.element;
    dataset.source = source;
    dataset.testid = `tile-${pid || OWN}-${source}`;
    this.element.toggleAttribute("data-heard", isHeard);
    this.element.toggleAttribute("data-loudest", isLoudest);
    this.element.toggleAttribute("data-away", !here);
    const label = source === "screen" && pid !== "" ? text("screen_of", { name }) : pid === "" ? text(source === "screen" ? "your_screen" : "you") : name;
    if (this.#name.textContent !== label) this.#name.textContent = label;
    this.element.setAttribute("aria-label", label);
    this.#initials.textContent = source === "screen" ? "" : initials(name);
    this.#reason.textContent = !here ? text("person_away") : picture ? "" : text("camera_off");
    this.#placeholder.hidden = here && picture && track !== null;
    this.#placeholder.classList.toggle("placeholder-plain", here && !picture);
    for (const [svg, key, shown] of /** @type {const} */ ([[this.#muted, "microphone_off", source === "camera" && !microphone], [this.#speaking, "speaks", isHeard]])) {
      svg.toggleAttribute("hidden", !shown);
      svg.setAttribute("aria-label", text(key));
    }
    this.#video.classList.toggle("mirrored", mirrored);
    const wanted = picture ? track : null;
    if (streamTrack(this.#video) !== wanted) {
      this.#video.srcObject = wanted === null ? null : new MediaStream([wanted]);
      if (wanted !== null) void this.#video.play().catch(() => {}); // muted: refused only while it is replaced
    }
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
    if (rect === null && this.element.contains(document.activeElement)) byId("stage-heading").focus();
    this.element.hidden = rect === null;
    this.element.toggleAttribute("data-large", isLarge);
    if (rect === null) return;
    // In shares of the place: whatever happens to it before tiles are arranged anew, none of them lies outside.
    for (const [side, length] of Object.entries(rect)) {
      const whole = side === "left" || side === "width" ? within.width : within.height;
      this.element.style.setProperty(side, `${(100 * length) / whole}%`);
    }
  }

  remove() {
    this.#video.srcObject = null;
    this.element.remove();
  }
}

/**
 * @param {HTMLMediaElement} element
 * @returns {MediaStreamTrack | null} what it plays
 */
function streamTrack(element) {
  return /** @type {MediaStream | null} */ (element.srcObject)?.getTracks()[0] ?? null;
}

/**
 * @param {import("./conference_machine.js").Person} person
 * @param {MediaStreamTrack | null} track
 * @returns {Shown}
 */
function shownPerson({ pid, name, camera, microphone, here, isHeard, isLoudest }, track) {
  return { key: `${pid} camera`, pid, source: "camera", name, picture: camera, microphone, here, isHeard, isLoudest, track, mirrored: false };
}

/**
 * @param {import("./conference_machine.js").Person} person
 * @param {MediaStreamTrack | null} track
 * @returns {Shown}
 */
function shownScreen({ pid, name, here }, track) {
  const quiet = { microphone: true, isHeard: false, isLoudest: false };
  return { key: `${pid} screen`, pid, source: "screen", name, picture: true, here, ...quiet, track, mirrored: false };
}

/**
 * @param {import("../room.js").PageView & { conference: import("./conference_machine.js").ConferenceView }} view
 * @returns {Shown} the own camera; of the own screen everybody knows what is on it
 */
function ownTile({ media, name, conference: { isHeard, isLoudest } }) {
  const track = media?.isOn("camera") ? media.track("camera") : null;
  const mirrored = track !== null && isMirrored(track.getSettings());
  const microphone = media?.isOn("microphone") === true;
  return { key: OWN, pid: "", source: "camera", name, picture: track !== null, microphone, here: true, isHeard, isLoudest, track, mirrored };
}
