/**
 * What the room page does: a state machine without page, socket, clock or camera.
 *
 * Events go in with the time; `poll()` hands out what is to be done; `deadline` says when to call `tick` at the latest;
 * `view()` says what is to be seen. Time is in milliseconds of one monotonic clock.
 */

import { isDue } from "./due.js";
import { PASSING_ERRORS } from "./signaling_client.js";

const HINT_AFTER_MS = 60_000; // alone in the room
const HELLO_AT_LATEST_MS = 8_000; // a question of the browser that nobody answers must not keep the partner waiting
const ATTEMPT_MS = 15_000; // for ICE and DTLS
const RESTART_AFTER_MS = 3_000; // most interruptions heal by themselves
const STEADY_AFTER_MS = 5_000; // a connection that begins tries several paths
const PROBE_AFTER_CHANGE_MS = 1_000; // of the path; one change seldom comes alone
const FRESH_MS = 5_000; // a socket that has just been opened need not be doubted
const PROBE_AGAIN_MS = 5_000; // while both ways are gone: whoever returns must not sit out the growing pauses
const CHECK_EVERY_MS = 50_000; // while nothing else would show that the server is gone
const RIVALS_ANNOUNCED_WITHIN_MS = 2_000; // after `joined`, whoever is still here
const PARTNER_RETURNS_WITHIN_MS = 30_000; // as long as the server keeps a silent seat
const NEVER_CONNECTED_RETURNS_WITHIN_MS = 3_000;
const FAILURES_OF_A_CONNECTION = 2;
const MAX_PEERS = 64;
const AGREEMENT_MS = 10_000; // for a few messages through the server
const AGREE_AGAIN_MS = { organiser: 1_000, participant: 2_500 }; // after a failure; one side begins before the other
const MAX_FAILED_AGREEMENTS = 3; // of one appointment: somebody with a wrong secret may not guess for ever
// Each may have been a guess, too, but a page that is reloaded or loses its socket at the wrong moment looks the same: an
// hour on a bad network needs the allowance, and twenty guesses among 2²⁵ are still nothing.
const MAX_ABANDONED_AGREEMENTS = 20;
// Each is one more try, among a million, for somebody in between who knows the secret and wants equal safety codes.
const MAX_AGREEMENTS = 1_000;
const CALLS_APART_MS = 1_000; // a partner with a new epoch in each message must not cost a connection each time
const MAX_HELD_MESSAGES = 200; // of the partner, for a call that is about to be opened
const MAX_USED_PAIRS = 32;
const OFFER_AUDIO_ONLY_AFTER_MS = 8_000; // of a bad connection: it may be over by then

/** @typedef {import("./envelope.js").Message} Message */
/** @typedef {import("./envelope.js").Hello} Hello */
/** @typedef {import("./signaling_client.js").Seat} Seat */
/** @typedef {import("./signaling_client.js").Refusal} Refusal */

/**
 * @typedef {{ do: "connect" }
 *   | { do: "disconnect", leave: boolean }
 *   | { do: "start_media" }
 *   | { do: "stop_media" }
 *   | { do: "send", to: string, message: Message }
 *   | { do: "agree", peer: string, role: string }
 *   | { do: "agree_no_more" }
 *   | { do: "paired", peer: string, ok: boolean }
 *   | { do: "open_call", polite: boolean }
 *   | { do: "close_call" }
 *   | { do: "call_message", message: Message }
 *   | { do: "resync_call" }
 *   | { do: "restart_ice" }
 *   | { do: "renew_ice", servers: RTCIceServer[] }
 *   | { do: "send_pictures", on: boolean }
 *   | { do: "probe_signaling" }
 *   | { do: "forget_session" }} Action
 *
 * @typedef {object} Peer
 * @property {string} role
 * @property {boolean} present
 * @property {boolean} [stale] seen before the last `joined`, not announced since
 * @property {string | null} since UTC instant since which it waits for the own side, if it came first
 * @property {Hello | null} hello the last one
 * @property {boolean} verified has the same secret: what it says is sealed, and what is said to it, too
 * @property {string} safetyCode of the verified connection
 * @property {number | null} agreeAt when to try again to agree on a key
 *
 * @typedef {object} Problem
 * @property {string} code of the server, or `unreachable`
 * @property {string} [start]
 * @property {number} [limit]
 * @property {number | null} retryAt when the page tries again, or the person may
 *
 * @typedef {object} RoomView
 * @property {"form" | "joining" | "room" | "ended"} phase
 * @property {Problem | null} problem
 * @property {Seat | null} seat
 * @property {"none" | "connecting" | "connected" | "interrupted" | "no_path"} call
 * @property {{ name: string, camera: boolean, microphone: boolean, audioOnly: boolean, safetyCode: string } | null} partner
 * @property {string | null} waitingSince for an organiser: since when the verified participant waits, until the talk stands
 * @property {import("./quality.js").Step | null} quality of the connection while it stands, once it is known
 * @property {boolean} audioOnly the person has chosen to send no picture and to get none
 * @property {boolean} audioOnlyOffered the page asks whether to do so
 * @property {boolean} sendsPictures neither of the two has chosen sound alone
 * @property {boolean} waitingHint
 * @property {boolean} rival somebody else claims the own seat
 * @property {boolean} signalingAway
 * @property {import("./conference/conference_machine.js").ConferenceView} [conference] only of an appointment of more than two
 */

