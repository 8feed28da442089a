// Mints SVIDs from a small authority for development, once or again and again. Called by `maestro svid mint` and the local stack.

import { randomBytes } from "node:crypto";
import { activeKey, bundleOfState, type AuthorityState } from "../../shared/identity/issue/authority-state.ts";
import { backdateMs, issueJwtSvid, issueX509Svid } from "../../shared/identity/issue/issue-svid.ts";
import { pemOfCertificates } from "../../shared/identity/pem.ts";
import type { SpiffeId } from "../../shared/identity/spiffe-id.ts";
import { Failure } from "../failure.ts";
import { issuingKeyOf, newKeyPair } from "./authority-folder.ts";
import type { SvidFiles } from "./svid-folder.ts";

export const ttlSecondsMin = 10;
export const ttlSecondsMax = 86_400;

export interface MintWish {
  readonly id: SpiffeId;
  readonly ttlSeconds: number;
  readonly audiences: readonly string[];
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly Uint8Array[];
}

export interface Minted {
  readonly files: SvidFiles;
  readonly id: SpiffeId;
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
  /** When two thirds of its life are gone. */
  readonly renewAtMs: number;
  /** The keys that signed, by their ids. */
  readonly signers: readonly string[];
}

/** An X.509-SVID with a new key, and a JWT-SVID for each audience; all end with the authority's key at the latest. */
export async function mintSvid(state: AuthorityState, wish: MintWish, now: number): Promise<Minted> {
  if (wish.id.trustDomain !== state.trust_domain) {
    throw new Failure("usage", `The authority is of ${state.trust_domain}, and ${wish.id.uri} is not of it`);
  }
  if (wish.id.path === "") throw new Failure("usage", "An SVID's ID has a path: a trust domain alone is no workload");
  const [x509, jwt] = [activeKey(state.x509), activeKey(state.jwt)];
  // A certificate has whole seconds.
  const second = Math.floor(now / 1_000) * 1_000;
  const untilMs = Math.min(second + wish.ttlSeconds * 1_000, x509.expires_at, jwt.expires_at);
  if (untilMs < second + ttlSecondsMin * 1_000) {
    throw new Failure("conflict", "The authority's own key ends too soon to sign anything more", {
      advice: "Give it a new one: prepare it, and when all believe it, activate it.",
    });
  }
  const fromMs = second - backdateMs;
  const pair = newKeyPair();
  const { id, dnsNames, ipAddresses } = wish;
  const leaf = await issueX509Svid(
    await issuingKeyOf(x509),
    {
      spiffeId: id.uri,
      spki: pair.spki,
      ...(dnsNames === undefined ? {} : { dnsNames }),
      ...(ipAddresses === undefined ? {} : { ipAddresses }),
    },
    { fromMs, untilMs, serial: randomBytes(16) },
  );
  const jwtKey = { ...(await issuingKeyOf(jwt)), kid: jwt.id };
  const tokens = await Promise.all(
    wish.audiences.map(async (audience) => ({
      audience,
      token: await issueJwtSvid(jwtKey, { spiffeId: id.uri, audience }, { fromMs: second, untilMs }),
    })),
  );
  return {
    files: { chainPem: pemOfCertificates([leaf]), keyPem: pair.pem, bundle: bundleOfState(state), tokens },
    id,
    issuedAtMs: fromMs,
    expiresAtMs: untilMs,
    renewAtMs: second + Math.floor(((untilMs - second) * 2) / 3),
    signers: [x509.id, jwt.id],
  };
}

/** Why an SVID is minted again now, or null. What was signed by a key that is tainted or gone is minted again at once. */
export function whyMintAgain({ signers, renewAtMs }: Minted, state: AuthorityState, now: number): string | null {
  const keys = [...state.x509, ...state.jwt];
  for (const signer of signers) {
    const key = keys.find(({ id }) => id === signer);
    if (key === undefined) return "the key that signed it is revoked";
    if (key.state === "tainted") return "the key that signed it is tainted";
  }
  return now >= renewAtMs ? "two thirds of its life are gone" : null;
}
