/**
 * Access codes: twelve Crockford base-32 symbols, shown `LLLL-LLSS-SSSC`.
 *
 * Six symbols of locator, five of secret, one check symbol. Only the locator ever leaves this page.
 */

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LOCATOR_SYMBOLS = 6;
const SECRET_SYMBOLS = 5;
const CODE_SYMBOLS = LOCATOR_SYMBOLS + SECRET_SYMBOLS + 1;
const GROUP_SYMBOLS = 4;
const MAX_TYPED_CHARACTERS = 64; // twelve symbols and generous spacing

/** Blanks and dashes. These and no others: `signaling/codes.py` reads codes in just the same way. */
const IGNORED = /[ \t\r\n\u00a0\u202f\u2009\-\u2010-\u2014\u2212]/g;

/** x⁵+x²+1, the polynomial of GF(2⁵). */
const FIELD_POLYNOMIAL = 0b100101;

/** The longest name that a link, a form or a partner may give, in UTF-16 code units. */
export const MAX_NAME_LENGTH = 100;

const BREAKS = /[\p{Cc}\u2028\u2029]/gu;

/**
 * What has no width of its own, or turns the direction of a line: a name could hide or reverse the text beside it. Only
 * the joiners between two letters stay, because some scripts are written with them.
 */
const UNSEEN_CHARACTERS = /(\p{L}\p{M}*[\u200c\u200d](?=\p{L}))|[\p{Cf}\p{Default_Ignorable_Code_Point}]/gu;

/**
 * @typedef {object} AccessCode
 * @property {string} locator six symbols, the part that the server is told
 * @property {string} secret five symbols, never sent anywhere
 * @property {string} check the check symbol
 * @property {string} text all twelve symbols without dashes
 */

/**
 * Read symbols as people type them: any case, blanks and dashes anywhere, O for 0, I and L for 1.
 *
 * Foreign symbols stay, so that a typist sees the mistake instead of missing a symbol.
 *
 * @param {string} text
 * @returns {string}
 */
export function normaliseCode(text) {
  return text
    .replace(IGNORED, "")
    .replace(/[a-z]/g, (letter) => letter.toUpperCase()) // of other scripts ß or ı would become symbols
    .replace(/O/g, "0")
    .replace(/[IL]/g, "1");
}

/**
 * The check symbol of the first eleven: it finds every single wrong symbol and every swap of neighbours.
 *
 * @param {string} elevenSymbols normalised
 * @returns {string | null} null if there are not eleven symbols of the alphabet
 */
export function checkSymbol(elevenSymbols) {
  if (elevenSymbols.length !== CODE_SYMBOLS - 1) return null;
  let check = 0;
  for (const symbol of elevenSymbols) {
    const value = ALPHABET.indexOf(symbol);
    if (value < 0) return null;
    check = (check ^ value) << 1;
    if (check & 0b100000) check ^= FIELD_POLYNOMIAL;
  }
  return ALPHABET[check];
}

/**
 * @param {string} text as typed
 * @returns {AccessCode | null} null if the length, a symbol or the check symbol is wrong
 */
export function parseCode(text) {
  if ([...text].length > MAX_TYPED_CHARACTERS) return null;
  const symbols = normaliseCode(text);
  if (symbols.length !== CODE_SYMBOLS) return null;
  const check = symbols[CODE_SYMBOLS - 1];
  if (checkSymbol(symbols.slice(0, -1)) !== check) return null;
  return {
    locator: symbols.slice(0, LOCATOR_SYMBOLS),
    secret: symbols.slice(LOCATOR_SYMBOLS, LOCATOR_SYMBOLS + SECRET_SYMBOLS),
    check,
    text: symbols,
  };
}

/**
 * Group what has been typed so far by dashes: `7kq2 m4` becomes `7KQ2-M4`.
 *
 * @param {string} text
 * @returns {string}
 */
export function formatCode(text) {
  const symbols = normaliseCode(text);
  const groups = [];
  for (let i = 0; i < symbols.length; i += GROUP_SYMBOLS) groups.push(symbols.slice(i, i + GROUP_SYMBOLS));
  return groups.join("-");
}

/**
 * A name as it may be shown: without unseen characters, inner blanks single, cut to the bound.
 *
 * @param {string} text
 * @returns {string} empty if there is no letter and no digit in it
 */
export function cleanName(text) {
  const seen = text.replace(BREAKS, " ").replace(UNSEEN_CHARACTERS, "$1").replace(/\s+/gu, " ").trim();
  // Cutting may split a surrogate pair; its lonely half would be shown as a box.
  const name = seen.slice(0, MAX_NAME_LENGTH).replace(/[\ud800-\udbff]$/, "").trim();
  return /[\p{L}\p{N}]/u.test(name) ? name : "";
}

/**
 * Read `#LLLLLLSSSSSC[.base64url(name)]` of a link.
 *
 * A code with a wrong check symbol is returned all the same: the form shows it and says what is wrong.
 *
 * @param {string} hash with or without the leading `#`
 * @returns {{ code: string, name: string } | null} null if there is no code in it
 */
export function parseFragment(hash) {
  const match = /^#?([0-9A-Za-z-]{12,16})(?:\.([0-9A-Za-z_-]{0,600}))?$/.exec(hash);
  if (match === null) return null;
  const code = normaliseCode(match[1]);
  if (code.length !== CODE_SYMBOLS) return null;
  return { code, name: decodeName(match[2] ?? "") };
}

/**
 * @param {string} base64url
 * @returns {string} empty if it is not base64url of UTF-8: a broken name must not stop a good code
 */
function decodeName(base64url) {
  try {
    const bytes = Uint8Array.from(atob(base64url.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    return cleanName(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return "";
  }
}
