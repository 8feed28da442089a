// The whole product on one machine: PostgreSQL, the Neon proxy, migrations, an issuer, and all workers in one Miniflare.
// Called by `npm start`, the demo and the contract tests.

import { randomBytes } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Miniflare } from "miniflare";
import { base64, sha256Hex, utf8 } from "../../shared/contract/bytes.ts";
import type { Role } from "../../shared/contract/names.ts";
import { writeProviders } from "../../shared/edge/providers.ts";
import { importSigner } from "../../shared/signing/keys.ts";
import { startBunnyStorage, type BunnyStorage } from "./bunny-storage.ts";
import { withClient } from "./connection.ts";
import { startEdgeB } from "./edge-b.ts";
import { handInBundle, localTrustDomain, seedTrustDomain, startIdentity } from "./identity.ts";
import { audience, startIssuer, type TokenRequest } from "./issuer.ts";
import { startKeeper } from "./keeper.ts";
import { migrate, readMigrations, setRolePasswords } from "./migrate.ts";
import { startNeonProxy } from "./neon-proxy.ts";
import { freePort, loopback, requireFree } from "./ports.ts";
import { removePlace } from "./postgres-place.ts";
import { openPostgres, ownerRole } from "./postgres.ts";
import { prepareDenoScript, prepareWorkers } from "./prepare-workers.ts";
import { seedTenant, type SeededTenant, type SeedOptions } from "./seed.ts";
import { watchSignalListeners } from "./signals.ts";
import {
  databaseRoles,
  loadSecrets,
  prepareStateFolder,
  writePrivateJson,
  type DatabaseRole,
  type Secrets,
} from "./state.ts";
import { startTlsFront, type TlsFront } from "./tls-front.ts";
import { projectFolder, startWorkers, workerConfigs } from "./workers.ts";

const database = "maestro";
/** Of the platform's own workers, apart from that of workloads: another authority issues there. */
export const platformTrustDomain = `platform.${localTrustDomain}`;

export interface StackPorts {
  readonly api?: number;
  readonly postgres?: number;
  readonly proxy?: number;
  readonly issuer?: number;
  readonly edgeA?: number;
  readonly edgeB?: number;
  readonly tls?: number;
}

export interface StackOptions {
  /** The state folder: made when missing, kept by `stop`, unless the stack is ephemeral. */
  readonly folder: string;
  /** 0 or absent = any free port. */
  readonly ports?: StackPorts;
  /** Progress, a line each. */
  readonly log?: (line: string) => void;
  /** No fsync, and the folder goes with the stack. */
  readonly ephemeral?: boolean;
  /** A child ended without being asked to: the stack is of no use any more. */
  readonly onDeath?: (who: "PostgreSQL" | "workerd" | "Deno", how: string) => void;
  /** Who cosigns the anchor log; nobody, where absent. */
  readonly witnesses?: readonly { readonly url: string; readonly vkey: string }[];
  /** Where bundles are kept for the next start; the state folder, where absent. For tests that start several stacks. */
  readonly bundlesFolder?: string;
  /** Other workers than the product's, by their wrangler.toml: for tests of the stack itself. */
  readonly workerConfigs?: readonly string[];
  /** Another entry of provider B than the product's, relative to the project: for a benchmark. */
  readonly edgeBEntry?: string;
}

export interface Stack {
  readonly folder: string;
  readonly apiUrl: string;
  readonly issuerUrl: string;
  readonly audience: string;
  /** The API over mutual TLS, and the authority whose SVIDs it is for. */
  readonly tls: { readonly url: string; readonly trustDomain: string; readonly authorityFolder: string };
  readonly neonEndpoint: string;
  readonly databaseUrls: Readonly<Record<"owner" | DatabaseRole, string>>;
  readonly postgres: { stop(): Promise<void>; start(): Promise<void>; pid(): number | null };
  /** Both providers' edges by their names, and the operator's key for their metrics. */
  readonly edge: { readonly a: string; readonly b: string; readonly metricsKey: string };
  /** Provider B's store. */
  readonly bunnyStorage: BunnyStorage & { readonly accessKey: string };
  readonly miniflare: Miniflare;
  readonly logPaths: { readonly workers: string; readonly postgres: string; readonly edgeB: string };
  seedTenant(slug: string, options?: SeedOptions): Promise<SeededTenant>;
  issueToken(request: TokenRequest): Promise<string>;
  /** The issuer signs with a new key from now on; the old one stays published. */
  rotateIssuerKey(): Promise<string>;
  /** Runs the scheduled handlers of all workers once, as their cron triggers would. */
  runScheduled(): Promise<void>;
  stop(): Promise<void>;
}

