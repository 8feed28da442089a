// The log's core under faults: docs/audit/RECOVERY.md, row by row. Every effect is stopped before and after it happens,
// then the log is opened again on what was durable, and must come out as if nothing had been.

import { beforeAll, describe, expect, test } from "vitest";
import { hourSealedAt } from "../../shared/audit/hours.ts";
import { hashLeaf } from "../../shared/audit/leaf.ts";
import { newestSchema } from "../../shared/audit/segment-schema.ts";
import { dedupeMs } from "../../shared/audit/seal.ts";
import { readSegment, writeSegment } from "../../shared/audit/segment.ts";
import { readHead, readLeaves } from "../../shared/audit/tables.ts";
import { tilePath } from "../../shared/audit/tiles.ts";
import { verifyLog, type LogVerdict } from "../../shared/audit/verify.ts";
import { hex, utf8Text } from "../../shared/contract/bytes.ts";
import { canonicalJson, eventColumns, type LoggedEvent } from "../../shared/contract/events.ts";
import { verifyBundle } from "../../shared/signing/bundle.ts";
import { keyFor } from "../../shared/signing/published.ts";
import { gzip, sha256 } from "../../workers/audit/hashing.ts";
import { firstOf, isDeep, sampledPlaces, sampleSeed } from "../support/sampled.ts";
import { eventAt, seeded, startTime, tenantId } from "./audit-events.ts";
import {
  Crash,
  Faults,
  nameOfRange,
  newKeys,
  rangeOfName,
  Schedule,
  textsOf,
  World,
  type TestKeys,
} from "./audit-world.ts";

let keys: TestKeys;
beforeAll(async () => {
  keys = await newKeys();
});

const verify = (world: World): Promise<LogVerdict> =>
  verifyLog(world.reader(), { tenantId, keys: world.published, sha256, gzip, remembered: null });

async function loggedEvents(world: World): Promise<LoggedEvent[]> {
  const events: LoggedEvent[] = [];
  for (const name of world.segmentRanges()) {
    const read = await readSegment(
      { tenantId, range: rangeOfName(name), version: newestSchema },
      world.objects.get(`${world.prefix}seg/${name}.parquet`)!,
      gzip,
    );
    if (!read.ok) throw new Error(read.reason);
    for (const { salt, body, seq } of read.rows) {
      world.leafHashes.set(seq, hashLeaf(sha256, salt, body));
      events.push(JSON.parse(body) as LoggedEvent);
    }
  }
  return events;
}

/** What must hold once the log is at rest, whatever happened on the way. */
async function expectWhole(world: World, texts: readonly string[]): Promise<LoggedEvent[]> {
  const verdict = await verify(world);
  expect(verdict).toMatchObject({ verdict: "VERIFIED-TO", first_bad: null });
  const events = await loggedEvents(world);
  expect(events.map(({ seq }) => seq)).toEqual(events.map((_, at) => at));
  const own = events.filter(({ source }) => source === "audit");
  expect(own.map(({ source_seq: count }) => count)).toEqual(own.map((_, at) => at + 1));
  const ids = texts.map((text) => (JSON.parse(text) as { id: string }).id);
  const others = events.filter(({ source }) => source !== "audit").map(({ id }) => id);
  expect(others.toSorted()).toEqual(ids.toSorted());
  const finished = events.filter(({ type }) => type === "mc.execution.finished").length;
  expect(own.filter(({ type }) => type === "mc.receipt.signed")).toHaveLength(finished);
  const hashes = events.map(({ seq }) => world.leafHashes.get(seq)!);
  for (let index = 0; (index + 1) * 256 <= events.length; index += 1) {
    const tile = world.objects.get(`${world.prefix}tile/${tilePath({ level: 0, index, width: 256 })}`);
    expect(hex(tile!)).toBe(
      hashes
        .slice(index * 256, (index + 1) * 256)
        .map((hash) => hex(hash))
        .join(""),
    );
  }
  expect(world.rows.size).toBe(events.length);
  for (const event of events) expect(world.rows.get(event.seq)).toBe(canonicalJson(eventColumns(event)));
  expect(verdict.size).toBe(events.length);
  expectCounted(world, events.length);
  return events;
}

