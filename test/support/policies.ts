// Edge policies over HTTP for tests: a root of trust put, bundles signed and uploaded. Each part can be bent, so that a test can
// send what a liar would send.

import { gunzipSync } from "node:zlib";
import { base64, sha256Hex, utf8, type Bytes } from "../../shared/contract/bytes.ts";
import type { PolicyChanged } from "../../shared/contract/http-policies.ts";
import type { Channel } from "../../shared/contract/names.ts";
import { policyStatement, type SignedPolicy } from "../../shared/edge/statement.ts";
import type { RootDocument } from "../../shared/edge/tuf.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { bundleOf, bundleParts } from "./bundles.ts";
import type { CheckedAnswer, Contract } from "./openapi.ts";
import { freshKey, jsonCall, must } from "./publisher.ts";
import { rootDocumentOf, rootSigners, type RootWish } from "./tuf.ts";

/** What a publisher signs of a bundle. */
export async function signedPolicyOf(
  policy: string,
  bundle: Bytes,
  given: Partial<SignedPolicy> = {},
): Promise<SignedPolicy> {
  const tar = new Uint8Array(gunzipSync(bundle));
  return {
    policy,
    version: "r1",
    bundle_sha256: await sha256Hex(bundle),
    bundle_bytes: bundle.length,
    tar_sha256: await sha256Hex(tar),
    tar_bytes: tar.length,
    ...given,
  };
}

export async function policyUpload(
  key: string,
  signer: Signer,
  bundle: Bytes,
  signed: SignedPolicy,
  { channel, idempotencyKey = freshKey() }: { readonly channel?: Channel; readonly idempotencyKey?: string } = {},
): Promise<RequestInit> {
  const envelope = await signStatement(signer, policyStatement(signed));
  return {
    method: "POST",
    headers: {
      authorization: `Bearer ${key}`,
      "content-type": "application/gzip",
      "idempotency-key": idempotencyKey,
      "maestro-policy-statement": base64(utf8(JSON.stringify(envelope))),
      ...(channel === undefined ? {} : { "maestro-policy-channel": channel }),
    },
    body: bundle,
  };
}

/** A bundle that allows `allowed`, under that revision, published. */
export async function publishPolicy(
  api: Contract,
  { keys }: SeededTenant,
  signer: Signer,
  policy: string,
  version: string,
  channel: Channel = "stable",
): Promise<{ readonly bundle: Bytes; readonly answer: PolicyChanged }> {
  const bundle = bundleOf(bundleParts({ revision: version }, version));
  const signed = await signedPolicyOf(policy, bundle, { version });
  const upload = await policyUpload(keys.publisher, signer, bundle, signed, { channel });
  const answer = must(201, await api.fetch(`/api/policies/${policy}/bundles`, upload));
  return { bundle, answer: answer.json as PolicyChanged };
}

export async function rootFor(
  api: Contract,
  { keys }: SeededTenant,
  wish: Omit<RootWish, "keys" | "now" | "by"> & {
    readonly keys?: readonly string[];
    readonly by?: readonly string[];
  } = {},
): Promise<RootDocument> {
  const told = must(200, await api.fetch("/api/policies/keys", jsonCall(keys.admin, "GET")));
  const { keys: names = ["one"], by = names, ...rest } = wish;
  const signing = { keys: await rootSigners(...names), by: await rootSigners(...by) };
  return await rootDocumentOf(told.json.keys, { ...rest, ...signing, now: Date.now() });
}

export const putRoot = (api: Contract, { keys }: SeededTenant, root: unknown): Promise<CheckedAnswer> =>
  api.fetch("/api/policies/root", jsonCall(keys.admin, "PUT", root));
