/**
 * Elements that are made by scripts: a two-party visit shall not fetch what it never shows.
 */

import { byId } from "../elements.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} tag
 * @param {Record<string, string | boolean>} attributes `true` for one without a value, `false` for none
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/**
 * @param {string} name
 * @param {string} [label] key of a text, if it says something that nothing else says
 * @returns {SVGElement}
 */
export function icon(name, label) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/img/${ICONS_OF_CONFERENCES.has(name) ? "conference" : "icons"}.svg#${name}`);
  svg.setAttribute("class", "icon");
  if (label === undefined) svg.setAttribute("aria-hidden", "true");
  else {
    svg.setAttribute("role", "img");
    svg.dataset.label = label;
  }
  svg.append(use);
  return svg;
}

const ICONS_OF_CONFERENCES = new Set(["pin", "next", "previous", "speaking", "speaker-view"]);

/**
 * The focus must not get lost with what goes.
 *
 * @param {HTMLElement} element of the stage
 * @param {boolean} shown
 */
export function show(element, shown) {
  const focused = element.contains(document.activeElement);
  element.hidden = !shown;
  if (focused && !shown) byId("stage-heading").focus();
}

/**
 * @param {Record<string, string | boolean>} attributes
 * @param {string} text key of the words in it
 * @param {() => void} press
 * @returns {HTMLElement}
 */
export function button(attributes, text, press) {
  const made = make("button", { type: "button", "data-text": text, ...attributes });
  made.addEventListener("click", press);
  return made;
}
