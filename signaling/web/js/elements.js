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
