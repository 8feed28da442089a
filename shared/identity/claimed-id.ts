// Whose SVID it says that it is, before anything of it is verified: by that the verifier finds the bundle to verify it with.
// Called by provider edges. Nothing may be decided by a claim alone.

import { base64Bytes, utf8Text } from "../contract/bytes.ts";
import { certificateOf } from "./certificate.ts";
import { tokenCharactersMax } from "./jwt-svid.ts";
import { checkedNow, refuse, type Checked } from "./refusal.ts";
import { spiffeIdOf, type SpiffeId } from "./spiffe-id.ts";
import { membersOf } from "./strict-json.ts";

/** The `sub` of a token; null where it is none that begins with `spiffe://`: then it is no JWT-SVID. */
export function claimedIdOfToken(token: string): Checked<SpiffeId> | null {
  if (token.length > tokenCharactersMax) return null;
  const [, claims = ""] = /^[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*$/.exec(token) ?? [];
  let sub: unknown;
  try {
    const padded = claims.replaceAll("-", "+").replaceAll("_", "/") + "=".repeat((4 - (claims.length % 4)) % 4);
    sub = membersOf(JSON.parse(utf8Text(base64Bytes(padded))))?.["sub"];
  } catch {
    return null;
  }
  if (typeof sub !== "string" || !sub.startsWith("spiffe://")) return null;
  return checkedNow(() => spiffeIdOf(sub));
}

/** The one URI of a leaf, in DER. */
export const claimedIdOfLeaf = (der: Uint8Array): Checked<SpiffeId> =>
  checkedNow(() => {
    const [id, second] = certificateOf(der).extensions.alternativeNames?.ids ?? [];
    if (id === undefined || second !== undefined) refuse("X509-SVID 2", "the leaf has not exactly one URI");
    return id;
  });
