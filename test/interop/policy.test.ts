// The policy against the real OPA: its own tests pass, and the committed WASM is what OPA makes of the sources.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";
import { buildPolicy, committedPolicyBuild } from "../../scripts/generate/policy.ts";
import { roleNames } from "../../shared/contract/names.ts";
import { actions, type DecisionInput } from "../../shared/policy/actions.ts";
import { rules } from "../../shared/policy/decide.ts";
import { loadCommittedPolicy } from "../support/policy.ts";
import { decisionInputs } from "../support/policy-inputs.ts";
import { startPolicyWorker } from "../support/policy-worker.ts";
import { tool } from "../support/tools.ts";

const opa = tool("opa");

test.skipIf(opa === null)("the policy's own tests pass in OPA", () => {
  const report = execFileSync(opa ?? "opa", ["test", "--format=json", "policy/rego"], { encoding: "utf8" });
  const results = JSON.parse(report) as { name: string; fail?: boolean; error?: unknown }[];
  expect(results.length).toBeGreaterThan(0);
  expect(results.filter(({ fail, error }) => fail === true || error !== undefined)).toEqual([]);
});

test.skipIf(opa === null)("OPA makes the committed WASM of the policy's sources, byte for byte", async () => {
  const committed = await committedPolicyBuild();
  const built = await buildPolicy(opa ?? "opa");
  expect(built.opa_version).toBe(committed.opa_version);
  expect(built.source_sha256).toBe(committed.source_sha256);
  expect(built.wasm_sha256).toBe(committed.wasm_sha256);
});

test.skipIf(opa === null)("every rule of the policy's sources is evaluated by their own tests", () => {
  const words = ["test", "--coverage", "--format=json", "policy/rego"];
  const { files } = JSON.parse(execFileSync(opa ?? "opa", words, { encoding: "utf8" })) as {
    files: Record<string, { readonly not_covered?: readonly { readonly start: { readonly row: number } }[] }>;
  };
  const sources = Object.entries(files).filter(([name]) => !name.endsWith("_test.rego"));
  expect(sources.length).toBeGreaterThan(5);
  expect(
    sources.flatMap(([name, { not_covered: rows = [] }]) => rows.map(({ start }) => `${name}:${start.row}`)),
  ).toEqual([]);
});

test.skipIf(opa === null)("the policy's sources are what OPA calls strict, and formatted", () => {
  const said = [
    ["check", "--strict"],
    ["fmt", "--fail", "--list"],
  ].map((words) => execFileSync(opa ?? "opa", [...words, "policy/rego"], { encoding: "utf8" }));
  expect(said).toEqual(["", ""]);
});

/** What a member becomes that is not what the policy expects; undefined: the member goes. */
const foreign = fc.oneof(
  fc.constant(undefined),
  fc.jsonValue({ maxDepth: 1 }),
  fc.constantFrom("stable", "canary", true, false, 0, -1, 1.5, 1e300, "", {}, []),
);

/** The input with one member, wherever it is, as `value`. */
function bent([input, which, value]: readonly [DecisionInput, number, unknown]): unknown {
  const copy = structuredClone(input) as unknown;
  const places: (readonly [Record<string, unknown>, string])[] = [];
  const walk = (at: unknown): void => {
    if (at === null || typeof at !== "object") return;
    for (const [name, member] of Object.entries(at)) {
      places.push([at as Record<string, unknown>, name]);
      walk(member);
    }
  };
  walk(copy);
  const [parent, name] = places[which % places.length]!;
  parent[name] = value;
  // What is undefined is not in JSON.
  return JSON.parse(JSON.stringify(copy));
}

type ResultSet = readonly { readonly result: { readonly rule: string } }[];

const decisionsIn = (results: ResultSet): { readonly rule: string }[] => results.map(({ result }) => result);

test.skipIf(opa === null)("the compiled policy, in workerd and on Node, and OPA decide alike", async () => {
  const policy = await loadCommittedPolicy();
  const worker = await startPolicyWorker();
  onTestFinished(() => worker.stop());
  const drawn = <T>(arbitrary: fc.Arbitrary<T>, numRuns: number): T[] =>
    fc.sample(arbitrary, { seed: 20_261_127, numRuns });
  const publishing = fc.record({
    action: fc.constant("release.publish"),
    caller: fc.constant({
      tenant_id: "t",
      tenant: "t",
      principal_id: "p",
      role: "publisher",
      kind: "person",
      credential: "token",
      fetcher_svids: null,
      spiffe_id: null,
      spiffe_domain: null,
    }),
    facts: fc.record({ package: fc.string(), package_owner: fc.constantFrom("none", "self", "other", "nobody") }),
  });
  const byRole = fc.record({
    action: fc.constantFrom(...actions, "none.such"),
    caller: fc.record({
      tenant_id: fc.constant("t"),
      tenant: fc.constant("t"),
      principal_id: fc.constant("p"),
      credential: fc.constantFrom("key", "token", "svid", "password"),
      fetcher_svids: fc.oneof(
        fc.constant(null),
        fc.record({ registered: fc.boolean(), everywhere: fc.constantFrom(true, false, "yes") }),
      ),
      spiffe_id: fc.constantFrom(
        null,
        "spiffe://mc.local/tenant/t/viewer/a",
        "spiffe://mc.local/tenant/u/viewer/a",
        "spiffe://mc.local/tenant/t/fetcher",
      ),
      spiffe_domain: fc.constantFrom(null, "own", "shared"),
      role: fc.constantFrom(...roleNames, "owner"),
      kind: fc.constantFrom("person", "service", "robot"),
    }),
  });
  const inputs: unknown[] = [
    ...drawn(decisionInputs, 7_000),
    ...drawn(fc.tuple(decisionInputs, fc.nat(), foreign), 2_000).map(bent),
    ...drawn(byRole, 900),
    ...drawn(publishing, 100),
  ];
  const folder = mkdtempSync(join(tmpdir(), "policy-inputs-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, "asked.json"), JSON.stringify({ asked: inputs }));
  const query = "[[d | d := data.mc.authz.decision with input as one] | some one in data.asked]";
  const words = ["eval", "--format=json", "--data", "policy/rego", "--data", join(folder, "asked.json"), query];
  const output = execFileSync(opa ?? "opa", words, { encoding: "utf8", maxBuffer: 256 * 1024 * 1024 });
  const { result } = JSON.parse(output) as { result: [{ expressions: [{ value: unknown[][] }] }] };
  const [{ value: decided }] = result[0].expressions;
  expect(decided).toHaveLength(inputs.length);
  const inWorkerd = (await worker.evaluate(inputs)) as ResultSet[];
  expect(inWorkerd).toHaveLength(inputs.length);
  const seen = new Set<string>();
  for (const [at, input] of inputs.entries()) {
    const own = decisionsIn(policy.evaluate(input) as ResultSet);
    expect([input, own]).toEqual([input, decided[at]]);
    expect([input, decisionsIn(inWorkerd[at]!)]).toEqual([input, decided[at]]);
    seen.add(own[0]?.rule ?? "none");
  }
  // The inputs reach every rule there is, and what is no decision.
  expect([...seen].sort()).toEqual([...rules.filter((rule) => rule !== "policy_error"), "none"].sort());
});
