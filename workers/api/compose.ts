// Makes the API's parts out of what the platform binds: the only reader of Env. Called by index.ts, once an isolate.

import nodeCrypto from "node:crypto";
import { waitUntil } from "cloudflare:workers";
import { neon, neonConfig } from "@neondatabase/serverless";
import { loadPolicy } from "@open-policy-agent/opa-wasm";
import { drizzle } from "drizzle-orm/neon-http";
import policyBuild from "../../policy/generated/authz.json";
import policyModule from "../../policy/generated/authz.wasm";
import type { EdgeHealthParts } from "../../durable-objects/edge-health.ts";
import type { EntitlementsParts } from "../../durable-objects/entitlements.ts";
import type { OutboxDrainParts } from "../../durable-objects/outbox-drain.ts";
import { authorityRotationName, type KeyRotationParts } from "../../durable-objects/key-rotation.ts";
import type { PolicyPublisherParts } from "../../durable-objects/policy-publisher.ts";
import type { PqlMeterParts } from "../../durable-objects/pql-meter.ts";
import type { RolloutGatesParts } from "../../durable-objects/rollout-gates.ts";
import type { PrivacyLedgerParts } from "../../durable-objects/privacy-ledger.ts";
import type { CountReport, MeterReports } from "../../shared/contract/event-counts.ts";
import type { Log, Random } from "../../shared/contract/ports.ts";
import { fetchersOf, trustDocumentOf } from "../../shared/edge/store.ts";
import type { FleetPort } from "../../shared/edge/fleet-board.ts";
import type { PublisherPort } from "../../shared/edge/service.ts";
import type { ProviderStore } from "../../shared/edge/stores.ts";
import { keepSighting } from "../../shared/identity/authority-store.ts";
import { SightingNotes } from "../../shared/identity/sighting-notes.ts";
import type { AuthorityServiceApi } from "../../shared/identity/platform/service.ts";
import { workerIdentity } from "../../shared/identity/platform/worker-identity.ts";
import { SvidDesk } from "../../shared/identity/svid-desk.ts";
import { leaseQuestion } from "../../shared/executions/store.ts";
import type { EntitlementsPort } from "../../shared/market/entitlements.ts";
import type { DrainPort } from "../../shared/outbox/drain.ts";
import { outboxInsert, shardOf } from "../../shared/outbox/outbox.ts";
import { postgresOutbox } from "../../shared/outbox/store.ts";
import { compiledPolicy } from "../../shared/policy/compiled.ts";
import { openRoutes } from "../../shared/policy/open-routes.ts";
import { workerCalls } from "../../shared/policy/worker-calls.ts";
import { rememberedByRole } from "../../shared/policy/remembered.ts";
import { AnswerCache } from "../../shared/pql/answer-cache.ts";
import { meterLimits, type MeterPort } from "../../shared/pql/meter.ts";
import { SealedCache } from "../../shared/pql/sealed-cache.ts";
import type { LedgerPort } from "../../shared/privacy/ledger.ts";
import type { RotationsPort } from "../../shared/rotation/port.ts";
import { CallerMemory } from "../../shared/tenancy/caller-memory.ts";
import { asTenant, type Database } from "../../shared/tenancy/database.ts";
import type { Env } from "./env.ts";
import { FlagMemory } from "./flag-memory.ts";
import { refreshBundles } from "./identity/refresh-bundles.ts";
import { believedReleaseKeys } from "./market/believed-release-keys.ts";
import { unusableReleases } from "./market/release-checks.ts";
import { DecisionNotes } from "./decision-notes.ts";
import { NoiseGate } from "./middleware/noise.ts";
import { errorFacts } from "./middleware/problem.ts";
import { fleetPort, meterPort } from "./object-ports.ts";
import type { Parts } from "./parts.ts";
import { platformWorkers, type PlatformWorkersParts } from "./platform-workers.ts";
import { nudgeTrust } from "./policies/nudge-trust.ts";
import { bunnyStore, r2Store, r2Vault } from "./policies/stores.ts";
import { tufSignerInTime } from "./policies/tuf-signer.ts";
import { fetcherTarget, type FetcherTargetParts } from "./rotations/fetcher-target.ts";
import { rotationTarget } from "./rotations/targets.ts";
import { QueryTimeNotes } from "./pql-times.ts";
import { sweepAll, type Swept } from "./sweeps.ts";
import { tokenIssuer } from "./token-issuer.ts";

