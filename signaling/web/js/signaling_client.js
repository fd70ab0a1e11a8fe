/**
 * The WebSocket to the server: joins a seat, takes it back after an interruption, hands messages out.
 *
 * A lost socket is nobody's fault and no event of the call: it comes back by itself with growing pauses.
 */

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
const OPENING_TIMEOUT_MS = 10_000;
const STEADY_AFTER_MS = 10_000; // a socket that lived this long starts the pauses anew
const DRAIN_SPREAD_MS = 2_000;

const MAX_ICE_SERVERS = 8;
const MAX_FAILED_PROBES = 2; // in a row, then the present socket is taken for dead, too

/** Errors that pass by themselves. */
export const PASSING_ERRORS = new Set(["overload", "rate_limited"]);

/**
 * @typedef {object} Seat
 * @property {string} room
 * @property {string} pid
 * @property {"organiser" | "participant"} role
 * @property {string} tier
 * @property {string[]} features
 * @property {string} start UTC instant
 * @property {string} end UTC instant
 * @property {string} resume
 * @property {RTCIceServer[]} ice
 * @property {unknown} [conference] of an appointment of more than two: `conference/server_messages.js` reads it
 *
 * @typedef {object} Refusal
 * @property {string} code
 * @property {number} [retry_after] seconds
 * @property {string} [start] UTC instant
 * @property {number} [limit]
 *
 * @typedef {object} SignalingHandlers
 * @property {(seat: Seat) => void} joined
 * @property {(peer: { pid: string, role: string, present: boolean, since: string | null, index?: unknown, admitted?: unknown }) => void}
 *   peer `since`: UTC instant since which it has been waiting for the one of this page; `index`, `admitted`: of conferences
 * @property {(from: string, blob: unknown) => void} relay
 * @property {(servers: RTCIceServer[]) => void} ice the servers of the seat, with a fresh credential
 * @property {(message: Record<string, unknown>) => void} [conference] what only conferences know: may be anything
 * @property {(refusal: Refusal, retryInMs: number | null) => void} refused with the pause before the next attempt by itself
 * @property {(retryInMs: number) => void} away the socket is lost; the pause before the next attempt
 */

