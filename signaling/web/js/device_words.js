/**
 * What is said of devices: whether they are on, and why they do not work.
 */

import { showIcon } from "./elements.js";
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
 * Show on the button of a device whether it is on, and what pressing it does.
 *
 * @param {HTMLElement} button
 * @param {"camera" | "microphone"} device
 * @param {boolean} on
 */
export function showSwitch(button, device, on) {
  button.setAttribute("aria-pressed", String(on));
  button.title = text(`${device}_turn_${on ? "off" : "on"}`);
  showIcon(button, `${device}${on ? "" : "-off"}`);
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
