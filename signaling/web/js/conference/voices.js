/**
 * The voices of a conference: each has an element of its own, also of those whose tile is on another page.
 */

import { streamTrack } from "./tile.js";

export class Voices {
  #refused;
  /** @type {Map<string, HTMLAudioElement>} by participant */ #playing = new Map();
  #speaker = "";

  /** @param {() => void} refused the browser does not play before the person has touched the page: then `play` is due */
  constructor(refused) {
    this.#refused = refused;
  }

  /**
   * @param {{ pid: string, track: MediaStreamTrack }[]} heard
   * @param {string} speaker id of the loudspeaker; empty for the one of the system
   */
  render(heard, speaker) {
    for (const [pid, voice] of this.#playing) {
      if (heard.some((each) => each.pid === pid)) continue;
      voice.srcObject = null;
      this.#playing.delete(pid);
    }
    for (const { pid, track } of heard) {
      const voice = this.#playing.get(pid) ?? new Audio();
      const isNew = !this.#playing.has(pid);
      this.#playing.set(pid, voice);
      if (isNew && speaker !== "") useSpeaker(voice, speaker);
      if (streamTrack(voice) === track) continue;
      voice.srcObject = new MediaStream([track]);
      this.#play(voice);
    }
    if (speaker === this.#speaker) return;
    this.#speaker = speaker;
    for (const voice of this.#playing.values()) useSpeaker(voice, speaker);
  }

  /** The person has touched the page. */
  play() {
    for (const voice of this.#playing.values()) this.#play(voice);
  }

  clear() {
    for (const voice of this.#playing.values()) voice.srcObject = null;
    this.#playing.clear();
  }

  /** @param {HTMLAudioElement} voice */
  #play(voice) {
    voice.play().catch((error) => {
      if (error.name === "NotAllowedError") this.#refused(); // else it was replaced by the next stream meanwhile
    });
  }
}

/**
 * @param {HTMLAudioElement} voice
 * @param {string} speaker
 */
function useSpeaker(voice, speaker) {
  // If it does not open, the stage tells so: it has tried it, too. The voice is heard by the one of the system.
  voice.setSinkId?.(speaker).catch((error) => console.warn("conference: loudspeaker refused by the browser", error.name));
}
