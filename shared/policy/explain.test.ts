// Explanations over the real policy: whatever combination of obstacles there is, the fixes that are named turn the answer to
// allow, and no smaller set of them would.

import fastCheck from "fast-check";
import { expect, test } from "vitest";
import { loadCommittedPolicy } from "../../test/support/policy.ts";
import { entitlementUpsert, type RunWindow } from "../contract/http-entitlements.ts";
import { roleNames } from "../contract/names.ts";
import { decisionInput, type Action, type DecisionInput, type FactsOf } from "./actions.ts";
import { decide, type Obstacle } from "./decide.ts";
import { explain } from "./explain.ts";

const policy = await loadCommittedPolicy();

const bool = fastCheck.boolean();
const channel = fastCheck.constantFrom("stable" as const, "canary" as const);
const role = fastCheck.constantFrom(...roleNames);
const kind = fastCheck.constantFrom("person" as const, "service" as const);
const flags = fastCheck.record({ market_entitlements: bool, market_channels: bool });
const hour = (at: number): string => String(at).padStart(2, "0");
const window: fastCheck.Arbitrary<RunWindow> = fastCheck.record({
  days: fastCheck.constantFrom<RunWindow["days"]>(["mon"], ["tue"], ["mon", "wed"]),
  from: fastCheck.constantFrom("00:00", "08:30"),
  to: fastCheck.constantFrom("09:05", "09:45", "24:00"),
});
const entitlement = fastCheck.option(
  fastCheck.record({
    channel,
    allowed: bool,
    version_range: fastCheck.constantFrom(null, ">=2.0.0"),
    run_windows: fastCheck.oneof(
      fastCheck.constant(null),
      fastCheck.array(window, { maxLength: 3 }),
      fastCheck.array(window, { minLength: 20, maxLength: 20 }),
    ),
    runs_per_day_max: fastCheck.constantFrom(null, 0, 5),
  }),
);
const release = fastCheck
  .record({ yanked: bool, barred: bool, alternative: fastCheck.constantFrom(null, "0.9.0") })
  .map(({ yanked, barred, alternative }) => ({
    version: "1.0.0",
    state: yanked ? ("yanked" as const) : ("published" as const),
    barred,
    alternative: yanked ? alternative : null,
  }));
const common = { package: fastCheck.constant("tools/a"), flags, entitlement, in_range: bool };
const moving = { ...common, channel, release, frozen: bool };
const budget = { units: 5, remaining_units: 1, limit_needed_units: 9, leak_units_per_hour: 0 };

const run = fastCheck.record({
  ...common,
  install_name: fastCheck.constant("default"),
  install: fastCheck.option(fastCheck.record({ channel, version: fastCheck.constant("1.0.0") })),
  clock: fastCheck.record({
    weekday: fastCheck.constantFrom("mon" as const, "tue" as const, "sun" as const),
    minute: fastCheck.constantFrom(0, 545, 1_439),
  }),
  runs_today: fastCheck.constantFrom(0, 5),
  privacy: fastCheck.constantFrom(null, budget),
  installing: fastCheck.option(fastCheck.record({ channel, release, frozen: bool })),
});
const rollback = fastCheck.record({
  package: fastCheck.constant("tools/a"),
  version: fastCheck.constantFrom(null, "0.9.0"),
  installs: fastCheck.record({
    count: fastCheck.constantFrom(0, 2),
    can_go_back: fastCheck.constantFrom(0, 1),
    barred_way: fastCheck.constantFrom(null, "0.8.0"),
  }),
  barred: bool,
});
const upgrade = fastCheck.record({
  ...moving,
  installs: fastCheck.constantFrom({ count: 0, pinned: 0 }, { count: 2, pinned: 2 }, { count: 2, pinned: 1 }),
  gate_holds: bool,
  cohort_percent: fastCheck.constant(10),
});
const pinned = fastCheck.option(fastCheck.record({ name: fastCheck.constant("default"), pinned: bool }));

const asked = <A extends Action>(action: A, facts: fastCheck.Arbitrary<FactsOf<A>>) =>
  fastCheck
    .tuple(role, kind, facts)
    .map(([role, kind, given]) =>
      decisionInput<Action>(
        action,
        { tenant_id: "t", tenant: "t", principal_id: "p", kind, role, credential: "key" },
        given,
      ),
    );
