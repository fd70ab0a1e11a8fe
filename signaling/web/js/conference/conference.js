/**
 * A conference and all that belongs to it: fetched when the server has said that the appointment is one, and put together here.
 */

import { addWords } from "../texts.js";
import { ConferenceMachine } from "./conference_machine.js";
import { ConferenceMedia } from "./conference_media.js";
import { ConferencePanel } from "./conference_panel.js";
import { ConferenceView } from "./conference_view.js";
import { EndingNotice } from "./ending_notice.js";
import { LineWatch } from "./line_watch.js";
import { decodeSealed } from "./sealed_messages.js";
import { SealedMedia, SealingUnsupported, canSealMedia } from "./sealed_media.js";

const STYLES = "/css/conference.css";
const LOOK_MS = 2_000; // at how good the line is

/**
 * @typedef {object} ConferenceOptions
 * @property {import("../signaling_client.js").Seat} seat of the first `joined`
 * @property {string} name of the person
 * @property {() => string} drawEpoch
 * @property {() => number} now monotonic milliseconds
 * @property {() => void} settle something has happened: do what follows from it, and show it
 * @property {() => import("../media.js").Media | null} media the own devices
 * @property {() => void} switchMicrophone
 * @property {(on: boolean) => void} useAudioOnly
 * @property {() => void} toggleFullScreen
 * @property {(words: string) => void} announce
 */

/** @type {Promise<unknown> | null} */ let fetched = null;

/**
 * Fetch what conferences need, and begin one.
 *
 * @param {ConferenceOptions} options
 * @returns {Promise<Conference>}
 * @throws {SealingUnsupported} this browser cannot encrypt its media: nothing was asked of the person
 * @throws {TypeError} words or styles cannot be fetched
 */
export async function openConference(options) {
  if (!canSealMedia()) throw new SealingUnsupported("no RTCRtpScriptTransform");
  try {
    await (fetched ??= Promise.all([addWords((language) => import(`./words_${language}.js`)), addStyles()]));
  } catch (error) {
    fetched = null;
    throw error;
  }
  return new Conference(options);
}

export class Conference {
  /** @type {ConferenceMachine} */ machine;
  #options;
  #sealed;
  #media;
  #view;
  #panel;
  #ending;
  /** @type {import("./conference_media.js").RemoteTrack[]} */ #tracks = [];
  #watch = new LineWatch();
  #lookTimer = 0;
  /** Whose camera is looked at. @type {Set<string>} */ #lookedAt = new Set();

