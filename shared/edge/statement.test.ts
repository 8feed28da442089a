// The publisher's statement of a bundle: what a fetcher and the upload believe, and what they do not.

import { expect, test } from "vitest";
import { newSigner } from "../../test/support/publisher.ts";
import { base64 } from "../contract/bytes.ts";
import { policyPredicateType, policySubjects } from "../contract/http-policies.ts";
import { signStatement } from "../signing/bundle.ts";
import { statement } from "../signing/statement.ts";
import { checkPolicyStatement, policyStatement, type SignedPolicy } from "./statement.ts";

const signed: SignedPolicy = {
  policy: "gateway",
  version: "r1",
  bundle_sha256: "a".repeat(64),
  bundle_bytes: 700,
  tar_sha256: "b".repeat(64),
  tar_bytes: 10_240,
};

test("what was signed is what is read, under the key that is trusted", async () => {
  const signer = await newSigner();
  const bundle = await signStatement(signer, policyStatement(signed));
  expect(await checkPolicyStatement(bundle, base64(signer.spki))).toEqual({ ok: true, signed, kid: signer.kid });
});

test("another key, another kind of statement, and other subjects are refused with their reason", async () => {
  const signer = await newSigner();
  const spki = base64(signer.spki);
  const whole = policyStatement(signed);
  const check = async (changed: Partial<Parameters<typeof statement>[0]>, by = signer) =>
    await checkPolicyStatement(await signStatement(by, statement({ ...whole, ...changed })), spki);
  expect(await check({}, await newSigner())).toMatchObject({ reason: expect.stringContaining("is not known") });
  expect(await check({ predicateType: "https://example.org/other/v1" })).toMatchObject({
    reason: expect.stringContaining(policyPredicateType),
  });
  for (const subject of [
    whole.subject.slice(0, 1),
    [...whole.subject].toReversed(),
    [...whole.subject, whole.subject[0]!],
  ])
    expect(await check({ subject })).toMatchObject({ reason: expect.stringContaining(policySubjects.join(" and ")) });
  for (const predicate of [{ ...whole.predicate, more: 1 }, { ...whole.predicate, policy: "../x" }, {}])
    expect(await check({ predicate })).toMatchObject({ reason: expect.stringContaining("the statement:") });
});
