// Publishing a release: the publisher's signature, the artifact under its digest, the countersignature, the row. Called by
// POST /api/market/releases.
//
// What stands where after a crash, at each await:
//   checks                     nothing
//   artifact into the bucket   whole, and its manifest the signed one, or not there; no release names it yet, so it is not
//                              served, and the retry finds it there
//   countersign                as before
//   the batch                  package, release, channel pointer, event and answer, or none of them

import { base64Bytes, utf8Text } from "../../../shared/contract/bytes.ts";
import { signedBundle, type SignedBundle } from "../../../shared/contract/events.ts";
import { artifactBytesMax, type Release } from "../../../shared/contract/http-market.ts";
import { newId } from "../../../shared/contract/ids.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import * as store from "../../../shared/market/release-store.ts";
import { newEvent } from "../../../shared/outbox/outbox.ts";
import { checkPublisherBundle } from "../../../shared/signing/release.ts";
import { isForbidden, isUniqueViolation } from "../../../shared/tenancy/database.ts";
import type { Call } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { denied } from "../middleware/deny.ts";
import { keepArtifact } from "./artifacts.ts";
import { invalidRelease } from "./refusals.ts";

export const bundleHeader = "maestro-release-bundle";
export const bundleHeaderMax = 16 * 1024;

export async function publishRelease(call: Call<never, "release.publish">): Promise<Release> {
  const { parts, caller, now } = call;
  const bundle = parseBundle(call.request.headers.get(bundleHeader));
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
  const decision = call.decide(facts);
  if (!decision.allow) await denied(call, decision, { facts, package: manifest.name });

  if (call.stream === null) throw new Problem("release_invalid", "The request has no body.");
  await keepArtifact(parts.artifacts, call.stream, checked.release);
  const countersigned = await parts.signer.countersign(bundle, key.spki);
  if (!countersigned.ok) throw invalidRelease(countersigned.reason);

  const row: Release = {
    id: newId("release", now, parts.random(10)),
    package: manifest.name,
    version: manifest.version,
    channel: manifest.channel,
    artifact_sha256: digest,
    artifact_bytes: bytes,
    units: manifest.privacy_units,
    manifest,
    publisher_bundle: bundle,
    marketplace_bundle: countersigned.bundle,
    publisher_key: key.spki,
    published_at: new Date(now).toISOString(),
  };
  const event = newEvent(eventContext(call), "mc.release.published", {
    package: row.package,
    version: row.version,
    channel: row.channel,
    release_sha256: digest,
    units: row.units,
  });
  try {
    await store.insertRelease(parts.database, caller.tenant_id, parts.shards, row, event, call.claim!, now);
  } catch (error) {
    if (isForbidden(error)) {
      // Another tenant published the first release of this name a moment ago.
      const owned = { package: manifest.name, package_owner: "other" as const };
      await denied(call, call.decide(owned), { facts: owned, package: manifest.name });
    }
    if (!isUniqueViolation(error)) throw error;
    const existing = await store.readRelease(parts.database, caller.tenant_id, row.package, { version: row.version });
    // Null: it was the Idempotency-Key that stood there, which the door answers.
    if (existing === null) throw error;
    if (existing.artifact_sha256 !== digest) {
      throw new Problem("release_exists", `${row.package}@${row.version} was published with other bytes.`);
    }
    return existing;
  }
  parts.nudgeDrain(caller.tenant_id);
  return row;
}

function parseBundle(header: string | null): SignedBundle {
  if (header === null || header.length > bundleHeaderMax) {
    throw new Problem("release_invalid", `The header ${bundleHeader} is missing, or over ${bundleHeaderMax} bytes.`);
  }
  try {
    const parsed = signedBundle.safeParse(JSON.parse(utf8Text(base64Bytes(header))));
    if (parsed.success) return parsed.data;
  } catch {
    // Not base64, not UTF-8 or not JSON: the sentence below is the answer to each.
  }
  throw new Problem(
    "release_invalid",
    `The header ${bundleHeader} is not a Sigstore bundle v0.3 with DSSE, in base64.`,
  );
}
