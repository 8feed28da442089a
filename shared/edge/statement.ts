// What a publisher signs of a policy's bundle: an in-toto statement over the tar.gz and the tar. Made by `maestro policy
// publish`; checked by the upload, and again by every fetcher, which asks for it beside the TUF metadata.

import { base64Bytes, hex, sha256 } from "../contract/bytes.ts";
import type { SignedBundle } from "../contract/events.ts";
import { policyPredicate, policyPredicateType, policySubjects } from "../contract/http-policies.ts";
import { verifyBundle } from "../signing/bundle.ts";
import { importVerifyKey } from "../signing/keys.ts";
import { statement, type Statement } from "../signing/statement.ts";

export interface SignedPolicy {
  readonly policy: string;
  readonly version: string;
  readonly bundle_sha256: string;
  readonly bundle_bytes: number;
  readonly tar_sha256: string;
  readonly tar_bytes: number;
}

export const policyStatement = ({ bundle_sha256, tar_sha256, ...predicate }: SignedPolicy): Statement =>
  statement({
    subject: [
      { name: policySubjects[0], digest: { sha256: bundle_sha256 } },
      { name: policySubjects[1], digest: { sha256: tar_sha256 } },
    ],
    predicateType: policyPredicateType,
    predicate,
  });

export type CheckedStatement =
  | { readonly ok: true; readonly signed: SignedPolicy; readonly kid: string }
  | { readonly ok: false; readonly reason: string };

/** `spki`: DER in base64, of the key that is trusted; a statement of another key is refused. */
export async function checkPolicyStatement(bundle: SignedBundle, spki: string): Promise<CheckedStatement> {
  const der = base64Bytes(spki);
  const kid = hex(await sha256(der));
  const verified = await verifyBundle(bundle, async (wanted) =>
    wanted === kid ? await importVerifyKey(der, "P-256") : null,
  );
  if (!verified.ok) return { ok: false, reason: `the publisher's signature: ${verified.reason}` };
  const { predicateType, subject, predicate } = verified.statement;
  if (predicateType !== policyPredicateType)
    return { ok: false, reason: `the statement's predicate type is not ${policyPredicateType}` };
  const [whole, tar, ...more] = subject;
  if (whole?.name !== policySubjects[0] || tar?.name !== policySubjects[1] || more.length > 0)
    return { ok: false, reason: `the statement's subjects are not ${policySubjects.join(" and ")}` };
  const parsed = policyPredicate.safeParse(predicate);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    return { ok: false, reason: `the statement: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "unreadable"}` };
  }
  const digests = { bundle_sha256: whole.digest.sha256, tar_sha256: tar.digest.sha256 };
  return { ok: true, signed: { ...parsed.data, ...digests }, kid: verified.kid };
}
