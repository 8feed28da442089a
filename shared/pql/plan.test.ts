import { describe, expect, test } from "vitest";
import { eventTypes } from "../contract/events.ts";
import { attributesOf, columns, subjectNames, subjects } from "./catalogue.ts";
import { limits } from "./limits.ts";
import { parsePql } from "./parse.ts";
import { bucketCount, planQuery, type Condition, type Plan } from "./plan.ts";
import { PqlError } from "./pql-error.ts";

const now = Date.UTC(2026, 3, 13, 16, 20, 30, 5);
const plan = (text: string, at = now): Plan => planQuery(parsePql(text), text, at);
const condition = (text: string): Condition => plan(`FIND events WHERE ${text}`).condition!;

function refusal(text: string): PqlError {
  try {
    plan(text);
  } catch (error) {
    if (error instanceof PqlError) return error;
    throw error;
  }
  throw new Error(`not refused: ${text}`);
}

describe("the catalogue", () => {
  test("each subject is rows of types that the event catalogue has, and events are all of them", () => {
    for (const name of subjectNames) {
      const types = subjects.get(name)!;
      expect(types.length).toBeGreaterThan(0);
      expect(types.every((type) => Object.hasOwn(eventTypes, type))).toBe(true);
    }
    expect(subjects.get("events")).toEqual(Object.keys(eventTypes));
    expect([...subjects.keys()]).toEqual([...subjectNames]);
  });

  test("an attribute is of one kind in all event types, so that a comparison means one thing", () => {
    const kinds = new Map<string, string>();
    for (const type of subjects.get("events")!) {
      for (const [name, { kind }] of attributesOf([type])) {
        expect([name, kinds.get(name) ?? kind]).toEqual([name, kind]);
        kinds.set(name, kind);
      }
    }
    expect(kinds.get("attrs.exit_code")).toBe("integer");
    expect(kinds.get("attrs.allowed")).toBe("boolean");
    expect(kinds.get("attrs.expires_at")).toBe("timestamp");
    expect(kinds.get("attrs.release_sha256")).toBe("text");
  });

  test("attributes that are lists or objects are no fields", () => {
    expect(attributesOf(["mc.receipt.signed"]).has("attrs.receipt")).toBe(false);
  });

  test("the tenant and the raw attributes are no fields", () => {
    expect([columns.has("tenant_id"), columns.has("attrs")]).toEqual([false, false]);
  });
});

describe("templates and ranges", () => {
  test("the clauses choose the template", () => {
    expect(plan("FIND events").template).toBe("rows");
    expect(plan("FIND events BUCKET BY 1h").template).toBe("buckets");
    expect(plan("FIND events TOP 3 BY package").template).toBe("top");
    expect(plan("FIND events BUCKET BY 1h TOP 3 BY package").template).toBe("top_buckets");
  });

  test("a range ends now and begins SINCE before it, 24 hours where nothing was said", () => {
    expect(plan("FIND events SINCE 90m")).toMatchObject({ from: now - 90 * 60_000, to: now });
    expect(plan("FIND events")).toMatchObject({ from: now - 86_400_000, to: now });
    expect(plan("FIND events", 1_000)).toMatchObject({ from: 0, to: 1_000 });
  });

  test("with buckets the range begins with its first bucket, in UTC, so that no bucket but the last is cut", () => {
    const hours = plan("FIND events BUCKET BY 1h SINCE 3h");
    expect([new Date(hours.from).toISOString(), hours.to]).toEqual(["2026-04-13T13:00:00.000Z", now]);
    expect(bucketCount(hours.from, hours.to, 3_600_000)).toBe(4);
    expect(new Date(plan("FIND events BUCKET BY 1d SINCE 1h").from).toISOString()).toBe("2026-04-13T00:00:00.000Z");
  });

  test("on the edge of a bucket the last one is new, empty and partial", () => {
    const edge = Date.UTC(2026, 3, 13, 16);
    const { from, to } = plan("FIND events BUCKET BY 1h SINCE 2h", edge);
    expect(bucketCount(from, to, 3_600_000)).toBe(3);
  });

  test("the bounds of SINCE, TOP and cells are exact", () => {
    expect(plan("FIND events SINCE 400d").from).toBe(now - limits.sinceMaxMs);
    expect(plan("FIND events SINCE 1ms").from).toBe(now - 1);
    expect(plan(`FIND events TOP ${limits.topMax} BY type`)).toMatchObject({ top: limits.topMax });
    const day = Date.UTC(2026, 3, 13);
    // 499 buckets of a minute and the one that now is in, times 100 cells each.
    expect(plan("FIND events BUCKET BY 1m TOP 99 BY type SINCE 499m", day)).toMatchObject({ top: 99 });
    expect(() => plan("FIND events BUCKET BY 1m TOP 99 BY type SINCE 500m", day)).toThrow(/50100 cells/);
  });

  test("subjects are of either case, fields are as they are written", () => {
    expect(plan("FIND Executions").types).toEqual(["mc.execution.finished"]);
    expect(refusal('FIND events WHERE Outcome = "x"').suggestion).toBe("Did you mean `outcome`?");
  });
});

