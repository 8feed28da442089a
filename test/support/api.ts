// The API's app in this process, on the stack's real Postgres and the committed policy, so that a test can see inside:
// every route, every decision, every log line. What it cannot reach from here (objects, other workers) throws.

import { randomBytes } from "node:crypto";
import { neon, neonConfig } from "@neondatabase/serverless";
import { drizzle } from "drizzle-orm/neon-http";
import { createRemoteJWKSet } from "jose";
import type { Log } from "../../shared/contract/ports.ts";
import { SvidDesk } from "../../shared/identity/svid-desk.ts";
import type { Policy } from "../../shared/policy/decide.ts";
import { CallerMemory } from "../../shared/tenancy/caller-memory.ts";
import type { Database } from "../../shared/tenancy/database.ts";
import { loadCommittedRules } from "./policy.ts";
import type { StackHandle } from "./stack.ts";

/** `App` of workers/api/app.ts, as far as tests use it. */
export interface ApiApp {
  fetch(request: Request, bindings: { parts: Record<string, unknown> }): Promise<Response>;
  readonly hono: { readonly routes: readonly { readonly method: string; readonly path: string }[] };
  readonly entries: readonly {
    readonly route: { readonly method: string; readonly path: string };
    readonly action: string | null;
    readonly idempotency: "required" | "optional" | "none";
    readonly credential: "looked_up_first" | "checked_with_the_answer";
  }[];
}

export interface LocalApi {
  readonly app: ApiApp;
  readonly policy: Policy;
  readonly database: Database;
  readonly logged: { level: string; message: string; fields: Readonly<Record<string, unknown>> }[];
  /** Inputs that were decided, in order. */
  readonly decided: unknown[];
  /** Open routes that were asked about, in order. */
  readonly opened: string[];
  fetch(path: string, init?: RequestInit): Promise<Response>;
}

/** Types of a worker and of Node do not mix in one program, so the compiler is not led from here into workers/. */
export async function loadApp(): Promise<ApiApp> {
  const { createApp } = await workerModule<{ createApp: () => ApiApp }>("app.ts");
  return createApp();
}

const workerModule = async <M>(path: string): Promise<M> =>
  (await import(new URL(`../../workers/api/${path}`, import.meta.url).href)) as M;

export function databaseAs(
  stack: Pick<StackHandle, "neonEndpoint" | "databaseUrls">,
  role: keyof StackHandle["databaseUrls"],
): Database {
  neonConfig.fetchEndpoint = stack.neonEndpoint;
  return drizzle({ client: neon(stack.databaseUrls[role]) });
}

export async function localApi(stack: StackHandle, parts: Record<string, unknown> = {}): Promise<LocalApi> {
  const app = await loadApp();
  const { NoiseGate } = await workerModule<{ NoiseGate: new () => object }>("middleware/noise.ts");
  const { policy, openRoutes } = await loadCommittedRules();
  const opened: string[] = [];
  const decided: unknown[] = [];
  const logged: LocalApi["logged"] = [];
  const log: Log = (level, message, fields = {}) => void logged.push({ level, message, fields });
  const outOfReach = (): never => {
    throw new Error("out of reach in this process");
  };
  const database = databaseAs(stack, "app");
  const all = {
    clock: () => Date.now(),
    random: (byteCount: number) => new Uint8Array(randomBytes(byteCount)),
    pause: (ms: number) => new Promise((resolve) => setTimeout(resolve, ms)),
    log,
    noise: new NoiseGate(),
    decisionNotes: { note: () => {} },
    database,
    authDatabase: databaseAs(stack, "auth"),
    callers: new CallerMemory(),
    svidDesk: new SvidDesk({
      audience: "maestro-api",
      pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    }),
    sightings: { note: () => undefined },
    policy: {
      sha256: policy.sha256,
      evaluate(input: unknown) {
        decided.push(input);
        return policy.evaluate(input);
      },
    },
    openRoutes: (route: string) => {
      opened.push(route);
      return openRoutes(route);
    },
    issuer: {
      issuer: stack.issuerUrl,
      audience: stack.audience,
      keys: createRemoteJWKSet(new URL(`${stack.issuerUrl}/jwks.json`)),
    },
    ledger: outOfReach,
    entitlements: outOfReach,
    nudgeDrain: () => {},
    shards: 2,
    edgeLinkKey: "",
    publicUrl: stack.apiUrl,
    ...parts,
  };
  return {
    app,
    policy,
    database,
    logged,
    decided,
    opened,
    fetch: async (path, init) => app.fetch(new Request(`${stack.apiUrl}${path}`, init), { parts: all }),
  };
}