/** What was sealed in Postgres is still all that there is of those hours, and the meter knows of every row. */
function expectCounted(world: World, rowCount: number): void {
  const counts = world.hoursOfRows();
  const sealedTo = world.hoursTo ?? 0;
  const sealed = [...counts.values()].filter(({ hour }) => hour < sealedTo);
  expect([...world.sealedHours.values()].map((count) => ({ ...count, groups: 0 }))).toEqual(sealed);
  expect([...counts.keys()].sort()).toEqual([...world.meter.hours.keys()].sort());
  for (const [key, { hour, rows }] of counts) {
    expect(world.meter.hours.get(key)).toMatchObject({ rows, groups: hour < sealedTo ? 1 : 0 });
  }
  for (const { hour, type } of sealed) {
    const day = hour - (hour % 86_400_000);
    expect(world.meter.days.get(`${day} ${type}`)).toBe(day + 86_400_000 <= sealedTo ? 1 : undefined);
  }
  expect(world.meter.report).toMatchObject({ indexed_seq: rowCount, sealed_to: world.hoursTo });
  // What was told is forgotten: an object does not keep the counts of its whole history.
  expect(world.sql.exec("select * from hour_counts")).toEqual([]);
  expect(world.sql.exec("select * from day_counts")).toEqual([]);
}

/**
 * A life of the log: appends by two consumers, seals by age, by urgency and on demand, hours that are sealed in Postgres, a clock
 * that goes back, also into an hour that is sealed.
 */
async function live(world: World, texts: readonly string[], acknowledged: { upTo: number }): Promise<void> {
  const deliver = (from: number, to: number): void => {
    // A crash before the acknowledgement: everything from there comes again.
    if (to <= acknowledged.upTo) return;
    world.log.append(tenantId, texts.slice(from, to));
    acknowledged.upTo = to;
  };
  deliver(0, 5);
  world.now += 1_500;
  await world.log.runDue();
  deliver(5, 150);
  world.now -= 60_000;
  deliver(150, 200);
  await Promise.all([world.log.sealNow(), world.log.index(), world.log.sealNow()]);
  deliver(200, 250);
  world.now += 3_700_000;
  await world.log.runDue();
  await world.afterAlarm();
  world.now -= 1_800_000;
  deliver(250, texts.length);
  await world.settle();
}

describe("a crash at each await", () => {
  test("MC-AUD-1911: leaves no gap, no double, and one segment, manifest and receipt for each row", async () => {
    // Two runs, and enough decisions around them to fill a tile.
    const next = seeded(11);
    const decisions = Array.from({ length: 290 }, (_, at) => canonicalJson(eventAt(300 + at * 3, next)));
    const texts = [...textsOf(6, next), ...decisions];
    let stops = 0;
    const each = isDeep ? 1 : 23;
    for (let stopAt = 1 + firstOf(sampleSeed, each); ; stopAt += each) {
      const world = new World(keys, stopAt, new Faults(stopAt));
      const acknowledged = { upTo: 0 };
      let isStopped = false;
      try {
        await live(world, texts, acknowledged);
      } catch (error) {
        if (!(error instanceof Crash) && !world.faults.isStopped) throw error;
        isStopped = true;
      }
      if (world.faults.isStopped) {
        stops += 1;
        isStopped = true;
        world.reopen();
        await live(world, texts, acknowledged);
      }
      await expectWhole(world, texts);
      if (!isStopped) break;
    }

    expect(stops).toBeGreaterThan(isDeep ? 30 : 2);
  });

  test("the head that was published before the crash is continued after it, never replaced", async () => {
    const texts = textsOf(40, seeded(3));
    for (const stopAt of sampledPlaces(59, 15).map((place) => place + 1)) {
      const world = new World(keys, 5, new Faults(stopAt));
      const run = async (): Promise<void> => {
        world.log.append(tenantId, texts);
        await world.log.sealNow();
      };
      await run().catch((error: unknown) => {
        if (!(error instanceof Crash)) throw error;
      });
      const before = new Map(world.objects);
      world.reopen();
      await run();
      await world.settle();
      for (const [key, bytes] of before) expect(world.objects.get(key)).toEqual(bytes);
      await expectWhole(world, texts);
    }
  });
});

