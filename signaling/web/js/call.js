/**
 * One RTCPeerConnection with one partner: perfect negotiation, no page.
 *
 * There are always exactly three transceivers, whether or not the devices exist: sound both ways, the organiser's picture
 * and the participant's. A camera that is found later is put in by `replaceTrack`, without a new offer. The organiser's
 * side makes them and is impolite; the participant's side takes them from the first offer and is polite. So the first
 * round never collides.
 *
 * Each picture has a transceiver of its own because Firefox begins a receiving stream anew, and shows nothing until the
 * next whole picture, whenever the parameters of the sender beside it change: on a weak line, every two seconds.
 */

import { parametersFor } from "./sending.js";

/** The impolite side sees the same failure, or hears the same greeting, and usually offers first. */
const POLITE_RESTART_DELAY_MS = 500;

const LISTEN_EVERY_MS = 500;
/**
 * A microphone that is off sends silence, and where nothing is sent at all, browsers check the path every 2.5 s. They
 * themselves speak of a lost connection after 7 s and more; whose address has changed, sometimes not before 15 s.
 */
const SILENT_AFTER_MS = 3_000;

/** @typedef {"connecting" | "connected" | "silent" | "disconnected" | "failed"} CallState */

/**
 * @typedef {object} CallOptions
 * @property {RTCIceServer[]} iceServers
 * @property {boolean} polite
 * @property {{ stream: MediaStream, audio: MediaStreamTrack | null, video: MediaStreamTrack | null }} local
 * @property {Record<"audio" | "video", import("./sending.js").Sending>} sending
 * @property {(message: object) => void} send takes `description` and `candidate` messages without their addresses
 * @property {(track: MediaStreamTrack) => void} trackArrived
 * @property {(state: CallState) => void} stateChanged
 * @property {() => void} pathChanged media takes another way, to where the first one led or elsewhere
 */

export class Call {
  /** @type {RTCPeerConnection} */ #pc;
  /** @type {CallOptions} */ #options;
  #tracks;
  #sending;
  #makingOffer = false;
  #ignoreOffer = false;
  #settingAnswer = false;
  #closed = false;
  /** @type {RTCIceCandidateInit[]} */ #early = [];
  #remoteRounds = 0;
  #restartTimer = 0;
  #listenTimer = 0;
  /** What had been received when it was last looked at, by the id of the statistic. @type {Map<string, number>} */
  #received = new Map();
  #heardAt = 0;
  /** The browser calls it connected, but nothing comes in. */
  #silent = false;
  /** @type {RTCIceTransport | null} of all media, also after a restart */
  #iceTransport = null;
  /** Remote messages are handled one after the other: a candidate must not overtake its description. */
  #inbox = Promise.resolve();
  /** One change of the senders after the other: browsers refuse a second one on the way. */
  #tuning = Promise.resolve();

  /** @param {CallOptions} options */
  constructor(options) {
    this.#options = options;
    this.#tracks = { audio: options.local.audio, video: options.local.video };
    this.#sending = options.sending;
    this.#pc = new RTCPeerConnection({ iceServers: options.iceServers, bundlePolicy: "max-bundle" });
    this.#pc.onnegotiationneeded = () => void this.#offer();
    this.#pc.onicecandidate = ({ candidate }) => this.#sendCandidate(candidate);
    this.#pc.ontrack = ({ track }) => options.trackArrived(track);
    this.#pc.onconnectionstatechange = () => this.#reportState();
    if (!options.polite) {
      const streams = [options.local.stream];
      this.#pc.addTransceiver(this.#tracks.audio ?? "audio", { direction: "sendrecv", streams });
      this.#pc.addTransceiver(this.#tracks.video ?? "video", { direction: "sendonly", streams });
      this.#pc.addTransceiver("video", { direction: "recvonly" });
    }
  }

  /** @returns {boolean} media flows, as far as ICE and DTLS know, and something has been received of late */
  get connected() {
    return this.#pc.connectionState === "connected" && !this.#silent;
  }

  /**
   * Take a `description` or `candidate` message of the partner.
   *
   * @param {import("./envelope.js").Description | import("./envelope.js").Candidate} message
   */
  receive(message) {
    this.#inbox = this.#inbox.then(async () => {
      if (this.#closed) return;
      try {
        if (message.kind === "description") await this.#takeDescription(message);
        else await this.#takeCandidate(message);
      } catch (error) {
        // The partner's text is not trusted, and a repeated answer is harmless: the call goes on with what it has.
        if (!this.#closed && !this.#ignoreOffer) console.warn("call: message refused by the browser", message.kind, error.name);
      }
    });
  }

