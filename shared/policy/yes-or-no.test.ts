// Rules that say yes or no: between workers, and of routes without a credential. Whatever is not a decision is a no.

import { expect, test } from "vitest";
import type { LoadedPolicy } from "./compiled.ts";
import { openRoutes } from "./open-routes.ts";
import { workerCalls } from "./worker-calls.ts";
import { yesOrNo } from "./yes-or-no.ts";

/** A policy that answers this, and whom it was asked about. */
function policyOf(answer: (input: unknown) => unknown): LoadedPolicy & { readonly asked: unknown[] } {
  const asked: unknown[] = [];
  return {
    asked,
    evaluate(input) {
      asked.push(input);
      return answer(input);
    },
  };
}
const yes = { allow: true, reasons: [] };
const no = { allow: false, reason: "the policy gave no decision" };

test.each<[string, () => unknown]>([
  ["nothing", () => []],
  ["no result set", () => undefined],
  ["null", () => null],
  ["true", () => true],
  ["a result that is true", () => [{ result: true }]],
  ["two results", () => [{ result: yes }, { result: yes }]],
  ["more beside the result", () => [{ result: yes, more: 1 }]],
  ["more in the decision", () => [{ result: { ...yes, more: 1 } }]],
  ["a yes with a reason", () => [{ result: { allow: true, reasons: ["so"] } }]],
  ["a yes without reasons", () => [{ result: { allow: true } }]],
  ["a yes that is a text", () => [{ result: { allow: "true", reasons: [] } }]],
  ["a no without a reason", () => [{ result: { allow: false, reasons: [] } }]],
  ["a no with too many reasons", () => [{ result: { allow: false, reasons: ["1", "2", "3", "4", "5"] } }]],
  [
    "an error",
    () => {
      throw new Error("injected");
    },
  ],
])("a policy that gives %s has said no", (_, answer) => {
  const loaded = policyOf(answer);
  expect(openRoutes(loaded)("GET /docs")).toEqual(no);
  expect(workerCalls(loaded)({ callee: "a", method: "b", spiffe_id: "c", trust_domain: "d" })).toEqual(no);
});

test("a yes is a yes, and a no says why", () => {
  expect(openRoutes(policyOf(() => [{ result: yes }]))("GET /docs")).toEqual({ allow: true });
  const refused = policyOf(() => [{ result: { allow: false, reasons: ["one", "two"] } }]);
  expect(openRoutes(refused)("GET /docs")).toEqual({ allow: false, reason: "one; two" });
});

test("each question is asked once, up to a bound, and no two that differ are one", () => {
  const loaded = policyOf((input) => [{ result: { allow: false, reasons: [JSON.stringify(input)] } }]);
  const call = workerCalls(loaded);
  const base = { callee: "a", method: "b", spiffe_id: "c", trust_domain: "d" };
  const inputs = [base, ...Object.keys(base).map((name) => ({ ...base, [name]: "x" })), { ...base, callee: 'a","b' }];
  for (const input of [...inputs, ...inputs])
    expect(call(input)).toEqual({ allow: false, reason: JSON.stringify(input) });
  expect(loaded.asked).toEqual(inputs);
  const few = policyOf(() => [{ result: yes }]);
  const ask = yesOrNo<number>(few, "rule", String, 2);
  for (const input of [1, 2, 3, 1, 2, 3, 3]) ask(input);
  expect(few.asked).toEqual([1, 2, 3, 3, 3]);
});
