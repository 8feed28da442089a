// The AuditLog object inside workerd: its SQLite, alarm and R2, and the consumers in front of it. Postgres is out of
// reach here, as in an outage.

import { createMessageBatch, getQueueResult, reset, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, test } from "vitest";
import { eventText, type AuditEvent } from "../../shared/contract/events.ts";
import type { AuditLogApi } from "../../shared/audit/service.ts";
import { verifyLog, type LogVerdict } from "../../shared/audit/verify.ts";
import { leafBytes } from "../../shared/audit/leaf.ts";
import { leafHash, verifyInclusion } from "../../shared/audit/tree.ts";
import { openCheckpoint } from "../../shared/audit/checkpoint.ts";
import { checkpointKeys } from "../../shared/signing/published.ts";
import { eventAt, seeded } from "../simulation/audit-events.ts";
import { sweepLogs } from "../../workers/audit/activity.ts";
import worker from "../../workers/audit/index.ts";
import { partsOf } from "../../workers/audit/compose.ts";
import type { Env } from "../../workers/audit/env.ts";
import { gzip, sha256 } from "../../workers/audit/hashing.ts";

const bound = env as unknown as Env;
afterEach(() => reset());

const tenants = ["7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001", "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002"] as const;
const [tenantId, otherId] = tenants;
const logOf = (tenant: string): AuditLogApi => partsOf(bound).auditLog(tenant);
const stubOf = (tenant: string): DurableObjectStub => bound.AUDIT_LOG.getByName(tenant);
const events = (count: number, seed: number, tenant: string = tenantId): AuditEvent[] => {
  const next = seeded(seed);
  return Array.from({ length: count }, (_, at) => eventAt(at, next, tenant));
};

async function verify(tenant: string): Promise<LogVerdict> {
  const log = logOf(tenant);
  const { bucket, keys } = partsOf(bound);
  return await verifyLog(
    {
      checkpoint: () => log.checkpoint(),
      ranges: (after) => log.ranges(after, 100),
      manifest: (range) => bucket.get(`${tenant}/manifest/${range}.json`),
      segment: (range) => bucket.get(`${tenant}/seg/${range}.parquet`),
    },
    { tenantId: tenant, keys: await keys(), sha256, gzip, remembered: null },
  );
}

describe("the AuditLog object", () => {
  test("appends, signs the receipt, seals into R2 by its alarm, and what lies there verifies", async () => {
    const log = logOf(tenantId);
    const texts = events(9, 1).map((event) => eventText(event));
    expect(await log.append(texts)).toEqual({ appended: 9, duplicates: 0, conflicts: 0 });
    expect(await log.append(texts)).toEqual({ appended: 0, duplicates: 9, conflicts: 0 });
    expect(await log.checkpoint()).toBeNull();
    while ((await log.checkpoint()) === null) expect(await runDurableObjectAlarm(stubOf(tenantId))).toBe(true);
    expect(await verify(tenantId)).toMatchObject({ verdict: "VERIFIED-TO", size: 12, first_bad: null });
  });

  test("proves a run's events in the newest checkpoint, and that one checkpoint continues another", async () => {
    const log = logOf(tenantId);
    await log.append(events(6, 2).map((event) => eventText(event)));
    await log.sealNow();
    const leaves = await log.eventsOf("exe_00000000000000000000000001");
    expect(leaves.map(({ body }) => (JSON.parse(body) as AuditEvent).type)).toEqual([
      "mc.execution.started",
      "mc.execution.finished",
      "mc.receipt.signed",
    ]);
    const keys = await partsOf(bound).keys();
    for (const { seq, salt, body } of leaves) {
      const proof = await log.inclusionProof(seq);
      const opened = await openCheckpoint(proof!.checkpoint, `maestro.local/log/${tenantId}`, checkpointKeys(keys));
      if (!opened.ok) throw new Error(opened.reason);
      const { size, root } = opened.checkpoint;
      const leaf = leafHash(sha256, leafBytes(salt, body));
      expect(verifyInclusion(sha256, { index: seq, size, leaf, proof: proof!.hashes, root })).toBe(true);
    }
    expect(await log.inclusionProof(8)).toBeNull();
    expect(await log.consistencyProof(3, 8)).toHaveLength(4);
    expect(await log.consistencyProof(3, 9)).toBeNull();
    expect(await log.tile(0, 0, 8)).toHaveLength(256);
    expect(await log.tile(0, 0, 9)).toBeNull();
    expect(await log.rangesOf([0, 7])).toHaveLength(1);
  });

  test("keeps an alarm at the earliest due time, and none once it has nothing to do but wait for Postgres", async () => {
    const log = logOf(tenantId);
    const alarmOf = (): Promise<number | null> =>
      runInDurableObject(stubOf(tenantId), (_, state) => state.storage.getAlarm());
    await log.append([eventText(events(1, 3)[0]!)]);
    const first = await alarmOf();
    await log.append([eventText(eventAt(3, seeded(4)))]);
    expect(await alarmOf()).toBe(first);
    await log.sealNow();
    expect(await log.checkpoint()).not.toBeNull();
    expect(await log.sweep(null)).toBe(false);
  });

  test("whose alarm was lost seals nothing any more, until the cron has swept it", async () => {
    const log = logOf(tenantId);
    await log.append(events(3, 11).map((event) => eventText(event)));
    const alarmOf = (): Promise<number | null> =>
      runInDurableObject(stubOf(tenantId), (_, state) => state.storage.getAlarm());
    await runInDurableObject(stubOf(tenantId), (_, state) => state.storage.deleteAlarm());
    expect(await runDurableObjectAlarm(stubOf(tenantId))).toBe(false);
    expect([await alarmOf(), await log.checkpoint()]).toEqual([null, null]);
    // The note in Postgres, which is out of reach here, is tested in test/contract/audit-sweep.test.ts.
    await sweepLogs({ ...partsOf(bound), activity: { sweep: async (sweep) => void (await sweep(tenantId, null)) } });
    while ((await log.checkpoint()) === null) expect(await runDurableObjectAlarm(stubOf(tenantId))).toBe(true);
    expect(await verify(tenantId)).toMatchObject({ verdict: "VERIFIED-TO", size: 4 });
  });

  test("keeps what the drain says that it counted until the events came", async () => {
    const log = logOf(tenantId);
    const counted = (): Promise<unknown[]> =>
      runInDurableObject(stubOf(tenantId), (_, state) =>
        state.storage.sql.exec("select reached, expected from sources where source = 'api'").toArray(),
      );
    await sweepLogs({ ...partsOf(bound), activity: { sweep: async (sweep) => void (await sweep(tenantId, 1)) } });
    expect(await counted()).toEqual([{ reached: 0, expected: 1 }]);
    expect(await log.sweep(1)).toBe(false);
    await log.append([eventText({ ...eventAt(0, seeded(31)), source_seq: 1 })]);
    expect(await counted()).toEqual([{ reached: 1, expected: 1 }]);
  });

  test("of one tenant takes no other tenant's events", async () => {
    await runInDurableObject(stubOf(otherId), async (object) => {
      const log = object as unknown as AuditLogApi;
      await expect(log.append([eventText(events(1, 5)[0]!)])).rejects.toThrow("another tenant");
    });
    expect(await logOf(otherId).checkpoint()).toBeNull();
  });
});

