/**
 * What a firewall must let through so that the closed rows open, for people and to be pasted.
 *
 * Host names come from the service, which lets no other character in than a name or an address has.
 */

import { isAddress, protocolOf } from "./targets.js";

/** @typedef {import("./targets.js").Target} Target */
/** @typedef {{ host: string, protocol: "UDP" | "TCP", ports: number[] }} Rule from this network to the host, outbound */

const ALIAS = "redconnect_relay";

/**
 * @param {Target[]} targets that are closed
 * @returns {Rule[]} one for each host and protocol, ports in order
 */
export function rulesOf(targets) {
  /** @type {Map<string, Rule>} */ const rules = new Map();
  for (const { host, transport, port } of targets) {
    const protocol = protocolOf(transport);
    const rule = rules.get(`${protocol} ${host}`) ?? { host, protocol, ports: [] };
    if (!rule.ports.includes(port)) rule.ports.push(port);
    rule.ports.sort((a, b) => a - b);
    rules.set(`${protocol} ${host}`, rule);
  }
  return [...rules.values()];
}

/** What can be pasted, by the name of the firewall. */
export const PASTES = /** @type {const} */ ({ nftables, pfSense, FortiGate: fortigate });

/**
 * @param {Rule[]} rules
 * @returns {string} commands for a chain of the usual name; inserted, so that they come before a `drop`
 */
export function nftables(rules) {
  return rules
    .map(({ host, protocol, ports }) => {
      const family = isIpv6(host) ? "ip6" : "ip";
      return `nft insert rule inet filter forward ${family} daddr ${host} ${protocol.toLowerCase()} dport '{ ${ports.join(", ")} }' accept`;
    })
    .join("\n");
}

/**
 * @param {Rule[]} rules
 * @returns {string} commands of its shell; a name needs an alias first, which its shell cannot make
 */
export function pfSense(rules) {
  const names = [...new Set(rules.map(({ host }) => host).filter((host) => !isAddress(host)))];
  const lines = names.map((name) => `# Firewall > Aliases > IP: ${ALIAS} = Host(s) ${name}`);
  for (const { host, protocol, ports } of rules) {
    const [from, to] = isIpv6(host) ? ["::/0", host] : ["any", isAddress(host) ? host : ALIAS];
    lines.push(...ports.map((port) => `easyrule pass lan ${protocol.toLowerCase()} ${from} ${to} ${port}`));
  }
  return lines.join("\n");
}

/**
 * @param {Rule[]} rules of one host
 * @returns {string} commands of its CLI; the names of the interfaces are those of small models
 */
export function fortigate(rules) {
  const [{ host } = { host: "" }] = rules;
  const portsOf = (/** @type {string} */ wanted) => rules.find(({ protocol }) => protocol === wanted)?.ports ?? [];
  const ranges = ["TCP", "UDP"].filter((protocol) => portsOf(protocol).length > 0);
  const v6 = isIpv6(host);
  return [
    `config firewall address${v6 ? "6" : ""}`,
    '    edit "redconnect-relay"',
    ...addressOf(host).map((line) => `        ${line}`),
    "    next",
    "end",
    "config firewall service custom",
    '    edit "redconnect"',
    ...ranges.map((protocol) => `        set ${protocol.toLowerCase()}-portrange ${portsOf(protocol).join(" ")}`),
    "    next",
    "end",
    "config firewall policy",
    "    edit 0",
    '        set name "redconnect"',
    '        set srcintf "internal"',
    '        set dstintf "wan1"',
    `        set srcaddr${v6 ? "6" : ""} "all"`,
    `        set dstaddr${v6 ? "6" : ""} "redconnect-relay"`,
    '        set service "redconnect"',
    '        set schedule "always"',
    "        set action accept",
    ...(v6 ? [] : ["        set nat enable"]),
    "    next",
    "end",
  ].join("\n");
}

/**
 * @param {string} host
 * @returns {string[]}
 */
function addressOf(host) {
  if (isIpv6(host)) return [`set ip6 ${host}/128`];
  if (isAddress(host)) return [`set subnet ${host} 255.255.255.255`];
  return ["set type fqdn", `set fqdn "${host}"`];
}

/** @param {string} host */
function isIpv6(host) {
  return host.includes(":");
}