const inputs: fastCheck.Arbitrary<DecisionInput> = fastCheck.oneof(
  // An install that is there has nothing before it.
  asked(
    "execution.start",
    run.map((facts) => (facts.install === null ? facts : { ...facts, installing: null })),
  ),
  asked("install.write", fastCheck.record({ ...moving, install: pinned })),
  asked("upgrade.start", upgrade),
  asked("rollback.start", rollback),
  asked("bar.write", fastCheck.constant({ package: "tools/a", version: "1.0.0", lifts: true })),
  asked("release.review", fastCheck.constant({ package: "tools/a", version: "1.0.0", own: true })),
  asked("entitlement.approve", fastCheck.constant({ change_id: "chg_1", own: true })),
);

/** What effects make of an input, written a second time: one member after the other, objects member by member. */
function after(input: DecisionInput, obstacles: readonly Obstacle[]): DecisionInput {
  const copy = structuredClone(input) as { caller: Record<string, unknown>; facts: Record<string, unknown> };
  const put = (into: Record<string, unknown>, from: Readonly<Record<string, unknown>>): void => {
    for (const [key, value] of Object.entries(from)) {
      const there = into[key];
      if (there !== null && typeof there === "object" && value !== null && typeof value === "object") {
        if (Array.isArray(value)) into[key] = value;
        else put(there as Record<string, unknown>, value as Record<string, unknown>);
      } else into[key] = structuredClone(value);
    }
  };
  for (const { effect } of obstacles) {
    put(copy.facts, effect.facts);
    if (effect.role !== null) copy.caller["role"] = effect.role;
    if (effect.kind !== undefined) copy.caller["kind"] = effect.kind;
  }
  return copy as unknown as DecisionInput;
}

const nameOf = ({ fix }: Obstacle): string => JSON.stringify(fix);

test("every combination of obstacles has fixes that suffice, and no fewer of them do", () => {
  const sizes = new Set<number>();
  fastCheck.assert(
    fastCheck.property(inputs, (input) => {
      const { decision, fixes } = explain(policy, input);
      if (decision.allow) return;
      expect(decision.rule).not.toBe("policy_error");
      expect(fixes.length).toBeGreaterThan(0);
      sizes.add(fixes.length);
      const byFix = [
        ...new Map(decision.obstacles.toReversed().map((one) => [nameOf(one), one])).values(),
      ].toReversed();
      let smallest = Infinity;
      for (let set = 1; set < 1 << byFix.length; set += 1) {
        const chosen = byFix.filter((_, at) => (set & (1 << at)) !== 0);
        if (chosen.length < smallest && decide(policy, after(input, chosen)).allow) smallest = chosen.length;
      }
      expect(fixes.length).toBe(smallest);
    }),
    { numRuns: process.env["MAESTRO_DEEP"] === "1" ? 15_000 : 500, seed: 20_261_125 },
  );
  // The generator does make combinations.
  expect([...sizes]).toEqual(expect.arrayContaining([1, 2, 3, 4, 5]));
});

test("a row that a fix proposes fits the contract, and keeps every minute of every window", () => {
  const minutes = (windows: readonly RunWindow[]): Set<string> =>
    new Set(
      windows.flatMap(({ days, from, to }) =>
        days.flatMap((day) =>
          Array.from({ length: 96 }, (_, at) => `${hour(Math.floor(at / 4))}:${hour((at % 4) * 15)}`)
            .filter((time) => from <= time && time < to)
            .map((time) => `${day} ${time}`),
        ),
      ),
    );
  let seen = 0;
  fastCheck.assert(
    fastCheck.property(inputs, (input) => {
      const fix = explain(policy, input).fixes.find(({ path }) => path === "/api/market/entitlements");
      if (fix === undefined) return;
      const [row] = entitlementUpsert.parse(fix.body).entitlements;
      const { entitlement } = input.facts as { entitlement: { run_windows: RunWindow[] | null } | null };
      const kept = minutes(row!.run_windows ?? []);
      seen += 1;
      expect([...minutes(entitlement?.run_windows ?? [])].filter((minute) => !kept.has(minute))).toEqual([]);
    }),
    { numRuns: 500, seed: 20_261_126 },
  );
  expect(seen).toBeGreaterThan(50);
});
