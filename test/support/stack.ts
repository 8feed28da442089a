// The contract tests' hold on the one real stack: addresses and controls. `const stack = useStack()` in a test file.

import { inject } from "vitest";
import type { Stack } from "../../scripts/stack/index.ts";
import type { TokenRequest } from "../../scripts/stack/issuer.ts";
import type { SeededTenant, SeedOptions } from "../../scripts/stack/seed.ts";
import type { MeterPort } from "../../shared/pql/meter.ts";
import type { CountReport } from "../../shared/contract/event-counts.ts";
import type { ControlName } from "./global-setup.ts";

/** What travels from the global setup to the test files. */
export interface StackFacts extends Pick<
  Stack,
  "folder" | "apiUrl" | "tls" | "edge" | "issuerUrl" | "audience" | "neonEndpoint" | "databaseUrls" | "logPaths"
> {
  readonly bunnyStorage: Pick<Stack["bunnyStorage"], "url" | "zone" | "accessKey">;
  readonly controlUrl: string;
  /** For a stack of a test's own: what this one runs, bundled. */
  readonly bundlesFolder: string;
}

declare module "vitest" {
  interface ProvidedContext {
    stack: StackFacts;
  }
}

export type BucketName = "artifacts" | "audit";

/** A provider's store behind its back: what is written and taken away here, the edge finds so. */
export interface EdgeStoreHandle {
  put(key: string, bytes: Uint8Array): Promise<void>;
  delete(key: string): Promise<void>;
}

export interface StackHandle extends Omit<StackFacts, "controlUrl" | "bunnyStorage"> {
  /** The stack is shared by all files: who stops it is in `alone` of vitest.config.ts, and starts it in a `finally`. */
  readonly postgres: { stop(): Promise<void>; start(): Promise<void> };
  /** Seeds a tenant, or answers the same one again. Give each test file slugs of its own. */
  seedTenant(slug: string, options?: SeedOptions): Promise<SeededTenant>;
  issueToken(request: TokenRequest): Promise<string>;
  /** The issuer signs with a new key from now on; answers its `kid`. */
  rotateIssuerKey(): Promise<string>;
  /** The tenant's PqlMeter object. */
  meter(tenantId: string): MeterPort & { report(report: CountReport): Promise<void> };
  readonly edgeStores: Readonly<Record<"a" | "b", EdgeStoreHandle>>;
  /** Provider B's store as a whole: as `postgres`. */
  readonly bunnyStorage: StackFacts["bunnyStorage"] & { stop(): Promise<void>; start(): Promise<void> };
  /** A request to provider A's edge with what the platform would tell of its client certificate. */
  fetchEdgeA(
    path: string,
    headers: Readonly<Record<string, string>>,
    tlsClientAuth: unknown,
  ): Promise<{ readonly status: number; readonly text: string }>;
  /** Runs every worker's scheduled handlers once. */
  runScheduled(): Promise<void>;
  /** Keys in the bucket with this prefix, in byte order, the first 1,000. */
  listObjects(bucket: BucketName, prefix: string): Promise<string[]>;
  /** Takes an object out of the bucket behind the product's back. */
  deleteObject(bucket: BucketName, key: string): Promise<void>;
  readObject(bucket: BucketName, key: string): Promise<Uint8Array<ArrayBuffer> | null>;
}

export function useStack(): StackHandle {
  const { controlUrl, ...facts } = inject("stack");
  async function control<T>(name: ControlName, ...args: readonly unknown[]): Promise<T> {
    const response = await fetch(`${controlUrl}/${name}`, { method: "POST", body: JSON.stringify(args) });
    const answer = (await response.json()) as { value: T } | { error: string };
    if ("error" in answer) throw new Error(`${name}: ${answer.error}`);
    return answer.value;
  }
  return {
    ...facts,
    postgres: { stop: () => control("stopPostgres"), start: () => control("startPostgres") },
    seedTenant: (slug, options) => control("seedTenant", slug, options ?? {}),
    issueToken: (request) => control("issueToken", request),
    rotateIssuerKey: () => control("rotateIssuerKey"),
    meter: (tenantId) => ({
      admit: (ask) => control("callMeter", tenantId, "admit", ask),
      report: (report) => control("callMeter", tenantId, "report", report),
      observe: (times) => control("callMeter", tenantId, "observe", times),
      timesText: () => control("callMeter", tenantId, "timesText"),
    }),
    edgeStores: {
      a: {
        put: (key, bytes) => control("putEdgeA", key, Buffer.from(bytes).toString("base64")),
        delete: (key) => control("deleteEdgeA", key),
      },
      b: {
        put: (key, bytes) => callBunny(facts.bunnyStorage, "PUT", key, bytes),
        delete: (key) => callBunny(facts.bunnyStorage, "DELETE", key),
      },
    },
    bunnyStorage: {
      ...facts.bunnyStorage,
      stop: () => control("stopBunnyStorage"),
      start: () => control("startBunnyStorage"),
    },
    fetchEdgeA: (path, headers, tlsClientAuth) => control("fetchEdgeA", path, headers, tlsClientAuth),
    runScheduled: () => control("runScheduled"),
    listObjects: (bucket, prefix) => control("listObjects", bucket, prefix),
    deleteObject: (bucket, key) => control("deleteObject", bucket, key),
    async readObject(bucket, key) {
      const text = await control<string | null>("readObject", bucket, key);
      return text === null ? null : new Uint8Array(Buffer.from(text, "base64"));
    },
  };
}

async function callBunny(
  { url, zone, accessKey }: StackFacts["bunnyStorage"],
  method: "PUT" | "DELETE",
  key: string,
  bytes?: Uint8Array,
): Promise<void> {
  const response = await fetch(`${url}/${zone}/${key}`, {
    method,
    headers: { AccessKey: accessKey },
    ...(bytes === undefined ? {} : { body: new Uint8Array(bytes) }),
  });
  await response.body?.cancel();
  if (!response.ok) throw new Error(`${method} answered ${response.status}`);
}
