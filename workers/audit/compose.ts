// Makes the audit worker's parts out of what the platform binds: the only reader of Env. The keys that sign checkpoints,
// manifests, receipts, packs and links are in the ring, which signs.

import { waitUntil } from "cloudflare:workers";
import { neon, neonConfig } from "@neondatabase/serverless";
import { loadPolicy } from "@open-policy-agent/opa-wasm";
import { drizzle } from "drizzle-orm/neon-http";
import policyModule from "../../policy/generated/authz.wasm";
import type { AuditLogParts } from "../../durable-objects/audit-log.ts";
import type { DisclosureGrantsParts } from "../../durable-objects/disclosure-grants.ts";
import { ringAt, type KeyRingParts, type RingApi } from "../../durable-objects/key-ring.ts";
import { anchorName, type LogAnchorParts } from "../../durable-objects/log-anchor.ts";
import { anchorTenantId } from "../../shared/audit/anchor-event.ts";
import { manifestKey } from "../../shared/audit/layout.ts";
import type { AuditLogApi, LogAnchorApi } from "../../shared/audit/service.ts";
import { utf8 } from "../../shared/contract/bytes.ts";
import type { MeterReports } from "../../shared/contract/event-counts.ts";
import { canonicalJson } from "../../shared/contract/events.ts";
import type { PublishedKeys } from "../../shared/contract/http-audit.ts";
import type { Bucket, Clock, Log, Random } from "../../shared/contract/ports.ts";
import { remembered } from "../../shared/contract/remember.ts";
import type { GrantsPort } from "../../shared/disclosure/grants.ts";
import type { AuthorityServiceApi, GuardedService } from "../../shared/identity/platform/service.ts";
import type { WorkerCaller } from "../../shared/identity/platform/worker-caller.ts";
import type { WorkerDoor } from "../../shared/identity/platform/worker-door.ts";
import { workerIdentity } from "../../shared/identity/platform/worker-identity.ts";
import { workerCalls } from "../../shared/policy/worker-calls.ts";
import { sealHours } from "../../shared/pql/hours-store.ts";
import { rowsOfExecution, writeEventRows } from "../../shared/pql/store.ts";
import { RingSigners } from "../../shared/rotation/ring-signers.ts";
import type { RotatingKeysApi } from "../../shared/rotation/service.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import { readRetiredKeys } from "../../shared/signing/published.ts";
import type { Database } from "../../shared/tenancy/database.ts";
import { postgresActivity, type Activity } from "./activity.ts";
import { r2Bucket } from "./bucket.ts";
import type { ConsumerParts } from "./consumer.ts";
import { packStore, zipArchive, type DisclosureParts } from "./disclosure.ts";
import type { Env } from "./env.ts";
import { gzip, sha256 } from "./hashing.ts";
import { AuditCalls } from "./service.ts";
import { askWitness, readWitnesses } from "./witnesses.ts";

/** A query that takes longer has failed; the log's rows are written again later. */
const databaseTimeoutMs = 20_000;

const decide = workerCalls(await loadPolicy(policyModule));

const clock: Clock = () => Date.now();
const random: Random = (byteCount) => crypto.getRandomValues(new Uint8Array(byteCount));

/** One JSON object a line: what Workers Logs and `npm start` read. */
const log: Log = (level, message, fields = {}) => {
  console[level](JSON.stringify({ level, message, time: new Date(clock()).toISOString(), ...fields }));
};

export interface Parts {
  readonly log: Log;
  readonly bucket: Bucket;
  readonly activity: Activity;
  readonly consumer: ConsumerParts;
  readonly auditLog: (tenantId: string) => AuditLogApi;
  readonly anchor: () => LogAnchorApi;
  readonly keys: () => Promise<PublishedKeys>;
  /** Rotation's steps. */
  readonly ring: () => RotatingKeysApi;
  readonly disclosure: () => Promise<DisclosureParts>;
  /** What comes over the service binding comes here first. */
  readonly door: WorkerDoor;
  readonly service: AuditCalls;
  /** This worker as it calls others. */
  readonly caller: WorkerCaller;
}

interface Made {
  readonly parts: Parts;
  readonly auditLogParts: AuditLogParts;
}

const perIsolate = new WeakMap<object, Made>();

function madeOf(env: Env): Made {
  const made = perIsolate.get(env) ?? make(env);
  perIsolate.set(env, made);
  return made;
}

export const partsOf = (env: Env): Parts => madeOf(env).parts;
export const auditLogParts = (env: Env): AuditLogParts => madeOf(env).auditLogParts;

/** The grants' events go straight to the tenant's log: both objects live in this script. */
export const disclosureGrantsParts = (env: Env): DisclosureGrantsParts => ({
  clock,
  random,
  log,
  send: (tenantId) => async (messages) => {
    // They come past the consumer, which notes what comes through it.
    const noting = partsOf(env).activity.note([tenantId]);
    for (const message of messages) {
      await auditLogAt(env, tenantId).append((JSON.parse(message) as object[]).map((event) => canonicalJson(event)));
    }
    await noting;
  },
});

