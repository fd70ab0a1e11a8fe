/**
 * The elements that the views write into.
 */

/**
 * @param {string} id of an element of the page
 * @returns {HTMLElement}
 */
export function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/**
 * Show an icon in a button. One that is there already is left alone: browsers ask the server for it each time.
 *
 * @param {HTMLElement} button
 * @param {string} name
 */
export function showIcon(button, name) {
  const use = button.querySelector("use");
  const href = `/img/icons.svg#${name}`;
  if (use !== null && use.getAttribute("href") !== href) use.setAttribute("href", href);
}
