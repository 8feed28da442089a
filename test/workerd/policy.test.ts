// The policy inside workerd: the module that is deployed with the worker decides there as it does on Node.

import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { decisionInput } from "../../shared/policy/actions.ts";
import { decide } from "../../shared/policy/decide.ts";
import type { Caller } from "../../shared/tenancy/caller.ts";
import { partsOf } from "../../workers/api/compose.ts";
import type { Env } from "../../workers/api/env.ts";

const { policy } = partsOf(env as unknown as Env);

const caller = (role: Caller["role"]): Caller => ({
  tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001",
  tenant: "acme",
  principal_id: "pri_00000000000000000000000000",
  kind: "person",
  role,
  credential: "key",
  fetcher_svids: { registered: false, everywhere: true },
  spiffe_id: null,
  spiffe_domain: null,
});

const facts = {
  package: "tools/sbom-inventory",
  flags: { market_entitlements: true, market_channels: true },
  entitlement: { channel: "stable", allowed: true, version_range: null, run_windows: null, runs_per_day_max: null },
  install_name: "default",
  install: { channel: "stable", version: "1.0.0" },
  in_range: true,
  clock: { weekday: "tue", minute: 600 },
  runs_today: 0,
  privacy: null,
  installing: null,
} as const;

test("an allow is an allow, and carries the digest of the policy's source", () => {
  expect(decide(policy, decisionInput("execution.start", caller("operator"), facts))).toMatchObject({
    allow: true,
    rule: "ok",
  });
  expect(policy.sha256).toMatch(/^[0-9a-f]{64}$/);
});

test("a deny has its rule, its sentence and its fix", () => {
  expect(decide(policy, decisionInput("budget.write", caller("operator")))).toMatchObject({
    allow: false,
    rule: "role_too_low",
    reasons: ["The role operator does not allow budget.write; only admin does."],
    fix: { body: { role: "admin" } },
  });
  const spent = { ...facts, privacy: { remaining_units: 0, units: 1, limit_needed_units: 1, leak_units_per_hour: 0 } };
  expect(decide(policy, decisionInput("execution.start", caller("operator"), spent))).toMatchObject({
    rule: "privacy_budget_exceeded",
  });
});

test("two thousand decisions in a row leave the policy's memory as it was", () => {
  const input = decisionInput("execution.start", caller("operator"), { ...facts, entitlement: null });
  const first = decide(policy, input);
  for (let count = 0; count < 2_000; count += 1) decide(policy, input);
  expect(decide(policy, input)).toEqual(first);
  expect(first.rule).toBe("entitlement_missing");
});

test("input that is no input of ours is a deny, and the next decision is sound", () => {
  for (const foreign of [
    null,
    [],
    "x",
    { action: "whoami.read" },
    { ...decisionInput("whoami.read", caller("admin")), more: 1 },
  ]) {
    expect(decide(policy, foreign as unknown as Parameters<typeof decide>[1]).rule).toBe("policy_error");
  }
  expect(decide(policy, decisionInput("whoami.read", caller("viewer"))).allow).toBe(true);
});