/** Longer than the roles' statement_timeout: what takes this long will not answer any more. */
const databaseTimeoutMs = 12_000;

const clock = (): number => Date.now();
const random: Random = (byteCount) => crypto.getRandomValues(new Uint8Array(byteCount));

/** One JSON object a line: what Workers Logs and `npm start` read. */
const log: Log = (level, message, fields = {}) => {
  console[level](JSON.stringify({ level, message, time: new Date(clock()).toISOString(), ...fields }));
};

const loadedPolicy = await loadPolicy(policyModule);
const policy = rememberedByRole(compiledPolicy(loadedPolicy, policyBuild.source_sha256));
const decideWorkerCall = workerCalls(loadedPolicy);
const decideOpenRoute = openRoutes(loadedPolicy);

const perIsolate = new WeakMap<object, Parts>();

export function partsOf(env: Env): Parts {
  const made = perIsolate.get(env) ?? makeParts(env);
  perIsolate.set(env, made);
  return made;
}

function makeParts(env: Env): Parts {
  const shards = shardsOf(env);
  const times = new QueryTimeNotes({
    later: (work) =>
      waitUntil(work().catch((error: unknown) => log("warn", "times of questions lost", errorFacts(error)))),
    pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    tell: (tenantId, given) => meterAt(env, tenantId).observe(given),
  });
  const database = databaseAt(env, env.DATABASE_URL_APP);
  const nudgeDrain = (tenantId: string): void => {
    const drain = drainAt(env, shardOf(tenantId, shards));
    waitUntil(drain.nudge().catch((error: unknown) => log("warn", "drain not nudged", errorFacts(error))));
  };
  const decisionNotes = new DecisionNotes({
    log,
    random,
    policy_sha256: policy.sha256,
    later: (work) => waitUntil(work()),
    pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    commit: async (tenantId, events) => {
      await asTenant(database, tenantId, [outboxInsert(events, shards)]);
      nudgeDrain(tenantId);
    },
  });
  const identity = workerIdentity({
    self: "api",
    trustDomain: env.PLATFORM_TRUST_DOMAIN,
    clock,
    authority: env.AUTHORITY as unknown as AuthorityServiceApi,
    workerKey: env.WORKER_KEY,
    decide: decideWorkerCall,
    later: waitUntil,
  });
  const { audit, signer, platform } = platformWorkers({
    clock,
    log,
    trustDomain: env.PLATFORM_TRUST_DOMAIN,
    identity,
    bindings: guardedServices(env),
    pause: (ms) => scheduler.wait(ms),
  });
  const authDatabase = databaseAt(env, env.DATABASE_URL_AUTH);
  const publisher = (tenantId: string): PublisherPort => publisherAt(env, tenantId);
  return {
    clock,
    random,
    pause: (ms) => scheduler.wait(ms),
    log,
    noise: new NoiseGate(),
    decisionNotes,
    database,
    authDatabase,
    callers: new CallerMemory(),
    svidDesk: new SvidDesk({
      audience: env.SVID_AUDIENCE,
      pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    }),
    sightings: new SightingNotes({
      keep: (sighting, seenMs, floorMs) => keepSighting(database, sighting, seenMs, floorMs),
      later: (work) => waitUntil(work()),
      onLost: (error) => log("warn", "a workload's authority was not noted", errorFacts(error)),
    }),
    policy,
    openRoutes: decideOpenRoute,
    issuer: tokenIssuer({ issuer: env.OIDC_ISSUER, audience: env.OIDC_AUDIENCE }, env.OIDC_JWKS_URL, clock),
    // The stubs have the methods of the objects' classes; RPC's own types do not carry unions of results over.
    ledger: (tenantId) => env.PRIVACY_LEDGER.getByName(tenantId) as unknown as LedgerPort,
    entitlements: (tenantId) => env.ENTITLEMENTS.getByName(tenantId) as unknown as EntitlementsPort,
    meter: (tenantId) => meterAt(env, tenantId),
    answers: new AnswerCache(),
    sealedCounts: new SealedCache(),
    noteQueryTime: (tenantId, time) => times.note(tenantId, time),
    tellQueryTimes: (tenantId) => times.tell(tenantId),
    pqlGrammar: new FlagMemory(),
    edgeFlag: new FlagMemory(),
    audit,
    signer,
    tufSigner: tufSignerInTime(signer),
    workerDoor: identity.door,
    platform,
    publisher,
    nudgeTrust: (trustDomain) => nudgeTrust({ log, database: authDatabase, publisher }, trustDomain),
    fleet: (tenantId) => fleetPort(env.EDGE_HEALTH.getByName(tenantId) as unknown as FleetPort, log, tenantId),
    releaseKeys: believedReleaseKeys(database, env.RELEASE_KEYS),
    rotations: (kind) => env.KEY_ROTATION.getByName(kind) as unknown as RotationsPort,
    authorityRotations: (tenantId, trustDomain) =>
      env.KEY_ROTATION.getByName(authorityRotationName(tenantId, trustDomain)) as unknown as RotationsPort,
    artifacts: env.ARTIFACTS,
    nudgeDrain,
    nudgeGate: (tenantId) => {
      const nudged = gateAt(env, tenantId).nudge();
      waitUntil(nudged.catch((error: unknown) => log("warn", "gate not nudged", errorFacts(error))));
    },
    shards,
    edgeLinkKey: env.EDGE_LINK_KEY ?? "",
    publicUrl: env.PUBLIC_URL,
  };
}