describe("messages that come twice, late, out of order and merged", () => {
  /** Runs one seed; answers what happened, step by step. */
  async function live(seed: number): Promise<{ world: World; texts: string[]; steps: string[] }> {
    const next = seeded(seed);
    const pick = (count: number): number => Math.floor(next() * count);
    const texts = textsOf(240, next);
    const world = new World(keys, seed);
    const schedule = new Schedule();
    const steps: string[] = [];
    const begin = (): void => {
      const faults = new Faults(next() < 0.5 ? 20 + pick(200) : Infinity);
      faults.fails = () => (next() < 0.1 ? "before" : next() < 0.1 ? "after" : null);
      faults.gate = schedule.gate;
      world.reopen(faults);
      running.clear();
    };
    const running = new Set<string>();
    const begun = async (name: "seal" | "index" | "hours" | "meter", work: () => Promise<void>): Promise<void> => {
      if (running.has(name)) return;
      running.add(name);
      const { faults } = world;
      await schedule.start(async () => {
        try {
          await work();
        } catch (error) {
          if (!faults.isStopped) throw error;
        }
        if (world.faults === faults) running.delete(name);
      });
    };
    begin();
    // Each message is delivered at least once; some of them again, some after others, by one of two consumers.
    const messages = Array.from({ length: 48 }, (_, at) => texts.slice(at * 5, at * 5 + 5));
    const queues = [messages.filter((_, at) => at % 2 === 0), messages.filter((_, at) => at % 2 === 1)];
    const deliver = (queue: string[][]): void => {
      const at = pick(Math.min(4, queue.length));
      const message = queue[at]!;
      try {
        world.log.append(tenantId, next() < 0.3 ? [...message, ...message] : message);
        // Sometimes the acknowledgement is lost: it stays in the queue.
        if (next() > 0.15) queue.splice(at, 1);
      } catch (error) {
        if (!(error instanceof Crash)) throw error;
      }
    };
    while (queues.some((queue) => queue.length > 0)) {
      const step = pick(8);
      // Hours pass, and sometimes the clock goes back into one that is sealed.
      if (next() < 0.04) world.now += pick(2) === 0 ? 3_000_000 : -600_000;
      steps.push(`${step} ${schedule.waiting} ${world.faults.steps} ${world.objects.size} ${world.rows.size}`);
      world.now += pick(400) - 20;
      const queue = queues[step];
      if (queue !== undefined && queue.length > 0) deliver(queue);
      else if (step === 2) await begun("seal", () => world.log.runDue());
      else if (step === 3) await begun("index", () => world.log.index());
      else if (step === 4) await begun("hours", () => world.log.sealHours());
      else if (step === 5) await begun("meter", () => world.log.tellMeter());
      else if (schedule.waiting > 0) await schedule.release(pick(schedule.waiting));
      if (world.faults.isStopped) begin();
    }
    while (schedule.waiting > 0) await schedule.release(0);
    return { world, texts, steps };
  }

  const seeds = Array.from({ length: isDeep ? 400 : 4 }, (_, at) => at + 1);
  let sealsMeanwhile = 0;
  let writesMeanwhile = 0;
  let hoursMeanwhile = 0;
  test.each(seeds)(
    "have their effect once, with a failing bucket, a failing database and crashes (seed %i)",
    async (seed) => {
      const { world, texts } = await live(seed);
      sealsMeanwhile += world.segmentRanges().length;
      writesMeanwhile += world.writes;
      hoursMeanwhile += new Set([...world.sealedHours.values()].map(({ hour }) => hour)).size;
      world.reopen();
      await world.settle();
      const events = await expectWhole(world, texts);
      expect(events.length).toBeGreaterThan(texts.length);
    },
  );

  test("were met by seals, and by writes and sealed hours in Postgres, that were under way, else the seeds above show nothing", () => {
    expect(sealsMeanwhile).toBeGreaterThan(seeds.length * 3);
    expect(writesMeanwhile).toBeGreaterThan(seeds.length * 3);
    expect(hoursMeanwhile).toBeGreaterThan(seeds.length / 2);
  });

  test("replay: the same seed takes the same steps", async () => {
    const [first, second] = [await live(5), await live(5)];
    expect(second.steps).toEqual(first.steps);
    expect(first.steps.length).toBeGreaterThan(100);
  });

  test("an append of more than 4,000 events is taken in slices", async () => {
    const slices = isDeep ? 9_001 : 4_101;
    const next = seeded(7);
    const texts = Array.from({ length: slices }, (_, at) => at * 3).map((index) => canonicalJson(eventAt(index, next)));
    const world = new World(keys, 8);
    expect(world.log.append(tenantId, texts)).toEqual({ appended: slices, duplicates: 0, conflicts: 0 });
    expect(world.log.append(tenantId, texts)).toEqual({ appended: 0, duplicates: slices, conflicts: 0 });
    await world.settle();
    await expectWhole(world, texts);
  });
});

