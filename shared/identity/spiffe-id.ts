// SPIFFE IDs and trust domain names, read to the letter of the SPIFFE-ID standard. Called by both kinds of SVID, by trust
// bundles and by `maestro svid`. An ID is compared as text: what has two spellings is refused, not normalised.

import { checkedNow, refuse, type Checked } from "./refusal.ts";

/** A trust domain's name that was checked: `example.org`. */
export type TrustDomain = string & { readonly __trustDomain: true };

export interface SpiffeId {
  /** All of it: `spiffe://example.org/payments/api`. */
  readonly uri: string;
  readonly trustDomain: TrustDomain;
  /** With its leading slash; empty for the ID of the trust domain itself. */
  readonly path: string;
}

const scheme = "spiffe://";
/** SPIFFE-ID 2.3. All characters are ASCII, so these are bytes too. */
const idCharactersMax = 2_048;
const trustDomainCharactersMax = 255;

/** Throws a refusal. `name`: the name alone, not an ID. */
export function trustDomainOf(name: string): TrustDomain {
  if (name === "") refuse("SPIFFE-ID 2", "there is no trust domain");
  if (name.length > trustDomainCharactersMax) {
    refuse("SPIFFE-ID 2.3", `a trust domain has at most ${trustDomainCharactersMax} characters`);
  }
  // Neither userinfo, nor a port, nor percent-encoding, nor a capital letter gets through this.
  if (!/^[a-z0-9._-]+$/.test(name)) {
    refuse("SPIFFE-ID 2.1", "a trust domain has only a-z, 0-9, dots, hyphens and underscores");
  }
  return name as TrustDomain;
}

/** Throws a refusal. */
export function spiffeIdOf(text: string): SpiffeId {
  if (text.length > idCharactersMax) refuse("SPIFFE-ID 2.3", `an ID has at most ${idCharactersMax} characters`);
  if (!text.startsWith(scheme)) refuse("SPIFFE-ID 2", "an ID begins with spiffe://");
  const slash = text.indexOf("/", scheme.length);
  const trustDomain = trustDomainOf(text.slice(scheme.length, slash < 0 ? undefined : slash));
  const path = slash < 0 ? "" : text.slice(slash);
  if (path !== "") checkPath(path);
  return { uri: text, trustDomain, path };
}

function checkPath(path: string): void {
  for (const segment of path.slice(1).split("/")) {
    if (segment === "") refuse("SPIFFE-ID 2.2", "a path has no empty segment and no slash at its end");
    if (segment === "." || segment === "..") refuse("SPIFFE-ID 2.2", "a path has no dot segments");
    if (!/^[A-Za-z0-9._-]+$/.test(segment)) {
      refuse("SPIFFE-ID 2.2", "a path has only letters, digits, dots, hyphens and underscores between its slashes");
    }
  }
}

export const parseTrustDomain = (name: string): Checked<TrustDomain> => checkedNow(() => trustDomainOf(name));
export const parseSpiffeId = (text: string): Checked<SpiffeId> => checkedNow(() => spiffeIdOf(text));
