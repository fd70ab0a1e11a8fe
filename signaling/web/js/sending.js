/**
 * How much is sent, and what comes first: sound before the picture. Decides; `call.js` applies it.
 *
 * A talk takes at most 20 MB in a minute, both directions together: 1.33 Mbit/s each way, with everything. At the most
 * that is 1 000 kbit/s of pictures and 40 of sound, and what they travel in: RTP, SRTP, TURN, UDP and IPv6 take less than 100 bytes
 * of each packet (50 of sound and about 120 of pictures in a second: 136 kbit/s), the reports a few kbit/s. The rest is
 * for encoders that overshoot.
 */

/**
 * Full speech in Opus takes 28 to 40 kbit/s (RFC 7587 §3.1.1). The upper end, because its forward error correction, which
 * every offer here has switched on (`useinbandfec=1`), takes the copy of the last packet out of the same rate.
 */
export const AUDIO_BITRATE = 40_000;

export const MAX_VIDEO_BITRATE = 1_000_000;
/** A face is still a face; with sound and headers less than 4 MB in a minute, both ways. */
export const MIN_VIDEO_BITRATE = 150_000;
/** A shared screen must stay legible; it has fewer pictures instead. */
const MIN_SCREEN_BITRATE = 300_000;
/** A weak line is left room for the sound, but faces stay as clear as it allows. */
const WEAK_VIDEO_BITRATE = 400_000;

/** For each reading of the quality. Down quickly, or the sound suffers meanwhile… */
const BAD_FACTOR = 0.5;
const WEAK_FACTOR = 0.75;
/** …and up again slowly, or the line is overrun anew: from the bottom to the top in about fifty seconds. */
const GOOD_FACTOR = 1.08;

/**
 * @typedef {object} Sending what a sender is asked for; browsers ignore the members that they do not know
 * @property {{ maxBitrate: number, priority: RTCPriorityType, networkPriority: RTCPriorityType }} encoding bits in a second
 * @property {"balanced" | "maintain-resolution"} [degradationPreference]
 */

/**
 * @param {number} bitrate of the picture, up to now
 * @param {import("./quality.js").Step | null} uplink what the last reading said; null if nothing is known
 * @returns {number} between the least and the most
 */
export function nextVideoBitrate(bitrate, uplink) {
  if (uplink === "bad") return Math.max(MIN_VIDEO_BITRATE, Math.round(bitrate * BAD_FACTOR));
  if (uplink === "weak") return bitrate <= WEAK_VIDEO_BITRATE ? bitrate : Math.max(WEAK_VIDEO_BITRATE, Math.round(bitrate * WEAK_FACTOR));
  if (uplink === "good") return Math.min(MAX_VIDEO_BITRATE, Math.round(bitrate * GOOD_FACTOR));
  return bitrate;
}

/**
 * @param {boolean} screen it is a screen that is shared
 * @param {number} videoBitrate of `nextVideoBitrate`
 * @returns {{ audio: Sending, video: Sending }}
 */
export function sendingOf(screen, videoBitrate) {
  return {
    audio: { encoding: { maxBitrate: AUDIO_BITRATE, priority: "high", networkPriority: "high" } },
    video: {
      encoding: {
        maxBitrate: screen ? Math.max(MIN_SCREEN_BITRATE, videoBitrate) : videoBitrate,
        priority: "low",
        networkPriority: "low",
      },
      // Of a person, neither what moves nor what is to be looked at closely may be given up for the other.
      degradationPreference: screen ? "maintain-resolution" : "balanced",
    },
  };
}

/**
 * What a sender has now, changed to what it shall have. All the rest stays: browsers refuse what they did not give out.
 *
 * @param {RTCRtpSendParameters} present of getParameters()
 * @param {Sending} sending
 * @returns {RTCRtpSendParameters | null} null before the browser knows of any encoding
 */
export function parametersFor(present, { encoding, ...rest }) {
  if (!present.encodings?.length) return null;
  return { ...present, ...rest, encodings: present.encodings.map((each) => ({ ...each, ...encoding })) };
}
