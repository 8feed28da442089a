// A cached answer is the one that would be read, and a tag names one answer to one tenant's one question.

import { describe, expect, test } from "vitest";
import { groupsAnswer } from "./answer.ts";
import {
  AnswerCache,
  answerTag,
  cacheLimits,
  isNamedBy,
  questionKey,
  seqOfTag,
  withEnd,
  type CacheLimits,
  type HeldAnswer,
} from "./answer-cache.ts";
import { parsePql } from "./parse.ts";
import { planQuery, type Plan } from "./plan.ts";

const start = Date.UTC(2026, 3, 13, 10);
const query = "FIND decisions BUCKET BY 5m TOP 2 BY package SINCE 1h";
const planAt = (now: number, text = query): Exclude<Plan, { template: "rows" }> => {
  const plan = planQuery(parsePql(text), text, now);
  if (plan.template === "rows") throw new Error("counts were asked for");
  return plan;
};
const counted = (plan: Exclude<Plan, { template: "rows" }>, completeTo: number | null = start - 1) =>
  groupsAnswer(plan, [{ rank: 1, name: "tools/a", counts: [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] }], completeTo);

describe("a question's key", () => {
  test("is the same all along a bucket, and another in the next one, for another query and another tenant", () => {
    const key = questionKey("a", "d", planAt(start));
    expect(questionKey("a", "d", planAt(start + 299_999))).toBe(key);
    const others = [
      questionKey("a", "d", planAt(start + 300_000)),
      questionKey("a", "e", planAt(start)),
      questionKey("b", "d", planAt(start)),
      questionKey("a", "d", planAt(start, query.replace("1h", "2h"))),
    ];
    expect(new Set([key, ...others]).size).toBe(5);
  });

  test("is none where the range moves with the clock", () => {
    expect(questionKey("a", "d", planAt(start, "FIND decisions TOP 2 BY package"))).toBeNull();
  });

  test("an answer moved to a later end is the one that is counted there", () => {
    for (const later of [1, 60_000, 299_999]) {
      expect(withEnd(counted(planAt(start)), start + later)).toEqual(counted(planAt(start + later)));
    }
  });
});

test("an answer is named only where Postgres was where the meter was, and no event was logged at its end or later", () => {
  const head = { indexed_seq: 5, indexed_to: start - 1, sealed_to: null };
  const plan = planAt(start);
  expect(isNamedBy(counted(plan), plan, head)).toBe(true);
  expect(isNamedBy(counted(plan, start), plan, head)).toBe(false);
  expect(isNamedBy(counted(plan, start), plan, { ...head, indexed_to: start })).toBe(false);
  expect(isNamedBy(counted(plan, null), plan, { ...head, indexed_to: null })).toBe(false);
});

describe("a tag", () => {
  test("is found again among others, weak or not, and only for its own question, format and seq", async () => {
    const tag = await answerTag("a d 1 2", 42, "json");
    expect(tag).toMatch(/^W\/"42-[0-9a-f]{32}-json"$/);
    expect(await seqOfTag("a d 1 2", tag, "json")).toBe(42);
    expect(await seqOfTag("a d 1 2", `"x", ${tag.slice(2)}, W/"y"`, "json")).toBe(42);
    const newer = await answerTag("a d 1 2", 43, "json");
    expect(await seqOfTag("a d 1 2", `${newer}, ${tag}`, "json")).toBe(43);
    expect(await seqOfTag("b d 1 2", tag, "json")).toBeNull();
    expect(await seqOfTag("a d 1 2", tag, "csv")).toBeNull();
    expect(await seqOfTag("a d 1 2", tag.replace('"42-', '"43-'), "json")).toBeNull();
    expect(await seqOfTag("a d 1 2", "*", "json")).toBeNull();
  });

  test("a long list is looked at for a while only", async () => {
    const tag = await answerTag("k", 1, "json");
    const others = Array.from({ length: 20 }, (_, seq) => `"${seq}-${"0".repeat(32)}-json"`).join(", ");
    expect(await seqOfTag("k", `${others}, ${tag}`, "json")).toBeNull();
  });
});

describe("the memory of answers", () => {
  const held = (seq = 1, names = 1): HeldAnswer => ({
    answer: {
      ...counted(planAt(start)),
      groups: Array.from({ length: names }, () => ({ name: "n".repeat(100), total: 1 })),
    },
    indexed_seq: seq,
    kept_at: start,
  });
  const small: CacheLimits = { entries_max: 3, bytes_max: 1_000_000, age_max_ms: 1_000 };

  test("keeps what was used last, and no more than so many", () => {
    const cache = new AnswerCache(small);
    for (const key of ["a", "b", "c"]) cache.put(key, held());
    cache.get("a", start);
    cache.put("d", held());
    expect(["a", "b", "c", "d"].map((key) => cache.get(key, start) !== null)).toEqual([true, false, true, true]);
  });

  test("keeps no more than so many bytes, and nothing that would push all others out", () => {
    const cache = new AnswerCache({ ...small, entries_max: 1_000, bytes_max: 320_000 });
    for (let key = 0; key < 100; key += 1) cache.put(String(key), held(key, 20));
    const kept = Array.from({ length: 100 }, (_, key) => cache.get(String(key), start)).filter((one) => one !== null);
    expect(kept.length).toBeGreaterThan(3);
    expect(kept.length * 20 * 200).toBeLessThan(320_000);
    cache.put("huge", held(1, 1_000));
    expect(cache.get("huge", start)).toBeNull();
    expect(cache.get("99", start)).not.toBeNull();
  });

  test("forgets after its time, also where the clock went back", () => {
    const cache = new AnswerCache(small);
    cache.put("a", held());
    expect(cache.get("a", start + 999)).not.toBeNull();
    expect(cache.get("a", start + 1_000)).toBeNull();
    cache.put("a", held());
    expect(cache.get("a", start - 1_000)).toBeNull();
  });

  test("a newer answer takes the older one's place", () => {
    const cache = new AnswerCache(cacheLimits);
    cache.put("a", held(1));
    cache.put("a", held(2));
    expect(cache.get("a", start)?.indexed_seq).toBe(2);
  });
});
