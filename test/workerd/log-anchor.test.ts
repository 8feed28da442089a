// The LogAnchor object in workerd: one object, its SQL on a Durable Object's storage, heads into the anchor log.

import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { anchorName } from "../../durable-objects/log-anchor.ts";
import { anchorTenantId } from "../../shared/audit/anchor-event.ts";
import type { AuditLogApi, LogAnchorApi } from "../../shared/audit/service.ts";
import type { Env } from "../../workers/audit/env.ts";

const { LOG_ANCHOR, AUDIT_LOG } = env as unknown as Env;
const anchor = (): LogAnchorApi => LOG_ANCHOR.getByName(anchorName) as unknown as LogAnchorApi;
const log = (tenantId: string): AuditLogApi => AUDIT_LOG.getByName(tenantId) as unknown as AuditLogApi;

test("works with nothing to do, and with the database out of reach", async () => {
  expect(await anchor().anchorings("7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001")).toEqual([]);
  await anchor().collect();
  await anchor().cosign();
});

const head = { log_sha256: "a".repeat(64), tree_size: 3, root_sha256: "b".repeat(64) };

test("heads go into the anchor log, each once, and their rows can be proven", async () => {
  const other = { ...head, tree_size: 4 };
  expect(await log(anchorTenantId).appendHeads([head, other, head])).toEqual([0, 1, 0]);
  expect(await log(anchorTenantId).appendHeads([other])).toEqual([1]);
  await log(anchorTenantId).sealNow();
  const proven = await log(anchorTenantId).provenLeaf(1, 2);
  expect(JSON.parse(proven!.leaf.body)).toMatchObject({ type: "mc.log.head", seq: 1, attributes: other });
  expect(proven!.hashes).toHaveLength(1);
  expect(await log(anchorTenantId).provenLeaf(1, 3)).toBeNull();
});
