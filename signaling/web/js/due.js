/**
 * Instants at which something is to happen, for state machines that are told the time.
 */

/**
 * @param {number | null} time null for never
 * @param {number} now
 * @returns {boolean} it has come
 */
export function isDue(time, now) {
  return time !== null && time <= now;
}
