import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { cdnSwap } from "./cdn-swap.ts";
import { isMet } from "./drill.ts";
import { swapFigures, type FetchRecord } from "./swap-figures.ts";
import { fetchPlan, publishPlan, type SwapSetting } from "./swap-plan.ts";

const setting: SwapSetting = {
  fetches_per_s: 100,
  duration_ms: 20_000,
  policies: 10,
  bundle_bytes: 100,
  zipf_exponent: 1,
  publish_every_ms: 5_000,
  a_frozen_ms: 5_000,
  a_thawed_ms: 6_000,
  a_caught_up_ms: 7_000,
  b_killed_ms: 8_000,
  quiet_ms: [0, 5_000],
  probe_every_ms: 250,
  fresh_within_ms: 1_250,
  stale_after_ms: 5_000,
  seed: 1,
};
const startedAt = 1_000_000;
const releases = [
  { policy: 0, sha256: "one", at: 0 },
  { policy: 0, sha256: "two", at: startedAt + 2_000 },
];
const record = (at: number, given: Partial<FetchRecord> = {}): FetchRecord => ({
  policy: 0,
  due: startedAt + at,
  started: startedAt + at,
  ended: startedAt + at + 5,
  sha256: "two",
  attempts: 1,
  hedges: 0,
  ...given,
});
const figuresOf = (...records: FetchRecord[]) => swapFigures(setting, startedAt, records, releases).figures;

test("an answer from before a revision is stale from a timestamp's and a probe's time after that stood at both providers", () => {
  expect(figuresOf(record(1_900, { sha256: "one" }))).toMatchObject({ stale_served: 0, behind_max_ms: 0 });
  expect(figuresOf(record(3_250, { sha256: "one" }))).toMatchObject({ stale_served: 0, behind_max_ms: 1_250 });
  expect(figuresOf(record(3_251, { sha256: "one" }))).toMatchObject({ stale_served: 1, behind_max_ms: 1_251 });
});

test("a fetch without bytes, and one with bytes that nobody published, have failed, and are told", () => {
  const { figures, complaints } = swapFigures(
    setting,
    startedAt,
    [record(100), record(200, { sha256: null }), record(300, { sha256: "three" })],
    releases,
  );
  expect(figures).toMatchObject({ fetches: 3, failed: 2 });
  expect(complaints).toEqual([expect.stringContaining("0.20 s"), expect.stringContaining("three")]);
});

test("stale seconds run from an answer that is over five seconds behind to the next one that is not, or to the end", () => {
  const old = (at: number) => record(at, { sha256: "one" });
  const quiet = record(100);
  expect(figuresOf(quiet, old(6_000))).toMatchObject({ stale_seconds: 0 });
  expect(figuresOf(quiet, old(8_000), old(9_000), record(10_000))).toMatchObject({ stale_seconds: 2 });
  expect(figuresOf(quiet, old(8_000))["stale_seconds"]).toBeCloseTo(12, 1);
});

test("what a fetch took longer is told against the median of the quiet time, from when it was due", () => {
  const quiet = Array.from({ length: 99 }, (_, at) => record(at * 10));
  const late = record(9_000, { started: startedAt + 9_040, ended: startedAt + 9_050, attempts: 2, hedges: 1 });
  expect(figuresOf(...quiet, late)).toMatchObject({
    baseline_ms: 5,
    added_p50_ms: 0,
    added_p999_ms: 45,
    added_max_ms: 45,
    quiet_added_p999_ms: 0,
    hedged_share: 0.01,
    attempts_per_fetch: 1.01,
    begun_late_p999_ms: 40,
  });
});

test("the plan asks at equal distances, the same each time, and most for the first policy", () => {
  const plan = fetchPlan(setting);
  expect(plan).toHaveLength(2_000);
  expect(plan).toEqual(fetchPlan(setting));
  expect(plan[7]!.at_ms).toBe(70);
  const counts = Array.from({ length: 10 }, (_, policy) => plan.filter((fetch) => fetch.policy === policy).length);
  expect(counts[0]).toBe(Math.max(...counts));
  expect(Math.min(...counts)).toBeGreaterThan(0);
});

test("something is published at each step within the load, the most asked policy first", () => {
  expect(publishPlan(setting)).toEqual([
    { at_ms: 5_000, policy: 0 },
    { at_ms: 10_000, policy: 1 },
    { at_ms: 15_000, policy: 2 },
  ]);
});

test("a goal is met at its limit only where it says so", () => {
  expect(isMet({ figure: "failed", is: "at_most", limit: 0 }, 0)).toBe(true);
  expect(isMet({ figure: "added_p999_ms", is: "under", limit: 50 }, 50)).toBe(false);
  expect(isMet({ figure: "hit_ratio", is: "over", limit: 0.95 }, 0.95)).toBe(false);
});

test("the page of benchmarks and the method have every figure with a goal", () => {
  const [page, method] = ["../../docs/BENCHMARKS.md", "../../docs/adr/ADR-1230-cdn-swap-drill.md"].map((path) =>
    readFileSync(new URL(path, import.meta.url), "utf8"),
  );
  for (const { figure } of cdnSwap.goals) {
    expect(page).toContain(figure);
    expect(method).toContain(figure.replace("added_p999_ms", "added_*_ms"));
  }
});
