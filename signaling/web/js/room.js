/**
 * The shell around the room machine: gives it time and events, and does what it says with socket, connection and devices.
 */

import { Call } from "./call.js";
import { parseCode } from "./codes.js";
import { pathOf, readingOf } from "./connection_stats.js";
import { isHandheld, optionsOf, presentChoice } from "./devices.js";
import { decodeMessage, drawEpoch, encodeMessage } from "./envelope.js";
import { CAN_SHARE_SCREEN, Media } from "./media.js";
import { QualityMeter } from "./quality.js";
import { RoomMachine } from "./room_machine.js";
import { SecureChannel } from "./secure_channel.js";
import { MAX_VIDEO_BITRATE, nextVideoBitrate, sendingOf } from "./sending.js";
import { clearSession, saveSession } from "./session.js";
import { SignalingClient } from "./signaling_client.js";
import { CAN_CHOOSE_SPEAKER } from "./test_sound.js";

const FIRST_PATH_LOOK_MS = 300;
const LOOK_MS = 2_000; // at the path and at the quality: both may change while the call runs
const HANDHELD = isHandheld(navigator);
const MAX_HELD_EVENTS = 512; // while a conference is fetched: everybody is announced, and begins to agree on a key

/** @typedef {import("./conference/conference.js").Conference} Conference */
/** @typedef {import("./conference/conference.js").ConferenceOptions} ConferenceOptions */

/**
 * @typedef {import("./room_machine.js").RoomView & {
 *   name: string,
 *   path: "direct" | "relay" | null,
 *   media: Media | null,
 *   checking: boolean,
 *   options: import("./devices.js").DeviceOptions,
 *   speaker: string,
 *   handheld: boolean,
 *   mayShareScreen: boolean,
 *   preferences: Readonly<import("./preferences.js").Values>,
 *   remoteStream: MediaStream | null,
 * }} PageView
 */

export class Room {
  #changed;
  #openConference;
  /** @type {RoomMachine | import("./conference/conference_machine.js").ConferenceMachine} */ #machine = new RoomMachine({ drawEpoch });
  /** @type {Conference | null} from the moment that the server says so, until another room is entered */ #conference = null;
  /** What the server says while the conference is fetched. @type {(() => void)[] | null} */ #held = null;
  /** @type {SignalingClient | null} */ #client = null;
  /** @type {Map<string, SecureChannel>} by participant */ #channels = new Map();
  /** @type {Call | null} */ #call = null;
  /** @type {Media | null} */ #media = null;
  /** @type {MediaStream | null} */ #remoteStream = null;
  /** @type {"direct" | "relay" | null} */ #path = null;
  #meter = new QualityMeter();
  /** Of the picture, as far as the line carries it: also for the next connection, which goes over the same line. */
  #videoBitrate = MAX_VIDEO_BITRATE;
  /** @type {WakeLockSentinel | null} */ #wakeLock = null;
  #code = "";
  #name = "";
  #resume = /** @type {string | null} */ (null);
  /** @type {import("./preferences.js").Preferences} */ #preferences;
  /** @type {Record<import("./devices.js").Device, boolean>} */ #wanted; // by the person, also in the next room
  /** The devices are open before the room is entered. */ #checking = false;
  /** @type {MediaDeviceInfo[]} */ #devices = [];
  /** The remembered loudspeaker, while it does not open: the system's own is in use. */ #refusedSpeaker = "";
  #deadlineTimer = 0;
  #lookTimer = 0;
  #settling = false;

