// The kinds of tests: `vitest run --project unit shared/audit` runs the part you name.
//   unit        beside their sources, on Node
//   simulation  test/simulation, on Node: seeded, node:sqlite, injected faults
//   workerd     test/workerd, inside workerd
//   contract    test/contract, on Node, several files at once against one real stack that globalSetup brings up
//   contract-alone  those files of test/contract that no other one may run beside, on a stack of their own
//   start       test/start, on Node: `npm start` itself, on state folders of its own
//   interop     test/interop, on Node, with foreign programs: `npm run test:interop` only
//   e2e         test/e2e, on Node, as a reader of README does it, on a stack of its own: `npm run test:interop` only
// Files of one kind share a process (`isolate: false`: a fifth of the time is imports otherwise), so no test may leave a
// spy, a timer or a changed environment behind, and none may use another one's objects.

import { createPublicKey, generateKeyPairSync, randomBytes } from "node:crypto";
import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { kCurrentWorker } from "miniflare";
import { defineConfig } from "vitest/config";
import { unstable_getMiniflareWorkerOptions } from "wrangler";

const outside = ["**/node_modules/**", "**/.maestro/**", "**/.wrangler/**"];
const deep = process.env["MAESTRO_DEEP"] === "1";

/** What a wrangler.toml binds, by kind and name. */
type Bindings = Record<"durableObjects" | "r2Buckets" | "queueProducers" | "bindings", Record<string, never>>;
const read = (path: string) => unstable_getMiniflareWorkerOptions(path).workerOptions as unknown as Bindings;
const [api, audit, signer] = [
  read("./wrangler.toml"),
  read("./workers/audit/wrangler.toml"),
  read("./workers/signer/wrangler.toml"),
];
function signingKey(kind: "P-256" | "Ed25519"): string {
  const { privateKey } =
    kind === "P-256" ? generateKeyPairSync("ec", { namedCurve: kind }) : generateKeyPairSync("ed25519");
  return JSON.stringify({ ...privateKey.export({ format: "jwk" }), not_before: "2026-01-01T00:00:00.000Z" });
}

function workerKeys() {
  const keys = { api: signingKey("P-256"), audit: signingKey("P-256") };
  const publicHalf = (jwk: string): string =>
    createPublicKey({ key: JSON.parse(jwk) as { kty: string }, format: "jwk" })
      .export({ type: "spki", format: "der" })
      .toString("base64");
  return {
    SVID_KEY: signingKey("P-256"),
    // The scripts are one here, and the callers' keys so too: it is the API's, and the audit worker's under its own name.
    WORKER_KEY: keys.api,
    AUDIT_WORKER_KEY: keys.audit,
    WORKER_KEYS: JSON.stringify({ api: [publicHalf(keys.api)], audit: [publicHalf(keys.audit)] }),
    PLATFORM_TRUST_DOMAIN: "platform.mc.test",
  };
}

const secretKey = (): string => JSON.stringify({ kty: "oct", k: randomBytes(32).toString("base64url") });

/** Contract tests that no other file may run beside: they stop a part of the stack, or count what all of it did. */
const alone = [
  "cdn-swap", // counts what is late
  "door", // stops PostgreSQL
  "edge-serving", // stops provider B's store, counts the edges' reads
  "identity-at-edges", // verifies at the edges, where edge-identity counts
  "market-recovery", // waits until the outbox is empty
  "mutual-tls", // replaces the local authority
  "outage", // stops PostgreSQL
  "policies", // stops provider B's store
  "stack", // stops PostgreSQL, rotates the issuer's key
  "tenancy", // rotates the issuer's key
].map((name) => `test/contract/${name}.test.ts`);
const contract = {
  environment: "node" as const,
  isolate: false,
  globalSetup: ["./test/support/global-setup.ts"],
  testTimeout: 60_000,
  hookTimeout: 60_000,
  // Asking costs the stack as much as a request does, and what is waited for takes a tenth of a second at least.
  expect: { poll: { interval: 150 } },
};

const interop = {
  test: {
    name: "interop",
    environment: "node" as const,
    include: ["test/interop/**/*.test.ts"],
    exclude: outside,
    testTimeout: 600_000,
  },
};

