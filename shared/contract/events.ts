// The catalogue of audit events: every type, its attributes, and the columns that tools may ask about.
// An event is made where its state changes, and carried by the outbox; the tenant's log gives it `seq` and `logged_at`.
// No attribute may hold a name, an address or free text about a person: principals are pseudonymous ids.

import canonicalize from "canonicalize";
import { z } from "@hono/zod-openapi";
import { utf8Length } from "./bytes.ts";
import { idPattern } from "./ids.ts";
import {
  cancelStates,
  consumersMax,
  rotatedAuthoritiesMax,
  rotatedKeysMax,
  rotatedKind,
  rotationStates,
} from "./http-rotations.ts";
import { policyNameInEvents, policyOutcomes } from "./http-policies.ts";
import { trustDomainName } from "./http-identity.ts";
import { channel, packageName, sha256Digest, tenantId, timestamp, version } from "./names.ts";

/** The largest event, as RFC 8785 bytes with `seq` and `logged_at`; checked before the commit. */
export const eventBytesMax = 48 * 1024;

const executionId = z.string().regex(idPattern("execution"));
const rolloutId = z.string().regex(idPattern("rollout"));
const fetcherId = z.string().regex(idPattern("fetcher"));
const units = z.int().min(0);
const code = z
  .string()
  .regex(/^[a-z0-9_.:-]{1,64}$/)
  .describe("a machine word, never free text");

/** Words of one pattern, none or several, joined by commas. */
const joined = (word: string, max: number) => z.string().regex(new RegExp(`^(?:${word}(?:,${word}){0,${max - 1}})?$`));

const execution = { execution_id: executionId, package: packageName, version, channel };

const policyChange = z.strictObject({
  policy: policyNameInEvents,
  channel,
  revision: z.int().min(1),
  bundle_sha256: sha256Digest,
  targets_version: z.int().min(1).describe("of the signed targets that say so"),
  outcome: z.enum(policyOutcomes),
});

/** An ID may name what its owner likes: the log has its digest, the API says whose that is. */
const workloadChange = <O extends string>(outcome: O) =>
  z.strictObject({
    principal_id: z.string().regex(idPattern("principal")),
    trust_domain: trustDomainName,
    spiffe_id_sha256: sha256Digest,
    outcome: z.literal(outcome),
  });

export const outcomes = ["succeeded", "failed", "expired"] as const;

/** A Sigstore bundle v0.3 with a DSSE envelope (application/vnd.in-toto+json). */
export const signedBundle = z.strictObject({
  mediaType: z.literal("application/vnd.dev.sigstore.bundle.v0.3+json"),
  verificationMaterial: z.strictObject({
    publicKey: z.strictObject({ hint: z.string().max(128) }),
    tlogEntries: z.array(z.unknown()).max(0).optional(),
  }),
  dsseEnvelope: z.strictObject({
    payloadType: z.string().max(128),
    payload: z.string(),
    signatures: z
      .array(z.strictObject({ sig: z.string(), keyid: z.string().max(128) }))
      .min(1)
      .max(4),
  }),
});
export type SignedBundle = z.infer<typeof signedBundle>;

