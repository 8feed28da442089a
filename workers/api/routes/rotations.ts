// /api/rotations: rotating the platform's signing keys, and the authorities of trust domains, while everything runs. app.ts registers
// them at the door; a KeyRotation object for each kind, and for each trust domain, does it.

import { createRoute, z } from "@hono/zod-openapi";
import {
  acknowledgement,
  consumerName,
  emergencyApproval,
  emergencyProposal,
  emergencyRequest,
  namedConsumer,
  rotation,
  rotationId,
  rotatedKind,
  rotationKinds,
  rotationList,
  rotationsListed,
  rotationStart,
  type RotatedKind,
  type Rotation,
  type RotationKind,
} from "../../../shared/contract/http-rotations.ts";
import { trustDomainName } from "../../../shared/contract/http-identity.ts";
import { hex } from "../../../shared/contract/bytes.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { noteRotated, rotatedDomains } from "../../../shared/identity/authority-store.ts";
import type { RotationsPort } from "../../../shared/rotation/port.ts";
import {
  otherProposal,
  type RotationAnswer,
  type RotationCall,
  type RotationRefused,
} from "../../../shared/rotation/rotation-ledger.ts";
import { claimDigest, rememberOnly } from "../../../shared/tenancy/idempotency.ts";
import type { Call, Door } from "../door.ts";
import { denied } from "../middleware/deny.ts";
import {
  approvalOf,
  ownRotation,
  platformRotation,
  rotationFacts,
  statesDomain,
  type FoundRotation,
} from "../rotations/rotation-facts.ts";