function make(env: Env): Made {
  const database = databaseAt(env);
  const bucket = r2Bucket(env.AUDIT_BUCKET);
  const ring: RingApi = ringAt(env.AUDIT_RING, auditRingParts(env));
  const signers = new RingSigners(() => ring);
  const retired = remembered(() => readRetiredKeys(env.RETIRED_KEYS));
  const keys = async (): Promise<PublishedKeys> => {
    const [own, before] = await Promise.all([ring.publishedKeys(), retired()]);
    return {
      origin_prefix: env.LOG_ORIGIN,
      keys: [...own.keys, ...before],
      ...(own.endorsements.length === 0 ? {} : { endorsements: [...own.endorsements] }),
    };
  };
  /** What endorsed a key says nothing about a pack. */
  const keysForPacks = async (): Promise<PublishedKeys> => {
    const { endorsements: _, ...set } = await keys();
    return set;
  };
  const activity = postgresActivity(database, clock, log);
  const auditLog = (tenantId: string): AuditLogApi => auditLogAt(env, tenantId);
  const disclosure = async (): Promise<DisclosureParts> => ({
    clock,
    random,
    bucket: env.AUDIT_BUCKET,
    sign: (statement) => signers.sign(clock(), (signerOf) => signStatement(signerOf("statement"), statement)),
    withLinkKey: (at, work) => signers.sign(at, (signerOf) => work(signerOf("link"))),
    keys: await keysForPacks(),
    log: auditLog,
    store: packStore(env.AUDIT_BUCKET),
    manifest: (tenantId, range) => bucket.get(manifestKey(tenantId, range)),
    olderRows: (tenantId, executionId) => rowsOfExecution(database, tenantId, executionId),
    archive: zipArchive,
    pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    grants: (tenantId) => env.DISCLOSURE_GRANTS.getByName(tenantId) as unknown as GrantsPort,
  });
  const keepAside = async (digest: string, text: string): Promise<void> => {
    await bucket.putIfAbsent(`dead-letters/${digest}.json`, utf8(text), {
      contentType: "application/json",
      sha256: digest,
    });
  };
  const parts = {
    log,
    bucket,
    activity,
    auditLog,
    anchor: () => anchorAt(env),
    keys,
    ring: (): RotatingKeysApi => ring,
    disclosure,
    consumer: { auditLog, activity, keepAside, log },
  };
  const { door, caller } = workerIdentity({
    self: "audit",
    trustDomain: env.PLATFORM_TRUST_DOMAIN,
    clock,
    authority: env.AUTHORITY as unknown as AuthorityServiceApi,
    workerKey: env.WORKER_KEY,
    decide,
    later: waitUntil,
  });
  const meter = caller.service("api", env.METER as unknown as GuardedService, (error) => error) as MeterReports;
  return {
    parts: { ...parts, door, caller, service: new AuditCalls(parts) },
    auditLogParts: {
      clock,
      random,
      log,
      sha256,
      gzip,
      bucket,
      signed: (at, work) =>
        signers.sign(at, (signerOf) => work({ checkpoint: signerOf("checkpoint"), statement: signerOf("statement") })),
      originPrefix: env.LOG_ORIGIN,
      rows: {
        async write(rows) {
          // No tenant's question reaches the anchor log: its rows are for verifiers, who read the bucket.
          if (rows[0]?.tenant_id === anchorTenantId) return;
          await writeEventRows(database, rows);
        },
        async seal(tenantId, hours) {
          if (tenantId === anchorTenantId) return { sealed_to: hours.to, hours: [], days: [] };
          return await sealHours(database, tenantId, hours);
        },
      },
      meter: {
        async report(tenantId, report) {
          if (tenantId !== anchorTenantId) await meter.report(tenantId, report);
        },
      },
    },
  };
}

/** The LogAnchor object's: it asks the other objects of this script, and the witnesses. */
export function logAnchorParts(env: Env): LogAnchorParts {
  const { bucket, activity, auditLog } = partsOf(env);
  const witnesses = remembered(() => readWitnesses(env.WITNESSES));
  return {
    clock,
    log,
    sha256,
    bucket,
    witnesses,
    originPrefix: env.LOG_ORIGIN,
    active: (after, limit) => activity.list(after, limit),
    checkpointOf: (tenantId) => auditLog(tenantId).checkpoint(),
    anchorLog: auditLog(anchorTenantId),
    ask: askWitness,
  };
}

const anchorAt = (env: Env): LogAnchorApi => env.LOG_ANCHOR.getByName(anchorName) as unknown as LogAnchorApi;

// The stub has the methods of the object's class; RPC's own types do not carry unions of results over.
const auditLogAt = (env: Env, tenantId: string): AuditLogApi =>
  env.AUDIT_LOG.getByName(tenantId) as unknown as AuditLogApi;

export const auditRingParts = (env: Env): KeyRingParts => ({
  clock,
  random,
  name: "audit",
  secret: env.KEY_RING_SECRET,
  slots: [
    { name: "checkpoint", algorithm: "Ed25519", uses: ["checkpoint"], firstKey: env.CHECKPOINT_KEY },
    { name: "statement", algorithm: "P-256", uses: ["manifest", "receipt", "pack"], firstKey: env.STATEMENT_KEY },
    { name: "link", algorithm: "P-256", uses: ["link"], firstKey: env.LINK_KEY },
  ],
});

function databaseAt(env: Env): Database {
  if (env.NEON_FETCH_ENDPOINT !== "") neonConfig.fetchEndpoint = env.NEON_FETCH_ENDPOINT;
  neonConfig.fetchFunction = (input: string, init: RequestInit): Promise<Response> =>
    fetch(input, { ...init, signal: AbortSignal.timeout(databaseTimeoutMs) });
  return drizzle({ client: neon(env.DATABASE_URL_AUDIT) });
}