export class RoomMachine {
  #drawEpoch;
  #name = "";
  #epoch;
  /** @type {"form" | "joining" | "room" | "ended"} */ #phase = "form";
  /** @type {Problem | null} */ #problem = null;
  /** Why the seat is lost, told when the running call ends. @type {Problem | null} */ #laterProblem = null;
  /** @type {Seat | null} */ #seat = null;
  #joinedAt = 0;
  #awayFromServer = false;
  #camera = false;
  #microphone = false;
  #ready = false;
  /** @type {number | null} */ #readyAt = null;
  /** @type {Map<string, Peer>} */ #peers = new Map();
  /** @type {{ pid: string, epoch: string, name: string, camera: boolean, microphone: boolean, audioOnly: boolean } | null} */ #partner = null;
  /** @type {"none" | "connecting" | "connected" | "interrupted" | "no_path"} */ #call = "none";
  /** Messages may have been lost since the call began: the next greeting asks to repeat them. */
  #gap = false;
  /** @type {import("./quality.js").Step | null} */ #quality = null;
  #audioOnly = false;
  #picturesSent = true;
  #offered = false;
  #offerDeclined = false;
  /** @type {number | null} */ #offerAt = null;
  #everConnected = false;
  #connectedAt = 0;
  /** Nothing comes in, although the browser has not lost the connection yet. */
  #silent = false;
  #renewed = false;
  #failures = 0;
  /** @type {Set<string>} pairs of epochs that had their connection */ #usedPairs = new Set();
  #failedAgreements = 0;
  #abandonedAgreements = 0;
  #agreements = 0;
  /** ICE was restarted: a failure that is told before it looks for a path again is that of the earlier round. */
  #oldRound = false;
  /** @type {number | null} */ #openedAt = null;
  /** @type {number | null} when the browser is to make the connection that has been decided on */ #openAt = null;
  /** @type {Message[]} for it */ #held = [];
  /** @type {number | null} */ #attemptEndsAt = null;
  /** @type {number | null} */ #restartAt = null;
  /** @type {number | null} */ #probeAt = null;
  /** A socket that is no younger may be dead. */ #doubtedAt = 0;
  /** @type {number | null} */ #giveUpPartnerAt = null;
  /** @type {number | null} */ #hintAt = null;
  /** @type {number | null} */ #checkAt = null;
  /** @type {number | null} */ #sweepAt = null;
  #hint = false;
  /** @type {Action[]} */ #actions = [];

  /** @param {{ drawEpoch: () => string }} options */
  constructor({ drawEpoch }) {
    this.#drawEpoch = drawEpoch;
    this.#epoch = drawEpoch();
  }

  // ---- what the shell asks ------------------------------------------------------------------------------------------

  /** @returns {Action[]} what is to be done now, in order */
  poll() {
    return this.#actions.splice(0);
  }

