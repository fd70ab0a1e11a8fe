/**
 * Three soft notes, made here: no file, no request.
 */

const NOTES_HZ = [523.25, 659.25, 783.99];
const NOTE_SECONDS = 0.32;
const LOUDNESS = 0.25;
const START_WITHIN_MS = 2_000; // without any loudspeaker some browsers never start, and never say so

/** The browser can send sound to a chosen loudspeaker. */
export const CAN_CHOOSE_SPEAKER = "setSinkId" in HTMLMediaElement.prototype;

/**
 * Play the notes once.
 *
 * @param {string} speaker id of the loudspeaker; empty for the browser's own
 * @returns {Promise<void>} when they have ended
 * @throws {DOMException} if the loudspeaker is gone or does not start, or the browser plays nothing before a click
 */
export async function playTestSound(speaker) {
  const context = new AudioContext();
  const audio = new Audio();
  try {
    const destination = context.createMediaStreamDestination();
    audio.srcObject = destination.stream;
    if (CAN_CHOOSE_SPEAKER && speaker !== "") await audio.setSinkId(speaker);
    await inTime(context.resume());
    await inTime(audio.play());
    await new Promise((ended) => {
      const last = NOTES_HZ.map((hertz, at) => note(context, destination, hertz, context.currentTime + at * NOTE_SECONDS)).at(-1);
      last.onended = ended;
    });
  } finally {
    audio.srcObject = null;
    void context.close(); // not waited for: what never started may never close
  }
}

/**
 * @param {Promise<void>} start
 * @returns {Promise<void>}
 */
async function inTime(start) {
  let timer = 0;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new DOMException("no sound comes out", "TimeoutError")), START_WITHIN_MS);
  });
  try {
    await Promise.race([start, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @param {AudioContext} context
 * @param {AudioNode} destination
 * @param {number} hertz
 * @param {number} startAt in the time of the context
 * @returns {OscillatorNode}
 */
function note(context, destination, hertz, startAt) {
  const oscillator = new OscillatorNode(context, { frequency: hertz });
  const envelope = new GainNode(context, { gain: 0 });
  // Up and down without a click.
  envelope.gain.setValueAtTime(0, startAt);
  envelope.gain.linearRampToValueAtTime(LOUDNESS, startAt + 0.03);
  envelope.gain.linearRampToValueAtTime(0, startAt + NOTE_SECONDS);
  oscillator.connect(envelope).connect(destination);
  oscillator.start(startAt);
  oscillator.stop(startAt + NOTE_SECONDS);
  return oscillator;
}
