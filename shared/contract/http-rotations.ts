// Wire shapes of key rotations: what is rotated, how far it is, for whom it waits. Routes of /api/rotations and `maestro rotation`.

import { z } from "@hono/zod-openapi";
import { trustDomainName } from "./http-identity.ts";
import { idPattern } from "./ids.ts";
import { sha256Digest, timestamp } from "./names.ts";

export const rotationKinds = ["release", "audit", "link", "worker"] as const;
export const rotationKind = z.enum(rotationKinds);
export type RotationKind = (typeof rotationKinds)[number];

/** The authority of a trust domain that a tenant states: its own, and no key of the platform's. */
const authorityKind = "fetcher";
const rotatedKinds = [...rotationKinds, authorityKind] as const;
export const rotatedKind = z.enum(rotatedKinds);
export type RotatedKind = (typeof rotatedKinds)[number];
/** What one KeyRotation object rotates. */
export type Rotated =
  | { readonly kind: RotationKind; readonly trust_domain: null }
  | { readonly kind: typeof authorityKind; readonly trust_domain: string };

/** In their order: SPIRE's, with the verification in between. */
export const rotationStates = [
  "prepare",
  "published",
  "acknowledged",
  "active",
  "tainted",
  "verified",
  "revoked",
] as const;
/** Of one that is taken back, instead of the states that were to come. */
export const cancelStates = ["cancelling", "cancelled"] as const;
const rotationState = z.enum([...rotationStates, ...cancelStates]);
export type RotationState = z.infer<typeof rotationState>;
/** Nothing comes after these. */
export const endStates: readonly RotationState[] = ["revoked", "cancelled"];

export const rotationId = z
  .string()
  .regex(idPattern("rotation"))
  .openapi({ example: "rot_01k9x6f6c8a0b1c2d3e4f5g6h7" });
const principalId = z.string().regex(idPattern("principal"));
export const consumerName = z
  .string()
  .max(64)
  .regex(/^[a-z0-9]+([.-][a-z0-9]+)*$/, "lower-case words of letters and digits, joined by - or .")
  .openapi({ example: "plant-7-verifier" });
const reason = z.string().trim().min(1).max(500);

/** A kind has at most so many named consumers. */
export const consumersMax = 64;
/** A rotation of the platform's keys replaces at most so many. */
export const rotatedKeysMax = 4;
/** One of a trust domain's authority at most so many: each of SPIRE's servers may have one of its own. */
export const rotatedAuthoritiesMax = 32;
/** The list has so many of each kind, the newest first. */
export const rotationsListed = 50;

const rotatedKey = z.strictObject({ slot: z.string(), kid: sha256Digest });
export const authorityName = z
  .strictObject({
    slot: z.enum(["x509", "jwt"]),
    kid: sha256Digest.describe("SHA-256 of the public key (SPKI), of a JWT key its RFC 7638 thumbprint"),
  })
  .openapi("AuthorityName");

const consumer = z.strictObject({
  name: z.string(),
  built_in: z.boolean().describe("it was seen to hold the new keys; others say so themselves"),
  acknowledged_at: timestamp.nullable(),
});

const emergency = z.strictObject({
  reason: z.string(),
  proposed_by: principalId,
  proposed_at: timestamp,
  approved_by: principalId.nullable(),
  approved_at: timestamp.nullable(),
  proposal_sha256: sha256Digest
    .nullable()
    .describe("what was approved; null: approved before approvals named what they approve"),
});

const rotatedOf = {
  kind: rotatedKind,
  trust_domain: trustDomainName.nullable().describe("of the kind `fetcher`: whose authority; null elsewhere"),
};

export const rotation = z
  .strictObject({
    id: rotationId,
    ...rotatedOf,
    state: rotationState,
    started_by: principalId,
    old_keys: z.array(rotatedKey).describe("empty until the new ones are made"),
    new_keys: z.array(rotatedKey),
    consumers: z.array(consumer),
    waiting_for: z.array(z.string()).describe("consumers without which the new keys are not switched to"),
    obstacle: z.string().nullable().describe("why the last step did not succeed yet; it is tried again"),
    emergency: emergency
      .nullable()
      .describe("approved: nobody is waited for, and the old keys' signatures are not believed in the end"),
    transitions: z.array(z.strictObject({ state: rotationState, at: timestamp })),
  })
  .openapi("Rotation");
export type Rotation = z.infer<typeof rotation>;

export const namedConsumer = z
  .strictObject({ ...rotatedOf, name: consumerName, added_by: principalId, added_at: timestamp })
  .openapi("RotationConsumer");
export type NamedConsumer = z.infer<typeof namedConsumer>;

export const emergencyProposal = z
  .strictObject({
    id: rotationId.describe("of the rotation that it would hasten, or start"),
    ...rotatedOf,
    old_keys: z
      .array(rotatedKey)
      .describe(
        "of the kind `fetcher`: the authorities that nothing is believed of once it is approved; empty elsewhere",
      ),
    reason: z.string(),
    proposed_by: principalId,
    proposed_at: timestamp,
    breaks: z.array(z.string()).describe("what it would break, in words, as far as that is known now"),
    proposal_sha256: sha256Digest.describe(
      "of all the other members (SHA-256 of their RFC 8785 text in UTF-8): who approves names it",
    ),
  })
  .openapi("EmergencyProposal");
export type EmergencyProposal = z.infer<typeof emergencyProposal>;

export const emergencyApproval = z
  .strictObject({
    proposal_sha256: sha256Digest.describe("of the proposal that you have read, and approve; another one is refused"),
  })
  .openapi("EmergencyApproval");

export const rotationList = z
  .strictObject({
    rotations: z.array(rotation).describe("the newest first"),
    consumers: z.array(namedConsumer).describe("named ones; what is built in needs no name"),
    proposals: z.array(emergencyProposal).describe("emergencies that nobody has approved yet"),
  })
  .openapi("RotationList");

const platformKeys = { kind: rotationKind };
const domainKeys = { kind: z.literal(authorityKind), trust_domain: trustDomainName };
export const rotationStart = z
  .union([z.strictObject(platformKeys), z.strictObject(domainKeys)])
  .openapi("RotationStart");
const distrustRequest = z.strictObject({
  ...domainKeys,
  reason,
  authorities: z
    .array(authorityName)
    .min(1)
    .max(rotatedAuthoritiesMax)
    .optional()
    .describe("without it the old ones of the rotation that runs; without a rotation, all that are in force"),
});
export const emergencyRequest = z
  .union([z.strictObject({ ...platformKeys, reason }), distrustRequest])
  .openapi("EmergencyRequest");
export const acknowledgement = z
  .strictObject({
    consumer: consumerName,
    kids: z.array(sha256Digest).min(1).max(rotatedAuthoritiesMax).describe("the new keys, as the consumer has them"),
  })
  .openapi("RotationAcknowledgement");
