/**
 * Asks the service for a test.
 */

const ADDRESS = "/api/v1/connection-test";
export const ASK_MS = 3_000;

/**
 * @returns {Promise<{ test: import("./test_machine.js").Test } | { refused: import("./test_machine.js").Problem["code"], seconds: number }>}
 */
export async function askForTest() {
  let response;
  try {
    response = await fetch(ADDRESS, { method: "POST", signal: AbortSignal.timeout(ASK_MS) });
    if (response.ok) return { test: await response.json() };
  } catch (error) {
    console.warn("connection test: no answer of the service", error.name);
    return { refused: "unreachable", seconds: 0 };
  }
  if (response.status === 404) return { refused: "no_relay", seconds: 0 };
  if (response.status === 429) return { refused: "rate_limited", seconds: Number(response.headers.get("Retry-After")) || 1 };
  return { refused: "unreachable", seconds: 0 };
}