  /** @returns {number | null} call `tick` then */
  get deadline() {
    const ofCall = [this.#openAt, this.#attemptEndsAt, this.#restartAt, this.#probeAt, this.#giveUpPartnerAt];
    const ofPeers = Array.from(this.#peers.values(), (peer) => peer.agreeAt);
    const times = [...ofCall, ...ofPeers, this.#readyAt, this.#hintAt, this.#checkAt, this.#sweepAt, this.#offerAt];
    const set = times.filter((time) => time !== null);
    return set.length === 0 ? null : Math.min(...set);
  }

  /** @returns {RoomView} */
  view() {
    const rival = [...this.#peers.values()].some((peer) => peer.present && peer.role === this.#seat?.role);
    const { name, camera, microphone, audioOnly, pid } = this.#partner ?? {};
    const safetyCode = this.#peers.get(pid)?.safetyCode ?? "";
    const partner = this.#partner && { name, camera, microphone, audioOnly, safetyCode };
    return {
      phase: this.#phase,
      problem: this.#problem,
      seat: this.#seat,
      call: this.#call,
      partner,
      waitingSince: this.#waitingSince(),
      quality: this.#call === "connected" ? this.#quality : null,
      audioOnly: this.#audioOnly,
      audioOnlyOffered: this.#offered && this.#picturesFlow(),
      sendsPictures: this.#sendsPictures(),
      waitingHint: this.#hint,
      rival,
      signalingAway: this.#awayFromServer,
    };
  }

  // ---- what the person does -----------------------------------------------------------------------------------------

  /** @param {string} name */
  join(name) {
    if (this.#phase === "joining" || this.#phase === "room") this.#do({ do: "disconnect", leave: false });
    this.#name = name;
    this.#reset();
    this.#phase = "joining";
    this.#do({ do: "connect" });
  }

  /** Leave the room for good: the partner is told, the seat is given up. */
  hangUp() {
    if (this.#phase !== "room") return;
    if (this.#partner !== null) this.#sendToPartner({ kind: "bye" });
    this.#end();
  }

  /** Give an attempt to join, or a seat without a call, up and go back to the form. */
  abandon() {
    this.#closeCall();
    this.#do({ do: "disconnect", leave: true });
    this.#do({ do: "stop_media" });
    this.#do({ do: "forget_session" });
    this.#reset();
    this.#phase = "form";
  }

  /**
   * Try a connection that found no path once more.
   *
   * @param {number} now
   */
  tryAgain(now) {
    if (this.#call !== "no_path") return;
    this.#renewed = false;
    this.#openCall(now);
    this.#lookAround(now);
  }

  /** The page was hidden: meanwhile its socket may have died without a word. */
  shown() {
    if (this.#phase === "joining" || (this.#phase === "room" && this.#isIdle())) this.#do({ do: "probe_signaling" });
  }

  /**
   * @param {boolean} camera
   * @param {boolean} microphone
   */
  mediaChanged(camera, microphone) {
    if (camera === this.#camera && microphone === this.#microphone) return;
    this.#camera = camera;
    this.#microphone = microphone;
    this.#tellState();
  }

  /**
   * Talk without pictures from now on, in both directions, or with them again. The partner's own choice stays.
   *
   * @param {boolean} on
   */
  useAudioOnly(on) {
    if (this.#phase !== "room" || on === this.#audioOnly) return;
    this.#audioOnly = on;
    this.#withdrawOffer();
    this.#tellState();
    this.#settlePictures();
  }

  /** Not in this call. */
  declineAudioOnly() {
    this.#offerDeclined = true;
    this.#withdrawOffer();
  }

  /**
   * The devices are open, or known not to open. Greeting earlier would let ICE gather without the addresses that
   * browsers give only to pages with a camera or microphone.
   *
   * @param {number} now
   */
  mediaSettled(now) {
    this.#readyAt = null;
    if (this.#phase !== "room" || this.#ready) return;
    this.#ready = true;
    for (const [pid, peer] of this.#peers) {
      if (!peer.present || !peer.verified || !this.#isPartnerRole(peer)) continue;
      this.#greet(pid);
      if (peer.hello !== null) this.#consider(pid, peer.hello, now);
    }
  }

  // ---- what the server says -----------------------------------------------------------------------------------------

  /**
   * @param {Seat} seat
   * @param {number} now
   */
  joined(seat, now) {
    const first = this.#phase !== "room";
    this.#seat = seat;
    this.#joinedAt = now;
    this.#phase = "room";
    this.#problem = null;
    // The server takes its own refusal back by this, but not what other participants have done.
    if (this.#laterProblem?.code !== "unverified") this.#laterProblem = null;
    this.#awayFromServer = false;
    // Everybody who is here is announced again; who is not, has left meanwhile. The hint at a rival does not flicker.
    for (const [pid, peer] of this.#peers) {
      if (peer.role === seat.role) {
        peer.stale = true;
        continue;
      }
      peer.present = peer.verified = false;
      peer.agreeAt = null;
      if (pid !== this.#partner?.pid) this.#peers.delete(pid);
    }
    this.#sweepAt = now + RIVALS_ANNOUNCED_WITHIN_MS;
    this.#checkAt = null;
    if (first) {
      this.#readyAt = now + HELLO_AT_LATEST_MS;
      this.#do({ do: "start_media" });
    }
    this.#lookAround(now);
  }

  /**
   * The credential of the seat is about to end, and here is the next one: the living connection and later ones use it.
   *
   * @param {RTCIceServer[]} servers
   */
  iceRenewed(servers) {
    if (this.#phase !== "room") return;
    this.#seat = { ...this.#seat, ice: servers };
    if (this.#call !== "none" && this.#call !== "no_path") this.#do({ do: "renew_ice", servers });
  }

  /**
   * The socket is lost. The call lives on.
   *
   * @param {number} retryAt
   */
  signalingLost(retryAt) {
    this.#noteAway();
    if (this.#phase === "joining") this.#problem = { code: "unreachable", retryAt };
  }

  /**
   * @param {Refusal} refusal
   * @param {number | null} retryAt when the client tries again by itself
   * @param {number} now
   */
  refused(refusal, retryAt, now) {
    this.#noteAway();
    this.#probeAt = null;
    const { code, start, limit } = refusal;
    if (retryAt !== null) {
      if (this.#phase === "joining") this.#problem = { code, start, limit, retryAt };
      return;
    }
    const wait = typeof refusal.retry_after === "number" ? now + refusal.retry_after * 1000 : null;
    const problem = { code, start, limit, retryAt: wait };
    if (this.#call === "connected") this.#laterProblem = problem; // two people who talk are not torn apart
    else this.#backToForm(problem);
  }

  /**
   * @param {{ pid: string, role: string, present: boolean, since?: string | null }} announced
   * @param {number} now
   */
  peer({ pid, role, present, since = null }, now) {
    if (this.#phase !== "room") return;
    const known = this.#peers.get(pid);
    if (pid === this.#partner?.pid) this.#gap = true;
    if (present) {
      if (pid === this.#partner?.pid) this.#giveUpPartnerAt = null; // it has its time anew, to prove itself
      if (known === undefined && this.#peers.size >= MAX_PEERS) return;
      // A new socket of theirs: messages may be lost, and it may be somebody else. Nothing is said before it is known.
      const { hello = null, safetyCode = "" } = known ?? {};
      const peer = { role, present, since, hello, safetyCode, verified: false, agreeAt: null };
      this.#peers.set(pid, peer);
      if (this.#isPartnerRole(peer)) this.#agree(pid, peer, now);
    } else if (known !== undefined) {
      known.present = known.verified = false;
      known.agreeAt = null;
      if (pid !== this.#partner?.pid) this.#peers.delete(pid);
    }
    this.#lookAround(now);
  }

  // ---- what the secure channels say ---------------------------------------------------------------------------------

  /**
   * This one has the same secret.
   *
   * @param {string} pid
   * @param {string} safetyCode
   */
  verified(pid, safetyCode) {
    const peer = this.#peers.get(pid);
    if (this.#phase !== "room" || peer === undefined || !this.#isPartnerRole(peer)) return;
    peer.verified = true;
    peer.safetyCode = safetyCode;
    peer.agreeAt = null;
    if (pid === this.#partner?.pid) this.#giveUpPartnerAt = null;
    this.#do({ do: "paired", peer: pid, ok: true });
    if (this.#ready) this.#greet(pid);
    this.#agreements += 1;
    if (!this.#mayAgree()) this.#agreeNoMore();
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
    if (pid === this.#partner?.pid) this.#gap = true;
    peer.verified = false;
    peer.agreeAt = now + AGREEMENT_MS;
    this.#lookAround(now);
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
    this.#failedAgreements += 1;
    peer.verified = false;
    peer.agreeAt = now + AGREE_AGAIN_MS[this.#seat.role];
    if (this.#mayAgree()) this.#lookAround(now);
    else this.#agreeNoMore();
  }

  /**
   * This one has been shown a proof of the secret, which says whether a guess was right, and has not given its own.
   *
   * @param {string} pid
   */
  abandoned(pid) {
    if (this.#phase !== "room") return;
    this.#do({ do: "paired", peer: pid, ok: false });
    this.#abandonedAgreements += 1;
    if (!this.#mayAgree()) this.#agreeNoMore();
  }

  /**
   * @param {string} from
   * @param {Message} message
   * @param {number} now
   */
  message(from, message, now) {
    const peer = this.#peers.get(from);
    if (this.#phase !== "room" || !peer?.verified || !this.#isPartnerRole(peer)) return;
    if (message.kind === "hello") {
      peer.hello = message;
      if (!this.#ready) return;
      if (message.to !== this.#epoch) this.#greet(from);
      this.#consider(from, message, now);
      return;
    }
    const current = from === this.#partner?.pid && message.epoch === this.#partner.epoch && message.to === this.#epoch;
    if (!current) return; // meant for an earlier connection
    switch (message.kind) {
      case "description":
      case "candidate":
        if (this.#call === "no_path") break;
        if (this.#openAt === null) this.#do({ do: "call_message", message });
        else if (this.#held.length < MAX_HELD_MESSAGES) this.#held.push(message);
        break;
      case "state":
        this.#partner = { ...this.#partner, ...mediaOf(message) };
        this.#settlePictures();
        break;
      case "bye":
        this.#end();
        break;
    }
  }

  // ---- what the connection says -------------------------------------------------------------------------------------

  /**
   * Give a message of the own connection its addresses.
   *
   * @param {object} message
   */
  callSays(message) {
    if (this.#partner !== null) this.#sendToPartner(message);
  }

  /**
   * @param {import("./call.js").CallState} state
   * @param {number} now
   */
  callChanged(state, now) {
    if (this.#partner === null || this.#call === "none" || this.#call === "no_path") return;
    this.#silent = state === "silent" && this.#call === "connected";
    if (state === "failed" && this.#oldRound) return; // the deadline of the attempt stands
    if (state !== "silent") this.#oldRound = false;
    switch (state) {
      case "connected":
        this.#call = "connected";
        this.#everConnected = true;
        this.#connectedAt = now;
        this.#renewed = false;
        this.#failures = 0;
        this.#attemptEndsAt = this.#restartAt = this.#probeAt = null;
        break;
      case "silent":
        if (this.#silent) this.#interrupted(now); // whether the connection has failed is for the browser to say
        break;
      case "disconnected":
        this.#interrupted(now);
        this.#tellLaterProblem();
        if (this.#phase === "room") this.#restartAt ??= now + RESTART_AFTER_MS;
        break;
      case "failed":
        this.#interrupted(now);
        this.#tellLaterProblem();
        this.#failed(now);
        break;
    }
    if (this.#call === "interrupted" && this.#somebodyElseWaits()) this.#dropPartner(now);
    this.#lookAround(now);
  }

  /**
   * The media has found another path, perhaps because the own address has changed: then the socket is dead without a
   * word, and the partner would hear of no mute and no farewell.
   *
   * @param {number} now
   */
  pathChanged(now) {
    if (this.#call !== "connected" || now - this.#connectedAt < STEADY_AFTER_MS) return;
    this.#doubtedAt = now - FRESH_MS;
    this.#probeAt = now + PROBE_AFTER_CHANGE_MS;
  }

  /**
   * The browser makes no connection at all.
   *
   * @param {number} now
   */
  callImpossible(now) {
    if (this.#call === "none") return;
    this.#noPath();
    this.#lookAround(now);
  }

  /**
   * How good the connection is now. A bad one that lasts makes the page offer sound alone; the people decide.
   *
   * @param {import("./quality.js").Step | null} step null while it is not known
   * @param {number} now
   */
  measured(step, now) {
    this.#quality = step;
    if (step === "bad" && this.#picturesFlow() && !this.#offered && !this.#offerDeclined) {
      this.#offerAt ??= now + OFFER_AUDIO_ONLY_AFTER_MS;
    } else {
      this.#offerAt = null;
    }
    if (step === "good") this.#offered = false; // what is only weak may be bad again before anybody has read it
  }

  /** @param {number} now */
  tick(now) {
    if (isDue(this.#readyAt, now)) this.mediaSettled(now);
    if (isDue(this.#hintAt, now)) {
      this.#hintAt = null;
      this.#hint = true;
    }
    if (isDue(this.#openAt, now)) this.#makeCall(now);
    if (isDue(this.#offerAt, now)) {
      this.#offerAt = null;
      this.#offered = this.#quality === "bad" && this.#call === "connected";
    }
    if (isDue(this.#restartAt, now)) {
      this.#restartAt = null;
      if (!this.#silent) this.#attemptEndsAt = now + ATTEMPT_MS;
      if (this.#canReachPartner()) this.#restartIce();
    }
    if (isDue(this.#probeAt, now)) {
      this.#probeAt = this.#call === "interrupted" ? now + PROBE_AGAIN_MS : null;
      if (this.#awayFromServer || this.#joinedAt <= this.#doubtedAt) this.#do({ do: "probe_signaling" });
    }
    if (isDue(this.#attemptEndsAt, now)) {
      this.#attemptEndsAt = null;
      this.#failed(now);
    }
    for (const [pid, peer] of this.#peers) if (isDue(peer.agreeAt, now)) this.#agree(pid, peer, now);
    if (isDue(this.#giveUpPartnerAt, now)) {
      this.#giveUpPartnerAt = null;
      this.#dropPartner(now);
    }
    if (isDue(this.#sweepAt, now)) {
      this.#sweepAt = null;
      for (const [pid, peer] of this.#peers) if (peer.stale) this.#peers.delete(pid);
    }
    if (isDue(this.#checkAt, now)) {
      this.#checkAt = null;
      this.#do({ do: "probe_signaling" });
    }
    this.#lookAround(now);
  }

  // ---- inside -------------------------------------------------------------------------------------------------------

  /** @param {Action} action */
  #do(action) {
    this.#actions.push(action);
  }

  #reset() {
    this.#epoch = this.#drawEpoch();
    this.#problem = this.#laterProblem = this.#seat = this.#partner = null;
    this.#awayFromServer = this.#ready = this.#gap = this.#everConnected = this.#renewed = this.#hint = false;
    this.#silent = false;
    this.#camera = this.#microphone = false;
    this.#forgetPictures();
    this.#peers.clear();
    this.#failedAgreements = this.#abandonedAgreements = this.#agreements = 0;
    this.#usedPairs.clear();
    this.#openedAt = this.#openAt = null;
    this.#held = [];
    this.#oldRound = false;
    this.#call = "none";
    this.#failures = 0;
    this.#attemptEndsAt = this.#restartAt = this.#probeAt = this.#giveUpPartnerAt = null;
    this.#readyAt = this.#hintAt = this.#checkAt = this.#sweepAt = null;
  }

  #end() {
    const seat = this.#seat;
    this.#closeCall();
    this.#do({ do: "disconnect", leave: true });
    this.#do({ do: "stop_media" });
    this.#do({ do: "forget_session" });
    this.#reset();
    this.#seat = seat;
    this.#phase = "ended";
  }

  /** @param {Problem} problem */
  #backToForm(problem) {
    this.#closeCall();
    this.#do({ do: "disconnect", leave: false });
    this.#do({ do: "stop_media" });
    if (!PASSING_ERRORS.has(problem.code)) this.#do({ do: "forget_session" });
    this.#reset();
    this.#phase = "form";
    this.#problem = problem;
  }

  /** Somebody who has only guessed the locator waits for nobody. */
  #waitingSince() {
    const stands = this.#call === "connected" || this.#call === "interrupted";
    if (this.#phase !== "room" || this.#seat.role !== "organiser" || stands) return null;
    const waits = (peer) => peer !== undefined && peer.present && peer.verified && this.#isPartnerRole(peer);
    const known = this.#partner ? [this.#peers.get(this.#partner.pid)] : [...this.#peers.values()];
    return known.find(waits)?.since ?? null;
  }

  /** @param {Peer} peer */
  #isPartnerRole(peer) {
    return peer.role !== this.#seat?.role;
  }

  #partnerIsPresent() {
    return this.#partner !== null && this.#peers.get(this.#partner.pid)?.present === true;
  }

  /** Nothing runs or begins that would show a dead way to the server, or suffer from a new one. */
  #isIdle() {
    return this.#call === "none" || this.#call === "no_path";
  }

  /** The partner is not here, and another one has greeted while the media still flowed. */
  #somebodyElseWaits() {
    if (this.#awayFromServer || this.#partnerIsPresent()) return false;
    return [...this.#peers].some(
      ([pid, peer]) => pid !== this.#partner?.pid && peer.present && peer.hello !== null && this.#isPartnerRole(peer),
    );
  }

  #canReachPartner() {
    return !this.#awayFromServer && this.#partnerIsPresent() && this.#peers.get(this.#partner.pid).verified;
  }

  /**
   * @param {string} pid
   * @param {Peer} peer
   * @param {number} now
   */
  #agree(pid, peer, now) {
    peer.verified = false;
    peer.agreeAt = null;
    if (!this.#mayAgree()) return;
    peer.agreeAt = now + AGREEMENT_MS;
    this.#do({ do: "agree", peer: pid, role: peer.role });
  }

  #mayAgree() {
    return (
      this.#failedAgreements < MAX_FAILED_AGREEMENTS &&
      this.#abandonedAgreements < MAX_ABANDONED_AGREEMENTS &&
      this.#agreements < MAX_AGREEMENTS
    );
  }

  /** Somebody has had all the guesses there are in this appointment. */
  #agreeNoMore() {
    for (const each of this.#peers.values()) each.agreeAt = null;
    const problem = { code: "unverified", retryAt: null };
    if (this.#call === "connected") {
      this.#laterProblem = problem; // two people who talk are not torn apart
      this.#do({ do: "agree_no_more" });
    } else {
      this.#backToForm(problem);
    }
  }

  /** @param {string} pid */
  #greet(pid) {
    /** @type {Hello} */
    const hello = {
      kind: "hello",
      epoch: this.#epoch,
      to: this.#peers.get(pid)?.hello?.epoch ?? null,
      name: this.#name,
      ...this.#ownMedia(),
    };
    this.#do({ do: "send", to: pid, message: hello });
  }

  /** What the partner gets to see and to hear. */
  #ownMedia() {
    return { camera: this.#camera && !this.#audioOnly, microphone: this.#microphone, audioOnly: this.#audioOnly };
  }

  #tellState() {
    if (this.#phase === "room" && this.#partner !== null) this.#sendToPartner({ kind: "state", ...this.#ownMedia() });
  }

  #sendsPictures() {
    return !this.#audioOnly && this.#partner?.audioOnly !== true;
  }

  /** There is a picture that could be done without. */
  #picturesFlow() {
    return !this.#isIdle() && this.#sendsPictures() && (this.#camera || this.#partner?.camera === true);
  }

  #settlePictures() {
    const on = this.#sendsPictures();
    if (on === this.#picturesSent) return;
    this.#picturesSent = on;
    this.#do({ do: "send_pictures", on });
  }

  #withdrawOffer() {
    this.#offered = false;
    this.#offerAt = null;
  }

  /** Sound alone is chosen, and refused, for one call. */
  #forgetPictures() {
    this.#audioOnly = this.#offerDeclined = false;
    this.#quality = null;
    this.#withdrawOffer();
    this.#settlePictures();
  }

  /** @param {object} message */
  #sendToPartner(message) {
    const { pid, epoch } = this.#partner;
    this.#do({ do: "send", to: pid, message: { ...message, epoch: this.#epoch, to: epoch } });
  }

  /**
   * Somebody greets: take them as the partner unless another one is here, or still seen and heard.
   *
   * @param {string} pid
   * @param {Hello} hello
   * @param {number} now
   */
  #consider(pid, hello, now) {
    const samePage = this.#partner?.epoch === hello.epoch;
    const isOther = this.#partner !== null && !samePage && pid !== this.#partner.pid;
    if (isOther && (this.#partnerIsPresent() || this.#call === "connected")) return;
    const { epoch, name } = hello;
    this.#partner = { pid, epoch, name, ...mediaOf(hello) };
    this.#settlePictures();
    this.#giveUpPartnerAt = null;
    if (samePage && this.#call !== "none") {
      // Only the way through the server was interrupted, even if it gave the partner a new pid.
      if (this.#call !== "no_path" && this.#gap && hello.to === this.#epoch) {
        this.#gap = false;
        this.#do({ do: "resync_call" });
        if (this.#call !== "connected" && !this.#silent) this.#attemptEndsAt = now + ATTEMPT_MS;
      }
    } else {
      this.#openCall(now);
    }
    this.#lookAround(now);
  }

  /**
   * Begin a connection with the partner, in place of the present one if there is one.
   *
   * @param {number} now
   */
  #openCall(now) {
    if (this.#call !== "none") this.#do({ do: "close_call" });
    const pair = () => `${this.#epoch} ${this.#partner.epoch}`;
    if (this.#usedPairs.has(pair())) {
      // The partner may still hold the other half of the earlier connection of these two; a new epoch replaces it.
      this.#epoch = this.#drawEpoch();
      this.#greet(this.#partner.pid);
    }
    this.#usedPairs.add(pair());
    if (this.#usedPairs.size > MAX_USED_PAIRS) this.#usedPairs.delete(this.#usedPairs.values().next().value); // the oldest
    this.#call = "connecting";
    this.#gap = !this.#canReachPartner(); // what is said now is lost
    this.#failures = 0;
    this.#restartAt = this.#probeAt = null;
    this.#attemptEndsAt = now + ATTEMPT_MS;
    this.#oldRound = false;
    this.#held = [];
    this.#openAt = this.#openedAt === null ? now : Math.max(now, this.#openedAt + CALLS_APART_MS);
    if (this.#openAt === now) this.#makeCall(now);
  }

  /** Let the browser make the connection, and tell it what the partner has said about it so far. @param {number} now */
  #makeCall(now) {
    this.#openAt = null;
    this.#openedAt = now;
    this.#do({ do: "open_call", polite: this.#seat.role !== "organiser" });
    for (const message of this.#held.splice(0)) this.#do({ do: "call_message", message });
  }

  #restartIce() {
    this.#oldRound = true;
    this.#do({ do: "restart_ice" });
  }

  /** The server does not hear this side any more, nor this side the server. */
  #noteAway() {
    this.#awayFromServer = this.#gap = true;
    this.#checkAt = null;
  }

  #closeCall() {
    if (this.#call !== "none") this.#do({ do: "close_call" });
    this.#call = "none";
    this.#openAt = null;
    this.#held = [];
    this.#attemptEndsAt = this.#restartAt = this.#probeAt = null;
  }

  /** @param {number} now */
  #dropPartner(now) {
    this.#closeCall();
    if (this.#partner !== null && !this.#partnerIsPresent()) this.#peers.delete(this.#partner.pid);
    this.#partner = null;
    this.#forgetPictures();
    this.#everConnected = this.#renewed = false;
    // Whoever of the earlier connection comes back must see that this side has ended it.
    this.#epoch = this.#drawEpoch();
    for (const [pid, peer] of this.#peers) {
      if (!peer.present || !peer.verified || peer.hello === null || !this.#isPartnerRole(peer)) continue;
      this.#greet(pid);
      this.#consider(pid, peer.hello, now);
    }
    this.#lookAround(now);
  }

  /**
   * One of the two may have another address now, and its socket be as dead as the media. The greeting over a new one
   * brings the ICE restart.
   *
   * @param {number} now
   */
  #interrupted(now) {
    if (this.#call !== "connected") return;
    this.#call = "interrupted";
    this.#gap = true;
    this.#doubtedAt = now - FRESH_MS;
    this.#probeAt = now;
    if (this.#joinedAt > this.#doubtedAt) this.#restartAt = now;
  }

  #tellLaterProblem() {
    if (this.#laterProblem !== null) this.#backToForm(this.#laterProblem);
  }

  /** An attempt has come to nothing. @param {number} now */
  #failed(now) {
    if (this.#call !== "connecting" && this.#call !== "interrupted") return;
    if (!this.#canReachPartner()) {
      this.#attemptEndsAt = now + ATTEMPT_MS; // the greeting after the interruption usually starts the next attempt
      return;
    }
    this.#failures += 1;
    this.#restartAt = null;
    if (this.#failures < FAILURES_OF_A_CONNECTION) {
      this.#attemptEndsAt = now + ATTEMPT_MS;
      this.#restartIce();
    } else if (this.#everConnected && !this.#renewed) {
      this.#renewed = true;
      this.#openCall(now);
      this.#call = "interrupted";
    } else {
      this.#noPath();
    }
  }

  #noPath() {
    this.#closeCall();
    this.#call = "no_path";
  }

  /** Who is here, and what follows from it. @param {number} now */
  #lookAround(now) {
    if (this.#phase !== "room") return;
    const present = this.#partnerIsPresent();
    if (this.#partner !== null && !this.#awayFromServer && !this.#canReachPartner() && this.#call !== "connected") {
      // Whoever is present has to prove itself anew meanwhile, which takes a while on a bad network.
      const patient = this.#everConnected || present;
      this.#giveUpPartnerAt ??= now + (patient ? PARTNER_RETURNS_WITHIN_MS : NEVER_CONNECTED_RETURNS_WITHIN_MS);
      if (this.#call === "connecting" && this.#everConnected) this.#call = "interrupted";
    } else {
      this.#giveUpPartnerAt = null;
    }
    if (!this.#isIdle() || this.#awayFromServer) this.#checkAt = null;
    else this.#checkAt ??= now + CHECK_EVERY_MS;
    const alone = this.#partner === null && ![...this.#peers.values()].some((peer) => peer.present && this.#isPartnerRole(peer));
    if (!alone) {
      this.#hint = false;
      this.#hintAt = null;
    } else if (!this.#hint) {
      this.#hintAt ??= now + HINT_AFTER_MS;
    }
  }
}

/** @param {Hello | import("./envelope.js").MediaState} message */
function mediaOf({ camera, microphone, audioOnly }) {
  return { camera, microphone, audioOnly };
}