/** Event type → its attributes, and whether the log seals soon after it (`urgent`: within 250 ms, else 1 s). */
export const eventTypes = {
  "mc.execution.started": {
    urgent: false,
    attributes: z.strictObject({
      ...execution,
      release_sha256: sha256Digest,
      input_sha256: sha256Digest.nullable(),
      units,
      entitlement_version: z.int().min(1),
      policy_sha256: sha256Digest,
      install_id: z.string().regex(idPattern("install")).optional(),
      rollout_id: rolloutId.optional(),
    }),
  },
  "mc.execution.finished": {
    urgent: true,
    attributes: z.strictObject({
      ...execution,
      release_sha256: sha256Digest,
      input_sha256: sha256Digest.nullable(),
      outcome: z.enum(outcomes),
      exit_code: z.int().min(0).max(255).nullable(),
      output_sha256: sha256Digest.nullable(),
      duration_ms: z.int().min(0),
      units,
    }),
  },
  "mc.receipt.signed": {
    urgent: true,
    attributes: z.strictObject({ ...execution, outcome: z.enum(outcomes), receipt: signedBundle }),
  },
  "mc.policy.decision": {
    urgent: false,
    attributes: z.strictObject({
      action: code,
      outcome: z.enum(["allow", "deny"]),
      rule: code,
      package: packageName.optional(),
      execution_id: executionId.optional(),
      units: units.optional(),
      policy_sha256: sha256Digest,
      input_sha256: sha256Digest,
      // Of allowed reads: so many alike ones from `occurred_at` on, the last of them then. Absent: one decision.
      count: z.int().min(1).optional(),
      until: timestamp.optional(),
    }),
  },
  "mc.entitlement.changed": {
    urgent: false,
    attributes: z.strictObject({
      package: packageName,
      channel,
      allowed: z.boolean(),
      entitlement_version: z.int().min(1),
      outcome: z.enum(["granted", "denied"]),
      version_range: z.string().max(256).optional(),
      run_window_count: z.int().min(0).optional(),
      runs_per_day_max: z.int().min(0).optional(),
    }),
  },
  "mc.entitlement.removed": {
    urgent: false,
    attributes: z.strictObject({
      package: packageName,
      entitlement_version: z.int().min(1),
      outcome: z.literal("removed"),
    }),
  },
  "mc.entitlement.reviewed": {
    urgent: false,
    attributes: z.strictObject({
      change_id: z.string().regex(idPattern("change")),
      entitlement_version: z.int().min(1).nullable().describe("the version that was made, where one was"),
      outcome: z.enum(["proposed", "approved", "rejected", "applied", "reverted"]),
    }),
  },
  "mc.flag.changed": {
    urgent: false,
    attributes: z.strictObject({ flag: code, outcome: z.enum(["on", "off"]) }),
  },
  "mc.publisher_key.added": {
    urgent: false,
    attributes: z.strictObject({ publisher_key_id: sha256Digest }),
  },
  "mc.release.published": {
    urgent: false,
    attributes: z.strictObject({ package: packageName, version, channel, release_sha256: sha256Digest, units }),
  },
  "mc.release.submitted": {
    urgent: false,
    attributes: z.strictObject({
      package: packageName,
      version,
      channel,
      release_sha256: sha256Digest,
      outcome: z.enum(["draft", "in_review"]),
    }),
  },
  "mc.release.reviewed": {
    urgent: false,
    attributes: z.strictObject({
      package: packageName,
      version,
      channel,
      release_sha256: sha256Digest,
      outcome: z.enum(["approved", "rejected"]),
    }),
  },
  "mc.release.yanked": {
    urgent: false,
    attributes: z.strictObject({ package: packageName, version, release_sha256: sha256Digest }),
  },
  "mc.channel.moved": {
    urgent: false,
    attributes: z.strictObject({
      package: packageName,
      version,
      channel,
      release_sha256: sha256Digest,
      previous_version: version.nullable(),
      sequence: z.int().min(1),
      outcome: z.enum(["published", "promoted", "demoted"]),
    }),
  },
  "mc.install.changed": {
    urgent: false,
    attributes: z.strictObject({
      package: packageName,
      version,
      channel,
      release_sha256: sha256Digest,
      previous_version: version.nullable(),
      outcome: z.enum(["installed", "upgraded", "downgraded", "unchanged", "rolled_back"]),
      install_id: z.string().regex(idPattern("install")).optional(),
      rollout_id: rolloutId.optional(),
    }),
  },
  "mc.install.pinned": {
    urgent: false,
    attributes: z.strictObject({
      package: packageName,
      install_id: z.string().regex(idPattern("install")),
      version,
      outcome: z.enum(["pinned", "unpinned"]),
    }),
  },
  "mc.rollout.changed": {
    urgent: false,
    attributes: z.strictObject({
      rollout_id: rolloutId,
      package: packageName,
      version,
      channel,
      release_sha256: sha256Digest,
      cohort_percent: z.int().min(1).max(100),
      moved_count: z.int().min(0),
      outcome: z.enum(["started", "widened", "completed", "aborted", "superseded"]),
      rule: code.describe("why: operator, health_gate, rollback, superseded"),
      log10_e_milli: z.int().optional().describe("the gate's evidence, where it was the gate"),
    }),
  },
  "mc.package.rolled_back": {
    urgent: true,
    attributes: z.strictObject({
      package: packageName,
      version: version.nullable().describe("the version asked for; null: each install's last good one"),
      moved_count: z.int().min(0),
      barred_count: z.int().min(0),
      outcome: z.literal("rolled_back"),
      rule: code.describe("who: operator, health_gate"),
    }),
  },
  "mc.release.barred": {
    urgent: false,
    attributes: z.strictObject({
      package: packageName,
      version,
      release_sha256: sha256Digest,
      outcome: z.enum(["barred", "lifted"]),
      rule: code,
    }),
  },
  "mc.package.frozen": {
    urgent: false,
    attributes: z.strictObject({ package: packageName, outcome: z.enum(["frozen", "unfrozen"]) }),
  },
  "mc.privacy.budget_set": {
    urgent: false,
    attributes: z.strictObject({ limit_units: units, leak_units_per_hour: units }),
  },
  "mc.privacy.reserved": {
    urgent: false,
    attributes: z.strictObject({ execution_id: executionId, units, remaining_units: z.int() }),
  },
  "mc.privacy.settled": {
    urgent: false,
    attributes: z.strictObject({ execution_id: executionId, units, remaining_units: z.int() }),
  },
  "mc.privacy.refunded": {
    urgent: false,
    attributes: z.strictObject({ execution_id: executionId, units, remaining_units: z.int(), rule: code }),
  },
  "mc.key.rotation": {
    urgent: true,
    attributes: z.strictObject({
      rotation_id: z.string().regex(idPattern("rotation")),
      kind: rotatedKind,
      trust_domain: trustDomainName.optional().describe("of the kind `fetcher`: whose authority"),
      outcome: z
        .enum([...rotationStates, "proposed", "approved", ...cancelStates])
        .describe(
          "the state that it is in now; `proposed` and `approved` are of an emergency, `cancelling` is somebody's word, and with " +
            "`cancelled` the new keys never sign",
        ),
      proposal_sha256: sha256Digest
        .optional()
        .describe("of `proposed` and `approved`: what exactly, as `GET /api/rotations` showed it"),
      old_kids: joined("[0-9a-f]{64}", rotatedKeysMax).describe("joined by commas; none until the new ones are made"),
      new_kids: joined("[0-9a-f]{64}", rotatedKeysMax),
      old_authorities: joined("(?:x509|jwt):[0-9a-f]{64}", rotatedAuthoritiesMax)
        .optional()
        .describe("of the kind `fetcher`, instead of kids: those that are replaced, joined by commas"),
      new_authorities: joined("(?:x509|jwt):[0-9a-f]{64}", rotatedAuthoritiesMax).optional(),
      consumers: joined("[a-z0-9.-]{1,64}", 2 * consumersMax).describe(
        "who has the new keys, joined by commas: machine words that operators gave",
      ),
    }),
  },
  "mc.key.consumer": {
    urgent: false,
    attributes: z.strictObject({
      kind: rotatedKind,
      trust_domain: trustDomainName.optional().describe("of the kind `fetcher`: whose authority"),
      consumer: z
        .string()
        .regex(/^[a-z0-9.-]{1,64}$/)
        .describe("whom rotations of these keys wait for: machine words that operators gave"),
      outcome: z.enum(["added", "acknowledged", "removed"]),
      rotation_id: z.string().regex(idPattern("rotation")).nullable().describe("whose new keys were acknowledged"),
    }),
  },
  "mc.key.created": {
    urgent: false,
    attributes: z.strictObject({ key_id: z.string().regex(idPattern("apiKey")), expires_at: timestamp.nullable() }),
  },
  "mc.key.revoked": {
    urgent: false,
    attributes: z.strictObject({ key_id: z.string().regex(idPattern("apiKey")) }),
  },
  "mc.principal.erased": {
    urgent: false,
    attributes: z.strictObject({ principal_id: z.string().regex(idPattern("principal")) }),
  },
  "mc.disclosure.linked": {
    urgent: false,
    attributes: z.strictObject({
      execution_id: executionId,
      grant_id: z.string().regex(idPattern("grant")),
      pack_sha256: sha256Digest,
      expires_at: timestamp,
      one_time: z.boolean().optional(),
      audience: z.string().regex(idPattern("principal")).optional().describe("who alone may use it"),
    }),
  },
  "mc.disclosure.revoked": {
    urgent: false,
    attributes: z.strictObject({ execution_id: executionId, grant_id: z.string().regex(idPattern("grant")) }),
  },
  "mc.disclosure.downloaded": {
    urgent: false,
    attributes: z.strictObject({
      execution_id: executionId,
      grant_id: z.string().regex(idPattern("grant")),
      pack_sha256: sha256Digest,
    }),
  },
  "mc.policy.published": { urgent: false, attributes: policyChange },
  "mc.policy.promoted": { urgent: false, attributes: policyChange },
  "mc.policy.rolled_back": { urgent: false, attributes: policyChange },
  "mc.policy.removed": {
    urgent: false,
    attributes: z.strictObject({
      policy: policyNameInEvents,
      stable_revision: z.int().min(1).nullable().describe("what the channel had; null: nothing"),
      canary_revision: z.int().min(1).nullable(),
      targets_version: z.int().min(1),
      outcome: z.literal("removed"),
    }),
  },
  "mc.policy.root_changed": {
    urgent: false,
    attributes: z.strictObject({
      root_version: z.int().min(1),
      root_sha256: sha256Digest,
      outcome: z.enum(["created", "rotated"]),
    }),
  },
  "mc.edge.instance_appeared": {
    urgent: false,
    attributes: z.strictObject({ instance_id: fetcherId, outcome: z.literal("appeared") }),
  },
  "mc.edge.instance_forgotten": {
    urgent: false,
    attributes: z.strictObject({ instance_id: fetcherId, outcome: z.literal("forgotten") }),
  },
  "mc.edge.mismatch_reported": {
    urgent: false,
    attributes: z.strictObject({
      instance_id: fetcherId,
      provider: code.describe("whose bytes were not those that their name or the signed metadata says"),
      mismatch_count: z.int().min(1).describe("of this provider, that the instance has met in all"),
      outcome: z.literal("refused"),
    }),
  },
  "mc.identity.domain_stated": {
    urgent: false,
    attributes: z.strictObject({
      trust_domain: trustDomainName,
      shared: z.boolean(),
      profile: z.enum(["https_web", "https_spiffe"]).nullable().describe("of the bundle's endpoint; null: handed in"),
      outcome: z.literal("stated"),
    }),
  },
  "mc.identity.domain_removed": {
    urgent: false,
    attributes: z.strictObject({ trust_domain: trustDomainName, outcome: z.literal("removed") }),
  },
  "mc.identity.bundle_changed": {
    urgent: true,
    attributes: z.strictObject({
      trust_domain: trustDomainName,
      bundle_sha256: sha256Digest,
      sequence: z.int().min(0).nullable(),
      authority_count: z.int().min(0).describe("for X.509-SVIDs; none: all are revoked"),
      jwt_key_count: z.int().min(0),
      outcome: z.enum(["handed_in", "refreshed"]),
    }),
  },
  "mc.identity.authority_distrusted": {
    urgent: true,
    attributes: z.strictObject({
      trust_domain: trustDomainName,
      rotation_id: z.string().regex(idPattern("rotation")).describe("the emergency, which two persons made"),
      authorities: joined("(?:x509|jwt):[0-9a-f]{64}", rotatedAuthoritiesMax).describe("joined by commas"),
      distrusts: z.int().min(1).describe("how many of the domain's authorities are distrusted now"),
      bundle_sha256: sha256Digest.nullable().describe("of the bundle in force without them; null: there is none"),
      outcome: z.literal("distrusted"),
    }),
  },
  "mc.identity.workload_registered": { urgent: false, attributes: workloadChange("registered") },
  "mc.identity.workload_removed": { urgent: false, attributes: workloadChange("removed") },
  "mc.log.head": {
    urgent: false,
    attributes: z.strictObject({
      log_sha256: sha256Digest.describe(
        "SHA-256 of the log's origin: only who knows the origin knows whose head it is",
      ),
      tree_size: z.int().min(1),
      root_sha256: sha256Digest,
    }),
  },
  "mc.log.gap": {
    urgent: true,
    attributes: z.strictObject({
      rule: code.describe("why: dead_letter, unreadable_message, refused_event, conflicting_event, source_counter"),
      event_count: z.int().min(0),
      first_event_id: z.string().regex(idPattern("event")).nullable(),
      message_sha256: sha256Digest,
    }),
  },
} as const;

