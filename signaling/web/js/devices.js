/**
 * Which devices there are to choose from, and how one is asked for. Nothing here touches a device or the page.
 */

/** The front camera: with two cameras browsers take the rear one, which shows the wall. */
const PICTURE = { width: { ideal: 1280 }, height: { ideal: 720 } };
const SOUND = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

/** @typedef {"camera" | "microphone"} Device */
/** @typedef {"speaker" | Device} Choosable */
/** @typedef {{ id: string, label: string }} Option a label may be empty: browsers name devices only with a permission */
/** @typedef {Record<Choosable, Option[]>} DeviceOptions */

const KINDS = { speaker: "audiooutput", microphone: "audioinput", camera: "videoinput" };
const FRONT = "user";
const REAR = "environment";

/**
 * A phone or tablet: its cameras are front and rear, and its system chooses where the sound goes.
 *
 * @param {{ userAgentData?: { mobile: boolean }, userAgent: string, maxTouchPoints: number }} browser like `navigator`
 * @returns {boolean}
 */
export function isHandheld({ userAgentData, userAgent, maxTouchPoints }) {
  if (userAgentData?.mobile || /Android|iPhone|iPad|iPod|Mobile/.test(userAgent)) return true;
  return /Macintosh/.test(userAgent) && maxTouchPoints > 1; // an iPad says that it is a Mac
}

/**
 * What a person may choose from. A device without an id is one that the browser does not show before it is allowed.
 *
 * @param {{ kind: string, deviceId: string, label: string }[]} devices as `enumerateDevices` has them
 * @param {{ handheld: boolean, speakers: boolean }} abilities `speakers`: the browser can send sound to a chosen one
 * @returns {DeviceOptions} a phone has two cameras, named by the side they look to, and no sound to choose
 */
export function optionsOf(devices, { handheld, speakers }) {
  const of = (/** @type {Choosable} */ device) => {
    const known = devices.filter(({ kind, deviceId }) => kind === KINDS[device] && deviceId !== "");
    return known.map(({ deviceId, label }) => ({ id: deviceId, label }));
  };
  if (handheld) {
    const sides = of("camera").length > 1 ? [FRONT, REAR] : [FRONT];
    return { speaker: [], microphone: [], camera: of("camera").length > 0 ? sides.map((id) => ({ id, label: "" })) : [] };
  }
  return { speaker: speakers ? of("speaker") : [], microphone: of("microphone"), camera: of("camera") };
}

/**
 * What getUserMedia is asked for.
 *
 * @param {Device} device
 * @param {string} choice an id of `optionsOf`, or empty for whatever the browser takes
 * @param {boolean} handheld
 * @returns {MediaStreamConstraints} a chosen device or none: Chromium takes whichever it likes where one is only wished for
 */
export function constraintsOf(device, choice, handheld) {
  const chosen = choice === "" || handheld ? {} : { deviceId: { exact: choice } };
  if (device === "microphone") return { audio: { ...SOUND, ...chosen } };
  if (choice !== "" && !handheld) return { video: { ...PICTURE, ...chosen } };
  return { video: { ...PICTURE, facingMode: { ideal: choice === REAR ? REAR : FRONT } } };
}

/**
 * Which option stands for what is open now.
 *
 * @param {{ deviceId?: string, facingMode?: string }} settings of a track
 * @param {boolean} handheld
 * @returns {string} an id of `optionsOf`
 */
export function openOption({ deviceId = "", facingMode }, handheld) {
  if (handheld) return facingMode === REAR ? REAR : FRONT;
  return deviceId;
}

/**
 * @param {Option[]} options
 * @param {string} choice
 * @returns {string} the choice while it is there, else empty: the browser's own
 */
export function presentChoice(options, choice) {
  return options.some(({ id }) => id === choice) ? choice : "";
}

/**
 * Own pictures are shown as in a mirror; what lies before a rear camera is not.
 *
 * @param {{ facingMode?: string }} settings of a track
 * @returns {boolean}
 */
export function isMirrored({ facingMode }) {
  return facingMode !== REAR;
}
