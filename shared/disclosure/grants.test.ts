// What the holder of a link can write into a tenant's log: little.

import { expect, test } from "vitest";
import { openSql } from "../../test/support/sqlite.ts";
import { objectOutbox } from "../outbox/object-outbox.ts";
import { downloadEveryMs, downloadsMax, Grants, oneTimePacksMax, resumeMs, type GrantUse } from "./grants.ts";

const grantId = "grt_01k9x6f6c8a0b1c2d3e4f5g6h7";
const start = Date.UTC(2026, 3, 13, 16);

const total = 1_000;
const whole: GrantUse = { from: 0, to: total - 1, total };
const rest = (from: number): GrantUse => ({ from, to: total - 1, total });
const first = (count: number): GrantUse => ({ from: 0, to: count - 1, total });

function world(livesMs = 24 * 3_600_000, wish: { one_time?: boolean; audience?: string } = {}) {
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
    one_time: wish.one_time ?? false,
    audience: wish.audience ?? null,
  });
  const told = async (): Promise<Record<string, unknown>[]> =>
    (await objectOutbox(sql, async () => undefined).select(1_000)).map(
      ({ body }) => JSON.parse(body) as Record<string, unknown>,
    );
  return {
    clock,
    told,
    use: (use: GrantUse, by: string | null = null) => grants.use(context(by), grantId, use),
    revoke: (id = grantId) => grants.revoke(context("pri_11111111111111111111111111"), id),
    downloads: async (): Promise<number> =>
      (await told()).filter(({ type }) => type === "mc.disclosure.downloaded").length,
  };
}

test("a download that is asked for again and again, in whole or by its first byte, is told once a minute", async () => {
  const { use, downloads, clock } = world();
  for (let at = 0; at < 50; at += 1) expect(use(whole)).toBe("ok");
  expect(await downloads()).toBe(1);
  clock.now += downloadEveryMs - 1;
  use(whole);
  expect(await downloads()).toBe(1);
  clock.now += 1;
  use(whole);
  expect(await downloads()).toBe(2);
});

test("to ask whether a link holds, or to resume what was told, tells nothing; what was never begun cannot be resumed unseen", async () => {
  const { use, downloads, clock } = world();
  expect(use("asked")).toBe("ok");
  expect(await downloads()).toBe(0);
  expect(use(rest(5))).toBe("ok");
  expect(await downloads()).toBe(1);
  clock.now += downloadEveryMs * 5;
  expect(use(rest(5))).toBe("ok");
  expect(await downloads()).toBe(1);
});

test("all but the first byte, again and again, is no resuming: it is told, and uses the link up", async () => {
  const { use, downloads, clock } = world();
  expect(use(whole)).toBe("ok");
  clock.now += downloadEveryMs;
  const answers = Array.from({ length: 2 * downloadsMax + 10 }, () => {
    clock.now += downloadEveryMs;
    return use(rest(1));
  });
  expect(answers.slice(0, 2 * downloadsMax - 1).every((answer) => answer === "ok")).toBe(true);
  expect(answers.slice(2 * downloadsMax - 1).every((answer) => answer === "used")).toBe(true);
  expect(await downloads()).toBe(downloadsMax);
});

test("whole downloads within a minute of one that was told leave nothing to be resumed unseen", async () => {
  const { use, downloads, clock } = world();
  expect([use(whole), use(whole), use(whole)]).toEqual(["ok", "ok", "ok"]);
  clock.now += downloadEveryMs;
  expect(use(rest(5))).toBe("ok");
  expect(await downloads()).toBe(2);
});

test("a link is used up after its downloads, and gone after its time", async () => {
  const { use, downloads, clock } = world();
  for (let at = 0; at < downloadsMax; at += 1) {
    expect(use(whole)).toBe("ok");
    clock.now += downloadEveryMs;
  }
  expect([use(whole), use("asked")]).toEqual(["used", "used"]);
  expect(await downloads()).toBe(downloadsMax);
  const short = world(1_000);
  short.clock.now += 1_000;
  expect([short.use(whole), short.use("asked"), short.use(rest(5))]).toEqual(["gone", "gone", "gone"]);
});

test("a one-time link is used up by the first download that reaches the end; a probe of its first byte is not one", () => {
  const { use } = world(undefined, { one_time: true });
  expect([use("asked"), use(first(1)), use(whole)]).toEqual(["ok", "ok", "ok"]);
  expect([use(whole), use(first(1))]).toEqual(["used", "used"]);
});

test("what broke on its way through a one-time link is resumed within a minute, from behind the first byte, and not later", () => {
  const { use, clock } = world(undefined, { one_time: true });
  expect(use(whole)).toBe("ok");
  clock.now += resumeMs - 1;
  expect([use("asked"), use(rest(500)), use(first(500))]).toEqual(["ok", "ok", "used"]);
  clock.now += 1;
  expect([use("asked"), use(rest(999)), use(whole)]).toEqual(["used", "used", "used"]);
});

test("a one-time link sends at most twice the pack, however it is asked: in parts without the end, or by resuming", () => {
  const parts = world(undefined, { one_time: true });
  const sent = [1, 2, 3].map(() => parts.use(first(total - 1)));
  expect(sent).toEqual([...Array<string>(oneTimePacksMax).fill("ok"), "used"]);
  const resumed = world(undefined, { one_time: true });
  expect([resumed.use(whole), resumed.use(rest(1)), resumed.use(rest(1))]).toEqual(["ok", "ok", "used"]);
});

test("of two whole downloads at once through a one-time link one is sent", () => {
  const { use } = world(undefined, { one_time: true });
  expect([use(whole), use(whole)].toSorted()).toEqual(["ok", "used"]);
});

test("a revoked link is refused from then on, is told once, and stays revoked since the first time", async () => {
  const { use, revoke, clock, told } = world();
  const revoked = revoke();
  expect(revoked).toEqual({
    grant_id: grantId,
    execution_id: "exe_01k9x6f6c8a0b1c2d3e4f5g6h7",
    revoked_at: new Date(start).toISOString(),
  });
  expect([use(whole), use(rest(5)), use("asked")]).toEqual(["revoked", "revoked", "revoked"]);
  clock.now += 5_000;
  expect(revoke()).toEqual(revoked);
  expect(revoke("grt_00000000000000000000000000")).toBeNull();
  expect((await told()).filter(({ type }) => type === "mc.disclosure.revoked")).toMatchObject([
    { principal: "pri_11111111111111111111111111", attributes: { grant_id: grantId } },
  ]);
});

test("the log is told whether a link works once and for whom, and who downloaded by a link of their own", async () => {
  const audience = "pri_22222222222222222222222222";
  const { use, told } = world(undefined, { one_time: true, audience });
  use(whole, audience);
  expect(await told()).toMatchObject([
    { type: "mc.disclosure.linked", attributes: { one_time: true, audience } },
    { type: "mc.disclosure.downloaded", principal: audience },
  ]);
  const plain = await world().told();
  expect(Object.keys(plain[0]!["attributes"] as object)).not.toContain("one_time");
});
