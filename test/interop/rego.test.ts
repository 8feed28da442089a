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
    // A table of what is no input at all would agree, too.
    const decided = inputs.filter((input) => (policy.evaluate(input) as unknown[]).length > 0);
    expect(decided.length).toBeGreaterThan(2_000);
    const query =
      '{sprintf("%d", [index]): decision | some index, one in input; decision := data.mc.authz.decision with input as one}';
    const { status, output } = run(
      ["eval", "--data", "policy/rego", "--stdin-input", "--format", "raw", query],
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
  const came = { credential: "token", fetcher_svids: null, spiffe_id: null, spiffe_domain: null };
  const caller = (role: string, kind = "person") => ({
    tenant_id: "t",
    tenant: "t",
    principal_id: "p",
    role,
    kind,
    ...came,
  });
  for (const action of [...actions, "tenant.delete"]) {
    for (const role of [...roleNames, "root"]) yield { action, caller: caller(role) };
  }
  const flags = [
    { market_entitlements: true, market_channels: true },
    { market_entitlements: false, market_channels: false },
    { market_entitlements: true },
  ];
  const row = { channel: "stable", allowed: true, version_range: null, run_windows: null, runs_per_day_max: null };
  const entitlements = [
    null,
    false,
    row,
    { ...row, allowed: false },
    { ...row, channel: "canary" },
    { ...row, channel: "nightly" },
    { ...row, version_range: ">=2.0.0" },
    { ...row, run_windows: [] },
    { ...row, run_windows: [{ days: ["tue"], from: "09:05", to: "10:00" }] },
    { ...row, run_windows: Array.from({ length: 20 }, () => ({ days: ["mon"], from: "09:05", to: "10:00" })) },
    { ...row, run_windows: [{ days: ["someday"], from: "09:05", to: "10:00" }] },
    { ...row, runs_per_day_max: 3 },
    { channel: "stable", allowed: true },
  ];
  const spent = { limit_needed_units: 7, leak_units_per_hour: 0 };
  const privacies = [
    null,
    { ...spent, remaining_units: 1, units: 2 },
    { ...spent, remaining_units: 2, units: 2 },
    { ...spent, remaining_units: -1, units: 1e12 },
    {},
  ];
  const releases = [
    null,
    { version: "1.0.0", state: "published", barred: false, alternative: null },
    { version: "1.0.0", state: "yanked", barred: true, alternative: "0.9.0" },
    { version: "1.0.0", state: "draft", barred: false, alternative: null },
  ];
  for (const flag of flags) {
    for (const entitlement of entitlements) {
      for (const role of ["admin", "operator", "viewer"]) {
        for (const channel of ["stable", "canary", "nightly"]) {
          const common = { package: "tools/a", flags: flag, entitlement };
          for (const [at, release] of releases.entries()) {
            const move = { ...common, channel, release, in_range: at !== 2, frozen: at === 2 };
            const install = at === 0 ? null : { name: "edge-1", pinned: at === 2 };
            yield { action: "install.write", caller: caller(role), facts: { ...move, install } };
            const installs = { count: at, pinned: at === 2 ? 2 : 0 };
            const upgrade = { ...move, installs, gate_holds: at === 1, cohort_percent: 10 };
            yield { action: "upgrade.start", caller: caller(role), facts: upgrade };
          }
          for (const privacy of privacies) {
            const run = {
              ...common,
              install_name: "edge-1",
              clock: { weekday: "tue", minute: 545 },
              runs_today: 3,
              privacy,
            };
            const asked = { action: "execution.start", caller: caller(role) };
            const install = { channel, version: "1.0.0" };
            yield { ...asked, facts: { ...run, install, in_range: false, installing: null } };
            for (const [at, release] of releases.entries()) {
              const installing = release === null ? null : { channel, release, frozen: at === 2 };
              yield { ...asked, facts: { ...run, install: null, in_range: at !== 2, installing } };
            }
          }
        }
      }
    }
  }
  for (const own of [true, false, null]) {
    yield { action: "release.review", caller: caller("reviewer"), facts: { package: "a", version: "1.0.0", own } };
    yield { action: "entitlement.approve", caller: caller("admin"), facts: { change_id: "chg_1", own } };
    const rollback = { package: "a", version: "1.0.0", installs: { count: 1 }, barred: own };
    yield { action: "rollback.start", caller: caller("operator"), facts: rollback };
    for (const installs of [
      { count: 1, can_go_back: 0, barred_way: null },
      { count: 1, can_go_back: 0, barred_way: "0.9.0" },
      { count: 1, can_go_back: 1, barred_way: null },
      { count: 1, can_go_back: 1 },
    ]) {
      yield { action: "rollback.start", caller: caller("operator"), facts: { ...rollback, installs } };
    }
    for (const kind of ["person", "service"]) {
      const facts = { package: "a", version: "1.0.0", lifts: own };
      yield { action: "bar.write", caller: caller("operator", kind), facts };
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