describe("sealing", () => {
  test("waits a second for company, and a quarter of one behind an urgent event", () => {
    const world = new World(keys, 1);
    const texts = textsOf(3, seeded(1));
    world.log.append(tenantId, texts.slice(0, 1));
    expect(world.log.nextDue()).toBe(world.now + 1_000);
    world.now += 100;
    world.log.append(tenantId, texts.slice(1, 2));
    expect(world.log.nextDue()).toBe(world.now + 900);
    world.log.append(tenantId, texts.slice(2));
    // The receipt is due at once; once it stands, the seal is.
    expect(world.log.nextDue()).toBe(world.now);
  });

  test("takes at most 10,000 rows at a time, each with the root at its own end", async () => {
    const next = seeded(2);
    const texts = Array.from({ length: 10_100 }, (_, at) => canonicalJson(eventAt(at * 3, next)));
    const world = new World(keys, 2);
    world.log.append(tenantId, texts);
    expect(world.log.nextDue()).toBe(world.now);
    await world.settle();
    expect(world.log.ranges(null, 10).map((name) => rangeOfName(name))).toEqual([
      { from: 0, to: 10_000 },
      { from: 10_000, to: 10_100 },
    ]);
    await expectWhole(world, texts);
  });

  test("goes on while Postgres is down, and the rows follow in order when it is back", async () => {
    const texts = textsOf(30, seeded(4));
    const world = new World(keys, 4);
    world.faults.fails = (name) => (name === "rows.write" ? "before" : null);
    world.log.append(tenantId, texts.slice(0, 15));
    world.now += 2_000;
    await world.log.runDue();
    await world.log.index();
    expect(world.log.checkpoint()).not.toBeNull();
    expect(world.rows.size).toBe(0);
    expect(world.log.nextDue()).toBeGreaterThan(world.now);
    world.log.append(tenantId, texts.slice(15));
    world.faults.fails = () => null;
    await world.settle();
    await expectWhole(world, texts);
  });

  test("on demand ends the wait that failures before it set, so that the next rows are not late", async () => {
    const world = new World(keys, 13);
    const texts = textsOf(9, seeded(13));
    world.log.append(tenantId, texts.slice(0, 6));
    world.faults.fails = (name) => (name === "bucket.put" ? "before" : null);
    world.now += 2_000;
    for (let at = 0; at < 9; at += 1) {
      world.now = Math.max(world.now, world.log.nextDue()!);
      await world.log.runDue();
    }
    expect(world.log.nextDue()).toBe(world.now + 60_000);
    world.faults.fails = () => null;
    await world.log.sealNow();
    world.log.append(tenantId, texts.slice(6, 8));
    await world.log.index();
    expect(world.log.nextDue()).toBe(world.now + 1_000);
    world.log.append(tenantId, texts.slice(8));
    await world.settle();
    await expectWhole(world, texts);
  });

  test("stands still and says so where another object lies under its key, and overwrites nothing", async () => {
    const world = new World(keys, 5);
    world.log.append(tenantId, textsOf(1, seeded(5)));
    const key = `${world.prefix}seg/${"0".repeat(20)}-${"1".padStart(20, "0")}.parquet`;
    const foreign = new Uint8Array([1, 2, 3]);
    world.objects.set(key, foreign);
    await expect(world.log.sealNow()).rejects.toThrow("holds");
    expect(world.objects.get(key)).toBe(foreign);
    expect(world.log.checkpoint()).toBeNull();
    expect([...world.objects.keys()]).toEqual([key]);
  });

  test("does not take a segment with the same rows and other statistics", async () => {
    const world = new World(keys, 14);
    world.log.append(tenantId, textsOf(4, seeded(14)));
    world.faults.fails = (name) => (name === "bucket.put" ? "after" : null);
    await expect(world.log.sealNow()).rejects.toThrow("answer lost");
    world.faults.fails = () => null;
    const [key, segment] = [...world.objects].find(([name]) => name.endsWith(".parquet"))!;
    const forged = Buffer.from(segment);
    forged.write("zz", forged.lastIndexOf("mc.execution"));
    world.objects.set(key, new Uint8Array(forged));
    await expect(world.log.sealNow()).rejects.toThrow("holds");
    expect(world.log.checkpoint()).toBeNull();
  });

  test("takes a segment with the same rows in other bytes, as a crash before an upgrade of zlib leaves it", async () => {
    const world = new World(keys, 6);
    const texts = textsOf(4, seeded(6));
    world.log.append(tenantId, texts);
    world.faults.fails = (name) => (name === "bucket.put" ? "after" : null);
    await expect(world.log.sealNow()).rejects.toThrow("answer lost");
    const other = world.parts();
    const { TenantLog } = await import("../../shared/audit/log.ts");
    world.faults.fails = () => null;
    world.log = new TenantLog({
      ...other,
      gzip: { ...gzip, deflate: (bytes) => Uint8Array.from(gzip.deflate(bytes), (byte, at) => (at === 9 ? 3 : byte)) },
    });
    await world.settle();
    expect(world.logged.some(({ message }) => message.includes("other bytes"))).toBe(true);
    await expectWhole(world, texts);
  });
});

