// What rotations are decided on: whether the caller's tenant curates the marketplace, and whose an emergency is. Called by the
// routes of /api/rotations and /api/metrics, and by explanations.

import { rotationKinds, type EmergencyProposal } from "../../../shared/contract/http-rotations.ts";
import type { RotationCounts } from "../../../shared/rotation/rotation-metrics.ts";
import { tenantCurates } from "../../../shared/tenancy/store.ts";
import type { Call } from "../door.ts";
import type { Parts } from "../parts.ts";

export const rotationFacts = async ({
  parts,
  caller,
}: Pick<Call, "parts" | "caller">): Promise<{ readonly curates: boolean }> => ({
  curates: await tenantCurates(parts.database, caller.tenant_id),
});

/** Of any kind of keys; null where there is none. */
export async function proposalOf(parts: Pick<Parts, "rotations">, id: string): Promise<EmergencyProposal | null> {
  const found = await Promise.all(rotationKinds.map((kind) => parts.rotations(kind).proposal(id)));
  return found.find((proposal) => proposal !== null) ?? null;
}

/** Of the rotations that the tenant started. */
export async function rotationCounts(
  parts: Pick<Parts, "rotations">,
  tenantId: string,
): Promise<readonly RotationCounts[]> {
  return await Promise.all(
    rotationKinds.map(async (kind) => ({ kind, counts: await parts.rotations(kind).counts(tenantId) })),
  );
}
