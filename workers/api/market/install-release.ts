// Installing the release that a channel points to: entitlement, decision, both signatures, the row. Called by
// POST /api/market/installs.

import type { z } from "@hono/zod-openapi";
import type { Install, installRequest, Release } from "../../../shared/contract/http-market.ts";
import { newId } from "../../../shared/contract/ids.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { installChange } from "../../../shared/market/install.ts";
import * as store from "../../../shared/market/release-store.ts";
import { newEvent } from "../../../shared/outbox/outbox.ts";
import { checkRelease } from "../../../shared/signing/release.ts";
import type { Call } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { denied } from "../middleware/deny.ts";
import { artifactKey } from "./artifacts.ts";
import { invalidRelease, noEntitlements, noRelease } from "./refusals.ts";

/** Others may change the install or the entitlements meanwhile: so many times is decided anew. */
const attemptsMax = 4;

export async function installRelease(
  call: Call<never, "install.write">,
  wanted: z.output<typeof installRequest>,
): Promise<Install> {
  for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
    const row = await attemptInstall(call, wanted);
    if (row === null) continue;
    call.parts.nudgeDrain(call.caller.tenant_id);
    return row;
  }
  throw new Problem("database_unavailable", "The install keeps changing under this call.");
}

/** Null: what was decided on had changed by the time of the write, and nothing was written. */
async function attemptInstall(
  call: Call<never, "install.write">,
  { package: name, channel: wanted }: z.output<typeof installRequest>,
): Promise<Install | null> {
  const { parts, caller, now } = call;
  const [checked, found, before] = await Promise.all([
    parts.entitlements(caller.tenant_id).check(name),
    store.readRelease(parts.database, caller.tenant_id, name, { channel: wanted }),
    store.readInstall(parts.database, caller.tenant_id, name),
  ]);
  if (checked.state === "unavailable") throw noEntitlements();
  const facts = {
    package: name,
    channel: wanted,
    entitlement: checked.entitlement,
    release: found === null ? null : { channel: wanted },
  };
  const decision = call.decide(facts);
  if (!decision.allow) await denied(call, decision, { facts, package: name });
  if (found === null) throw noRelease();
  await checkSignatures(call, found);

  const { row, told } = installChange(before?.install ?? null, found, wanted, {
    id: newId("install", now, parts.random(10)),
    changed_at: new Date(now).toISOString(),
  });
  const written = await store.putInstall(parts.database, caller.tenant_id, parts.shards, {
    row,
    from_release_id: before?.install.release_id ?? null,
    entitlement_version: checked.version,
    principal_id: caller.principal_id,
    event: newEvent(eventContext(call), "mc.install.changed", told),
    claim: call.claim!,
    now,
  });
  return written ? row : null;
}

/** Both signatures over what the row says, and the artifact in the bucket. */
async function checkSignatures({ parts }: Pick<Call, "parts">, found: Release): Promise<void> {
  const keys = new Map((await parts.signer.keys()).map((key) => [key.kid, key.spki]));
  const verified = await checkRelease(
    { publisher: found.publisher_bundle, marketplace: found.marketplace_bundle, publisherSpki: found.publisher_key },
    keys,
  );
  if (!verified.ok) throw invalidRelease(verified.reason);
  if (
    verified.release.artifact_sha256 !== found.artifact_sha256 ||
    (await parts.artifacts.head(artifactKey(found.artifact_sha256))) === null
  ) {
    throw invalidRelease("the artifact that was signed is not in the marketplace");
  }
}
