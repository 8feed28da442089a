// Writes compact JWS over JSON claims, by ES256: what JWT-SVIDs and workers' attestations are. Called by issue-svid.ts and by
// shared/identity/platform.

import { base64, utf8 } from "../../contract/bytes.ts";

export const base64Url = (bytes: Uint8Array): string =>
  base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** `sign`: 64 raw bytes over SHA-256 of what it is given (RFC 7518 3.4). */
export async function compactJws(
  kid: string,
  claims: object,
  sign: (bytes: Uint8Array<ArrayBuffer>) => Promise<Uint8Array>,
): Promise<string> {
  const part = (value: object): string => base64Url(utf8(JSON.stringify(value)));
  const signed = `${part({ alg: "ES256", kid, typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${base64Url(await sign(utf8(signed)))}`;
}