describe("an hour", () => {
  const hourMs = 3_600_000;
  /** Everything but the hours is done. */
  const work = async (world: World): Promise<void> => {
    await world.log.sealNow();
    await world.log.index();
  };
  const due = hourSealedAt(tenantId, startTime);

  test("is sealed once, some time after its end, and a tenant without new rows is not woken again", async () => {
    const world = new World(keys, 31);
    world.log.append(tenantId, textsOf(5, seeded(31)));
    await work(world);
    expect(due - startTime).toBeGreaterThanOrEqual(hourMs + 30_000);
    expect(due - startTime).toBeLessThan(hourMs + 120_000);
    expect(world.log.nextDue()).toBe(due);
    // The open hour is no work that is left: nobody has to look after the log until then.
    expect(world.log.isIdle()).toBe(true);
    world.now = due - 1;
    await world.afterAlarm();
    expect(world.hoursTo).toBeNull();
    world.now = due;
    await world.afterAlarm();
    expect(world.hoursTo).toBe(startTime + hourMs);
    expect(world.log.nextDue()).toBeNull();
    expectCounted(world, world.rows.size);
  });

  test("is not sealed while a row of it is not in Postgres, and no alarm is spent on waiting for that", async () => {
    const world = new World(keys, 32);
    const texts = textsOf(9, seeded(32));
    world.log.append(tenantId, texts.slice(0, 4));
    await work(world);
    world.faults.fails = (name) => (name === "rows.write" ? "before" : null);
    world.log.append(tenantId, texts.slice(4));
    await work(world);
    world.now = due + 10;
    expect(world.log.nextDue()).toBe(readHead(world.sql)!.index_retry_at ?? world.now);
    await world.afterAlarm();
    expect(world.hoursTo).toBeNull();
    world.faults.fails = () => null;
    await world.settle();
    await expectWhole(world, texts);
  });

  test("takes no row once Postgres may have sealed it, also where the answer is lost and the clock goes back", async () => {
    const world = new World(keys, 33);
    const texts = textsOf(9, seeded(33));
    world.log.append(tenantId, texts.slice(0, 4));
    await work(world);
    world.now = due;
    world.faults.fails = (name) => (name === "rows.seal" ? "after" : null);
    await world.afterAlarm();
    expect([world.hoursTo, readHead(world.sql)?.hours_to]).toEqual([startTime + hourMs, null]);
    world.now = startTime + 1_000;
    world.log.append(tenantId, texts.slice(4));
    expect(readHead(world.sql)?.logged_at).toBe(startTime + hourMs);
    world.faults.fails = () => null;
    await world.settle();
    await expectWhole(world, texts);
  });

  test("that cannot be sealed is tried again later and later, and holds up neither the rows nor the log", async () => {
    const world = new World(keys, 34);
    const texts = textsOf(12, seeded(34));
    world.log.append(tenantId, texts.slice(0, 4));
    await work(world);
    world.faults.fails = (name) => (name === "rows.seal" ? "before" : null);
    world.now = due;
    const waits: number[] = [];
    for (let at = 0; at < 4; at += 1) {
      await world.afterAlarm();
      waits.push(world.log.nextDue()! - world.now);
      world.now = world.log.nextDue()!;
    }
    expect(waits).toEqual([250, 500, 1_000, 2_000]);
    world.log.append(tenantId, texts.slice(4));
    await work(world);
    expect(world.rows.size).toBe(readHead(world.sql)!.size);
    world.faults.fails = () => null;
    await world.settle();
    await expectWhole(world, texts);
  });

  test("and its rows are told to a meter that was away, with what comes next, and nothing waits for it", async () => {
    const world = new World(keys, 35);
    const texts = textsOf(9, seeded(35));
    world.faults.fails = (name) => (name === "meter.report" ? "before" : null);
    world.log.append(tenantId, texts.slice(0, 4));
    await world.settle();
    expect([world.hoursTo, world.meter.report]).toEqual([startTime + hourMs, null]);
    expect(world.log.nextDue()).toBeNull();
    world.faults.fails = () => null;
    world.log.append(tenantId, texts.slice(4));
    await world.settle();
    await expectWhole(world, texts);
  });

  test("of a history that was never sealed comes with the first one after it", async () => {
    const world = new World(keys, 36);
    const texts = textsOf(60, seeded(36));
    for (let hour = 0; hour < 30; hour += 1) {
      world.now = startTime + hour * hourMs;
      world.log.append(tenantId, texts.slice(hour, hour + 1));
      await work(world);
    }
    // As before there were hours: rows are in Postgres, and nobody has counted them.
    world.sql.exec("delete from hour_counts");
    world.now += hourMs;
    world.log.append(tenantId, texts.slice(30));
    await world.settle();
    expect(world.hoursTo).toBeGreaterThan(startTime + 30 * hourMs);
    await expectWhole(world, texts);
  });
});

