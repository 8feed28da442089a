// What rotations are decided on: whether the caller's tenant curates the marketplace or states the trust domain, and whose an emergency is.
// Called by the routes of /api/rotations and /api/metrics, and by explanations.

import { rotationKinds, type EmergencyProposal, type Rotation } from "../../../shared/contract/http-rotations.ts";
import { rotatedDomains } from "../../../shared/identity/authority-store.ts";
import { heldBundle } from "../../../shared/identity/store.ts";
import type { RotationsPort } from "../../../shared/rotation/port.ts";
import type { RotationCounts } from "../../../shared/rotation/rotation-metrics.ts";
import { tenantCurates } from "../../../shared/tenancy/store.ts";
import type { Call } from "../door.ts";
import { isOwn } from "../market/own-work.ts";

type AnyCall = Pick<Call, "parts" | "caller">;

/** `ownDomain`: it is about the authority of a trust domain that the tenant states. */
export const rotationFacts = async (
  { parts, caller }: AnyCall,
  ownDomain: boolean,
): Promise<{ readonly curates: boolean; readonly own_domain: boolean }> => ({
  curates: await tenantCurates(parts.database, caller.tenant_id),
  own_domain: ownDomain,
});

export const statesDomain = async ({ parts, caller }: AnyCall, trustDomain: string): Promise<boolean> =>
  (await heldBundle(parts.database, caller.tenant_id, trustDomain, null)) !== null;

/** Of the trust domains that the tenant states, as far as they were rotated. */
export async function ownPorts({ parts, caller }: AnyCall): Promise<RotationsPort[]> {
  const { rotated } = await rotatedDomains(parts.database, caller.tenant_id);
  return rotated.map((name) => parts.authorityRotations(caller.tenant_id, name));
}

export interface FoundRotation {
  readonly port: RotationsPort;
  readonly rotation: Rotation;
}

/** Of the authority of a trust domain that the tenant states; null where it is none such. */
export const ownRotation = async (call: AnyCall, id: string): Promise<FoundRotation | null> =>
  await rotationIn(await ownPorts(call), id);

/** Of the platform's keys. */
export const platformRotation = ({ parts }: AnyCall, id: string): Promise<FoundRotation | null> =>
  rotationIn(
    rotationKinds.map((kind) => parts.rotations(kind)),
    id,
  );

async function rotationIn(ports: readonly RotationsPort[], id: string): Promise<FoundRotation | null> {
  const found = await Promise.all(ports.map(async (port) => ({ port, answer: await port.show(id) })));
  for (const { port, answer } of found) if (answer.ok) return { port, rotation: answer.rotation };
  return null;
}

export interface FoundProposal {
  readonly port: RotationsPort;
  readonly proposal: EmergencyProposal;
}

/** Of the authority of a trust domain that the tenant states; null where there is none. */
const ownProposal = async (call: AnyCall, id: string): Promise<FoundProposal | null> =>
  await proposalIn(await ownPorts(call), id);

/** Of any kind of the platform's keys; null where there is none. */
const platformProposal = ({ parts }: AnyCall, id: string): Promise<FoundProposal | null> =>
  proposalIn(
    rotationKinds.map((kind) => parts.rotations(kind)),
    id,
  );

/** What approving it is decided on, and the proposal where the caller's tenant has one. */
export async function approvalOf(call: AnyCall, id: string) {
  const own = await ownProposal(call, id);
  const ofOwnDomain = own !== null || (await ownRotation(call, id)) !== null;
  const { curates, own_domain } = await rotationFacts(call, ofOwnDomain);
  const proposed = own ?? (curates ? await platformProposal(call, id) : null);
  const isOwnWord = proposed !== null && (await isOwn(call, proposed.proposal.proposed_by));
  return { proposed, facts: { curates, own_domain, rotation_id: id, own: isOwnWord } };
}

async function proposalIn(ports: readonly RotationsPort[], id: string): Promise<FoundProposal | null> {
  const found = await Promise.all(ports.map(async (port) => ({ port, proposal: await port.proposal(id) })));
  for (const { port, proposal } of found) if (proposal !== null) return { port, proposal };
  return null;
}

/** Of the rotations that the tenant started. */
export async function rotationCounts(call: AnyCall): Promise<readonly RotationCounts[]> {
  const { parts, caller } = call;
  const counted = (port: RotationsPort) => port.counts(caller.tenant_id);
  const [platform, own] = await Promise.all([
    Promise.all(rotationKinds.map(async (kind) => ({ kind, counts: await counted(parts.rotations(kind)) }))),
    ownPorts(call).then((ports) => Promise.all(ports.map(counted))),
  ]);
  const counts = { started: 0, completed: 0, emergency: 0, cancelled: 0 };
  for (const each of own) for (const name of Object.keys(counts) as (keyof typeof counts)[]) counts[name] += each[name];
  return [...platform, { kind: "fetcher", counts }];
}
