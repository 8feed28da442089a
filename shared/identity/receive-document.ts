// What becomes of a bundle document that was handed in or fetched: the row that is to be kept, or why it is refused. Pure; whoever
// keeps it compares what it was decided on (`HeldBundle`) with what stands there then. Kept is the document without the authorities that
// are distrusted; sequences are compared of what came.

import { sha256Hex } from "../contract/bytes.ts";
import type { BundleTaken } from "../contract/http-identity.ts";
import { isoTime } from "../contract/iso-time.ts";
import type { AuthorityName } from "./authorities.ts";
import { whyNotAfter } from "./bundle-state.ts";
import type { Certificate } from "./certificate.ts";
import { hasRoomForDistrusts, withoutDistrusted } from "./distrust.ts";
import type { Checked } from "./refusal.ts";
import type { TrustDomain } from "./spiffe-id.ts";
import { bundleBytesMax, parseTrustBundle, type TrustBundle } from "./trust-bundle.ts";

/** What decides whether a document may follow. */
export interface HeldBundle {
  readonly sha256: string | null;
  readonly sequence_max: number | null;
  /** Of the document as it came. */
  readonly sequence_max_sha256: string | null;
  readonly distrusted: readonly AuthorityName[];
}

export interface ReceivedBundle {
  /** As it is believed: of what came, without what is distrusted. */
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
): Promise<Checked<ReceivedBundle>> {
  const came = await parseTrustBundle(trustDomain, document);
  if (!came.ok) return came;
  if (!hasRoomForDistrusts(document)) {
    const reason = `the bundle has more than ${bundleBytesMax} bytes where it is written anew without one of its keys`;
    return { ok: false, refusal: { section: "bounds", reason } };
  }
  const { sequence_max: sequence, sequence_max_sha256: digest } = held;
  // What a document says of distrusts is nothing to us here: ours are counted in `held`.
  const newest = sequence === null || digest === null ? null : { sequence, digest, distrusts: 0 };
  const backwards = whyNotAfter({ newest, distrusts: 0 }, { ...came.value, distrusts: 0 });
  if (backwards !== null) return { ok: false, refusal: backwards };
  const kept = await withoutDistrusted(trustDomain, document, held.distrusted);
  const believed = kept === document ? came : await parseTrustBundle(trustDomain, kept);
  if (!believed.ok) return believed;
  const hasSequence = came.value.sequence !== null;
  return {
    ok: true,
    value: {
      document: kept,
      bundle: believed.value,
      sequence_max: hasSequence ? came.value.sequence : sequence,
      sequence_max_sha256: hasSequence ? came.value.digest : digest,
      first: firstToEnd(believed.value),
    },
  };
}

export const firstToEnd = ({ authorities }: TrustBundle): ReceivedBundle["first"] =>
  authorities.toSorted((left, right) => left.notAfterMs - right.notAfterMs)[0] ?? null;

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
