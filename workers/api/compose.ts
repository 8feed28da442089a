// Makes the API's parts out of what the platform binds: the only reader of Env. Called by index.ts, once an isolate.

import { waitUntil } from "cloudflare:workers";
import { neon, neonConfig } from "@neondatabase/serverless";
import { loadPolicy } from "@open-policy-agent/opa-wasm";
import { z } from "zod";
import { drizzle } from "drizzle-orm/neon-http";
import { createRemoteJWKSet, customFetch } from "jose";
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
import { base64Bytes } from "../../shared/contract/bytes.ts";
import type { CountReport, MeterReports } from "../../shared/contract/event-counts.ts";
import type { Log, Random } from "../../shared/contract/ports.ts";
import { Problem } from "../../shared/contract/problems.ts";
import { fetchersOf, repositoriesToSweep, tenantsTrusting, trustDocumentOf } from "../../shared/edge/store.ts";
import type { FleetPort } from "../../shared/edge/fleet-board.ts";
import type { PublisherPort } from "../../shared/edge/service.ts";
import type { ProviderStore } from "../../shared/edge/stores.ts";
import { keepSighting } from "../../shared/identity/authority-store.ts";
import { SightingNotes } from "../../shared/identity/sighting-notes.ts";
import { dueDomains } from "../../shared/identity/store.ts";
import { bundleLeaseMs, HeldBundle } from "../../shared/identity/platform/held-bundle.ts";
import type { PlatformWorker } from "../../shared/identity/platform/names.ts";
import type { AuthorityServiceApi, GuardedService } from "../../shared/identity/platform/service.ts";
import { askAuthority, WorkerCaller, type WorkerCallRefused } from "../../shared/identity/platform/worker-caller.ts";
import { WorkerDoor } from "../../shared/identity/platform/worker-door.ts";
import { SvidDesk } from "../../shared/identity/svid-desk.ts";
import { leaseQuestion } from "../../shared/executions/store.ts";
import { readReleaseKeys } from "../../shared/market/release-key-store.ts";
import { tenantsRollingOut } from "../../shared/market/package-state-store.ts";
import type { EntitlementsPort } from "../../shared/market/entitlements.ts";
import type { DrainPort } from "../../shared/outbox/drain.ts";
import { outboxInsert, shardOf } from "../../shared/outbox/outbox.ts";
import { postgresOutbox } from "../../shared/outbox/store.ts";
import { compiledPolicy } from "../../shared/policy/compiled.ts";
import { workerCalls } from "../../shared/policy/worker-calls.ts";
import { rememberedByRole } from "../../shared/policy/remembered.ts";
import { AnswerCache } from "../../shared/pql/answer-cache.ts";
import { meterLimits, type MeterPort } from "../../shared/pql/meter.ts";
import { SealedCache } from "../../shared/pql/sealed-cache.ts";
import type { LedgerPort } from "../../shared/privacy/ledger.ts";
import type { RotationsPort } from "../../shared/rotation/port.ts";
import { importSigner, kidOf, type Signer } from "../../shared/signing/keys.ts";
import type { ReleaseKey } from "../../shared/signing/release.ts";
import { CallerMemory } from "../../shared/tenancy/caller-memory.ts";
import { asTenant, type Database } from "../../shared/tenancy/database.ts";
import { forgetOldInputs } from "../../shared/policy/decision-store.ts";
import { forgetAllExpired } from "../../shared/tenancy/idempotency.ts";
import { pausedAfterFailure, type TokenIssuer } from "../../shared/tenancy/token.ts";
import type { Env } from "./env.ts";
import { FlagMemory } from "./flag-memory.ts";
import { inTime } from "./in-time.ts";
import { refreshBundles } from "./identity/refresh-bundles.ts";
import { unusableReleases } from "./market/release-checks.ts";
import { DecisionNotes } from "./decision-notes.ts";
import { NoiseGate } from "./middleware/noise.ts";
import { errorFacts } from "./middleware/problem.ts";
import type { Parts } from "./parts.ts";
import { bunnyStore, r2Store, r2Vault } from "./policies/stores.ts";
import { tufSignerInTime } from "./policies/tuf-signer.ts";
import { fetcherTarget, type FetcherTargetParts } from "./rotations/fetcher-target.ts";
import { rotationTarget } from "./rotations/targets.ts";
import { QueryTimeNotes } from "./pql-times.ts";

/**
 * An unknown `kid` makes us fetch the issuer's keys again, but not twice within this time: made-up ones cost the issuer
 * 12 fetches a minute and isolate at most, and a new key is taken after so long at the latest.
 */
