/**
 * What the page of a conference does: a state machine without page, socket, clock, connection or camera.
 *
 * Events go in with the time; `poll()` hands out what is to be done; `deadline` says when to call `tick` at the latest;
 * `view()` says what is to be seen. Time is in milliseconds of one monotonic clock. It takes the place of `room_machine.js` once
 * the server has said that the appointment is a conference, and is spoken to in the same words as far as both do the same.
 */

import { isDue } from "../due.js";
import { PASSING_ERRORS } from "../signaling_client.js";
import { Connections } from "./connections.js";
import { People } from "./people.js";
import { readConferenceSeat, readServerMessage } from "./server_messages.js";
import { SoundAlone } from "./sound_alone.js";
import { WantedTracks } from "./wanted.js";

const DEVICES_AT_LATEST_MS = 8_000; // a question of the browser that nobody answers must not keep the others waiting
const CHECK_EVERY_MS = 50_000; // while no connection would show that the server is gone

/** @typedef {import("../signaling_client.js").Seat} Seat */
/** @typedef {import("../signaling_client.js").Refusal} Refusal */
/** @typedef {import("../room_machine.js").Problem} Problem */
/** @typedef {import("./sealed_messages.js").SealedMessage} SealedMessage */
/** @typedef {import("./sealed_messages.js").Sources} Sources */
/** @typedef {import("./server_messages.js").TrackName} TrackName */
/** @typedef {import("./people.js").Person} Person */
/** @typedef {import("./wanted.js").Wanted} Wanted */

/**
 * @typedef {{ do: "disconnect", leave: boolean }
 *   | { do: "start_media" }
 *   | { do: "stop_media" }
 *   | { do: "send", to: string, message: SealedMessage }
 *   | { do: "agree", peer: string, role: string, isA: boolean }
 *   | { do: "agree_no_more" }
 *   | { do: "close_channel", peer: string }
 *   | { do: "paired", peer: string, ok: boolean }
 *   | { do: "probe_signaling" }
 *   | { do: "forget_session" }
 *   | { do: "tell", message: object }
 *   | { do: "key", action: Exclude<import("./sender_keys.js").KeyAction, { do: "say" }> }
 *   | { do: "open_publish" }
 *   | { do: "restart_publish" }
 *   | { do: "repeat_offer" }
 *   | { do: "take_answer", sdp: string, version: number }
 *   | { do: "take_offer", sdp: string, version: number, tracks: Map<string, TrackName & { index: number }> }
 *   | { do: "close_subscribe" }
 *   | { do: "close_conference" }
 *   | { do: "show_ending", seconds: number | null } null: none is known of any more
 *   | { do: "limit_layers", unwanted: string[] }
 *   | { do: "hand_over_sources" }
 *   | { do: "renew_ice", servers: RTCIceServer[] }} Action
 *
 * @typedef {object} ConferenceView
 * @property {boolean} organiser this one decides: as the organiser, or in its place
 * @property {number} limit of people
 * @property {boolean} admitted
 * @property {boolean} locked
 * @property {boolean} isHeard the own voice
 * @property {boolean} isLoudest
 * @property {string | null} muteAskedBy name of the organiser who asks to switch the microphone off
 * @property {Person[]} people the others who are admitted and known by name, in the order of their seats
 * @property {number} strangers of those who are admitted: nameless, with a wrong proof of the secret; they get no key
 * @property {{ pid: string, name: string, since: string | null }[]} lobby who waits and has proved to be of this appointment
 */

export class ConferenceMachine {
  /** @type {"joining" | "room" | "ended" | "form"} */ #phase = "joining";
  /** @type {Problem | null} */ #problem = null;
  /** @type {Seat} */ #seat;
  /** @type {import("./server_messages.js").ConferenceSeat} */ #place;
  #awayFromServer = false;
  #settled = false;
  /** @type {number | null} */ #settleAt = null;
  #people;
  #connections = new Connections((action) => this.#do(action));
  #wanted = new WantedTracks();
  /** @type {number | null} */ #checkAt = null;
  /** @type {import("../quality.js").Step | null} */ #quality = null;
  #soundAlone = new SoundAlone();
  /** @type {Action[]} */ #actions = [];