const tags = ["rotations"];
const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });
const byId = z.strictObject({ id: rotationId });
const ofConsumer = z.strictObject({ kind: rotatedKind, name: consumerName });
const ofDomain = z.object({
  trust_domain: trustDomainName.optional().describe("of the kind `fetcher`: whose authority"),
});
const curators =
  "Tenants that curate the marketplace run the platform's keys; the authority of a trust domain, the kind `fetcher`, is rotated by the " +
  "tenant that states it.";

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/rotations",
      tags,
      summary: "Rotations of keys, their consumers, and emergencies that wait for approval",
      description: `${curators} The newest ${rotationsListed} of each kind, and of each trust domain.`,
      responses: { 200: { description: "The rotations", content: json(rotationList) } },
    }),
    action: "rotation.read",
    idempotency: "none",
    problems: ["denied"],
    handler: async (call) => {
      const { any, rotated } = await rotatedDomains(call.parts.database, call.caller.tenant_id);
      const { curates } = await allowed(call, any);
      const ports = [
        ...(curates ? rotationKinds.map((kind) => call.parts.rotations(kind)) : []),
        ...rotated.map((name) => call.parts.authorityRotations(call.caller.tenant_id, name)),
      ];
      const lists = await Promise.all(ports.map((port) => port.list()));
      const newest = lists
        .flatMap(({ rotations }) => rotations)
        .toSorted((left, right) => (left.id < right.id ? 1 : -1));
      const body = {
        rotations: newest,
        consumers: lists.flatMap(({ consumers }) => consumers),
        proposals: lists.flatMap(({ proposals }) => proposals),
      };
      return { status: 200, body };
    },
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/rotations",
      tags,
      summary: "Rotate the keys of a kind: release, audit, link, worker, or a trust domain's authority (fetcher)",
      description:
        `${curators} New keys are made, published and endorsed by the old ones; once every consumer has them they sign, and the ` +
        "old ones end. What these signed until then stays valid. Of a trust domain the tenant's own authority makes the keys and " +
        "switches: each state is entered once it was seen to be so, and `obstacle` says what is missing, and who still presents " +
        "the old authority. The answer tells how far it came within some seconds; it goes on by itself.",
      request: { body: { required: true, content: json(rotationStart) } },
      responses: { 201: { description: "The rotation, as far as it is", content: json(rotation) } },
    }),
    action: "rotation.start",
    idempotency: "required",
    decision: "before_the_change",
    problems: ["denied", "rotation_running", "not_found"],
    handler: async (call) => {
      const port = await allowedPort(call, call.input.json);
      const started = await port.start(await callOf(call));
      return { status: 201, body: await remembered(call, 201, settled(started)) };
    },
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/rotations/emergencies",
      tags,
      summary: "Propose to rotate keys without waiting for anyone, because others may have them",
      description:
        `${curators} The answer says what it would break. Nothing happens until another person has approved it. Where a rotation ` +
        "of these keys runs, it is hastened; else one begins with the approval. In the end the old keys are revoked: their " +
        "signatures of releases, channels and links are refused from then on. Of a trust domain the authorities that are named, or those " +
        "that are in force, are distrusted with the approval: nothing that they signed is believed any more, whatever the bundle says, also " +
        "where the domain is taken back and stated anew. That is not taken back: a tenant makes a new key. A rotation that runs goes on beside it.",
      request: { body: { required: true, content: json(emergencyRequest) } },
      responses: { 201: { description: "The proposal, and what it would break", content: json(emergencyProposal) } },
    }),
    action: "rotation.start",
    idempotency: "required",
    decision: "before_the_change",
    problems: ["denied", "rotation_state", "not_found", "rotation_distrusts_max"],
    handler: async (call) => {
      const asked = call.input.json;
      const port = await allowedPort(call, asked);
      const wanted = asked.kind === "fetcher" ? (asked.authorities ?? null) : null;
      const proposed = await port.propose(await callOf(call), asked.reason, wanted);
      if (!proposed.ok) throw refusal(proposed);
      return { status: 201, body: await remembered(call, 201, proposed.proposal) };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/rotations/{id}",
      tags,
      summary: "One rotation: its state, its keys, and for whom it waits",
      request: { params: byId },
      responses: { 200: { description: "The rotation", content: json(rotation) } },
    }),
    action: "rotation.read",
    idempotency: "none",
    problems: ["denied", "not_found"],
    handler: async (call) => {
      return { status: 200, body: (await allowedRotation(call, call.input.params.id)).rotation };
    },
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/rotations/{id}/acknowledgements",
      tags,
      summary: "Say that a named consumer has the new keys, by their kids",
      request: { params: byId, body: { required: true, content: json(acknowledgement) } },
      responses: { 200: { description: "The rotation, as far as it is now", content: json(rotation) } },
    }),
    action: "rotation.acknowledge",
    idempotency: "required",
    decision: "before_the_change",
    problems: ["denied", "not_found", "rotation_state"],
    handler: async (call) => {
      const { port } = await allowedRotation(call, call.input.params.id);
      const { consumer, kids } = call.input.json;
      const answer = await port.acknowledge(await callOf(call), call.input.params.id, consumer, kids);
      return { status: 200, body: await remembered(call, 200, settled(answer)) };
    },
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/rotations/{id}/approve",
      tags,
      summary: "Approve an emergency that another person proposed, by the digest of what you read",
      description:
        "A newer proposal takes an older one's place, also under the same id. `proposal_sha256` is that of the one that you read; where " +
        "another one stands, `proposal_changed` is the answer, and nothing is approved.",
      request: { params: byId, body: { required: true, content: json(emergencyApproval) } },
      responses: { 200: { description: "The rotation, as far as it is now", content: json(rotation) } },
    }),
    action: "rotation.approve",
    idempotency: "required",
    decision: "before_the_change",
    problems: ["denied", "not_found", "proposal_changed", "rotation_state", "rotation_running"],
    handler: async (call) => {
      const { id } = call.input.params;
      const { proposal_sha256: approved } = call.input.json;
      const { proposed, facts } = await approvalOf(call, id);
      const decision = await call.decide(facts);
      if (!decision.allow) await denied(call, decision, { facts });
      // Without a proposal it is one that was approved before, or none at all.
      const { port } = proposed ?? found((await ownRotation(call, id)) ?? (await platformRotation(call, id)));
      // Whose proposal it is was decided of this one: the object is asked to approve this one, and no other.
      if (proposed !== null && proposed.proposal.proposal_sha256 !== approved)
        throw refusal(otherProposal(proposed.proposal));
      const answer = await port.approve(await callOf(call), id, approved);
      return { status: 200, body: await remembered(call, 200, settled(answer)) };
    },
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/rotations/{id}/cancel",
      tags,
      summary: "Take back a rotation whose new keys sign nothing yet",
      description:
        "Until it is `acknowledged`; of a trust domain's authority until it is `active`. The new keys never sign: those that were published stay " +
        "so, as revoked. From then on it goes to its end. An emergency that was approved is not taken back, and one that waits to hasten it is gone.",
      request: { params: byId },
      responses: { 200: { description: "The rotation, as far as it is now", content: json(rotation) } },
    }),
    action: "rotation.cancel",
    idempotency: "required",
    decision: "before_the_change",
    problems: ["denied", "not_found", "rotation_state"],
    handler: async (call) => {
      const { port } = await allowedRotation(call, call.input.params.id);
      const answer = await port.cancel(await callOf(call), call.input.params.id);
      return { status: 200, body: await remembered(call, 200, settled(answer)) };
    },
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/rotations/{id}/resume",
      tags,
      summary: "Have a rotation that failed in a step try again now",
      description: "It tries again by itself, ever more rarely; this is for who has just removed the obstacle.",
      request: { params: byId },
      responses: { 200: { description: "The rotation, as far as it is now", content: json(rotation) } },
    }),
    action: "rotation.start",
    idempotency: "required",
    decision: "before_the_change",
    problems: ["denied", "not_found"],
    handler: async (call) => {
      const { port } = await allowedRotation(call, call.input.params.id);
      return { status: 200, body: await remembered(call, 200, settled(await port.resume(call.input.params.id))) };
    },
  });

  door.route({
    route: createRoute({
      method: "put",
      path: "/api/rotations/consumers/{kind}/{name}",
      tags,
      summary: "Name a consumer that rotations of these keys wait for",
      request: { params: ofConsumer, query: ofDomain },
      responses: { 200: { description: "The consumer", content: json(namedConsumer) } },
    }),
    action: "rotation.start",
    idempotency: "optional",
    decision: "before_the_change",
    problems: ["denied", "rotation_consumers_max", "not_found"],
    handler: async (call) => {
      const port = await allowedPort(call, consumerOf(call));
      const added = await port.addConsumer(await callOf(call), call.input.params.name);
      if (!added.ok) throw refusal(added);
      return { status: 200, body: await remembered(call, 200, added.consumer) };
    },
  });

  door.route({
    route: createRoute({
      method: "delete",
      path: "/api/rotations/consumers/{kind}/{name}",
      tags,
      summary: "Strike out a consumer that is gone",
      description: "Not while a rotation waits for it: to go on without it takes an emergency, and two persons.",
      request: { params: ofConsumer, query: ofDomain },
      responses: { 200: { description: "The consumer, as it was", content: json(namedConsumer) } },
    }),
    action: "rotation.start",
    idempotency: "optional",
    decision: "before_the_change",
    problems: ["denied", "not_found", "rotation_running"],
    handler: async (call) => {
      const port = await allowedPort(call, consumerOf(call));
      const removed = await port.removeConsumer(await callOf(call), call.input.params.name);
      if (!removed.ok) throw refusal(removed);
      return { status: 200, body: await remembered(call, 200, removed.consumer) };
    },
  });
}