  /**
   * Send this track from now on, or nothing.
   *
   * @param {"audio" | "video"} kind
   * @param {MediaStreamTrack | null} track
   */
  async replaceTrack(kind, track) {
    this.#tracks[kind] = track;
    const transceiver = this.#sendingTransceiver(kind);
    if (transceiver === undefined || this.#closed) return; // the polite side puts it in when the first offer comes
    try {
      await transceiver.sender.replaceTrack(track);
    } catch (error) {
      if (!this.#closed) console.warn("call: track refused by the browser", kind, error.name);
    }
  }

  /**
   * Send sound and picture so from now on. What a browser does not know, it leaves out.
   *
   * @param {Record<"audio" | "video", import("./sending.js").Sending>} sending
   */
  tune(sending) {
    const present = JSON.stringify(this.#sending);
    this.#sending = sending;
    if (JSON.stringify(sending) !== present) this.#applySending();
  }

  /**
   * Look for a new path, or say again what still waits for an answer. The polite side leaves the impolite side the
   * first word.
   */
  restartIce() {
    clearTimeout(this.#restartTimer);
    if (this.#pc.signalingState === "have-local-offer") {
      this.#sendDescription();
      return;
    }
    if (!this.#options.polite) {
      this.#pc.restartIce();
      return;
    }
    const rounds = this.#remoteRounds;
    this.#restartTimer = setTimeout(() => {
      // Before the first offer of the impolite side there is nothing to restart, and no transceiver to offer.
      if (this.#closed || this.connected || rounds === 0 || rounds !== this.#remoteRounds) return;
      this.#pc.restartIce();
    }, POLITE_RESTART_DELAY_MS);
  }

  /**
   * The way to the partner was interrupted and messages may be lost.
   */
  resync() {
    if (this.#pc.signalingState === "have-local-offer" || !this.connected) this.restartIce();
  }

  /**
   * @param {RTCIceServer[]} iceServers with fresh credentials
   */
  refreshIceServers(iceServers) {
    try {
      this.#pc.setConfiguration({ ...this.#pc.getConfiguration(), iceServers });
    } catch (error) {
      console.warn("call: ICE servers refused by the browser", error.name);
    }
  }

  /** @returns {Promise<RTCStatsReport>} see `connection_stats.js` */
  stats() {
    return this.#pc.getStats();
  }

  /** End it. Nothing is reported afterwards. */
  close() {
    this.#closed = true;
    clearTimeout(this.#restartTimer);
    clearInterval(this.#listenTimer);
    this.#pc.onnegotiationneeded = null;
    this.#pc.onicecandidate = null;
    this.#pc.ontrack = null;
    this.#pc.onconnectionstatechange = null;
    this.#pc.close();
  }

  async #offer() {
    try {
      this.#makingOffer = true;
      await this.#pc.setLocalDescription();
      this.#sendDescription();
    } catch (error) {
      if (!this.#closed) console.warn("call: no offer", error.name);
    } finally {
      this.#makingOffer = false;
    }
  }

  /** @param {import("./envelope.js").Description} message */
  async #takeDescription({ type, sdp }) {
    const pc = this.#pc;
    const readyForOffer = !this.#makingOffer && (pc.signalingState === "stable" || this.#settingAnswer);
    this.#ignoreOffer = type === "offer" && !readyForOffer && !this.#options.polite;
    if (this.#ignoreOffer) return;
    if (type === "answer" && pc.signalingState !== "have-local-offer") return; // the answer to a repeated offer
    this.#settingAnswer = type === "answer";
    try {
      await pc.setRemoteDescription({ type, sdp });
    } finally {
      this.#settingAnswer = false;
    }
    this.#remoteRounds += 1;
    for (const candidate of this.#early.splice(0)) await this.#addCandidate(candidate);
    if (type === "offer") {
      await this.#fillTransceivers();
      await pc.setLocalDescription();
      this.#sendDescription();
    }
    this.#applySending(); // before the first round is through, browsers know of no encoding
  }

  #applySending() {
    for (const kind of /** @type {const} */ (["audio", "video"])) {
      this.#tuning = this.#tuning.then(async () => {
        const sender = this.#sendingTransceiver(kind)?.sender;
        if (sender === undefined || this.#closed) return;
        try {
          const parameters = parametersFor(sender.getParameters(), this.#sending[kind]);
          if (parameters !== null) await sender.setParameters(parameters);
        } catch (error) {
          // A round of negotiation came in between, and applies them again at its end.
          if (!this.#closed) console.warn("call: parameters refused by the browser", kind, error.name);
        }
      });
    }
  }

  /** Send our tracks through the transceivers that the partner's offer made. */
  async #fillTransceivers() {
    if (!this.#options.polite) return;
    for (const kind of ["audio", "video"]) {
      const transceiver = this.#sendingTransceiver(kind);
      const direction = kind === "audio" || this.#transceivers(kind).length === 1 ? "sendrecv" : "sendonly";
      if (transceiver === undefined || transceiver.direction === direction) continue;
      transceiver.direction = direction;
      // Sound and picture in one stream: only then do browsers keep them in step.
      transceiver.sender.setStreams?.(this.#options.local.stream);
      await transceiver.sender.replaceTrack(this.#tracks[kind]);
    }
  }

  /** @param {import("./envelope.js").Candidate} message */
  async #takeCandidate({ candidate, sdpMid, sdpMLineIndex, usernameFragment }) {
    const init = { candidate, sdpMid, sdpMLineIndex, usernameFragment };
    if (this.#pc.remoteDescription === null) {
      if (this.#early.length < 200) this.#early.push(init);
      return;
    }
    await this.#addCandidate(init);
  }

  /** @param {RTCIceCandidateInit} init */
  async #addCandidate(init) {
    try {
      await this.#pc.addIceCandidate(init);
    } catch (error) {
      // Candidates of an offer that we ignored, or of a round that a restart has overtaken.
      if (!this.#ignoreOffer && !this.#closed) console.warn("call: candidate refused by the browser", error.name);
    }
  }

  #sendDescription() {
    const description = this.#pc.localDescription;
    if (this.#closed || description === null) return;
    this.#options.send({ kind: "description", type: description.type, sdp: description.sdp });
  }

  /** @param {RTCIceCandidate | null} candidate */
  #sendCandidate(candidate) {
    if (candidate === null || this.#closed) return;
    const { sdpMid, sdpMLineIndex, usernameFragment } = candidate;
    this.#options.send({ kind: "candidate", candidate: candidate.candidate, sdpMid, sdpMLineIndex, usernameFragment });
  }

  #reportState() {
    const state = this.#pc.connectionState;
    clearInterval(this.#listenTimer);
    this.#silent = false;
    if (state === "connected") {
      this.#watchPath();
      this.#heardAt = performance.now();
      this.#listenTimer = setInterval(() => void this.#listen(), LISTEN_EVERY_MS);
    }
    if (state === "connected" || state === "disconnected" || state === "failed") this.#options.stateChanged(state);
    else if (state === "connecting") this.#options.stateChanged("connecting");
  }

  /** Notice before the browser does that nothing comes in any more, and that something comes in again. */
  async #listen() {
    const stats = await this.#pc.getStats();
    if (this.#closed || this.#pc.connectionState !== "connected") return;
    const received = receivedCounts(stats.values());
    const heard = [...received].some(([id, count]) => count > (this.#received.get(id) ?? 0));
    this.#received = received;
    if (heard) this.#heardAt = performance.now();
    const silent = performance.now() - this.#heardAt >= SILENT_AFTER_MS;
    if (silent === this.#silent) return;
    this.#silent = silent;
    if (!silent) void this.#sendWholePicture();
    this.#options.stateChanged(silent ? "silent" : "connected");
  }

  #watchPath() {
    if (this.#iceTransport !== null) {
      void this.#sendWholePicture();
      return;
    }
    this.#iceTransport = this.#sendingTransceiver("video")?.sender.transport?.iceTransport ?? null;
    this.#iceTransport?.addEventListener("selectedcandidatepairchange", () => {
      if (this.#closed) return;
      void this.#sendWholePicture();
      this.#options.pathChanged();
    });
  }

  /**
   * What was under way on the old path is lost, and the partner's browser would wait up to three seconds for it before it
   * asks for a picture that needs no earlier one. Browsers that do not know the option ignore it.
   */
  async #sendWholePicture() {
    const sender = this.#sendingTransceiver("video")?.sender;
    if (this.#closed || !sender?.track) return;
    try {
      const parameters = sender.getParameters();
      await sender.setParameters(parameters, { encodingOptions: parameters.encodings.map(() => ({ keyFrame: true })) });
    } catch (error) {
      if (!this.#closed) console.warn("call: whole picture refused by the browser", error.name);
    }
  }

  /**
   * The one that sends our sound, or our picture: of those for pictures, the organiser's comes first. A page that was loaded before
   * an update of the server may offer a single one for both.
   *
   * @param {string} kind
   */
  #sendingTransceiver(kind) {
    const ofKind = this.#transceivers(kind);
    return ofKind[kind === "video" && this.#options.polite && ofKind.length > 1 ? 1 : 0];
  }

  /** @param {string} kind */
  #transceivers(kind) {
    return this.#pc.getTransceivers().filter((transceiver) => transceiver.receiver.track.kind === kind);
  }
}

/**
 * Count what has come in, media and checks of the path alike: each statistic for itself, because those of an earlier path
 * vanish when ICE restarts.
 *
 * @param {Iterable<Record<string, any>>} stats
 * @returns {Map<string, number>}
 */
function receivedCounts(stats) {
  const counts = new Map();
  for (const { id, type, bytesReceived = 0, requestsReceived = 0, responsesReceived = 0 } of stats) {
    if (type !== "transport" && type !== "candidate-pair" && type !== "inbound-rtp") continue;
    counts.set(id, bytesReceived + requestsReceived + responsesReceived);
  }
  return counts;
}
