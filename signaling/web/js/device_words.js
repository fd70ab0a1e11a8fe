/**
 * What is said of devices that do not work.
 */

import { text } from "./texts.js";

/**
 * Each device that does not work, with the one thing to do about it.
 *
 * @param {Record<"camera" | "microphone", import("./media.js").Fault | null>} faults
 * @returns {string[]}
 */
export function faultLines({ camera, microphone }) {
  if (camera === "insecure") return [text("camera_insecure")];
  if (camera !== null && camera === microphone && camera !== "lost") return [text(`both_${camera}`)];
  const lines = [];
  if (camera !== null) lines.push(text(`camera_${camera}`));
  if (microphone !== null) lines.push(text(`microphone_${microphone}`));
  return lines;
}

/**
 * @param {HTMLElement} place
 * @param {string[]} lines
 */
export function showLines(place, lines) {
  place.replaceChildren(
    ...lines.map((line) => {
      const paragraph = document.createElement("p");
      paragraph.textContent = line;
      return paragraph;
    }),
  );
}
