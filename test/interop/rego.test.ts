// The policy's source held against the real OPA: strictly checked, formatted, and decided alike by OPA's own evaluator
// and by the WASM that the workers run. (policy.test.ts runs the policy's own tests and compares the bytes.)

import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { roleNames } from "../../shared/contract/names.ts";
import { actions } from "../../shared/policy/actions.ts";
import { loadCommittedPolicy } from "../support/policy.ts";
import { tool } from "../support/tools.ts";

const opa = tool("opa");

const run = (args: readonly string[], input = ""): { status: number | null; output: string } => {
  const { status, stdout, stderr } = spawnSync(opa ?? "opa", args, {
    encoding: "utf8",
    input,
    maxBuffer: 64 * 1024 * 1024,
  });
  return { status, output: stdout + stderr };
};

test.skipIf(opa === null)("the policy's source passes opa check --strict, tests included", () => {
  expect(run(["check", "--strict", "policy/rego"])).toEqual({ status: 0, output: "" });
});

test.skipIf(opa === null)("the policy's source is formatted as opa fmt formats it", () => {
  expect(run(["fmt", "--list", "--fail", "policy/rego"])).toEqual({ status: 0, output: "" });
});

test.skipIf(opa === null)(
  "OPA's evaluator and the compiled WASM decide alike, on every input of a large table",
  async () => {
    const policy = await loadCommittedPolicy();
    const inputs = [...decidedInputs()];
    expect(inputs.length).toBeGreaterThan(500);
    const query =
      '{sprintf("%d", [index]): decision | some index, one in input; decision := data.mc.authz.decision with input as one}';
    const { status, output } = run(
      [
        "eval",
        "--data",
        "policy/rego/authz.rego",
        "--data",
        "policy/rego/privacy_budget.rego",
        "--stdin-input",
        "--format",
        "raw",
        query,
      ],
      JSON.stringify(inputs),
    );
    expect([status, output.slice(0, 200)]).toEqual([0, expect.stringContaining("{")]);
    const decisions = JSON.parse(output) as Record<string, unknown>;
    for (const [index, input] of inputs.entries()) {
      const decision = decisions[String(index)];
      expect([input, policy.evaluate(input)]).toEqual([input, decision === undefined ? [] : [{ result: decision }]]);
    }
  },
);

function* decidedInputs(): Generator<Record<string, unknown>> {
  const caller = (role: string) => ({ tenant_id: "t", principal_id: "p", role, kind: "person" });
  for (const action of [...actions, "tenant.delete"]) {
    for (const role of [...roleNames, "root"]) yield { action, caller: caller(role) };
  }
  const channels = ["stable", "canary", "nightly"];
  const entitlements = [
    null,
    false,
    ...channels.flatMap((channel) => [true, false].map((allowed) => ({ channel, allowed }))),
  ];
  const privacies = [
    null,
    { remaining_units: 1, units: 2 },
    { remaining_units: 2, units: 2 },
    { remaining_units: -1, units: 1e12 },
    {},
  ];
  for (const entitlement of entitlements) {
    for (const channel of channels) {
      for (const role of ["operator", "viewer"]) {
        yield {
          action: "install.write",
          caller: caller(role),
          facts: { package: "tools/a", channel, entitlement, release: null },
        };
        for (const privacy of privacies) {
          for (const install of [null, { channel, version: "1.0.0" }]) {
            yield {
              action: "execution.start",
              caller: caller(role),
              facts: { package: "tools/a", entitlement, install, privacy },
            };
          }
        }
      }
    }
  }
  for (const owner of ["none", "self", "other", "nobody", null]) {
    yield {
      action: "release.publish",
      caller: caller("publisher"),
      facts: { package: "tools/a", package_owner: owner },
    };
  }
}
