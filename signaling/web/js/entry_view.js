/**
 * The light pages: the form before the room, and the words after it.
 */

import { MAX_NAME_LENGTH, cleanName, formatCode, normaliseCode, parseCode, parseFragment } from "./codes.js";
import { byId } from "./elements.js";
import { germanTime, hasText, text } from "./texts.js";

const FIELDS_OF_PROBLEMS = { unknown_code: "code", code_missing: "code", name_missing: "name" };

/**
 * @typedef {object} EntryHandlers
 * @property {(entry: { code: string, name: string }) => void} join with a code whose check symbol is right
 * @property {() => void} cancel
 * @property {() => void} rejoin
 * @property {() => void} otherCode
 * @property {(words: string) => void} announce
 */

export class EntryView {
  /** @type {EntryHandlers} */ #handlers;
  #entry = byId("entry");
  #join = byId("join");
  #ended = byId("ended");
  #form = /** @type {HTMLFormElement} */ (byId("join-form"));
  #name = /** @type {HTMLInputElement} */ (byId("name"));
  #code = /** @type {HTMLInputElement} */ (byId("code"));
  #button = /** @type {HTMLButtonElement} */ (byId("join-button"));
  #cancel = byId("cancel-button");
  #check = byId("check-button");
  #problem = byId("form-problem");
  #words = byId("error-text");
  #retry = byId("retry-text");
  #endedText = byId("ended-text");
  #countdownTimer = 0;
  /** What is shown now, so that the same problem is neither announced nor focused twice. */
  #shownProblem = "";
  #shownPhase = "";
  #busy = false;
  /** What the room has to say of the last attempt. @type {import("./room_machine.js").Problem | null} */ #roomProblem = null;
  /** Found here, without asking anybody: it stands until the next attempt, whatever the room renders meanwhile. @type {import("./room_machine.js").Problem | null} */
  #ownProblem = null;
  /** It was said of a code that is not in the form any more. @type {import("./room_machine.js").Problem | null} */ #outdated = null;
  /** The browser cannot do what a call needs. */ #refused = false;
  /** When the room closes, UTC. */ #end = "";