  /**
   * @param {object} options
   * @param {Seat} options.seat of the first `joined`
   * @param {string} options.name of the person
   * @param {() => string} options.drawEpoch
   * @param {() => Uint8Array} [options.drawBase] 32 random bytes for each key
   * @throws {RangeError} the seat is none of a conference
   */
  constructor({ seat, name, drawEpoch, drawBase }) {
    const place = readConferenceSeat(seat.conference);
    if (place === null) throw new RangeError("no seat of a conference");
    this.#seat = seat;
    this.#place = place;
    this.#people = new People({
      own: ownOf(seat, place),
      name,
      epoch: drawEpoch(),
      drawBase,
      order: (action) => this.#do(action),
      stranded: () => this.#backToForm({ code: "unverified", retryAt: null }),
    });
  }

  // ---- what the shell asks ------------------------------------------------------------------------------------------

  /** @returns {Action[]} what is to be done now, in order */
  poll() {
    return this.#actions.splice(0);
  }

  /** @returns {number | null} call `tick` then */
  get deadline() {
    if (this.#phase !== "room") return null;
    const parts = [this.#people, this.#connections, this.#wanted, this.#soundAlone];
    const times = [...parts.map(({ deadline }) => deadline), this.#settleAt, this.#checkAt];
    const set = times.filter((time) => time !== null);
    return set.length === 0 ? null : Math.min(...set);
  }

  /** @returns {import("../room_machine.js").RoomView & { conference: ConferenceView }} */
  view() {
    const call = this.#phase === "room" && this.#place.admitted ? this.#connections.state : "none";
    return {
      phase: this.#phase,
      problem: this.#problem,
      seat: this.#seat,
      call,
      partner: null,
      waitingSince: null,
      quality: call === "connected" ? this.#quality : null,
      audioOnly: this.#soundAlone.chosen,
      audioOnlyOffered: call === "connected" && this.#soundAlone.offered,
      sendsPictures: !this.#soundAlone.chosen,
      waitingHint: false,
      rival: false,
      signalingAway: this.#awayFromServer,
      conference: {
        organiser: this.#phase === "room" && this.#people.decides,
        limit: this.#place.limit,
        admitted: this.#place.admitted,
        locked: this.#place.locked,
        ...this.#people.heard(this.#seat.pid),
        muteAskedBy: this.#people.muteAskedBy,
        people: this.#people.list(),
        strangers: this.#people.strangers,
        lobby: this.#phase === "room" ? this.#people.lobby() : [],
      },
    };
  }

  /**
   * @param {string} pid
   * @returns {number | null} whose keys are held for this one: what is decrypted by others is not shown under its name
   */
  keyIndexOf(pid) {
    return this.#people.keyIndexOf(pid);
  }

  // ---- what the person does -----------------------------------------------------------------------------------------

  /** Leave for good: the others are told, the seat is given up. */
  hangUp() {
    if (this.#phase !== "room") return;
    this.#people.sayGoodbye();
    this.#leave("ended");
  }

  /** Give the seat up and go back to the form. */
  abandon() {
    this.#leave("form");
  }

  /**
   * Let somebody in who waits, or send it away.
   *
   * @param {string} pid
   * @param {boolean} ok
   */
  admit(pid, ok) {
    if (this.#phase !== "room" || !this.#people.mayAdmit(pid)) return;
    if (!ok) this.#people.refuse(pid);
    this.#tell({ type: "admit", peer: pid, ok });
  }

  /**
   * Send somebody away. The others hear it from here, too, so that they take new keys at once.
   *
   * @param {string} pid
   * @param {number} now
   */
  remove(pid, now) {
    if (this.#phase === "room") this.#people.remove(pid, now);
  }

  /** @param {boolean} locked let nobody else come, or again */
  lock(locked) {
    if (this.#phase === "room" && this.#people.decides) this.#tell({ type: "lock", locked });
  }

  /** @param {string} pid who is asked to switch the microphone off; whether it does is its own decision */
  askToMute(pid) {
    if (this.#phase === "room") this.#people.askToMute(pid);
  }

  /** The person has read that it is asked to switch the microphone off. */
  answerMute() {
    this.#people.muteAskedBy = null;
  }

  /**
   * The person has compared the safety code with this one, or takes it back.
   *
   * @param {string} pid
   * @param {boolean} compared
   */
  compare(pid, compared) {
    this.#people.compare(pid, compared);
  }

  /**
   * Try connections that have been given up once more.
   *
   * @param {number} now
   */
  tryAgain(now) {
    if (this.#phase === "room" && this.#place.admitted) this.#connections.tryAgain(now);
  }

  /**
   * Talk without pictures from now on, or with them again: none is asked for, and none is sent. The others decide for themselves.
   *
   * @param {boolean} on
   */
  useAudioOnly(on) {
    if (this.#phase !== "room" || on === this.#soundAlone.chosen) return;
    this.#soundAlone.use(on);
    this.#do({ do: "hand_over_sources" });
  }

  /** Not in this conference. */
  declineAudioOnly() {
    this.#soundAlone.decline();
  }

  /** The page was hidden: meanwhile its socket may have died without a word. */
  shown() {
    if (this.#phase === "room" && this.#connections.state !== "connected") this.#do({ do: "probe_signaling" });
  }

  /** @param {Sources} sources what the others get to see and to hear */
  sourcesChanged(sources) {
    this.#people.sourcesChanged(sources);
  }

  /**
   * The devices are open, or known not to open: before that a connection would be made without the addresses that browsers
   * give only to pages with a camera or microphone.
   *
   * @param {number} now
   */
  mediaSettled(now) {
    this.#settleAt = null;
    this.#settled = true;
    this.#beginMedia(now);
  }

  /**
   * What of the others is looked at.
   *
   * @param {Wanted[]} tracks the most important first
   * @param {number} now
   */
  want(tracks, now) {
    if (this.#phase !== "room" || !this.#place.admitted) return;
    this.#wanted.look(tracks, (pid) => this.#people.isAdmitted(pid), now);
    this.#tellWanted(now);
  }

  // ---- what the server says -----------------------------------------------------------------------------------------

  /**
   * @param {Seat} seat
   * @param {number} now
   */
  joined(seat, now) {
    const place = readConferenceSeat(seat.conference);
    if (place === null || place.index !== this.#place.index || seat.role !== this.#seat.role) {
      // It was a conference before, under this number and role: whatever this is, its keys are not ours to tell.
      this.#backToForm({ code: "unexpected", retryAt: null });
      return;
    }
    const first = this.#phase === "joining";
    // Who is said to wait again looks as if nobody could see or hear it: then it must be so.
    const isNewClaim = seat.pid !== this.#seat.pid || (this.#place.admitted && !place.admitted);
    this.#seat = seat;
    this.#place = place;
    this.#phase = "room";
    this.#problem = null;
    this.#awayFromServer = false;
    this.#do({ do: "renew_ice", servers: seat.ice ?? [] }); // before anything is begun: the earlier credential may have ended
    this.#do({ do: "show_ending", seconds: null }); // it may have ended meanwhile; if not, it is said again after this
    if (isNewClaim) this.#connections.close(); // the earlier one was forgotten, and with it the connections
    this.#people.joined(ownOf(seat, place), isNewClaim, now);
    this.#wanted.forgetTold(); // the server may not have heard it
    this.want(this.#wanted.lookedAt, now);
    if (first) {
      this.#settleAt = now + DEVICES_AT_LATEST_MS;
      this.#do({ do: "start_media" });
    }
    this.#beginMedia(now);
    this.#lookAround(now);
  }

  /**
   * @param {{ pid: string, role: string, present: boolean, since?: string | null, index?: unknown, admitted?: unknown }} announced
   * @param {number} now
   */
  peer(announced, now) {
    if (this.#phase !== "room") return;
    this.#people.announced(announced, now);
    this.#lookAround(now);
  }

  /**
   * @param {Record<string, unknown>} said may be anything
   * @param {number} now
   */
  server(said, now) {
    const message = readServerMessage(said);
    if (this.#phase !== "room" || message === null) return;
    switch (message.type) {
      case "admitted":
        this.#place = { ...this.#place, admitted: true };
        this.#beginMedia(now);
        this.#people.admitted(now);
        break;
      case "locked":
        this.#place = { ...this.#place, locked: message.locked };
        break;
      case "stand_in":
        this.#people.standIn = message.pid;
        break;
      case "published":
        this.#do({ do: "take_answer", sdp: message.sdp, version: message.version });
        break;
      case "subscribe":
        this.#takeOffer(message, now);
        break;
      case "speakers":
        this.#people.speakers = message.pids;
        break;
      case "ending":
        this.#do({ do: "show_ending", seconds: message.seconds });
        break;
      case "layers":
        this.#do({ do: "limit_layers", unwanted: message.unwanted });
        break;
      case "media":
        if (message.moved) this.#connections.moved(message.side, now);
        else if (message.state === "failed") this.#connections.lost(message.side, now);
        break;
    }
    this.#lookAround(now);
  }

  /**
   * The credential of the seat is about to end, and here is the next one.
   *
   * @param {RTCIceServer[]} servers
   */
  iceRenewed(servers) {
    if (this.#phase !== "room") return;
    this.#seat = { ...this.#seat, ice: servers };
    this.#do({ do: "renew_ice", servers });
  }

  /** The socket is lost. The media lives on. */
  signalingLost() {
    this.#awayFromServer = true;
    this.#checkAt = null;
  }

  /**
   * @param {Refusal} refusal
   * @param {number | null} retryAt when the client tries again by itself
   * @param {number} now
   */
  refused({ code, start, limit, retry_after }, retryAt, now) {
    this.signalingLost();
    if (retryAt !== null) return;
    const wait = typeof retry_after === "number" ? now + retry_after * 1000 : null;
    this.#backToForm({ code, start, limit, retryAt: wait });
  }

  // ---- what the secure channels say ---------------------------------------------------------------------------------

  /**
   * This one has the same secret.
   *
   * @param {string} pid
   * @param {string} safetyCode
   * @param {number} now
   */
  verified(pid, safetyCode, now) {
    if (this.#phase !== "room") return;
    this.#people.verified(pid, safetyCode, now);
    this.#lookAround(now);
  }

  /**
   * This one begins anew, or what it said could not be opened.
   *
   * @param {string} pid
   * @param {number} now
   */
  renewed(pid, now) {
    if (this.#phase !== "room") return;
    this.#people.renewed(pid, now);
    this.#lookAround(now);
  }

  /**
   * This one has another secret, or somebody in between changes what is said.
   *
   * @param {string} pid
   * @param {number} now
   */
  unverified(pid, now) {
    if (this.#phase !== "room") return;
    this.#people.unverified(pid, now);
    this.#lookAround(now);
  }

  /**
   * This one has been shown a proof of the secret, which says whether a guess was right, and has not given its own.
   *
   * @param {string} pid
   */
  abandoned(pid) {
    if (this.#phase !== "room") return;
    this.#people.abandoned(pid);
  }

  /**
   * @param {string} from
   * @param {SealedMessage} message
   * @param {number} now
   */
  message(from, message, now) {
    if (this.#phase !== "room") return;
    this.#people.message(from, message, now);
    this.#lookAround(now);
  }

  // ---- what the connections say -------------------------------------------------------------------------------------

  /**
   * @param {"publish" | "subscribe"} name
   * @param {import("./conference_media.js").SideChange} state
   * @param {number} now
   */
  sideChanged(name, state, now) {
    if (this.#phase !== "room") return;
    this.#connections.changed(name, state, now);
    this.#lookAround(now);
  }

  /**
   * How good the own line is now. A bad one that lasts makes the page offer sound alone.
   *
   * @param {import("../quality.js").Step | null} step null while it is not known
   * @param {number} now
   */
  measured(step, now) {
    this.#quality = step;
    this.#soundAlone.measured(step, now);
  }

  /**
   * The own offer is ready to be told.
   *
   * @param {string} sdp
   * @param {number} version
   * @param {Record<string, import("./server_messages.js").Source>} sources by mid
   */
  offered(sdp, version, sources) {
    if (this.#phase === "room" && this.#place.admitted) this.#tell({ type: "publish", sdp, version, sources });
  }

  /**
   * @param {string} sdp
   * @param {number} version of the offer
   */
  answered(sdp, version) {
    if (this.#phase === "room") this.#tell({ type: "subscribed", sdp, version });
  }

  /** Media went past the encryption: this page does not go on. */
  unsealed() {
    if (this.#phase !== "room") return;
    this.#people.sayGoodbye();
    this.#leave("form");
    this.#problem = { code: "unsealed", retryAt: null };
  }

  /** @param {number} now */
  tick(now) {
    if (this.#phase !== "room") return;
    if (isDue(this.#settleAt, now)) this.mediaSettled(now);
    this.#people.tick(now);
    this.#connections.tick(now, this.#awayFromServer);
    if (isDue(this.#checkAt, now)) {
      this.#checkAt = null;
      this.#do({ do: "probe_signaling" });
    }
    this.#soundAlone.tick(now);
    this.#tellWanted(now);
    this.#lookAround(now);
  }

  // ---- inside -------------------------------------------------------------------------------------------------------

  /** @param {Action} action */
  #do(action) {
    this.#actions.push(action);
  }

  /** @param {object} message for the server */
  #tell(message) {
    this.#do({ do: "tell", message });
  }

  // ---- connections --------------------------------------------------------------------------------------------------

  /** @param {number} now */
  #beginMedia(now) {
    if (this.#phase === "room" && this.#place.admitted && this.#settled) this.#connections.begin(now);
  }

  /** @param {number} now */
  #tellWanted(now) {
    const tracks = this.#wanted.take(now, this.#awayFromServer);
    if (tracks !== null) this.#tell({ type: "want", tracks });
  }

  /**
   * @param {{ sdp: string, version: number, tracks: Map<string, TrackName> }} offer
   * @param {number} now
   */
  #takeOffer({ sdp, version, tracks }, now) {
    if (!this.#place.admitted) return;
    this.#connections.offered(now);
    const owned = new Map();
    for (const [mid, { pid, source }] of tracks) {
      const index = this.#people.ownerOf(pid);
      // Of a stranger nothing is decrypted, and nothing shown.
      if (index !== null) owned.set(mid, { pid, source, index });
    }
    this.#do({ do: "take_offer", sdp, version, tracks: owned });
  }

  // ---- ends ---------------------------------------------------------------------------------------------------------

  /** @param {"ended" | "form"} phase */
  #leave(phase) {
    this.#problem = null;
    this.#connections.close();
    this.#do({ do: "disconnect", leave: true });
    this.#do({ do: "stop_media" });
    this.#do({ do: "forget_session" });
    this.#phase = phase;
  }

  /** @param {Problem} problem */
  #backToForm(problem) {
    this.#connections.close();
    this.#do({ do: "disconnect", leave: false });
    this.#do({ do: "stop_media" });
    if (!PASSING_ERRORS.has(problem.code)) this.#do({ do: "forget_session" });
    this.#phase = "form";
    this.#problem = problem;
  }

  /** @param {number} now */
  #lookAround(now) {
    if (this.#phase !== "room") return;
    if (this.#awayFromServer || this.#connections.publishes) this.#checkAt = null;
    else this.#checkAt ??= now + CHECK_EVERY_MS;
  }
}

/**
 * @param {Seat} seat
 * @param {import("./server_messages.js").ConferenceSeat} place
 * @returns {import("./people.js").Own}
 */
function ownOf({ pid, role }, { index, admitted }) {
  return { pid, role, index, admitted };
}