type RotationAction = "rotation.read" | "rotation.start" | "rotation.acknowledge" | "rotation.cancel";
/** As far as these routes look at a call, whichever of the actions it is. */
type AnyCall = Pick<Call, "parts" | "caller" | "claim" | "now">;

async function allowed<R, A extends RotationAction>(
  call: Call<R, A>,
  ownDomain: boolean,
): Promise<{ readonly curates: boolean }> {
  const facts = await rotationFacts(call, ownDomain);
  const decision = await (call as Call<R, RotationAction>).decide(facts);
  if (!decision.allow) await denied(call, decision, { facts });
  return facts;
}

/** Whose keys a call is about. The trust domain of another tenant is none. */
type Asked = { readonly kind: RotationKind } | { readonly kind: "fetcher"; readonly trust_domain: string };

async function allowedPort<R, A extends RotationAction>(call: Call<R, A>, asked: Asked): Promise<RotationsPort> {
  if (asked.kind !== "fetcher") {
    await allowed(call, false);
    return call.parts.rotations(asked.kind);
  }
  const noDomain = new Problem("not_found", "The tenant states no such trust domain.");
  if (!(await statesDomain(call, asked.trust_domain))) throw noDomain;
  await allowed(call, true);
  const { parts, caller, now } = call;
  // Whoever lists rotations looks for them there from now on.
  if (!(await noteRotated(parts.database, caller.tenant_id, asked.trust_domain, now))) throw noDomain;
  return parts.authorityRotations(caller.tenant_id, asked.trust_domain);
}

async function allowedRotation<R, A extends RotationAction>(call: Call<R, A>, id: string): Promise<FoundRotation> {
  const own = await ownRotation(call, id);
  await allowed(call, own !== null);
  return found(own ?? (await platformRotation(call, id)));
}

function found(rotation: FoundRotation | null): FoundRotation {
  if (rotation === null) throw new Problem("not_found", "There is no such rotation.");
  return rotation;
}

function consumerOf({
  input,
}: {
  readonly input: {
    readonly params: { readonly kind: RotatedKind };
    readonly query: { readonly trust_domain?: string | undefined };
  };
}): Asked {
  const { kind } = input.params;
  const { trust_domain } = input.query;
  if (kind !== "fetcher" && trust_domain === undefined) return { kind };
  if (kind === "fetcher" && trust_domain !== undefined) return { kind, trust_domain };
  throw new Problem("invalid_request", "The kind `fetcher`, and no other, is asked for with ?trust_domain=.");
}

const callOf = async ({ caller, claim }: AnyCall): Promise<RotationCall> => ({
  tenant_id: caller.tenant_id,
  principal: caller.principal_id,
  intent: claim === null ? null : hex(await claimDigest(claim)),
});

const refusal = ({ code, detail }: RotationRefused): Problem => new Problem(code, detail);

function settled(answer: RotationAnswer): Rotation {
  if (!answer.ok) throw refusal(answer);
  return answer.rotation;
}

/** The object and Postgres share no transaction; after a crash in between, the object knows the intent or does nothing twice. */
async function remembered<T>({ parts, claim, now }: AnyCall, status: 200 | 201, body: T): Promise<T> {
  if (claim !== null) await rememberOnly(parts.database, claim, now, { status, response: body });
  return body;
}