const keysCooldownMs = 5_000;
const keysAgeMaxMs = 600_000;
const keysTimeoutMs = 3_000;
const keysPauseMs = 2_000;

/** Longer than the roles' statement_timeout: what takes this long will not answer any more. */
const databaseTimeoutMs = 12_000;

/** The board answers within milliseconds; nobody's fetching waits for it. */
const boardTimeoutMs = 2_000;

/** A meter answers within milliseconds; without its answer nothing is read. */
const meterTimeoutMs = 2_000;

const clock = (): number => Date.now();
const random: Random = (byteCount) => crypto.getRandomValues(new Uint8Array(byteCount));

/** One JSON object a line: what Workers Logs and `npm start` read. */
const log: Log = (level, message, fields = {}) => {
  console[level](JSON.stringify({ level, message, time: new Date(clock()).toISOString(), ...fields }));
};

const loadedPolicy = await loadPolicy(policyModule);
const policy = rememberedByRole(compiledPolicy(loadedPolicy, policyBuild.source_sha256));
const decideWorkerCall = workerCalls(loadedPolicy);

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
  const identity = identityOf(env);
  const workers = servicesOf(env, identity.caller);
  return {
    clock,
    random,
    log,
    noise: new NoiseGate(),
    decisionNotes,
    database,
    authDatabase: databaseAt(env, env.DATABASE_URL_AUTH),
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
    issuer: issuerOf(env),
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
    audit: workers.audit,
    signer: workers.signer,
    tufSigner: tufSignerInTime(workers.signer),
    workerDoor: identity.door,
    platform: platformOf(env, identity),
    publisher: (tenantId) => publisherAt(env, tenantId),
    nudgeTrust: (trustDomain) => nudgeTrust(env, trustDomain),
    fleet: (tenantId) => fleetAt(env, tenantId),
    releaseKeys: releaseKeysOf(env),
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

/** A board that fails or is late is a problem of its own: what is read without it is not told. */
function fleetAt(env: Env, tenantId: string): FleetPort {
  const stub = env.EDGE_HEALTH.getByName(tenantId) as unknown as FleetPort;
  const answered = async <T>(answer: Promise<T>): Promise<T> => {
    try {
      return await inTime(answer, boardTimeoutMs, "the board");
    } catch (error) {
      log("error", "the board of the fleet did not answer", { tenant_id: tenantId, ...errorFacts(error) });
      throw new Problem("edge_board_unavailable", "The board of the tenant's fleet did not answer. Ask again.");
    }
  };
  return {
    report: (principal, report) => answered(stub.report(principal, report)),
    view: () => answered(stub.view()),
    forget: (principal, instance, intent) => answered(stub.forget(principal, instance, intent)),
  };
}

/** A meter that fails or is late is a problem of its own: a question without a price is not read. */
function meterAt(env: Env, tenantId: string): MeterPort {
  const stub = env.PQL_METER.getByName(tenantId) as unknown as MeterPort;
  const answered = async <T>(answer: Promise<T>): Promise<T> => {
    try {
      return await inTime(answer, meterTimeoutMs, "the meter");
    } catch (error) {
      log("error", "the meter did not answer", { tenant_id: tenantId, ...errorFacts(error) });
      throw new Problem("meter_unavailable", "The meter of the tenant's questions did not answer. Ask again.");
    }
  };
  return {
    admit: (ask) => answered(stub.admit(ask)),
    observe: (times) => answered(stub.observe(times)),
    timesText: () => answered(stub.timesText()),
  };
}

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

/** The publishers of all tenants that have a workload in that trust domain mirror its bundle soon; what is lost the sweep does. */
async function nudgeTrust(env: Env, trustDomain: string): Promise<void> {
  const tenants = await tenantsTrusting(databaseAt(env, env.DATABASE_URL_AUTH), trustDomain).catch((error: unknown) => {
    log("warn", "publishers were not told of a trust bundle", { trust_domain: trustDomain, ...errorFacts(error) });
    return [];
  });
  for (const result of await Promise.allSettled(tenants.map((id) => publisherAt(env, id).nudgeFetchers())))
    if (result.status === "rejected")
      log("warn", "a publisher was not told of a trust bundle", {
        trust_domain: trustDomain,
        ...errorFacts(result.reason),
      });
}

/** Publishers sign again what is due, mirror fetchers' keys, and look whether the stores have what they had. */
async function sweepPublishers(env: Env): Promise<void> {
  const tenants = await repositoriesToSweep(databaseAt(env, env.DATABASE_URL_DRAIN)).catch((error: unknown) => {
    log("error", "publishers not swept", errorFacts(error));
    return [];
  });
  for (const result of await Promise.allSettled(tenants.map((tenantId) => publisherAt(env, tenantId).sweep()))) {
    if (result.status === "rejected") log("error", "publisher not swept", errorFacts(result.reason));
  }
}

const gateAt = (env: Env, tenantId: string): { nudge(): Promise<void>; sweep(): Promise<void> } =>
  env.ROLLOUT_GATES.getByName(tenantId) as unknown as { nudge(): Promise<void>; sweep(): Promise<void> };

/** The gates of tenants that have a rollout running have an alarm, also where a nudge or an alarm was lost. */
async function sweepGates(env: Env): Promise<void> {
  const tenants = await tenantsRollingOut(databaseAt(env, env.DATABASE_URL_DRAIN)).catch((error: unknown) => {
    log("error", "gates not swept", errorFacts(error));
    return [];
  });
  for (const result of await Promise.allSettled(tenants.map((tenantId) => gateAt(env, tenantId).sweep()))) {
    if (result.status === "rejected") log("error", "gate not swept", errorFacts(result.reason));
  }
}

/** Bundles whose endpoint is due are fetched; the last good one stays where that fails. */
async function sweepBundles(env: Env): Promise<void> {
  const due = await dueDomains(databaseAt(env, env.DATABASE_URL_DRAIN), clock()).catch((error: unknown) => {
    log("error", "bundles not refreshed", errorFacts(error));
    return [];
  });
  await refreshBundles(partsOf(env), due, (url, init) => fetch(url, init));
}

/** The cron's work: every drain has its alarm, even where one was lost, and old answers are forgotten. */
export async function sweep(env: Env): Promise<void> {
  await forgetAllExpired(databaseAt(env, env.DATABASE_URL_DRAIN)).catch((error: unknown) => {
    log("error", "expired answers not forgotten", errorFacts(error));
  });
  await forgetOldInputs(databaseAt(env, env.DATABASE_URL_DRAIN)).catch((error: unknown) => {
    log("error", "old inputs of decisions not forgotten", errorFacts(error));
  });
  await sweepGates(env);
  const refreshed = sweepBundles(env);
  // A store that hangs may take minutes: it holds up no drain.
  const published = sweepPublishers(env);
  const drains = Array.from({ length: shardsOf(env) }, (_, shard) => drainAt(env, shard).sweep());
  for (const result of await Promise.allSettled(drains)) {
    if (result.status === "rejected") log("error", "drain not swept", errorFacts(result.reason));
  }
  await published;
  await refreshed;
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => (made ??= make());
}

/** The pinned ones are read once, the others each time. */
function releaseKeysOf(env: Env): Parts["releaseKeys"] {
  const database = databaseAt(env, env.DATABASE_URL_APP);
  const pinned = once(async () => {
    const list = z.array(z.base64()).parse(JSON.parse(env.RELEASE_KEYS));
    return await Promise.all(
      list.map(async (spki) => [await kidOf(base64Bytes(spki)), { spki, not_after: null }] as const),
    );
  });
  return async () => {
    const [first, rows] = await Promise.all([pinned(), readReleaseKeys(database)]);
    const known = rows.map(({ kid, spki, not_after }) => [kid, { spki, not_after }] as const);
    const all = new Map<string, ReleaseKey>([...first, ...known]);
    for (const { kid, revoked } of rows) if (revoked) all.delete(kid);
    return all;
  };
}

export const keyRotationParts = (env: Env): KeyRotationParts => {
  const parts = partsOf(env);
  const { database, audit, signer, platform } = parts;
  const releaseKeys = (): ReturnType<Parts["releaseKeys"]> => parts.releaseKeys();
  const fetcherParts: FetcherTargetParts = {
    clock,
    pause: (ms) => scheduler.wait(ms),
    mirroredSince: new Map(),
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
    pause: (ms) => scheduler.wait(ms),
    // Its events are of whichever tenant started a rotation: any queue takes them.
    send: sendTo(env, 0),
    target: (rotated, tenantId) =>
      rotated.trust_domain === null
        ? rotationTarget({ clock, database, audit, signer, platform, releaseKeys }, rotated.kind, tenantId)
        : fetcherTarget(fetcherParts, rotated.trust_domain, tenantId),
  };
};

interface Identity {
  readonly door: WorkerDoor;
  readonly caller: WorkerCaller;
  readonly held: HeldBundle;
}

/** Who this worker is among the platform's own, and whom it believes. */
function identityOf(env: Env): Identity {
  const authority = env.AUTHORITY as unknown as AuthorityServiceApi;
  const shared = { self: "api", trustDomain: env.PLATFORM_TRUST_DOMAIN, clock } as const;
  const held = new HeldBundle({ ...shared, ask: () => authority.bundle(), later: waitUntil });
  const askForSvid = askAuthority(shared, workerSignerOf(env), authority);
  const caller = new WorkerCaller({ ...shared, held, askForSvid, later: waitUntil });
  const door = new WorkerDoor({
    ...shared,
    held,
    decide: decideWorkerCall,
    ownSvid: (audience) => caller.svid(audience),
  });
  return { door, caller, held };
}

/** What a worker's clock may be behind the API's, beyond the lease. */
const leaseMarginMs = 1_000;

function platformOf(env: Env, { caller, held }: Identity): Parts["platform"] {
  const callees = [
    ["audit", env.AUDIT],
    ["signer", env.SIGNER],
    ["authority", env.AUTHORITY],
  ] as const;
  return {
    trustDomain: env.PLATFORM_TRUST_DOMAIN,
    bundle: async () => (await held.get()).document,
    authority: caller.service(
      "authority",
      env.AUTHORITY as unknown as GuardedService,
      callRefused,
    ) as Parts["platform"]["authority"],
    async shown() {
      const others = await Promise.all(
        callees.map(([name, binding]) => caller.introduction(name, binding as unknown as GuardedService)),
      );
      // Those that were shown to get here: of the oldest of them the end is told.
      const own = callees.map(([name]) => caller.shown(name)).filter((one) => one !== null);
      return [...own.toSorted((left, right) => left.until_ms - right.until_ms).slice(0, 1), ...others];
    },
    async identities() {
      // The newest first: who has another SVID than of the key that signs takes one then.
      const { bundle } = await held.newest();
      const others = await Promise.all(
        callees.map(async ([name, binding]) => {
          const { holds, kid } = await caller.introduction(name, binding as unknown as GuardedService);
          return { name, holds, presents: [kid] };
        }),
      );
      const presents = callees.map(([name]) => caller.shown(name)?.kid ?? null);
      return [{ name: "api", holds: [...bundle.jwtKeys.keys()], presents }, ...others];
    },
    waitOutLease: () => scheduler.wait(bundleLeaseMs + leaseMarginMs),
  };
}

/** Read once; what could not be read is not remembered. */
function workerSignerOf(env: Env): () => Promise<Signer> {
  let known: Signer | null = null;
  return async () => (known ??= await importSigner(env.WORKER_KEY, "P-256"));
}

/** The other workers, each call with an SVID of this one. */
function servicesOf(env: Env, caller: WorkerCaller) {
  const to = (callee: PlatformWorker, binding: Fetcher): object =>
    caller.service(callee, binding as unknown as GuardedService, callRefused);
  return {
    audit: to("audit", env.AUDIT) as Parts["audit"],
    signer: to("signer", env.SIGNER) as Parts["signer"] & Parts["tufSigner"],
  };
}

/** Nothing was done: whoever asked may ask again. What exactly was refused is for the log. */
function callRefused(error: WorkerCallRefused): Problem {
  log("error", "a call between workers was refused", { reason: error.message, code: error.code });
  return new Problem("worker_unavailable", "A worker of the platform cannot prove to another one who it is.");
}

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

const drainAt = (env: Env, shard: number): { nudge(): Promise<void>; sweep(): Promise<void> } =>
  env.OUTBOX_DRAIN.getByName(String(shard)) as unknown as { nudge(): Promise<void>; sweep(): Promise<void> };

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

function issuerOf(env: Env): TokenIssuer {
  const issuer = { issuer: env.OIDC_ISSUER, audience: env.OIDC_AUDIENCE };
  // Without an issuer no token gets as far as its keys (shared/tenancy/token.ts).
  const url = new URL(env.OIDC_JWKS_URL === "" ? "https://issuer.invalid/" : env.OIDC_JWKS_URL);
  const keys = createRemoteJWKSet(url, {
    cooldownDuration: keysCooldownMs,
    cacheMaxAge: keysAgeMaxMs,
    timeoutDuration: keysTimeoutMs,
    [customFetch]: pausedAfterFailure(
      (address: string, options: RequestInit) => fetch(address, options),
      clock,
      keysPauseMs,
    ),
  });
  return { ...issuer, keys };
}