export const entitlementsParts = (env: Env): EntitlementsParts => {
  const { database, shards } = partsOf(env);
  return { database, shards, clock, random };
};

export const outboxDrainParts = (env: Env): OutboxDrainParts => ({
  port: (shard) => postgresOutbox(databaseAt(env, env.DATABASE_URL_DRAIN), shard, sendTo(env, shard)),
  clock,
  rest: (ms) => scheduler.wait(ms),
  log,
});

export const privacyLedgerParts = (env: Env): PrivacyLedgerParts => {
  const { database, shards } = partsOf(env);
  return {
    clock,
    random,
    log,
    send: (tenantId) => sendTo(env, shardOf(tenantId, shards)),
    question: (tenantId) => leaseQuestion(database, tenantId, shards),
  };
};

export const pqlMeterParts = (): PqlMeterParts => ({ clock, limits: meterLimits });

export const edgeHealthParts = (env: Env): EdgeHealthParts => {
  const { shards } = partsOf(env);
  return { clock, random, log, send: (tenantId) => sendTo(env, shardOf(tenantId, shards)) };
};

const meterAt = (env: Env, tenantId: string): MeterPort =>
  meterPort(env.PQL_METER.getByName(tenantId) as unknown as MeterPort, log, tenantId);

export const rolloutGatesParts = (env: Env): RolloutGatesParts => {
  const parts = partsOf(env);
  const { database, shards } = parts;
  return {
    database,
    shards,
    clock,
    random,
    log,
    nudgeDrain: (tenantId) => parts.nudgeDrain(tenantId),
    unusable: (tenantId, ids) => unusableReleases(parts, tenantId, ids),
  };
};

export const policyPublisherParts = (env: Env): PolicyPublisherParts => {
  const { database, shards, tufSigner } = partsOf(env);
  return {
    clock,
    random,
    log,
    pause: (ms) => scheduler.wait(ms),
    providers: providersOf(env),
    send: (tenantId) => sendTo(env, shardOf(tenantId, shards)),
    ofTenant: (tenantId) => ({
      vault: r2Vault(env.ARTIFACTS),
      signTuf: (signed) => tufSigner.signTuf(tenantId, signed),
      tufKeys: () => tufSigner.tufKeys(tenantId),
      fetchers: (now) => fetchersOf(database, tenantId, now),
      trustDocument: (trustDomain) => trustDocumentOf(database, tenantId, trustDomain),
    }),
  };
};

/** In their order, each with a store of its own. */
function providersOf(env: Env): ProviderStore[] {
  const a = r2Store("a", env.EDGE_A);
  const { BUNNY_STORAGE_URL: url, BUNNY_STORAGE_ZONE: zone, BUNNY_STORAGE_KEY: accessKey } = env;
  return url === "" ? [a] : [a, bunnyStore("b", { url, zone, accessKey }, (request) => fetch(request))];
}

