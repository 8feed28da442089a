// The flag audit_rt_export, as the log learns it from its own rows: at once, or at the end of each period. And what the log
// keeps of rare events and of runs, and for how long.

import { beforeAll, describe, expect, test } from "vitest";
import { exportPeriodMs, sealAgeMs, sealUrgentMs } from "../../shared/audit/append.ts";
import { TenantLog } from "../../shared/audit/log.ts";
import { dedupeMs } from "../../shared/audit/seal.ts";
import { openSql } from "../support/sqlite.ts";
import { tenantId } from "./audit-events.ts";
import { newKeys, textsOf, World, type TestKeys } from "./audit-world.ts";
import { executionId, packageName, Story } from "./disclosure-world.ts";

let keys: TestKeys;
beforeAll(async () => {
  keys = await newKeys();
});

const flagOf = (story: Story, outcome: "on" | "off"): string => story.flag("audit_rt_export", outcome);

/** A log that has the flag off and nothing left to do, a second after a period has begun. */
async function periodicWorld(): Promise<{ world: World; story: Story }> {
  const world = new World(keys, 1);
  const story = new Story();
  world.log.append(tenantId, [flagOf(story, "off")]);
  await world.settle();
  world.now = (Math.floor(world.now / exportPeriodMs) + 1) * exportPeriodMs + 1_000;
  return { world, story };
}

describe("with the flag audit_rt_export", () => {
  test("off, rows are sealed at the end of the period alone, urgent ones and receipts too; on, as soon as ever", async () => {
    const { world, story } = await periodicWorld();
    const sealed = world.log.exportState().sealed;
    const due = world.now - 1_000 + exportPeriodMs;
    world.log.append(tenantId, [...story.start(), ...story.finish()]);
    await world.log.runDue();
    for (const at of [world.now + sealAgeMs, due - 1]) {
      world.now = at;
      await world.log.runDue();
      expect(world.log.exportState()).toEqual({ periodic: true, sealed, due });
    }
    expect(world.log.exportState().due).toBe(due);
    world.now = due;
    await world.log.runDue();
    // Three events of the start, two of the end, and the receipt.
    expect(world.log.exportState()).toEqual({ periodic: true, sealed: sealed + 6, due: null });

    world.log.append(tenantId, story.start("exe_00000000000000000000000000", 0));
    expect(world.log.exportState().due).toBe(due + exportPeriodMs);
    world.log.append(tenantId, [flagOf(story, "on")]);
    expect(world.log.exportState().due).toBe(world.now + sealAgeMs);
    world.log.append(tenantId, story.finish("exe_00000000000000000000000000", 0));
    await world.log.runDue();
    expect(world.log.exportState().due).toBe(world.now + sealUrgentMs);
    expect(world.log.exportState().periodic).toBe(false);
  });

  test("off, what fills a segment is due at once all the same", async () => {
    const { world } = await periodicWorld();
    const fill = (count: number, from: number): void => {
      // Decisions only: every third of these events.
      const texts = textsOf(count * 3, Math.random, from * 3).filter((_, at) => at % 3 === 0);
      world.log.append(tenantId, texts);
    };
    for (let from = 0; from < 9_999; from += 3_333) fill(3_333, from);
    expect(world.log.exportState().due).toBe(world.now - 1_000 + exportPeriodMs);
    fill(1, 9_999);
    expect(world.log.exportState().due).toBe(world.now);
  });

  test("switches that come in the wrong order, or twice, leave it as the last one said", () => {
    const world = new World(keys, 1);
    const story = new Story();
    const [off, on] = [flagOf(story, "off"), flagOf(story, "on")];
    world.log.append(tenantId, [on]);
    world.log.append(tenantId, [off]);
    expect(world.log.exportState().periodic).toBe(false);
    world.log.append(tenantId, [off, on]);
    expect(world.log.exportState().periodic).toBe(false);
    const last = flagOf(story, "off");
    world.log.append(tenantId, [last, on]);
    expect(world.log.exportState().periodic).toBe(true);
    world.log.append(tenantId, [story.flag("market_channels", "on")]);
    world.reopen();
    expect(world.log.exportState().periodic).toBe(true);
  });
});

