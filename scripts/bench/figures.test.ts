import { expect, test } from "vitest";
import { figuresOf, type Ends } from "./figures.ts";
import type { Committed } from "./load.ts";

const row = (seq: number, eventId: string) => ({ seq, eventId });
const committed: Committed[] = [
  { tenant: 0, event_ids: ["a", "b"], due_at: 1_000, committed_at: 1_010 },
  { tenant: 0, event_ids: ["c"], due_at: 2_000, committed_at: 2_030 },
];
const whole = [row(0, "a"), row(1, "b"), row(2, "c")];
const endsOf = (given: { indexed?: Ends["indexed"]; rows?: Ends["indexed"]; last?: number }): Ends => ({
  indexed: given.indexed ?? whole,
  published: {
    objects: 4,
    manifests: [
      { range: { from: 0, to: 2 }, putAt: 1_500 },
      { range: { from: 2, to: given.last ?? 3 }, putAt: 3_000 },
    ],
    rows: given.rows ?? whole,
  },
  sightings: [
    { at: 1_600, below: 2 },
    { at: 3_100, below: 3 },
  ],
});

test("lags run from when a commit was due to when its row was seen, and to when its manifest was put", () => {
  expect(figuresOf(committed, [endsOf({})])).toMatchObject({
    events: 3,
    lost: 0,
    duplicated: 0,
    gaps: 0,
    lag_p50_s: 0.6,
    lag_max_s: 1.1,
    manifest_lag_p50_s: 0.5,
    manifest_lag_max_s: 1,
    puts_per_event: 1.333,
    commit_p50_ms: 10,
    commit_p95_ms: 30,
  });
});

test.each([
  ["Postgres", { indexed: [row(0, "a"), row(1, "b")] }],
  ["the bucket", { rows: [row(0, "a"), row(1, "b")] }],
])("an event that is missing in %s only is lost", (_, given) => {
  expect(figuresOf(committed, [endsOf(given)])).toMatchObject({ lost: 1, duplicated: 0, gaps: 0 });
});

test("an event whose segment has no manifest is lost: nothing vouches for it", () => {
  const ends = endsOf({});
  const published = { ...ends.published, manifests: ends.published.manifests.slice(0, 1) };
  expect(figuresOf(committed, [{ ...ends, published }])).toMatchObject({ lost: 1 });
});

test("an event that stands twice is duplicated, and a missing seq is a gap, at the one end and at the other", () => {
  const twice = [...whole, row(3, "a")];
  const open = [row(1, "a"), row(2, "b"), row(5, "c")];
  expect(figuresOf(committed, [endsOf({ indexed: twice })])).toMatchObject({ lost: 0, duplicated: 1, gaps: 0 });
  expect(figuresOf(committed, [endsOf({ rows: twice })])).toMatchObject({ lost: 0, duplicated: 1, gaps: 0 });
  expect(figuresOf(committed, [endsOf({ rows: open, last: 6 })])).toMatchObject({ duplicated: 0, gaps: 3 });
});
