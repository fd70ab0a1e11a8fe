/**
 * Relay-only connections with the credentials of a test.
 */

/**
 * @param {import("./test_machine.js").Test} test
 * @param {string} url of one port
 * @returns {RTCPeerConnection} that may use this port and nothing else
 */
export function connectionThrough({ username, credential }, url) {
  return new RTCPeerConnection({ iceServers: [{ urls: [url], username, credential }], iceTransportPolicy: "relay" });
}
