/**
 * What the statistics of a connection say, in the few figures that the page goes by. Browsers leave out different ones:
 * whatever is missing is null.
 */

/**
 * Counters run since the connection began; how far they got between two readings is for the reader to see.
 *
 * @typedef {object} Reading
 * @property {number} at milliseconds of a monotonic clock
 * @property {number} received packets of sound and picture from the partner
 * @property {number} lost packets of the partner that did not arrive; late ones may lower it again
 * @property {number} framesDecoded pictures of the partner
 * @property {{ sent: number, fractionLost: number }[]} reports what the partner reports of each of our streams, by kind;
 *   `sent` counts packets, `fractionLost` is the share that was lost between its last two reports
 * @property {number | null} rttMs the longest that is known
 */

/**
 * @param {Map<string, any>} stats of getStats(), or of its like
 * @param {number} at
 * @returns {Reading}
 */
export function readingOf(stats, at) {
  const entries = [...stats.values()];
  const ofType = (type) => entries.filter((entry) => entry.type === type);
  const inbound = ofType("inbound-rtp");
  const remote = ofType("remote-inbound-rtp");
  const sum = (name) => inbound.reduce((total, entry) => total + (finite(entry[name]) ?? 0), 0);
  const reports = ["audio", "video"].map((kind) => ({
    sent: finite(ofType("outbound-rtp").find((entry) => entry.kind === kind)?.packetsSent) ?? 0,
    fractionLost: finite(remote.find((entry) => entry.kind === kind)?.fractionLost) ?? 0,
  }));
  const times = [selectedPair(stats)?.currentRoundTripTime, ...remote.map((entry) => entry.roundTripTime)];
  const known = times.map(finite).filter((seconds) => seconds !== null);
  return {
    at,
    received: sum("packetsReceived"),
    lost: sum("packetsLost"),
    framesDecoded: sum("framesDecoded"),
    reports,
    rttMs: known.length === 0 ? null : Math.max(...known) * 1000,
  };
}

/**
 * How the media travels: on the selected candidate pair a `relay` end means through the relay server.
 *
 * @param {Map<string, any>} stats
 * @returns {"direct" | "relay" | null} null if no pair is selected
 */
export function pathOf(stats) {
  const pair = selectedPair(stats);
  const ends = [stats.get(pair?.localCandidateId), stats.get(pair?.remoteCandidateId)].filter(Boolean);
  if (ends.length === 0) return null;
  return ends.some((end) => end.candidateType === "relay") ? "relay" : "direct";
}

/** @param {Map<string, any>} stats */
function selectedPair(stats) {
  const entries = [...stats.values()];
  const transport = entries.find((entry) => entry.type === "transport" && entry.selectedCandidatePairId);
  // Firefox marks the pair itself.
  return stats.get(transport?.selectedCandidatePairId) ?? entries.find((entry) => entry.type === "candidate-pair" && entry.selected);
}

/**
 * @param {unknown} value
 * @returns {number | null}
 */
function finite(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
