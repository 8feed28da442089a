// The authority of the platform's own workers: issues a JWT-SVID to whoever proves to be one, and writes the bundle that all check
// them by. Called by the signer's entrypoint AuthorityService; its keys are in a ring (shared/rotation), which signs.

import { base64Bytes } from "../../contract/bytes.ts";
import type { Clock } from "../../contract/ports.ts";
import type { Signer } from "../../signing/keys.ts";
import { writeBundle, svidClaims } from "../issue/issue-svid.ts";
import { compactJws } from "../issue/jws.ts";
import { checkAttestation, rawSignature, type Attested, type WorkerKeys } from "./attestation.ts";
import { platformId } from "./names.ts";
import type { AuthorityBundle, Issued } from "./service.ts";

export const svidLifeMs = 300_000;
const refreshHintSeconds = 10;

export interface AuthorityParts {
  readonly clock: Clock;
  readonly trustDomain: string;
  /** Whose public key is whose. */
  readonly workerKeys: () => Promise<WorkerKeys>;
  /** What `work` makes with the key that signs now; made anew where that rotated under it. `at`: ms since 1970 UTC. */
  readonly signed: <T>(at: number, work: (signer: Signer) => Promise<T>) => Promise<T>;
}

export async function issueToWorker(parts: AuthorityParts, attestation: unknown): Promise<Issued> {
  const now = parts.clock();
  const attested = await checkAttestation(await parts.workerKeys(), parts.trustDomain, attestation, now);
  return attested.ok ? await mintFor(parts, attested) : attested;
}

/** For the signer itself, in whose script the authority is: there is nobody in between to be convinced. */
export async function mintFor(
  { clock, trustDomain, signed }: Omit<AuthorityParts, "workerKeys">,
  { self, audience }: Attested,
): Promise<Extract<Issued, { ok: true }>> {
  const now = clock();
  const svid = { spiffeId: platformId(trustDomain, self).uri, audience: platformId(trustDomain, audience).uri };
  const claims = svidClaims(svid, { fromMs: now, untilMs: now + svidLifeMs });
  const token = await signed(now, (signer) =>
    compactJws(signer.kid, claims, async (bytes) => rawSignature(await signer.sign(bytes))),
  );
  return { ok: true, svid: token, until_ms: now + svidLifeMs };
}

/** A key of the ring that was published once. */
export interface AuthorityKey {
  readonly kid: string;
  /** SPKI DER in base64. */
  readonly spki: string;
  readonly active: boolean;
  /** Since when it signs; null: not yet. */
  readonly since: string | null;
  /** Nothing that it signed is believed any more. */
  readonly revoked: boolean;
}

/**
 * What SVIDs are checked by: all keys but revoked ones, in the order of their kids. The sequence rises with each key that is
 * published and with each that is revoked: nothing else changes the document.
 */
export function bundleOfKeys(keys: readonly AuthorityKey[]): AuthorityBundle {
  const active = keys.find((key) => key.active);
  if (active === undefined || active.since === null) throw new TypeError("the authority has no key that signs");
  const believed = keys.filter(({ revoked }) => !revoked);
  const document = writeBundle({
    sequence: keys.length + (keys.length - believed.length),
    refreshHintSeconds,
    x509: [],
    jwt: believed
      .toSorted((left, right) => (left.kid < right.kid ? -1 : 1))
      .map(({ kid, spki }) => ({ kid, spki: base64Bytes(spki) })),
  });
  return { document, active: active.kid, active_since: active.since };
}
