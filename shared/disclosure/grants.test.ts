// What the holder of a link can write into a tenant's log: little.

import { expect, test } from "vitest";
import { openSql } from "../../test/support/sqlite.ts";
import { objectOutbox } from "../outbox/object-outbox.ts";
import { downloadEveryMs, downloadsMax, Grants, type GrantUse } from "./grants.ts";

const grantId = "grt_01k9x6f6c8a0b1c2d3e4f5g6h7";
const start = Date.UTC(2026, 3, 13, 16);

function world(livesMs = 24 * 3_600_000) {
  const sql = openSql(":memory:");
  const grants = new Grants(sql);
  const clock = { now: start };
  let counter = 0;
  const context = (principal: string | null) => ({
    tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001",
    principal,
    source: "disclosure" as const,
    now: clock.now,
    random: (byteCount: number) => new Uint8Array(byteCount).fill((counter += 1)),
  });
  const expiresAt = new Date(start + livesMs).toISOString();
  grants.grant(context("pri_00000000000000000000000000"), {
    id: grantId,
    execution_id: "exe_01k9x6f6c8a0b1c2d3e4f5g6h7",
    pack_sha256: "a".repeat(64),
    expires_at: expiresAt,
  });
  return {
    clock,
    use: (use: GrantUse) => grants.use(context(null), grantId, use),
    downloads: async (): Promise<number> => {
      const rows = await objectOutbox(sql, async () => undefined).select(1_000);
      return rows.filter(({ body }) => body.includes("mc.disclosure.downloaded")).length;
    },
  };
}

test("a download that is asked for again and again, in whole or by its first byte, is told once a minute", async () => {
  const { use, downloads, clock } = world();
  for (let at = 0; at < 50; at += 1) expect(use("download")).toBe("ok");
  expect(await downloads()).toBe(1);
  clock.now += downloadEveryMs - 1;
  use("download");
  expect(await downloads()).toBe(1);
  clock.now += 1;
  use("download");
  expect(await downloads()).toBe(2);
});

test("to ask whether a link holds, or to resume what was told, tells nothing; what was never begun cannot be resumed unseen", async () => {
  const { use, downloads, clock } = world();
  expect(use("asked")).toBe("ok");
  expect(await downloads()).toBe(0);
  expect(use("resumed")).toBe("ok");
  expect(await downloads()).toBe(1);
  clock.now += downloadEveryMs * 5;
  expect(use("resumed")).toBe("ok");
  expect(await downloads()).toBe(1);
});

test("a link is used up after its downloads, and gone after its time", async () => {
  const { use, downloads, clock } = world();
  for (let at = 0; at < downloadsMax; at += 1) {
    expect(use("download")).toBe("ok");
    clock.now += downloadEveryMs;
  }
  expect([use("download"), use("asked")]).toEqual(["gone", "gone"]);
  expect(await downloads()).toBe(downloadsMax);
  const short = world(1_000);
  short.clock.now += 1_000;
  expect([short.use("download"), short.use("asked"), short.use("resumed")]).toEqual(["gone", "gone", "gone"]);
});
