/** How an organiser reads that somebody is waiting. */

import { germanTime, text } from "./texts.js";

/**
 * @param {string | null} since UTC instant
 * @returns {string} empty if nobody waits, or since nobody knows when
 */
export function waitingWords(since) {
  const { date, time } = germanTime(since ?? "");
  if (time === "") return "";
  const today = germanTime(new Date().toISOString()).date;
  return text(date === today ? "partner_waiting" : "partner_waiting_date", { date, time });
}