describe("a log of an older version of the product", () => {
  /** What an object's tables were before there were schema versions. */
  const withOldTables = (world: World): void => {
    world.sql.exec("alter table head drop column pending_schema");
    world.sql.exec("alter table head drop column counted_from");
    world.sql.exec("alter table ranges drop column schema_version");
    world.sql.exec("drop table sources");
    world.sql.exec("drop table sources_ahead");
    world.sql.exec("alter table head drop column periodic");
    world.sql.exec("alter table head drop column periodic_changed_at");
    world.sql.exec("drop index execution_rows_by_seq");
    world.sql.exec("drop table context_rows");
    world.sql.exec("drop table context_leaves");
    for (const name of ["indexed_to", "hours_to", "hours_failures", "hours_retry_at"]) {
      world.sql.exec(`alter table head drop column ${name}`);
    }
    world.sql.exec("drop table hour_counts");
    world.sql.exec("drop table day_counts");
    world.sql.exec("drop table tables_version");
  };

  test("finishes the segment that it began as it began it, writes the next in the newest schema, and verifies as one", async () => {
    const world = new World(keys, 15);
    const texts = textsOf(6, seeded(15));
    world.log.append(tenantId, texts.slice(0, 4));
    world.faults.fails = (name) => (name === "bucket.put" ? "before" : null);
    await expect(world.log.sealNow()).rejects.toThrow("outage");
    world.faults.fails = () => null;
    const range = { from: 0, to: 4 };
    const begun = writeSegment({ tenantId, range, version: 1 }, readLeaves(world.sql, range), gzip);
    const key = `${world.prefix}seg/${nameOfRange(0, 4)}.parquet`;
    world.objects.set(key, begun);
    withOldTables(world);
    world.reopen();
    await world.settle();
    expect(world.objects.get(key)).toBe(begun);
    world.log.append(tenantId, texts.slice(4));
    await world.settle();
    const versions = await Promise.all(
      [...world.objects.keys()]
        .filter((name) => name.includes("/manifest/"))
        .map(async (name) => {
          const bundle: unknown = JSON.parse(utf8Text(world.objects.get(name)!));
          const verified = await verifyBundle(bundle, keyFor(world.published, "manifest"));
          return verified.ok ? verified.statement.predicate["schema_version"] : verified.reason;
        }),
    );
    expect(versions).toEqual([1, newestSchema]);
    expect(await verify(world)).toMatchObject({ verdict: "VERIFIED-TO", size: readHead(world.sql)!.size });
  });

  test("is opened twice as once, and not at all by a version that does not know its tables", () => {
    const world = new World(keys, 16);
    world.log.append(tenantId, textsOf(3, seeded(16)));
    withOldTables(world);
    world.reopen();
    world.reopen();
    expect(readHead(world.sql)?.size).toBe(3);
    world.sql.exec("update tables_version set version = version + 1");
    expect(() => world.reopen()).toThrow("newer version");
  });
});

