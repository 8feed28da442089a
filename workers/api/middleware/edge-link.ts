// Which provider's edge forwarded a request, where it proves so. Called by app.ts for the log line; it opens nothing: a request
// that an edge forwarded has the same rights as every other with its credential.

const providerPattern = /^[a-z0-9-]{1,32}$/;

/**
 * The provider's name, where the request carries the secret that this worker shares with the edge (docs/edge/SERVING.md); null
 * for every other request, whatever it says of itself. `secret` "" is no secret.
 */
export function forwardedBy(headers: Headers, secret: string): string | null {
  const given = headers.get("maestro-edge-link");
  const provider = headers.get("maestro-edge-provider") ?? "";
  if (secret === "" || given === null || !sameText(given, secret)) return null;
  return providerPattern.test(provider) ? provider : null;
}

/** In a time that depends on the lengths alone. */
function sameText(given: string, wanted: string): boolean {
  if (given.length !== wanted.length) return false;
  let difference = 0;
  for (let at = 0; at < given.length; at += 1) difference |= given.charCodeAt(at) ^ wanted.charCodeAt(at);
  return difference === 0;
}
