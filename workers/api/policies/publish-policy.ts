// Uploading a policy's bundle: the publisher's signature, every entry of the archive, bundle and statement into the vault, then
// the tenant's publisher. Called by POST /api/policies/{name}/bundles. shared/edge/publisher.ts opens with the recovery table.

import nodeCrypto from "node:crypto";
import { createInflateRaw, crc32 } from "node:zlib";
import { base64Bytes, sha256Hex, utf8 } from "../../../shared/contract/bytes.ts";
import { canonicalJson, signedBundle, type SignedBundle } from "../../../shared/contract/events.ts";
import { bundleBytesMax } from "../../../shared/contract/http-policies.ts";
import type { Channel } from "../../../shared/contract/names.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { checkBundle, type PolicyBundle } from "../../../shared/edge/bundle.ts";
import type { PolicyChange } from "../../../shared/edge/change.ts";
import { policyKey, statementKey } from "../../../shared/edge/serving-path.ts";
import { checkPolicyStatement, type SignedPolicy } from "../../../shared/edge/statement.ts";
import { readPublisherKey } from "../../../shared/market/release-store.ts";
import type { Call } from "../door.ts";
import { keepStreamed } from "../keep-streamed.ts";
import { parseJson } from "../middleware/body.ts";
import { vaultKey } from "./stores.ts";

export const statementHeader = "maestro-policy-statement";
export const statementHeaderMax = 16 * 1024;
export const channelHeader = "maestro-policy-channel";

const tools = { zlib: { createInflateRaw, crc32 }, newHasher: () => nodeCrypto.createHash("sha256") };

const invalid = (reason: string): Problem =>
  new Problem("policy_invalid", `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`);

/** When this answers, bundle and statement are durable in the vault, under digests that a registered key has signed. */
export async function keepPolicy(
  call: Pick<Call, "parts" | "caller" | "request" | "stream">,
  policy: string,
  channel: Channel,
): Promise<PolicyChange> {
  const { parts, caller } = call;
  const envelope = parseStatement(call.request.headers.get(statementHeader));
  const key = await readPublisherKey(parts.database, caller.tenant_id, envelope.verificationMaterial.publicKey.hint);
  if (key === null || key.revoked_at !== null)
    throw invalid("the statement is not signed by a registered publisher key of this tenant");
  const checked = await checkPolicyStatement(envelope, key.spki);
  if (!checked.ok) throw invalid(checked.reason);
  const { signed } = checked;
  if (signed.policy !== policy) throw invalid(`the statement is of ${signed.policy}, not of ${policy}`);
  if (call.stream === null) throw invalid("the request has no body");
  if (signed.bundle_bytes > bundleBytesMax)
    throw new Problem("too_large", "The bundle is too large.", { bytes_max: bundleBytesMax });

  const wanted = {
    key: vaultKey(policyKey(caller.tenant, signed.bundle_sha256)),
    sha256: signed.bundle_sha256,
    bytes: signed.bundle_bytes,
    contentType: "application/gzip",
  };
  await keepStreamed(parts.artifacts, call.stream, wanted, {
    walk: async (archive) => asSigned(await checkBundle(archive, tools), signed),
    notTheSigned: () => invalid("the body's size or SHA-256 is not the one that was signed"),
  });
  const statement = utf8(canonicalJson(envelope));
  const statementSha256 = await sha256Hex(statement);
  await parts.artifacts.put(vaultKey(statementKey(caller.tenant, statementSha256)), statement, {
    sha256: statementSha256,
    httpMetadata: { contentType: "application/json" },
  });
  const { version, bundle_sha256, bundle_bytes, tar_sha256, tar_bytes } = signed;
  const bundle = { version, bundle_sha256, bundle_bytes, tar_sha256, tar_bytes, statement_sha256: statementSha256 };
  return { kind: "publish", policy, channel, bundle };
}

function asSigned(checked: Awaited<ReturnType<typeof checkBundle>>, signed: SignedPolicy): PolicyBundle {
  if (!checked.ok) throw invalid(`the bundle is refused: ${checked.reason}`);
  const { version, tar_sha256, tar_bytes } = checked.bundle;
  if (version !== signed.version)
    throw invalid(`the bundle's .manifest has the revision ${version}, and ${signed.version} was signed`);
  if (tar_sha256 !== signed.tar_sha256 || tar_bytes !== signed.tar_bytes)
    throw invalid("the tar inside is not the one that was signed");
  return checked.bundle;
}

function parseStatement(header: string | null): SignedBundle {
  if (header === null || header.length > statementHeaderMax)
    throw invalid(`the header ${statementHeader} is missing, or over ${statementHeaderMax} bytes`);
  try {
    const parsed = signedBundle.safeParse(parseJson(base64Bytes(header)));
    if (parsed.success) return parsed.data;
  } catch {
    // Not base64, or not JSON as a body may have it: the sentence below is the answer to each.
  }
  throw invalid(`the header ${statementHeader} is not a Sigstore bundle v0.3 with DSSE, in base64`);
}