  /** @param {EntryHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#code.addEventListener("input", () => this.#regroup());
    this.#code.addEventListener("paste", (event) => this.#paste(event));
    for (const field of [this.#name, this.#code]) {
      field.addEventListener("input", () => field.removeAttribute("aria-invalid"));
    }
    this.#cancel.addEventListener("click", () => handlers.cancel());
    byId("rejoin-button").addEventListener("click", () => handlers.rejoin());
    byId("other-code-button").addEventListener("click", () => handlers.otherCode());
  }

  /**
   * Fill the fields from a link, and go where the next step is.
   *
   * @param {{ code: string, name: string }} entry
   */
  prefill({ code, name }) {
    if (!this.#refused) this.#ownProblem = null;
    this.#outdated = this.#roomProblem;
    this.#roomProblem = null;
    this.#showProblem(this.#ownProblem);
    this.#code.value = formatCode(code);
    if (name !== "") this.#name.value = name;
    (this.#name.value === "" ? this.#name : this.#button).focus();
  }

  /** A browser that lacks what a call needs. */
  refuseBrowser() {
    this.#refused = true;
    this.#button.disabled = true;
    this.#check.hidden = true; // there is no room to try the devices for
    this.#tellOwn(window.isSecureContext ? "old_browser" : "insecure");
  }

  /** Something that the next step needs could not be fetched. */
  tellFailure() {
    this.#shownProblem = ""; // the same once more is told once more
    this.#showProblem({ code: "unexpected", retryAt: null });
  }

  /** Say everything anew, in the language that is in use now. */
  retell() {
    this.#sayFixed();
    this.#showProblem(this.#ownProblem ?? this.#roomProblem);
  }

  #sayFixed() {
    this.#button.textContent = text(this.#busy ? "joining" : "join");
    this.#endedText.textContent = text("ended", { end: text("ended_until", germanTime(this.#end)) });
  }

  /**
   * @param {Pick<import("./room_machine.js").RoomView, "phase" | "problem" | "seat">} view
   */
  render({ phase, problem, seat }) {
    this.#entry.hidden = phase === "room";
    this.#join.hidden = phase === "ended";
    this.#ended.hidden = phase !== "ended";
    const before = this.#shownPhase;
    const arrived = phase !== before;
    this.#shownPhase = phase;
    this.#busy = phase === "joining";
    if (phase === "ended") this.#end = seat?.end ?? "";
    this.#sayFixed();
    this.#button.setAttribute("aria-disabled", String(this.#busy));
    this.#name.readOnly = this.#code.readOnly = this.#busy;
    this.#cancel.hidden = !this.#busy;
    if (phase === "ended" && arrived) this.#endedText.focus();
    const ofForm = (phase === "form" || phase === "joining") && problem !== this.#outdated;
    this.#roomProblem = ofForm ? problem : null;
    const shown = this.#ownProblem ?? this.#roomProblem;
    this.#showProblem(shown);
    if (!arrived || shown !== null) return;
    if (phase === "form" && before === "ended") this.#code.value = ""; // another one is to come
    // The button that was pressed is hidden now.
    if (phase === "form" && before !== "") (this.#name.value === "" ? this.#name : this.#code).focus();
    if (phase === "joining" && before === "ended") this.#button.focus();
  }

  #submit() {
    if (this.#busy) return;
    this.#shownProblem = ""; // the same problem once more is told once more
    this.#ownProblem = null;
    const name = cleanName(this.#name.value.slice(0, MAX_NAME_LENGTH));
    if (name === "") {
      this.#tellOwn("name_missing");
      return;
    }
    if (normaliseCode(this.#code.value) === "") {
      this.#tellOwn("code_missing");
      return;
    }
    const code = parseCode(this.#code.value);
    if (code === null) {
      // The check symbol is wrong: told here, without asking the server.
      this.#tellOwn("unknown_code");
      return;
    }
    this.#code.value = formatCode(code.text);
    this.#handlers.join({ code: code.text, name });
  }

  /** @param {string} code of a problem that was found here */
  #tellOwn(code) {
    this.#ownProblem = { code, retryAt: null };
    this.#showProblem(this.#ownProblem);
  }

  /**
   * @param {import("./room_machine.js").Problem | null} problem
   */
  #showProblem(problem) {
    clearInterval(this.#countdownTimer);
    const key = problem === null ? "" : JSON.stringify([problem.code, problem.retryAt]);
    const isNew = key !== this.#shownProblem;
    this.#shownProblem = key;
    this.#problem.hidden = problem === null;
    if (isNew) for (const field of [this.#name, this.#code]) this.#mark(field, false);
    if (problem === null) return;
    if (this.#words.parentElement?.closest("form") === null) this.#problem.querySelector(".problem-words")?.prepend(this.#words);

    const show = () => {
      const seconds = problem.retryAt === null ? 0 : Math.ceil((problem.retryAt - performance.now()) / 1000);
      const retries = this.#busy && problem.retryAt !== null;
      this.#words.textContent = problemWords(problem, seconds, retries);
      this.#retry.hidden = !retries;
      this.#retry.textContent = retries ? text(seconds > 0 ? "retry_in" : "retry_now", { seconds }) : "";
      if (seconds <= 0) clearInterval(this.#countdownTimer);
    };
    if (problem.retryAt !== null) this.#countdownTimer = setInterval(show, 500);
    show();
    if (!isNew) return;

    const field = FIELDS_OF_PROBLEMS[problem.code] === "name" ? this.#name : FIELDS_OF_PROBLEMS[problem.code] ? this.#code : null;
    if (field !== null) {
      this.#mark(field, true);
      field.focus();
      if (field === this.#code) field.select();
    } else if (!this.#busy) {
      this.#problem.focus();
    }
    this.#handlers.announce([this.#words.textContent, this.#retry.textContent].join(" "));
  }

  /**
   * @param {HTMLInputElement} field
   * @param {boolean} invalid
   */
  #mark(field, invalid) {
    field.toggleAttribute("aria-invalid", false);
    field.setAttribute("aria-describedby", invalid ? `error-text ${field.id}-hint` : `${field.id}-hint`);
    if (invalid) field.setAttribute("aria-invalid", "true");
  }

  /** Group the code while it is typed, and keep the caret behind the symbol it was behind. */
  #regroup() {
    const caret = this.#code.selectionStart ?? this.#code.value.length;
    const before = normaliseCode(this.#code.value.slice(0, caret)).length;
    const grouped = formatCode(this.#code.value);
    if (grouped === this.#code.value) return;
    this.#code.value = grouped;
    const position = before + Math.floor(Math.max(0, before - 1) / 4);
    this.#code.setSelectionRange(position, position);
  }

  /**
   * Somebody who was told a link and pastes all of it means the code in it.
   *
   * @param {ClipboardEvent} event
   */
  #paste(event) {
    const pasted = event.clipboardData?.getData("text") ?? "";
    const at = pasted.indexOf("#");
    const entry = at < 0 ? null : parseFragment(pasted.slice(at).trim());
    if (entry === null) return;
    event.preventDefault();
    this.prefill({ code: entry.code, name: this.#name.value === "" ? entry.name : "" });
  }
}

/**
 * @param {import("./room_machine.js").Problem} problem
 * @param {number} seconds until the next attempt
 * @param {boolean} retries the page tries again by itself
 * @returns {string}
 */
function problemWords(problem, seconds, retries) {
  if (problem.code === "old_browser") return text("old_browser");
  if (problem.code === "rate_limited" && retries) return text("error_rate_limited_waiting");
  if (problem.code === "rate_limited" && seconds <= 0) return text("error_rate_limited_over");
  const key = `error_${problem.code}`;
  const { date, time } = germanTime(problem.start ?? "");
  return text(hasText(key) ? key : "error_unexpected", { date, time, seconds, limit: problem.limit ?? 2 });
}
