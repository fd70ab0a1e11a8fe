/**
 * End-to-end encryption of conference media, the page's side: attaches the worker to senders and receivers in the order that
 * keeps everything encrypted, and watches that it stays so.
 *
 *     if (!canSealMedia()) …                                      // this browser cannot take part in a conference
 *     const sealed = new SealedMedia({ unsealed: (line) => … });
 *     for (const action of senderKeys.poll()) if (action.do !== "say") sealed.apply(action);
 *     const camera = await sealed.publish(pc, "camera", track);   // and then make the offer
 *     pc.ontrack = ({ transceiver }) => {                         // at once: nothing may be awaited before
 *       sealed.subscribe(transceiver, index, "camera").then((track) => …); // and only then put it into an element
 *     };
 */

import { KIND_OF } from "./sframe.js";

/** Three times, and what it takes to look, are less than a second: a leak begins between two looks, and is seen by two. */
export const WATCH_EVERY_MS = 250;
const STRIKES = 2;
/**
 * What was dropped behind the worker, and never flows, must not hide a leak for longer. Browsers keep four seconds of sound that waits
 * to be heard, and a device that is very short of time gives few answers within that time.
 */
const LEAD_MS = 6_000;
const LEAST_LEADS = 4; // of looks, however long ago
const SAMPLES_PER_FRAME = 960; // of Opus, 20 ms
/** Six seconds. A worker, or a page, that has too little time must not end a conference; one that is gone lets nothing pass anyway. */
export const SILENT_LOOKS = 24;
const COUNT_MS = 15_000; // for the worker to say what it has counted; by then the watch has stopped what flows
const READY_MS = 15_000; // for the worker to be loaded, also on a slow line, and attached
const BROKEN = "the worker could not be loaded, or has failed";
export const MAX_LINES = 256; // 20 participants with three tracks each, and what is left over by those who have gone

/**
 * What survives the encryption of whole frames. Packetisers of H264 and AV1 parse what they carry, and would mangle it.
 */
const SEALABLE = { audio: ["audio/opus", "audio/red"], video: ["video/vp8", "video/rtx"] };

/** This browser cannot encrypt the media of a conference: it has no `RTCRtpScriptTransform`. */
export class SealingUnsupported extends Error {
  name = "SealingUnsupported";
}

/** The worker could not be attached: nothing has been sent or shown. */
export class SealingFailed extends Error {
  name = "SealingFailed";
}

/** @returns {boolean} whether this browser can take part in conferences: Chromium 141, Firefox 117, Safari 15.4 */
export function canSealMedia() {
  return "RTCRtpScriptTransform" in globalThis && "transform" in RTCRtpSender.prototype && "transform" in RTCRtpReceiver.prototype;
}

/** @typedef {import("./sframe.js").Source} Source */
/** @typedef {Pick<import("./media_worker.js").LineOptions, "owner" | "source">} Assignment what a line carries */

/**
 * @typedef {object} WatchedLine one direction of one m-line
 * @property {"send" | "receive"} direction
 * @property {"audio" | "video"} kind
 * @property {RTCRtpTransceiver} transceiver
 *
 * @typedef {object} SealedMediaOptions
 * @property {(line: WatchedLine) => void} unsealed media went past the encryption: its track and its transceiver are stopped. This
 *   never happens unless browser, extension or server are broken or hostile: the page ends the conference and says so
 * @property {() => Worker} [createWorker] where the policy of the page wants it made otherwise
 *
 * @typedef {object} Line
 * @property {number} line
 * @property {"send" | "receive"} direction
 * @property {"audio" | "video"} kind
 * @property {RTCRtpTransceiver} transceiver
 * @property {boolean} generatesKeyFrames the worker can make the encoder do so
 * @property {SealWatch} watch
 */