export type EventType = keyof typeof eventTypes;
export type EventAttributes<T extends EventType> = z.infer<(typeof eventTypes)[T]["attributes"]>;

/** Who counts events: the store that owns the state. */
export const eventSources = ["api", "privacy", "audit", "disclosure", "edge", "fleet", "rotation"] as const;

export interface AuditEvent<T extends EventType = EventType> {
  readonly id: string;
  readonly tenant_id: string;
  readonly type: T;
  readonly schema_version: 1;
  readonly source: (typeof eventSources)[number];
  /** Counts the events of this source and tenant from 1 without a gap, where the source has one writer; else null. */
  readonly source_seq: number | null;
  readonly occurred_at: string;
  readonly principal: string | null;
  readonly attributes: EventAttributes<T>;
}

/** What a leaf holds behind its salt, as RFC 8785 bytes. */
export type LoggedEvent = AuditEvent & { readonly seq: number; readonly logged_at: string };

/** An event as it comes from its source. */
export const eventEnvelope = z.strictObject({
  id: z.string().regex(idPattern("event")),
  tenant_id: tenantId,
  type: z.enum(Object.keys(eventTypes) as [EventType, ...EventType[]]),
  schema_version: z.literal(1),
  source: z.enum(eventSources),
  source_seq: z.int().min(1).nullable(),
  occurred_at: timestamp,
  principal: z.string().regex(idPattern("principal")).nullable(),
  /** By its type's schema, which comes next: to go through them here too would take half as long again. */
  attributes: z.unknown(),
});

