/**
 * Camera and microphone of this device: asked for together, used as far as they exist, never a reason not to join.
 * And the screen, when a person shares it.
 *
 * A camera that is off is closed, so that its light is out: what the person has switched off must not look on. A microphone
 * that is off stays open and is silent: it has no light, and must be back with the first syllable.
 */

import { constraintsOf, openOption } from "./devices.js";

/** @typedef {import("./devices.js").Device} Device */
/** @typedef {"denied" | "missing" | "busy" | "lost" | "insecure"} Fault */
/** @typedef {"denied" | "failed"} ScreenFault */

const DEVICES = /** @type {readonly Device[]} */ (["camera", "microphone"]);
const KINDS = { camera: "video", microphone: "audio" };

/** The browser can share a screen: phones cannot. */
export const CAN_SHARE_SCREEN = Boolean(navigator.mediaDevices?.getDisplayMedia);

export class Media {
  /** One stream for the whole visit, even while it is empty: it names picture and sound as belonging together. */
  stream = new MediaStream();
  /** @type {Record<Device, Fault | null>} */ faults = { camera: null, microphone: null };
  /** @type {Record<Device, boolean>} what the person wants, remembered over a reload */ wanted;
  /** A question to the person is open in the browser. */
  asking = false;
  /** The screen that is shared, in a stream of its own: the camera's stream is for the self-view. @type {MediaStream | null} */
  screen = null;
  /** Why the last wish to share the screen came to nothing. @type {ScreenFault | null} */ screenFault = null;
  #changed;
  #handheld;
  /** @type {Record<Device, string>} what the person has chosen */ #choices;
  #askingForScreen = false;
  /** @type {Promise<void> | null} */ #started = null;
  /** One question after the other: two at once would get into each other's way. @type {Promise<void>} */ #turn = Promise.resolve();
  /** @type {Record<Device, MediaStreamTrack | null>} */ #tracks = { camera: null, microphone: null };
  #stopped = false;

  /**
   * @param {object} options
   * @param {Record<Device, boolean>} options.wanted
   * @param {Record<Device, string>} options.choices ids of devices; empty for whatever the browser takes
   * @param {boolean} options.handheld
   * @param {() => void} options.changed
   */
  constructor({ wanted, choices, handheld, changed }) {
    this.wanted = { ...wanted };
    this.#choices = { ...choices };
    this.#handheld = handheld;
    this.#changed = changed;
  }

  /**
   * @param {Device} device
   * @returns {MediaStreamTrack | null}
   */
  track(device) {
    return this.#tracks[device];
  }

  /**
   * @param {Device} device
   * @returns {boolean} it exists and is switched on
   */
  isOn(device) {
    return this.#tracks[device] !== null && this.wanted[device];
  }

  /** @returns {MediaStreamTrack | null} what the partner is to see: the screen while it is shared, else the camera while it is on */
  get picture() {
    return this.screen?.getVideoTracks()[0] ?? (this.isOn("camera") ? this.#tracks.camera : null);
  }

  /**
   * @param {Device} device
   * @returns {boolean} the person has switched it off, and it is closed; whether it can be opened is not known
   */
  rests(device) {
    return device === "camera" && !this.wanted.camera && this.#tracks.camera === null;
  }

  /**
   * @param {Device} device
   * @returns {string} an id of `optionsOf`: what is open, or while it rests what will be; empty if that is not known
   */
  used(device) {
    const track = this.#tracks[device];
    if (track !== null) return openOption(track.getSettings(), this.#handheld);
    return this.rests(device) ? this.#choices[device] : "";
  }

  /**
   * Ask for all that is wanted at once, then for each alone. A camera that is off is not asked for. Resolves in any case; what is
   * missing stands in `faults`. Called again, it opens nothing again.
   *
   * @returns {Promise<void>}
   */
  start() {
    return (this.#started ??= this.#begin());
  }

  async #begin() {
    if (!navigator.mediaDevices?.getUserMedia) {
      this.faults = { camera: "insecure", microphone: "insecure" };
      this.#changed();
      return;
    }
    await this.#asking(async () => {
      const devices = DEVICES.filter((device) => !this.rests(device));
      const fault = await this.#ask(devices);
      if (fault === null) return;
      const refused = fault === "denied" ? await refusedDevices(devices) : [];
      for (const device of devices) {
        if (this.#stopped) return;
        this.faults[device] = refused.includes(device) ? "denied" : await this.#askForAny(device);
      }
    });
  }

  /**
   * Switch a device on or off. One that is not open is asked for again; what is being asked for is not asked for twice.
   *
   * @param {Device} device
   */
  async toggle(device) {
    const track = this.#tracks[device];
    if (track === null) {
      const asked = this.asking && this.wanted[device];
      this.wanted[device] = true;
      if (asked || !navigator.mediaDevices?.getUserMedia) return;
      await this.#asking(async () => {
        if (this.#tracks[device] === null) this.faults[device] = await this.#askForAny(device);
      });
      return;
    }
    this.wanted[device] = !this.wanted[device];
    if (device === "camera") {
      this.#choices.camera = this.used("camera"); // the same one again, also where the browser would ask which
      this.#drop("camera");
    } else {
      track.enabled = this.wanted[device];
    }
    this.#changed();
  }