export class SealedMedia {
  #options;
  #worker;
  /** @type {Map<number, Line>} */ #lines = new Map();
  /** Those that receive; they may come again for somebody else. @type {WeakMap<RTCRtpTransceiver, Promise<Line>>} */
  #receiving = new WeakMap();
  /** Who waits for which answer of the worker. @type {Map<number, { hear: (news: any) => void, fail: (why: string) => void }>} */
  #waiting = new Map();
  #drawn = 0;
  #timer;
  #looking = false;
  /** The worker has been asked what it has counted, and has not answered yet. */
  #counting = false;
  #closed = false;
  #answered = false;
  /** The worker failed before it said anything: nobody needs to wait for it. */
  #broken = false;

  /**
   * @param {SealedMediaOptions} options
   * @throws {SealingUnsupported}
   */
  constructor(options) {
    if (!canSealMedia()) throw new SealingUnsupported("no RTCRtpScriptTransform");
    this.#options = options;
    this.#worker = options.createWorker?.() ?? new Worker(new URL("./media_worker.js", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => {
      this.#answered = true;
      this.#waiting.get(data.ask)?.hear(data);
    };
    this.#worker.onerror = () => {
      this.#broken = !this.#answered;
      this.#failAll(BROKEN);
    };
    this.#timer = setInterval(() => void this.#look(), WATCH_EVERY_MS);
  }

  /**
   * Do what `SenderKeys` has decided.
   *
   * @param {Exclude<import("./sender_keys.js").KeyAction, { do: "say" }>} action
   */
  apply(action) {
    if (this.#closed) return;
    if (action.do === "ask_key_frame") this.#makeKeyFrames();
    else this.#worker.postMessage(action);
  }

  /**
   * Add a track of one's own to a connection, encrypted. To be awaited before the offer is made. Other tracks of the source are put
   * in by `transceiver.sender.replaceTrack`, or null for none: the encryption stays.
   *
   * @param {RTCPeerConnection} pc
   * @param {Source} source
   * @param {MediaStreamTrack | null} track
   * @param {Omit<RTCRtpTransceiverInit, "direction">} [init] streams and layers
   * @returns {Promise<RTCRtpTransceiver>}
   * @throws {SealingFailed} the worker could not be attached: the transceiver is stopped
   * @throws {RangeError} there are more than `MAX_LINES`
   */
  async publish(pc, source, track, init = {}) {
    this.#makeRoom();
    const kind = KIND_OF[source];
    // Without the track: Chromium would send what is encoded before the transform is there as it is.
    const transceiver = pc.addTransceiver(kind, { ...init, direction: "sendonly" });
    try {
      preferSealable(transceiver, kind);
      await this.#attach(transceiver, "send", kind, { owner: null, source });
      await transceiver.sender.replaceTrack(track);
    } catch (error) {
      transceiver.stop();
      throw error instanceof SealingFailed ? error : new SealingFailed(error.message, { cause: error });
    }
    return transceiver;
  }

  /**
   * Take what comes by a transceiver as sent by one participant, and as this of its sources. To be called in `ontrack`, before anything
   * is awaited. The same transceiver may come again for somebody or something else: from then on only the frames of that count.
   *
   * @param {RTCRtpTransceiver} transceiver that the server has offered to send by
   * @param {number} owner index of the participant
   * @param {Source} source
   * @returns {Promise<MediaStreamTrack>} to be shown when it is there, and not before
   * @throws {SealingFailed} the worker could not be attached, or the transceiver also sends: Chromium then ignores a transform
   * @throws {RangeError} there are more than `MAX_LINES`
   */
  async subscribe(transceiver, owner, source) {
    const { track } = transceiver.receiver;
    const earlier = this.#receiving.get(transceiver);
    if (earlier !== undefined) {
      await this.#assign((await earlier).line, { owner, source });
      return track;
    }
    if (transceiver.direction.startsWith("send")) throw new SealingFailed("it also sends");
    this.#makeRoom();
    const kind = /** @type {"audio" | "video"} */ (track.kind);
    const attached = this.#attach(transceiver, "receive", kind, { owner, source });
    this.#receiving.set(transceiver, attached);
    await attached;
    return track;
  }

  /**
   * Nobody sends by this transceiver any more: until it is subscribed to again, everything is dropped.
   *
   * @param {RTCRtpTransceiver} transceiver
   */
  async unsubscribe(transceiver) {
    const attached = this.#receiving.get(transceiver);
    if (attached === undefined) return;
    await this.#assign((await attached).line, { owner: null, source: null });
  }

  /**
   * What has become of the frames of each line.
   *
   * @returns {Promise<(WatchedLine & import("./media_worker.js").LineCounts)[]>}
   * @throws {SealingFailed} the worker does not answer
   */
  async counts() {
    const { counts } = await this.#ask({ do: "count" });
    return counts.flatMap((each) => {
      const line = this.#lines.get(each.line);
      if (line === undefined) return [];
      const { direction, kind, transceiver } = line;
      return [{ direction, kind, transceiver, ...each }];
    });
  }

  /** End it, after the connections: without the worker nothing passes. */
  close() {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#worker.terminate();
    this.#failAll("closed");
    this.#lines.clear();
  }

  /**
   * The transform is set before this function first waits.
   *
   * @param {RTCRtpTransceiver} transceiver
   * @param {"send" | "receive"} direction
   * @param {"audio" | "video"} kind
   * @param {Assignment} assignment
   * @returns {Promise<Line>}
   */
  async #attach(transceiver, direction, kind, assignment) {
    this.#drawn += 1;
    const line = this.#drawn;
    const end = direction === "send" ? transceiver.sender : transceiver.receiver;
    const { generatesKeyFrames } = await this.#await(line, () => {
      end.transform = new RTCRtpScriptTransform(this.#worker, { line, direction, kind, ...assignment });
    });
    const attached = { line, direction, kind, transceiver, generatesKeyFrames, watch: new SealWatch() };
    this.#lines.set(line, attached);
    return attached;
  }

  #makeRoom() {
    if (this.#closed) throw new SealingFailed("closed");
    this.#forgetStopped();
    if (this.#lines.size >= MAX_LINES) throw new RangeError("too many m-lines");
  }

  /** Those of connections that are closed, and m-lines that are never used again. */
  #forgetStopped() {
    for (const [line, { transceiver }] of this.#lines) if (transceiver.direction === "stopped") this.#lines.delete(line);
  }

  #makeKeyFrames() {
    for (const { line, direction, kind, transceiver, generatesKeyFrames } of this.#lines.values()) {
      if (direction !== "send" || kind !== "video" || transceiver.sender.track === null) continue;
      const parameters = transceiver.sender.getParameters();
      if (generatesKeyFrames) {
        const rids = parameters.encodings.flatMap(({ rid }) => (rid ? [rid] : []));
        this.#worker.postMessage({ do: "key_frame", line, rids });
      } else {
        const encodingOptions = parameters.encodings.map(() => ({ keyFrame: true }));
        transceiver.sender.setParameters(parameters, { encodingOptions }).catch((error) => {
          // Receivers ask for a key frame themselves as soon as they miss one.
          if (!this.#closed) console.warn("sealed media: key frame refused by the browser", error.name);
        });
      }
    }
  }

  /** See whether anything has passed by the worker since the last look. */
  async #look() {
    this.#forgetStopped();
    const lines = [...this.#lines.values()].filter((line) => endOf(line).track !== null); // without one, nothing is sent
    if (this.#looking || lines.length === 0) return;
    this.#looking = true;
    // Each for itself: one that refuses must not keep the looks from the others.
    const seen = (await Promise.all(lines.map((line) => this.#see(line)))).filter((each) => each !== null);
    this.#looking = false;
    if (this.#counting) for (const { line, flow } of seen) line.watch.hearNothing(flow) && this.#stop(line);
    // Only now: whatever the browser has counted has gone through the worker before, if it has gone through it at all.
    else void this.#judge(seen, performance.now());
  }

  /**
   * @param {Line} line
   * @returns {Promise<{ line: Line, flow: number[] } | null>} null if the browser does not say
   */
  async #see(line) {
    try {
      return { line, flow: flowOf(line, await endOf(line).getStats()) };
    } catch (error) {
      // Statistics of a transceiver that has just been stopped: the next look does without it.
      if (!this.#closed) console.warn("sealed media: not looked", error.name);
      return null;
    }
  }

  /**
   * Compare with what the worker has counted, however long its answer takes: until it comes, the looks go on without one.
   *
   * @param {{ line: Line, flow: number[] }[]} seen
   * @param {number} at when, in ms
   */
  async #judge(seen, at) {
    this.#counting = true;
    try {
      const { counts } = await this.#ask({ do: "count" }, COUNT_MS);
      const counted = new Map(counts.map((each) => [each.line, each]));
      for (const { line, flow } of seen) {
        // What the worker does not know of any more, because the browser has ended it, it does not handle either.
        const { encrypted = 0, decrypted = 0, dropped = {} } = counted.get(line.line) ?? {};
        const passed = encrypted + decrypted;
        const handled = Object.values(dropped).reduce((sum, count) => sum + count, passed);
        if (line.watch.look(flow, handled, passed, at)) this.#stop(line);
      }
    } catch (error) {
      if (!this.#closed) console.warn("sealed media: the worker does not answer", error.name);
    } finally {
      this.#counting = false;
    }
  }

  /**
   * None of this can be undone: whatever is put into the transceiver afterwards, nothing leaves by it or is shown any more.
   *
   * @param {Line} line
   */
  #stop({ line, direction, kind, transceiver }) {
    if (this.#closed || !this.#lines.has(line)) return;
    endOf({ direction, transceiver }).track?.stop();
    transceiver.stop();
    this.#lines.delete(line);
    console.error("sealed media: media went past the encryption, and has been stopped", direction, kind);
    this.#options.unsealed({ direction, kind, transceiver });
  }

  /**
   * @param {number} line
   * @param {Assignment} assignment
   */
  #assign(line, assignment) {
    return this.#ask({ do: "assign", line, ...assignment });
  }

  /**
   * @param {{ do: "count" } | ({ do: "assign", line: number } & Assignment)} order
   * @param {number} [within] ms
   */
  #ask(order, within) {
    this.#drawn += 1;
    const ask = this.#drawn;
    return this.#await(ask, () => this.#worker.postMessage({ ...order, ask }), within);
  }

  /**
   * @param {number} ask which question it is: those of the transforms are the numbers of their lines
   * @param {() => void} begin
   * @param {number} [within] ms
   * @returns {Promise<any>} what the worker has told
   */
  #await(ask, begin, within = READY_MS) {
    return new Promise((resolve, reject) => {
      if (this.#closed || this.#broken) throw new SealingFailed(this.#closed ? "closed" : BROKEN);
      const settle = (/** @type {() => void} */ how) => {
        clearTimeout(timer);
        this.#waiting.delete(ask);
        how();
      };
      const fail = (/** @type {string} */ why) => settle(() => reject(new SealingFailed(why)));
      const timer = setTimeout(() => fail("the worker does not answer"), within);
      this.#waiting.set(ask, { hear: (news) => settle(() => resolve(news)), fail });
      begin();
    });
  }

  /** @param {string} why */
  #failAll(why) {
    for (const { fail } of [...this.#waiting.values()]) fail(why);
  }
}

/**
 * Whether media goes past the worker on one line: what the browser has sent or received grows, and what the worker has seen does not.
 */
export class SealWatch {
  /** @type {number[]} when the worker was asked last */ #flow = [];
  /** @type {number[]} at the last look without an answer */ #unheard = [];
  #handled = 0;
  /** By how many frames the worker was ahead of what flows behind it, and when. @type {{ lead: number, at: number }[]} */
  #leads = [];
  #strikes = 0;
  #silent = 0;

  /**
   * Between worker and network, or worker and loudspeaker, frames wait: on a busy device they go on flowing while the worker gets no
   * new ones. That takes its lead away, but no more than that; what goes past it takes more.
   *
   * @param {number[]} flow counters of the browser that all grow while media flows; the first one is compared with the frames that the
   *   worker has seen
   * @param {number} handled frames that the worker has seen since, or at the latest then
   * @param {number} passed those of them that it has not dropped: only these ever flow behind it
   * @param {number} at when the browser was asked, in ms. Answers may be seconds apart: leads count by their age, not by their number
   * @returns {boolean} whether media goes past it: twice, so that one look at a bad moment means nothing
   */
  look(flow, handled, passed, at) {
    const lead = passed - (flow[0] ?? 0);
    this.#leads = this.#leads.filter((earlier, place) => at - earlier.at <= LEAD_MS || place >= this.#leads.length - LEAST_LEADS);
    if (handled > this.#handled) this.#strikes = 0;
    else if (grows(this.#flow, flow) && this.#leads.every((earlier) => lead < earlier.lead)) this.#strikes += 1;
    this.#flow = this.#unheard = flow;
    this.#handled = handled;
    this.#leads.push({ lead, at });
    this.#silent = 0;
    return this.#strikes >= STRIKES;
  }

  /**
   * The worker has been asked, and says nothing yet.
   *
   * @param {number[]} flow
   * @returns {boolean} whether media has flowed at `SILENT_LOOKS` looks all the same
   */
  hearNothing(flow) {
    if (grows(this.#unheard, flow)) this.#silent += 1;
    this.#unheard = flow;
    return this.#silent >= SILENT_LOOKS;
  }
}

/**
 * @param {number[]} before
 * @param {number[]} flow
 */
function grows(before, flow) {
  return flow.length > 0 && flow.every((count, at) => count > (before[at] ?? 0));
}

/**
 * What grows while media flows on a line, all of it together only if it flows: frames alone are also counted while the
 * worker has no time, packets alone while a line is probed with empty ones.
 *
 * @param {Line} line
 * @param {RTCStatsReport} report
 * @returns {number[]}
 */
function flowOf({ direction, kind }, report) {
  const sum = (/** @type {(entry: Record<string, any>) => number} */ count) => {
    const type = direction === "send" ? "outbound-rtp" : "inbound-rtp";
    return [...report.values()].reduce((total, entry) => total + (entry.type === type ? count(entry) : 0), 0);
  };
  if (direction === "send") {
    const packets = sum(({ packetsSent = 0, retransmittedPacketsSent = 0 }) => packetsSent - retransmittedPacketsSent);
    return kind === "audio" ? [packets] : [sum(({ framesSent, framesEncoded }) => framesSent ?? framesEncoded ?? 0), packets];
  }
  if (kind === "video") return [sum(({ framesReceived, framesDecoded }) => framesReceived ?? framesDecoded ?? 0)];
  const samples = sum(({ totalSamplesReceived = 0, concealedSamples = 0, insertedSamplesForDeceleration = 0 }) => {
    return totalSamplesReceived - concealedSamples - insertedSamplesForDeceleration;
  });
  return [samples / SAMPLES_PER_FRAME, sum(({ packetsReceived = 0 }) => packetsReceived)];
}

/** @param {Pick<Line, "direction" | "transceiver">} line */
function endOf({ direction, transceiver }) {
  return direction === "send" ? transceiver.sender : transceiver.receiver;
}

/**
 * @param {RTCRtpTransceiver} transceiver
 * @param {"audio" | "video"} kind
 */
function preferSealable(transceiver, kind) {
  const codecs = RTCRtpReceiver.getCapabilities(kind)?.codecs ?? [];
  transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => SEALABLE[kind].includes(mimeType.toLowerCase())));
}
