/**
 * Keys that do what the buttons do.
 */

/** @typedef {"microphone" | "camera" | "full_screen"} Shortcut */

const KEYS = /** @type {Record<string, Shortcut>} */ ({ m: "microphone", k: "camera", f: "full_screen" });
const FIELDS = new Set(["INPUT", "SELECT", "TEXTAREA"]);

/**
 * What a key means. A key that is held down counts once; with Ctrl, Alt or Meta it belongs to the browser; and in a
 * field it is a letter.
 *
 * @param {{ key: string, ctrlKey: boolean, altKey: boolean, metaKey: boolean, repeat: boolean, isComposing: boolean,
 *   target: { tagName?: string, isContentEditable?: boolean } | null }} event like a KeyboardEvent
 * @returns {Shortcut | null}
 */
export function shortcutOf({ key, ctrlKey, altKey, metaKey, repeat, isComposing, target }) {
  if (ctrlKey || altKey || metaKey || repeat || isComposing) return null;
  if (FIELDS.has(target?.tagName ?? "") || target?.isContentEditable) return null;
  return Object.hasOwn(KEYS, key.toLowerCase()) ? KEYS[key.toLowerCase()] : null;
}