describe("the consumers", () => {
  const deliver = async (queue: string, bodies: unknown[]) => {
    const batch = createMessageBatch(
      queue,
      bodies.map((body, at) => ({ id: `message-${at}`, timestamp: new Date(), attempts: 1, body })),
    );
    const context = createExecutionContext();
    await worker.queue(batch, bound);
    return await getQueueResult(batch, context);
  };

  test("append each tenant's events to its own log, whatever else is in the batch, and keep what cannot be read", async () => {
    const mixed = JSON.stringify([...events(3, 6), ...events(3, 7, otherId)]);
    const result = await deliver("mc-audit-0", [mixed, "not json", JSON.stringify(events(3, 8)), mixed]);
    expect(result.explicitAcks.toSorted()).toEqual(["message-0", "message-1", "message-2", "message-3"]);
    await logOf(tenantId).sealNow();
    await logOf(otherId).sealNow();
    expect(await verify(tenantId)).toMatchObject({ verdict: "VERIFIED-TO", size: 8 });
    expect(await verify(otherId)).toMatchObject({ verdict: "VERIFIED-TO", size: 4 });
    expect((await bound.AUDIT_BUCKET.list({ prefix: "dead-letters/" })).objects).toHaveLength(1);
  });

  test("tell an event of a time that never was to be lost, and the log goes on to be sealed", async () => {
    const [bad, ...good] = events(3, 12);
    const result = await deliver("mc-audit-0", [
      JSON.stringify([{ ...bad!, occurred_at: "2026-13-45T99:99:99.999Z" }, ...good]),
    ]);
    expect(result.explicitAcks).toEqual(["message-0"]);
    await logOf(tenantId).sealNow();
    // Two events, the receipt of the run that one of them ends, and the gap.
    expect(await verify(tenantId)).toMatchObject({ verdict: "VERIFIED-TO", size: 4 });
    expect((await bound.AUDIT_BUCKET.list({ prefix: "dead-letters/" })).objects).toHaveLength(1);
  });

  test("of dead letters log what can still be logged", async () => {
    const result = await deliver("mc-audit-dead", [JSON.stringify(events(3, 9))]);
    expect(result.explicitAcks).toEqual(["message-0"]);
    await logOf(tenantId).sealNow();
    expect(await verify(tenantId)).toMatchObject({ verdict: "VERIFIED-TO", size: 4 });
  });
});

test("the platform's own limits: salts of 4,000 events come in one call of getRandomValues, SQLite takes blobs and gives them back", async () => {
  const next = seeded(10);
  const texts = Array.from({ length: 4_200 }, (_, at) => eventText(eventAt(at * 3, next)));
  expect(await logOf(tenantId).append(texts)).toMatchObject({ appended: 4_200 });
  await logOf(tenantId).sealNow();
  expect(await verify(tenantId)).toMatchObject({ verdict: "VERIFIED-TO", size: 4_200 });
  const full = await partsOf(bound).bucket.get(`${tenantId}/tile/0/000`);
  expect(full).toHaveLength(8_192);
});
