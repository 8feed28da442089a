// What becomes of a bundle document that was handed in or fetched: the row that is to be kept, or why it is refused. Pure; whoever
// keeps it compares what it was decided on (`HeldBundle`) with what stands there then.

import { sha256Hex } from "../contract/bytes.ts";
import type { BundleTaken } from "../contract/http-identity.ts";
import { isoTime } from "../contract/iso-time.ts";
import { emptyBundleState, receiveBundle } from "./bundle-state.ts";
import type { Certificate } from "./certificate.ts";
import type { Checked } from "./refusal.ts";
import type { TrustDomain } from "./spiffe-id.ts";
import type { TrustBundle } from "./trust-bundle.ts";

/** What decides whether a document may follow. */
export interface HeldBundle {
  readonly sha256: string | null;
  readonly sequence_max: number | null;
  readonly sequence_max_sha256: string | null;
}

export interface ReceivedBundle {
  readonly document: string;
  readonly bundle: TrustBundle;
  readonly sequence_max: number | null;
  readonly sequence_max_sha256: string | null;
  /** The X.509 authority that ends first; null where there is none. */
  readonly first: Pick<Certificate, "notBeforeMs" | "notAfterMs"> | null;
}

export async function receiveDocument(
  trustDomain: TrustDomain,
  held: HeldBundle,
  document: string,
  now: number,
): Promise<Checked<ReceivedBundle>> {
  const newest =
    held.sequence_max === null || held.sequence_max_sha256 === null
      ? null
      : { sequence: held.sequence_max, digest: held.sequence_max_sha256 };
  const after = await receiveBundle({ ...emptyBundleState(trustDomain, now), newest }, document, now);
  if (after.refused !== null) return { ok: false, refusal: after.refused.refusal };
  const bundle = after.bundle!;
  const first = bundle.authorities.toSorted((left, right) => left.notAfterMs - right.notAfterMs)[0] ?? null;
  return {
    ok: true,
    value: {
      document,
      bundle,
      sequence_max: after.newest?.sequence ?? null,
      sequence_max_sha256: after.newest?.digest ?? null,
      first,
    },
  };
}

/** What a bundle holds, as the API tells it. */
export const factsOfBundle = async (bundle: TrustBundle): Promise<BundleTaken> => ({
  name: bundle.trustDomain,
  sha256: bundle.digest,
  sequence: bundle.sequence,
  refresh_hint_seconds: bundle.refreshHint,
  authorities: await Promise.all(
    bundle.authorities.map(async ({ der, notBeforeMs, notAfterMs }) => ({
      certificate_sha256: await sha256Hex(der),
      not_before: isoTime(notBeforeMs),
      not_after: isoTime(notAfterMs),
    })),
  ),
  jwt_key_ids: [...bundle.jwtKeys.keys()],
});
