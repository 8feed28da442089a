// Uploading a release: the publisher's signature, every entry of the archive, the artifact under its digest, the row. Called
// by POST /api/market/releases. It is published when a reviewer has approved it (review-release.ts).
//
// What stands where after a crash, at each await:
//   checks                     nothing
//   artifact into the bucket   whole and walked, or not there; no release names it yet, so it is not served, and the retry
//                              finds it there
//   the batch                  package, release, its files, event and answer, or none of them

import { base64Bytes } from "../../../shared/contract/bytes.ts";
import { signedBundle, type SignedBundle } from "../../../shared/contract/events.ts";
import { artifactBytesMax, type Release } from "../../../shared/contract/http-market.ts";
import { newId } from "../../../shared/contract/ids.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import * as store from "../../../shared/market/release-store.ts";
import { newEvent } from "../../../shared/outbox/outbox.ts";
import { checkPublisherBundle } from "../../../shared/signing/release.ts";
import { isForbidden, isUniqueViolation } from "../../../shared/tenancy/database.ts";
import { rememberOnly } from "../../../shared/tenancy/idempotency.ts";
import type { Call } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { parseJson } from "../middleware/body.ts";
import { denied } from "../middleware/deny.ts";
import { keepArtifact } from "./artifacts.ts";
import { invalidRelease } from "./refusals.ts";

export const bundleHeader = "maestro-release-bundle";
export const bundleHeaderMax = 16 * 1024;
/** `true`: the release stays a draft until it is submitted. */
export const draftHeader = "maestro-release-draft";

export async function publishRelease(call: Call<never, "release.publish">): Promise<Release> {
  const { parts, caller, now } = call;
  const bundle = parseBundle(call.request.headers.get(bundleHeader));
  const draft = parseDraft(call.request.headers.get(draftHeader));
  const key = await store.readPublisherKey(
    parts.database,
    caller.tenant_id,
    bundle.verificationMaterial.publicKey.hint,
  );
  if (key === null || key.revoked_at !== null) {
    throw new Problem("release_invalid", "The bundle is not signed by a registered publisher key of this tenant.");
  }
  const checked = await checkPublisherBundle(bundle, key.spki);
  if (!checked.ok) throw invalidRelease(checked.reason);
  const { manifest, artifact_sha256: digest, artifact_bytes: bytes } = checked.release;
  if (bytes > artifactBytesMax)
    throw new Problem("too_large", "The artifact is too large.", { bytes_max: artifactBytesMax });

  const facts = {
    package: manifest.name,
    package_owner: await store.packageOwner(parts.database, caller.tenant_id, manifest.name),
  };
  const decision = await call.decide(facts);
  if (!decision.allow) await denied(call, decision, { facts, package: manifest.name });

  if (call.stream === null) throw new Problem("release_invalid", "The request has no body.");
  const { files, unpacked_bytes } = await keepArtifact(parts.artifacts, call.stream, checked.release);

  const at = new Date(now).toISOString();
  const row: Release = {
    id: newId("release", now, parts.random(10)),
    package: manifest.name,
    version: manifest.version,
    channel: manifest.channel,
    state: draft ? "draft" : "in_review",
    artifact_sha256: digest,
    artifact_bytes: bytes,
    units: manifest.privacy_units,
    manifest,
    publisher_bundle: bundle,
    marketplace_bundle: null,
    publisher_key: key.spki,
    uploaded_at: at,
    submitted_at: draft ? null : at,
    reviewed_at: null,
    review_reason: null,
    published_at: null,
    yanked_at: null,
    yank_reason: null,
  };
  const event = newEvent(eventContext(call), "mc.release.submitted", {
    package: row.package,
    version: row.version,
    channel: row.channel,
    release_sha256: digest,
    outcome: draft ? "draft" : "in_review",
  });
  try {
    await store.insertRelease(parts.database, caller.tenant_id, parts.shards, {
      row,
      uploaded_by: caller.principal_id,
      files,
      unpacked_bytes,
      event,
      claim: call.claim!,
      now,
    });
  } catch (error) {
    if (isForbidden(error)) {
      // Another tenant uploaded the first release of this name a moment ago.
      const owned = { package: manifest.name, package_owner: "other" as const };
      await denied(call, await call.decide(owned), { facts: owned, package: manifest.name });
    }
    if (!isUniqueViolation(error)) throw error;
    const existing = await store.readRelease(parts.database, caller.tenant_id, row.package, { version: row.version });
    // Null: it was the Idempotency-Key that stood there, which the door answers.
    if (existing === null) throw error;
    if (existing.artifact_sha256 !== digest) {
      throw new Problem("release_exists", `${row.package}@${row.version} was uploaded with other bytes.`);
    }
    await rememberOnly(parts.database, call.claim!, now, { status: 201, response: existing });
    return existing;
  }
  parts.nudgeDrain(caller.tenant_id);
  return row;
}

function parseDraft(header: string | null): boolean {
  if (header === null || header === "false") return false;
  if (header === "true") return true;
  throw new Problem("invalid_request", `The header ${draftHeader} is \`true\` or \`false\`.`, {
    errors: [{ path: draftHeader, message: "true or false" }],
  });
}

function parseBundle(header: string | null): SignedBundle {
  if (header === null || header.length > bundleHeaderMax) {
    throw new Problem("release_invalid", `The header ${bundleHeader} is missing, or over ${bundleHeaderMax} bytes.`);
  }
  try {
    const parsed = signedBundle.safeParse(parseJson(base64Bytes(header)));
    if (parsed.success) return parsed.data;
  } catch {
    // Not base64, or not JSON as a body may have it: the sentence below is the answer to each.
  }
  throw new Problem(
    "release_invalid",
    `The header ${bundleHeader} is not a Sigstore bundle v0.3 with DSSE, in base64.`,
  );
}