describe("what the log remembers", () => {
  const dayMs = 24 * 3_600_000;
  /** The longest that the platform keeps a message, once in a queue and once among the dead letters. */
  const retentionDays = 14 + 14;

  test("an event that comes again after as long as queue and dead letters can hold it adds nothing", async () => {
    const world = new World(keys, 22);
    const texts = textsOf(40, seeded(22));
    const seen = (): unknown => world.sql.exec("select count(*) as n from seen")[0]?.["n"];
    world.log.append(tenantId, texts.slice(0, 30));
    await world.settle();
    world.now += retentionDays * dayMs;
    world.log.append(tenantId, texts.slice(30, 35));
    await world.settle();
    expect(world.log.append(tenantId, texts.slice(0, 35))).toEqual({ appended: 0, duplicates: 35, conflicts: 0 });
    const before = seen();
    // Nothing is remembered for ever: ids go, bounded a seal, once nothing can bring their events any more.
    world.now = startTime + dedupeMs + dayMs;
    world.log.append(tenantId, texts.slice(35));
    await world.settle();
    expect(Number(seen())).toBeLessThan(Number(before));
    await expectWhole(world, texts);
  });
});

describe("a rotation of the log's keys", () => {
  test("leaves what the old keys signed valid, and what the new ones sign continues it", async () => {
    const world = new World(keys, 19);
    const texts = textsOf(9, seeded(19));
    world.log.append(tenantId, texts.slice(0, 3));
    await world.settle();
    const before = world.published;
    const first = await verify(world);
    for (const at of [3, 6]) {
      world.now += 1_000;
      world.rotate(await newKeys());
      world.now += 1_000;
      world.log.append(tenantId, texts.slice(at, at + 3));
      await world.settle();
    }
    await expectWhole(world, texts);
    expect(
      await verifyLog(world.reader(), { tenantId, keys: world.published, sha256, gzip, remembered: first.head }),
    ).toMatchObject({
      verdict: "VERIFIED",
      size: 12,
    });
    // Without the retired keys nothing of theirs verifies, and whoever has not heard of the new ones does not believe them.
    const current = { ...world.published, keys: world.published.keys.filter((key) => key.not_after === undefined) };
    for (const published of [current, before]) {
      world.published = published;
      expect(await verify(world)).toMatchObject({ verdict: "TAMPERED" });
    }
  });

  test.each(["statement", "checkpoint"] as const)("ends what the old %s key may sign", async (name) => {
    const world = new World(keys, 20);
    const texts = textsOf(6, seeded(20));
    world.log.append(tenantId, texts.slice(0, 3));
    await world.settle();
    world.now += 1_000;
    const next = await newKeys();
    world.rotate(next);
    // Whoever has the old key goes on with it.
    world.keys = { ...next, [name]: keys[name] };
    world.reopen();
    world.now += 1_000;
    world.log.append(tenantId, texts.slice(3));
    await world.settle();
    expect(await verify(world)).toMatchObject({
      verdict: "TAMPERED",
      size: 4,
      reason: expect.stringContaining("time of the key") as string,
    });
  });
});

