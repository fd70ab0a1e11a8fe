/**
 * What the page of a conference does: a state machine without page, socket, clock, connection or camera.
 *
 * Events go in with the time; `poll()` hands out what is to be done; `deadline` says when to call `tick` at the latest;
 * `view()` says what is to be seen. Time is in milliseconds of one monotonic clock. It takes the place of `room_machine.js` once
 * the server has said that the appointment is a conference, and is spoken to in the same words as far as both do the same.
 */

import { PASSING_ERRORS } from "../signaling_client.js";
import { Guesses } from "./guesses.js";
import { SenderKeys, MAX_HELD_KEYS } from "./sender_keys.js";
import { isIndex, readConferenceSeat, readServerMessage } from "./server_messages.js";
import { Side } from "./side.js";

const DEVICES_AT_LATEST_MS = 8_000; // a question of the browser that nobody answers must not keep the others waiting
const CHECK_EVERY_MS = 50_000; // while no connection would show that the server is gone
const ANNOUNCED_WITHIN_MS = 2_000; // after `joined`, whoever is still here
const GONE_AFTER_MS = 30_000; // as long as the server keeps a silent seat
const AGREEMENT_MS = 10_000; // for a few messages through the server
const AGREE_AGAIN_MS = { first: 1_000, second: 2_500 }; // after a failure; A begins before B
const WANT_EVERY_MS = 400; // the server takes four in a second
const MAX_WANTED = 64;
const MAX_PEERS = 64;

/** @typedef {import("../signaling_client.js").Seat} Seat */
/** @typedef {import("../signaling_client.js").Refusal} Refusal */
/** @typedef {import("../room_machine.js").Problem} Problem */
/** @typedef {import("./sealed_messages.js").SealedMessage} SealedMessage */
/** @typedef {import("./sealed_messages.js").Sources} Sources */
/** @typedef {import("./server_messages.js").TrackName} TrackName */
/** @typedef {import("./side.js").SideState} SideState */

/**
 * @typedef {{ pid: string, source: import("./server_messages.js").Source, visible: boolean, width: number, height: number,
 *   pinned: boolean }} Wanted sizes in device pixels
 *
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
 *   | { do: "take_answer", sdp: string }
 *   | { do: "take_offer", sdp: string, version: number, tracks: Map<string, TrackName & { index: number }> }
 *   | { do: "close_subscribe" }
 *   | { do: "close_conference" }
 *   | { do: "limit_layers", unwanted: string[] }
 *   | { do: "renew_ice", servers: RTCIceServer[] }} Action
 *
 * @typedef {object} Peer
 * @property {string} role
 * @property {number} index
 * @property {boolean} admitted
 * @property {boolean} here the server says so
 * @property {boolean} stale seen before the last `joined`, not announced since
 * @property {number | null} goneAt when it is taken for gone for good
 * @property {string | null} since UTC instant since which it waits
 * @property {boolean} sealed has the same secret: what it says is sealed, and what is said to it, too
 * @property {boolean} introduced has said hello by the present channel
 * @property {string} safetyCode of the present channel; empty while there is none
 * @property {boolean} compared the person has compared it
 * @property {number | null} agreeAt when to try again to agree on a key
 * @property {string | null} epoch
 * @property {string} name
 * @property {Sources} sources
 * @property {import("./sealed_messages.js").SenderKey[]} early keys that came before it was known to be admitted
 *
 * @typedef {object} Person
 * @property {string} pid
 * @property {number} index
 * @property {string} role
 * @property {string} name
 * @property {boolean} here
 * @property {boolean} camera
 * @property {boolean} microphone
 * @property {boolean} screen
 * @property {string} safetyCode
 * @property {boolean} compared
 * @property {boolean} isHeard
 * @property {boolean} isLoudest
 *
 * @typedef {object} ConferenceView
 * @property {boolean} organiser the own role
 * @property {number} limit of people
 * @property {boolean} admitted
 * @property {boolean} locked
 * @property {boolean} isHeard the own voice
 * @property {boolean} isLoudest
 * @property {string | null} muteAskedBy name of the organiser who asks to switch the microphone off
 * @property {Person[]} people the others who are admitted and known by name, in the order of their seats
 * @property {{ pid: string, name: string, since: string | null }[]} lobby who waits and has proved to be of this appointment
 */

