// Quick links: a token that names one pack, for one tenant, for a short time. Signed and checked by the audit worker,
// which alone has the key; the grant that it names counts and tells each download. Who may use one, and why it is not a
// presigned URL: docs/adr/ADR-1216-packs-and-links.md.

import { decodeJwt, decodeProtectedHeader, errors, jwtVerify } from "jose";
import { z } from "zod";
import { base64, utf8 } from "../contract/bytes.ts";
import type { PublishedKeys } from "../contract/http-audit.ts";
import { idPattern } from "../contract/ids.ts";
import { p1363FromDer } from "../signing/ecdsa-der.ts";
import type { Signer } from "../signing/keys.ts";
import { keyFor } from "../signing/published.ts";

/** How long a link works. A range request may resume a download within it. */
export const linkLifeMs = 15 * 60_000;
export const linkAudience = "maestro-disclosure";
/** Length of a token, in characters, beyond which nothing is parsed. */
export const tokenLengthMax = 2_000;

export const linkClaims = z.strictObject({
  /** The tenant. */
  sub: z.uuid(),
  /** The grant. */
  jti: z.string().max(64),
  execution_id: z.string().max(64),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  pack_version: z.literal([2, 3]),
  /** The principal who alone may use the link, with a credential of their own. Without it the link itself is the credential. */
  audience: z.string().regex(idPattern("principal")).optional(),
  aud: z.literal(linkAudience),
  exp: z.int(),
  iat: z.int(),
});
export type LinkClaims = z.infer<typeof linkClaims>;

export async function signLink(
  signer: Signer,
  claims: Pick<LinkClaims, "sub" | "jti" | "execution_id" | "sha256" | "pack_version" | "audience">,
  now: number,
): Promise<{ token: string; expires_at: string }> {
  const issued = Math.floor(now / 1000);
  const expires = issued + linkLifeMs / 1000;
  const { sub, jti, ...own } = claims;
  const header = { alg: "ES256", kid: signer.kid, typ: "JWT" };
  const payload = { ...own, sub, jti, aud: linkAudience, iat: issued, exp: expires };
  const signed = [header, payload].map((part) => base64Url(utf8(JSON.stringify(part)))).join(".");
  // RFC 7518, 3.4: r and s, not the DER that a signer gives.
  const signature = p1363FromDer(await signer.sign(utf8(signed)));
  if (signature === null) throw new TypeError("links are signed with P-256");
  const token = `${signed}.${base64Url(signature)}`;
  return { token, expires_at: new Date(expires * 1000).toISOString() };
}

const base64Url = (bytes: Uint8Array): string =>
  base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

export type OpenedLink =
  | { readonly ok: true; readonly claims: LinkClaims }
  | { readonly ok: false; readonly code: "link_invalid" | "link_expired" };

/**
 * Opens a link that was signed by a link key of the set: the current one, or one that was retired after it signed, so that
 * a rotation ends no link before its time. A key that was revoked opens nothing.
 */
export async function openLink(keys: PublishedKeys, token: string, now: number): Promise<OpenedLink> {
  if (token.length > tokenLengthMax) return { ok: false, code: "link_invalid" };
  try {
    const { kid } = decodeProtectedHeader(token);
    const { iat } = decodeJwt(token);
    const entry = keys.keys.find((key) => key.use === "link" && key.kid === kid);
    const key = entry === undefined ? null : await keyFor(keys, "link")(entry.kid);
    // To the second: a token's times have no milliseconds.
    const end = entry?.not_after === undefined ? Infinity : Math.floor(Date.parse(entry.not_after) / 1000);
    const isRevoked = entry?.revoked_at !== undefined;
    if (key === null || isRevoked || typeof iat !== "number" || iat > end) return { ok: false, code: "link_invalid" };
    const { payload } = await jwtVerify(token, key as Parameters<typeof jwtVerify>[1], {
      algorithms: ["ES256"],
      audience: linkAudience,
      requiredClaims: ["exp", "iat", "sub", "jti"],
      currentDate: new Date(now),
    });
    const claims = linkClaims.safeParse(payload);
    return claims.success ? { ok: true, claims: claims.data } : { ok: false, code: "link_invalid" };
  } catch (error) {
    if (error instanceof errors.JWTExpired) return { ok: false, code: "link_expired" };
    if (error instanceof errors.JOSEError || error instanceof TypeError) return { ok: false, code: "link_invalid" };
    throw error;
  }
}