const e2e = {
  test: {
    name: "e2e",
    environment: "node" as const,
    include: ["test/e2e/**/*.test.ts"],
    exclude: outside,
    globalSetup: ["./test/support/global-setup.ts"],
    testTimeout: 600_000,
    hookTimeout: 60_000,
  },
};

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          environment: "node",
          include: ["{shared,durable-objects,workers,cli,policy,scripts}/**/*.test.ts"],
          isolate: false,
          exclude: outside,
          testTimeout: deep ? 600_000 : 60_000,
        },
      },
      {
        test: {
          name: "simulation",
          environment: "node",
          include: ["test/simulation/**/*.test.ts"],
          isolate: false,
          exclude: outside,
          testTimeout: deep ? 1_800_000 : 60_000,
        },
      },
      {
        plugins: [
          cloudflareTest({
            main: "./test/workerd/worker.ts",
            remoteBindings: false,
            miniflare: {
              cf: false,
              compatibilityDate: "2026-10-23",
              modulesRules: [{ type: "CompiledWasm", include: ["**/*.wasm"] }],
              durableObjects: {
                // The API's last: of what the audit worker takes from its script, the class is here.
                ...audit.durableObjects,
                ...signer.durableObjects,
                ...api.durableObjects,
                DRAIN_PROBE: { className: "DrainProbe", useSQLite: true },
              },
              r2Buckets: { ...api.r2Buckets, ...audit.r2Buckets },
              queueProducers: { ...api.queueProducers, ...audit.queueProducers },
              // No PostgreSQL here: what needs one is tested in test/contract, and these tests see an outage.
              serviceBindings: Object.fromEntries(
                [
                  ["SIGNER", "SignerService"],
                  ["AUDIT", "AuditService"],
                  ["AUTHORITY", "AuthorityService"],
                  ["METER", "MeterService"],
                ].map(([name, entrypoint]) => [name, { name: kCurrentWorker, entrypoint }]),
              ),
              bindings: {
                ...api.bindings,
                ...audit.bindings,
                ...signer.bindings,
                ...workerKeys(),
                DATABASE_URL_APP: "postgresql://maestro_app:none@127.0.0.1:9/none",
                DATABASE_URL_AUTH: "postgresql://maestro_auth:none@127.0.0.1:9/none",
                DATABASE_URL_DRAIN: "postgresql://maestro_drain:none@127.0.0.1:9/none",
                DATABASE_URL_AUDIT: "postgresql://maestro_audit:none@127.0.0.1:9/none",
                NEON_FETCH_ENDPOINT: "http://127.0.0.1:9/sql",
                LOG_ORIGIN: "maestro.local/log",
                PUBLIC_URL: "http://127.0.0.1:8787",
                CHECKPOINT_KEY: signingKey("Ed25519"),
                STATEMENT_KEY: signingKey("P-256"),
                LINK_KEY: signingKey("P-256"),
                RELEASE_KEY: signingKey("P-256"),
                KEY_RING_SECRET: randomBytes(32).toString("hex"),
                TUF_TARGETS_KEY: secretKey(),
                TUF_SNAPSHOT_KEY: secretKey(),
                TUF_TIMESTAMP_KEY: secretKey(),
              },
            },
          }),
        ],
        test: {
          name: "workerd",
          include: ["test/workerd/**/*.test.ts"],
          // One runtime for all: it takes some seconds to start, and to load the product.
          isolate: false,
          maxWorkers: 1,
          sequence: { groupOrder: 3 },
          exclude: outside,
          testTimeout: 60_000,
        },
      },
      {
        test: {
          ...contract,
          name: "contract",
          include: ["test/contract/**/*.test.ts"],
          exclude: [...outside, ...alone],
          // A good part of their time they wait: for leases, alarms, crons.
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...contract,
          name: "contract-alone",
          include: alone,
          exclude: outside,
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
        },
      },
      {
        test: {
          name: "start",
          environment: "node",
          include: ["test/start/**/*.test.ts"],
          exclude: outside,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      ...(process.env["MAESTRO_INTEROP"] === "1" ? [interop, e2e] : []),
    ],
  },
});
