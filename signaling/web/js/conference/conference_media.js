/**
 * The two connections of a conference: one publishes, one is sent to. All media goes through `SealedMedia`.
 *
 * Does what `conference_machine.js` says. What is done on one side is done one after the other, in the order of the calls.
 */

import { AUDIO_BITRATE } from "../sending.js";
import { RIDS } from "./server_messages.js";

/** @typedef {import("./server_messages.js").Source} Source */
/** @typedef {import("./server_messages.js").Side} SideName */
/** @typedef {import("./server_messages.js").TrackName & { index: number }} OwnedTrack */

const SOURCES = /** @type {const} */ (["microphone", "camera", "screen"]);
/** Simulcast: quarter, half and full size, so that each of the others gets what it has room for. */
const LAYERS = [
  { rid: RIDS[0], scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: RIDS[1], scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: RIDS[2], scaleResolutionDownBy: 1, maxBitrate: 1_500_000 },
];
/** How long a connection goes on beside the one that takes its place, so that nobody misses a word: the others change, too. */
const OVERLAP_MS = 2_000;
const SCREEN_BITRATE = 1_500_000;
const ENCODINGS = {
  microphone: [{ maxBitrate: AUDIO_BITRATE, priority: "high", networkPriority: "high" }],
  camera: LAYERS,
  screen: [{ maxBitrate: SCREEN_BITRATE }],
};

/**
 * @typedef {Record<Source, MediaStreamTrack | null>} OwnTracks
 *
 * @typedef {object} RemoteTrack
 * @property {string} pid
 * @property {Source} source
 * @property {number} index whose keys decrypt it
 * @property {MediaStreamTrack} track
 *
 * @typedef {"connected" | "disconnected" | "failed" | "replaced"} SideChange replaced: by a connection that does not stand yet
 *
 * @typedef {object} MediaHandlers
 * @property {(sdp: string, version: number, sources: Record<string, Source>) => void} offered the own offer, for the server
 * @property {(sdp: string, version: number) => void} answered
 * @property {(side: SideName, state: SideChange) => void} sideChanged
 * @property {(tracks: RemoteTrack[]) => void} tracksChanged all there are now
 */

export class ConferenceMedia {
  #sealed;
  /** @type {MediaHandlers} */ #handlers;
  /** @type {RTCIceServer[]} */ #servers = [];
  /** @type {OwnTracks} */ #own = { microphone: null, camera: null, screen: null };
  /** @type {RTCPeerConnection | null} */ #publishing = null;
  /** @type {Map<Source, RTCRtpTransceiver>} of the publishing connection */ #senders = new Map();
  /** Grows with every offer to publish. Not from the same number for every page: the answer to an earlier one may still come. */
  #offers = Math.floor(Math.random() * 2 ** 30);
  /** @type {string[]} */ #unwanted = [];
  /** @type {RTCPeerConnection | null} */ #subscribing = null;
  /** Which session of the server the subscribing connection belongs to. */ #session = "";
  /** @type {Map<string, RemoteTrack>} by mid */ #remote = new Map();
  /** What goes on until the connection in its place stands. @type {{ pc: RTCPeerConnection | null, timer: number | undefined }} */
  #formerPublishing = { pc: null, timer: undefined };
  /** @type {{ pc: RTCPeerConnection | null, timer: number | undefined, remote: RemoteTrack[] }} */
  #formerSubscribing = { pc: null, timer: undefined, remote: [] };
  /** One after the other, on each side. @type {Record<SideName, Promise<void>>} */
  #turns = { publish: Promise.resolve(), subscribe: Promise.resolve() };

  /**
   * @param {object} options
   * @param {import("./sealed_media.js").SealedMedia} options.sealed
   * @param {MediaHandlers} options.handlers
   */
  constructor({ sealed, handlers }) {
    this.#sealed = sealed;
    this.#handlers = handlers;
  }

