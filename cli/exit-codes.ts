// The exit codes of `maestro`, their words, and which HTTP status becomes which. Used by every failure and by
// `maestro help exit-codes`; README has the same table.

export const exitCodes = {
  ok: [0, "done"],
  failure: [1, "something failed on this machine, or the API broke (500)"],
  usage: [2, "the command, its arguments or what was sent are not usable (400, 406, 413, 415, 422, 428)"],
  denied: [3, "not logged in, or the policy says no (401, 403)"],
  not_found: [4, "there is no such thing, or no longer (404, 410)"],
  conflict: [5, "it collides with what is there already (409, 412)"],
  unavailable: [6, "the API cannot be reached or asks to wait (network, 429, 502, 503, 504)"],
  verification_failed: [7, "a signature, digest or log does not verify"],
  not_current: [8, "not every instance of the fleet runs what is published, or `--wait` ran out"],
  package_failed: [10, "the package ran, and its own run failed"],
  interrupted: [130, "interrupted by Ctrl-C or SIGTERM"],
} as const satisfies Record<string, readonly [code: number, words: string]>;

export type ExitName = keyof typeof exitCodes;

export const exitCodeOf = (name: ExitName): number => exitCodes[name][0];

export function exitNameOfStatus(status: number): ExitName {
  if (status === 401 || status === 403) return "denied";
  if (status === 404 || status === 410) return "not_found";
  if (status === 409 || status === 412) return "conflict";
  if (status === 429 || status === 502 || status === 503 || status === 504) return "unavailable";
  return status >= 400 && status < 500 ? "usage" : "failure";
}
