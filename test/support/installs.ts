// A tenant's installs of a package over HTTP, for tests of upgrades, rollbacks and the health gate.

import { sql } from "drizzle-orm";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { PublishedKeys } from "../../shared/contract/http-audit.ts";
import type { Install, PackageStatus } from "../../shared/contract/http-installs.ts";
import { entitlementStore } from "../../shared/market/entitlement-store.ts";
import { EntitlementQueue } from "../../shared/market/entitlements.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import { inBatch } from "../../shared/tenancy/database.ts";
import { databaseAs, localApi, type LocalApi } from "./api.ts";
import type { CheckedAnswer, Contract } from "./openapi.ts";
import { jsonCall, manifestOf, must, publishRelease } from "./publisher.ts";
import type { StackHandle } from "./stack.ts";

export class Market {
  readonly api: Contract;
  readonly publisher: SeededTenant;
  readonly signer: Signer;
  readonly tenant: SeededTenant;

  constructor(api: Contract, publisher: SeededTenant, signer: Signer, tenant: SeededTenant) {
    this.api = api;
    this.publisher = publisher;
    this.signer = signer;
    this.tenant = tenant;
  }

  publish(name: string, version: string, channel: "stable" | "canary" = "stable") {
    return publishRelease(this.api, this.publisher, this.signer, manifestOf(name, { version, channel }));
  }

  async entitle(name: string, channel: "stable" | "canary" = "canary"): Promise<void> {
    const entitlements = [{ package: name, channel, allowed: true }];
    must(200, await this.put("/api/market/entitlements", { entitlements }, this.tenant.keys.admin));
  }

  post(path: string, body: unknown, headers: Record<string, string> = {}): Promise<CheckedAnswer> {
    return this.api.fetch(path, jsonCall(this.tenant.keys.operator, "POST", body, headers));
  }

  put(path: string, body: unknown, key = this.tenant.keys.operator): Promise<CheckedAnswer> {
    return this.api.fetch(path, jsonCall(key, "PUT", body));
  }

  /** Installs named `host-0` and so on, from stable. */
  async install(name: string, hosts: number): Promise<Install[]> {
    const made: Install[] = [];
    for (let host = 0; host < hosts; host += 1) {
      const answer = await this.post("/api/market/installs", { package: name, name: `host-${host}` });
      made.push(must(201, answer).json as Install);
    }
    return made;
  }

  upgrade(name: string, given: Record<string, unknown> = {}): Promise<CheckedAnswer> {
    return this.post("/api/market/upgrades", { package: name, ...given });
  }

  rollback(name: string, given: Record<string, unknown> = {}): Promise<CheckedAnswer> {
    return this.post("/api/market/rollbacks", { package: name, ...given });
  }

  async status(name: string): Promise<PackageStatus> {
    const path = `/api/market/status?package=${name}`;
    return must(200, await this.api.fetch(path, jsonCall(this.tenant.keys.viewer, "GET"))).json as PackageStatus;
  }

  async versions(name: string): Promise<Record<string, string>> {
    const { installs } = await this.status(name);
    return Object.fromEntries(installs.map((install) => [install.name, install.version]));
  }

  /** Starts and finishes a run of one install. */
  async run(name: string, install: string, outcome: "succeeded" | "failed" = "succeeded"): Promise<CheckedAnswer> {
    const started = must(201, await this.post("/api/executions", { package: name, install }));
    const ending = { outcome, exit_code: outcome === "failed" ? 1 : 0 };
    return must(200, await this.post(`/api/executions/${String(started.json.id)}/finish`, ending));
  }

  /** Rows of the tenant's log, once there are at least so many. */
  async events(where: string): Promise<Record<string, unknown>[]> {
    const query = `FIND events WHERE ${where} SINCE 1h`;
    const answer = await this.api.fetch("/api/pql", jsonCall(this.tenant.keys.auditor, "POST", { query }));
    return must(200, answer).json.rows as Record<string, unknown>[];
  }
}

/** The API in this process, with parts of the test's own; objects and the bucket are the stack's. The signer is down. */
export async function marketApi(
  stack: StackHandle,
  tenantId: string,
  given: Record<string, unknown> = {},
): Promise<LocalApi> {
  const { keys } = (await (await fetch(`${stack.apiUrl}/api/audit/keys`)).json()) as PublishedKeys;
  const release = keys
    .filter(({ use }) => use === "release")
    .map(({ kid, spki }) => [kid, { spki, not_after: null }] as const);
  const random = (bytes: number) => crypto.getRandomValues(new Uint8Array(bytes));
  const queue = new EntitlementQueue(entitlementStore(databaseAs(stack, "app"), tenantId, 2), Date.now, random);
  return await localApi(stack, {
    entitlements: () => queue,
    releaseKeys: () => Promise.resolve(new Map(release)),
    artifacts: { head: (key: string) => stack.readObject("artifacts", key) },
    signer: new Proxy({}, { get: () => () => Promise.reject(new Error("the signer is down")) }),
    nudgeGate: () => undefined,
    ...given,
  });
}

/** Installs whose row, newest history row and release do not say the same. */
export async function torn(stack: StackHandle, name: string): Promise<unknown[]> {
  const [rows] = await inBatch(databaseAs(stack, "owner"), [
    sql`select i.name from installs i
        left join lateral (
          select release_id, version from install_history h
          where h.tenant_id = i.tenant_id and h.install_id = i.id order by h.id desc limit 1
        ) h on true
        join releases r on r.id = i.release_id
        where i.package = ${name} and ((i.release_id, i.version) is distinct from (h.release_id, h.version)
          or (r.version, r.artifact_sha256) is distinct from (i.version, i.artifact_sha256))`,
  ]);
  return rows ?? [];
}

/** Runs of a rollout that fail on its release and succeed on the others, 40 an install, as rows: the gate reads nothing else. */
export async function failingRuns(stack: StackHandle, name: string): Promise<void> {
  await inBatch(databaseAs(stack, "owner"), [
    sql`insert into executions (tenant_id, id, package, version, channel, release_id, release_sha256, units, status, principal_id,
          entitlement_version, started_at, deadline_at, finished_at, install_id, install_name, rollout_id)
        select i.tenant_id, 'exe_' || substr(md5(i.id || n || o.id), 1, 26), i.package, i.version, i.channel, i.release_id,
          i.artifact_sha256, 0, case when i.release_id = o.release_id then 'failed' else 'succeeded' end, 'pri', 1, now(), now(),
          now(), i.id, i.name, o.id
        from installs i join rollouts o on o.tenant_id = i.tenant_id and o.package = i.package and o.state = 'running',
          generate_series(1, 40) n
        where i.package = ${name}`,
  ]);
}