export type ParsedEvent = { ok: true; event: AuditEvent } | { ok: false; reason: string };

/** Reads an event that came over a wire. Unknown types, unknown fields and foreign versions are refused with a reason. */
export function parseEvent(value: unknown): ParsedEvent {
  const outer = eventEnvelope.safeParse(value);
  if (!outer.success) return { ok: false, reason: z.prettifyError(outer.error) };
  const attributes = eventTypes[outer.data.type].attributes.safeParse(outer.data.attributes);
  if (!attributes.success) return { ok: false, reason: z.prettifyError(attributes.error) };
  return { ok: true, event: { ...outer.data, attributes: attributes.data } };
}

/** An event as a leaf holds it. */
export const loggedEnvelope = eventEnvelope.extend({ seq: z.int().min(0), logged_at: timestamp });

/** A logged event, or null where the value is anything else; `parseEvent` knows why. */
export function parseLogged(value: unknown): LoggedEvent | null {
  const outer = loggedEnvelope.safeParse(value);
  if (!outer.success) return null;
  const attributes = eventTypes[outer.data.type].attributes.safeParse(outer.data.attributes);
  return attributes.success ? { ...outer.data, attributes: attributes.data } : null;
}

/** RFC 8785 text of a JSON value. Throws for what JSON cannot carry. */
export function canonicalJson(value: unknown): string {
  const text = canonicalize(value);
  if (text === undefined) throw new TypeError("not a JSON value");
  return text;
}

