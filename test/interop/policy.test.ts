// The policy against the real OPA: its own tests pass, and the committed WASM is what OPA makes of the sources.

import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { buildPolicy, committedPolicyBuild } from "../../scripts/generate/policy.ts";
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
