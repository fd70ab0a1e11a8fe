/**
 * What a browser must have for a consultation, asked before anything else of the room is fetched.
 */

/**
 * Whether it can connect, and agree on a key: Chrome 133, Firefox 130, Safari 17, in a secure context.
 *
 * @returns {Promise<boolean>}
 */
export async function canConsult() {
  if (!("RTCPeerConnection" in window) || !("WebSocket" in window)) return false;
  try {
    await crypto.subtle.generateKey({ name: "X25519" }, false, ["deriveBits"]);
    return true;
  } catch {
    return false;
  }
}
