// What a publisher needs for deltas: the bundles that were published before, and a place in the vault for what leads from one of
// them to the next. Called by routes/policies.ts. A delta is kept as it comes: nothing here believes it, and no fetcher will.

import type { PolicyDelta, PolicyRevision } from "../../../shared/contract/http-policies.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { deltaBytesMax, deltaTarBytesMax } from "../../../shared/edge/delta.ts";
import { deltaKey, policyKey } from "../../../shared/edge/serving-path.ts";
import type { Call } from "../door.ts";
import { keepStreamed } from "../keep-streamed.ts";
import { r2Vault, vaultKey } from "./stores.ts";

export const deltaSha256Header = "maestro-delta-sha256";
export const deltaBytesHeader = "maestro-delta-bytes";

/** https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1 */
const zstdMagic = [0x28, 0xb5, 0x2f, 0xfd];

const invalid = (detail: string): Problem => new Problem("policy_invalid", detail);

/** The newest hundred of both channels; throws `not_found` where there is no such policy. */
async function revisionsOf(
  { parts, caller }: Pick<Call, "parts" | "caller">,
  policy: string,
): Promise<readonly PolicyRevision[]> {
  const found = await parts.publisher(caller.tenant_id).policy(policy);
  if (found === null) throw new Problem("not_found", "There is no such policy.");
  return found.revisions;
}

/** A bundle's bytes, of a revision that this policy has or had. */
export async function openPublished(
  call: Pick<Call, "parts" | "caller">,
  policy: string,
  bundleSha256: string,
): Promise<R2ObjectBody> {
  const isKnown = (await revisionsOf(call, policy)).some((revision) => revision.bundle_sha256 === bundleSha256);
  const key = vaultKey(policyKey(call.caller.tenant, bundleSha256));
  const object = isKnown ? await call.parts.artifacts.get(key) : null;
  if (object === null) throw new Problem("not_found", "This policy has no revision with such a bundle.");
  return object;
}

/** When this answers, a delta between the two is durable in the vault: this one, or the one that was there before it. */
export async function keepDelta(
  call: Pick<Call, "parts" | "caller" | "request" | "stream">,
  policy: string,
  { from, to }: { readonly from: string; readonly to: string },
): Promise<PolicyDelta> {
  const { parts, caller, request, stream } = call;
  const base = (await revisionsOf(call, policy)).find(({ tar_sha256 }) => tar_sha256 === from);
  if (base === undefined)
    throw new Problem("not_found", "This policy has no revision with the tar that the delta is from.");
  if (from === to) throw invalid("The delta leads from a tar to itself.");
  if (base.tar_bytes > deltaTarBytesMax)
    throw invalid(`The tar that the delta is from has more than ${deltaTarBytesMax} bytes.`);
  const path = deltaKey(caller.tenant, from, to);
  const vault = r2Vault(parts.artifacts);
  const before = await vault.find(path);
  if (before !== null) return { from, to, ...before };
  const wanted = wantedOf(request, vaultKey(path));
  if (stream === null) throw invalid("The request has no body.");
  await keepStreamed(parts.artifacts, stream, wanted, {
    walk: isZstd,
    notTheSigned: () => invalid(`The body's size or SHA-256 is not the one that the headers name.`),
  });
  const kept = await vault.find(path);
  if (kept === null) throw new Error("a delta that was kept is not in the vault");
  return { from, to, ...kept };
}

function wantedOf(request: Request, key: string) {
  const sha256 = request.headers.get(deltaSha256Header) ?? "";
  const bytes = Number(request.headers.get(deltaBytesHeader));
  if (!/^[0-9a-f]{64}$/.test(sha256))
    throw invalid(`The header ${deltaSha256Header} is not a SHA-256 in lower-case hex.`);
  if (!Number.isSafeInteger(bytes) || bytes < 1)
    throw invalid(`The header ${deltaBytesHeader} is not how many bytes the body has.`);
  if (bytes > deltaBytesMax) throw new Problem("too_large", "The delta is too large.", { bytes_max: deltaBytesMax });
  return { key, sha256, bytes, contentType: "application/zstd" };
}

async function isZstd(body: AsyncIterable<Uint8Array>): Promise<void> {
  let seen = 0;
  for await (const chunk of body) {
    for (let at = seen; at < Math.min(zstdMagic.length, seen + chunk.length); at += 1)
      if (chunk[at - seen] !== zstdMagic[at]) throw invalid("The body is no zstd frame.");
    seen += chunk.length;
  }
}
