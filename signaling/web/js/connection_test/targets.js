/**
 * What there is to test: one target for each port and transport of the relay.
 */

/** @typedef {"udp" | "tcp" | "tls"} Transport `tls` is TLS over TCP */
/** @typedef {{ url: string, transport: Transport, host: string, port: number }} Target */

const TURN = /^(turns?):(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})\?transport=(udp|tcp)$/;

/**
 * STUN needs no target of its own: it is at the UDP ports of TURN. What a browser does not know is left out.
 *
 * @param {string[]} urls as `RTCIceServer.urls` has them
 * @returns {Target[]}
 */
export function targetsOf(urls) {
  const targets = [];
  for (const url of urls) {
    const [, scheme, ipv6, name, port, over] = TURN.exec(url) ?? [];
    if (scheme === undefined || (scheme === "turns" && over === "udp")) continue;
    const transport = /** @type {Transport} */ (scheme === "turns" ? "tls" : over);
    targets.push({ url, transport, host: ipv6 ?? name, port: Number(port) });
  }
  return targets;
}

/**
 * @param {string} host
 * @returns {boolean} it is an IP address and no name
 */
export function isAddress(host) {
  return host.includes(":") || /^\d+\.\d+\.\d+\.\d+$/.test(host);
}

/**
 * @param {Transport} transport
 * @returns {"UDP" | "TCP"} what a firewall sees
 */
export function protocolOf(transport) {
  return transport === "udp" ? "UDP" : "TCP";
}