/**
 * The outbox text of a new event. Throws where the attributes do not fit the catalogue or the event is over
 * `eventBytesMax`: a defect of the caller, met before anything is committed.
 */
export function eventText<T extends EventType>(event: AuditEvent<T>): string {
  const parsed = parseEvent(event);
  if (!parsed.ok) throw new TypeError(`event ${event.type}: ${parsed.reason}`);
  const text = canonicalJson(parsed.event);
  const byteCount = utf8Length(text) + 80;
  if (byteCount > eventBytesMax) throw new RangeError(`event ${event.type} has ${byteCount} bytes`);
  return text;
}

/** What Parquet and Postgres hold beside the leaf's own bytes; every value is a function of those bytes. */
export interface EventColumns {
  readonly tenant_id: string;
  readonly seq: number;
  readonly logged_at: string;
  readonly occurred_at: string;
  readonly event_id: string;
  readonly type: EventType;
  readonly source: string;
  readonly principal: string | null;
  readonly execution_id: string | null;
  readonly package: string | null;
  readonly version: string | null;
  readonly channel: string | null;
  readonly outcome: string | null;
  readonly rule: string | null;
  readonly action: string | null;
  readonly units: number | null;
  readonly duration_ms: number | null;
  /** RFC 8785 text of `attributes`. */
  readonly attrs: string;
}

/** `attrs`: the RFC 8785 text of the attributes, from who has it already. */
export function eventColumns(event: LoggedEvent, attrs = canonicalJson(event.attributes)): EventColumns {
  const attributes: Readonly<Record<string, unknown>> = event.attributes;
  const text = (key: string): string | null => {
    const value = attributes[key];
    return typeof value === "string" ? value : null;
  };
  const integer = (key: string): number | null => {
    const value = attributes[key];
    return typeof value === "number" ? value : null;
  };
  return {
    tenant_id: event.tenant_id,
    seq: event.seq,
    logged_at: event.logged_at,
    occurred_at: event.occurred_at,
    event_id: event.id,
    type: event.type,
    source: event.source,
    principal: event.principal,
    execution_id: text("execution_id"),
    package: text("package"),
    version: text("version"),
    channel: text("channel"),
    outcome: text("outcome"),
    rule: text("rule"),
    action: text("action"),
    units: integer("units"),
    duration_ms: integer("duration_ms"),
    attrs,
  };
}
