import { expect, test } from "vitest";
import { commitPlan, firstSeen, type LoadSetting } from "./schedule.ts";

const setting = (given: Partial<LoadSetting>): LoadSetting => ({
  name: "probe",
  events_per_s: 2_500,
  tenants: 1,
  duration_s: 20,
  commit_every_ms: 20,
  ...given,
});
const eventsOf = (plan: readonly { events: number }[]): number => plan.reduce((sum, { events }) => sum + events, 0);

test("a plan has exactly the events of its rate and time, a commit every so many milliseconds", () => {
  const plan = commitPlan(setting({}));
  expect(plan.length).toBe(1_000);
  expect(new Set(plan.map(({ events }) => events))).toEqual(new Set([50]));
  expect(plan.at(-1)?.at_ms).toBe(19_980);
});

test.each([
  { events_per_s: 333, commit_every_ms: 7 },
  { events_per_s: 7, commit_every_ms: 20 },
  { events_per_s: 999, commit_every_ms: 30, duration_s: 1.01 },
])(
  "no event is left over where a commit's share is no whole number: $events_per_s/s every $commit_every_ms ms",
  (given) => {
    const asked = setting(given);
    const plan = commitPlan(asked);
    expect(eventsOf(plan)).toBe(Math.round(asked.events_per_s * asked.duration_s));
    expect(plan.every(({ events }) => events > 0)).toBe(true);
    expect(plan.map(({ at_ms }) => at_ms)).toEqual(plan.map(({ at_ms }) => at_ms).toSorted((a, b) => a - b));
  },
);

test("tenants have equal shares, in turn", () => {
  const plan = commitPlan(setting({ events_per_s: 500, tenants: 20 }));
  const shares = Array.from({ length: 20 }, (_, tenant) => eventsOf(plan.filter((commit) => commit.tenant === tenant)));
  expect(new Set(shares)).toEqual(new Set([500]));
});

test("a load of nothing is refused", () => {
  expect(() => commitPlan(setting({ events_per_s: 0 }))).toThrow(RangeError);
  expect(() => commitPlan(setting({ tenants: Number.NaN }))).toThrow(RangeError);
});

test("a row was seen when the first sighting covers it, and never where none does", () => {
  const sightings = [
    { at: 10, below: 0 },
    { at: 20, below: 2 },
    { at: 30, below: 2 },
    { at: 40, below: 3 },
  ];
  expect(firstSeen(sightings, 5)).toEqual([20, 20, 40, null, null]);
  expect(firstSeen(sightings, 1)).toEqual([20]);
  expect(firstSeen([], 1)).toEqual([null]);
});