  /**
   * Take another camera or microphone from now on. If it does not open, the present one goes on. A camera that is off
   * stays so.
   *
   * @param {Device} device
   * @param {string} choice an id of `optionsOf`
   * @returns {Promise<boolean>} whether the chosen one is open, or will be asked for when it is switched on
   */
  async choose(device, choice) {
    let opened = false;
    await this.#asking(async () => {
      const before = this.#choices[device];
      const had = this.#tracks[device] !== null;
      this.#choices[device] = choice;
      if (this.rests(device)) {
        opened = true;
        return;
      }
      let fault = await this.#ask([device]);
      if (fault === "busy" && had) {
        // Most phones open one camera at a time.
        this.#drop(device);
        fault = await this.#ask([device]);
      }
      opened = fault === null;
      if (opened || this.#stopped) return;
      this.#choices[device] = before;
      if (this.#tracks[device] === null && !this.rests(device)) this.faults[device] = had ? await this.#ask([device]) : fault;
    });
    return opened;
  }

  /** Let the person choose a screen, window or tab, and share it. To think better of it is no fault. */
  async shareScreen() {
    if (this.screen !== null || this.#askingForScreen || !CAN_SHARE_SCREEN) return;
    this.#askingForScreen = true;
    this.screenFault = null;
    try {
      const screen = await navigator.mediaDevices.getDisplayMedia({ video: true, audio: false });
      const [track] = screen.getVideoTracks();
      if (this.#stopped) {
        track.stop();
        return;
      }
      track.contentHint = "detail"; // letters are to be read: rather fewer pictures than blurred ones
      track.onended = () => this.stopScreen(); // by the browser's own bar, or the window is gone
      this.screen = screen;
    } catch (error) {
      if (error.name !== "NotAllowedError") this.screenFault = "failed";
      else if (/system/i.test(error.message)) this.screenFault = "denied"; // so browsers say that the system forbids it
    } finally {
      this.#askingForScreen = false;
    }
    this.#changed();
  }

  /** Back to the camera. */
  stopScreen() {
    if (this.screen === null) return;
    this.#dropScreen();
    this.#changed();
  }

  /** The person has read why the screen is not shared. */
  forgetScreenFault() {
    this.screenFault = null;
    this.#changed();
  }

  /** Release the devices: their lights go out. */
  stop() {
    this.#stopped = true;
    for (const device of DEVICES) this.#drop(device);
    this.#dropScreen();
  }

  #dropScreen() {
    for (const track of this.screen?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    this.screen = null;
  }

  /**
   * What fails on the way is told once, at the end: half of it may be wrong.
   *
   * @param {() => Promise<void>} questions
   */
  #asking(questions) {
    const turn = this.#turn.then(async () => {
      if (this.#stopped) return;
      this.asking = true;
      this.#changed();
      try {
        await questions();
      } finally {
        this.asking = false;
      }
      this.#changed();
    });
    this.#turn = turn.catch(() => {}); // whoever asked gets the error; the next question does not
    return turn;
  }

  /**
   * @param {readonly Device[]} devices
   * @returns {Promise<Fault | null>}
   */
  async #ask(devices) {
    const constraints = devices.map((device) => constraintsOf(device, this.#choices[device], this.#handheld));
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia(Object.assign({}, ...constraints));
    } catch (error) {
      return faultOf(error);
    }
    if (this.#stopped) {
      for (const track of stream.getTracks()) track.stop();
      return null;
    }
    for (const device of devices) this.#take(device, stream);
    this.#changed();
    return null;
  }

  /**
   * If the one that was chosen the last time is not here today, another will do.
   *
   * @param {Device} device
   * @returns {Promise<Fault | null>}
   */
  async #askForAny(device) {
    const fault = await this.#ask([device]);
    if (fault !== "missing" || this.#choices[device] === "") return fault;
    this.#choices[device] = "";
    return this.#ask([device]);
  }

  /**
   * @param {Device} device
   * @param {MediaStream} stream
   */
  #take(device, stream) {
    const track = stream.getTracks().find(({ kind }) => kind === KINDS[device]) ?? null;
    this.#drop(device);
    this.faults[device] = track === null ? "missing" : null;
    if (this.rests(device)) {
      track?.stop(); // switched off while it was being opened
      return;
    }
    this.#tracks[device] = track;
    if (track === null) return;
    track.enabled = this.wanted[device];
    track.onended = () => {
      this.#drop(device);
      this.#note(device, "lost");
    };
    this.stream.addTrack(track);
  }

  /** @param {Device} device */
  #drop(device) {
    const track = this.#tracks[device];
    if (track === null) return;
    this.#tracks[device] = null;
    track.onended = null;
    track.stop();
    this.stream.removeTrack(track);
  }

  /**
   * @param {Device} device
   * @param {Fault} fault
   */
  #note(device, fault) {
    this.faults[device] = fault;
    this.#changed();
  }
}

/**
 * @param {unknown} error of getUserMedia
 * @returns {Fault}
 */
function faultOf(error) {
  switch (error?.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "denied";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    default:
      return "missing";
  }
}

/**
 * Who of them is refused. Asking again for what a person has just refused would be a nuisance: if the browser cannot
 * tell, all are taken as refused.
 *
 * @param {Device[]} devices that were asked for
 * @returns {Promise<Device[]>}
 */
async function refusedDevices(devices) {
  try {
    const states = await Promise.all(devices.map((name) => navigator.permissions.query({ name: /** @type {any} */ (name) })));
    const refused = devices.filter((_, i) => states[i].state === "denied");
    return refused.length > 0 ? refused : devices;
  } catch {
    return devices;
  }
}