describe("what was in force", () => {
  const find = (world: World, subject: string, at: number, limit = 1): string[] =>
    world.log.context([{ subject, at, limit }])[0]!.map(({ seq }) => String(seq));

  test("is found by its version, not by the order in which it came, long after its rows have left the object", async () => {
    const world = new World(keys, 1);
    const story = new Story();
    const before = story.before();
    world.log.append(tenantId, before.toReversed());
    const [fifth, seventh] = [before.length - 1, before.length - 1 - 7];
    const of = (version: number) => find(world, `entitlement:${packageName}`, version);
    const all = () => [of(4), of(5), of(6), of(7), of(100)];
    const expected = [[], [fifth], [fifth], [seventh], [seventh]].map((seqs) => seqs.map(String));
    expect(all()).toEqual(expected);
    expect(find(world, "entitlement_version:7", 7)).toHaveLength(1);
    expect(find(world, `release:${"a".repeat(64)}`, story.now, 10)).toHaveLength(3);
    await world.settle();
    // As pruning leaves the object, 20,000 rows later.
    world.sql.exec("delete from leaves");
    expect(all()).toEqual(expected);
    const leaf = world.log.context([{ subject: `entitlement:${packageName}`, at: 7, limit: 1 }])[0]![0]!;
    const [stored] = await world.log.leavesOf([leaf.seq]);
    expect({ seq: stored?.seq, salt: stored?.salt, body: stored?.body }).toEqual(leaf);
  });
});

describe("a run's rows", () => {
  test("are found by the object for as long as messages may come again, then all of them go, and their leaves stay in the log", async () => {
    const world = new World(keys, 1);
    const story = new Story();
    const early = "exe_00000000000000000000000000";
    world.log.append(tenantId, [...story.start(early), ...story.finish(early)]);
    // This one starts before the boundary and is told of behind it: none of its rows goes.
    world.log.append(tenantId, story.start());
    await world.settle();
    const rows = await world.log.eventsOf(early);
    expect(rows).toHaveLength(6);
    world.now += dedupeMs / 2;
    world.log.append(tenantId, story.finish());
    await world.settle();
    world.now += dedupeMs / 2 + 60_000;
    world.log.append(tenantId, [story.flag("market_channels", "on")]);
    await world.settle();
    expect(await world.log.eventsOf(early)).toEqual([]);
    expect(await world.log.eventsOf(executionId)).toHaveLength(6);
    expect(await world.log.leavesOf(rows.map(({ seq }) => seq))).toEqual(rows);
    await expect(world.log.leavesOf([1_000_000])).rejects.toThrow("neither in the object nor in its segment");
  });
});

test("a log of an earlier version gets the tables and columns that it lacks, keeps its rows, and goes on", async () => {
  const old = openSql(":memory:");
  const world = new World(keys, 1);
  const made = new TenantLog({ ...world.parts(), sql: old });
  const story = new Story();
  made.append(tenantId, story.start());
  for (const statement of [
    "alter table head drop column periodic",
    "alter table head drop column periodic_changed_at",
    "drop table context_rows",
    "drop table context_leaves",
    "drop index execution_rows_by_seq",
    "alter table head drop column indexed_to",
    "alter table head drop column hours_to",
    "alter table head drop column hours_failures",
    "alter table head drop column hours_retry_at",
    "drop table hour_counts",
    "drop table day_counts",
    "update tables_version set version = 3",
  ]) {
    old.exec(statement);
  }
  const again = new TenantLog({ ...world.parts(), sql: old });
  expect(again.exportState()).toMatchObject({ periodic: false, sealed: 0 });
  again.append(tenantId, [...story.finish(), ...story.before(), flagOf(story, "off")]);
  await again.sealNow();
  expect(await again.eventsOf(executionId)).toHaveLength(6);
  expect(again.exportState()).toMatchObject({ periodic: true, due: null });
  expect(again.context([{ subject: "budget", at: story.now, limit: 5 }])[0]).toHaveLength(2);
});
