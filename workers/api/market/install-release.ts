// Installing the release that a channel points to: entitlement, decision, both signatures, the row. Called by
// POST /api/market/installs.

import type { z } from "@hono/zod-openapi";
import type { Install, installRequest } from "../../../shared/contract/http-market.ts";
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

export async function installRelease(
  call: Call<never, "install.write">,
  { package: name, channel: wanted }: z.output<typeof installRequest>,
): Promise<Install> {
  const { parts, caller, now } = call;
  const [checked, found] = await Promise.all([
    parts.entitlements(caller.tenant_id).check(name),
    store.readRelease(parts.database, caller.tenant_id, name, { channel: wanted }),
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
    throw new Problem("release_invalid", "The artifact that was signed is not in the marketplace.");
  }
  const before = await store.readInstall(parts.database, caller.tenant_id, name);
  const { row, told } = installChange(before?.install ?? null, found, wanted, {
    id: newId("install", now, parts.random(10)),
    changed_at: new Date(now).toISOString(),
  });
  const event = newEvent(eventContext(call), "mc.install.changed", told);
  await store.putInstall(
    parts.database,
    caller.tenant_id,
    parts.shards,
    row,
    caller.principal_id,
    event,
    call.claim!,
    now,
  );
  parts.nudgeDrain(caller.tenant_id);
  return row;
}