  /**
   * Begin to publish, in place of an earlier connection.
   *
   * @param {RTCIceServer[]} servers
   */
  openPublish(servers) {
    this.#servers = servers;
    this.#leavePublishing();
    if (this.#publishing?.connectionState === "connected") this.#formerPublishing.pc = this.#publishing;
    else this.#publishing?.close();
    this.#senders = new Map();
    const pc = this.#connect("publish");
    this.#publishing = pc;
    this.#take("publish", pc, async () => {
      // The screen gets its line when it is shown for the first time, and keeps it.
      for (const source of SOURCES) if (source !== "screen" || this.#own.screen !== null) await this.#addLine(pc, source);
      await this.#offer(pc);
    });
  }

  /** Look for another path for the publishing connection. */
  restartPublish() {
    const pc = this.#publishing;
    if (pc !== null) this.#take("publish", pc, () => this.#offer(pc, { iceRestart: true }));
  }

  /** The way to the server was away: if an offer has no answer yet, one of both may be lost. */
  repeatOffer() {
    const pc = this.#publishing;
    if (pc === null) return;
    this.#take("publish", pc, async () => {
      if (pc.signalingState === "have-local-offer") this.#tellOffer(pc);
    });
  }

  /**
   * @param {string} sdp the answer of the server
   * @param {number} version of the offer
   */
  takeAnswer(sdp, version) {
    const pc = this.#publishing;
    if (pc === null) return;
    this.#take("publish", pc, async () => {
      // To an earlier offer, perhaps of an earlier connection: with it, this one would never stand.
      if (pc.signalingState !== "have-local-offer" || version !== this.#offers) return;
      await pc.setRemoteDescription({ type: "answer", sdp });
      await this.#limit();
    });
  }

  /**
   * Send these from now on; null for none.
   *
   * @param {OwnTracks} tracks
   */
  replaceTracks(tracks) {
    if (SOURCES.some((source) => tracks[source] !== this.#own[source])) this.#leavePublishing(); // it would send the old ones
    this.#own = { ...tracks };
    const pc = this.#publishing;
    if (pc === null) return;
    this.#take("publish", pc, async () => {
      const isNew = this.#own.screen !== null && !this.#senders.has("screen");
      for (const [source, { sender }] of this.#senders) {
        if (sender.track !== this.#own[source]) await sender.replaceTrack(this.#own[source]);
      }
      if (!isNew) return;
      await this.#addLine(pc, "screen");
      await this.#offer(pc);
    });
  }

  /** @param {string[]} unwanted RIDs of the camera that nobody looks at */
  limitLayers(unwanted) {
    this.#unwanted = unwanted;
    const pc = this.#publishing;
    if (pc !== null) this.#take("publish", pc, () => this.#limit());
  }

  /**
   * Take an offer of the server, and answer it.
   *
   * @param {string} sdp
   * @param {number} version
   * @param {Map<string, OwnedTrack>} tracks by mid; nobody sends by those that are not named
   * @param {RTCIceServer[]} servers
   */
  takeOffer(sdp, version, tracks, servers) {
    this.#servers = servers;
    const session = sessionOf(sdp);
    if (this.#subscribing !== null && this.#session !== session) this.#beginSubscribingAnew();
    this.#session = session;
    const pc = (this.#subscribing ??= this.#connect("subscribe"));
    this.#take("subscribe", pc, async () => {
      /** @type {Map<RTCRtpTransceiver, Promise<Error | null>>} */ const settling = new Map();
      const settle = (/** @type {RTCRtpTransceiver} */ transceiver) => {
        const mid = transceiver.mid ?? "";
        const owned = tracks.get(mid);
        const earlier = this.#remote.get(mid);
        const isSame = owned && earlier?.pid === owned.pid && earlier.source === owned.source && earlier.index === owned.index;
        if (settling.has(transceiver) || isSame) return;
        const step = owned === undefined ? this.#detach(transceiver) : this.#attach(pc, transceiver, owned);
        settling.set(transceiver, step.then(() => null, (error) => error));
      };
      // While the offer is applied: a transform must be there before anything else is waited for.
      pc.ontrack = ({ transceiver }) => settle(transceiver);
      await pc.setRemoteDescription({ type: "offer", sdp });
      pc.ontrack = null;
      for (const transceiver of pc.getTransceivers()) settle(transceiver); // m-lines that have changed hands among them
      await pc.setLocalDescription(await pc.createAnswer());
      this.#handlers.answered(pc.localDescription?.sdp ?? "", version);
      const fault = (await Promise.all(settling.values())).find((error) => error !== null);
      if (this.#subscribing !== pc) return;
      this.#tellTracks();
      if (fault) throw fault;
    });
  }

  /** The subscribing connection has come to nothing; the next offer begins another one. */
  closeSubscribe() {
    this.#leaveSubscribing();
    this.#subscribing?.close();
    this.#subscribing = null;
    this.#remote.clear();
    this.#tellTracks();
  }

  /** @param {RTCIceServer[]} servers for the next restart */
  renewIce(servers) {
    this.#servers = servers;
    for (const pc of [this.#publishing, this.#subscribing]) {
      if (pc === null || pc.connectionState === "closed") continue;
      try {
        pc.setConfiguration({ ...pc.getConfiguration(), iceServers: servers });
      } catch (error) {
        // What stands goes on without; who has just come back must not stop halfway because of it.
        console.warn("conference: ICE servers refused by the browser", error.name);
      }
    }
  }

  /**
   * What the browser says of both connections.
   *
   * @returns {Promise<import("./line_watch.js").Statistics>}
   */
  async statistics() {
    const [publish, subscribe] = await Promise.all([this.#publishing, this.#subscribing].map(async (pc) => pc?.getStats() ?? new Map()));
    return { publish, subscribe, owners: this.#remote };
  }

  /** End both connections. */
  close() {
    this.#leavePublishing();
    this.#publishing?.close();
    this.#publishing = null;
    this.#senders = new Map();
    this.closeSubscribe();
  }

  /** @param {SideName} side */
  #connect(side) {
    const pc = new RTCPeerConnection({ iceServers: this.#servers, bundlePolicy: "max-bundle" });
    pc.onconnectionstatechange = () => {
      const { connectionState: state } = pc;
      if (!this.#isCurrent(side, pc)) return;
      if (state === "connected") this.#overlap(side);
      if (state === "connected" || state === "disconnected" || state === "failed") this.#handlers.sideChanged(side, state);
    };
    return pc;
  }

  /** The server has begun anew, perhaps elsewhere: as long as the earlier connection brings something, it is shown. */
  #beginSubscribingAnew() {
    this.#leaveSubscribing();
    if (this.#subscribing?.connectionState === "connected") {
      this.#formerSubscribing = { pc: this.#subscribing, timer: undefined, remote: [...this.#remote.values()] };
      this.#handlers.sideChanged("subscribe", "replaced");
    } else {
      this.#subscribing?.close();
    }
    this.#subscribing = null;
    this.#remote.clear();
    this.#tellTracks();
  }

  /** @param {SideName} side which stands now: the earlier connection has a moment left */
  #overlap(side) {
    const former = side === "publish" ? this.#formerPublishing : this.#formerSubscribing;
    if (former.pc === null) return;
    former.timer ??= setTimeout(() => {
      if (side === "publish") {
        this.#leavePublishing();
      } else {
        this.#leaveSubscribing();
        this.#tellTracks();
      }
    }, OVERLAP_MS);
  }

  #leavePublishing() {
    clearTimeout(this.#formerPublishing.timer);
    this.#formerPublishing.pc?.close();
    this.#formerPublishing = { pc: null, timer: undefined };
  }

  #leaveSubscribing() {
    clearTimeout(this.#formerSubscribing.timer);
    this.#formerSubscribing.pc?.close();
    this.#formerSubscribing = { pc: null, timer: undefined, remote: [] };
  }

  /** Each by the connection that brings it: by the earlier one, until something has come by the one in its place. */
  #tellTracks() {
    const { remote: former } = this.#formerSubscribing;
    const isSame = (/** @type {RemoteTrack} */ a, /** @type {RemoteTrack} */ b) => a.pid === b.pid && a.source === b.source;
    const present = [...this.#remote.values()];
    const late = former.filter((track) => present.every((other) => !isSame(track, other) || other.track.muted));
    const shown = present.filter((track) => late.every((other) => !isSame(track, other)));
    this.#handlers.tracksChanged([...shown, ...late]);
  }

  /**
   * @param {SideName} side
   * @param {RTCPeerConnection} pc
   */
  #isCurrent(side, pc) {
    return pc === (side === "publish" ? this.#publishing : this.#subscribing);
  }

  /**
   * Do something when what was begun before is done, unless the connection has been replaced.
   *
   * @param {SideName} side
   * @param {RTCPeerConnection} pc
   * @param {() => Promise<void>} step
   */
  #take(side, pc, step) {
    this.#turns[side] = this.#turns[side].then(async () => {
      if (!this.#isCurrent(side, pc)) return;
      try {
        await step();
      } catch (error) {
        if (!this.#isCurrent(side, pc)) return; // it was closed meanwhile
        console.warn("conference: refused by the browser", side, error.name);
        this.#handlers.sideChanged(side, "failed");
      }
    });
  }

  /**
   * @param {RTCPeerConnection} pc
   * @param {Source} source
   */
  async #addLine(pc, source) {
    const sendEncodings = ENCODINGS[source].map((each) => ({ ...each }));
    this.#senders.set(source, await this.#sealed.publish(pc, source, this.#own[source], { sendEncodings }));
  }

  /**
   * @param {RTCPeerConnection} pc
   * @param {RTCOfferOptions} [options]
   */
  async #offer(pc, options) {
    // An offer that was not answered is replaced: what was said about it may be lost.
    await pc.setLocalDescription(await pc.createOffer(options));
    this.#offers += 1;
    this.#tellOffer(pc);
  }

  /** @param {RTCPeerConnection} pc */
  #tellOffer(pc) {
    const sources = Object.fromEntries([...this.#senders].map(([source, { mid }]) => [mid, source]));
    this.#handlers.offered(pc.localDescription?.sdp ?? "", this.#offers, sources);
  }

  async #limit() {
    const sender = this.#senders.get("camera")?.sender;
    const parameters = sender?.getParameters();
    if (!sender || !parameters?.encodings?.length) return;
    const { encodings } = parameters;
    const isWanted = (/** @type {string | undefined} */ rid) => !this.#unwanted.includes(rid ?? "");
    if (encodings.every(({ rid, active }) => active === isWanted(rid))) return;
    for (const encoding of encodings) encoding.active = isWanted(encoding.rid);
    try {
      await sender.setParameters(parameters);
    } catch (error) {
      // A key frame was asked for at the same moment. Sending a layer too many harms nobody; the next word about it mends it.
      console.warn("conference: layers refused by the browser", error.name);
    }
  }

  /**
   * @param {RTCPeerConnection} pc
   * @param {RTCRtpTransceiver} transceiver
   * @param {OwnedTrack} owned
   */
  async #attach(pc, transceiver, { pid, source, index }) {
    if (transceiver.direction === "inactive") transceiver.direction = "recvonly"; // it was nobody's before
    const subscribed = this.#sealed.subscribe(transceiver, index, source); // before this function first waits
    const mid = transceiver.mid ?? "";
    // It is of the earlier owner no longer: nothing that comes from now on may be seen under that name.
    if (this.#remote.delete(mid)) this.#tellTracks();
    const track = await subscribed;
    if (this.#subscribing !== pc) return;
    this.#remote.set(mid, { pid, source, index, track });
    if (track.muted && this.#formerSubscribing.pc !== null) track.addEventListener("unmute", () => this.#tellTracks(), { once: true });
  }

  /** @param {RTCRtpTransceiver} transceiver that nobody sends by any more */
  async #detach(transceiver) {
    this.#remote.delete(transceiver.mid ?? "");
    if (transceiver.direction !== "stopped") transceiver.direction = "inactive"; // it is not asked for
    await this.#sealed.unsubscribe(transceiver);
  }
}

/**
 * @param {string} sdp
 * @returns {string} which session of the server it describes (RFC 8866 §5.2); empty if it does not say
 */
function sessionOf(sdp) {
  return /^o=\S+ (\d+) /m.exec(sdp)?.[1] ?? "";
}
