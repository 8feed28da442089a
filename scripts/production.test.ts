// The production environments of the wrangler.toml files against the local ones: the same bindings, more queues.

import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { unstable_readConfig } from "wrangler";

const root = resolve(import.meta.dirname, "..");
const read = (config: string, env?: string) =>
  unstable_readConfig({ config: join(root, config), ...(env === undefined ? {} : { env }) }, { hideWarnings: true });

/** What must not differ between the environments. */
const kept = (config: ReturnType<typeof read>) => ({
  main: config.main,
  compatibility_date: config.compatibility_date,
  compatibility_flags: config.compatibility_flags,
  objects: config.durable_objects.bindings,
  migrations: config.migrations,
  buckets: config.r2_buckets,
  services: config.services,
  crons: config.triggers.crons,
  rules: config.rules,
  vars: Object.keys(config.vars).toSorted(),
});
const numbered = (count: number): string[] => Array.from({ length: count }, (_, shard) => `mc-audit-${shard}`);

test.each(["wrangler.toml", "workers/audit/wrangler.toml"])("%s binds the same in production as here", (config) => {
  expect(kept(read(config, "production"))).toEqual(kept(read(config)));
});

test.each([undefined, "production"])(
  "every shard has a producer, and a consumer with retries and dead letters (%s)",
  (env) => {
    const api = read("wrangler.toml", env);
    const audit = read("workers/audit/wrangler.toml", env);
    const shards = Number(api.vars["AUDIT_SHARDS"]);
    expect(
      api.queues.producers?.map((producer: { binding: string; queue?: string }) => [producer.binding, producer.queue]),
    ).toEqual(numbered(shards).map((queue, shard) => [`AUDIT_QUEUE_${shard}`, queue]));
    const settings = { max_batch_size: 100, max_batch_timeout: 0, max_retries: 50, dead_letter_queue: "mc-audit-dead" };
    const consumers = audit.queues.consumers ?? [];
    expect(consumers.slice(0, -1)).toEqual(numbered(shards).map((queue) => ({ queue, ...settings })));
    expect(consumers.at(-1)?.queue).toBe("mc-audit-dead");
  },
);

test("what tenants name to be fetched from is fetched as anyone on the Internet would, also where it is of our own zone", () => {
  expect(read("wrangler.toml", "production").compatibility_flags).toContain("global_fetch_strictly_public");
});

test("production has the plan's 24 shards", () => {
  expect(read("wrangler.toml", "production").vars["AUDIT_SHARDS"]).toBe("24");
});

test("the workers call each other over doors that ask for an SVID: each knows the trust domain, and binds no other one's objects", () => {
  const configs = ["wrangler.toml", "workers/audit/wrangler.toml", "workers/signer/wrangler.toml"].map((path) =>
    read(path),
  );
  for (const { vars, durable_objects } of configs) {
    expect(Object.keys(vars)).toContain("PLATFORM_TRUST_DOMAIN");
    expect(
      durable_objects.bindings.filter((binding: { script_name?: string }) => binding.script_name !== undefined),
    ).toEqual([]);
  }
  const bound = configs.map(({ services }) =>
    (services ?? []).map((service: { entrypoint?: string }) => service.entrypoint).toSorted(),
  );
  expect(bound).toEqual([
    ["AuditService", "AuthorityService", "SignerService"],
    ["AuthorityService", "MeterService"],
    [],
  ]);
});