const publisherAt = (env: Env, tenantId: string): PublisherPort =>
  env.POLICY_PUBLISHER.getByName(tenantId) as unknown as PublisherPort;

interface Nudged extends Swept {
  nudge(): Promise<void>;
}

const gateAt = (env: Env, tenantId: string): Nudged => env.ROLLOUT_GATES.getByName(tenantId) as unknown as Nudged;

/** The cron's work. */
export const sweep = (env: Env): Promise<void> =>
  sweepAll({
    clock,
    log,
    database: databaseAt(env, env.DATABASE_URL_DRAIN),
    drains: Array.from({ length: shardsOf(env) }, (_, shard) => drainAt(env, shard)),
    gate: (tenantId) => gateAt(env, tenantId),
    publisher: (tenantId) => publisherAt(env, tenantId),
    refreshBundles: (due) => refreshBundles(partsOf(env), due, (url, init) => fetch(url, init)),
  });

export const keyRotationParts = (env: Env): KeyRotationParts => {
  const parts = partsOf(env);
  const { database, audit, signer, platform } = parts;
  const releaseKeys = (): ReturnType<Parts["releaseKeys"]> => parts.releaseKeys();
  const fetcherParts: FetcherTargetParts = {
    clock,
    pause: (ms) => scheduler.wait(ms),
    mirroredSince: new Map(),
    random,
    shards: parts.shards,
    nudgeDrain: (tenantId) => parts.nudgeDrain(tenantId),
    database,
    authDatabase: parts.authDatabase,
    providers: providersOf(env),
    fleet: (tenantId) => parts.fleet(tenantId),
    nudgeTrust: (trustDomain) => parts.nudgeTrust(trustDomain),
  };
  return {
    clock,
    random,
    log,
    sha256: (bytes) => nodeCrypto.createHash("sha256").update(bytes).digest(),
    pause: (ms) => scheduler.wait(ms),
    // Its events are of whichever tenant started a rotation: any queue takes them.
    send: sendTo(env, 0),
    target: (rotated, tenantId) =>
      rotated.trust_domain === null
        ? rotationTarget({ clock, database, audit, signer, platform, releaseKeys }, rotated.kind, tenantId)
        : fetcherTarget(fetcherParts, rotated.trust_domain, tenantId),
  };
};

const guardedServices = (env: Env) =>
  ({ audit: env.AUDIT, signer: env.SIGNER, authority: env.AUTHORITY }) as unknown as PlatformWorkersParts["bindings"];

/** For the audit worker, behind the door: what a tenant's log tells the tenant's meter. */
class MeterCalls implements MeterReports {
  readonly #env: Env;

  constructor(env: Env) {
    this.#env = env;
  }

  async report(tenantId: string, report: CountReport): Promise<void> {
    const meter = this.#env.PQL_METER.getByName(tenantId) as unknown as { report(report: CountReport): Promise<void> };
    await meter.report(report);
  }
}

export const meterCalls = (env: Env): MeterReports => new MeterCalls(env);

const shardsOf = (env: Env): number => {
  const shards = Number(env.AUDIT_SHARDS);
  if (!Number.isInteger(shards) || shards < 1) throw new Error("AUDIT_SHARDS is not a positive whole number");
  return shards;
};

const drainAt = (env: Env, shard: number): Nudged => env.OUTBOX_DRAIN.getByName(String(shard)) as unknown as Nudged;

function sendTo(env: Env, shard: number): DrainPort["send"] {
  const queue = (env as unknown as Readonly<Record<string, Queue | undefined>>)[`AUDIT_QUEUE_${shard}`];
  if (queue === undefined) throw new Error(`no queue is bound for shard ${shard}`);
  return async (messages) => {
    await queue.sendBatch(messages.map((body) => ({ body, contentType: "text" as const })));
  };
}

function databaseAt(env: Env, url: string): Database {
  if (env.NEON_FETCH_ENDPOINT !== "") neonConfig.fetchEndpoint = env.NEON_FETCH_ENDPOINT;
  neonConfig.fetchFunction = (input: string, init: RequestInit): Promise<Response> =>
    fetch(input, { ...init, signal: AbortSignal.timeout(databaseTimeoutMs) });
  return drizzle({ client: neon(url) });
}
