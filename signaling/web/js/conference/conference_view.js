/**
 * The pictures of a conference: everybody in a grid, or one of them large; who speaks, who is muted, whose line is poor.
 */

import { isMirrored } from "../devices.js";
import { byId } from "../elements.js";
import { fillTexts, text } from "../texts.js";
import { ConferenceNotices } from "./conference_notices.js";
import { icon, make, show } from "./make.js";
import { Tile } from "./tile.js";
import { arrange } from "./tile_layout.js";
import { Voices } from "./voices.js";

const OWN = "own";
const STAGE_CHANGES = ["data-full", "data-own-hidden", "data-mode"]; // of the stage, which change what there is to be seen

/** @typedef {import("./tile.js").Shown} Shown */
/** @typedef {import("../room.js").PageView & { conference: import("./conference_machine.js").ConferenceView }} View */
/** @typedef {Map<string, import("./line_watch.js").Line>} Lines by participant */

/**
 * @typedef {object} ConferenceViewHandlers
 * @property {(pid: string, ok: boolean) => void} admit
 * @property {(tracks: import("./conference_machine.js").Wanted[]) => void} want what is looked at now
 * @property {(mute: boolean) => void} answerMute
 * @property {() => void} endAudioOnly
 * @property {() => void} toggleFullScreen
 * @property {(words: string) => void} announce
 */

export class ConferenceView {
  /** @type {ConferenceViewHandlers} */ #handlers;
  #root;
  #place = make("div", { class: "conference-tiles", "data-testid": "conference-tiles" });
  #mode;
  #pager;
  #pageWords = make("span", { class: "conference-page" });
  #sharing = make("p", { class: "conference-sharing", "data-testid": "conference-sharing", hidden: true });
  #empty = make("p", { class: "conference-empty", "data-testid": "conference-empty" });
  #notices;
  #voices = new Voices(() => this.#notices.soundBlocked());
  /** @type {Map<string, Tile>} */ #tiles = new Map();
  /** @type {Shown[]} */ #shown = [];
  #audioOnly = false;
  #speakerMode = false;
  /** @type {string | null} the tile that the person wants to be large */ #pinned = null;
  /** Who is large in the speaker view: whoever spoke last, also in pauses. */ #lastLoudest = "";
  #page = 0;
  /** @type {Map<string, string>} names of who is here, to tell who comes and goes */ #people = new Map();
  #entered = false;
  #saidWanted = "";
  #resized;
  #seen;
  #stageChanged;
  /** @type {MediaQueryList | null} */ #density = null;

