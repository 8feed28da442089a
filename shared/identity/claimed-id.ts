// What an SVID says of itself, and whose it says that it is, before anything of it is verified: by that the verifier finds the bundle to
// verify it with. Called by the API's door, by provider edges, and by whoever holds an SVID. Nothing may be decided by a claim alone.

import { base64Bytes, utf8Text } from "../contract/bytes.ts";
import { certificateOf } from "./certificate.ts";
import { tokenCharactersMax } from "./jwt-svid.ts";
import { checkedNow, refuse, type Checked } from "./refusal.ts";
import { spiffeIdOf, type SpiffeId } from "./spiffe-id.ts";
import { membersOf } from "./strict-json.ts";

type Members = Readonly<Record<string, unknown>>;

/** Header and claims of what has the form of a JWT; null where they cannot be read. */
export function claimsOfToken(token: string): { readonly header: Members | null; readonly claims: Members } | null {
  if (token.length > tokenCharactersMax) return null;
  const [header = "", claims = "", ...rest] = token.split(".", 4);
  const read = rest.length === 1 ? jsonMembers(claims) : null;
  return read === null ? null : { header: jsonMembers(header), claims: read };
}

function jsonMembers(part: string): Members | null {
  const padded = part.replaceAll("-", "+").replaceAll("_", "/") + "=".repeat((4 - (part.length % 4)) % 4);
  try {
    return membersOf(JSON.parse(utf8Text(base64Bytes(padded))));
  } catch {
    // Not a JWT: it is for others to say so.
    return null;
  }
}

/** The `sub` of a token; null where it is none that begins with `spiffe://`: then it is no JWT-SVID. */
export function claimedIdOfToken(token: string): Checked<SpiffeId> | null {
  const sub = claimsOfToken(token)?.claims["sub"];
  return typeof sub === "string" && sub.startsWith("spiffe://") ? checkedNow(() => spiffeIdOf(sub)) : null;
}

/** The one URI of a leaf, in DER. */
export const claimedIdOfLeaf = (der: Uint8Array): Checked<SpiffeId> =>
  checkedNow(() => {
    const [id, second] = certificateOf(der).extensions.alternativeNames?.ids ?? [];
    if (id === undefined) refuse("X509-SVID 2", "the leaf has no URI");
    if (second !== undefined) refuse("X509-SVID 2", "the leaf has more than one URI");
    return id;
  });
