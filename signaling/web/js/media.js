/**
 * Camera and microphone of this device: asked for together, used as far as they exist, never a reason not to join.
 */

/** The front camera: with two cameras browsers take the rear one, which shows the wall. */
const CAMERA = { facingMode: { ideal: "user" }, width: { ideal: 1280 }, height: { ideal: 720 } };
const MICROPHONE = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

/** @typedef {"camera" | "microphone"} Device */
/** @typedef {"denied" | "missing" | "busy" | "lost" | "insecure"} Fault */

const DEVICES = /** @type {readonly Device[]} */ (["camera", "microphone"]);
const KINDS = { camera: "video", microphone: "audio" };
const CONSTRAINTS = { camera: { video: CAMERA }, microphone: { audio: MICROPHONE } };

export class Media {
  /** One stream for the whole visit, even while it is empty: it names picture and sound as belonging together. */
  stream = new MediaStream();
  /** @type {Record<Device, Fault | null>} */ faults = { camera: null, microphone: null };
  /** @type {Record<Device, boolean>} what the person wants, remembered over a reload */ wanted;
  /** A question to the person is open in the browser. */
  asking = false;
  #changed;
  /** @type {Record<Device, MediaStreamTrack | null>} */ #tracks = { camera: null, microphone: null };
  #stopped = false;

  /**
   * @param {{ wanted: Record<Device, boolean>, changed: () => void }} options
   */
  constructor({ wanted, changed }) {
    this.wanted = { ...wanted };
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

  /** Ask for both devices, then for each alone. Resolves in any case; what is missing stands in `faults`. */
  async start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      this.faults = { camera: "insecure", microphone: "insecure" };
      this.#changed();
      return;
    }
    await this.#asking(async () => {
      const fault = await this.#ask(DEVICES);
      if (fault === null) return;
      const refused = fault === "denied" ? await refusedDevices() : [];
      for (const device of DEVICES) {
        if (this.#stopped) return;
        this.faults[device] = refused.includes(device) ? "denied" : await this.#ask([device]);
      }
    });
  }

  /**
   * Switch a device on or off. One that is not there yet is asked for again.
   *
   * @param {Device} device
   */
  async toggle(device) {
    if (this.#tracks[device] === null) {
      this.wanted[device] = true;
      if (this.asking || !navigator.mediaDevices?.getUserMedia) return;
      await this.#asking(async () => {
        this.faults[device] = await this.#ask([device]);
      });
      return;
    }
    this.wanted[device] = !this.wanted[device];
    this.#tracks[device].enabled = this.wanted[device];
    this.#changed();
  }

  /** Release the devices: their lights go out. */
  stop() {
    this.#stopped = true;
    for (const device of DEVICES) this.#drop(device);
  }

  /**
   * What fails on the way is told once, at the end: half of it may be wrong.
   *
   * @param {() => Promise<void>} questions
   */
  async #asking(questions) {
    this.asking = true;
    this.#changed();
    await questions();
    this.asking = false;
    this.#changed();
  }

  /**
   * @param {readonly Device[]} devices
   * @returns {Promise<Fault | null>}
   */
  async #ask(devices) {
    try {
      const stream = await navigator.mediaDevices.getUserMedia(Object.assign({}, ...devices.map((device) => CONSTRAINTS[device])));
      if (this.#stopped) {
        for (const track of stream.getTracks()) track.stop();
        return null;
      }
      for (const device of devices) this.#take(device, stream);
      this.#changed();
      return null;
    } catch (error) {
      return faultOf(error);
    }
  }

  /**
   * @param {Device} device
   * @param {MediaStream} stream
   */
  #take(device, stream) {
    const track = stream.getTracks().find(({ kind }) => kind === KINDS[device]) ?? null;
    this.#drop(device);
    this.faults[device] = track === null ? "missing" : null;
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
 * Who of the two is refused. Asking again for what a person has just refused would be a nuisance: if the browser cannot
 * tell, both are taken as refused.
 *
 * @returns {Promise<Device[]>}
 */
async function refusedDevices() {
  try {
    const states = await Promise.all(DEVICES.map((name) => navigator.permissions.query({ name: /** @type {any} */ (name) })));
    const refused = DEVICES.filter((_, i) => states[i].state === "denied");
    return refused.length > 0 ? refused : [...DEVICES];
  } catch {
    return [...DEVICES];
  }
}