  /** @param {ConferenceViewHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    const mode = { class: "conference-button", "data-testid": "conference-mode", "aria-pressed": "false", "data-title": "speaker_view" };
    this.#mode = make("button", { type: "button", ...mode }, icon("speaker-view"), make("span", { "data-text": "speaker_view" }));
    this.#mode.addEventListener("click", () => {
      this.#speakerMode = !this.#speakerMode;
      this.#pinned = null;
      this.#page = 0;
      this.#renderTiles();
      this.#arrange();
    });
    const arrow = (/** @type {string} */ name, /** @type {number} */ by) => {
      const made = make("button", { type: "button", class: "icon-button", "data-label": `page_${name}`, "data-title": `page_${name}` }, icon(name));
      made.addEventListener("click", () => {
        this.#page += by;
        this.#arrange();
      });
      return made;
    };
    this.#pager = make("div", { class: "conference-pager", role: "group", "data-label": "pages", "data-testid": "conference-pager", hidden: true });
    this.#pager.append(arrow("previous", -1), this.#pageWords, arrow("next", 1));
    this.#sharing.append(icon("screen"), make("span", { "data-text": "screen_shared_all" }));

    const { admit, answerMute, endAudioOnly, announce } = handlers;
    this.#notices = new ConferenceNotices({ admit, answerMute, endAudioOnly, announce, playSound: () => this.#voices.play() });
    this.#root = make("section", { class: "conference", "data-testid": "conference", "data-label": "stage_label", hidden: true });
    this.#root.append(this.#sharing, this.#place, this.#empty);
    const stage = byId("stage");
    byId("connection-status").before(this.#mode, this.#pager);
    stage.querySelector(".views")?.after(this.#root);
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
    this.#watchDensity();
  }

  /**
   * @param {View} view
   * @param {import("./conference_media.js").RemoteTrack[]} tracks
   * @param {Lines} lines
   */
  render(view, tracks, lines) {
    const { phase, audioOnly, media, conference } = view;
    const isOpen = phase === "room" && conference.admitted;
    this.#root.hidden = !isOpen;
    show(this.#mode, isOpen && conference.people.length > 0);
    if (phase !== "room") {
      this.#clear();
      return;
    }
    this.#notices.render(view);
    if (!isOpen) {
      show(this.#pager, false);
      return;
    }
    this.#audioOnly = audioOnly;
    this.#tellWhoIsHere(conference);
    const trackOf = (pid, source) => tracks.find((each) => each.pid === pid && each.source === source)?.track ?? null;
    const screens = audioOnly ? [] : conference.people.filter(({ screen }) => screen);
    this.#shown = [
      ...screens.map((person) => shownScreen(person, trackOf(person.pid, "screen"))),
      ...conference.people.map((person) => shownPerson(person, trackOf(person.pid, "camera"), lines.get(person.pid), audioOnly)),
      ownTile(view),
    ];
    this.#renderTiles();
    const here = (/** @type {string} */ pid) => conference.people.some((person) => person.pid === pid);
    this.#voices.render(tracks.filter(({ pid, source }) => source === "microphone" && here(pid)), view.speaker);
    const loudest = this.#shown.find(({ pid, isLoudest }) => pid !== "" && isLoudest);
    if (loudest) this.#lastLoudest = loudest.pid;
    this.#sharing.hidden = audioOnly || !media?.screen;
    this.#empty.hidden = conference.people.length > 0;
    const words = [text("participant_absent"), conference.organiser ? text("organiser_alone") : ""].join("\n").trim();
    if (this.#empty.textContent !== words) this.#empty.textContent = words;
    this.#arrange();
  }

  /** Nothing of it stays on the page. */
  close() {
    this.#clear();
    this.#resized.disconnect();
    this.#seen.disconnect();
    this.#stageChanged.disconnect();
    this.#density?.removeEventListener("change", this.#watchDensity);
    document.removeEventListener("visibilitychange", this.#want);
    this.#notices.close();
    byId("stage").removeAttribute("data-alone");
    for (const element of [this.#root, this.#mode, this.#pager]) element.remove();
  }

  #clear() {
    for (const tile of this.#tiles.values()) tile.remove();
    this.#tiles.clear();
    this.#voices.clear();
    this.#notices.clear();
    this.#shown = [];
    this.#people.clear();
    show(this.#pager, false);
    this.#entered = false;
    this.#saidWanted = "";
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
        tile = this.#newTile(shown.key);
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
  #newTile(key) {
    return new Tile({
      pin: () => this.#pin(this.#pinned === key ? null : key),
      enlarge: () => {
        if (key !== OWN && !byId("stage").hasAttribute("data-full")) this.#pin(key);
        this.#handlers.toggleFullScreen();
      },
      shapeChanged: () => this.#arrange(),
    });
  }

  /** @param {string | null} key */
  #pin(key) {
    this.#pinned = key;
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
    const stage = byId("stage");
    const ownHidden = stage.hasAttribute("data-own-hidden") && this.#shown.length > 1;
    const visible = this.#shown.filter(({ pid }) => pid !== "" || !ownHidden);
    const focused = this.#focused();
    const focus = visible.findIndex(({ key }) => key === focused);
    // Full screen is for whoever is looked at; of a grid everybody stays to be seen.
    const alone = stage.hasAttribute("data-full") && focus >= 0;
    stage.toggleAttribute("data-alone", alone);
    const { clientWidth: width, clientHeight: height } = this.#place;
    const ratio = this.#tiles.get(focused ?? "")?.ratio ?? null;
    const options = { count: visible.length, width, height, focus: focus < 0 ? null : focus, ratio, alone, page: this.#page };
    const { rects, page, pages } = arrange(options);
    this.#page = page;
    for (const { key } of this.#shown) {
      const tile = this.#tiles.get(key);
      tile?.place(rects[visible.findIndex((each) => each.key === key)] ?? null, { width, height }, key === focused);
    }
    this.#mode.setAttribute("aria-pressed", String(this.#speakerMode));
    this.#renderPager(page, pages);
    this.#want();
  }

  /**
   * @param {number} page from 0
   * @param {number} pages
   */
  #renderPager(page, pages) {
    show(this.#pager, pages > 1);
    const words = text("page_of", { page: page + 1, pages });
    if (this.#pageWords.textContent !== words) this.#pageWords.textContent = words;
    const [previous, next] = this.#pager.querySelectorAll("button");
    // Not `disabled`: a button that is would lose the focus of whoever has just pressed it.
    previous.setAttribute("aria-disabled", String(page === 0));
    next.setAttribute("aria-disabled", String(page === pages - 1));
  }

  // ---- what is looked at --------------------------------------------------------------------------------------------

  /** Another screen may have more pixels, or fewer, and nothing else tells so. An arrow: it is a listener, too. */
  #watchDensity = () => {
    this.#density?.removeEventListener("change", this.#watchDensity);
    this.#density = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    this.#density.addEventListener("change", this.#watchDensity);
    this.#want();
  };

  /** Tell what is looked at, the largest first. An arrow: it is a listener, too. */
  #want = () => {
    if (this.#root.hidden) return;
    const isVisible = document.visibilityState === "visible" && !this.#audioOnly;
    const focused = this.#focused();
    const wanted = this.#shown.flatMap(({ key, pid, source, wanted: isWanted }) => {
      const tile = this.#tiles.get(key);
      if (!isWanted || tile === undefined) return [];
      const visible = isVisible && tile.rect !== null && tile.isSeen;
      const { width, height } = tile.pictureSize;
      const pixels = (/** @type {number} */ length) => (visible ? Math.round(length * devicePixelRatio) : 0);
      return [{ pid, source, visible, width: pixels(width), height: pixels(height), pinned: key === focused }];
    });
    wanted.sort((a, b) => b.width * b.height - a.width * a.height);
    const said = JSON.stringify(wanted);
    if (said === this.#saidWanted) return; // what is told is shown again, and that must not be told again
    this.#saidWanted = said;
    this.#handlers.want(wanted);
  };
}

/**
 * @param {import("./conference_machine.js").Person} person
 * @param {MediaStreamTrack | null} track
 * @param {import("./line_watch.js").Line | undefined} line
 * @param {boolean} audioOnly
 * @returns {Shown}
 */
function shownPerson({ pid, name, camera, microphone, here, safetyCode, isHeard, isLoudest }, track, line, audioOnly) {
  const picture = camera && !audioOnly;
  const reason = camera || audioOnly ? "" : text("camera_off"); // of sound alone a notice tells, once for all of them
  const quality = line?.step ?? null;
  const stalled = picture && line?.stalled === true;
  const speaks = here && microphone; // what was heard before it was switched off is over
  const voice = { isHeard: isHeard && speaks, isLoudest: isLoudest && speaks };
  const person = { key: `${pid} camera`, pid, source: /** @type {const} */ ("camera"), name, here, verified: safetyCode !== "" };
  return { ...person, picture, wanted: camera, reason, microphone, ...voice, quality, stalled, track, mirrored: false };
}

/**
 * @param {import("./conference_machine.js").Person} person
 * @param {MediaStreamTrack | null} track
 * @returns {Shown}
 */
function shownScreen({ pid, name, here }, track) {
  const quiet = { reason: "", microphone: true, isHeard: false, isLoudest: false, quality: null, stalled: false, verified: true };
  return { key: `${pid} screen`, pid, source: "screen", name, picture: true, wanted: true, here, ...quiet, track, mirrored: false };
}

/**
 * @param {View} view
 * @returns {Shown} the own camera; of the own screen everybody knows what is on it
 */
function ownTile({ media, name, audioOnly, conference: { isHeard, isLoudest } }) {
  const track = media?.isOn("camera") && !audioOnly ? media.track("camera") : null;
  const mirrored = track !== null && isMirrored(track.getSettings());
  const microphone = media?.isOn("microphone") === true;
  const voice = { isHeard: isHeard && microphone, isLoudest: isLoudest && microphone };
  const fixed = { wanted: false, here: true, verified: true, quality: null, stalled: false };
  const reason = track === null && !audioOnly ? text("camera_off") : "";
  return { key: OWN, pid: "", source: "camera", name, picture: track !== null, reason, microphone, ...voice, ...fixed, track, mirrored };
}