export async function startStack(options: StackOptions): Promise<Stack> {
  const folder = resolve(options.folder);
  const bundlesFolder = options.bundlesFolder ?? folder;
  const log = options.log ?? (() => {});
  const ports = { api: 0, postgres: 0, proxy: 0, issuer: 0, edgeA: 0, edgeB: 0, tls: 0, ...options.ports };
  const configs = options.workerConfigs ?? workerConfigs.map((path) => join(projectFolder, path));
  const undo: (() => Promise<void> | void)[] = [];
  const stop = async (): Promise<void> => {
    for (const step of undo.splice(0).toReversed()) await step();
  };

  const dropForeignListeners = watchSignalListeners();
  try {
    await requireFree(ports.api, "the API", "--port");
    await requireFree(ports.proxy, "the Neon proxy", "--proxy-port");
    await requireFree(ports.issuer, "the local issuer", "--issuer-port");
    await requireFree(ports.postgres, "PostgreSQL", "--postgres-port");
    await requireFree(ports.edgeA, "provider A's edge", "--edge-a-port");
    await requireFree(ports.edgeB, "provider B's edge", "--edge-b-port");
    await requireFree(ports.tls, "the TLS front", "--tls-port");
    prepareStateFolder(folder);
    if (options.ephemeral) undo.push(() => removeState(folder));
    const secrets = await loadSecrets(folder);
    const keeper = startKeeper();
    undo.push(() => keeper.close());
    if (options.ephemeral) keeper.removeFolder(folder);
    const onDeath = options.onDeath ?? ((who, how): void => void process.stderr.write(`${who} ended with ${how}\n`));

    log("starting PostgreSQL, bundling the workers");
    // PostgreSQL first: it is a process of its own, while loading the bundler keeps this one busy for a second.
    const opening = openPostgres({
      folder,
      port: ports.postgres,
      ownerPassword: secrets.owner_password,
      durable: options.ephemeral !== true,
      keeper,
      onDeath: (how) => onDeath("PostgreSQL", how),
    });
    const preparing = prepareWorkers(configs, join(bundlesFolder, "workers-cache.json"));
    preparing.catch(() => {}); // Awaited below; a failure before that must not end the process.
    const preparingB = prepareDenoScript(
      join(projectFolder, options.edgeBEntry ?? "workers/edge/bunny.ts"),
      join(bundlesFolder, "edge-b-cache.json"),
    );
    preparingB.catch(() => {}); // As above.
    const postgres = await opening;
    undo.push(() => postgres.stop());
    const databaseUrls = urlsOf(secrets, postgres.port);
    const applied = await prepareDatabase(databaseUrls.owner, secrets);
    if (applied.length > 0) log(`applied ${applied.length} migrations`);

    let front: TlsFront | null = null;
    /** Once a tenant that curates is seeded: nobody can hand in a bundle before. */
    let handIn: ((document: string) => Promise<void>) | null = null;
    const identity = await startIdentity({
      folder,
      clock: Date.now,
      onRenewed: (files) => front?.renew(files),
      onBundle: async (document) => await handIn?.(document),
      onFault: (error) => log(`the local authority: ${(error as Error).message}`),
    });
    undo.push(() => identity.stop());

    const proxy = await startNeonProxy({ port: ports.proxy, postgresPort: postgres.port });
    undo.push(() => proxy.stop());
    const issuer = await startIssuer({ folder, port: ports.issuer, secret: secrets.issuer_secret });
    undo.push(() => issuer.stop());
    const bunnyStorage = await startBunnyStorage({
      folder: join(folder, "bunny-storage"),
      port: 0,
      accessKey: secrets.bunny_keys.access_key,
      readOnlyKey: secrets.bunny_keys.read_only_key,
      durable: options.ephemeral !== true,
    });
    undo.push(() => bunnyStorage.stop());

    log("starting the workers");
    const prepared = await preparing;
    // The links that the workers write name the API's port, so it is chosen before they start.
    const apiPort = ports.api === 0 ? await freePort() : ports.api;
    const apiUrl = `http://${loopback}:${apiPort}`;
    const edgeAPort = ports.edgeA === 0 ? await freePort() : ports.edgeA;
    const workers = await startWorkers(prepared, {
      folder,
      port: apiPort,
      ports: { "maestro-edge": edgeAPort },
      variables: await workerVariables(
        databaseUrls,
        proxy.endpoint,
        issuer.url,
        apiUrl,
        secrets,
        options.witnesses ?? [],
        bunnyStorage,
      ),
      keeper,
      onDeath: (how) => onDeath("workerd", how),
    });
    undo.push(() => workers.stop());
    dropForeignListeners();
    const edgeB = await startEdgeB({
      folder,
      port: ports.edgeB === 0 ? await freePort() : ports.edgeB,
      script: await preparingB,
      settings: {
        BUNNY_STORAGE_URL: bunnyStorage.url,
        BUNNY_STORAGE_ZONE: bunnyStorage.zone,
        BUNNY_STORAGE_READ_ONLY_KEY: secrets.bunny_keys.read_only_key,
        API_ORIGIN: apiUrl,
        EDGE_LINK_KEY: secrets.edge_keys.link,
        EDGE_METRICS_KEY: secrets.edge_keys.metrics,
      },
      keeper,
      onDeath: (how) => onDeath("Deno", how),
    });
    undo.push(() => edgeB.stop());

    front = await startTlsFront({ port: ports.tls, target: apiUrl, svid: identity.svid(), bundle: identity.bundle });
    undo.push(() => front?.stop());

    const local = {
      token_url: `${issuer.url}/token`,
      secret: secrets.issuer_secret,
      issuer: issuer.url,
      audience,
      api_url: apiUrl,
    };
    writePrivateJson(join(folder, "local-issuer.json"), { ...local, subjects: {} });
    writeFileSync(
      join(folder, "edge.multicdn.json"),
      writeProviders([
        { name: "a", baseUrl: `http://${loopback}:${edgeAPort}` },
        { name: "b", baseUrl: edgeB.url },
      ]),
    );
    let subjectsOf: string | null = null;
    return {
      folder,
      apiUrl,
      issuerUrl: issuer.url,
      audience,
      tls: { url: front.url, trustDomain: localTrustDomain, authorityFolder: identity.authorityFolder },
      neonEndpoint: proxy.endpoint,
      databaseUrls,
      postgres: { stop: () => postgres.stop(), start: () => postgres.start(), pid: () => postgres.pid() },
      edge: { a: `http://${loopback}:${edgeAPort}`, b: edgeB.url, metricsKey: secrets.edge_keys.metrics },
      bunnyStorage: { ...bunnyStorage, accessKey: secrets.bunny_keys.access_key },
      miniflare: workers.miniflare,
      logPaths: { workers: workers.logPath, postgres: join(folder, "logs", "postgres.log"), edgeB: edgeB.logPath },
      async seedTenant(slug, options) {
        const { tenant, domain } = await withClient(databaseUrls.owner, async (client) => {
          const seeded = await seedTenant(client, folder, slug, issuer.url, options);
          const owner = { tenantId: seeded.tenant_id, principalId: seeded.principals.admin };
          if (options?.curates === false) return { tenant: seeded, domain: null };
          const row = await seedTrustDomain(client, owner, identity.bundle(), identity.sequence(), new Date());
          return { tenant: seeded, domain: row };
        });
        if (handIn === null && domain?.tenantId === tenant.tenant_id) {
          const subject = tenant.local_subjects.admin;
          handIn = async (document) => handInBundle(apiUrl, await issuer.issue({ subject }), document);
          // The authority was rotated while no stack ran.
          const document = identity.bundle();
          if ((await sha256Hex(utf8(document))) !== domain.bundleSha256) await handIn(document);
        }
        // `maestro login --local` is for the first tenant, the demo's.
        if (subjectsOf === null) {
          subjectsOf = slug;
          const subjects: Record<Role, string> = tenant.local_subjects;
          writePrivateJson(join(folder, "local-issuer.json"), { ...local, subjects });
        }
        return tenant;
      },
      issueToken: (request) => issuer.issue(request),
      rotateIssuerKey: () => issuer.rotate(),
      async runScheduled() {
        for (const { worker, cron } of workers.scheduled) await workers.runScheduled(worker, cron);
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** A new state folder for an ephemeral stack, where PostgreSQL's user can pass through to it. */
export function ephemeralFolder(): string {
  return join(process.env["TMPDIR"] ?? "/tmp", `maestro-${randomBytes(6).toString("hex")}`);
}

/** Removes the state folder, and what stands elsewhere on its behalf. No stack may be running on it. */
export function removeState(folder: string): void {
  removePlace(folder);
  rmSync(folder, { recursive: true, force: true });
}

function urlsOf(secrets: Secrets, port: number): Record<"owner" | DatabaseRole, string> {
  const url = (user: string, password: string): string =>
    `postgresql://${user}:${password}@${loopback}:${port}/${database}`;
  const { app, auth, drain, audit } = secrets.role_passwords;
  return {
    owner: url(ownerRole, secrets.owner_password),
    app: url("maestro_app", app),
    auth: url("maestro_auth", auth),
    drain: url("maestro_drain", drain),
    audit: url("maestro_audit", audit),
  };
}

async function prepareDatabase(ownerUrl: string, secrets: Secrets): Promise<string[]> {
  await withClient(ownerUrl.replace(/\/[^/]+$/, "/postgres"), async (client) => {
    const { rowCount } = await client.query("select from pg_database where datname = $1", [database]);
    if (rowCount === 0) await client.query(`create database ${database}`);
  });
  return withClient(ownerUrl, async (client) => {
    const applied = await migrate(client, readMigrations(join(projectFolder, "migrations")));
    await setRolePasswords(client, secrets.role_passwords);
    return applied;
  });
}

/** What each worker is given beyond its wrangler.toml: what production has as vars and secrets. */
async function workerVariables(
  databaseUrls: Record<DatabaseRole, string>,
  neonEndpoint: string,
  issuerUrl: string,
  apiUrl: string,
  secrets: Secrets,
  witnesses: NonNullable<StackOptions["witnesses"]>,
  bunnyStorage: BunnyStorage,
): Promise<Record<string, Record<string, string>>> {
  const { CHECKPOINT_KEY, STATEMENT_KEY, LINK_KEY, RELEASE_KEY } = secrets.worker_keys;
  const { authority, api, audit } = secrets.identity_keys;
  const publicHalf = async (key: string): Promise<string> => base64((await importSigner(key, "P-256")).spki);
  return {
    "maestro-api": {
      ...Object.fromEntries(
        databaseRoles
          .filter((role) => role !== "audit")
          .map((role) => [`DATABASE_URL_${role.toUpperCase()}`, databaseUrls[role]]),
      ),
      NEON_FETCH_ENDPOINT: neonEndpoint,
      OIDC_ISSUER: issuerUrl,
      OIDC_AUDIENCE: audience,
      OIDC_JWKS_URL: `${issuerUrl}/jwks.json`,
      PUBLIC_URL: apiUrl,
      EDGE_LINK_KEY: secrets.edge_keys.link,
      RELEASE_KEYS: JSON.stringify([await publicHalf(RELEASE_KEY)]),
      BUNNY_STORAGE_URL: bunnyStorage.url,
      BUNNY_STORAGE_ZONE: bunnyStorage.zone,
      BUNNY_STORAGE_KEY: secrets.bunny_keys.access_key,
      PLATFORM_TRUST_DOMAIN: platformTrustDomain,
      WORKER_KEY: api,
    },
    "maestro-audit": {
      DATABASE_URL_AUDIT: databaseUrls.audit,
      NEON_FETCH_ENDPOINT: neonEndpoint,
      LOG_ORIGIN: "maestro.local/log",
      PUBLIC_URL: apiUrl,
      WITNESSES: JSON.stringify(witnesses),
      CHECKPOINT_KEY,
      STATEMENT_KEY,
      LINK_KEY,
      KEY_RING_SECRET: secrets.ring_secrets.audit,
      RETIRED_KEYS: JSON.stringify(secrets.retired_keys ?? []),
      PLATFORM_TRUST_DOMAIN: platformTrustDomain,
      WORKER_KEY: audit,
    },
    "maestro-signer": {
      RELEASE_KEY,
      SVID_KEY: authority,
      KEY_RING_SECRET: secrets.ring_secrets.signer,
      ...secrets.tuf_keys,
      PLATFORM_TRUST_DOMAIN: platformTrustDomain,
      WORKER_KEYS: JSON.stringify({ api: [await publicHalf(api)], audit: [await publicHalf(audit)] }),
    },
    "maestro-edge": { EDGE_LINK_KEY: secrets.edge_keys.link, EDGE_METRICS_KEY: secrets.edge_keys.metrics },
  };
}