export class SignalingClient {
  #url;
  #locator;
  #resume;
  /** @type {SignalingHandlers} */ #handlers;
  /** @type {WebSocket | null} */ #socket = null;
  /** The socket that is about to take the seat over. @type {WebSocket | null} */ #next = null;
  #joined = false;
  #stopped = false;
  #draining = false;
  /** The server has said when to come again. */
  #toldToWait = false;
  #failures = 0;
  #failedProbes = 0;
  #retryTimer = 0;
  #openingTimer = 0;
  #steadyTimer = 0;
  #onOnline = () => {
    this.#failures = 0; // of another network
    this.probe();
  };

  /**
   * @param {{ url: string, locator: string, resume: string | null, handlers: SignalingHandlers }} options
   */
  constructor({ url, locator, resume, handlers }) {
    this.#url = url;
    this.#locator = locator;
    this.#resume = resume;
    this.#handlers = handlers;
  }

  /** Open the socket; from now on the client stays connected until `leave` or `stop`. */
  start() {
    window.addEventListener("online", this.#onOnline);
    this.#open();
  }

  /**
   * Send a message if the seat is taken right now. What is lost meanwhile is not kept: after an interruption the
   * participants greet each other again and repeat what still matters.
   *
   * @param {object} message
   */
  send(message) {
    if (this.#joined && this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /**
   * Take the own seat once more by a second socket, because the present one may be dead without knowing it. It stays in
   * use until the second one has the seat: nobody sees the seat empty meanwhile.
   */
  probe() {
    if (this.#stopped || this.#toldToWait || this.#next !== null) return;
    clearTimeout(this.#retryTimer);
    if (this.#joined) {
      this.#next = this.#dial();
      return;
    }
    this.#release();
    this.#open();
  }

  /** Give the seat up and stop. */
  leave() {
    this.send({ type: "leave" });
    this.stop();
  }

  /** Stop without giving the seat up. */
  stop() {
    this.#stopped = true;
    window.removeEventListener("online", this.#onOnline);
    this.#release();
  }

  #open() {
    this.#draining = this.#toldToWait = false;
    this.#socket = this.#dial();
  }

  /** @returns {WebSocket} that joins as soon as it is open */
  #dial() {
    const socket = new WebSocket(this.#url);
    // Old sockets may still deliver events after they were given up; only the current ones are heard.
    const isCurrent = () => socket === this.#socket || socket === this.#next;
    socket.onopen = () => {
      if (!isCurrent()) return;
      const join = { type: "join", loc: this.#locator };
      if (this.#resume !== null) join.resume = this.#resume;
      socket.send(JSON.stringify(join));
    };
    socket.onmessage = (event) => {
      if (isCurrent()) this.#receive(socket, event.data);
    };
    socket.onclose = () => {
      if (isCurrent()) this.#closed(socket);
    };
    this.#openingTimer = setTimeout(() => this.#lose(), OPENING_TIMEOUT_MS);
    return socket;
  }

  /** @param {WebSocket} socket */
  #closed(socket) {
    if (socket === this.#next) {
      // Turned away at the door: of a crowded server the present socket is worth keeping.
      this.#failedProbes += 1;
      this.#giveUpProbe();
      if (this.#failedProbes >= MAX_FAILED_PROBES || !navigator.onLine) this.#lose();
      else this.#retryTimer = setTimeout(() => this.probe(), this.#nextPause()); // a new network needs its time, too
    } else if (this.#next !== null) {
      this.#changeOver();
    } else {
      this.#lose();
    }
  }

  /** The way to the server is lost. */
  #lose() {
    this.#release();
    this.#comeBack(this.#draining ? Math.random() * DRAIN_SPREAD_MS : 0);
  }

  /** From now on the second socket is the only one. */
  #changeOver() {
    const old = this.#socket;
    clearTimeout(this.#steadyTimer);
    this.#socket = this.#next;
    this.#next = null;
    this.#joined = false;
    old?.close(1000);
  }

  #giveUpProbe() {
    const probe = this.#next;
    if (probe === null) return;
    clearTimeout(this.#openingTimer);
    this.#next = null;
    probe.close(1000);
  }

  /** Forget the current sockets and everything that waits for them. */
  #release() {
    this.#giveUpProbe();
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#openingTimer);
    clearTimeout(this.#steadyTimer);
    const socket = this.#socket;
    this.#socket = null;
    this.#joined = false;
    socket?.close(1000);
  }

  /** @param {number} atLeastMs */
  #comeBack(atLeastMs) {
    const pause = Math.max(atLeastMs, this.#nextPause());
    this.#handlers.away(pause);
    this.#retryAfter(pause);
  }

  /** Growing, and scattered, so that a restarted server is not met by everybody at once. */
  #nextPause() {
    const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.#failures);
    this.#failures += 1;
    return longest * (0.5 + Math.random() / 2);
  }

  /** @param {number} pauseMs */
  #retryAfter(pauseMs) {
    if (this.#stopped) return; // a handler may have ended it all
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#open(), pauseMs);
  }

  /**
   * @param {WebSocket} socket
   * @param {unknown} data
   */
  #receive(socket, data) {
    let message;
    try {
      message = JSON.parse(String(data));
    } catch {
      return;
    }
    if (typeof message !== "object" || message === null) return;
    if (socket === this.#next) {
      if (message.type === "error" && PASSING_ERRORS.has(message.code)) {
        this.#failedProbes = 0;
        this.#giveUpProbe(); // the server lives, and the seat is not in question
        return;
      }
      this.#changeOver();
    } else if (this.#next !== null && message.type === "error" && message.code === "code_in_use") {
      this.#changeOver(); // the second socket has just taken the seat from this one
      return;
    }
    switch (message.type) {
      case "joined":
        this.#take(message);
        break;
      case "peer":
        if (typeof message.pid === "string" && typeof message.role === "string") {
          const { pid, role, present, since, index, admitted } = message;
          this.#handlers.peer({ pid, role, present: present === true, since: isInstant(since) ? since : null, index, admitted });
        }
        break;
      case "relay":
        if (typeof message.from === "string") this.#handlers.relay(message.from, message.blob);
        break;
      case "ice":
        // What is in it the browser judges; nobody needs to hear of servers before there is a seat.
        if (this.#joined && Array.isArray(message.ice) && message.ice.length <= MAX_ICE_SERVERS) this.#handlers.ice(message.ice);
        break;
      case "drain":
        this.#draining = true;
        break;
      case "error":
        this.#refuse(message);
        break;
      default:
        if (this.#joined) this.#handlers.conference?.(message);
    }
  }

  /** @param {Seat} seat */
  #take(seat) {
    clearTimeout(this.#openingTimer);
    clearTimeout(this.#retryTimer);
    this.#joined = true;
    this.#failedProbes = 0;
    this.#resume = seat.resume;
    this.#steadyTimer = setTimeout(() => (this.#failures = 0), STEADY_AFTER_MS);
    this.#handlers.joined(seat);
  }

  /** @param {Refusal} refusal */
  #refuse(refusal) {
    this.#release();
    // Who has a seat to come back to comes back by itself.
    const retries = refusal.code === "overload" || (this.#resume !== null && PASSING_ERRORS.has(refusal.code));
    if (!retries) {
      this.stop();
      this.#handlers.refused(refusal, null);
      return;
    }
    const asked = typeof refusal.retry_after === "number" ? refusal.retry_after * 1000 : 0;
    // The scatter grows with the pause: a server that is too busy must not be asked by all at the same second.
    const pause = Math.max(asked * (1 + Math.random() / 4), this.#nextPause());
    this.#toldToWait = true;
    this.#handlers.refused(refusal, pause);
    this.#retryAfter(pause);
  }
}

/**
 * @param {unknown} value
 * @returns {value is string} a UTC instant as the server writes it
 */
function isInstant(value) {
  return typeof value === "string" && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(value) && !Number.isNaN(Date.parse(value));
}
