// The tests that run inside workerd: one runtime with the classes and bindings of all the product's workers. Loaded by
// vitest.config.ts where these tests are asked for, since loading Wrangler and Miniflare costs a second of processor.

import { createPublicKey, generateKeyPairSync, randomBytes } from "node:crypto";

/** What a wrangler.toml binds, by kind and name. */
type Bindings = Record<"durableObjects" | "r2Buckets" | "queueProducers" | "bindings", Record<string, never>>;
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

/** The project `workerd`, of which Vitest takes no files that match `exclude`. */
export async function workerdProject(exclude: string[]) {
  // Not at the file's head: Vite makes one file of the configuration, which would load them always.
  const { cloudflareTest } = await import("@cloudflare/vitest-plugin");
  const { kCurrentWorker } = await import("miniflare");
  const { unstable_getMiniflareWorkerOptions } = await import("wrangler");
  const read = (path: string) => unstable_getMiniflareWorkerOptions(path).workerOptions as unknown as Bindings;
  const [api, audit, signer] = [
    read("./wrangler.toml"),
    read("./workers/audit/wrangler.toml"),
    read("./workers/signer/wrangler.toml"),
  ];
  return {
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
      exclude,
      testTimeout: 60_000,
    },
  };
}