  /** @param {ConferenceOptions} options */
  constructor(options) {
    const { seat, name, drawEpoch, now, useAudioOnly, toggleFullScreen, announce } = options;
    this.#options = options;
    this.machine = new ConferenceMachine({ seat, name, drawEpoch });
    this.#sealed = new SealedMedia({ unsealed: () => this.#act((machine) => machine.unsealed()) });
    this.#media = new ConferenceMedia({
      sealed: this.#sealed,
      handlers: {
        offered: (sdp, version, sources) => this.#act((machine) => machine.offered(sdp, version, sources)),
        answered: (sdp, version) => this.#act((machine) => machine.answered(sdp, version)),
        sideChanged: (side, state) => this.#act((machine) => machine.sideChanged(side, state, now())),
        tracksChanged: (tracks) => {
          this.#tracks = tracks;
          this.#act(() => {});
        },
      },
    });
    const admit = (/** @type {string} */ pid, /** @type {boolean} */ ok) => this.#act((machine) => machine.admit(pid, ok));
    this.#view = new ConferenceView({
      admit,
      want: (tracks) => {
        const cameras = tracks.filter(({ source, visible }) => source === "camera" && visible);
        this.#lookedAt = new Set(cameras.map(({ pid }) => pid));
        this.#act((machine) => machine.want(tracks, now()));
      },
      answerMute: (mute) => {
        if (mute) options.switchMicrophone();
        this.#act((machine) => machine.answerMute());
      },
      endAudioOnly: () => useAudioOnly(false),
      toggleFullScreen,
      announce,
    });
    this.#ending = new EndingNotice(announce);
    this.#panel = new ConferencePanel({
      admit,
      remove: (pid) => this.#act((machine) => machine.remove(pid, now())),
      lock: (locked) => this.#act((machine) => machine.lock(locked)),
      askToMute: (pid) => {
        this.#act((machine) => machine.askToMute(pid));
      },
      compare: (pid, compared) => this.#act((machine) => machine.compare(pid, compared)),
      useAudioOnly,
      announce,
    });
    this.#look();
  }

  /** @type {typeof decodeSealed} what comes by the sealed channels */
  get decode() {
    return decodeSealed;
  }

  /** The own devices have changed. */
  mediaChanged() {
    const media = this.#options.media();
    const pictures = !this.machine.view().audioOnly;
    const tracks = {
      microphone: media?.track("microphone") ?? null,
      camera: pictures && media?.isOn("camera") ? media.track("camera") : null,
      screen: pictures ? (media?.screen?.getVideoTracks()[0] ?? null) : null,
    };
    this.#media.replaceTracks(tracks);
    const { camera, screen } = tracks;
    this.machine.sourcesChanged({ camera: camera !== null, microphone: media?.isOn("microphone") === true, screen: screen !== null });
  }

  /** @param {import("./conference_machine.js").Action} action that is not of every room */
  perform(action) {
    const servers = this.machine.view().seat?.ice ?? [];
    switch (action.do) {
      case "key":
        this.#sealed.apply(action.action);
        break;
      case "open_publish":
        this.#media.openPublish(servers);
        break;
      case "restart_publish":
        this.#media.restartPublish();
        break;
      case "repeat_offer":
        this.#media.repeatOffer();
        break;
      case "take_answer":
        this.#media.takeAnswer(action.sdp, action.version);
        break;
      case "take_offer":
        this.#media.takeOffer(action.sdp, action.version, action.tracks, servers);
        break;
      case "close_subscribe":
        this.#media.closeSubscribe();
        break;
      case "close_conference":
        this.#media.close();
        break;
      case "show_ending":
        this.#ending.show(action.seconds);
        break;
      case "limit_layers":
        this.#media.limitLayers(action.unwanted);
        break;
      case "hand_over_sources":
        this.mediaChanged();
        break;
      case "renew_ice":
        this.#media.renewIce(action.servers);
        break;
    }
  }

  /** @param {import("../room.js").PageView & ReturnType<ConferenceMachine["view"]>} view */
  render(view) {
    if (view.phase !== "room") this.#sealed.close(); // no key outlives the talk
    // Whose line it is says the server, whose keys open it says the person: a line that the two disagree about is of nobody.
    const tracks = this.#tracks.filter(({ pid, index }) => this.machine.keyIndexOf(pid) === index);
    this.#view.render(view, tracks, this.#watch.lines);
    this.#panel.render(view, this.#watch.lines);
  }

  /** It is over, and nothing of it stays on the page. */
  close() {
    clearTimeout(this.#lookTimer);
    this.#lookTimer = 0;
    this.#media.close();
    this.#sealed.close();
    this.#view.close();
    this.#panel.close();
    this.#ending.close();
  }

  /** Look at how good the line is, again and again while it stands. */
  #look() {
    const timer = setTimeout(async () => {
      const { now } = this.#options;
      const statistics = await this.#media.statistics().catch(() => null); // a connection may be closed while it is asked
      const { phase } = this.machine.view();
      if (this.#lookTimer !== timer || phase === "ended" || phase === "form") return;
      if (this.machine.view().call !== "connected") this.#watch = new LineWatch(); // the next path may be another one
      else if (statistics !== null) this.#watch.add(statistics, this.#lookedAt, now());
      this.#act((machine) => machine.measured(this.#watch.step, now()));
      this.#look();
    }, LOOK_MS);
    this.#lookTimer = timer;
  }

  /** @param {(machine: ConferenceMachine) => void} event */
  #act(event) {
    event(this.machine);
    this.#options.settle();
  }
}

/** @returns {Promise<void>} when they are in use */
function addStyles() {
  const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: STYLES });
  return new Promise((resolve, reject) => {
    link.onload = () => resolve();
    link.onerror = () => {
      link.remove();
      reject(new TypeError("no styles"));
    };
    document.head.append(link);
  });
}
