/**
 * Copying, and what to do where the browser does not let a page copy.
 */

/**
 * @param {string} words
 * @param {HTMLElement} shown holds the same words; they are selected if they cannot be copied
 * @returns {Promise<boolean>} whether they were copied
 */
export async function copyOrSelect(words, shown) {
  try {
    await navigator.clipboard.writeText(words); // there is no `clipboard` on pages without TLS
    return true;
  } catch (error) {
    console.warn("connection test: not copied", error.name);
  }
  shown.hidden = false;
  shown.focus();
  if (shown instanceof HTMLTextAreaElement) shown.select();
  else getSelection()?.selectAllChildren(shown);
  return false;
}
