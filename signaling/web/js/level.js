/**
 * How loud a microphone is, as a figure for a bar and as a word for whoever does not see the bar.
 */

const SILENT_DB = -60; // the noise of a quiet room
const FULL_DB = -10; // somebody calls into the microphone

/** From which level on which word holds, the highest first. */
const WORDS = /** @type {const} */ ([
  [90, "level_loud"],
  [35, "level_good"],
  [8, "level_low"],
  [0, "level_silent"],
]);

/**
 * @param {Float32Array | number[]} samples between -1 and 1, about a twentieth of a second
 * @returns {number} 0 to 100, by decibels, as ears hear
 */
export function levelOf(samples) {
  let energy = 0;
  for (const sample of samples) energy += sample * sample;
  if (samples.length === 0 || energy === 0) return 0;
  const decibels = 10 * Math.log10(energy / samples.length);
  const level = ((decibels - SILENT_DB) / (FULL_DB - SILENT_DB)) * 100;
  return Math.round(Math.min(100, Math.max(0, level)));
}

/**
 * @param {number} level 0 to 100
 * @returns {string} key of a text
 */
export function levelWord(level) {
  return WORDS.find(([from]) => level >= from)?.[1] ?? "level_silent";
}