export class ConferenceMachine {
  #name;
  #epoch;
  #keys;
  /** @type {"joining" | "room" | "ended" | "form"} */ #phase = "joining";
  /** @type {Problem | null} */ #problem = null;
  /** @type {Seat} */ #seat;
  /** @type {import("./server_messages.js").ConferenceSeat} */ #place;
  #awayFromServer = false;
  /** @type {Sources} */ #sources = { camera: false, microphone: false, screen: false };
  #settled = false;
  /** @type {number | null} */ #settleAt = null;
  /** @type {Map<string, Peer>} */ #peers = new Map();
  /** @type {Map<number, string>} epoch of the page that was admitted last, by index: known to organisers only */ #letIn = new Map();
  #guesses = new Guesses();
  /** @type {string[]} */ #speakers = [];
  #publishing = new Side();
  #subscribing = new Side();
  /** @type {number | null} */ #sweepAt = null;
  /** @type {number | null} */ #checkAt = null;
  /** @type {string | null} */ #muteAskedBy = null;
  /** @type {Wanted[]} what the view has said last */ #lookedAt = [];
  /** @type {Wanted[] | null} not told yet */ #wanted = null;
  #toldWanted = "[]";
  /** @type {number | null} */ #wantAt = null;
  #wantedBefore = -Infinity;
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
    this.#name = name;
    this.#epoch = drawEpoch();
    this.#keys = new SenderKeys({ index: place.index, drawBase });
    this.#drainKeys();
  }

  // ---- what the shell asks ------------------------------------------------------------------------------------------

  /** @returns {Action[]} what is to be done now, in order */
  poll() {
    return this.#actions.splice(0);
  }

  /** @returns {number | null} call `tick` then */
  get deadline() {
    if (this.#phase !== "room") return null;
    const ofPeers = Array.from(this.#peers.values(), ({ agreeAt, goneAt }) => [agreeAt, goneAt]).flat();
    const ofSides = [this.#publishing.deadline, this.#subscribing.deadline];
    const times = [...ofPeers, ...ofSides, this.#keys.deadline, this.#settleAt, this.#sweepAt, this.#checkAt, this.#wantAt];
    const set = times.filter((time) => time !== null);
    return set.length === 0 ? null : Math.min(...set);
  }

  /** @returns {import("../room_machine.js").RoomView & { conference: ConferenceView }} */
  view() {
    return {
      phase: this.#phase,
      problem: this.#problem,
      seat: this.#seat,
      call: this.#phase === "room" && this.#place.admitted ? this.#mediaState() : "none",
      partner: null,
      waitingSince: null,
      quality: null,
      audioOnly: false,
      audioOnlyOffered: false,
      sendsPictures: true,
      waitingHint: false,
      rival: false,
      signalingAway: this.#awayFromServer,
      conference: {
        organiser: this.#seat.role === "organiser",
        limit: this.#place.limit,
        admitted: this.#place.admitted,
        locked: this.#place.locked,
        ...this.#heard(this.#seat.pid),
        muteAskedBy: this.#muteAskedBy,
        people: this.#people(),
        lobby: this.#lobby(),
      },
    };
  }

  // ---- what the person does -----------------------------------------------------------------------------------------

  /** Leave for good: the others are told, the seat is given up. */
  hangUp() {
    if (this.#phase !== "room") return;
    for (const pid of this.#peers.keys()) this.#say(pid, { kind: "bye" });
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
    const peer = this.#peers.get(pid);
    if (!this.#isOrganiser() || peer === undefined || peer.admitted || !peer.sealed || !peer.introduced) return;
    this.#tell({ type: "admit", peer: pid, ok });
  }

  /**
   * Send somebody away. The others hear it from here, too, so that they take new keys at once.
   *
   * @param {string} pid
   * @param {number} now
   */
  remove(pid, now) {
    const peer = this.#peers.get(pid);
    if (!this.#isOrganiser() || peer?.admitted !== true) return;
    this.#letIn.delete(peer.index);
    this.#tell({ type: "remove", peer: pid });
    for (const [other, { admitted }] of this.#peers) if (other !== pid && admitted) this.#say(other, { kind: "removed", pid });
    this.#forget(pid, now);
  }

  /** @param {boolean} locked let nobody else come, or again */
  lock(locked) {
    if (this.#isOrganiser()) this.#tell({ type: "lock", locked });
  }

  /** @param {string} pid who is asked to switch the microphone off; whether it does is its own decision */
  askToMute(pid) {
    if (this.#isOrganiser()) this.#say(pid, { kind: "mute" });
  }

  /** The person has read that it is asked to switch the microphone off. */
  answerMute() {
    this.#muteAskedBy = null;
  }

  /**
   * The person has compared the safety code with this one, or takes it back.
   *
   * @param {string} pid
   * @param {boolean} compared
   */
  compare(pid, compared) {
    const peer = this.#peers.get(pid);
    if (peer !== undefined && peer.safetyCode !== "") peer.compared = compared;
  }

  /**
   * Try connections that have been given up once more.
   *
   * @param {number} now
   */
  tryAgain(now) {
    if (this.#phase !== "room" || !this.#place.admitted) return;
    for (const side of ["publish", "subscribe"]) if (this.#sideOf(side).state === "failed") this.#order(side, this.#sideOf(side).begin(now));
  }

  /** How many pictures come is decided by what is looked at and what the line carries; nobody gives them up for others. */
  useAudioOnly() {}

  /** The page was hidden: meanwhile its socket may have died without a word. */
  shown() {
    if (this.#phase === "room" && this.#mediaState() !== "connected") this.#do({ do: "probe_signaling" });
  }

  /** @param {Sources} sources what the others get to see and to hear */
  sourcesChanged(sources) {
    if (JSON.stringify(sources) === JSON.stringify(this.#sources)) return;
    this.#sources = { ...sources };
    if (!sources.microphone) this.#muteAskedBy = null;
    for (const pid of this.#peers.keys()) this.#say(pid, { kind: "state", ...this.#sources });
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
    this.#lookedAt = tracks;
    this.#wanted = tracks.filter(({ pid }) => this.#peers.get(pid)?.admitted === true).slice(0, MAX_WANTED);
    this.#wantAt = Math.max(now, this.#wantedBefore + WANT_EVERY_MS);
    this.#tellWanted(now);
  }

  // ---- what the server says -----------------------------------------------------------------------------------------

  /**
   * @param {Seat} seat
   * @param {number} now
   */
  joined(seat, now) {
    const place = readConferenceSeat(seat.conference);
    if (place === null || place.index !== this.#place.index) {
      // It was a conference before, under this number: whatever this is, its keys are not ours to tell.
      this.#backToForm({ code: "unexpected", retryAt: null });
      return;
    }
    const first = this.#phase === "joining";
    const isNewClaim = seat.pid !== this.#seat.pid;
    this.#seat = seat;
    this.#place = place;
    this.#phase = "room";
    this.#problem = null;
    this.#awayFromServer = false;
    this.#toldWanted = "[]";
    if (isNewClaim) {
      // The earlier one was forgotten, and with it the connections; who is here is announced to this one again.
      this.#closeMedia();
      for (const pid of [...this.#peers.keys()]) this.#forget(pid, now);
    }
    for (const peer of this.#peers.values()) {
      peer.stale = true;
      peer.sealed = peer.introduced = false;
      peer.agreeAt = null;
    }
    this.want(this.#lookedAt, now); // the server may not have heard it
    this.#sweepAt = now + ANNOUNCED_WITHIN_MS;
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
  peer({ pid, role, present, since = null, index, admitted }, now) {
    if (this.#phase !== "room" || pid === this.#seat.pid) return;
    if (!present) {
      this.#absent(pid, now);
      return;
    }
    const known = this.#peers.get(pid);
    if (!isIndex(index) || index === this.#place.index || typeof admitted !== "boolean") return;
    if (known !== undefined && known.index !== index) this.#forget(pid, now);
    const peer = this.#peers.get(pid) ?? newPeer(role, index);
    if (!this.#peers.has(pid)) {
      if (this.#peers.size >= MAX_PEERS) return;
      this.#makeWayFor(index, admitted, now);
      this.#peers.set(pid, peer);
    }
    Object.assign(peer, { role, admitted, since, here: true, stale: false, goneAt: null });
    // Whoever has a new socket begins to agree anew by itself; what is agreed on serves until then.
    if (peer.sealed) this.#hold(pid, peer, now);
    else this.#agree(pid, peer, now);
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
        for (const [pid, peer] of this.#peers) this.#hold(pid, peer, now);
        break;
      case "locked":
        this.#place = { ...this.#place, locked: message.locked };
        break;
      case "published":
        this.#do({ do: "take_answer", sdp: message.sdp });
        break;
      case "subscribe":
        this.#takeOffer(message, now);
        break;
      case "speakers":
        this.#speakers = message.pids;
        break;
      case "layers":
        this.#do({ do: "limit_layers", unwanted: message.unwanted });
        break;
      case "media":
        if (message.state === "failed") this.#lost(message.side, now);
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
    const peer = this.#peers.get(pid);
    if (this.#phase !== "room" || peer === undefined) return;
    peer.sealed = true;
    peer.introduced = false;
    peer.agreeAt = null;
    // Another channel has other digits: what was compared before says nothing about it.
    peer.safetyCode = safetyCode;
    peer.compared = false;
    this.#do({ do: "paired", peer: pid, ok: true });
    this.#greet(pid, peer);
    this.#guesses.count(peer.index, "agreed");
    this.#lookAround(now);
  }

  /**
   * This one begins anew, or what it said could not be opened.
   *
   * @param {string} pid
   * @param {number} now
   */
  renewed(pid, now) {
    const peer = this.#peers.get(pid);
    if (peer === undefined) return;
    this.#unseal(peer);
    peer.agreeAt = now + AGREEMENT_MS;
  }

  /**
   * This one has another secret, or somebody in between changes what is said.
   *
   * @param {string} pid
   * @param {number} now
   */
  unverified(pid, now) {
    const peer = this.#peers.get(pid);
    if (this.#phase !== "room" || peer === undefined) return;
    this.#do({ do: "paired", peer: pid, ok: false });
    this.#unseal(peer);
    peer.agreeAt = now + (this.#isA(peer) ? AGREE_AGAIN_MS.first : AGREE_AGAIN_MS.second);
    this.#guessed(pid, peer, "failed");
  }

  /**
   * This one has been shown a proof of the secret, which says whether a guess was right, and has not given its own.
   *
   * @param {string} pid
   */
  abandoned(pid) {
    const peer = this.#peers.get(pid);
    if (this.#phase !== "room" || peer === undefined) return;
    this.#do({ do: "paired", peer: pid, ok: false });
    this.#guessed(pid, peer, "abandoned");
  }

  /**
   * @param {string} from
   * @param {SealedMessage} message
   * @param {number} now
   */
  message(from, message, now) {
    const peer = this.#peers.get(from);
    if (this.#phase !== "room" || peer === undefined || !peer.sealed) return;
    if (message.kind === "hello") {
      this.#meet(from, peer, message, now);
      return;
    }
    if (!peer.introduced || message.epoch !== peer.epoch || message.to !== this.#epoch) return; // meant for an earlier page
    switch (message.kind) {
      case "state":
        peer.sources = sourcesOf(message);
        break;
      case "senderkey":
        if (this.#talksTo(peer)) this.#keys.received(from, message, now);
        else if (peer.early.length < MAX_HELD_KEYS) peer.early.push(message);
        this.#drainKeys();
        break;
      case "mute":
        if (peer.role === "organiser" && peer.admitted && this.#sources.microphone) this.#muteAskedBy = peer.name;
        break;
      case "removed":
        if (peer.role === "organiser" && peer.admitted && message.pid !== from) this.#forget(message.pid, now);
        break;
      case "bye":
        this.#forget(from, now);
        break;
    }
  }

  // ---- what the connections say -------------------------------------------------------------------------------------

  /**
   * @param {"publish" | "subscribe"} name
   * @param {"connected" | "disconnected" | "failed"} state
   * @param {number} now
   */
  sideChanged(name, state, now) {
    const side = this.#sideOf(name);
    if (this.#phase !== "room" || side.state === "off") return;
    if (state === "connected") {
      side.connected();
    } else {
      // The own address may have changed, and the socket be as dead as the media.
      if (side.state === "connected") this.#do({ do: "probe_signaling" });
      if (state === "disconnected") side.disconnected(now);
      else side.failed(now);
    }
    this.#lookAround(now);
  }

  /**
   * The own offer is ready to be told.
   *
   * @param {string} sdp
   * @param {Record<string, import("./server_messages.js").Source>} sources by mid
   */
  offered(sdp, sources) {
    if (this.#phase === "room" && this.#place.admitted) this.#tell({ type: "publish", sdp, sources });
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
    for (const pid of this.#peers.keys()) this.#say(pid, { kind: "bye" });
    this.#leave("form");
    this.#problem = { code: "unsealed", retryAt: null };
  }

  /** @param {number} now */
  tick(now) {
    if (this.#phase !== "room") return;
    if (isDue(this.#settleAt, now)) this.mediaSettled(now);
    for (const [pid, peer] of [...this.#peers]) {
      if (isDue(peer.goneAt, now)) this.#forget(pid, now);
      else if (isDue(peer.agreeAt, now)) this.#agree(pid, peer, now);
    }
    for (const name of /** @type {const} */ (["publish", "subscribe"])) {
      this.#order(name, this.#sideOf(name).tick(now, this.#awayFromServer));
    }
    if (isDue(this.#sweepAt, now)) {
      this.#sweepAt = null;
      for (const [pid, peer] of [...this.#peers]) if (peer.stale) this.#absent(pid, now);
    }
    if (isDue(this.#checkAt, now)) {
      this.#checkAt = null;
      this.#do({ do: "probe_signaling" });
    }
    this.#tellWanted(now);
    this.#keys.tick(now);
    this.#drainKeys();
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

  /**
   * @param {string} pid
   * @param {object} message
   */
  #say(pid, message) {
    const peer = this.#peers.get(pid);
    if (!peer?.sealed || peer.epoch === null) return;
    this.#do({ do: "send", to: pid, message: { ...message, epoch: this.#epoch, to: peer.epoch } });
  }

  #isOrganiser() {
    return this.#phase === "room" && this.#seat.role === "organiser";
  }

  /** @param {Peer} peer */
  #isA(peer) {
    return this.#place.index < peer.index;
  }

  /** @param {Peer} peer both of us are let in, and it is who it says */
  #talksTo(peer) {
    return this.#place.admitted && peer.admitted && peer.sealed && peer.introduced;
  }

  /** @param {"publish" | "subscribe"} name */
  #sideOf(name) {
    return name === "publish" ? this.#publishing : this.#subscribing;
  }

  // ---- who is here --------------------------------------------------------------------------------------------------

  /**
   * A seat has one claim that is admitted. An earlier one that is not here any more has been left behind.
   *
   * @param {number} index
   * @param {boolean} admitted
   * @param {number} now
   */
  #makeWayFor(index, admitted, now) {
    if (!admitted) return;
    for (const [pid, peer] of [...this.#peers]) if (peer.index === index && (!peer.here || peer.stale)) this.#forget(pid, now);
  }

  /**
   * @param {string} pid
   * @param {number} now
   */
  #absent(pid, now) {
    const peer = this.#peers.get(pid);
    if (peer === undefined) return;
    if (!peer.admitted || !peer.introduced && peer.epoch === null) {
      this.#forget(pid, now);
      return;
    }
    peer.here = peer.stale = false;
    this.#unseal(peer);
    peer.agreeAt = null;
    peer.goneAt ??= now + GONE_AFTER_MS;
  }

  /**
   * This one has gone for good: what is said from now on is not for it.
   *
   * @param {string} pid
   * @param {number} now
   */
  #forget(pid, now) {
    if (!this.#peers.delete(pid)) return;
    this.#do({ do: "close_channel", peer: pid });
    this.#keys.left(pid, now);
    this.#drainKeys();
    this.#speakers = this.#speakers.filter((each) => each !== pid);
  }

  /** @param {Peer} peer */
  #unseal(peer) {
    peer.sealed = peer.introduced = peer.compared = false;
    peer.safetyCode = "";
    peer.early = [];
  }

  /**
   * @param {string} pid
   * @param {Peer} peer
   * @param {number} now
   */
  #agree(pid, peer, now) {
    this.#unseal(peer);
    peer.agreeAt = null;
    if (!peer.here || !this.#guesses.allow(peer.index)) return;
    peer.agreeAt = now + AGREEMENT_MS;
    this.#do({ do: "agree", peer: pid, role: peer.role, isA: this.#isA(peer) });
  }

  /**
   * @param {string} pid
   * @param {Peer} peer
   * @param {"failed" | "abandoned"} how
   */
  #guessed(pid, peer, how) {
    this.#guesses.count(peer.index, how);
    if (this.#guesses.allow(peer.index)) return;
    peer.agreeAt = null;
    if (this.#guesses.areUsedUp) {
      for (const each of this.#peers.values()) each.agreeAt = null;
      this.#do({ do: "agree_no_more" });
    } else if (!peer.sealed) {
      this.#do({ do: "close_channel", peer: pid });
    }
    // People who talk are not torn apart; who has nobody to talk to is told.
    if (![...this.#peers.values()].some((each) => each.sealed || each.agreeAt !== null)) {
      if (this.#seat.role !== "organiser") this.#backToForm({ code: "unverified", retryAt: null });
    }
  }

  /**
   * @param {string} pid
   * @param {Peer} peer
   */
  #greet(pid, peer) {
    const hello = { kind: /** @type {const} */ ("hello"), epoch: this.#epoch, to: peer.epoch, name: this.#name, ...this.#sources };
    this.#do({ do: "send", to: pid, message: hello });
  }

  /**
   * @param {string} pid
   * @param {Peer} peer
   * @param {import("./sealed_messages.js").Hello} hello
   * @param {number} now
   */
  #meet(pid, peer, hello, now) {
    const isNews = !peer.introduced || peer.epoch !== hello.epoch;
    peer.epoch = hello.epoch;
    peer.name = hello.name;
    peer.sources = sourcesOf(hello);
    peer.introduced = true;
    if (hello.to !== this.#epoch) this.#greet(pid, peer);
    if (isNews) this.#hold(pid, peer, now);
    // The server has forgotten that it was let in, because it was started anew or heard nothing for too long: this page has not.
    if (this.#letIn.get(peer.index) === hello.epoch) this.admit(pid, true);
    this.#lookAround(now);
  }

  /**
   * If this is somebody to talk to, exchange keys. Also if the channel is another one: what was said by the old one may be lost.
   *
   * @param {string} pid
   * @param {Peer} peer
   * @param {number} now
   */
  #hold(pid, peer, now) {
    if (!this.#talksTo(peer)) return;
    if (this.#isOrganiser() && peer.epoch !== null) this.#letIn.set(peer.index, peer.epoch);
    try {
      this.#keys.joined(pid, peer.index, now);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return; // two people of one index: the server contradicts itself, and the second one hears and says nothing
    }
    for (const message of peer.early.splice(0)) this.#keys.received(pid, message, now);
    this.#drainKeys();
  }

  #drainKeys() {
    for (const action of this.#keys.poll()) {
      if (action.do === "say") this.#say(action.to, action.message);
      else this.#do({ do: "key", action });
    }
  }

  // ---- connections --------------------------------------------------------------------------------------------------

  /** @param {number} now */
  #beginMedia(now) {
    if (this.#phase !== "room" || !this.#place.admitted || !this.#settled) return;
    // What was said about a connection that does not stand may be lost.
    if (this.#publishing.state !== "connected") this.#order("publish", this.#publishing.retry(now));
    if (this.#subscribing.state !== "connected" && this.#subscribing.state !== "off") {
      this.#order("subscribe", this.#subscribing.retry(now));
    }
  }

  /**
   * @param {"publish" | "subscribe"} name
   * @param {import("./side.js").Order} order
   */
  #order(name, order) {
    if (order === null) return;
    if (name === "subscribe") this.#tell({ type: "restart", side: "subscribe" });
    else this.#do({ do: order === "open" ? "open_publish" : "restart_publish" });
  }

  /**
   * The server has given one side up.
   *
   * @param {"publish" | "subscribe"} name
   * @param {number} now
   */
  #lost(name, now) {
    if (name === "subscribe") this.#do({ do: "close_subscribe" });
    this.#sideOf(name).failed(now);
  }

  /**
   * @param {{ sdp: string, version: number, tracks: Map<string, TrackName> }} offer
   * @param {number} now
   */
  #takeOffer({ sdp, version, tracks }, now) {
    if (!this.#place.admitted) return;
    this.#subscribing.attempted(now);
    const owned = new Map();
    for (const [mid, { pid, source }] of tracks) {
      const peer = this.#peers.get(pid);
      // Of a stranger nothing is decrypted, and nothing shown.
      if (peer?.admitted) owned.set(mid, { pid, source, index: peer.index });
    }
    this.#do({ do: "take_offer", sdp, version, tracks: owned });
  }

  /** @returns {"connecting" | "connected" | "interrupted" | "no_path"} of both connections together */
  #mediaState() {
    const states = [this.#publishing.state, this.#subscribing.state];
    if (states.includes("failed")) return "no_path";
    if (states.includes("interrupted")) return "interrupted";
    return this.#publishing.state === "connected" && this.#subscribing.state !== "beginning" ? "connected" : "connecting";
  }

  /** @param {number} now */
  #tellWanted(now) {
    if (this.#wanted === null || !isDue(this.#wantAt, now)) return;
    this.#wantAt = null;
    if (this.#awayFromServer) return; // it is told when the server is back
    const tracks = this.#wanted;
    const told = JSON.stringify(tracks);
    this.#wanted = null;
    if (told === this.#toldWanted) return;
    this.#toldWanted = told;
    this.#wantedBefore = now;
    this.#tell({ type: "want", tracks });
  }

  #closeMedia() {
    this.#publishing.end();
    this.#subscribing.end();
    this.#do({ do: "close_conference" });
  }

  // ---- ends ---------------------------------------------------------------------------------------------------------

  /** @param {"ended" | "form"} phase */
  #leave(phase) {
    this.#problem = null;
    this.#closeMedia();
    this.#do({ do: "disconnect", leave: true });
    this.#do({ do: "stop_media" });
    this.#do({ do: "forget_session" });
    this.#phase = phase;
  }

  /** @param {Problem} problem */
  #backToForm(problem) {
    this.#closeMedia();
    this.#do({ do: "disconnect", leave: false });
    this.#do({ do: "stop_media" });
    if (!PASSING_ERRORS.has(problem.code)) this.#do({ do: "forget_session" });
    this.#phase = "form";
    this.#problem = problem;
  }

  /** @param {number} now */
  #lookAround(now) {
    if (this.#phase !== "room") return;
    if (this.#awayFromServer || this.#publishing.state === "connected") this.#checkAt = null;
    else this.#checkAt ??= now + CHECK_EVERY_MS;
  }

  // ---- what is seen -------------------------------------------------------------------------------------------------

  /** @param {string} pid */
  #heard(pid) {
    return { isHeard: this.#speakers.includes(pid), isLoudest: this.#speakers[0] === pid };
  }

  /** @returns {Person[]} */
  #people() {
    const known = [...this.#peers].filter(([, { admitted, epoch }]) => admitted && epoch !== null && this.#place.admitted);
    known.sort(([, a], [, b]) => a.index - b.index);
    return known.map(([pid, { index, role, name, here, sources, safetyCode, compared }]) => {
      return { pid, index, role, name, here, ...sources, safetyCode, compared, ...this.#heard(pid) };
    });
  }

  #lobby() {
    if (this.#seat.role !== "organiser") return [];
    const waits = ([, { admitted, here, sealed, introduced }]) => !admitted && here && sealed && introduced;
    return [...this.#peers].filter(waits).map(([pid, { name, since }]) => ({ pid, name, since }));
  }
}

/**
 * @param {string} role
 * @param {number} index
 * @returns {Peer}
 */
function newPeer(role, index) {
  return {
    role,
    index,
    admitted: false,
    here: true,
    stale: false,
    goneAt: null,
    since: null,
    sealed: false,
    introduced: false,
    safetyCode: "",
    compared: false,
    agreeAt: null,
    epoch: null,
    name: "",
    sources: { camera: false, microphone: false, screen: false },
    early: [],
  };
}

/**
 * @param {Sources} said
 * @returns {Sources}
 */
function sourcesOf({ camera, microphone, screen }) {
  return { camera, microphone, screen };
}

/**
 * @param {number | null} time
 * @param {number} now
 */
function isDue(time, now) {
  return time !== null && time <= now;
}