  /**
   * @param {object} options
   * @param {import("./preferences.js").Preferences} options.preferences
   * @param {(view: PageView) => void} options.changed
   * @param {(options: Omit<ConferenceOptions, "announce" | "toggleFullScreen">) => Promise<Conference>} options.openConference fetches what only they need
   */
  constructor({ preferences, changed, openConference }) {
    this.#changed = changed;
    this.#openConference = openConference;
    this.#preferences = preferences;
    const { cameraOn, microphoneOn } = preferences.values;
    this.#wanted = { camera: cameraOn, microphone: microphoneOn };
    navigator.mediaDevices?.addEventListener("devicechange", () => {
      this.#refusedSpeaker = ""; // it may open now
      void this.#lookForDevices();
    });
    document.addEventListener("visibilitychange", () => {
      void this.#keepAwake();
      if (document.visibilityState !== "visible" || this.#machine.view().phase === "form") return;
      this.#machine.shown();
      this.#settle();
    });
  }

  /**
   * @param {{ code: string, name: string, resume?: string | null, wanted?: { camera: boolean, microphone: boolean } }} entry
   */
  join({ code, name, resume = null, wanted = this.#wanted }) {
    this.#code = code;
    this.#name = name;
    this.#resume = resume;
    this.#wanted = wanted;
    this.#endConference();
    /** @type {RoomMachine} */ (this.#machine).join(name);
    this.#settle();
  }

  /** Join again with the code and the name of the last time. On a dead line the server may not know yet that we left. */
  rejoin() {
    this.join({ code: this.#code, name: this.#name, resume: this.#resume });
  }

  hangUp() {
    this.#machine.hangUp();
    this.#settle();
  }

  /** Stop trying to join. */
  abandon() {
    this.#machine.abandon();
    this.#settle();
  }

  tryAgain() {
    this.#machine.tryAgain(now());
    this.#settle();
  }

  /**
   * @param {import("./media.js").Device} device
   * @returns {Promise<void>} when it is switched, or known not to open
   */
  async toggle(device) {
    if (device === "camera" && this.#machine.view().audioOnly) {
      this.useAudioOnly(false); // who wants to be seen
      if (this.#media?.isOn("camera")) return;
    }
    await this.#media?.toggle(device);
  }

  /**
   * Talk without pictures, or with them again.
   *
   * @param {boolean} on
   */
  useAudioOnly(on) {
    this.#machine.useAudioOnly(on);
    if (on) this.#media?.stopScreen(); // it must not come back by itself
    this.#settle();
  }

  /** The person goes on with pictures, however bad they are. */
  declineAudioOnly() {
    this.#machine.declineAudioOnly();
    this.#settle();
  }

  /** Open the devices before the room is entered, which then takes them over as they are. */
  check() {
    if (this.#media !== null) return;
    this.#checking = true;
    void this.#startMedia();
    this.#settle(); // it is seen at once, and can take the focus
  }

  /** Close the devices again. */
  endCheck() {
    if (!this.#checking) return;
    this.#checking = false;
    this.#stopMedia();
    this.#settle();
  }

  /**
   * Take another device, and remember it. A loudspeaker is opened by whoever plays the sound, before it is chosen here.
   *
   * @param {import("./devices.js").Choosable} device
   * @param {string} choice an id of the view's `options`
   * @returns {Promise<boolean>} whether it is in use now
   */
  async choose(device, choice) {
    if (device !== "speaker" && !(await this.#media?.choose(device, choice))) return false;
    // The next talk on a phone begins with the front camera again.
    if (!HANDHELD) this.#preferences.change({ [device]: choice });
    if (device === "speaker") this.#refusedSpeaker = "";
    this.#settle();
    return true;
  }

  /**
   * The remembered loudspeaker does not open: that of the system is used, until the devices change or one is chosen.
   *
   * @param {string} speaker
   */
  speakerRefused(speaker) {
    this.#refusedSpeaker = speaker;
    this.#settle();
  }

  /** Begin or end to share the screen. */
  toggleScreen() {
    if (this.#media?.screen) this.#media.stopScreen();
    else if (this.#mayShareScreen()) void this.#shareScreen();
  }

  async #shareScreen() {
    const media = this.#media;
    await media?.shareScreen();
    if (this.#media === media && media?.screen) this.useAudioOnly(false); // it is to be seen
  }

  /** The person has read why the screen is not shared. */
  forgetScreenFault() {
    this.#media?.forgetScreenFault();
  }

  /** @param {boolean} on keys that do what the buttons do */
  useShortcuts(on) {
    this.#preferences.change({ shortcuts: on });
    this.#settle();
  }

  /** @returns {Conference | null} */
  get conference() {
    return this.#conference;
  }

  /** @returns {string} the code of the last attempt to join, normalised */
  get code() {
    return this.#code;
  }

  /** @returns {PageView} */
  view() {
    const preferences = this.#preferences.values;
    const options = optionsOf(this.#devices, { handheld: HANDHELD, speakers: CAN_CHOOSE_SPEAKER });
    return {
      ...this.#machine.view(),
      name: this.#name,
      path: this.#path,
      media: this.#media,
      checking: this.#checking,
      options,
      speaker: preferences.speaker === this.#refusedSpeaker ? "" : presentChoice(options.speaker, preferences.speaker),
      handheld: HANDHELD,
      mayShareScreen: this.#mayShareScreen(),
      preferences,
      remoteStream: this.#remoteStream,
    };
  }

  #mayShareScreen() {
    return CAN_SHARE_SCREEN && this.#machine.view().seat?.features.includes("screen") === true;
  }

  /** Do all that the machine has to say, then sleep until its deadline and show the result. */
  #settle() {
    if (this.#settling) return; // an action caused an event: the loop below sees what follows from it, in order
    this.#settling = true;
    try {
      let actions;
      while ((actions = this.#machine.poll()).length > 0) for (const action of actions) this.#attempt(action);
    } finally {
      this.#settling = false;
    }
    clearTimeout(this.#deadlineTimer);
    const { deadline } = this.#machine;
    if (deadline !== null) {
      this.#deadlineTimer = setTimeout(() => {
        this.#machine.tick(now());
        this.#settle();
      }, Math.max(0, deadline - now()));
    }
    void this.#keepAwake();
    this.#changed(this.view());
  }

  /**
   * One thing that the browser refuses must not keep the page from the others, hanging up among them.
   *
   * @param {import("./room_machine.js").Action} action
   */
  #attempt(action) {
    try {
      this.#perform(action);
    } catch (error) {
      console.warn("room: refused by the browser", action.do, error.name);
      if (action.do === "open_call") this.#machine.callImpossible(now());
    }
  }

  /** @param {import("./room_machine.js").Action} action */
  #perform(action) {
    switch (action.do) {
      case "connect":
        this.#connect();
        break;
      case "disconnect":
        this.#disconnect(action.leave);
        break;
      case "start_media":
        this.#checking = false; // the room has the devices now
        void this.#startMedia();
        break;
      case "stop_media":
        if (!this.#checking) this.#stopMedia(); // who comes back to the form with an error goes on looking at the picture
        break;
      case "send":
        this.#channels.get(action.to)?.send(encodeMessage(action.message));
        break;
      case "agree":
        this.#openChannel({ pid: action.peer, role: action.role }, action.isA);
        break;
      case "close_channel":
        this.#closeChannel(action.peer);
        break;
      case "tell":
        this.#client?.send(action.message);
        break;
      case "agree_no_more":
        for (const channel of this.#channels.values()) channel.agreeNoMore();
        break;
      case "paired":
        this.#client?.send({ type: "paired", peer: action.peer, ok: action.ok });
        break;
      case "open_call":
        this.#openCall(action.polite);
        break;
      case "close_call":
        this.#closeCall();
        break;
      case "call_message":
        this.#call?.receive(action.message);
        break;
      case "resync_call":
        this.#call?.resync();
        break;
      case "restart_ice":
        this.#call?.restartIce();
        break;
      case "renew_ice":
        this.#call?.refreshIceServers(action.servers);
        this.#conference?.perform(action);
        break;
      case "send_pictures":
        void this.#call?.replaceTrack("video", this.#picture());
        break;
      case "probe_signaling":
        this.#client?.probe();
        break;
      case "forget_session":
        clearSession();
        break;
      default:
        this.#conference?.perform(action);
    }
  }

  #connect() {
    const code = parseCode(this.#code);
    if (code === null) throw new Error("only a code with a right check symbol gets here");
    const url = new URL("/ws", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.hash = "";
    const client = new SignalingClient({
      url: url.href,
      locator: code.locator,
      resume: this.#resume,
      handlers: this.#guard(() => this.#client === client, {
        joined: (seat) => {
          this.#resume = seat.resume;
          this.#save();
          this.#call?.refreshIceServers(seat.ice ?? []);
          this.#closeChannels(); // everybody who is here is announced again
          if (this.#client !== client) return; // that was the last guess that the room bears
          if (seat.conference && this.#conference === null) void this.#beginConference(client, seat);
          else this.#machine.joined(seat, now());
        },
        peer: (peer) => {
          if (!peer.present) this.#closeChannel(peer.pid);
          this.#machine.peer(peer, now());
        },
        relay: (from, blob) => this.#channels.get(from)?.receive(blob),
        ice: (servers) => this.#machine.iceRenewed(servers),
        conference: (message) => this.#conference?.machine.server(message, now()),
        refused: (refusal, retryInMs) => this.#machine.refused(refusal, retryInMs === null ? null : now() + retryInMs, now()),
        away: (retryInMs) => this.#machine.signalingLost(now() + retryInMs),
      }),
    });
    this.#client = client;
    client.start();
  }

  /**
   * The appointment is one of more than two: what only conferences need is fetched, and what the server says meanwhile kept.
   *
   * @param {SignalingClient} client
   * @param {import("./signaling_client.js").Seat} seat
   */
  async #beginConference(client, seat) {
    const held = (this.#held = /** @type {(() => void)[]} */ ([]));
    let problem = "unexpected";
    const conference = await this.#openConference({
      seat,
      name: this.#name,
      drawEpoch,
      now,
      settle: () => this.#settle(),
      media: () => this.#media,
      switchMicrophone: () => void this.#media?.toggle("microphone"),
      useAudioOnly: (on) => this.useAudioOnly(on),
    }).catch((error) => {
      console.warn("room: no conference", error.name);
      if (error.name === "SealingUnsupported") problem = "unsealable";
      return null;
    });
    if (this.#client !== client) {
      conference?.close(); // given up meanwhile
      return;
    }
    this.#held = null;
    if (conference === null) {
      client.send({ type: "leave" });
      this.#machine.refused({ code: problem }, null, now());
    } else {
      this.#conference = conference;
      this.#machine = conference.machine;
      this.#machine.joined(seat, now());
      this.#settle();
      for (const event of held) {
        event();
        this.#settle(); // what the next one is about may be made by this one, as a channel is
      }
    }
    this.#settle();
  }

  /** Whatever is entered next may be a room for two. */
  #endConference() {
    if (this.#conference === null) return;
    if (this.#client !== null) this.#disconnect(false);
    this.#conference.close();
    this.#conference = null;
    this.#machine = new RoomMachine({ drawEpoch });
  }

  /**
   * Agree with another participant on a key, in place of an earlier one.
   *
   * @param {import("./secure_channel.js").Participant} peer
   * @param {boolean} [isA] in a conference; between two, the organiser is
   */
  #openChannel(peer, isA) {
    const { pid } = peer;
    this.#closeChannel(pid);
    const { seat } = this.#machine.view();
    const client = this.#client;
    if (seat === null || client === null) return; // the room is left meanwhile
    const { secret } = parseCode(this.#code);
    /** @type {SecureChannel | null} */ let channel = null;
    const current = () => channel === null || this.#channels.get(pid) === channel;
    channel = new SecureChannel({
      secret,
      room: seat.room,
      own: { pid: seat.pid, role: seat.role },
      peer,
      isA,
      handlers: {
        send: (blob) => client.send({ type: "relay", to: pid, blob }),
        ...this.#guard(current, {
          verified: (safetyCode) => this.#machine.verified(pid, safetyCode, now()),
          failed: () => this.#machine.unverified(pid, now()),
          abandoned: () => this.#machine.abandoned(pid),
          renewed: () => this.#machine.renewed(pid, now()),
          message: (plain) => {
            const message = (this.#conference?.decode ?? decodeMessage)(plain);
            if (message !== null) this.#machine.message(pid, message, now());
          },
        }),
      },
    });
    this.#channels.set(pid, channel);
  }

  /**
   * What was said last, the farewell among it, is still being sealed: it goes first.
   *
   * @param {boolean} leave for good
   */
  #disconnect(leave) {
    const client = this.#client;
    const channels = [...this.#channels.values()];
    this.#client = this.#held = null;
    this.#channels.clear(); // from now on nothing of them is heard
    const end = () => {
      for (const channel of channels) channel.close();
      if (leave) client?.leave();
      else client?.stop();
    };
    if (leave) void Promise.all(channels.map((channel) => channel.flushed)).then(end);
    else end();
  }

  /** @param {string} pid */
  #closeChannel(pid) {
    this.#channels.get(pid)?.close();
    this.#channels.delete(pid);
  }

  #closeChannels() {
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }

  async #startMedia() {
    const media = (this.#media ??= this.#newMedia());
    await media.start();
    if (this.#media !== media) return;
    this.#mediaChanged();
    if (this.#machine.view().phase === "room") this.#machine.mediaSettled(now());
    this.#settle();
  }

  #newMedia() {
    const { camera, microphone } = this.#preferences.values;
    const media = new Media({
      wanted: this.#wanted,
      choices: HANDHELD ? { camera: "", microphone: "" } : { camera, microphone },
      handheld: HANDHELD,
      changed: () => {
        if (this.#media === media) this.#mediaChanged();
      },
    });
    return media;
  }

  #stopMedia() {
    this.#media?.stop();
    this.#media = null;
  }

  /** Ask the browser anew what is plugged in: it names devices only once it may. */
  async #lookForDevices() {
    if (!navigator.mediaDevices?.enumerateDevices) return;
    const media = this.#media;
    const devices = await navigator.mediaDevices.enumerateDevices();
    if (this.#media !== media || media === null) return;
    this.#devices = devices;
    this.#settle();
  }

  /** Hand tracks to the connection, the state to the partner, the wish to the next reload. */
  #mediaChanged() {
    const media = this.#media;
    this.#wanted = { ...media.wanted };
    this.#preferences.change({ cameraOn: media.wanted.camera, microphoneOn: media.wanted.microphone });
    if (!media.asking) void this.#lookForDevices();
    if (this.#machine.view().phase === "room") this.#save();
    if (this.#conference !== null) {
      this.#conference.mediaChanged();
      this.#settle();
      return;
    }
    void this.#call?.replaceTrack("audio", media.track("microphone"));
    // A camera that is off sends nothing at all, not even black pictures.
    void this.#call?.replaceTrack("video", this.#picture());
    this.#call?.tune(this.#sending());
    this.#machine.mediaChanged(media.picture !== null, media.isOn("microphone"));
    this.#settle();
  }

  /** @returns {MediaStreamTrack | null} what the partner gets to see */
  #picture() {
    return this.#machine.view().sendsPictures ? (this.#media?.picture ?? null) : null;
  }

  #sending() {
    return sendingOf(Boolean(this.#media?.screen), this.#videoBitrate);
  }

  /** @param {boolean} polite */
  #openCall(polite) {
    this.#closeCall();
    const media = this.#media;
    const remoteStream = new MediaStream();
    this.#remoteStream = remoteStream;
    const call = new Call({
      iceServers: this.#machine.view().seat?.ice ?? [],
      polite,
      local: {
        stream: media?.stream ?? new MediaStream(),
        audio: media?.track("microphone") ?? null,
        video: this.#picture(),
      },
      sending: this.#sending(),
      ...this.#guard(() => this.#call === call, {
        send: (message) => this.#machine.callSays(message),
        trackArrived: (track) => remoteStream.addTrack(track),
        pathChanged: () => this.#machine.pathChanged(now()),
        stateChanged: (state) => {
          this.#machine.callChanged(state, now());
          if (state !== "connected") return;
          this.#meter = new QualityMeter(); // it may be another path
          this.#machine.measured(null, now());
          this.#watch(call, FIRST_PATH_LOOK_MS);
        },
      }),
    });
    this.#call = call;
  }

  #closeCall() {
    clearTimeout(this.#lookTimer);
    this.#call?.close();
    this.#call = null;
    this.#remoteStream = null;
    this.#path = null;
  }

  /**
   * Look at the connection again and again while it stands; when it stands anew, this begins anew.
   *
   * @param {Call} call
   * @param {number} inMs
   */
  #watch(call, inMs) {
    clearTimeout(this.#lookTimer);
    this.#lookTimer = setTimeout(async () => {
      const stats = await call.stats().catch(() => null); // it may be closed while it is asked
      if (this.#call !== call || !call.connected) return;
      if (stats !== null) {
        this.#path = pathOf(stats) ?? this.#path;
        if (this.#path !== null) this.#measure(stats);
        this.#settle();
      }
      this.#watch(call, this.#path === null ? FIRST_PATH_LOOK_MS : LOOK_MS);
    }, inMs);
  }

  /** @param {RTCStatsReport} stats */
  #measure(stats) {
    const { partner, sendsPictures } = this.#machine.view();
    const meter = this.#meter;
    // Browsers may rest from decoding what nobody looks at.
    const pictureDue = sendsPictures && partner?.camera === true && document.visibilityState === "visible";
    meter.add(readingOf(stats, now()), pictureDue);
    this.#machine.measured(meter.step, now());
    this.#videoBitrate = nextVideoBitrate(this.#videoBitrate, meter.uplink);
    this.#call?.tune(this.#sending());
  }

  #save() {
    saveSession({ code: this.#code, name: this.#name, resume: this.#resume, wanted: this.#wanted });
  }

  /** A phone must not fall asleep in the middle of a talk. */
  async #keepAwake() {
    const wanted = this.#machine.view().phase === "room" && document.visibilityState === "visible";
    if (!wanted) {
      const lock = this.#wakeLock;
      this.#wakeLock = null;
      if (lock && lock !== PENDING_LOCK) void lock.release();
      return;
    }
    if (!navigator.wakeLock || (this.#wakeLock && !this.#wakeLock.released)) return;
    this.#wakeLock = PENDING_LOCK;
    try {
      const lock = await navigator.wakeLock.request("screen");
      if (this.#wakeLock === PENDING_LOCK) this.#wakeLock = lock;
      else void lock.release();
    } catch {
      // Low battery, or not allowed: the talk goes on without. Not asked again before the page is shown anew.
    }
  }

  /**
   * Events of a client, a connection or a device that has been replaced are not events of this room any more.
   *
   * @template {Record<string, (...values: any[]) => void>} H
   * @param {() => boolean} current
   * @param {H} handlers
   * @returns {H}
   */
  #guard(current, handlers) {
    const guarded = Object.entries(handlers).map(([name, handler]) => [
      name,
      (...values) => {
        if (!current()) return;
        if (this.#held !== null) {
          if (this.#held.length < MAX_HELD_EVENTS) this.#held.push(() => current() && handler(...values));
          return;
        }
        handler(...values);
        this.#settle();
      },
    ]);
    return Object.fromEntries(guarded);
  }
}

/** Stands for a lock that has been asked for. */
const PENDING_LOCK = /** @type {WakeLockSentinel} */ (/** @type {unknown} */ ({ released: false }));

/** @returns {number} monotonic milliseconds */
function now() {
  return performance.now();
}
