/**
 * What a page knows of one of the others in a conference.
 */

/** @typedef {import("./sealed_messages.js").Sources} Sources */

/**
 * @typedef {object} Peer
 * @property {string} role
 * @property {number} index
 * @property {boolean} admitted
 * @property {boolean} here the server says so
 * @property {boolean} stale seen before the last `joined`, not announced since
 * @property {number | null} goneAt when it is taken for gone for good, unless it has proved itself anew
 * @property {string | null} since UTC instant since which it waits
 * @property {boolean} sealed has the same secret: what it says is sealed, and what is said to it, too
 * @property {boolean} introduced has said hello by the present channel
 * @property {boolean} doubted has failed to prove the secret, and not proved it since; or has the index of somebody else
 * @property {string} safetyCode of the present channel; empty while there is none
 * @property {boolean} compared the person has compared it
 * @property {number | null} agreeAt when to try again to agree on a key
 * @property {string | null} epoch
 * @property {string} name
 * @property {Sources} sources
 * @property {import("./sealed_messages.js").SenderKey[]} early keys that came before it was known to be admitted
 */

/**
 * @param {string} role
 * @param {number} index
 * @returns {Peer}
 */
export function newPeer(role, index) {
  return {
    role,
    index,
    admitted: false,
    here: true,
    stale: false,
    goneAt: null,
    since: null,
    sealed: false,
    introduced: false,
    doubted: false,
    safetyCode: "",
    compared: false,
    agreeAt: null,
    epoch: null,
    name: "",
    sources: { camera: false, microphone: false, screen: false },
    early: [],
  };
}

/**
 * @param {Sources} said
 * @returns {Sources}
 */
export function sourcesOf({ camera, microphone, screen }) {
  return { camera, microphone, screen };
}
