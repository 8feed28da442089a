// What the authorities of a trust domain are called: by their keys, so that neither a certificate made anew nor another `kid` makes an old
// key a new one. Called where SVIDs are verified, and by rotations of a domain's authority.

import { sha256Hex, utf8 } from "../contract/bytes.ts";
import type { JwtKey, TrustBundle } from "./trust-bundle.ts";

export type AuthoritySlot = "x509" | "jwt";

/** `kid`: lower-case hex SHA-256, of the SubjectPublicKeyInfo or as RFC 7638 has it. */
export interface AuthorityName {
  readonly slot: AuthoritySlot;
  readonly kid: string;
}

export const x509AuthorityKid = (spki: Uint8Array): Promise<string> => sha256Hex(spki);

/** RFC 7638 3: the key's required members, in the order of their names. */
export const jwtAuthorityKid = (key: JwtKey): Promise<string> =>
  sha256Hex(
    utf8(
      JSON.stringify(
        key.kty === "EC" ? { crv: key.crv, kty: key.kty, x: key.x, y: key.y } : { e: key.e, kty: key.kty, n: key.n },
      ),
    ),
  );

/** Those of a bundle, each once. */
export async function authoritiesOf({ authorities, jwtKeys }: TrustBundle): Promise<AuthorityName[]> {
  const x509 = await Promise.all(authorities.map(({ spki }) => x509AuthorityKid(spki)));
  const jwt = await Promise.all([...jwtKeys.values()].map(jwtAuthorityKid));
  return [
    ...[...new Set(x509)].map((kid) => ({ slot: "x509", kid }) as const),
    ...[...new Set(jwt)].map((kid) => ({ slot: "jwt", kid }) as const),
  ];
}

export const isAmong = (
  names: readonly { readonly slot: string; readonly kid: string }[],
  name: AuthorityName,
): boolean => names.some(({ slot, kid }) => slot === name.slot && kid === name.kid);
