// An approval of an emergency through the API's app in this process, on a KeyRotation's own core: what happens between the moment at which
// the policy decides whose proposal it is and the one at which it is approved.

import { beforeAll, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { RotationCall } from "../../shared/rotation/rotation-ledger.ts";
import { kid, RotationWorld } from "../simulation/rotation-world.ts";
import { localApi } from "../support/api.ts";
import { anotherPerson } from "../support/people.ts";
import { jsonCall } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let tenant: SeededTenant;
/** Another admin. */
let other: { readonly token: string; readonly principal: string };

beforeAll(async () => {
  tenant = await stack.seedTenant("emergency-approval");
  const token = await anotherPerson(stack, tenant, "admin");
  const whoami = await (await localApi(stack)).fetch("/api/whoami", jsonCall(token, "GET"));
  other = { token, principal: ((await whoami.json()) as { principal_id: string }).principal_id };
});

const callBy = (principal: string): RotationCall => ({ tenant_id: tenant.tenant_id, principal, intent: null });

/** A rotation that an admin proposes to hasten, and what the other admin would propose in its place. */
async function proposed() {
  const world = new RotationWorld();
  world.rotations.addConsumer(callBy(tenant.principals.admin), "plant-7-verifier");
  const started = world.rotations.start(callBy(tenant.principals.admin));
  await world.settle();
  await world.rotations.propose(callBy(tenant.principals.admin), "a drill", null);
  const replace = () => world.rotations.propose(callBy(other.principal), "all of it", null);
  return { world, id: started.ok ? started.rotation.id : "", replace };
}

/** `decided`: what happens once the route has read the proposal that it decides of. */
async function approve(world: RotationWorld, id: string, digest: unknown, decided: () => Promise<unknown>) {
  const port = {
    show: async (wanted: string) => Promise.resolve(world.rotations.show(wanted)),
    proposal: async (wanted: string) => {
      const found = world.rotations.proposal(wanted);
      await decided();
      return found;
    },
    approve: (...given: Parameters<RotationWorld["rotations"]["approve"]>) => world.rotations.approve(...given),
  };
  const nothing = { show: () => Promise.resolve({ ok: false }), proposal: () => Promise.resolve(null) };
  const api = await localApi(stack, {
    rotations: (kind: string) => (kind === "release" ? port : nothing),
    authorityRotations: () => nothing,
  });
  const body = digest === undefined ? {} : { proposal_sha256: digest };
  const response = await api.fetch(`/api/rotations/${id}/approve`, jsonCall(other.token, "POST", body));
  return { status: response.status, json: (await response.json()) as Record<string, unknown> };
}
const nothingMore = () => Promise.resolve();

test("nobody gets their own proposal approved by putting it in the place of another one while the policy decides of that", async () => {
  // The same clock and the same ids: so who replaces it could know the digest beforehand.
  const twin = await proposed();
  const guessed = await twin.replace();
  const digest = guessed.ok ? guessed.proposal.proposal_sha256 : "";
  const { world, id, replace } = await proposed();
  const answer = await approve(world, id, digest, replace);
  expect([world.rotations.proposal(id)?.proposal_sha256, world.shown(id).emergency]).toEqual([digest, null]);
  expect([answer.status, answer.json["code"]]).toEqual([409, "proposal_changed"]);
  // Decided of what stands now, it is their own word.
  const own = await approve(world, id, digest, nothingMore);
  expect([own.status, own.json["rule"]]).toEqual([403, "own_change"]);
});

test("an approval that is overtaken by a newer proposal after it was decided approves nothing", async () => {
  const { world, id, replace } = await proposed();
  const read = world.rotations.proposal(id)?.proposal_sha256;
  const answer = await approve(world, id, read, replace);
  expect([answer.status, answer.json["code"], world.shown(id).emergency]).toEqual([409, "proposal_changed", null]);
  expect(answer.json["action"]).toContain("maestro rotation approve");
});

test("an approval that does not say of what is none", async () => {
  const { world, id } = await proposed();
  for (const digest of [undefined, null, "", kid(1).toUpperCase().replace("0", "A"), 7])
    expect((await approve(world, id, digest, nothingMore)).status).toBe(400);
  expect(world.shown(id).emergency).toBeNull();
  const read = world.rotations.proposal(id)?.proposal_sha256;
  expect((await approve(world, id, read, nothingMore)).json).toMatchObject({
    emergency: { approved_by: other.principal, proposal_sha256: read },
  });
});
