// Explanations over the real policy: whatever combination of obstacles there is, the fixes that are named turn the answer to
// allow, and no smaller set of them would.

import fastCheck from "fast-check";
import { expect, test } from "vitest";
import { loadCommittedPolicy } from "../../test/support/policy.ts";
import { decisionInputs, hour } from "../../test/support/policy-inputs.ts";
import { entitlementUpsert, type RunWindow } from "../contract/http-entitlements.ts";
import type { DecisionInput } from "./actions.ts";
import { decide, type Obstacle } from "./decide.ts";
import { explain } from "./explain.ts";

const policy = await loadCommittedPolicy();

/** What effects make of an input, written a second time: one member after the other, objects member by member. */
function after(input: DecisionInput, obstacles: readonly Obstacle[]): DecisionInput {
  const copy = structuredClone(input) as unknown as { caller: Record<string, unknown>; facts: Record<string, unknown> };
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
    if (effect.kind !== undefined) {
      Object.assign(copy.caller, { kind: effect.kind, spiffe_id: null, spiffe_domain: null });
      Object.assign(copy.caller, { credential: "token", fetcher_svids: null });
    }
    const svids = copy.caller["fetcher_svids"];
    if (effect.spiffe_everywhere !== undefined && svids !== null) {
      copy.caller["fetcher_svids"] = { ...(svids as object), everywhere: effect.spiffe_everywhere };
    }
  }
  return copy as unknown as DecisionInput;
}

const nameOf = ({ fix }: Obstacle): string => JSON.stringify(fix);

test("every combination of obstacles has fixes that suffice, and no fewer of them do", () => {
  const sizes = new Set<number>();
  fastCheck.assert(
    fastCheck.property(decisionInputs, (input) => {
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
    { numRuns: process.env["MAESTRO_DEEP"] === "1" ? 15_000 : 40, seed: 20_261_125 },
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
    fastCheck.property(decisionInputs, (input) => {
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