describe("what does not belong", () => {
  test("the same id with another content is kept aside and told once, in the log and to whoever is on call", async () => {
    const next = seeded(9);
    const world = new World(keys, 9);
    const event = eventAt(0, next);
    const forged = canonicalJson({ ...event, occurred_at: "2026-04-13T17:00:00.000Z" });
    world.log.append(tenantId, [canonicalJson(event)]);
    expect(world.log.append(tenantId, [forged])).toEqual({ appended: 0, duplicates: 0, conflicts: 1 });
    expect(world.log.append(tenantId, [forged])).toEqual({ appended: 0, duplicates: 0, conflicts: 1 });
    await world.settle();
    const events = await expectWhole(world, [canonicalJson(event)]);
    expect(events[1]).toMatchObject({
      type: "mc.log.gap",
      attributes: { rule: "conflicting_event", first_event_id: event.id, event_count: 1 },
    });
    expect(events).toHaveLength(2);
    expect(world.logged.filter(({ level }) => level === "error")).toHaveLength(1);
  });

  test("an event of a clock that is far off is logged at the log's own time, and whoever is on call is told", async () => {
    const world = new World(keys, 21);
    const next = seeded(21);
    const dayMs = 24 * 3_600_000;
    const offsets = [0, 4 * 60_000, 6 * 60_000, 400 * dayMs, -29 * dayMs, -31 * dayMs];
    const texts = offsets.map((offset, at) =>
      canonicalJson({ ...eventAt(at * 3, next), occurred_at: new Date(world.now + offset).toISOString() }),
    );
    const times: number[] = [];
    for (const text of texts) {
      world.log.append(tenantId, [text]);
      times.push(world.now);
      world.now += 10;
    }
    const told = world.logged.filter(({ message }) => message === "a source's clock is far off");
    expect(told).toHaveLength(3);
    await world.settle();
    const events = await expectWhole(world, texts);
    expect(events.map(({ logged_at }) => Date.parse(logged_at))).toEqual(times);
  });

  test("another tenant's event, or one of the log's own types, is refused, and nothing of its batch is kept", () => {
    const next = seeded(10);
    const world = new World(keys, 10);
    const good = canonicalJson(eventAt(0, next));
    const foreign = canonicalJson(eventAt(1, next, "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002"));
    const own = canonicalJson({ ...eventAt(0, next), type: "mc.log.gap" });
    expect(() => world.log.append(tenantId, [good, foreign])).toThrow("another tenant");
    expect(() => world.log.append(tenantId, [good, own])).toThrow("own");
    expect(world.log.nextDue()).toBeNull();
  });

  /** Events of one source, counted from 1. */
  const countedTexts = (count: number, next: () => number): string[] =>
    textsOf(count, next).map((text, at) => canonicalJson({ ...(JSON.parse(text) as object), source_seq: at + 1 }));

  test("MC-AUD-1911: an event that is lost on its way is seen by its source's counter, and told by a row that verifies", async () => {
    const world = new World(keys, 17);
    const texts = countedTexts(9, seeded(17));
    const delivered = texts.filter((_, at) => at !== 3 && at !== 4 && at !== 8);
    // Late, twice and out of order is no loss.
    world.log.append(tenantId, delivered.toReversed());
    world.log.append(tenantId, delivered);
    world.log.expectCounted(tenantId, "api", 9);
    const appendedAt = world.now;
    await world.settle();
    expect(world.now - appendedAt).toBeGreaterThanOrEqual(60 * 60_000);
    const events = await expectWhole(world, delivered);
    const gaps = events.filter(({ type }) => type === "mc.log.gap");
    expect(gaps.map(({ attributes }) => attributes)).toMatchObject([
      { rule: "source_counter", event_count: 2 },
      { rule: "source_counter", event_count: 1 },
    ]);
    expect(world.logged.filter(({ level }) => level === "error")).toHaveLength(2);
    // And where one comes after all, it is logged, and nothing more is told.
    world.log.append(tenantId, [texts[3]!]);
    await world.settle();
    expect(await expectWhole(world, [...delivered, texts[3]!])).toHaveLength(
      events.length + (texts[3]!.includes("finished") ? 2 : 1),
    );
  });

  test("where all events of a tenant are lost, its log begins with telling so", async () => {
    const world = new World(keys, 18);
    world.log.expectCounted(tenantId, "api", 2);
    await world.settle();
    const [event, ...others] = await expectWhole(world, []);
    expect(event).toMatchObject({ seq: 0, type: "mc.log.gap", attributes: { rule: "source_counter", event_count: 2 } });
    expect(others).toEqual([]);
  });

  test("a loss is told once, and not at all where the events are in the log after all", async () => {
    const next = seeded(12);
    const world = new World(keys, 12);
    const texts = textsOf(2, next);
    const ids = texts.map((text) => (JSON.parse(text) as { id: string }).id);
    world.log.append(tenantId, texts);
    const report = { rule: "dead_letter" as const, event_count: 2, message_sha256: "e".repeat(64) };
    world.log.recordGap(tenantId, { ...report, event_ids: ids });
    const lost = ["evt_0000000000000000000000000z", ids[0]!];
    world.log.recordGap(tenantId, { ...report, event_ids: lost });
    world.log.recordGap(tenantId, { ...report, event_ids: lost });
    await world.settle();
    const events = await expectWhole(world, texts);
    expect(events.filter(({ type }) => type === "mc.log.gap").map(({ attributes }) => attributes)).toEqual([
      { rule: "dead_letter", event_count: 1, first_event_id: lost[0], message_sha256: report.message_sha256 },
    ]);
  });
});