describe("conditions", () => {
  test("NOT is pushed down to the tests, by De Morgan", () => {
    expect(condition('NOT (units = 1 AND (rule = "a" OR NOT EXISTS rule))')).toMatchObject({
      kind: "or",
      of: [
        { kind: "compare", negated: true },
        {
          kind: "and",
          of: [
            { kind: "compare", negated: true },
            { kind: "exists", negated: false },
          ],
        },
      ],
    });
  });

  test("!= is NOT =, and NOT != is =", () => {
    expect(condition("units != 1")).toEqual(condition("NOT units = 1"));
    expect(condition("NOT units != 1")).toEqual(condition("units = 1"));
  });

  test("a duration field takes durations and integers of milliseconds", () => {
    expect(condition("duration_ms > 5s")).toMatchObject({ value: 5_000 });
    expect(condition("duration_ms > 5000")).toMatchObject({ value: 5_000 });
    expect(condition("duration_ms IN (1s, 2000)")).toMatchObject({ values: [1_000, 2_000] });
  });

  test.each([
    ["outcome = 5", 29, 'Write "5".'],
    ["outcome = true", 29, 'Write "true".'],
    ["outcome = 2026-04-13", 29, 'Write "2026-04-13".'],
    ['units = "5"', 27, "Strings alone take quotes."],
    ["units = 5s", 27, null],
    ['occurred_at > "2026-04-13"', 33, "Strings alone take quotes."],
    ["occurred_at > 5", 33, null],
    ["duration_ms > true", 33, null],
    ['attrs.allowed = "true"', 35, "Strings alone take quotes."],
    ["attrs.allowed > false", 35, null],
    ['units LIKE "1%"', 19, null],
    ["rule LIKE 5", 29, 'Write "5".'],
    ['units IN (1, "2")', 32, "Strings alone take quotes."],
  ])("a value that does not fit its field is refused where it stands: %s", (text, column, suggestion) => {
    const error = refusal(`FIND events WHERE ${text}`);
    expect([error.column, error.suggestion]).toEqual([column, suggestion]);
  });

  test.each([
    ['FIND events WHERE outcom = "x"', "Did you mean `outcome`?"],
    ['FIND events WHERE otucome = "x"', "Did you mean `outcome`?"],
    ["FIND events WHERE exit_code = 1", "Did you mean `attrs.exit_code`?"],
    ["FIND events WHERE attrs.exitcode = 1", "Did you mean `attrs.exit_code`?"],
    ["FIND events TOP 5 BY pakage", "Did you mean `package`?"],
    ["FIND decison", "Did you mean `decisions`?"],
    ["FIND events WHERE zzzzzz = 1", null],
    ["FIND entitlements WHERE attrs.exit_code = 1", null],
  ])("an unknown name is refused with the nearest known one: %s", (text, suggestion) => {
    expect(refusal(text).suggestion).toBe(suggestion);
  });

  test("a field with a value of its own in every row is not grouped by", () => {
    for (const name of ["seq", "event_id", "logged_at", "occurred_at", "duration_ms", "attrs.expires_at"]) {
      expect(refusal(`FIND events TOP 5 BY ${name}`).message).toContain("is not a field to group by");
    }
  });
});
